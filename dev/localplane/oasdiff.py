"""oasdiff, which tells what breaks clients of an API: from the cache or pinned sources."""

from pathlib import Path

from orderplane.dev.localplane.go_build import Program, built
from orderplane.dev.localplane.progress import Progress

_OASDIFF = Program("oasdiff", "oasdiff", "github.com/oasdiff/oasdiff", 0.5)


async def find_oasdiff(progress: Progress) -> Path:
    """The oasdiff of tools/; not one from PATH, for each version has rules of its own.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    return await built(_OASDIFF, progress)
