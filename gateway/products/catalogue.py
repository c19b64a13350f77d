"""Products, pages and price rules in memory, all as they are in the newest version of the catalogue.

What was read from PostgreSQL is kept together with the version that it belongs to. The version of a merchant
changes with each transaction that changes its products or price rules (`0004_catalogue_versions.sql`).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from prometheus_client import Counter, Gauge

from orderplane.adapters.halves import Beat
from orderplane.adapters.postgres.listen import listen
from orderplane.adapters.retry import wait_for_event
from orderplane.gateway.products.views import WrittenProduct, write_product
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.products import (
    CatalogueChanges,
    CatalogueRead,
    CatalogueVersion,
    ProductSearch,
    StoredProduct,
    price_of,
)
from orderplane.ledgers.pricing import Prices, Product, RuleInForce

CHANNEL = "catalogue"
"""The payload of a notification is the merchant."""

REFRESH_SECONDS = 0.3
MAX_STALENESS_SECONDS = 1.0
"""What is in memory is not used if the last look at the merchant's version began longer ago than this."""
_SHORTEST_PAUSE = 0.02
"""Between two looks: an import of a thousand products tells of a change a thousand times."""
_MAX_AGE_SECONDS = 300.0
_MAX_MERCHANTS = 1000
_MAX_CHANGED = 1000
_MERCHANT_BYTES, _PRODUCT_BYTES, _PAGE_BYTES, _SKU_BYTES = 1000, 1400, 600, 100
_RULE_PART_BYTES, _COUNTRY_BYTES = 700, 60
"""What Python takes for a merchant, a product beside its document, a page, each of its SKUs, a part of a
price rule (zone, step, tax), and each of its countries."""

PRODUCTS = Gauge("orderplane_catalogue_products", "Products in memory.")
BYTES = Gauge("orderplane_catalogue_bytes", "Memory that products and pages in memory take, estimated.")
AGE = Gauge("orderplane_catalogue_age_seconds", "Time since PostgreSQL was last asked what has changed.")
RELOADS = Counter(
    "orderplane_catalogue_reloads_total",
    "Changed catalogues, by what was dropped: the products that changed, or everything.",
    ["dropped"],
)

PageKey = tuple[ProductSearch, str, int]
"""The search, the SKU before the page, and how many products it may have."""


@dataclass(frozen=True, slots=True)
class KnownProduct:
    """A product in memory; `document` is None where its currency is not supported."""

    price: Product
    document: WrittenProduct | None

    @property
    def size(self) -> int:
        """Estimated bytes."""
        return _PRODUCT_BYTES + (len(self.document.before) if self.document else 0)


@dataclass(slots=True)
class _Merchant:
    """What is known of one merchant, all of it of the same version.

    Args:
        begun_at: When the first read of it was begun.
        proven_at: When the last read was begun that has shown this version.
        written_at: When this replica last changed a catalogue: a read that was begun before shows nothing.
        size: Estimated bytes.
    """

    version: int
    begun_at: float
    proven_at: float
    written_at: float
    products: OrderedDict[str, KnownProduct] = field(default_factory=OrderedDict)
    pages: OrderedDict[PageKey, tuple[str, ...]] = field(default_factory=OrderedDict)
    rules: Mapping[str, RuleInForce] | None = None
    size: int = _MERCHANT_BYTES

    def is_fresh(self, now: float) -> bool:
        return self.proven_at > max(now - MAX_STALENESS_SECONDS, self.written_at)

    def put(self, product: StoredProduct) -> None:
        self.drop(product.sku)
        known = KnownProduct(price_of(product), write_product(product) if product.is_listed else None)
        self.products[product.sku] = known
        self.size += known.size

    def put_page(self, key: PageKey, skus: tuple[str, ...]) -> None:
        self.size += _page_size(skus) - _page_size(self.pages.pop(key, None))
        self.pages[key] = skus

    def put_rules(self, rules: Mapping[str, RuleInForce] | None) -> None:
        self.size += _rules_size(rules) - _rules_size(self.rules)
        self.rules = rules

    def drop(self, sku: str) -> None:
        if known := self.products.pop(sku, None):
            self.size -= known.size

    def move_on(self, version: int, changed: frozenset[str] | None) -> None:
        """Drop what may differ in a newer version; None drops everything."""
        for sku in list(self.products) if changed is None else changed:
            self.drop(sku)
        self.size -= sum(map(_page_size, self.pages.values()))
        self.pages.clear()
        self.put_rules(None)
        self.version = version

    def drop_oldest(self) -> bool:
        """Drop what was not read for the longest time; False if nothing is left."""
        if self.products:
            self.drop(next(iter(self.products)))
        elif self.pages:
            self.size -= _page_size(self.pages.popitem(last=False)[1])
        return bool(self.products or self.pages)


class Changes(Protocol):
    """Where changes are read."""

    async def changes(self, known: Mapping[str, int], *, limit: int) -> CatalogueChanges:
        """What has changed since these versions; see `ProductStore.changes`.

        Raises:
            Transient: it cannot be read.
        """
        ...


class Catalogue:
    """A cache with a bound. What it does not have, or cannot vouch for, is None: then PostgreSQL is asked.

    Args:
        monotonic: Monotonic seconds.
        max_bytes: Estimated; beyond it, what was not read for the longest time is dropped.
    """

    def __init__(
        self, source: Changes, *, max_bytes: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._monotonic = monotonic
        self._max_bytes = max_bytes
        self._merchants: OrderedDict[str, _Merchant] = OrderedDict()
        self._size = 0
        self._server: datetime | None = None
        self._written_at = self._refreshed_at = float("-inf")
        self._woken = asyncio.Event()

    def product(self, merchant: str, sku: str) -> KnownProduct | None:
        """One product."""
        known = self._fresh(merchant)
        if known is None or sku not in known.products:
            return None
        known.products.move_to_end(sku)
        return known.products[sku]

    def page(self, merchant: str, key: PageKey) -> Sequence[KnownProduct] | None:
        """The products of a page that was read before."""
        known = self._fresh(merchant)
        skus = known.pages.get(key) if known else None
        if known is None or skus is None:
            return None
        known.pages.move_to_end(key)
        if not all(sku in known.products for sku in skus):
            return None
        for sku in skus:
            known.products.move_to_end(sku)
        return [known.products[sku] for sku in skus]

    def prices(self, merchant: str, skus: Sequence[str]) -> Prices | None:
        """The prices of these products and the price rules, all of one version."""
        known = self._fresh(merchant)
        if known is None or known.rules is None or not all(sku in known.products for sku in skus):
            return None
        return Prices({sku: known.products[sku].price for sku in skus}, known.rules)

    def keep(self, merchant: str, read: CatalogueRead, begun_at: float, page: PageKey | None = None) -> None:
        """Keep what PostgreSQL has read, unless it is of another version than what is here.

        Args:
            begun_at: When the read was begun.
            page: Where it is a page: which one.
        """
        known = self._of_version(merchant, read.version, begun_at)
        if known is None:
            return
        size = known.size
        for product in read.products:
            known.put(product)
        if page is None:
            known.put_rules(read.rules)
        else:
            known.put_page(page, tuple(product.sku for product in read.products))
        self._size += known.size - size
        while self._size > self._max_bytes and self._merchants:
            self._shrink(*next(iter(self._merchants.items())))

    @contextmanager
    def changed_here(self, merchant: str) -> Iterator[None]:
        """Around a change: the next read here sees it, also where nobody knows whether it was made."""
        try:
            yield
        finally:
            self._expire(merchant)

    def note(self, merchant: str) -> None:
        """Look at the versions now: somebody has changed this merchant's catalogue."""
        if merchant in self._merchants:
            self._woken.set()

    async def listen(self, dsn: Callable[[], str], beat: Beat) -> None:
        """LISTEN for changes until cancelled. What is missed is found by `watch`."""
        await listen(dsn, CHANNEL, self.note, beat)

    async def watch(self, beat: Beat) -> None:
        """Look at the versions again and again, until cancelled."""
        AGE.set_function(lambda: self._monotonic() - self._refreshed_at)
        while True:
            beat()
            self._woken.clear()
            await self.refresh()
            await asyncio.sleep(_SHORTEST_PAUSE)
            await wait_for_event(self._woken, REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Drop what has changed. If PostgreSQL does not answer, nothing of the memory is used soon."""
        begun_at = self._monotonic()
        for merchant in [m for m, it in self._merchants.items() if begun_at - it.begun_at > _MAX_AGE_SECONDS]:
            self._forget(merchant)
        asked = {merchant: known.version for merchant, known in self._merchants.items()}
        try:
            changes = await self._source.changes(asked, limit=_MAX_CHANGED)
        except Transient:
            return
        if changes.server != self._server:
            if self._merchants:
                RELOADS.labels("everything").inc()
            for merchant in list(self._merchants):
                self._forget(merchant)
            self._server = changes.server
        for merchant, version in asked.items():
            known = self._merchants.get(merchant)
            if known is None or known.version != version:
                continue  # it was dropped meanwhile
            if merchant in changes.versions:
                size, changed = known.size, changes.skus[merchant]
                known.move_on(changes.versions[merchant], changed)
                self._size += known.size - size
                RELOADS.labels("everything" if changed is None else "products").inc()
            known.proven_at = max(known.proven_at, begun_at)
        self._refreshed_at = begun_at
        PRODUCTS.set(sum(len(known.products) for known in self._merchants.values()))
        BYTES.set(self._size)

    def _expire(self, merchant: str) -> None:
        self._written_at = self._monotonic()
        if merchant in self._merchants:
            self._merchants[merchant].written_at = self._written_at
            self._woken.set()

    def _fresh(self, merchant: str) -> _Merchant | None:
        known = self._merchants.get(merchant)
        if known is None or not known.is_fresh(self._monotonic()):
            return None
        self._merchants.move_to_end(merchant)
        return known

    def _of_version(
        self, merchant: str, version: CatalogueVersion | None, begun_at: float
    ) -> _Merchant | None:
        """The merchant, if what is known of it has this version; a new merchant has it."""
        if version is None:
            return None
        if self._server is None:
            self._server = version.server
        known = self._merchants.get(merchant)
        if version.server != self._server or (known is not None and known.version != version.number):
            self._woken.set()
            return None
        if known is None:
            known = _Merchant(version.number, begun_at, begun_at, self._written_at)
            self._merchants[merchant] = known
            self._size += known.size
            if len(self._merchants) > _MAX_MERCHANTS:
                self._forget(next(iter(self._merchants)))
        known.proven_at = max(known.proven_at, begun_at)
        return known

    def _shrink(self, merchant: str, known: _Merchant) -> None:
        size = known.size
        if known.drop_oldest():
            self._size += known.size - size
        else:
            self._forget(merchant)

    def _forget(self, merchant: str) -> None:
        self._size -= self._merchants.pop(merchant).size


def _rules_size(rules: Mapping[str, RuleInForce] | None) -> int:
    size = 0
    for in_force in (rules or {}).values():
        for zone in in_force.rule.shipping:
            size += _RULE_PART_BYTES * len(zone.by_weight) + _COUNTRY_BYTES * len(zone.countries or ())
        for tax in in_force.rule.taxes:
            size += _COUNTRY_BYTES * len(tax.countries or ())
        size += _RULE_PART_BYTES * (1 + len(in_force.rule.shipping) + len(in_force.rule.taxes))
    return size


def _page_size(skus: tuple[str, ...] | None) -> int:
    return 0 if skus is None else _PAGE_BYTES + _SKU_BYTES * len(skus)
