"""Products in PostgreSQL: the merchant's side of them, and the prices by which an order is priced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orderplane.crds.money import EXPONENTS
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.pricing import PriceRule, Prices, Product

# $2 are the currencies whose minor unit is known: no order can be placed in another one.
_FIND = """
SELECT p.sku, p.name, p.description, p.currency, p.unit_amount, p.other_prices, p.weight_grams,
    NOT p.is_active AS is_archived, p.version, coalesce(s.on_hand - s.reserved, 0) AS available
FROM products p LEFT JOIN stock s ON s.merchant = p.merchant AND s.sku = p.sku
WHERE p.merchant = $1 AND p.currency = ANY($2) AND p.sku = $3
"""

_PAGE = """
SELECT p.sku, p.name, p.description, p.currency, p.unit_amount, p.other_prices, p.weight_grams,
    NOT p.is_active AS is_archived, p.version, coalesce(s.on_hand - s.reserved, 0) AS available
FROM products p LEFT JOIN stock s ON s.merchant = p.merchant AND s.sku = p.sku
WHERE p.merchant = $1 AND p.currency = ANY($2) AND p.sku > $3
  AND (p.is_active OR $5)
  AND ($6::text IS NULL OR p.search @@ websearch_to_tsquery('simple', $6))
  AND ($7::text IS NULL
       OR CASE p.currency WHEN $7 THEN p.unit_amount ELSE (p.other_prices ->> $7)::bigint END
          BETWEEN coalesce($8::bigint, 0) AND coalesce($9::bigint, 9223372036854775807))
  AND (NOT $10 OR s.on_hand > s.reserved)
ORDER BY p.sku LIMIT $4
"""

_LOCK = "SELECT 1 FROM products WHERE merchant = $1 AND sku = $2 FOR UPDATE"

_INSERT = """
INSERT INTO products
    (merchant, sku, name, description, currency, unit_amount, other_prices, weight_grams, is_active)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NOT $9::boolean) ON CONFLICT DO NOTHING RETURNING true
"""

_UPDATE = """
UPDATE products SET name = $3, description = $4, currency = $5, unit_amount = $6, other_prices = $7,
    weight_grams = $8, is_active = NOT $9::boolean, version = version + 1, updated_at = now()
WHERE merchant = $1 AND sku = $2
"""

# Each row brings all price rules of the merchant: one round trip instead of two.
_READ_PRICES = """
SELECT sku, name, currency, unit_amount, other_prices, weight_grams, is_active,
    (SELECT jsonb_object_agg(currency, jsonb_build_array(shipping_amount, tax_basis_points))
     FROM price_rules WHERE merchant = $1) AS rules
FROM products WHERE merchant = $1 AND sku = ANY($2::text[])
"""


@dataclass(frozen=True, slots=True)
class ProductDetails:
    """What a merchant sets of a product; prices are of one piece, in minor units of their currencies."""

    name: str
    description: str
    currency: str
    unit_amount: int
    other_prices: Mapping[str, int]
    weight_grams: int
    is_archived: bool = False


@dataclass(frozen=True, slots=True)
class StoredProduct:
    """One product; `available` pieces are on hand and not reserved, `version` rises with each change."""

    sku: str
    details: ProductDetails
    version: int
    available: int


@dataclass(frozen=True, slots=True)
class ProductSearch:
    """Which products to list; None and False filter nothing.

    Args:
        text: Words as in a web search: `"a phrase"`, `or`, `-not`; any text is valid.
        currency: Those with a price in it.
        least, most: The range of that price, in minor units; needs `currency`.
    """

    text: str | None = None
    currency: str | None = None
    least: int | None = None
    most: int | None = None
    is_in_stock: bool = False
    with_archived: bool = False


class ProductStore:
    """The table `products`, read together with `stock`. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self, merchant: str, search: ProductSearch, *, after: str, limit: int
    ) -> Sequence[StoredProduct]:
        """The first `limit` products whose SKU follows `after`, by SKU."""
        # A PostgreSQL text cannot contain U+0000.
        text = search.text.replace("\0", " ") if search.text is not None else None
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                _PAGE, merchant, list(EXPONENTS), after, limit, search.with_archived, text, search.currency,
                search.least, search.most, search.is_in_stock,
            )  # fmt: skip
        return [_product(row) for row in rows]

    async def find(self, merchant: str, sku: str) -> StoredProduct | None:
        """One product, archived or not."""
        async with session(self._pool) as connection:
            return await _find(connection, merchant, sku)

    async def add(self, merchant: str, sku: str, details: ProductDetails) -> StoredProduct | None:
        """Create a product; None where the SKU is taken, also by an archived one."""
        async with transaction(self._pool) as connection:
            if not await connection.fetchval(_INSERT, merchant, sku, *_columns(details)):
                return None
            return await _find(connection, merchant, sku)

    async def change(
        self, merchant: str, sku: str, edit: Callable[[StoredProduct], ProductDetails]
    ) -> StoredProduct | None:
        """Replace the details of a product by those that `edit` makes of the present ones, under its row
        lock.

        An exception of `edit` passes through, and nothing is changed. The version stays where nothing
        differs. None where there is no such product.
        """
        async with transaction(self._pool) as connection:
            await connection.execute(_LOCK, merchant, sku)
            product = await _find(connection, merchant, sku)
            if product is None:
                return None
            details = edit(product)
            if details == product.details:
                return product
            await connection.execute(_UPDATE, merchant, sku, *_columns(details))
            return await _find(connection, merchant, sku)


class PostgresPriceList:
    """Implements `ledgers.pricing.PriceList`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        async with session(self._pool) as connection:
            rows = [dict(row) for row in await connection.fetch(_READ_PRICES, merchant, list(skus))]
        rules = [row.pop("rules") or {} for row in rows]
        return Prices(
            products={row["sku"]: Product(**row) for row in rows},
            rules={currency: PriceRule(*rule) for currency, rule in rules[0].items()} if rules else {},
        )


async def _find(connection: Connection, merchant: str, sku: str) -> StoredProduct | None:
    row = await connection.fetchrow(_FIND, merchant, list(EXPONENTS), sku)
    return _product(row) if row else None


def _columns(details: ProductDetails) -> tuple[Any, ...]:
    return (
        details.name, details.description, details.currency, details.unit_amount, dict(details.other_prices),
        details.weight_grams, details.is_archived,
    )  # fmt: skip


def _product(row: Row) -> StoredProduct:
    details = ProductDetails(
        name=row["name"],
        description=row["description"],
        currency=row["currency"],
        unit_amount=row["unit_amount"],
        other_prices=row["other_prices"],
        weight_grams=row["weight_grams"],
        is_archived=row["is_archived"],
    )
    return StoredProduct(row["sku"], details, row["version"], row["available"])
