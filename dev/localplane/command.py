"""`orderplane dev`: a complete plane on this machine."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import psutil
import typer
from rich.table import Table

from orderplane.cli.console import console, fail, run
from orderplane.dev.localplane.controlplane import control_plane_binaries
from orderplane.dev.localplane.foreign_crds import foreign_crds
from orderplane.dev.localplane.kafka import kafka_program
from orderplane.dev.localplane.paths import default_state_dir
from orderplane.dev.localplane.plane import remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import (
    CHART_TOOLS,
    ToolMissing,
    built_place,
    find_actionlint,
    find_chart_tool,
    find_compose_spec,
    find_oasdiff,
    find_promtool,
    go_sources,
)

app = typer.Typer(help="A complete Orderplane on this machine, without Docker.", no_args_is_help=True)

StateDir = Annotated[Path | None, typer.Option(help="Where the plane keeps its state.")]

_STOP_SECONDS = 60

_MARK = "ports.json"
"""The first file that a plane writes."""


@app.command()
def up(
    kafka: Annotated[
        str | None, typer.Option(help="Bootstrap servers to use instead of starting a broker.")
    ] = None,
    no_kafka: Annotated[bool, typer.Option(help="Start no broker: events wait in the outbox.")] = False,
    dsn: Annotated[str | None, typer.Option(help="A PostgreSQL to use instead of starting one.")] = None,
    gateways: Annotated[
        int, typer.Option(min=1, max=8, help="Gateways on one port; they count requests together in Redis.")
    ] = 1,
    state_dir: StateDir = None,
) -> None:
    """Start etcd, kube-apiserver, PostgreSQL, Kafka and every process of Orderplane in the background.

    Examples:

        orderplane dev up

        orderplane dev up --dsn postgresql://localhost/orders --kafka localhost:9092

        orderplane dev up --gateways 2
    """
    state = state_dir_of(state_dir)
    if is_up(state):
        console.print("It is up already.")
        return
    check_is_free(state)
    remove(state)
    options = ["--state-dir", str(state), "--gateways", str(gateways)]
    for name, value in (("--kafka", kafka), ("--dsn", dsn)):
        if value:
            options += [name, value]
    if no_kafka:
        options.append("--no-kafka")
    host = subprocess.Popen(
        [sys.executable, "-m", "orderplane.dev.localplane.host", *options],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while host.poll() is None:
            if (_state(state) or {}).get("is_ready"):
                print_next_steps(state)
                return
            time.sleep(0.2)
    except KeyboardInterrupt:
        # The host has a session of its own, so the terminal's Ctrl-C does not reach it.
        host.terminate()
        host.wait(_STOP_SECONDS)
        fail("Stopped; nothing is left running.", code=130)
    fail("It did not start; see the reason above.")


@app.command()
def prepare(
    charts: Annotated[
        bool, typer.Option("--charts", help="What the tests of charts need: Helm, kubeconform, kube-score.")
    ] = False,
    look: Annotated[
        bool, typer.Option("--look", help="With --charts: build nothing; exit code 1 if one is missing.")
    ] = False,
) -> None:
    """Download or build now what planes and tests need, so that nothing has to be fetched later.

    It takes some minutes the first time, and a second when everything is in the cache.

    Examples:

        orderplane dev prepare

        orderplane dev prepare --charts
    """
    if look and charts:
        missing = [name for name, program in CHART_TOOLS.items() if not built_place(program).exists()]
        if missing:
            fail(f"Not built: {', '.join(missing)}. Build them: orderplane dev prepare --charts")
        return
    try:
        run(_prepare_charts(ConsoleProgress()) if charts else _prepare(ConsoleProgress()))
    except ToolMissing as problem:
        fail(str(problem))
    console.print("Everything is here.")


async def _prepare(progress: ConsoleProgress) -> None:
    await control_plane_binaries(progress)
    await kafka_program(progress)
    for find in (find_oasdiff, find_actionlint, find_compose_spec, find_promtool):
        await find(progress)
    await foreign_crds(progress)


async def _prepare_charts(progress: ConsoleProgress) -> None:
    for name in CHART_TOOLS:
        await find_chart_tool(name, progress)
    for module in ("schemas", "controlplane"):
        await go_sources(module, "k8s.io/kubernetes", progress)


@app.command()
def down(state_dir: StateDir = None) -> None:
    """Stop everything that `dev up` or `scripts/demo --keep` left running, and remove its state.

    Example:

        orderplane dev down
    """
    state = state_dir_of(state_dir)
    known = _state(state)
    if known is None:
        console.print("Nothing is up.")
        return
    host = _alive(known["host"])
    if host is not None:
        host.terminate()
        try:
            host.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            host.kill()
    # A host that was killed may have left children. The start time tells them from others that got their pid.
    for component in known["components"].values():
        left = _alive(component)
        if left is not None:
            with contextlib.suppress(psutil.Error):
                left.kill()
    remove(state)
    console.print("Everything is down.")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False, state_dir: StateDir = None
) -> None:
    """List what runs; exit code 1 if nothing runs, or not all of it.

    Example:

        orderplane dev status --json
    """
    known = _state(state_dir_of(state_dir))
    components = known["components"] if known else {}
    running = {name: _alive(component) is not None for name, component in components.items()}
    if as_json:
        typer.echo(json.dumps({"up": bool(running), "components": running}))
    else:
        table = Table("component", "state")
        for name, is_running in running.items():
            table.add_row(name, "running" if is_running else "down")
        console.print(table if running else "Nothing is up.")
    raise typer.Exit(0 if running and all(running.values()) else 1)


@app.command()
def env(state_dir: StateDir = None) -> None:
    """Print the environment variables of the plane, for a shell.

    Example:

        eval "$(orderplane dev env)"
    """
    known = _state(state_dir_of(state_dir))
    if known is None or not known["is_ready"]:
        fail("Nothing is up; start it with `orderplane dev up`.")
    for line in environment(known):
        typer.echo(line)


def state_dir_of(state_dir: Path | None) -> Path:
    """The absolute path of the state folder: the printed variables are used in other folders, too."""
    return (state_dir or default_state_dir()).absolute()


def check_is_free(state: Path) -> None:
    """End the command if the folder holds something else: a plane removes its folder when it stops."""
    if state.is_dir() and any(state.iterdir()) and not (state / _MARK).exists():
        fail(f"{state} holds files that are not a plane's; give --state-dir an empty or new folder.", code=2)


def is_up(state: Path) -> bool:
    """Whether the host process of a plane is alive."""
    known = _state(state)
    return known is not None and _alive(known["host"]) is not None


def print_next_steps(state: Path) -> None:
    """Print commands to try next."""
    known = _state(state)
    assert known is not None
    kubeconfig = state / "kubeconfigs" / "merchant.yaml"
    console.print("\nNext:", soft_wrap=True)
    if known["kubectl"]:
        console.print(f"  export PATH={Path(known['kubectl']).parent}:$PATH", soft_wrap=True)
    console.print(f"  export KUBECONFIG={kubeconfig}", soft_wrap=True)
    console.print("  kubectl get orders -w")
    console.print(f"  curl -s {known['gateway']}/openapi.json  # the gateway", soft_wrap=True)
    console.print('  eval "$(orderplane dev env)" && orderplane audit')


def environment(known: dict[str, Any]) -> list[str]:
    """Shell commands that set the environment variables of the plane."""
    lines = [f"export {name}={quote(value)}" for name, value in known["env"].items()]
    lines.append(f"export ORDERPLANE_GATEWAY={quote(known['gateway'])}")
    if known["kubectl"]:
        lines.append(f'export PATH={quote(str(Path(known["kubectl"]).parent))}:"$PATH"')
    return lines


def _state(state: Path) -> dict[str, Any] | None:
    try:
        document: dict[str, Any] = json.loads((state / "state.json").read_text())
    except (OSError, ValueError):
        return None
    return document


def _alive(identity: dict[str, float]) -> psutil.Process | None:
    try:
        process = psutil.Process(int(identity["pid"]))
    except psutil.Error:
        return None
    is_same = abs(process.create_time() - identity["created"]) < 1 and process.is_running()
    return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
