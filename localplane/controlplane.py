"""The control plane's programs: found, fetched, or built from pinned sources."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from orderplane.localplane.envtest import CONTENT, ArchiveUnavailable, fetch_envtest
from orderplane.localplane.places import cache_dir, only_one, project_root
from orderplane.localplane.progress import Progress
from orderplane.localplane.tools import find_go, run_logged

KUBERNETES = "1.36.2"
_STAMPS = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
_PROGRAMS = {
    # What it is built from, and about how many minutes that takes on two cores.
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3", 0.5),
    "kube-apiserver": ("controlplane", "k8s.io/kubernetes/cmd/kube-apiserver", 7),
    "kubectl": ("controlplane", "k8s.io/kubernetes/cmd/kubectl", 1),
    "kube-controller-manager": ("controlplane", "k8s.io/kubernetes/cmd/kube-controller-manager", 2),
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the programs are."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


async def control_plane_binaries(progress: Progress, names: tuple[str, ...] = tuple(_PROGRAMS)) -> Binaries:
    """Find `names`: in `$KUBEBUILDER_ASSETS`, in the cache, in the envtest archive, or build them.

    Raises:
        ToolMissing: no Go is to be had, or a build failed; the message says why.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and all((Path(given) / name).exists() for name in names):
        return Binaries(Path(given))
    folder = cache_dir() / f"controlplane-{KUBERNETES}-{_pins()}"
    missing = [name for name in names if not (folder / name).exists()]
    if not missing:
        return Binaries(folder)
    with only_one("controlplane"):
        folder.mkdir(parents=True, exist_ok=True)
        if not CONTENT.isdisjoint(name for name in names if not (folder / name).exists()):
            try:
                await fetch_envtest(folder, progress)
            except ArchiveUnavailable as problem:
                progress.note(f"Building instead of fetching: {problem}")
        for name in _PROGRAMS:
            if name in names and not (folder / name).exists():
                await _build(name, folder, progress)
    return Binaries(folder)


async def _build(name: str, folder: Path, progress: Progress) -> None:
    module, package, minutes = _PROGRAMS[name]
    go = await find_go(progress)
    major, minor, _ = KUBERNETES.split(".")
    stamps = [
        f"-X {place}.{key}={value}"
        for place in _STAMPS
        for key, value in (("gitVersion", f"v{KUBERNETES}"), ("gitMajor", major), ("gitMinor", minor))
    ]
    unfinished = folder / f".{name}.{os.getpid()}"
    command = [
        go, "build", "-v", "-mod=readonly", "-trimpath",
        "-ldflags", " ".join(["-s -w", *(stamps if module == "controlplane" else [])]),
        "-o", unfinished, package,
    ]  # fmt: skip
    text = f"Building {name} (once, about {minutes:g} min on two cores)"
    with progress.step(text) as step:
        await run_logged(
            command,
            cache_dir() / f"build-{name}.log",
            step,
            cwd=project_root() / "tools" / module,
            env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"},
        )
    unfinished.rename(folder / name)


def _pins() -> str:
    digest = hashlib.sha256()
    for module in ("controlplane", "etcd"):
        for file in ("go.mod", "go.sum"):
            digest.update((project_root() / "tools" / module / file).read_bytes())
    return digest.hexdigest()[:12]
