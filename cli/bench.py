"""`orderplane bench`: how fast it is, against what the same machine allows."""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from orderplane.bench.sagas import Result, measure
from orderplane.cli.console import console, fail, run
from orderplane.localplane.plane import Plane, Wish, remove
from orderplane.localplane.processes import UNLIMITED
from orderplane.localplane.progress import ConsoleProgress
from orderplane.localplane.supervisor import StartFailed
from orderplane.localplane.tools import ToolMissing

app = typer.Typer(help="Benchmarks.", no_args_is_help=True)

TEMPO = {
    # Nothing is scanned while it is measured: a saga is measured to Shipped, all 13 writes of it.
    "carrier": {"ORDERPLANE_SANDBOX_TRANSIT_SECONDS": "3600"},
    "operator": {"ORDERPLANE_TRACKING_FIRST_SECONDS": "5", "ORDERPLANE_TRACKING_LONGEST_SECONDS": "60"},
    # Twelve customers at one address order as much as a whole town.
    "gateway": UNLIMITED,
}


@app.callback()
def _group() -> None:
    """Benchmarks."""


@app.command("sagas")
def sagas(
    orders: Annotated[int, typer.Option(min=10, help="How many orders.")] = 600,
    rate: Annotated[
        float | None, typer.Option(help="Orders a second; without it they come all at once.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Run real orders through a plane of its own, and compare with bare writes to the same API server.

    Examples:

        orderplane bench sagas --orders 600

        orderplane bench sagas --rate 8
    """
    state = Path(tempfile.mkdtemp(prefix="orderplane-bench-"))
    try:
        result = run(_bench(state, orders, rate))
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    finally:
        remove(state)
        shutil.rmtree(state, ignore_errors=True)
    if as_json:
        typer.echo(json.dumps(result.as_document(), indent=2))
    else:
        _print(result)


async def _bench(state: Path, orders: int, rate: float | None) -> Result:
    progress = ConsoleProgress()
    async with Plane.start(state, Wish(env=TEMPO), progress) as plane:
        with progress.step(f"Measuring {orders} orders") as step:
            return await asyncio.wait_for(measure(plane, orders, rate, step.update), 900)


def _print(result: Result) -> None:
    console.print(f"{result.sagas_per_second:.1f} sagas/s, {result.ratio:.2f} of the ceiling")
    console.print(
        f"ceiling: {result.ceiling_per_second:.1f} sagas/s of {result.writes_per_saga:.1f} bare writes each"
    )
    console.print(f"latency to Shipped: p50 {result.p50:.2f} s, p95 {result.p95:.2f} s")
    table = Table("write", "per saga")
    for name, count in result.writes.items():
        table.add_row(name, f"{count:.2f}")
    if result.told_later:
        table.add_row("of these told after Shipped", f"{result.told_later:.2f}")
    console.print(table)
    cpu = Table("process", "CPU ms per saga")
    for name, milliseconds in result.cpu_ms.items():
        cpu.add_row(name, f"{milliseconds:.1f}")
    cpu.add_row("all", f"{sum(result.cpu_ms.values()):.1f}")
    console.print(cpu)
