"""Build Go programs from the sources that tools/ pins, once."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orderplane.dev.localplane.places import cache_dir, only_one, project_root
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import find_go, run_logged


@dataclass(frozen=True, slots=True)
class Program:
    """What is built from where.

    Args:
        module: The folder in tools/ with the go.mod and go.sum that pin it.
        package: The main package.
        minutes: About how long that takes on two cores.
        stamps: What the linker writes into variables, `package.variable=value`.
    """

    name: str
    module: str
    package: str
    minutes: float
    stamps: tuple[str, ...] = ()


async def built(program: Program, progress: Progress) -> Path:
    """The program, from the cache where it was built before.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    folder = cache_dir() / f"{program.name}-{pins([program.module])}"
    if not (folder / program.name).exists():
        with only_one(program.name):
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / program.name).exists():
                await build(program, folder, progress)
    return folder / program.name


async def build(program: Program, folder: Path, progress: Progress) -> None:
    """Build one program into `folder`, all of it or nothing.

    Raises:
        ToolMissing: no Go is to be had, or the build failed; the message says why.
    """
    go = await find_go(progress)
    unfinished = folder / f".{program.name}.{os.getpid()}"
    flags = ["-s", "-w", *(f"-X {stamp}" for stamp in program.stamps)]
    command = [
        go, "build", "-v", "-mod=readonly", "-trimpath", "-ldflags", " ".join(flags),
        "-o", unfinished, program.package,
    ]  # fmt: skip
    text = f"Building {program.name} (once, about {program.minutes:g} min on two cores)"
    with progress.step(text) as step:
        await run_logged(
            command,
            cache_dir() / f"build-{program.name}.log",
            step,
            cwd=project_root() / "dev" / "tools" / program.module,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"},
        )
    unfinished.rename(folder / program.name)


def pins(modules: Iterable[str]) -> str:
    """Twelve digits that change whenever what is built from these modules does."""
    digest = hashlib.sha256()
    for module in modules:
        for file in ("go.mod", "go.sum"):
            digest.update((project_root() / "dev" / "tools" / module / file).read_bytes())
    return digest.hexdigest()[:12]
