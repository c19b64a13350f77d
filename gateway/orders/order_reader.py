"""Read the orders that a caller may see: from memory while a watch keeps it up to date, or else from the API
server. What is not in memory is looked for there, so an order is found on each replica as soon as one has
accepted it.
"""

import re
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol, cast

from prometheus_client import Counter

from orderplane.adapters.kubernetes.client import Page
from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.crds.api_errors import NotFound
from orderplane.crds.defaults import customer_hash
from orderplane.crds.documents import OrderDocument, ResourceDocument
from orderplane.crds.meta import CUSTOMER_LABEL, MAX_ORDER_NAME, Kind
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.held_orders import Criteria, HeldOrders
from orderplane.gateway.orders.listing import CHUNK_SIZE, Chunk, ListPosition, ReadChunk
from orderplane.gateway.principal import Principal

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?")

READS = Counter(
    "orderplane_order_reads_total",
    "Reads of an order or of a part of a list, by where the answer came from: memory, or api_server.",
    ["source"],
)
_FROM_MEMORY, _FROM_API_SERVER = READS.labels("memory"), READS.labels("api_server")


class OrderApi(Protocol):
    """What is needed of `ApiClient`."""

    async def get(self, kind: Kind, namespace: str, name: str, *, from_cache: bool = False) -> Any: ...
    async def list_page(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        limit: int,
        continue_token: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Page: ...


class OrderReader:
    """See the module.

    Args:
        watch: Fills `held`.
    """

    def __init__(self, api: OrderApi, held: HeldOrders, watch: Reflector) -> None:
        self._api = api
        self._held = held
        self._watch = watch

    async def read(self, caller: Principal, order_id: str) -> OrderDocument:
        """The caller's order. It may lag by a moment, but is never missing.

        Raises:
            Problem: `order_not_found`.
            ApiError: the API server had to be asked, and failed.
        """
        if not self._watch.is_current:
            return await self.read_whole(caller, order_id)
        held = self._held.get((caller.merchant, order_id))
        if held is not None and caller.customer in (None, held.customer):
            _FROM_MEMORY.inc()
            return held.document
        return await self.read_live(caller, order_id)

    async def read_whole(self, caller: Principal, order_id: str) -> OrderDocument:
        """The caller's order with its address, which no memory holds; raises as `read` does."""
        try:
            return await self._read_past_memory(caller, order_id, from_cache=True)
        except Problem:
            # The server's watch cache may lag behind a create that was answered already.
            return await self.read_live(caller, order_id)

    async def read_live(self, caller: Principal, order_id: str) -> OrderDocument:
        """The caller's order as it is now, by a quorum read; raises as `read` does."""
        return await self._read_past_memory(caller, order_id, from_cache=False)

    def chunks(self, caller: Principal, criteria: Criteria) -> ReadChunk:
        """Reads the orders with these criteria that the caller may see, the newest first; those that are not
        in memory come last, by name.

        It raises ApiError where the API server had to be asked and failed.
        """
        if caller.customer is not None:
            criteria = replace(criteria, customer=caller.customer)

        async def read(position: ListPosition, size: int) -> Chunk:
            if self._watch.is_current and not position.is_by_name:
                _FROM_MEMORY.inc()
                return self._held_chunk(caller.merchant, criteria, position, size)
            _FROM_API_SERVER.inc()
            return await self._listed_chunk(caller.merchant, criteria, position, size)

        return read

    def remember(self, document: ResourceDocument | OrderDocument) -> None:
        """Take in the answer to an own write, unless the watch is as far: then it may be outdated."""
        if self._watch.is_current and int(document["metadata"]["resourceVersion"]) > self._watch.seen:
            self._held.store(cast("dict[str, Any]", document))

    async def _read_past_memory(self, caller: Principal, order_id: str, *, from_cache: bool) -> OrderDocument:
        if len(order_id) > MAX_ORDER_NAME or not _NAME.fullmatch(order_id):
            raise order_not_found()
        _FROM_API_SERVER.inc()
        try:
            found = await self._api.get(Kind.ORDER, caller.merchant, order_id, from_cache=from_cache)
        except NotFound:
            raise order_not_found() from None
        order = cast("OrderDocument", found)
        # Another customer's order is "not found": a 403 would tell that it exists.
        if not _may_see(caller, order):
            raise order_not_found()
        return order

    def _held_chunk(self, merchant: str, criteria: Criteria, position: ListPosition, size: int) -> Chunk:
        found = self._held.before(merchant, criteria, position.before)
        orders = list(islice(found, size))
        before = orders[-1].place if orders else position.before
        following: ListPosition | None = ListPosition(before)
        if next(found, None) is None:
            # What had to be dropped is older than what is held.
            following = None if self._held.holds_all_of(merchant) else ListPosition(before, after="")
        return Chunk([order.document for order in orders], following)

    async def _listed_chunk(
        self, merchant: str, criteria: Criteria, position: ListPosition, size: int
    ) -> Chunk:
        begins_anew = position.after and position.continue_token is None
        page = await self._api.list_page(
            Kind.ORDER,
            merchant,
            limit=CHUNK_SIZE if begins_anew else size,
            continue_token=position.continue_token,
            label_selector=_label_selector(merchant, criteria),
            field_selector=_field_selector(criteria),
        )
        orders = cast("list[OrderDocument]", page.items)
        following = None
        if page.continue_token is not None:
            names = [order["metadata"]["name"] for order in orders]
            after = max([position.after or "", *names])
            following = ListPosition(position.before, after, page.continue_token)
        # What the labels select is compared as well: nobody has to trust them.
        theirs = [order for order in orders if criteria.customer in (None, order["spec"]["customer"])]
        return Chunk(theirs, following, is_by_name=True)


def order_not_found() -> Problem:
    """The problem for an order that is not there, or is not the caller's."""
    return Problem("order_not_found", "No order of yours has this id. It is in the answer to the POST.")


def _may_see(caller: Principal, order: OrderDocument) -> bool:
    return caller.customer in (None, order["spec"]["customer"])


def _label_selector(merchant: str, criteria: Criteria) -> str | None:
    if criteria.customer is None:
        return None
    return f"{CUSTOMER_LABEL}={customer_hash(merchant, criteria.customer)}"


def _field_selector(criteria: Criteria) -> str | None:
    fields = (("status.phase", criteria.phase), ("spec.reference", criteria.reference))
    selectors = [f"{name}={_escaped(value)}" for name, value in fields if value is not None]
    if criteria.stalled is not None:
        selectors.append("status.stalled=true" if criteria.stalled else "status.stalled!=true")
    return ",".join(selectors) or None


def _escaped(value: str) -> str:
    """As `fields.EscapeValue` of k8s.io/apimachinery does."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")
