"""`orderplane bench`: throughput, latency and CPU, compared with what the same machine allows."""

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from pydantic import BaseModel

from orderplane.audit.verdict import audit
from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, errors, fail, run
from orderplane.dev.bench import costs, load, sagas, search, tables, yardstick
from orderplane.dev.bench import watchers as watching
from orderplane.dev.bench.compare import compare, cpu_ratio, warnings
from orderplane.dev.bench.record import (
    Conditions,
    LoadRecord,
    SearchRecord,
    UnreadableRecord,
    conditions,
    read_record,
)
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

TRIAL_SECONDS = 20
"""The length of one run of a search."""
SETTLE_SECONDS = 60.0
"""How long a search waits between two runs until the orders of the first are finished."""

_ELSEWHERE = Path(__file__).resolve().with_name("elsewhere.py")

Result = TypeVar("Result")
Report = Callable[[str], None]
ToFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write all figures as JSON to this file; - prints them."),
]
Gateways = Annotated[
    int, typer.Option(min=1, max=8, help="Gateways behind one port, which share a Redis for rate limits.")
]


@app.callback()
def _group() -> None:
    """Benchmarks."""


@app.command("sagas")
def sagas_command(
    orders: Annotated[int, typer.Option(min=10, help="How many orders.")] = 600,
    rate: Annotated[float | None, typer.Option(help="Orders per second; without it, all at once.")] = None,
    to_file: ToFile = None,
) -> None:
    """Run orders on a plane of their own, and compare with bare writes to the same API server.

    Examples:

        orderplane bench sagas --orders 600

        orderplane bench sagas --rate 8
    """

    async def measure(plane: Plane, report: Report) -> sagas.Result:
        return await asyncio.wait_for(sagas.measure(plane, orders, rate, report), 900)

    _, result = _on_a_plane(PlaneSpec(env=TEMPO), f"Measuring {orders} orders", measure)
    if _write(to_file, json.dumps(result.as_document(), indent=2)):
        tables.print_sagas(console, result)


@app.command("mixed")
def mixed_command(
    per_minute: Annotated[
        int, typer.Option(min=60, help="Requests a minute; with --find, at first.")
    ] = 10_000,
    seconds: Annotated[
        int | None, typer.Option(min=5, help="For how long. Without it 180, and 20 for each run of --find.")
    ] = None,
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of new orders among them.")] = 0.05,
    gateways: Gateways = 1,
    kinds: Annotated[
        bool, typer.Option("--kinds/--no-kinds", help="Also measure each kind of request alone: two minutes.")
    ] = True,
    find: Annotated[
        bool,
        typer.Option(
            "--find/--no-find", help="Search the highest rate with a p95 below 300 ms and none refused."
        ),
    ] = False,
    minutes: Annotated[int, typer.Option(min=1, help="How long --find may search.")] = 10,
    checkout: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Run the processes of another checkout, which has its own .venv."),
    ] = None,
    to_file: ToFile = None,
) -> None:
    """Send steady traffic of 500 users with k6: reads, and a share of new orders. See docs/performance.md.

    A fixed piece of work, the yardstick, is timed before and after: it tells how fast the machine was.

    Exit code 1 if a request was refused or too slow, or an order was not finished in time; with --find, if
    no rate held. 2 if the other checkout cannot be used.

    Examples:

        orderplane bench mixed --seconds 180 --json after.json

        orderplane bench mixed --checkout ../before --json before.json

        orderplane bench mixed --gateways 2 --share 0.1 --seconds 60 --no-kinds

        orderplane bench mixed --find --gateways 2
    """
    if checkout is not None:
        _elsewhere(
            checkout, per_minute=per_minute, seconds=seconds, share=share, gateways=gateways, minutes=minutes,
            json=to_file, kinds=kinds, find=find,
        )  # fmt: skip
    if find:
        _find(per_minute, seconds or TRIAL_SECONDS, share, gateways, minutes, to_file)
    else:
        spec = load.LoadSpec(script="mixed", per_minute=per_minute, seconds=seconds or 180, share=share)
        _load(spec, gateways, kinds, to_file)


@app.command("burst")
def burst_command(
    per_minute: Annotated[int, typer.Option(min=60, help="New orders a minute.")] = 10_000,
    seconds: Annotated[int, typer.Option(min=5, help="For how long.")] = 60,
    gateways: Gateways = 1,
    to_file: ToFile = None,
) -> None:
    """Send more new orders than can be processed, with k6: some are accepted, the rest is refused fast.

    Exit code 1 if a response was too slow, or an accepted order was not finished in time.

    Example:

        orderplane bench burst
    """
    spec = load.LoadSpec(script="burst", per_minute=per_minute, seconds=seconds)
    _load(spec, gateways, False, to_file)


@app.command("watchers")
def watchers_command(
    watchers: Annotated[int, typer.Option(min=10, help="How many streams.")] = 500,
    rate: Annotated[float, typer.Option(min=0.1, help="Orders per second.")] = 8.0,
    seconds: Annotated[float, typer.Option(min=2, help="How long orders are placed.")] = 30.0,
    to_file: ToFile = None,
) -> None:
    """Watch orders in many streams at one gateway, which is killed half-way through.

    Exit code 1 if a watcher has not seen every change of its orders, once and in order, or if the p95 from a
    write to its delivery is a second or more.

    Examples:

        orderplane bench watchers

        orderplane bench watchers --watchers 100 --seconds 10
    """

    async def measure(plane: Plane, report: Report) -> watching.Result:
        return await asyncio.wait_for(watching.measure(plane, watchers, rate, seconds, report), seconds + 600)

    spec = PlaneSpec(env=LOAD_TEMPO | {"gateway": UNLIMITED | {"ORDERPLANE_MAX_STREAMS": str(watchers)}})
    _, result = _on_a_plane(spec, f"Measuring {watchers} streams", measure)
    if _write(to_file, json.dumps(result.as_document(), indent=2)):
        tables.print_watchers(console, result)
    if not result.is_passed:
        raise typer.Exit(1)


@app.command("compare")
def compare_command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="BEFORE AFTER [BEFORE AFTER]...", help="Files of `bench mixed --json`."),
    ],
    at_most: Annotated[
        float | None,
        typer.Option(help="Exit code 1 if the CPU of all processes at equal speed is above this ratio."),
    ] = None,
    to_file: ToFile = None,
) -> None:
    """Compare runs before a change with runs after it: ratios of CPU, in all and by process, and of p95.

    A machine is not always equally fast. So the last column divides each ratio of CPU by that of the
    yardsticks. Of several pairs, the median is shown with the extremes.

    Exit code 1 if --at-most is exceeded, 2 if a file cannot be read.

    Examples:

        orderplane bench compare before.json after.json

        orderplane bench compare before-1.json after-1.json before-2.json after-2.json --at-most 1.02
    """
    if len(files) % 2:
        fail(f"Give pairs of files, BEFORE and AFTER; these are {len(files)}.", code=2)
    try:
        records = [read_record(file) for file in files]
    except UnreadableRecord as problem:
        fail(str(problem), code=2)
    pairs = list(zip(records[::2], records[1::2], strict=True))
    rows, notes = compare(pairs), warnings(pairs)
    if _write(to_file, json.dumps({"rows": [asdict(row) for row in rows], "notes": notes}, indent=2)):
        tables.print_comparison(console, rows, notes, len(pairs))
    if at_most is not None and (ratio := cpu_ratio(pairs)) > at_most:
        fail(f"All processes use {ratio:.3f} times the CPU of before, which is more than {at_most:g}.")


def _load(spec: load.LoadSpec, gateways: int, has_kinds: bool, to_file: Path | None) -> None:
    async def measure(plane: Plane, report: Report) -> tuple[load.LoadResult, costs.Costs | None]:
        k6 = await find_k6(ConsoleProgress())
        async with open_backends(plane.env("admin")) as backends:
            generator = load.Generator(plane, k6, backends.pool, backends.api)
            report("warming up")
            await generator.prepare()
            result = await load.measure(generator, spec, partial(audit, backends.snapshot), report)
            return result, await costs.measure(generator, report) if has_kinds else None

    text = f"Running load/{spec.script}.js"
    circumstances, (result, found) = _on_a_plane(_plane(gateways), text, measure, gateways)
    record = LoadRecord(conditions=circumstances, load=result, costs=found)
    if _write_record(to_file, record):
        tables.print_load(console, record)
    if not result.is_passed:
        raise typer.Exit(1)


def _find(start: int, seconds: int, share: float, gateways: int, minutes: int, to_file: Path | None) -> None:
    async def measure(plane: Plane, report: Report) -> tuple[search.Trial, ...]:
        k6 = await find_k6(ConsoleProgress())
        async with open_backends(plane.env("admin")) as backends:
            generator = load.Generator(plane, k6, backends.pool, backends.api)
            report("warming up")
            await generator.prepare()
            until = time.monotonic() + 60 * minutes - seconds

            async def run_at(per_minute: int) -> search.Trial:
                report(f"{per_minute} requests a minute")
                spec = load.LoadSpec(script="mixed", per_minute=per_minute, seconds=seconds, share=share)
                answers, _ = await generator.send(spec)
                report(f"{per_minute} requests a minute: waiting until the orders are finished")
                trial = search.trial(per_minute, answers, await generator.wait_ended(SETTLE_SECONDS))
                errors.print(tables.trial_line(trial), soft_wrap=True)
                return trial

            return await search.search(start, run_at, lambda: time.monotonic() < until)

    text = "Searching the highest rate that holds"
    circumstances, trials = _on_a_plane(_plane(gateways), text, measure, gateways)
    record = SearchRecord(conditions=circumstances, share=share, seconds=seconds, trials=trials)
    if _write_record(to_file, record):
        tables.print_search(console, record)
    if record.highest is None:
        raise typer.Exit(1)


def _plane(gateways: int) -> PlaneSpec:
    # The plane of an older checkout has one gateway, and no such field.
    return PlaneSpec(env=LOAD_TEMPO, gateways=gateways) if gateways > 1 else PlaneSpec(env=LOAD_TEMPO)


def _elsewhere(checkout: Path, **options: object) -> NoReturn:
    """Replace this process by the same command in the environment of another checkout."""
    python = checkout.absolute() / ".venv" / "bin" / "python"
    if not python.exists():
        fail(f"{python} does not exist; run scripts/bootstrap in {checkout}.", code=2)
    arguments = ["mixed"]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{name}")
        elif value is not None:
            arguments += [option, str(value)]
    # Python would prefer the packages of this checkout.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    os.execve(python, [str(python), str(_ELSEWHERE), *arguments], env)  # noqa: S606


def _on_a_plane(
    spec: PlaneSpec, text: str, measure: Callable[[Plane, Report], Awaitable[Result]], gateways: int = 1
) -> tuple[Conditions, Result]:
    """Measure on a new plane, and remove it; the yardstick is timed before and after the plane runs."""
    state = Path(tempfile.mkdtemp(prefix="orderplane-bench-"))

    async def bench() -> tuple[Conditions, Result]:
        progress = ConsoleProgress()
        before = await yardstick.measure()
        async with Plane.start(state, spec, progress) as plane:
            with progress.step(text) as step:
                result = await measure(plane, step.update)
        return conditions(gateways, before, await yardstick.measure()), result

    try:
        return run(bench())
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    finally:
        remove(state)
        shutil.rmtree(state, ignore_errors=True)


def _write_record(file: Path | None, record: BaseModel) -> bool:
    return _write(file, record.model_dump_json(indent=2))


def _write(file: Path | None, document: str) -> bool:
    """Write the figures to a file, if one is given; whether a table is wanted as well."""
    if file is None:
        return True
    if str(file) == "-":
        typer.echo(document)
        return False
    file.write_text(document + "\n", encoding="utf-8")
    return True
