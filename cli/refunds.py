"""`orderplane orders refund` and `orders refunds`: money back after the sale."""

import json
import uuid
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from orderplane.cli import gateway
from orderplane.cli.console import AsJson, console, errors, fail
from orderplane.cli.exit_codes import TRY_LATER, WRONG_USAGE
from orderplane.client.responses import Item, Refund, Refunds
from orderplane.client.transport import ApiProblem
from orderplane.crds.money import format_minor, minor_of

OrderId = Annotated[str, typer.Argument(help="The order's id.")]


def refund(
    order_id: OrderId,
    reason: Annotated[str, typer.Option(help="Why, as one CamelCase word: Damaged, Goodwill.")],
    amount: Annotated[
        str | None,
        typer.Option(help="How much, in the order's currency: 12.50. By default what the lines cost."),
    ] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(metavar="SKU=QUANTITY", help="Pieces that it is for; can be given several times."),
    ] = None,
    restock: Annotated[bool, typer.Option("--restock", help="These pieces are on hand again.")] = False,
    key: Annotated[
        str | None,
        typer.Option(help="The idempotency key: the same key never refunds twice. Random by default."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give money back for an order that the carrier has.

    Without an amount and lines it is all that is left. If it is unknown whether it was refunded, the key for
    another try is printed.

    Examples:

        orderplane orders refund o-27y3acfv3jrkz3vg7wleb37hey --reason Goodwill --amount 5.00

        orderplane orders refund o-27y3acfv3jrkz3vg7wleb37hey --reason Damaged --line TEA-EARL-GREY-100=1

        orderplane orders refund o-27y3acfv3jrkz3vg7wleb37hey --reason Returned --restock
    """
    made = gateway.call(
        _refund(order_id, reason, amount, gateway.read_items(line or []), restock, key or str(uuid.uuid4()))
    )
    if as_json:
        typer.echo(json.dumps(made, indent=2))
    else:
        text = f"Refund {made['id']} of {order_id}: {_refund_line(made)}"
        console.print(text, markup=False, soft_wrap=True)


def refunds(order_id: OrderId, as_json: AsJson = False) -> None:
    """List what was given back of an order after the sale, oldest first.

    Example:

        orderplane orders refunds o-27y3acfv3jrkz3vg7wleb37hey
    """
    found = gateway.call(_refunds(order_id))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(Column("refund", no_wrap=True), "phase", "amount", "reason", "pieces", "when")
    for each in found["items"]:
        pieces = ", ".join(f"{item['quantity']} {item['sku']}" for item in each["items"])
        table.add_row(
            each["id"], escape(each["phase"]), format_minor(each["amount"], each["currency"]),
            escape(each["reason"]), escape(pieces), each["requestedAt"],
        )  # fmt: skip
    console.print(table)


async def _refund(
    order_id: str, reason: str, amount: str | None, items: list[Item], restock: bool, key: str
) -> Refund:
    body: dict[str, Any] = {"reason": reason, "items": items, "restock": restock}
    async with gateway.client() as client:
        try:
            if amount is not None:
                currency = (await client.orders.get(order_id))["quote"]["currency"]
                body["amount"] = _minor(amount, currency)
            return await client.orders.refund(order_id, body, key=key)
        except ApiProblem as problem:
            if gateway.exit_code_of(problem) == TRY_LATER:
                errors.print(f"Try it again with --key {key}: there will be one refund.", markup=False)
            raise


async def _refunds(order_id: str) -> Refunds:
    async with gateway.client() as client:
        return await client.orders.refunds(order_id)


def _minor(amount: str, currency: str) -> int:
    try:
        return minor_of(amount, currency)
    except ValueError as problem:
        fail(f"--amount: {problem}.", code=WRONG_USAGE)


def _refund_line(made: Refund) -> str:
    return made["message"] or format_minor(made["amount"], made["currency"])
