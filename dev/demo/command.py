"""`orderplane demo`, also as `scripts/demo`: a complete run from start to audit."""

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from orderplane.audit.verdict import Verdict, audit
from orderplane.cli.audit import as_document, show
from orderplane.cli.backends import open_backends
from orderplane.cli.console import console, fail, run
from orderplane.dev.demo.accounts import add_accounts
from orderplane.dev.demo.messages import Messages, collect_messages
from orderplane.dev.demo.mix import mix
from orderplane.dev.demo.products import seed as seed_catalogue
from orderplane.dev.demo.shop import Shop
from orderplane.dev.demo.summary import Summary, summarise, to_record
from orderplane.dev.localplane.plane import Plane, PlaneSpec, remove
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.running import check_is_free, is_up, print_next_steps, state_dir_of
from orderplane.dev.localplane.supervisor import StartFailed
from orderplane.dev.localplane.tools import ToolMissing

PHASES = (
    "Pending",
    "Reserved",
    "Paid",
    "Shipped",
    "Delivered",
    "Returned",
    "Compensating",
    "Failed",
    "Cancelled",
)

TEMPO = {
    # The carrier needs seconds instead of days, and requests that hang are given up soon.
    "operator": {
        "ORDERPLANE_PAYMENTS_SECONDS": "4",
        "ORDERPLANE_CARRIER_SECONDS": "6",
        "ORDERPLANE_CARRIER_SETTLE_SECONDS": "8",
        "ORDERPLANE_TRACKING_FIRST_SECONDS": "0.5",
        "ORDERPLANE_TRACKING_LONGEST_SECONDS": "2",
    },
    "carrier": {"ORDERPLANE_SANDBOX_TRANSIT_SECONDS": "4", "ORDERPLANE_SANDBOX_DELIVERY_SECONDS": "2"},
}

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    orders: Annotated[int, typer.Option(min=1, help="How many orders are placed.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed places the same orders.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running until Ctrl-C or `orderplane dev down`.")
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Write the summary to this file, with a record of each order."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long all orders together may take.")] = 300.0,
    state_dir: Annotated[Path | None, typer.Option(help="Where the plane keeps its state.")] = None,
) -> None:
    """Start everything, place orders of every kind, follow them to their end, and audit the result.

    Exit code 0 only if every order ended as expected, every customer got each message once, and the audit is
    clean.

    Examples:

        orderplane demo

        orderplane demo --orders 300 --seed 7

        orderplane demo --keep
    """
    state = state_dir_of(state_dir)
    if is_up(state):
        fail("A plane is up already; end it with `orderplane dev down`, or give another --state-dir.", code=2)
    check_is_free(state)
    remove(state)
    try:
        is_good = run(_demo(state, orders, seed, keep, json_file, seconds))
    except (ToolMissing, StartFailed) as problem:
        fail(str(problem))
    finally:
        remove(state)
    raise typer.Exit(0 if is_good else 1)


async def _demo(
    state: Path, orders: int, seed: int, keep: bool, json_file: Path | None, seconds: float
) -> bool:
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            Plane.start(state, PlaneSpec(env=TEMPO), ConsoleProgress(console))
        )
        backends = await stack.enter_async_context(open_backends(plane.env("admin")))
        await seed_catalogue(backends.pool)
        shop = Shop(plane.url("gateway"), backends.api, backends.pool)
        cases = mix(orders, seed)
        console.print(f"Placing {len(cases)} orders (seed {seed}).")
        with Live(_table(shop, started), console=console, refresh_per_second=4, transient=True) as live:
            async with asyncio.TaskGroup() as group:
                placing = group.create_task(shop.place_all(cases))
                is_over = await shop.watch(seconds, lambda: live.update(_table(shop, started)))
                if not is_over:
                    placing.cancel()
        console.print(_table(shop, started))
        messages = await collect_messages(backends.pool, backends.channels if plane.kafka_bootstrap else {})
        verdict = await audit(backends.snapshot)
        summary = await summarise(shop.placed, backends.pool, plane.kafka_bootstrap)
        took = time.monotonic() - started
        _print(summary, messages, verdict, took)
        if json_file is not None:
            document = {
                "orders": [to_record(placed) for placed in shop.placed],
                "seed": seed,
                "seconds": round(took, 1),
                "ends": summary.ends,
                "latency": {"p50": summary.latency_p50, "p95": summary.latency_p95},
                "events": summary.events,
                "messages": {
                    "arrived": messages.arrived,
                    "missing": messages.missing,
                    "repeated": messages.repeated,
                },
                "audit": as_document(verdict).model_dump(by_alias=True),
            }
            await asyncio.to_thread(json_file.write_text, json.dumps(document, indent=2) + "\n")
        if keep:
            accounts = await add_accounts(backends.pool)
            print_next_steps(state)
            console.print(
                f"Sign in at the console as {accounts.admin}, password {accounts.admin_password}.",
                markup=False,
                soft_wrap=True,
            )
            await _until_stopped()
        is_notified = not messages.missing and not messages.repeated
        return is_over and not summary.unexpected and is_notified and verdict.is_clean


def _table(shop: Shop, started: float) -> Table:
    phases = shop.phases()
    table = Table(*PHASES, title=f"{time.monotonic() - started:.0f} s")
    table.add_row(*(str(phases.get(phase, 0)) for phase in PHASES))
    return table


def _print(summary: Summary, messages: Messages, verdict: Verdict, took: float) -> None:
    table = Table("ended", "orders", title=f"Summary after {took:.0f} s")
    for end, count in summary.ends.items():
        table.add_row(end, str(count))
    console.print(table)
    if summary.events:
        topics = Table("topic", "events")
        for topic, count in summary.events.items():
            topics.add_row(topic, str(count))
        console.print(topics)
    if messages.arrived:
        _print_messages(messages)
    console.print(
        f"From created to shipped: p50 {summary.latency_p50:.2f} s, p95 {summary.latency_p95:.2f} s."
    )
    for line in summary.unexpected:
        console.print(f"[red]unexpected[/] {escape(line)}", soft_wrap=True)
    show(verdict)


def _print_messages(messages: Messages) -> None:
    table = Table("messages to customers", *messages.arrived)
    for type_ in sorted({type_ for counts in messages.arrived.values() for type_ in counts}):
        table.add_row(type_, *(str(counts.get(type_, 0)) for counts in messages.arrived.values()))
    console.print(table)
    for line in messages.missing:
        console.print(f"[red]missing message[/] {line}", soft_wrap=True)
    for line in messages.repeated:
        console.print(f"[red]repeated message[/] {line}", soft_wrap=True)


async def _until_stopped() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    console.print("Everything stays up; Ctrl-C or `orderplane dev down` ends it.")
    await stopped.wait()


if __name__ == "__main__":
    app()
