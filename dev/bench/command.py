"""`orderplane bench`: throughput and latency, compared with what the same machine allows."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table

from orderplane.audit.verdict import audit
from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, fail, run
from orderplane.dev.bench import load, sagas
from orderplane.dev.demo.command import TEMPO as DEMO_TEMPO
from orderplane.dev.localplane.components import UNLIMITED
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.supervisor import StartFailed
from orderplane.dev.localplane.tools import ToolMissing, find_k6

app = typer.Typer(help="Benchmarks.", no_args_is_help=True)

TEMPO = {
    # A saga is measured up to Shipped, so the carrier scans nothing during the run, and tracking is polled at
    # its default rate.
    "carrier": {"ORDERPLANE_SANDBOX_TRANSIT_SECONDS": "3600"},
    # Twelve customers at one IP address send all orders, which the default rate limits would refuse.
    "gateway": UNLIMITED,
}


LOAD_TEMPO = {
    **DEMO_TEMPO,
    # No spectator waits for a delivery, so tracking is polled less often than in the demo.
    "operator": {**DEMO_TEMPO["operator"], "ORDERPLANE_TRACKING_FIRST_SECONDS": "2"},
    # k6 sends X-Forwarded-For as a proxy does, so that each user has an IP address.
    "gateway": {"ORDERPLANE_TRUSTED_PROXIES": "127.0.0.0/8"},
}

Result = TypeVar("Result")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _group() -> None:
    """Benchmarks."""


@app.command("sagas")
def sagas_command(
    orders: Annotated[int, typer.Option(min=10, help="How many orders.")] = 600,
    rate: Annotated[float | None, typer.Option(help="Orders per second; without it, all at once.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run orders on a plane of their own, and compare with bare writes to the same API server.

    Examples:

        orderplane bench sagas --orders 600

        orderplane bench sagas --rate 8
    """

    async def measure(plane: Plane, report: Callable[[str], None]) -> sagas.Result:
        return await asyncio.wait_for(sagas.measure(plane, orders, rate, report), 900)

    result = _on_a_plane(PlaneSpec(env=TEMPO), f"Measuring {orders} orders", measure)
    if as_json:
        typer.echo(json.dumps(result.as_document(), indent=2))
    else:
        _print_sagas(result)


@app.command("mixed")
def mixed_command(
    per_minute: Annotated[int, typer.Option(min=60, help="Requests a minute.")] = 10_000,
    seconds: Annotated[int, typer.Option(min=5, help="For how long.")] = 180,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of new orders among them.")] = 0.05,
    as_json: AsJson = False,
) -> None:
    """Send steady traffic of 500 users to the gateway with k6: reads, and a share of new orders.

    Exit code 1 if a request was refused or too slow, or an order was not finished in time.

    Examples:

        orderplane bench mixed

        orderplane bench mixed --share 0.1 --seconds 60
    """
    _load(load.LoadSpec("mixed", per_minute, seconds, share), as_json)


@app.command("burst")
def burst_command(
    per_minute: Annotated[int, typer.Option(min=60, help="New orders a minute.")] = 10_000,
    seconds: Annotated[int, typer.Option(min=5, help="For how long.")] = 60,
    as_json: AsJson = False,
) -> None:
    """Send more new orders than can be processed, with k6: some are accepted, the rest is refused fast.

    Exit code 1 if a response was too slow, or an accepted order was not finished in time.

    Example:

        orderplane bench burst
    """
    _load(load.LoadSpec("burst", per_minute, seconds), as_json)


def _load(spec: load.LoadSpec, as_json: bool) -> None:
    async def measure(plane: Plane, report: Callable[[str], None]) -> load.LoadResult:
        k6 = await find_k6(ConsoleProgress())
        async with open_backends(plane.env("admin")) as backends:
            return await load.measure(
                plane, k6, spec, backends.pool, partial(audit, backends.snapshot), report
            )

    result = _on_a_plane(PlaneSpec(env=LOAD_TEMPO), f"Running load/{spec.script}.js", measure)
    if as_json:
        typer.echo(json.dumps(result.as_document(), indent=2))
    else:
        _print_load(result)
    if not result.is_passed:
        raise typer.Exit(1)


def _on_a_plane(
    spec: PlaneSpec, text: str, measure: Callable[[Plane, Callable[[str], None]], Awaitable[Result]]
) -> Result:
    """Measure on a new plane, and remove it."""
    state = Path(tempfile.mkdtemp(prefix="orderplane-bench-"))

    async def bench() -> Result:
        progress = ConsoleProgress()
        async with Plane.start(state, spec, progress) as plane:
            with progress.step(text) as step:
                return await measure(plane, step.update)

    try:
        return run(bench())
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    finally:
        remove(state)
        shutil.rmtree(state, ignore_errors=True)


def _print_load(result: load.LoadResult) -> None:
    table = Table("k6", "count", "avg ms", "p50 ms", "p95 ms", "p99 ms", "max ms")
    for name, metric in sorted(result.k6.items()):
        values = metric["values"]
        if metric.get("contains") == "time" and name.startswith(("http_req_duration", "accepted", "shed")):
            figures = (values[key] for key in ("avg", "med", "p(95)", "p(99)", "max"))
            table.add_row(name, "", *(f"{figure:.1f}" for figure in figures))
        elif metric["type"] == "counter" and metric.get("contains") == "default":
            table.add_row(name, f"{values['count']:.0f}")
    console.print(table)
    failed = result.values("http_req_failed").get("rate", 0.0)
    console.print(f"failed: {100 * failed:.3f} %; accepted orders: {result.accepted}; ends: {result.ends}")
    ended = (
        "not all finished"
        if result.end_seconds is None
        else f"all finished {result.end_seconds:.0f} s after it"
    )
    console.print(
        f"accepted to Shipped: p50 {result.saga_p50_seconds:.2f} s, p95 {result.saga_p95_seconds:.2f} s; "
        f"peak at once: {result.peak_open}; {ended}"
    )
    cpu = Table("process", "cores")
    for name, cores in result.cpu_cores.items():
        cpu.add_row(name, f"{cores:.2f}")
    cpu.add_row("all", f"{sum(result.cpu_cores.values()):.2f}")
    console.print(cpu)
    for violation in result.violations:
        console.print(f"[red]violation[/] {violation}", soft_wrap=True)
    for name, metric in sorted(result.k6.items()):
        for threshold, verdict in metric.get("thresholds", {}).items():
            if not verdict["ok"]:
                console.print(f"[red]missed[/] {name} {threshold}", soft_wrap=True)


def _print_sagas(result: sagas.Result) -> None:
    console.print(f"{result.sagas_per_second:.1f} sagas/s, {result.ratio:.2f} of the ceiling")
    console.print(
        f"ceiling: {result.ceiling_per_second:.1f} sagas/s of {result.writes_per_saga:.1f} bare writes each"
    )
    console.print(f"latency to Shipped: p50 {result.p50:.2f} s, p95 {result.p95:.2f} s")
    table = Table("write", "per saga")
    for name, count in result.writes.items():
        table.add_row(name, f"{count:.2f}")
    if result.committed_later:
        table.add_row("of these after Shipped", f"{result.committed_later:.2f}")
    console.print(table)
    cpu = Table("process", "CPU ms per saga")
    for name, milliseconds in result.cpu_ms.items():
        cpu.add_row(name, f"{milliseconds:.1f}")
    cpu.add_row("all", f"{sum(result.cpu_ms.values()):.1f}")
    console.print(cpu)
