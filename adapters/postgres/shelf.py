"""What can be bought, a page at a time, with what is left of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from orderplane.adapters.postgres.pool import Pool, session
from orderplane.crds.money import EXPONENTS


@dataclass(frozen=True, slots=True)
class ShelfProduct:
    """One active product; `unit_amount` in minor units, `available` pieces on hand and not reserved."""

    sku: str
    name: str
    description: str
    currency: str
    unit_amount: int
    weight_grams: int
    available: int


class PostgresShelf:
    """Reads the tables `products` and `stock`. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, merchant: str, *, after: str, limit: int) -> Sequence[ShelfProduct]:
        """The first `limit` products whose SKU follows `after`, by SKU."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT p.sku, p.name, p.description, p.currency, p.unit_amount, p.weight_grams, "
                "coalesce(s.on_hand - s.reserved, 0) AS available "
                "FROM products p LEFT JOIN stock s ON s.merchant = p.merchant AND s.sku = p.sku "
                # Nobody can order in a currency whose minor unit is not known.
                "WHERE p.merchant = $1 AND p.is_active AND p.sku > $2 AND p.currency = ANY($4) "
                "ORDER BY p.sku LIMIT $3",
                merchant, after, limit, list(EXPONENTS),
            )  # fmt: skip
        return [ShelfProduct(**row) for row in rows]
