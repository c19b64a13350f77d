"""k6, which makes the load: from PATH, the cache, or pinned sources."""

import shutil
from pathlib import Path

from orderplane.localplane.go_build import Program, build, pins
from orderplane.localplane.places import cache_dir, only_one
from orderplane.localplane.progress import Progress

_K6 = Program("k6", "k6", "go.k6.io/k6", 1.5)


async def find_k6(progress: Progress) -> Path:
    """A k6 that runs load/*.js.

    Raises:
        ToolMissing: there is none, and none can be built; the message says why.
    """
    if found := shutil.which("k6"):
        return Path(found)
    folder = cache_dir() / f"k6-{pins(['k6'])}"
    if not (folder / _K6.name).exists():
        with only_one("k6"):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _K6.name).exists():
                await build(_K6, folder, progress)
    return folder / _K6.name
