"""`scripts/node-up`, `node-down`, `node-exec`: a Kubernetes node in namespaces, without a registry."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from orderplane.cli.console import console, fail, run
from orderplane.dev.localplane.paths import default_state_dir, project_root
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import ToolMissing
from orderplane.dev.node.components import kubeconfig_of
from orderplane.dev.node.demo_secrets import secrets_folder, write
from orderplane.dev.node.host import HIDDEN, cgroups, ready_mark
from orderplane.dev.node.images import PRODUCT, build, import_all
from orderplane.dev.node.programs import find_programs

app = typer.Typer(help="A Kubernetes node on this machine, without a registry.", no_args_is_help=True)

StateDir = Annotated[Path | None, typer.Option(help="Where the node keeps its state.")]

_END_SECONDS = 30
_KERNEL = Path("/proc/sys")
_TUNED = (
    "kernel/keys/root_maxbytes", "kernel/keys/root_maxkeys", "kernel/panic", "kernel/panic_on_oops",
    "vm/overcommit_memory", "vm/panic_on_oom",
)  # fmt: skip
"""What a kubelet sets for the whole machine; the end of the node sets it back."""
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command()
def up(state_dir: StateDir = None) -> None:
    """Build the images, start a node, and wait until it is ready.

    The node has namespaces of its own for network, mounts and processes: nothing outside reaches it, and it
    reaches nothing outside. Use it by `scripts/node-exec`.

    Examples:

        scripts/node-up

        scripts/node-exec kubectl get pods --all-namespaces
    """
    state = state_of(state_dir)
    if init_of(state) is not None:
        console.print("It is up already.")
        return
    if hidden := next((place for place in HIDDEN if state.is_relative_to(place)), None):
        fail(f"The node hides {hidden} from itself; give --state-dir another place than {state}.", code=2)
    _check_is_ours(state)
    clean_up(state)
    state.mkdir(parents=True, mode=0o700)
    _mark_of(state).touch()
    try:
        run(_prepare(state))
        _start(state)
    except BaseException:
        clean_up(state)
        raise
    console.print("\nNext:\n  scripts/local-secrets", soft_wrap=True)
    console.print("  scripts/node-exec kubectl apply --server-side -k kustomize/overlays/local")
    console.print("  scripts/node-exec kubectl get pods --all-namespaces")


async def _prepare(state: Path) -> None:
    progress = ConsoleProgress()
    try:
        programs = await find_programs(progress)
        (state / "kubectl").symlink_to(programs["kubectl"])
        await build(state, progress)
    except ToolMissing as problem:
        fail(str(problem))


def _start(state: Path) -> None:
    # The terminal belongs to this command: a pipe would stay open as long as the node is up.
    with (state / "logs" / "host.log").open("wb") as log:
        host = subprocess.Popen(
            # slave: what the machine unmounts is unmounted here too, and nothing the other way round.
            ["unshare", "--net", "--mount", "--propagation=slave", "--mount-proc", "--pid", "--fork",
             "--kill-child", sys.executable, "-m", "orderplane.dev.node.host", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    write_mark(state, psutil.Process(host.pid))
    with (state / "logs" / "host.log").open(encoding="utf-8") as said:
        is_ready = False
        while not is_ready:
            is_ready, has_ended = ready_mark(state).exists(), host.poll() is not None
            console.print(said.read(), end="", markup=False, soft_wrap=True)
            if has_ended:
                fail(f"The node did not start; see the reason above, and the logs in {keep_logs(state)}.")
            time.sleep(0.2)


@app.command()
def down(state_dir: StateDir = None) -> None:
    """End every process of the node, and remove everything that it made.

    Example:

        scripts/node-down
    """
    state = state_of(state_dir)
    _check_is_ours(state)
    was_up = init_of(state) is not None
    clean_up(state)
    console.print("The node is down." if was_up else "No node is up.")


@app.command("exec", context_settings=_PASS_ON)
def execute(context: typer.Context, state_dir: StateDir = None) -> None:
    """Run a command on the node, where addresses and names of Services are reached, as its administrator.

    Examples:

        scripts/node-exec kubectl get nodes

        scripts/node-exec curl -s http://orderplane-gateway.orderplane-system/openapi.json
    """
    state = state_of(state_dir)
    if not context.args:
        fail("Give a command, such as: scripts/node-exec kubectl get nodes", code=2)
    os.execvpe("nsenter", [*enter(state), *context.args], environment(state))  # noqa: S606


@app.command("test", context_settings={**_PASS_ON, "help_option_names": []})
def test(context: typer.Context) -> None:
    """Try the product on the node: `scripts/node-test --help`, `scripts/node-test upgrade --help`."""
    state = state_of(None)
    is_upgrade = context.args[:1] == ["upgrade"]
    words = ["orderplane.dev.node.upgrade" if is_upgrade else "orderplane.dev.node.trials"]
    if "--help" in context.args:
        os.execv(sys.executable, [sys.executable, "-m", *words, "--help"])  # noqa: S606
    if init_of(state) is None:
        up(None)
    if not secrets_folder().exists():
        write(secrets_folder())
    if is_upgrade:
        words += [*run(_earlier(state)), *context.args[1:]]
    else:
        words += context.args
    command = [*enter(state), sys.executable, "-m", *words]
    os.execvpe("nsenter", command, environment(state))  # noqa: S606


async def _earlier(state: Path) -> tuple[str, str]:
    """Bring the images of an earlier commit onto the node; returns its checkout, and their tag."""
    checkout, progress = state / "earlier", ConsoleProgress()
    commit = earlier_commit(checkout)
    layout = await build(state, progress, checkout=checkout, names=(*PRODUCT, "sandbox"), tag=commit)
    with progress.step(f"Importing the images of {commit}"):
        import_all([*enter(state), "ctr"], layout)
    return str(checkout), commit


def earlier_commit(checkout: Path) -> str:
    """Check out the commit before the newest migration; returns the start of its hash."""
    root = str(project_root())
    newest = _git("-C", root, "log", "-1", "--format=%H", "--diff-filter=A", "--", "ledgers/migrations")
    if not checkout.exists():
        _git("clone", "--quiet", "--shared", "--no-checkout", root, str(checkout))
    _git("-C", str(checkout), "checkout", "--quiet", "--detach", f"{newest}^")
    return _git("-C", str(checkout), "rev-parse", "--short=12", "HEAD")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        fail(f"git {' '.join(words)} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def enter(state: Path) -> list[str]:
    """A command prefix that runs a command on the node; without a node, the program ends."""
    init = init_of(state)
    if init is None or not ready_mark(state).exists():
        fail("No node is up; start it with scripts/node-up.")
    return ["nsenter", f"--target={init.pid}", "--net", "--mount", f"--wdns={Path.cwd()}"]


def environment(state: Path) -> dict[str, str]:
    """The environment of commands on the node: its administrator's kubeconfig, and its kubectl."""
    kubectl = (state / "kubectl").resolve().parent
    return {
        **os.environ,
        "KUBECONFIG": str(kubeconfig_of(state, "admin")),
        "PATH": f"{kubectl}:{os.environ['PATH']}",
    }


def state_of(state_dir: Path | None) -> Path:
    """The absolute path of the node's state folder."""
    return (state_dir or default_state_dir().with_name("orderplane-node")).absolute()


def init_of(state: Path) -> psutil.Process | None:
    """The first process in the namespaces of the node; None while there is no node."""
    outside = _outside(state)
    if outside is None:
        return None
    with contextlib.suppress(psutil.Error):
        return next(iter(outside.children()), None)
    return None


def write_mark(state: Path, outside: psutil.Process) -> None:
    """Note what has to be ended and set back, by `clean_up`, perhaps in another process."""
    mark = {
        "pid": outside.pid,
        "created": outside.create_time(),
        "kernel": {name: (_KERNEL / name).read_text() for name in _TUNED if (_KERNEL / name).exists()},
    }
    _mark_of(state).write_text(json.dumps(mark))


def _outside(state: Path) -> psutil.Process | None:
    """`unshare`, which waits for the first process. The start time tells it from others that got its pid."""
    mark = _mark(state)
    try:
        process = psutil.Process(mark["pid"])
        is_same = abs(process.create_time() - mark["created"]) < 1
    except (KeyError, psutil.Error):
        return None
    return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None


def _mark(state: Path) -> dict[str, Any]:
    try:
        mark: dict[str, Any] = json.loads(_mark_of(state).read_text())
    except (OSError, ValueError):
        return {}
    return mark


def _check_is_ours(state: Path) -> None:
    """End the command if the folder holds something else: it would be removed."""
    if state.is_dir() and any(state.iterdir()) and not _mark_of(state).exists():
        fail(f"{state} holds files that are not a node's; give --state-dir an empty or new folder.", code=2)


def _mark_of(state: Path) -> Path:
    """The first file that a node writes."""
    return state / "unshare.json"


def clean_up(state: Path) -> None:
    """End the node's first process, and with it all others; then remove its cgroups and its files."""
    init, outside = init_of(state), _outside(state)
    for process in (init, outside):
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    for process in (init, outside):
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.wait(_END_SECONDS)
    for name, value in _mark(state).get("kernel", {}).items():
        (_KERNEL / name).write_text(value)
    for cgroup in cgroups():
        _remove_cgroup(cgroup)
    shutil.rmtree(state, ignore_errors=True)


def _remove_cgroup(top: Path) -> None:
    if not top.exists():
        return
    deadline = time.monotonic() + _END_SECONDS
    for folder, _, _ in os.walk(top, topdown=False):
        while True:
            try:
                Path(folder).rmdir()
                break
            except OSError:
                # Its last process is still ending.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def keep_logs(state: Path) -> Path:
    """Move the logs out of the state folder, which is removed; returns where they are."""
    kept = state.with_name(f"{state.name}-logs")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.move(state / "logs", kept)
    return kept


if __name__ == "__main__":
    app()
