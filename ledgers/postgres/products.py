"""Products in PostgreSQL: the merchant's side of them, and the prices by which an order is priced."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from orderplane.crds.money import EXPONENTS
from orderplane.ledgers.postgres.session import Connection, Pool, Row, act_as, session, transaction
from orderplane.ledgers.price_rules import PriceRule
from orderplane.ledgers.pricing import Prices, Product, RuleInForce

# The first row is always there: it has the version, also where nothing else is found. One statement sees one
# state: rows, rules and version belong together.
_FIND = """
SELECT coalesce(v.version, 0) AS catalogue_version, pg_postmaster_start_time() AS server,
    (SELECT jsonb_object_agg(currency, jsonb_build_array(version, rule))
     FROM current_price_rules WHERE merchant = $1 AND rule IS NOT NULL) AS rules,
    p.sku, p.name, p.description, p.currency, p.unit_amount, p.other_prices, p.weight_grams,
    NOT p.is_active AS is_archived, p.version, coalesce(s.on_hand - s.reserved, 0) AS available
FROM (VALUES (true)) AS always
LEFT JOIN catalogue_versions v ON v.merchant = $1
LEFT JOIN products p ON p.merchant = $1 AND p.sku = ANY($2::text[])
LEFT JOIN stock s ON s.merchant = p.merchant AND s.sku = p.sku
"""

# $2 are the currencies whose minor unit is known: no order can be placed in another one.
_PAGE = """
SELECT coalesce((SELECT version FROM catalogue_versions WHERE merchant = $1), 0) AS catalogue_version,
    pg_postmaster_start_time() AS server,
    p.sku, p.name, p.description, p.currency, p.unit_amount, p.other_prices, p.weight_grams,
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

# Of the merchants in $1 those whose version is not the one in $2, with at most $3 SKUs that changed since.
_CHANGES = """
SELECT pg_postmaster_start_time() AS server, m.merchant, m.version, m.has_deletions,
    ARRAY(SELECT p.sku FROM products p
          WHERE p.catalogue_version > m.known AND p.merchant = m.merchant LIMIT $3) AS skus
FROM (VALUES (true)) AS always LEFT JOIN (
    SELECT k.merchant, k.known, coalesce(v.version, 0) AS version,
        coalesce(v.version < k.known OR v.deleted_in > k.known, true) AS has_deletions
    FROM unnest($1::text[], $2::bigint[]) AS k (merchant, known)
    LEFT JOIN catalogue_versions v ON v.merchant = k.merchant
    WHERE coalesce(v.version, 0) <> k.known
) AS m ON true
"""

_AVAILABLE = """
SELECT sku, on_hand - reserved AS available FROM stock WHERE merchant = $1 AND sku = ANY($2::text[])
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

    @property
    def is_listed(self) -> bool:
        """Whether it can be shown: its currency's minor unit is known, so orders can be placed in it."""
        return self.details.currency in EXPONENTS


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


class CatalogueVersion(NamedTuple):
    """Which state of a merchant's products and price rules was read.

    Args:
        server: When this server was started. A number of another one says nothing: it may have been restored,
            or lack the last transactions of the one before.
        number: Rises with each change.
    """

    server: datetime
    number: int


@dataclass(frozen=True, slots=True)
class CatalogueRead:
    """What one statement found.

    Args:
        version: What all of it belongs to; None where a page is empty.
        rules: The merchant's price rules by currency; not read for a page.
    """

    version: CatalogueVersion | None
    products: Sequence[StoredProduct]
    rules: Mapping[str, RuleInForce] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CatalogueChanges:
    """What has changed since the versions that somebody knows.

    Args:
        server: As in `CatalogueVersion`.
        versions: The present number of each merchant that has another one than the known one.
        skus: The products of each of them that were changed or added; None where that cannot be told, because
            some were deleted or too many changed.
    """

    server: datetime
    versions: Mapping[str, int]
    skus: Mapping[str, frozenset[str] | None]


class ProductStore:
    """The table `products`, read together with `stock`. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(self, merchant: str, search: ProductSearch, *, after: str, limit: int) -> CatalogueRead:
        """The first `limit` products whose SKU follows `after`, by SKU."""
        # A PostgreSQL text cannot contain U+0000.
        text = search.text.replace("\0", " ") if search.text is not None else None
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                _PAGE, merchant, list(EXPONENTS), after, limit, search.with_archived, text, search.currency,
                search.least, search.most, search.is_in_stock,
            )  # fmt: skip
        return CatalogueRead(_version(rows[0]) if rows else None, [_product(row) for row in rows])

    async def find(self, merchant: str, skus: Sequence[str]) -> CatalogueRead:
        """Those of these products that exist, archived or not, and the price rules."""
        async with session(self._pool) as connection:
            return await _find(connection, merchant, skus)

    async def changes(self, known: Mapping[str, int], *, limit: int) -> CatalogueChanges:
        """What has changed since these numbers of the merchants' versions.

        Args:
            limit: Of the SKUs of one merchant.
        """
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CHANGES, list(known), list(known.values()), limit + 1)
        changed = [row for row in rows if row["merchant"] is not None]
        return CatalogueChanges(
            server=rows[0]["server"],
            versions={row["merchant"]: row["version"] for row in changed},
            skus={
                row["merchant"]: None
                if row["has_deletions"] or len(row["skus"]) > limit
                else frozenset(row["skus"])
                for row in changed
            },
        )

    async def available(self, merchant: str, skus: Sequence[str]) -> dict[str, int]:
        """How many pieces of each are on hand and not reserved; 0 where it was never counted."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_AVAILABLE, merchant, skus)
        return {**dict.fromkeys(skus, 0), **{row["sku"]: row["available"] for row in rows}}

    async def add(
        self, merchant: str, sku: str, details: ProductDetails, *, actor: str | None = None
    ) -> StoredProduct | None:
        """Create a product; None where the SKU is taken, also by an archived one."""
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            if not await connection.fetchval(_INSERT, merchant, sku, *_columns(details)):
                return None
            return await _find_one(connection, merchant, sku)

    async def change(
        self,
        merchant: str,
        sku: str,
        edit: Callable[[StoredProduct], ProductDetails],
        *,
        actor: str | None = None,
    ) -> StoredProduct | None:
        """Replace the details of a product by those that `edit` makes of the present ones, under its row
        lock.

        An exception of `edit` passes through, and nothing is changed. The version stays where nothing
        differs. None where there is no such product.
        """
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            await connection.execute(_LOCK, merchant, sku)
            product = await _find_one(connection, merchant, sku)
            if product is None:
                return None
            details = edit(product)
            if details == product.details:
                return product
            await connection.execute(_UPDATE, merchant, sku, *_columns(details))
            return await _find_one(connection, merchant, sku)


class PostgresPriceList:
    """Implements `ledgers.pricing.PriceList`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        async with session(self._pool) as connection:
            return prices_of(await _find(connection, merchant, skus))


def prices_of(read: CatalogueRead) -> Prices:
    """The part of a read that orders are priced by."""
    return Prices({product.sku: price_of(product) for product in read.products}, read.rules)


def price_of(product: StoredProduct) -> Product:
    """The part of a product that orders are priced by."""
    details = product.details
    return Product(
        sku=product.sku,
        name=details.name,
        currency=details.currency,
        unit_amount=details.unit_amount,
        weight_grams=details.weight_grams,
        is_active=not details.is_archived,
        other_prices=details.other_prices,
    )


async def _find(connection: Connection, merchant: str, skus: Sequence[str]) -> CatalogueRead:
    rows = await connection.fetch(_FIND, merchant, skus)
    return CatalogueRead(
        version=_version(rows[0]),
        products=[_product(row) for row in rows if row["sku"] is not None],
        rules={
            currency: RuleInForce(version, PriceRule.model_validate(rule))
            for currency, (version, rule) in (rows[0]["rules"] or {}).items()
        },
    )


async def _find_one(connection: Connection, merchant: str, sku: str) -> StoredProduct | None:
    found = [product for product in (await _find(connection, merchant, [sku])).products if product.is_listed]
    return found[0] if found else None


def _version(row: Row) -> CatalogueVersion:
    return CatalogueVersion(row["server"], row["catalogue_version"])


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
