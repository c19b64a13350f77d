"""`orderplane dev`: a complete plane on this machine."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from pydantic import RootModel
from rich.table import Table

from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli.console import AsJson, console, fail, run
from orderplane.cli.documents import Document, print_json
from orderplane.cli.exit_codes import DONE, INTERRUPTED, REFUSED
from orderplane.dev.demo.accounts import Accounts, add_accounts
from orderplane.dev.demo.products import seed
from orderplane.dev.localplane.browser import find_browser
from orderplane.dev.localplane.controlplane import control_plane_binaries
from orderplane.dev.localplane.foreign_crds import foreign_crds
from orderplane.dev.localplane.kafka import kafka_program
from orderplane.dev.localplane.plane import remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.running import (
    alive,
    check_is_free,
    environment,
    is_up,
    print_next_steps,
    read_state,
    state_dir_of,
    variables,
)
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


class Up(Document):
    """`dev up`. `accounts` is null with --bare, and where the plane was up before."""

    gateway: str
    console: str
    state: str
    accounts: Accounts | None


class Prepared(Document):
    """`dev prepare`: which programs are missing."""

    missing: tuple[str, ...]


class Down(Document):
    """`dev down`: whether there was something to stop."""

    stopped: bool


class Status(Document):
    """`dev status`: whether each process runs."""

    up: bool
    components: dict[str, bool]


class Environment(RootModel[dict[str, str]]):
    """`dev env`: the variables by name."""


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
    bare: Annotated[
        bool, typer.Option("--bare", help="Without products, price rules, stock and accounts.")
    ] = False,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Start etcd, kube-apiserver, PostgreSQL, Kafka and every process of Orderplane in the background.

    It is a shop that sells: it has products with stock and price rules, an administrator, and the credentials
    of a service, which are printed once.

    Examples:

        orderplane dev up

        orderplane dev up --dsn postgresql://localhost/orders --kafka localhost:9092

        orderplane dev up --gateways 2
    """
    state = state_dir_of(state_dir)
    if is_up(state):
        known = read_state(state)
        assert known is not None
        if as_json:
            print_json(
                Up(gateway=known["gateway"], console=known["console"], state=str(state), accounts=None)
            )
        else:
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
            known = read_state(state) or {}
            if known.get("is_ready"):
                accounts = None if bare else run(_open_shop(known["env"]["ORDERPLANE_POSTGRES_DSN"]))
                if as_json:
                    print_json(
                        Up(
                            gateway=known["gateway"],
                            console=known["console"],
                            state=str(state),
                            accounts=accounts,
                        )
                    )
                    return
                if accounts:
                    _print_accounts(accounts, known)
                print_next_steps(state)
                return
            time.sleep(0.2)
    except KeyboardInterrupt:
        # The host has a session of its own, so the terminal's Ctrl-C does not reach it.
        host.terminate()
        host.wait(_STOP_SECONDS)
        fail("Stopped; nothing is left running.", code=INTERRUPTED)
    fail("It did not start; see the reason above.")


@app.command()
def prepare(
    charts: Annotated[
        bool, typer.Option("--charts", help="What the tests of charts need: Helm, kubeconform, kube-score.")
    ] = False,
    look: Annotated[
        bool, typer.Option("--look", help="With --charts: build nothing; exit code 1 if one is missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download or build now what planes and tests need, so that nothing has to be fetched later.

    It takes some minutes the first time, and a second when everything is in the cache.

    Examples:

        orderplane dev prepare

        orderplane dev prepare --charts
    """
    if look and charts:
        missing = [name for name, program in CHART_TOOLS.items() if not built_place(program).exists()]
        if as_json:
            print_json(Prepared(missing=tuple(missing)))
            raise typer.Exit(REFUSED if missing else DONE)
        if missing:
            fail(f"Not built: {', '.join(missing)}. Build them: orderplane dev prepare --charts")
        return
    try:
        run(_prepare_charts(ConsoleProgress()) if charts else _prepare(ConsoleProgress()))
    except ToolMissing as problem:
        fail(str(problem))
    if as_json:
        print_json(Prepared(missing=()))
    else:
        console.print("Everything is here.")


async def _prepare(progress: ConsoleProgress) -> None:
    await control_plane_binaries(progress)
    await kafka_program(progress)
    for find in (find_oasdiff, find_actionlint, find_compose_spec, find_promtool):
        await find(progress)
    await foreign_crds(progress)
    await find_browser(progress)


async def _prepare_charts(progress: ConsoleProgress) -> None:
    for name in CHART_TOOLS:
        await find_chart_tool(name, progress)
    for module in ("schemas", "controlplane"):
        await go_sources(module, "k8s.io/kubernetes", progress)


@app.command()
def down(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Stop everything that `dev up` or `scripts/demo --keep` left running, and remove its state.

    Example:

        orderplane dev down
    """
    state = state_dir_of(state_dir)
    known = read_state(state)
    if known is None:
        if as_json:
            print_json(Down(stopped=False))
        else:
            console.print("Nothing is up.")
        return
    host = alive(known["host"])
    if host is not None:
        host.terminate()
        try:
            host.wait(_STOP_SECONDS)
        except psutil.TimeoutExpired:
            host.kill()
    # A host that was killed may have left children. The start time tells them from others that got their pid.
    for component in known["components"].values():
        left = alive(component)
        if left is not None:
            with contextlib.suppress(psutil.Error):
                left.kill()
    remove(state)
    if as_json:
        print_json(Down(stopped=True))
    else:
        console.print("Everything is down.")


@app.command()
def status(as_json: AsJson = False, state_dir: StateDir = None) -> None:
    """List what runs; exit code 1 if nothing runs, or not all of it.

    Example:

        orderplane dev status --json
    """
    known = read_state(state_dir_of(state_dir))
    components = known["components"] if known else {}
    running = {name: alive(component) is not None for name, component in components.items()}
    if as_json:
        print_json(Status(up=bool(running), components=running))
    else:
        table = Table("component", "state")
        for name, is_running in running.items():
            table.add_row(name, "running" if is_running else "down")
        console.print(table if running else "Nothing is up.")
    raise typer.Exit(0 if running and all(running.values()) else 1)


@app.command()
def env(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Print the environment variables of the plane, for a shell.

    Example:

        eval "$(orderplane dev env)"
    """
    known = read_state(state_dir_of(state_dir))
    if known is None or not known["is_ready"]:
        fail("Nothing is up; start it with `orderplane dev up`.")
    if as_json:
        print_json(Environment(variables(known)))
        return
    for line in environment(known):
        typer.echo(line)


async def _open_shop(dsn: str) -> Accounts:
    """Products, price rules, stock and accounts of the demo merchant."""
    pool = await open_pool(dsn, size=2)
    try:
        await seed(pool)
        return await add_accounts(pool)
    finally:
        await pool.close()


def _print_accounts(accounts: Accounts, known: dict[str, Any]) -> None:
    gateway = known["gateway"]
    table = Table("account", "name", "password or secret", title="Shown once")
    table.add_row("administrator", accounts.admin, accounts.admin_password or "as before")
    table.add_row("service", accounts.client_id, accounts.client_secret)
    console.print(table)
    console.print(f"The console, for the administrator: {known['console']}", soft_wrap=True)
    console.print("As the service:", soft_wrap=True)
    for line in (
        f"TOKEN=$(curl -s {gateway}/api/auth/login -d grant_type=client_credentials \\",
        f"    -d client_id={accounts.client_id} -d client_secret={accounts.client_secret} \\",
        "    | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])')",
        f'curl -s {gateway}/api/products -H "Authorization: Bearer $TOKEN"',
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)
