"""etcd and the Kubernetes control plane: found, downloaded, or built from pinned sources."""

import os
from dataclasses import dataclass
from pathlib import Path

from orderplane.dev.localplane.envtest import CONTENT, ArchiveUnavailable, fetch_envtest
from orderplane.dev.localplane.paths import cache_dir, cache_lock
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import GoProgram, build, pins

KUBERNETES = "1.36.2"
_MAJOR, _MINOR, _ = KUBERNETES.split(".")
STAMPS = tuple(
    f"{place}.{key}={value}"
    for place in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for key, value in (("gitVersion", f"v{KUBERNETES}"), ("gitMajor", _MAJOR), ("gitMinor", _MINOR))
)
"""What the linker sets in every program of Kubernetes, so that it knows its version."""

_PROGRAMS = {
    program.name: program
    for program in (
        GoProgram("etcd", "etcd", "go.etcd.io/etcd/server/v3", 0.5),
        GoProgram("kube-apiserver", "controlplane", "k8s.io/kubernetes/cmd/kube-apiserver", 5, STAMPS),
        GoProgram("kubectl", "controlplane", "k8s.io/kubernetes/cmd/kubectl", 0.5, STAMPS),
        GoProgram(
            "kube-controller-manager", "controlplane", "k8s.io/kubernetes/cmd/kube-controller-manager", 2,
            STAMPS,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Binaries:
    """The folder with the programs."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


async def control_plane_binaries(progress: Progress, names: tuple[str, ...] = tuple(_PROGRAMS)) -> Binaries:
    """Find `names`: in `$KUBEBUILDER_ASSETS`, in the cache, in the envtest archive, or build them.

    Raises:
        ToolMissing: there is no Go, or a build failed; the message says why.
    """
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and all((Path(given) / name).exists() for name in names):
        return Binaries(Path(given))
    folder = cache_dir() / f"controlplane-{KUBERNETES}-{pins(['controlplane', 'etcd'])}"
    missing = [name for name in names if not (folder / name).exists()]
    if not missing:
        return Binaries(folder)
    with cache_lock("controlplane"):
        folder.mkdir(parents=True, exist_ok=True)
        if not CONTENT.isdisjoint(name for name in names if not (folder / name).exists()):
            try:
                await fetch_envtest(folder, progress)
            except ArchiveUnavailable as problem:
                progress.note(f"Building instead of fetching: {problem}")
        for name, program in _PROGRAMS.items():
            if name in names and not (folder / name).exists():
                await build(program, folder, progress)
    return Binaries(folder)
