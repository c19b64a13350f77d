"""The first process in the namespaces of a node: `python -m orderplane.dev.node.host STATE`.

`command.up` starts it with network, mount and PID namespaces of its own. When it ends, the kernel kills every
process of the node and removes its mounts and its network, so that nothing of it can be left over.
"""

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import StartFailed, Supervisor
from orderplane.dev.localplane.tools import ToolMissing
from orderplane.dev.node import network
from orderplane.dev.node.components import agents, containerd, control_plane, kubeconfig_of
from orderplane.dev.node.configuration import CGROUP
from orderplane.dev.node.images import import_all
from orderplane.dev.node.programs import find_programs

HIDDEN = (Path("/run"), Path("/var/lib"), Path("/var/log"))
"""Where a node has empty folders of its own: the kubelet, containerd and the CNI plugins write there."""

_CGROUPS = Path("/sys/fs/cgroup")


def ready_mark(state: Path) -> Path:
    """The file that exists while the node is ready."""
    return state / "ready"


def cgroups() -> Iterator[Path]:
    """The cgroup of all pods, in every hierarchy (version 1), or in the only one (version 2)."""
    if (_CGROUPS / "cgroup.controllers").exists():
        yield _CGROUPS / CGROUP
    else:
        for hierarchy in _CGROUPS.iterdir():
            if (hierarchy / "cgroup.procs").exists():
                yield hierarchy / CGROUP


async def _run(state: Path) -> None:
    progress = ConsoleProgress()
    programs = await find_programs(progress)
    async with Supervisor(state / "logs") as supervisor:
        with progress.step("Starting the control plane of the node") as step:
            for component in control_plane(programs, state):
                step.update(component.name)
                await supervisor.start(component)
        with progress.step("Starting containerd, and importing the images") as step:
            await supervisor.start(containerd(programs, state))
            await asyncio.to_thread(import_all, [str(programs["ctr"])], state / "images")
        with progress.step("Starting CoreDNS, kube-proxy, the kubelet and metrics-server") as step:
            await asyncio.to_thread(_apply, programs["kubectl"], state)
            for component in agents(programs, state):
                step.update(component.name)
                await supervisor.start(component)
        ready_mark(state).touch()
        await asyncio.Event().wait()


def _apply(kubectl: Path, state: Path) -> None:
    """What a node needs in the API before the first pod: the rights of CoreDNS and metrics-server."""
    text = Path(__file__).with_name("cluster.yaml").read_text(encoding="utf-8")
    authority = base64.b64encode((state / "pki" / "ca.crt").read_bytes()).decode()
    subprocess.run(
        [kubectl, f"--kubeconfig={kubeconfig_of(state, 'admin')}", "apply", "--server-side", "-f", "-"],
        input=text.replace("AUTHORITY", authority).encode(),
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )


def _set_up(state: Path) -> None:
    for folder in HIDDEN:
        _mount("-t", "tmpfs", "tmpfs", str(folder))
    resolver = state / "resolver.conf"
    resolver.write_text(network.NAMESERVER)
    target = Path("/etc/resolv.conf").resolve()
    # It may be a link into /run, which is empty now.
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch()
    _mount("--bind", str(resolver), str(target))
    # Mounts of pods reach the kubelet and containerd, and stay within this namespace.
    _mount("--make-rshared", "/")
    network.set_up()
    for folder in cgroups():
        folder.mkdir(exist_ok=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=10)


def main() -> int:
    """Run a node until it is killed; returns 1 if it cannot be started."""
    state = Path(sys.argv[1])
    try:
        _set_up(state)
        asyncio.run(_run(state))
    except (ToolMissing, StartFailed, subprocess.CalledProcessError) as problem:
        sys.stderr.write(f"{problem}\n")
    return 1


def init() -> int:
    """Run `main` in a child, and wait for it and for every orphan: that is the duty of a first process."""
    child = os.fork()
    if child == 0:
        return main()
    ended, status = 0, 0
    while ended != child:
        with contextlib.suppress(ChildProcessError):
            ended, status = os.wait()
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(init())
