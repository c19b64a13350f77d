"""Read the orders that a caller may see: from memory while a watch keeps it up to date, or else from the API
server. What is not in memory is looked for there, so an order is found on each replica as soon as one has
accepted it; and then in the archive, which has it before it leaves the API server.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
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
from orderplane.gateway.orders.listing import (
    CHUNK_SIZE,
    NEWEST,
    Chunk,
    ListPosition,
    OrderFilter,
    Place,
    ReadChunk,
    place_of,
)
from orderplane.gateway.principal import Principal
from orderplane.ledgers.postgres.archived_lists import ArchiveCriteria

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,48}[a-z0-9])?")

READS = Counter(
    "orderplane_order_reads_total",
    "Reads of an order or of a part of a list, by where the answer came from: memory, api_server or archive.",
    ["source"],
)
_FROM_MEMORY, _FROM_API_SERVER, _FROM_ARCHIVE = (
    READS.labels(source) for source in ("memory", "api_server", "archive")
)


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


class ArchivedOrders(Protocol):
    """What is needed of `PostgresArchivedLists`."""

    async def get(self, merchant: str, name: str) -> Mapping[str, Any] | None: ...
    async def page(
        self, merchant: str, criteria: ArchiveCriteria, before: tuple[datetime, str] | None, limit: int
    ) -> list[Mapping[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class FoundOrder:
    """An order, and whether it is in the archive only."""

    document: OrderDocument
    has_left: bool


class OrderReader:
    """See the module.

    Args:
        watch: Fills `held`.
    """

    def __init__(self, api: OrderApi, held: HeldOrders, watch: Reflector, archive: ArchivedOrders) -> None:
        self._api = api
        self._held = held
        self._watch = watch
        self._archive = archive

    async def read(self, caller: Principal, order_id: str) -> OrderDocument:
        """The caller's order. It may lag by a moment, but is never missing.

        Raises:
            Problem: `order_not_found`.
            ApiError: the API server had to be asked, and failed.
            Transient: the archive had to be asked, and failed.
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
        _check_name(order_id)
        # The server's watch cache may lag behind a create that was answered already.
        found = await self._get(caller, order_id, from_cache=True)
        return found if found is not None else await self.read_live(caller, order_id)

    async def read_live(self, caller: Principal, order_id: str) -> OrderDocument:
        """The caller's order as it is now, by a quorum read, wherever it is; raises as `read` does."""
        return (await self.find(caller, order_id)).document

    async def find(self, caller: Principal, order_id: str) -> FoundOrder:
        """As `read_live`, and where it is."""
        _check_name(order_id)
        if (live := await self._get(caller, order_id, from_cache=False)) is not None:
            return FoundOrder(live, has_left=False)
        _FROM_ARCHIVE.inc()
        archived = await self._archive.get(caller.merchant, order_id)
        if archived is not None:
            # It was archived before it left, so there is nothing in between.
            order = cast("OrderDocument", archived)
            if _may_see(caller, order):
                return FoundOrder(order, has_left=True)
        raise order_not_found()

    def chunks(self, caller: Principal, criteria: Criteria, order_filter: OrderFilter) -> ReadChunk:
        """Reads the orders with these criteria that the caller may see, the newest first; those that are in
        the API server and not in memory come last, by name, or first while there is no memory.

        It raises ApiError or Transient where the API server or the archive had to be asked and failed.

        Args:
            order_filter: Saves reading what it leaves out of the archive; the caller applies it.
        """
        if caller.customer is not None:
            criteria = replace(criteria, customer=caller.customer)
        merchant = caller.merchant
        wanted = ArchiveCriteria(
            criteria.reference, criteria.customer, order_filter.sku, criteria.phase,
            order_filter.since, order_filter.until,
        )  # fmt: skip

        async def read(position: ListPosition, size: int) -> Chunk:
            if position.is_by_name:
                _FROM_API_SERVER.inc()
                return await self._listed_chunk(merchant, criteria, position, size)
            if position.archived is not None:
                return await self._archived_chunk(merchant, criteria, wanted, position.archived, size)
            if not self._watch.is_current:
                _FROM_API_SERVER.inc()
                by_name = replace(
                    position, before=position.live, after="", archived=position.before or NEWEST
                )
                return await self._listed_chunk(merchant, criteria, by_name, size)
            _FROM_MEMORY.inc()
            return await self._merged_chunk(merchant, criteria, wanted, position, size)

        return read

    def remember(self, document: ResourceDocument | OrderDocument) -> None:
        """Take in the answer to an own write, unless the watch is as far: then it may be outdated."""
        if self._watch.is_current and int(document["metadata"]["resourceVersion"]) > self._watch.seen:
            self._held.store(cast("dict[str, Any]", document))

    async def _get(self, caller: Principal, order_id: str, *, from_cache: bool) -> OrderDocument | None:
        """The order in the API server; None where there is none.

        Raises:
            Problem: `order_not_found`: it is another customer's. A 403 would tell that it exists.
        """
        _FROM_API_SERVER.inc()
        try:
            found = await self._api.get(Kind.ORDER, caller.merchant, order_id, from_cache=from_cache)
        except NotFound:
            return None
        order = cast("OrderDocument", found)
        if not _may_see(caller, order):
            raise order_not_found()
        return order

    async def _merged_chunk(
        self, merchant: str, criteria: Criteria, wanted: ArchiveCriteria, position: ListPosition, size: int
    ) -> Chunk:
        """From memory and the archive. Memory is read first: what leaves it is in the archive by then."""
        found = self._held.before(merchant, criteria, position.before)
        held = list(islice(found, size))
        has_more_held = next(found, None) is not None
        rows = await self._page(merchant, criteria, wanted, position.before, size)
        archived = [order for order in rows if not self._is_live(merchant, order) and criteria.matches(order)]
        # Each was read down to some place; what comes after the nearer of the two waits for the next chunk.
        ends = [held[-1].place] if has_more_held else []
        ends += [place_of(rows[-1])] if len(rows) == size else []
        end = max(ends, default=("", ""))
        shown = {order.uid: order.document for order in held if order.place >= end}
        live = min((order.place for order in held if order.place >= end), default=position.live)
        from_archive = {
            order["metadata"]["uid"]: order
            for order in archived
            if place_of(order) >= end and order["metadata"]["uid"] not in shown
        }
        following: ListPosition | None = None
        if ends:
            following = ListPosition(end, live=live)
        elif not self._held.holds_all_of(merchant):
            # What had to be dropped is older than what is held.
            following = ListPosition(live, after="")
        orders = sorted((*shown.values(), *from_archive.values()), key=place_of, reverse=True)
        return Chunk(orders, position, following, frozenset(from_archive))

    async def _archived_chunk(
        self, merchant: str, criteria: Criteria, wanted: ArchiveCriteria, before: Place, size: int
    ) -> Chunk:
        """What is in the archive only, after a list by name."""
        _FROM_ARCHIVE.inc()
        documents = await self._page(merchant, criteria, wanted, before, size)
        orders = [
            order for order in documents if not self._is_live(merchant, order) and criteria.matches(order)
        ]
        following = ListPosition(archived=place_of(documents[-1])) if len(documents) == size else None
        return Chunk(orders, ListPosition(archived=before), following)

    async def _page(
        self, merchant: str, criteria: Criteria, wanted: ArchiveCriteria, before: Place | None, size: int
    ) -> list[OrderDocument]:
        if criteria.stalled:
            # What waits for a person does not leave.
            return []
        return cast("list[OrderDocument]", await self._archive.page(merchant, wanted, _moment(before), size))

    def _is_live(self, merchant: str, order: OrderDocument) -> bool:
        """Whether an archived order is still in the API server, as far as memory knows: that one is shown."""
        held = self._held.get((merchant, order["metadata"]["name"]))
        return self._watch.is_current and held is not None and held.uid == order["metadata"]["uid"]

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
        following = ListPosition(archived=position.archived) if position.archived is not None else None
        if page.continue_token is not None:
            names = [order["metadata"]["name"] for order in orders]
            after = max([position.after or "", *names])
            following = replace(position, after=after, continue_token=page.continue_token)
        # What the labels select is compared as well: nobody has to trust them.
        theirs = [order for order in orders if criteria.matches(order)]
        return Chunk(theirs, position, following)


def order_not_found() -> Problem:
    """The problem for an order that is not there, or is not the caller's."""
    return Problem("order_not_found", "No order of yours has this id. It is in the answer to the POST.")


def _check_name(order_id: str) -> None:
    """Ask nobody for what cannot be the name of an order.

    Raises:
        Problem: `order_not_found`.
    """
    if len(order_id) > MAX_ORDER_NAME or not _NAME.fullmatch(order_id):
        raise order_not_found()


def _moment(place: Place | None) -> tuple[datetime, str] | None:
    """A place as PostgreSQL compares it."""
    return (datetime.fromisoformat(place[0]), place[1]) if place not in (None, NEWEST) else None


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
