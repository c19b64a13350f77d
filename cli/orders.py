"""`orderplane orders`: place, show, list, follow, cancel and refund orders."""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from orderplane.cli import gateway
from orderplane.cli.console import AsJson, console, errors, fail
from orderplane.cli.exit_codes import IN_SHORT, REFUSED, TRY_LATER, WRONG_USAGE
from orderplane.cli.refunds import refund, refunds
from orderplane.client.order_stream import ChangeKind
from orderplane.client.orders import FINISHED
from orderplane.client.responses import Accepted, Address, Compensation, Event, Order, OrderPage, Timeline
from orderplane.client.transport import ApiProblem
from orderplane.crds.money import format_minor

app = typer.Typer(help=f"Orders.\n\n{IN_SHORT}", no_args_is_help=True)

OrderId = Annotated[str, typer.Argument(help="The order's id.")]

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

Phase = Annotated[str | None, typer.Option(help="Only those in this phase.")]
Sku = Annotated[str | None, typer.Option(help="Only those with this product.")]
Customer = Annotated[str | None, typer.Option(help="Only those of this customer.")]
Reference = Annotated[str | None, typer.Option(help="Only those with this number of the shop.")]
Stalled = Annotated[bool, typer.Option("--stalled", help="Only those that wait for a person.")]
CreatedAfter = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME", formats=_TIMES, help="Only those created then or later; local time without a zone."
    ),
]
CreatedBefore = Annotated[
    datetime | None, typer.Option(metavar="TIME", formats=_TIMES, help="Only those created earlier.")
]

_COLOURS = {
    "Delivered": "green", "Failed": "red",
    "Cancelled": "yellow", "Returned": "yellow", "Compensating": "yellow",
}  # fmt: skip


@app.command()
def create(
    file: Annotated[typer.FileText, typer.Argument(help="The order as JSON; - for standard input.")],
    key: Annotated[
        str | None,
        typer.Option(
            help="The idempotency key: the same key never creates a second order. Random by default."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Place an order.

    If it is unknown whether the order was created, the key for another try is printed.

    Examples:

        orderplane orders create order.json

        orderplane orders create - --key 2026-11-0042 < order.json
    """
    order = gateway.read_object(file, "order")
    key = key or str(uuid.uuid4())
    accepted = gateway.call(_create(order, key))
    if as_json:
        typer.echo(json.dumps(accepted, indent=2))
    else:
        total = _total(accepted)
        console.print(f"{accepted['id']} is placed: {total}.", markup=False, soft_wrap=True)


@app.command()
def get(order_id: OrderId, as_json: AsJson = False) -> None:
    """Show an order.

    Example:

        orderplane orders get o-27y3acfv3jrkz3vg7wleb37hey
    """
    order = gateway.call(_get(order_id))
    if as_json:
        typer.echo(json.dumps(order, indent=2))
    else:
        _show(order)


@app.command("list")
def list_command(
    phase: Phase = None,
    sku: Sku = None,
    customer: Customer = None,
    reference: Reference = None,
    stalled: Stalled = False,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="`next` of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List orders, the newest first: a customer's own, for others all of the merchant.

    Examples:

        orderplane orders list --phase Failed

        orderplane orders list --sku TEA-EARL-GREY-100 --created-after 2026-03-01

        orderplane orders list --reference 2026-11-0042

        orderplane orders list --stalled

        orderplane orders list --json | jq -r '.items[].id'
    """
    page = gateway.call(
        _list(
            phase=phase,
            sku=sku,
            customer=customer,
            reference=reference,
            stalled=True if stalled else None,
            created_after=created_after.astimezone() if created_after else None,
            created_before=created_before.astimezone() if created_before else None,
            limit=limit,
            cursor=cursor,
        )
    )
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    # A truncated id cannot be copied.
    table = Table(Column("order", no_wrap=True), "reference", "phase", "reason", "total", "created")
    for order in page["items"]:
        table.add_row(
            order["id"], escape(order["reference"] or ""), _coloured(order["phase"]),
            escape(order["reason"] or ""), _total(order), order["createdAt"],
        )  # fmt: skip
    console.print(table)
    if page["next"]:
        errors.print(f"There are more: --cursor {page['next']}", markup=False, soft_wrap=True)


@app.command()
def timeline(order_id: OrderId, as_json: AsJson = False) -> None:
    """Show the history of an order, oldest first.

    Examples:

        orderplane orders timeline o-27y3acfv3jrkz3vg7wleb37hey

        orderplane orders timeline o-27y3acfv3jrkz3vg7wleb37hey --json | jq -r '.events[].type'
    """
    past = gateway.call(_timeline(order_id))
    if as_json:
        typer.echo(json.dumps(past, indent=2))
        return
    table = Table(Column("when", no_wrap=True), Column("what", no_wrap=True), "why")
    for at, what, why in _story(past):
        table.add_row(at, _coloured(what), escape(why))
    console.print(table)
    _show_undone(past["compensation"])
    for name, value in past["references"].items():
        if value:
            shown = ", ".join(value) if isinstance(value, list) else value
            console.print(f"{name}: {shown}", markup=False, soft_wrap=True)


@app.command()
def cancel(order_id: OrderId, as_json: AsJson = False) -> None:
    """Cancel an order, as long as the carrier does not have it.

    Example:

        orderplane orders cancel o-27y3acfv3jrkz3vg7wleb37hey
    """
    order = gateway.call(_cancel(order_id))
    if as_json:
        typer.echo(json.dumps(order, indent=2))
    elif order["phase"] == "Cancelled":
        console.print(f"{order_id} is cancelled.", markup=False, soft_wrap=True)
    else:
        text = f"{order_id} is being cancelled; follow it: orderplane orders watch {order_id}"
        console.print(text, markup=False, soft_wrap=True)


@app.command()
def watch(
    order_id: Annotated[str | None, typer.Argument(help="The order's id; all orders without it.")] = None,
    phase: Phase = None,
    sku: Sku = None,
    customer: Customer = None,
    reference: Reference = None,
    stalled: Stalled = False,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    limit: Annotated[int, typer.Option(min=0, max=200, help="How many are shown before the changes.")] = 0,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="How long; by default until the order is finished.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Follow an order until it is finished, or all orders until Ctrl-C.

    Exit codes for one order: 0 if it was delivered, 1 if it failed or was cancelled, 5 if the time is over.
    With --json, each change is one line. While the gateway does not answer it is tried again, and nothing
    that happened meanwhile is missed.

    Examples:

        orderplane orders watch o-27y3acfv3jrkz3vg7wleb37hey

        orderplane orders watch o-27y3acfv3jrkz3vg7wleb37hey --seconds 60 --json

        orderplane orders watch --sku TEA-EARL-GREY-100 --limit 20
    """
    wanted = {
        "phase": phase,
        "sku": sku,
        "customer": customer,
        "reference": reference,
        "stalled": stalled or None,
        "created_after": created_after.astimezone() if created_after else None,
        "created_before": created_before.astimezone() if created_before else None,
    }
    if order_id is None:
        gateway.call(_watch_all(seconds, as_json, limit=limit, **wanted))
        return
    if any(wanted.values()) or limit:
        fail("An order is followed alone: leave its id or the filters out.", code=WRONG_USAGE)
    reached = gateway.call(_watch(order_id, seconds, as_json))
    if reached not in FINISHED:
        fail(f"{order_id} is {reached} still; the time is over.", code=TRY_LATER)
    raise typer.Exit(0 if reached == "Delivered" else REFUSED)


app.command()(refund)
app.command()(refunds)


async def _create(order: Mapping[str, Any], key: str) -> Accepted:
    async with gateway.client() as client:
        try:
            return await client.orders.create(order, key=key)
        except ApiProblem as problem:
            if gateway.exit_code_of(problem) == TRY_LATER:
                errors.print(f"Try it again with --key {key}: there will be one order.", markup=False)
            raise


async def _get(order_id: str) -> Order:
    async with gateway.client() as client:
        return await client.orders.get(order_id, with_address=True)


async def _timeline(order_id: str) -> Timeline:
    async with gateway.client() as client:
        return await client.orders.timeline(order_id)


async def _list(**wanted: Any) -> OrderPage:
    async with gateway.client() as client:
        return await client.orders.list(**wanted)


async def _cancel(order_id: str) -> Order:
    async with gateway.client() as client:
        return await client.orders.cancel(order_id)


async def _watch(order_id: str, seconds: float | None, as_json: bool) -> str:
    phase = "Pending"
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), gateway.client() as client:
            async for order in client.orders.watch(order_id):
                if as_json:
                    typer.echo(json.dumps(order))
                elif order["phase"] != phase or order["phase"] in FINISHED:
                    _print_phase(order)
                phase = order["phase"]
    return phase


async def _watch_all(seconds: float | None, as_json: bool, **wanted: Any) -> None:
    phases: dict[str, str] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), gateway.client() as client:
            async for change in client.orders.watch_all(**wanted):
                if change.kind is ChangeKind.RESET and change.is_gap:
                    errors.print("Some changes are not known any more; the newest orders follow.")
                if change.order is None:
                    continue
                order = change.order
                if as_json:
                    typer.echo(json.dumps(order))
                elif phases.get(change.id) != order["phase"]:
                    console.print(f"{change.id}  ", end="", markup=False, soft_wrap=True)
                    _print_phase(order)
                phases[change.id] = order["phase"]
                if order["phase"] in FINISHED:
                    del phases[change.id]


def _show(order: Order) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("id", escape(order["id"])),
        ("reference", escape(order["reference"] or "-")),
        ("customer", escape(order["customer"])),
        ("address", escape(_one_line(order["address"]))),
        ("payment method", escape(order["paymentMethod"])),
        ("phase", _coloured(order["phase"])),
        ("reason", escape(order["reason"] or "-")),
        ("total", _total(order)),
        ("created", order["createdAt"]),
        ("finished", order["finishedAt"] or "-"),
        ("tracking", escape(order["tracking"]["url"]) if order["tracking"] else "-"),
    ):
        table.add_row(name, value)
    console.print(table)
    for each in order["conditions"]:
        line = f"condition: {each['type']}={each['status']} {each['reason']}: {each['message']}"
        console.print(line, markup=False, soft_wrap=True)
    for name, value in order["metadata"].items():
        console.print(f"metadata: {name} = {value}", markup=False, soft_wrap=True)
    _show_undone(order["compensation"])


def _one_line(address: Address) -> str:
    town = f"{address['postalCode']} {address['city']}"
    lines = (
        address["name"], address["line1"], address["line2"], town, address["region"], address["country"]
    )  # fmt: skip
    return ", ".join(line for line in lines if line)


def _show_undone(compensation: Sequence[Compensation]) -> None:
    for undone in compensation:
        console.print(f"compensated: {undone['step']} {undone['reference']}", markup=False, soft_wrap=True)


def _story(past: Timeline) -> list[tuple[str, str, str]]:
    """Events and phases in one list: time, type or phase, reason and who asked for it."""
    events = [(event["at"], event["type"], _why(event)) for event in past["events"]]
    phases = [(phase["at"], phase["phase"], "") for phase in past["phases"]]
    # Compared as times: the number of digits differs.
    return sorted(events + phases, key=lambda row: datetime.fromisoformat(row[0]))


def _why(event: Event) -> str:
    # A gateway of the version before names nobody.
    actor = event.get("actor")
    return " ".join(word for word in (event["reason"], f"by {actor}" if actor else None) if word)


def _print_phase(order: Order) -> None:
    reason = f" {escape(order['reason'])}" if order["reason"] else ""
    console.print(f"{_coloured(order['phase'])}{reason}", soft_wrap=True)


def _coloured(phase: str) -> str:
    colour = _COLOURS.get(phase)
    return f"[{colour}]{escape(phase)}[/]" if colour else escape(phase)


def _total(order: Order | Accepted) -> str:
    quote = order["quote"]
    return format_minor(quote["amounts"]["total"], quote["currency"])
