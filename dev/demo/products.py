"""The products of the demo merchant. `python -m orderplane.dev.demo.products` writes them."""

import asyncio
import os
from dataclasses import dataclass

from orderplane.adapters.postgres.pool import open_pool
from orderplane.ledgers.postgres.inventory import recount
from orderplane.ledgers.postgres.session import Pool, session

MERCHANT = "demo"


@dataclass(frozen=True, slots=True)
class Good:
    """One product with its first stock count."""

    sku: str
    name: str
    unit_amount: int
    weight_grams: int
    stock: int
    currency: str = "EUR"


SCARCE = "VASE-RAKU-ONE-OFF"
"""Less stock than any order for it asks for."""

RECOUNTED = "KETTLE-COPPER"
"""A recount sets its stock to 0 while orders have paid for it."""

GOODS = (
    Good("TEA-EARL-GREY-100", "Earl Grey, 100 g", 890, 120, 1_000_000),
    Good("TEA-SENCHA-100", "Sencha, 100 g", 1290, 120, 1_000_000),
    Good("MUG-STONEWARE-BLUE", "Stoneware mug, blue", 1650, 380, 1_000_000),
    Good("MUG-STONEWARE-GREEN", "Stoneware mug, green", 1650, 380, 1_000_000),
    Good("POT-CAST-IRON-800", "Cast iron pot, 0.8 l", 5900, 1450, 1_000_000),
    Good("BISCUIT-SHORTBREAD", "Shortbread, 250 g", 540, 270, 1_000_000),
    Good("SPOON-OLIVE-WOOD", "Spoon of olive wood", 720, 40, 1_000_000),
    Good("FILTER-PAPER-100", "Filter papers, 100", 390, 90, 1_000_000),
    Good("WHISK-BAMBOO", "Matcha whisk of bamboo", 1800, 30, 1_000_000, "JPY"),
    Good(SCARCE, "Raku vase, one of a kind", 24_900, 900, 3),
    Good(RECOUNTED, "Copper kettle", 8_900, 1100, 1_000),
)

COMMON = tuple(good.sku for good in GOODS if good.currency == "EUR" and good.sku not in (SCARCE, RECOUNTED))


async def seed(pool: Pool, merchant: str = MERCHANT) -> None:
    """Write products and price rules, and a first stock count of each product that has none."""
    async with session(pool) as connection:
        await connection.executemany(
            "INSERT INTO products (merchant, sku, name, currency, unit_amount, weight_grams) "
            "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            [(merchant, g.sku, g.name, g.currency, g.unit_amount, g.weight_grams) for g in GOODS],
        )
        await connection.executemany(
            "INSERT INTO price_rules (merchant, currency, shipping_amount, tax_basis_points) "
            "VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            [(merchant, "EUR", 490, 1900), (merchant, "JPY", 800, 1000)],
        )
        counted = {
            row["sku"]
            for row in await connection.fetch("SELECT sku FROM stock WHERE merchant = $1", merchant)
        }
    for good in GOODS:
        if good.sku not in counted:
            await recount(pool, merchant, good.sku, good.stock, note="opening count")


async def _seed_database() -> None:
    pool = await open_pool(os.environ["ORDERPLANE_POSTGRES_DSN"], size=1)
    try:
        await seed(pool)
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(_seed_database())
