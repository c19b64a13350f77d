"""The simulation's API server, with lists and watches as the real one has them, and front doors before it."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any

from orderplane.adapters.kubernetes.client import Page
from orderplane.adapters.kubernetes.reflector import Reflector
from orderplane.crds.api_errors import ApiError, EtcdRestored, Gone, NotFound, Unavailable
from orderplane.crds.defaults import customer_hash
from orderplane.crds.meta import CUSTOMER_LABEL, Kind
from orderplane.gateway.orders.held_orders import Criteria, HeldOrders
from orderplane.gateway.orders.listing import ListPosition, OrderFilter, filtered_page, place_of
from orderplane.gateway.orders.order_changes import OrderChanges
from orderplane.gateway.orders.order_feed import OrderFeed
from orderplane.gateway.orders.order_reader import OrderReader
from orderplane.gateway.principal import Principal, Role
from orderplane.ledgers.postgres.archived_lists import ArchiveCriteria

from ...controllers.builders import an_order
from ...simulation.world.api_server import ApiServer, Backup

Json = dict[str, Any]
SHOP = "shop"
ALL = Criteria()


def version_of(document: Json) -> int:
    return int(document["metadata"]["resourceVersion"])


class WatchedServer:
    """Implements what `Reflector` and `OrderReader` need of `ApiClient`."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.api = ApiServer(Random(1), lambda: self.at)
        self.api._version = 5000  # so that a watch can begin long before a list
        self.oldest_watch = 0
        self.tells_oldest = True
        self.events_per_watch = 1000
        self.is_cut = self.is_away = False
        self.reads = 0
        self.archived: list[Json] = []
        self.restarts = 0
        self._snapshots: dict[int, list[Json]] = {}

    # What others do

    def place(self, name: str, customer: str, merchant: str = SHOP, **spec: Any) -> Json:
        body = an_order(customer=customer).model_dump(mode="json", by_alias=True)
        body["spec"] |= spec
        labels = {CUSTOMER_LABEL: customer_hash(merchant, customer)}
        body["metadata"] = {"name": name, "labels": labels, "finalizers": ["a"], "managedFields": ["x" * 99]}
        return self.api.make(Kind.ORDER, merchant, body)

    def report(self, name: str, phase: str, **status: Any) -> None:
        key = Kind.ORDER, SHOP, name
        known = self.api.objects[key]
        self.api._store(key, {**known, "status": {"phase": phase, **status}}, "MODIFIED")

    def delete(self, name: str) -> None:
        key = Kind.ORDER, SHOP, name
        self.api.mark_deleted(key)
        self.api.strip_finalizers(key)

    def leave(self, name: str) -> None:
        """As the operator does: first it is in the archive, then it is nowhere else."""
        document = self.api.objects[Kind.ORDER, SHOP, name]
        metadata = {**document["metadata"], "resourceVersion": f"{version_of(document)}-1"}
        self.archived = [order for order in self.archived if order["metadata"]["uid"] != metadata["uid"]]
        self.archived.append({**document, "metadata": metadata})
        self.delete(name)

    def by_time(self, customer: str | None, phase: str | None, held: set[str]) -> list[str]:
        """Of those that are held and those that have left, the newest first."""
        live = [order for order in self._all() if order["metadata"]["name"] in held]
        alive = {order["metadata"]["uid"] for order in live}
        left = [order for order in self.archived if order["metadata"]["uid"] not in alive]
        found = self._matching([*live, *left], SHOP, customer, phase)
        return [name for name, _ in sorted(found, key=lambda one: place_of(one[1]), reverse=True)]

    def compact(self) -> None:
        """Forget all events, and the moments of lists that are under way."""
        self.oldest_watch = self.api._version
        self._snapshots.clear()

    def restore(self, backup: Backup) -> None:
        self.restarts += 1
        self.api.restore(backup)
        self.api.events = [event for event in self.api.events if version_of(event[2]) <= backup[0]]
        self._snapshots.clear()
        self.oldest_watch = min(self.oldest_watch, backup[0])

    def names(self, customer: str | None = None, phase: str | None = None) -> list[str]:
        """Those of the shop, the newest first."""
        found = self._matching(self._all(), SHOP, customer, phase)
        return [name for name, _ in sorted(found, key=lambda one: place_of(one[1]), reverse=True)]

    # ApiClient

    async def get(self, kind: Kind, namespace: str, name: str, *, from_cache: bool = False) -> Any:
        self._check_reachable()
        self.reads += 1
        found = self.api.objects.get((kind, namespace, name))
        if found is None:
            raise NotFound(404, "NotFound", name)
        return found

    async def list_page(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        limit: int,
        continue_token: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Page:
        self._check_reachable()
        version, after = self.api._version, ""
        if continue_token:
            number, _, after = continue_token.partition(":")
            version = int(number)
        elif version not in self._snapshots:
            self._snapshots[version] = self._all()
        if version not in self._snapshots:
            raise Gone(410, "Expired", "the token is too old")
        rest = [
            document
            for document in self._snapshots[version]
            if namespace in (None, document["metadata"]["namespace"])
            and (
                not label_selector or label_selector.split("=")[1] in document["metadata"]["labels"].values()
            )
            and _is_selected(document, field_selector)
            and self._place_of(document) > after
        ]
        metadata: Json = {"resourceVersion": str(version)}
        if len(rest) > limit:
            metadata["continue"] = f"{version}:{self._place_of(rest[limit - 1])}"
        return Page({"items": rest[:limit], "metadata": metadata})

    @asynccontextmanager
    async def watch(self, kind: Kind, *, since: int, seconds: int) -> AsyncIterator[AsyncIterator[Json]]:
        self._check_reachable()
        if since < self.oldest_watch:
            oldest = f": {since} ({self.oldest_watch})" if self.tells_oldest else ""
            raise Gone(410, "Expired", f"too old resource version{oldest}")
        yield self._events(since)

    async def _events(self, since: int) -> AsyncIterator[Json]:
        # As the real one: what is not newer is left out, whatever history it belongs to.
        following = [event for event in self.api.events if version_of(event[2]) > since]
        for _, type_, document in following[: self.events_per_watch]:
            yield {"type": type_, "object": document}
        if self.is_cut:
            raise Unavailable(0, "NoAnswer", "cut")
        if len(following) <= self.events_per_watch and self.api._version > since:
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self.api._version)}}}

    def _check_reachable(self) -> None:
        if self.is_away:
            raise Unavailable(0, "NoAnswer", "away")

    def _all(self) -> list[Json]:
        return sorted(self.api.listed(Kind.ORDER)[0], key=self._place_of)

    @staticmethod
    def _place_of(document: Json) -> str:
        return f"{document['metadata']['namespace']}/{document['metadata']['name']}"

    @staticmethod
    def _matching(
        documents: list[Json], merchant: str, customer: str | None, phase: str | None
    ) -> list[tuple[str, Json]]:
        return [
            (document["metadata"]["name"], document)
            for document in documents
            if document["metadata"]["namespace"] == merchant
            and customer in (None, document["spec"]["customer"])
            and phase in (None, document["status"]["phase"])
        ]


def _is_selected(document: Json, field_selector: str | None) -> bool:
    for field in field_selector.split(",") if field_selector else ():
        path, _, wanted = field.partition("=")
        part, name = path.removesuffix("!").split(".")
        value = document.get(part, {}).get(name, "")
        is_equal = (str(value).lower() if isinstance(value, bool) else value) == wanted
        if is_equal == path.endswith("!"):
            return False
    return True


class Connection:
    """What a watch has of the server; it breaks when the server starts again."""

    def __init__(self, server: WatchedServer) -> None:
        self._server = server
        self._restarts = server.restarts

    async def list_page(self, kind: Kind, *, limit: int, continue_token: str | None = None) -> Page:
        self._check()
        return await self._server.list_page(kind, limit=limit, continue_token=continue_token)

    def watch(
        self, kind: Kind, *, since: int, seconds: int
    ) -> AbstractAsyncContextManager[AsyncIterator[Json]]:
        self._check()
        return self._server.watch(kind, since=since, seconds=seconds)

    def _check(self) -> None:
        if self._restarts != self._server.restarts:
            self._restarts = self._server.restarts
            raise Unavailable(0, "NoAnswer", "the server has started again")


class Archive:
    """Implements what `OrderReader` needs of `PostgresArchivedLists`."""

    def __init__(self, server: WatchedServer) -> None:
        self._server = server

    async def get(self, merchant: str, name: str) -> Json | None:
        found = [order for order in self._server.archived if order["metadata"]["name"] == name]
        return max(found, key=place_of) if found and merchant == SHOP else None  # type: ignore[arg-type]

    async def page(
        self, merchant: str, criteria: ArchiveCriteria, before: tuple[datetime, str] | None, limit: int
    ) -> list[Any]:
        orders = [order for order in self._server.archived if merchant == SHOP]
        if criteria.customer is not None:
            orders = [order for order in orders if order["spec"]["customer"] == criteria.customer]
        elif criteria.phase is not None:
            orders = [order for order in orders if order["status"]["phase"] == criteria.phase]

        def place(order: Json) -> tuple[datetime, str]:
            metadata = order["metadata"]
            return datetime.fromisoformat(metadata["creationTimestamp"]), metadata["name"]

        newest_first = sorted(orders, key=place, reverse=True)
        return [order for order in newest_first if before is None or place(order) < before][:limit]


class FrontDoor:
    """One process of the gateway: what it holds, its watch, and reads by callers."""

    def __init__(self, server: WatchedServer, most: int = 1000, most_change_bytes: int = 1_000_000) -> None:
        self.now = 1000.0
        self.held = HeldOrders(most, lambda: self.now)
        self.feed = OrderFeed(self.held, OrderChanges(most_change_bytes))
        self.watch = Reflector(Connection(server), Kind.ORDER, self.held, lambda: self.now, self.feed)
        self.reader = OrderReader(server, self.held, self.watch, Archive(server))

    async def turn(self) -> None:
        """One list where it is due, and one watch; twice where the first one failed."""
        for _ in range(2):
            try:
                await self.watch.follow_once()
            except (ApiError, EtcdRestored) as problem:
                self.watch.note_failure(problem)
            else:
                return

    async def names(
        self,
        caller: Principal,
        criteria: Criteria = ALL,
        limit: int = 2,
        order_filter: OrderFilter | None = None,
    ) -> list[str]:
        """The names on all pages."""
        names: list[str] = []
        position: ListPosition | None = ListPosition()
        order_filter = order_filter or OrderFilter()
        while position is not None:
            read = self.reader.chunks(caller, criteria, order_filter)
            page, position = await filtered_page(read, order_filter, limit, position)
            names += [order["metadata"]["name"] for order in page]
        return names


SELLER = Principal(SHOP, "u-seller", Role.MERCHANT)


def customer(name: str, merchant: str = SHOP) -> Principal:
    return Principal(merchant, name)
