"""`orderplane stock`: record a stock count."""

from typing import Annotated

import typer

from orderplane.adapters.postgres.pool import open_pool
from orderplane.cli.console import console, need, run
from orderplane.ledgers.postgres.inventory import Recount, recount

app = typer.Typer(help="Stock counts.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Stock counts."""


@app.command("set")
def set_command(
    sku: Annotated[str, typer.Argument(help="The product.")],
    on_hand: Annotated[int, typer.Argument(min=0, help="The counted quantity.")],
    merchant: Annotated[str, typer.Option(help="The merchant's namespace.")] = "demo",
    note: Annotated[str, typer.Option(help="The reason, for the stock movements.")] = "recount",
) -> None:
    """Set the counted quantity. Orders that lose their stock are compensated, the newest first.

    Example:

        orderplane stock set TEA-EARL-GREY-100 40 --note "water damage"
    """
    result = run(_set(merchant, sku, on_hand, note))
    console.print(f"{sku}: {result.before} before, {result.after} now.", markup=False, soft_wrap=True)
    for name in result.lost:
        console.print(f"lost its stock: {name}", markup=False, soft_wrap=True)


async def _set(merchant: str, sku: str, on_hand: int, note: str) -> Recount:
    pool = await open_pool(need("ORDERPLANE_POSTGRES_DSN"), size=2)
    try:
        return await recount(pool, merchant, sku, on_hand, note=note)
    finally:
        await pool.close()
