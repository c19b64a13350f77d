"""`orderplane stock`: record a stock count."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import typer

from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli.console import AsJson, console, errors, fail, need, run
from orderplane.cli.documents import StockCount, print_json
from orderplane.cli.exit_codes import NOT_FOUND, WRONG_USAGE
from orderplane.ledgers.postgres.inventory import Loser, MoreWouldLose, PostgresInventory, Recount, recount
from orderplane.ledgers.postgres.products import ProductStore
from orderplane.ledgers.postgres.session import Pool

app = typer.Typer(help="Stock counts.", no_args_is_help=True)

_SHOWN = 20


@app.callback()
def _group() -> None:
    """Stock counts."""


@app.command("set")
def set_command(
    sku: Annotated[str, typer.Argument(help="The product.")],
    on_hand: Annotated[int, typer.Argument(min=0, help="The counted quantity.")],
    merchant: Annotated[str, typer.Option(help="The merchant's namespace.")] = "demo",
    note: Annotated[str, typer.Option(help="The reason, for the stock movements.")] = "recount",
    is_agreed: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, however many orders lose their stock.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set the counted quantity. Orders that lose their stock are compensated, the newest first.

    If there are such orders, they are shown, and nothing is changed without a yes.

    Examples:

        orderplane stock set TEA-EARL-GREY-100 40 --note "water damage"

        orderplane stock set TEA-EARL-GREY-100 0 --yes --json
    """
    losers = run(_losers(merchant, sku, on_hand))
    if losers and not is_agreed:
        _ask(losers)
    may_lose = None if is_agreed else [loser.reservation for loser in losers]
    try:
        result = run(_set(merchant, sku, on_hand, note, may_lose))
    except MoreWouldLose as problem:
        fail(f"Meanwhile {problem}. Look again.")
    if as_json:
        print_json(
            StockCount(
                sku=sku, before=result.before, after=result.after, reserved=result.reserved, lost=result.lost
            )
        )
        return
    console.print(f"{sku}: {result.before} before, {result.after} now.", markup=False, soft_wrap=True)
    for name in result.lost:
        console.print(f"lost its stock: {name}", markup=False, soft_wrap=True)


def _ask(losers: Sequence[Loser]) -> None:
    """End the command unless a person agrees."""
    for loser in losers[:_SHOWN]:
        name = f"order {loser.order}" if loser.order else f"reservation {loser.reservation}"
        errors.print(f"would lose its stock: {name}", markup=False, soft_wrap=True)
    if len(losers) > _SHOWN:
        errors.print(f"and {len(losers) - _SHOWN} more")
    if not sys.stdin.isatty():
        fail("Nothing was changed. To have them undone, give --yes.", code=WRONG_USAGE)
    if not typer.confirm(f"Undo {len(losers)}?", err=True):
        fail("Nothing was changed.")


async def _losers(merchant: str, sku: str, on_hand: int) -> Sequence[Loser]:
    async with _ledgers() as pool:
        if not (await ProductStore(pool).find(merchant, [sku])).products:
            fail(f"{merchant} has no product {sku}. Nothing was changed.", code=NOT_FOUND)
        return await PostgresInventory(pool).losers(merchant, sku, on_hand)


async def _set(merchant: str, sku: str, on_hand: int, note: str, may_lose: Sequence[str] | None) -> Recount:
    async with _ledgers() as pool:
        return await recount(pool, merchant, sku, on_hand, note=note, may_lose=may_lose)


@asynccontextmanager
async def _ledgers() -> AsyncIterator[Pool]:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        yield pool
    finally:
        await pool.close()
