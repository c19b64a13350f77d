"""k6, which makes the load: from PATH, the cache, or pinned sources."""

import shutil
from pathlib import Path

from orderplane.dev.localplane.go_build import Program, built
from orderplane.dev.localplane.progress import Progress

_K6 = Program("k6", "k6", "go.k6.io/k6", 1.5)


async def find_k6(progress: Progress) -> Path:
    """A k6 that runs load/*.js.

    Raises:
        ToolMissing: there is none, and none can be built; the message says why.
    """
    found = shutil.which("k6")
    return Path(found) if found else await built(_K6, progress)
