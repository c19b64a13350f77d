"""The catalogue in PostgreSQL."""

from collections.abc import Mapping, Sequence

from orderplane.adapters.postgres.pool import Pool, session
from orderplane.intake.quote import PriceRule, Product


class PostgresCatalogue:
    """Implements `intake.quote.Catalogue`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def products(self, merchant: str, skus: Sequence[str]) -> Mapping[str, Product]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT sku, name, currency, unit_amount, other_prices, weight_grams, is_active "
                "FROM products WHERE merchant = $1 AND sku = ANY($2::text[])",
                merchant, list(skus),
            )  # fmt: skip
        return {row["sku"]: Product(**row) for row in rows}

    async def price_rule(self, merchant: str, currency: str) -> PriceRule | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT shipping_amount, tax_basis_points FROM price_rules "
                "WHERE merchant = $1 AND currency = $2",
                merchant, currency,
            )  # fmt: skip
        return PriceRule(**row) if row else None
