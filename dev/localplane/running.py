"""The plane in the background: where its state is, whether it is alive, what a shell needs of it."""

import json
import sys
from pathlib import Path
from shlex import quote
from typing import Any

import psutil

from orderplane.cli.console import console, fail
from orderplane.cli.exit_codes import WRONG_USAGE
from orderplane.dev.localplane.paths import default_state_dir

_MARK = "ports.json"
"""The first file that a plane writes."""


def state_dir_of(state_dir: Path | None) -> Path:
    """The absolute path of the state folder: the printed variables are used in other folders, too."""
    return (state_dir or default_state_dir()).absolute()


def check_is_free(state: Path) -> None:
    """End the command if the folder holds something else: a plane removes its folder when it stops."""
    if state.is_dir() and any(state.iterdir()) and not (state / _MARK).exists():
        message = f"{state} holds files that are not a plane's; give --state-dir an empty or new folder."
        fail(message, code=WRONG_USAGE)


def is_up(state: Path) -> bool:
    """Whether the host process of a plane is alive."""
    known = read_state(state)
    return known is not None and alive(known["host"]) is not None


def print_next_steps(state: Path) -> None:
    """Print commands to try next."""
    known = read_state(state)
    assert known is not None
    program = Path(sys.executable).with_name("orderplane")
    console.print("\nNext:", soft_wrap=True)
    console.print(f'  eval "$({program} dev env)"  # KUBECONFIG, PATH, ORDERPLANE_GATEWAY', soft_wrap=True)
    console.print("  kubectl get orders -w")
    console.print(f"  {known['console']}  # the console, in a browser", soft_wrap=True)
    console.print(f"  curl -s {known['gateway']}/openapi.json  # the gateway", soft_wrap=True)
    console.print("  orderplane audit")


def variables(known: dict[str, Any]) -> dict[str, str]:
    """The environment variables of the plane but PATH."""
    return {**known["env"], "ORDERPLANE_GATEWAY": known["gateway"]}


def environment(known: dict[str, Any]) -> list[str]:
    """Shell commands that set the environment variables of the plane, and have `kubectl` and `orderplane`
    found."""
    folders = [Path(sys.executable).parent]
    if known["kubectl"]:
        folders.append(Path(known["kubectl"]).parent)
    found = ":".join(quote(str(folder)) for folder in folders)
    lines = [f"export {name}={quote(value)}" for name, value in variables(known).items()]
    return [*lines, f'export PATH={found}:"$PATH"']


def read_state(state: Path) -> dict[str, Any] | None:
    """What the plane wrote about itself; None if there is none."""
    try:
        document: dict[str, Any] = json.loads((state / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return document


def alive(identity: dict[str, float]) -> psutil.Process | None:
    """The process that `state.json` names; None if it has ended."""
    try:
        process = psutil.Process(int(identity["pid"]))
    except psutil.Error:
        return None
    is_same = abs(process.create_time() - identity["created"]) < 1 and process.is_running()
    return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
