"""Reads of products and prices: from memory where it is known to be current, else from PostgreSQL."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prometheus_client import Counter

from orderplane.gateway.products.availability import Availability
from orderplane.gateway.products.catalogue import Catalogue, PageKey
from orderplane.gateway.products.views import WrittenProduct, write_product
from orderplane.ledgers.postgres.products import (
    CatalogueRead,
    ProductSearch,
    ProductStore,
    StoredProduct,
    prices_of,
)
from orderplane.ledgers.pricing import Prices

READS = Counter(
    "orderplane_catalogue_reads_total",
    "Reads of a product, a page or prices, by where they were answered from.",
    ["kind", "source"],
)
_READS = {
    (kind, source): READS.labels(kind, source)
    for kind in ("product", "page", "prices")
    for source in ("memory", "postgres")
}


@dataclass(frozen=True, slots=True)
class ShownProduct:
    """A product with its available stock, as it is shown."""

    sku: str
    document: WrittenProduct
    available: int

    @property
    def body(self) -> bytes:
        """Its JSON document."""
        return self.document.body(self.available)

    @property
    def etag(self) -> str:
        """Its strong entity tag."""
        return self.document.etag(self.available)


class ProductReads:
    """Implements `ledgers.pricing.PriceList`. Every method raises `Transient` as `ProductStore` does.

    Args:
        monotonic: Monotonic seconds.
    """

    def __init__(
        self,
        store: ProductStore,
        catalogue: Catalogue,
        availability: Availability,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._availability = availability
        self._monotonic = monotonic

    async def product(self, merchant: str, sku: str) -> ShownProduct | None:
        """One product, archived or not."""
        known = self._catalogue.product(merchant, sku)
        if known is None or known.document is None:
            shown = _show((await self._find(merchant, [sku])).products)
            _READS["product", "postgres"].inc()
            return shown[0] if shown else None
        _READS["product", "memory"].inc()
        available = self._availability.known(merchant, sku)
        if available is None:
            available = (await self._availability.read(merchant, [sku]))[sku]
        return ShownProduct(sku, known.document, available)

    async def page(
        self, merchant: str, search: ProductSearch, *, after: str, limit: int
    ) -> Sequence[ShownProduct]:
        """The first `limit` products whose SKU follows `after`, by SKU."""
        key: PageKey = (search, after, limit)
        # Which products are in stock is no matter of the catalogue.
        known = None if search.is_in_stock else self._catalogue.page(merchant, key)
        if known is not None:
            _READS["page", "memory"].inc()
            available = await self._availability.read(merchant, [product.price.sku for product in known])
            return [
                ShownProduct(product.price.sku, product.document, available[product.price.sku])
                for product in known
                if product.document is not None
            ]
        _READS["page", "postgres"].inc()
        begun_at = self._monotonic()
        read = await self._store.page(merchant, search, after=after, limit=limit)
        if not search.is_in_stock:
            self._catalogue.keep(merchant, read, begun_at, key)
        self._keep_available(merchant, read, begun_at)
        return _show(read.products)

    async def prices(self, merchant: str, skus: Sequence[str]) -> Prices:
        """The prices of these products, and the price rules: all of one version of the catalogue."""
        known = self._catalogue.prices(merchant, skus)
        if known is not None:
            _READS["prices", "memory"].inc()
            return known
        _READS["prices", "postgres"].inc()
        return prices_of(await self._find(merchant, skus))

    async def _find(self, merchant: str, skus: Sequence[str]) -> CatalogueRead:
        begun_at = self._monotonic()
        read = await self._store.find(merchant, skus)
        self._catalogue.keep(merchant, read, begun_at)
        self._keep_available(merchant, read, begun_at)
        return read

    def _keep_available(self, merchant: str, read: CatalogueRead, begun_at: float) -> None:
        available = {product.sku: product.available for product in read.products}
        self._availability.keep(merchant, available, begun_at)


def _show(products: Sequence[StoredProduct]) -> list[ShownProduct]:
    return [
        ShownProduct(product.sku, write_product(product), product.available)
        for product in products
        if product.is_listed
    ]
