"""The programs that a node is made of: those of the machine, and those built from pinned Go sources."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from orderplane.dev.localplane.controlplane import STAMPS, control_plane_binaries
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.tools import GoProgram, ToolMissing, built

CNI_PLUGINS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
"""Where distributions and upstream put the CNI plugins."""

_ON_PATH = (
    "buildah", "conntrack", "containerd", "containerd-shim-runc-v2", "ctr", "debootstrap", "ip", "iptables",
    "mount", "nsenter", "runc", "unshare",
)  # fmt: skip
_INSTALL = (
    "apt-get install buildah conntrack containerd containernetworking-plugins debootstrap iproute2 iptables "
    "mount runc util-linux"
)

_BUILT = (
    GoProgram("kubelet", "node", "k8s.io/kubernetes/cmd/kubelet", 1.5, STAMPS),
    GoProgram("kube-scheduler", "node", "k8s.io/kubernetes/cmd/kube-scheduler", 1, STAMPS),
    GoProgram("kube-proxy", "node", "k8s.io/kubernetes/cmd/kube-proxy", 0.5, STAMPS),
    GoProgram("coredns", "coredns", "github.com/coredns/coredns", 3),
    GoProgram("metrics-server", "metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server", 3),
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where each program is, by name, and the folder of the CNI plugins."""

    paths: dict[str, Path]
    cni: Path

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]


def check_machine() -> Path:
    """The folder of the CNI plugins, if this machine can run a node.

    Raises:
        ToolMissing: it cannot; the message says everything that is missing, and how to install it.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise ToolMissing("a node needs Linux and root: namespaces, mounts and cgroups are made for it")
    missing = [name for name in _ON_PATH if shutil.which(name) is None]
    plugins = next((place for place in CNI_PLUGINS if (place / "bridge").exists()), None)
    if plugins is None:
        missing.append("the CNI plugins")
    if missing or plugins is None:
        raise ToolMissing(f"missing here: {', '.join(missing)} (on Debian: {_INSTALL})")
    return plugins


async def find_programs(progress: Progress) -> Programs:
    """Every program, built if the cache does not hold it.

    Raises:
        ToolMissing: one is missing or cannot be built; the message says which.
    """
    cni = check_machine()
    control_plane = await control_plane_binaries(progress)
    paths = {
        name: control_plane[name] for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
    }
    for program in _BUILT:
        paths[program.name] = await built(program, progress)
    for name in ("containerd", "ctr"):
        found = shutil.which(name)
        assert found is not None
        paths[name] = Path(found)
    return Programs(paths, cni)
