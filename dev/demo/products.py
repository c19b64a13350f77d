"""The products of the demo merchant. `python -m orderplane.dev.demo.products` writes them."""

import asyncio
import os
from dataclasses import dataclass
from functools import partial

from orderplane.adapters.postgres.pool import open_pool
from orderplane.ledgers.postgres.inventory import PostgresInventory, recount
from orderplane.ledgers.postgres.price_rules import PriceRuleStore, PriceRuleVersion
from orderplane.ledgers.postgres.products import ProductDetails, ProductStore
from orderplane.ledgers.postgres.session import Pool
from orderplane.ledgers.price_rules import CountryTax, PriceRule, ShippingZone, WeightStep

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


EUROPEAN_UNION = (
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT",
    "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
)  # fmt: skip

PRICE_RULES = {
    "EUR": PriceRule(
        shipping=(
            ShippingZone(
                countries=EUROPEAN_UNION,
                by_weight=(WeightStep(up_to_grams=20_000, amount=490), WeightStep(amount=1_990)),
                free_from=100_000,
            ),
            ShippingZone(by_weight=(WeightStep(up_to_grams=20_000, amount=1_490),)),
        ),
        tax_included=False,
        # The shop is a German one, and small: https://eur-lex.europa.eu/eli/dir/2006/112 (Article 59c).
        taxes=(CountryTax(countries=EUROPEAN_UNION, basis_points=1_900), CountryTax(basis_points=0)),
    ),
    "JPY": PriceRule(
        shipping=(ShippingZone(by_weight=(WeightStep(amount=800),)),),
        tax_included=False,
        taxes=(CountryTax(basis_points=1_000),),
    ),
}


async def seed(pool: Pool, merchant: str = MERCHANT) -> None:
    """Add the products and price rules that are missing, and a first stock count of each product that has
    none."""
    products, rules, inventory = ProductStore(pool), PriceRuleStore(pool), PostgresInventory(pool)
    for good in GOODS:
        await products.add(
            merchant,
            good.sku,
            ProductDetails(
                name=good.name,
                description="",
                currency=good.currency,
                unit_amount=good.unit_amount,
                other_prices={},
                weight_grams=good.weight_grams,
            ),
        )
        if await inventory.level(merchant, good.sku) is None:
            await recount(pool, merchant, good.sku, good.stock, note="opening count")
    for currency, rule in PRICE_RULES.items():
        if await rules.newest(merchant, currency) is None:
            await rules.change(merchant, currency, partial(_replace_by, rule))


def _replace_by(rule: PriceRule, _: PriceRuleVersion | None) -> PriceRule:
    return rule


async def _seed_database() -> None:
    pool = await open_pool(os.environ["ORDERPLANE_POSTGRES_DSN"], size=1)
    try:
        await seed(pool)
    finally:
        await pool.close()


if __name__ == "__main__":
    asyncio.run(_seed_database())
