"""The catalogue in PostgreSQL."""

from collections.abc import Sequence

from orderplane.ledgers.postgres.session import Pool, session
from orderplane.ledgers.pricing import PriceRule, Prices, Product

_PRODUCTS = """
SELECT sku, name, currency, unit_amount, other_prices, weight_grams, is_active,
       (SELECT jsonb_object_agg(currency, jsonb_build_array(shipping_amount, tax_basis_points))
        FROM price_rules WHERE merchant = $1) AS rules
FROM products WHERE merchant = $1 AND sku = ANY($2::text[])
"""


class PostgresPriceList:
    """Implements `ledgers.pricing.PriceList`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        async with session(self._pool) as connection:
            rows = [dict(row) for row in await connection.fetch(_PRODUCTS, merchant, list(skus))]
        # Each row brings the same rules: a second question would be one more to wait for.
        rules = [row.pop("rules") or {} for row in rows]
        return Prices(
            products={row["sku"]: Product(**row) for row in rows},
            rules={currency: PriceRule(*rule) for currency, rule in rules[0].items()} if rules else {},
        )
