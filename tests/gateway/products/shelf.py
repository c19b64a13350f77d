"""Products and stock of several merchants in memory, as `ProductStore` gives them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from orderplane.gateway.products.availability import Availability
from orderplane.gateway.products.catalogue import Catalogue
from orderplane.gateway.products.reads import ProductReads
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.products import (
    CatalogueChanges,
    CatalogueRead,
    CatalogueVersion,
    ProductDetails,
    ProductSearch,
    StoredProduct,
)
from orderplane.ledgers.price_rules import PriceRule
from orderplane.ledgers.pricing import RuleInForce

TEA = ProductDetails("Tea", "Black.", "EUR", 890, {"USD": 990}, 120)


@dataclass
class Shelf:
    """What PostgreSQL has, and what it could do to whoever asks.

    Args:
        is_silent: Whether it does not answer.
        asked: Calls, by their name.
        slow: While set, reads are answered by `answer_slow_reads`, with what was there when they came.
    """

    server: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    versions: dict[str, int] = field(default_factory=dict)
    products: dict[tuple[str, str], tuple[StoredProduct, int]] = field(default_factory=dict)
    rules: dict[str, dict[str, RuleInForce]] = field(default_factory=dict)
    deleted_in: dict[str, int] = field(default_factory=dict)
    stock: dict[tuple[str, str], int] = field(default_factory=dict)
    is_silent: bool = False
    is_slow: bool = False
    asked: list[str] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _number: int = 0

    def put(self, merchant: str, sku: str, details: ProductDetails) -> None:
        """As one transaction."""
        before = self.products.get((merchant, sku))
        number = before[0].version + 1 if before else 1
        self.products[merchant, sku] = StoredProduct(sku, details, number, 0), self._next(merchant)

    def delete(self, merchant: str, sku: str) -> None:
        """By hand: the API has no such thing."""
        if self.products.pop((merchant, sku), None):
            self.deleted_in[merchant] = self._next(merchant)

    def set_rule(self, merchant: str, currency: str, rule: PriceRule) -> None:
        known = self.rules.get(merchant, {})
        number = known[currency].version + 1 if currency in known else 1
        self.rules[merchant] = {**known, currency: RuleInForce(number, rule)}
        self._next(merchant)

    def restart(self) -> None:
        """Nothing is lost, but nobody who asks can know."""
        self.server += timedelta(seconds=1)

    def answer_slow_reads(self) -> None:
        for answer in self.waiting:
            answer.set_result(None)
        self.waiting.clear()

    async def find(self, merchant: str, skus: Sequence[str]) -> CatalogueRead:
        found = [
            self._shown(merchant, product)
            for (owner, sku), (product, _) in self.products.items()
            if owner == merchant and sku in skus
        ]
        read = CatalogueRead(self._version(merchant), found, dict(self.rules.get(merchant, {})))
        await self._answer("find")
        return read

    async def page(self, merchant: str, search: ProductSearch, *, after: str, limit: int) -> CatalogueRead:
        found = sorted(
            (
                self._shown(merchant, product)
                for (owner, sku), (product, _) in self.products.items()
                if owner == merchant and sku > after
            ),
            key=lambda product: product.sku,
        )
        found = [
            product
            for product in found
            if (search.with_archived or not product.details.is_archived)
            and (product.available > 0 or not search.is_in_stock)
        ][:limit]
        read = CatalogueRead(self._version(merchant) if found else None, found)
        await self._answer("page")
        return read

    async def changes(self, known: Mapping[str, int], *, limit: int) -> CatalogueChanges:
        moved = {
            merchant: self.versions.get(merchant, 0)
            for merchant, version in known.items()
            if self.versions.get(merchant, 0) != version
        }
        skus: dict[str, frozenset[str] | None] = {}
        for merchant in moved:
            changed = frozenset(
                sku
                for (owner, sku), (_, version) in self.products.items()
                if owner == merchant and version > known[merchant]
            )
            is_told = self.deleted_in.get(merchant, 0) <= known[merchant] and len(changed) <= limit
            skus[merchant] = changed if is_told else None
        changes = CatalogueChanges(self.server, moved, skus)
        await self._answer("changes")
        return changes

    async def available(self, merchant: str, skus: Sequence[str]) -> dict[str, int]:
        levels = {sku: self.stock.get((merchant, sku), 0) for sku in skus}
        await self._answer("available")
        return levels

    async def _answer(self, name: str) -> None:
        self.asked.append(name)
        if self.is_silent:
            raise Transient("LedgerUnavailable", "no answer")
        if self.is_slow and name != "changes":
            answer = asyncio.get_running_loop().create_future()
            self.waiting.append(answer)
            await answer

    def _next(self, merchant: str) -> int:
        self._number += 1
        self.versions[merchant] = self._number
        return self._number

    def _version(self, merchant: str) -> CatalogueVersion:
        return CatalogueVersion(self.server, self.versions.get(merchant, 0))

    def _shown(self, merchant: str, product: StoredProduct) -> StoredProduct:
        return replace(product, available=self.stock.get((merchant, product.sku), 0))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Door:
    """One replica: what it keeps, and its reads."""

    catalogue: Catalogue
    availability: Availability
    reads: ProductReads


def open_door(shelf: Shelf, clock: Callable[[], float], *, max_bytes: int = 1_000_000) -> Door:
    """A replica that nobody tells anything, and that does not look by itself."""
    store: object = shelf
    catalogue = Catalogue(shelf, max_bytes=max_bytes, monotonic=clock)
    availability = Availability(shelf, clock)
    return Door(catalogue, availability, ProductReads(store, catalogue, availability, clock))  # type: ignore[arg-type]
