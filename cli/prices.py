"""`orderplane prices`: the price rules of a shop, their history, and what an order would cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from orderplane.cli import gateway
from orderplane.cli.console import AsJson, console, errors
from orderplane.cli.documents import PriceRuleDeletion, print_json
from orderplane.cli.exit_codes import IN_SHORT
from orderplane.client.responses import Item, PriceRule, PriceRuleList, PriceRuleVersionPage, Quote
from orderplane.crds.money import format_minor

app = typer.Typer(
    help=f"Price rules: shipping and tax of orders, for each currency.\n\n{IN_SHORT}", no_args_is_help=True
)

Currency = Annotated[str, typer.Argument(help="ISO 4217.")]
IfVersion = Annotated[
    int | None, typer.Option(min=1, help="Do it only if this is still the version of the rule.")
]


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the currencies that orders are taken in.

    Example:

        orderplane prices list
    """
    rules = gateway.call(_list())
    if as_json:
        typer.echo(json.dumps(rules, indent=2))
        return
    table = Table("currency", "version", "changed", "shipping", "tax")
    for rule in rules["items"]:
        document = rule["rule"]
        table.add_row(
            rule["currency"], str(rule["version"]), rule["changedAt"],
            "\n".join(_shipping(document, rule["currency"])), "\n".join(_taxes(document)),
        )  # fmt: skip
    console.print(table)


@app.command()
def show(currency: Currency, as_json: AsJson = False) -> None:
    """Show the price rule of a currency.

    Examples:

        orderplane prices show EUR

        orderplane prices show EUR --json | jq .rule > rule.json
    """
    rule = gateway.call(_get(currency))
    if as_json:
        typer.echo(json.dumps(rule, indent=2))
    else:
        _show(rule)


@app.command("set")
def set_command(
    currency: Currency,
    file: Annotated[typer.FileText, typer.Argument(help="The rule as JSON; - for standard input.")],
    if_version: IfVersion = None,
    as_json: AsJson = False,
) -> None:
    """Replace the price rule of a currency, or make the first one. The next orders are priced by it.

    Examples:

        orderplane prices set EUR docs/examples/price-rule.json

        orderplane prices set EUR rule.json --if-version 3
    """
    rule = gateway.call(_set(currency, gateway.read_object(file, "price rule"), if_version))
    if as_json:
        typer.echo(json.dumps(rule, indent=2))
    else:
        console.print(
            f"Version {rule['version']} of the price rule for {currency} is in force.", markup=False
        )


@app.command()
def delete(currency: Currency, if_version: IfVersion = None, as_json: AsJson = False) -> None:
    """Take no more orders in a currency. Orders that are placed already go on.

    Example:

        orderplane prices delete USD
    """
    gateway.call(_delete(currency, if_version))
    if as_json:
        print_json(PriceRuleDeletion(currency=currency))
    else:
        console.print(
            f"There is no price rule for {currency} any more: orders in it are refused.", markup=False
        )


@app.command()
def history(
    currency: Currency,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="`next` of the previous page.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the versions of a price rule, the newest first, with who changed it.

    Examples:

        orderplane prices history EUR

        orderplane prices history EUR --json | jq '.items[] | select(.version == 3).rule'
    """
    page = gateway.call(_versions(currency, limit, cursor))
    if as_json:
        typer.echo(json.dumps(page, indent=2))
        return
    table = Table("version", Column("changed", no_wrap=True), Column("by", no_wrap=True), "shipping", "tax")
    for version in page["items"]:
        document = version["rule"]
        table.add_row(
            str(version["version"]), version["changedAt"], version["actor"] or "",
            "\n".join(_shipping(document, currency)) if document else "deleted",
            "\n".join(_taxes(document)) if document else "",
        )  # fmt: skip
    console.print(table)
    if page["next"]:
        errors.print(f"There are more: --cursor {page['next']}", markup=False, soft_wrap=True)


@app.command()
def quote(
    items: Annotated[list[str], typer.Argument(metavar="SKU=QUANTITY...", help="The products.")],
    country: Annotated[str, typer.Option(help="Where it would go, ISO 3166-1 alpha-2.")],
    currency: Annotated[str | None, typer.Option(help="By default that of the products.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an order would cost now, and order nothing.

    Example:

        orderplane prices quote TEA-EARL-GREY-100=2 MUG-STONEWARE-BLUE=1 --country DE
    """
    found = gateway.call(_quote(gateway.read_items(items), country, currency))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table.grid(padding=(0, 2))
    amounts = found["amounts"]
    for name, amount in (
        ("goods", amounts["items"]),
        ("shipping", amounts["shipping"]),
        ("tax", amounts["tax"]),
        ("total", amounts["total"]),
        ("tax in it", amounts.get("includedTax", 0)),
    ):
        table.add_row(name, format_minor(amount, found["currency"]))
    console.print(table)
    if rule := found.get("priceRule"):
        text = f"By version {rule['version']} of the price rule for {found['currency']}."
        console.print(text, markup=False)


async def _list() -> PriceRuleList:
    async with gateway.client() as client:
        return await client.price_rules.list()


async def _get(currency: str) -> PriceRule:
    async with gateway.client() as client:
        return await client.price_rules.get(currency)


async def _set(currency: str, rule: Mapping[str, Any], version: int | None) -> PriceRule:
    async with gateway.client() as client:
        return await client.price_rules.set(currency, rule, version=version)


async def _delete(currency: str, version: int | None) -> None:
    async with gateway.client() as client:
        await client.price_rules.delete(currency, version=version)


async def _versions(currency: str, limit: int, cursor: str | None) -> PriceRuleVersionPage:
    async with gateway.client() as client:
        return await client.price_rules.versions(currency, limit=limit, cursor=cursor)


async def _quote(items: Sequence[Item], country: str, currency: str | None) -> Quote:
    async with gateway.client() as client:
        return await client.price_rules.quote(items, country=country, currency=currency)


def _show(rule: PriceRule) -> None:
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("currency", rule["currency"]),
        ("version", str(rule["version"])),
        ("changed", rule["changedAt"]),
        ("shipping", "\n".join(_shipping(rule["rule"], rule["currency"]))),
        ("tax", "\n".join(_taxes(rule["rule"]))),
    ):
        table.add_row(name, value)
    console.print(table)


def _shipping(rule: Mapping[str, Any], currency: str) -> Iterator[str]:
    """A line for each zone, as in `AT DE: 4.90 EUR up to 2000 g, 9.90 EUR; free from 50.00 EUR`."""
    for zone in rule["shipping"]:
        steps = (
            format_minor(step["amount"], currency)
            + (f" up to {step['upToGrams']} g" if step["upToGrams"] else "")
            for step in zone["byWeight"]
        )
        free_from = zone["freeFrom"]
        free = f"; free from {format_minor(free_from, currency)}" if free_from is not None else ""
        yield f"{_places(zone)}: {', '.join(steps)}{free}"


def _taxes(rule: Mapping[str, Any]) -> Iterator[str]:
    """A line for each rate, as in `DE: 19 %, in the prices`."""
    how = "in the prices" if rule["taxIncluded"] else "added"
    for tax in rule["taxes"]:
        yield f"{_places(tax)}: {tax['basisPoints'] / 100:g} %, {how}"


def _places(part: Mapping[str, Any]) -> str:
    return " ".join(part["countries"]) if part["countries"] else "all other countries"
