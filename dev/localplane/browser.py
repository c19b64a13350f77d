"""Chromium, in which the tests of the console click: from PATH, or as a package of Debian."""

import asyncio
import os
import shutil
from pathlib import Path

from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import ToolMissing

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
_SECONDS = 600


def installed_browser() -> Path | None:
    """The one that is on PATH."""
    found = (shutil.which(name) for name in _PROGRAMS)
    return next((Path(program) for program in found if program), None)


async def find_browser(progress: Progress) -> Path:
    """The one that is on PATH; else, where packages can be installed, that of the distribution.

    Raises:
        ToolMissing: there is none; the message says what to install.
    """
    if found := installed_browser():
        return found
    missing = "no Chromium is on PATH; install it, as by `apt-get install chromium`"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ToolMissing(missing)
    with progress.step("Installing Chromium (once, about a minute)"):
        for command in (("apt-get", "update"), _INSTALL):
            await _run(command)
    found = installed_browser()
    if found is None:
        raise ToolMissing(missing)
    return found


async def _run(command: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    try:
        _, problem = await asyncio.wait_for(process.communicate(), _SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = problem.decode(errors="replace").strip().rpartition("\n")[2]
        raise ToolMissing(f"`{' '.join(command)}` failed: {last}")
