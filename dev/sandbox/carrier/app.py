"""The routes of the carrier sandbox."""

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import orjson
from aiohttp import web

from orderplane.dev.sandbox.carrier import shipments
from orderplane.dev.sandbox.carrier.shipments import (
    Batch,
    CarrierRefusal,
    Pickup,
    Shipment,
    Timing,
)
from orderplane.dev.sandbox.carrier.wire import (
    Dialect,
    answer,
    batch_document,
    error,
    pickup_document,
    shipment_document,
    tracker_document,
)
from orderplane.dev.sandbox.exchange import NO_REPLY, Exchange, Handler, Operation, Reply, Surface
from orderplane.dev.sandbox.store import Store, Table

T = TypeVar("T")

_MAX_TRACKERS = 100


class NotFound(LookupError):  # noqa: N818 - a verdict
    """No such object."""


class InvalidParameter(ValueError):  # noqa: N818
    """A parameter is missing or wrong; its message says which."""


class Carrier:
    """Shipments, labels and pickups of one account: an operation for each route."""

    def __init__(self, store: Store, timing: Timing) -> None:
        self._timing = timing
        self._shipments = store.table("shipment", shipments.read_shipment)
        self._batches = store.table("batch", shipments.read_batch)
        self._pickups = store.table("pickup", shipments.read_pickup)
        self._failed_once = store.table("stumble", dict)
        self._by_code = {s.tracking_code: s.id for s in self._shipments.values()}
        self._by_tracker = {s.tracker_id: s.id for s in self._shipments.values()}

    async def create(self, _: web.Request, body: bytes) -> Reply:
        """POST /v2/shipments"""
        given = _object(_document(body), "shipment")
        to_address, from_address = _object(given, "to_address"), _object(given, "from_address")
        parcel = _object(given, "parcel")
        if not isinstance(parcel.get("weight"), int | float) or parcel["weight"] <= 0:
            raise InvalidParameter("shipment.parcel.weight has to be above 0")
        shipment = Shipment(
            id=f"shp_{secrets.token_hex(16)}",
            created=time.time(),
            reference=given.get("reference"),
            to_address=to_address,
            from_address=from_address,
            parcel=parcel,
            options=given.get("options") or {},
        )
        shipments.check_address(shipment.street)
        if "Bottle" in shipment.street and self._fails_first_time(shipment.reference or ""):
            return Dialect().broken()
        self._by_code[shipment.tracking_code] = self._by_tracker[shipment.tracker_id] = shipment.id
        return self._store(shipment, 201)

    async def buy(self, request: web.Request, body: bytes) -> Reply:
        """POST /v2/shipments/{id}/buy"""
        shipment = _found(self._shipments, request)
        rate = _object(_document(body), "rate")
        is_first = shipment.buys == 0
        if "Fog" in shipment.street and is_first:
            self._shipments.put(shipment.id, shipments.count_attempt(shipment))
            return NO_REPLY
        reply = self._store(shipments.buy(shipment, str(rate.get("id")), time.time()))
        if "Ferry" in shipment.street and is_first:
            return Reply(reply.status, reply.body, is_never_sent=True)
        return reply

    async def void(self, request: web.Request, _: bytes) -> Reply:
        """POST /v2/shipments/{id}/refund"""
        return self._store(shipments.void(_found(self._shipments, request), time.time(), self._timing))

    async def shipment(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/shipments/{id}"""
        return answer(shipment_document(_found(self._shipments, request), time.time(), self._timing))

    async def shipments(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/shipments: bought ones only, unless asked with `purchased=false`."""
        is_everything = request.query.get("purchased", "true").lower() == "false"
        now = time.time()
        return _page(
            "shipments",
            self._shipments,
            request,
            lambda s: is_everything or s.bought is not None,
            lambda s: shipment_document(s, now, self._timing),
        )

    async def tracker(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/trackers/{id}"""
        found = self._bought(self._by_tracker.get(request.match_info["id"]))
        if found is None:
            raise NotFound
        return answer(tracker_document(found, time.time(), self._timing))

    async def trackers(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/trackers"""
        codes = set(request.query.getall("tracking_codes[]", []))
        codes |= set(request.query.getall("tracking_code", []))
        now = time.time()
        return _page(
            "trackers",
            self._shipments,
            request,
            lambda s: s.bought is not None and (not codes or s.tracking_code in codes),
            lambda s: tracker_document(s, now, self._timing),
            before=self._by_tracker.get(request.query.get("before_id", "")),
        )

    async def tracker_batch(self, _: web.Request, body: bytes) -> Reply:
        """POST /v2/trackers/batch: the trackers of up to 100 codes, in one call."""
        codes = _document(body).get("tracking_codes")
        if not isinstance(codes, list) or not 1 <= len(codes) <= _MAX_TRACKERS:
            raise InvalidParameter(f"tracking_codes has to be a list of 1 to {_MAX_TRACKERS}")
        now = time.time()
        found = (self._bought(self._by_code.get(str(code))) for code in codes)
        documents = [tracker_document(s, now, self._timing) for s in found if s is not None]
        return answer({"trackers": documents, "has_more": False})

    async def create_batch(self, _: web.Request, body: bytes) -> Reply:
        """POST /v2/batches"""
        given = _object(_document(body), "batch")
        batch = Batch(
            id=f"batch_{secrets.token_hex(16)}",
            created=time.time(),
            reference=given.get("reference"),
            shipments=self._known(given.get("shipments") or ()),
        )
        return answer(batch_document(self._batches.put(batch.id, batch)), 201)

    async def batch(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/batches/{id}"""
        return answer(batch_document(_found(self._batches, request)))

    async def create_pickup(self, _: web.Request, body: bytes) -> Reply:
        """POST /v2/pickups"""
        given = _object(_document(body), "pickup")
        _object(given, "address")
        pickup = Pickup(
            id=f"pickup_{secrets.token_hex(16)}",
            created=time.time(),
            reference=given.get("reference"),
            shipments=self._to_collect(given),
            window=(_text(given, "min_datetime"), _text(given, "max_datetime")),
        )
        return answer(pickup_document(self._pickups.put(pickup.id, pickup)), 201)

    async def buy_pickup(self, request: web.Request, body: bytes) -> Reply:
        """POST /v2/pickups/{id}/buy"""
        given = _document(body)
        booked = shipments.book(
            _found(self._pickups, request), _text(given, "carrier"), _text(given, "service")
        )
        return answer(pickup_document(self._pickups.put(booked.id, booked)))

    async def pickup(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/pickups/{id}"""
        return answer(pickup_document(_found(self._pickups, request)))

    async def pickup_page(self, request: web.Request, _: bytes) -> Reply:
        """GET /v2/pickups"""
        return _page("pickups", self._pickups, request, lambda _: True, pickup_document)

    def scan(self, body: bytes) -> object:
        """Force a tracker's state: `{"tracking_code", "status"}`. Raises ValueError, LookupError."""
        given = _document(body)
        shipment = self._bought(self._by_code.get(_text(given, "tracking_code")))
        if shipment is None:
            raise LookupError("no label has this tracking_code")
        now = time.time()
        shipment = shipments.scan(shipment, _text(given, "status"), now)
        return tracker_document(self._shipments.put(shipment.id, shipment), now, self._timing)

    def _store(self, shipment: Shipment, status: int = 200) -> Reply:
        self._shipments.put(shipment.id, shipment)
        return answer(shipment_document(shipment, time.time(), self._timing), status)

    def _bought(self, id_: str | None) -> Shipment | None:
        shipment = self._shipments.get(id_) if id_ else None
        return shipment if shipment is not None and shipment.bought is not None else None

    def _known(self, given: Iterable[Any]) -> tuple[str, ...]:
        ids = tuple(str(one.get("id")) if isinstance(one, dict) else str(one) for one in given)
        if not ids:
            raise InvalidParameter("there has to be at least one shipment")
        if any(self._shipments.get(id_) is None for id_ in ids):
            raise NotFound
        return ids

    def _to_collect(self, given: dict[str, Any]) -> tuple[str, ...]:
        if "batch" in given:
            batch = self._batches.get(str(_object(given, "batch").get("id")))
            if batch is None:
                raise NotFound
            ids = batch.shipments
        else:
            ids = self._known([_object(given, "shipment")])
        if any(self._bought(id_) is None for id_ in ids):
            raise CarrierRefusal("PICKUP.SHIPMENT.INVALID", "A shipment of this pickup has no label.")
        return ids

    def _fails_first_time(self, reference: str) -> bool:
        is_first = self._failed_once.get(reference) is None
        self._failed_once.put(reference, {})
        return is_first


def build(key: str, store: Store, timing: Timing) -> Surface:
    """All routes. `key` is the API key."""
    carrier = Carrier(store, timing)
    exchange = Exchange(key, store, Dialect())
    app = web.Application()
    add: dict[str, Callable[..., object]] = {"GET": app.router.add_get, "POST": app.router.add_post}
    for verb, path, operation in (
        ("POST", "/v2/shipments", carrier.create),
        ("GET", "/v2/shipments", carrier.shipments),
        ("GET", "/v2/shipments/{id}", carrier.shipment),
        ("POST", "/v2/shipments/{id}/buy", carrier.buy),
        ("POST", "/v2/shipments/{id}/refund", carrier.void),
        ("POST", "/v2/trackers/batch", carrier.tracker_batch),
        ("GET", "/v2/trackers", carrier.trackers),
        ("GET", "/v2/trackers/{id}", carrier.tracker),
        ("POST", "/v2/batches", carrier.create_batch),
        ("GET", "/v2/batches/{id}", carrier.batch),
        ("POST", "/v2/pickups", carrier.create_pickup),
        ("GET", "/v2/pickups", carrier.pickup_page),
        ("GET", "/v2/pickups/{id}", carrier.pickup),
        ("POST", "/v2/pickups/{id}/buy", carrier.buy_pickup),
    ):
        add[verb](path, _with_errors(exchange, operation))
    exchange.add_control(app)
    app.router.add_post("/_sandbox/scan", exchange.control(carrier.scan))
    return Surface(app, exchange)


def _with_errors(exchange: Exchange, operation: Operation) -> Handler:
    async def refusing(request: web.Request, body: bytes) -> Reply:
        try:
            return await operation(request, body)
        except CarrierRefusal as problem:
            return error(422, problem.code, str(problem))
        except NotFound:
            return error(404, "NOT_FOUND", "The requested resource could not be found.")
        except InvalidParameter as problem:
            return error(422, "PARAMETER.INVALID", str(problem))

    return exchange.serve(refusing)


def _page(
    name: str,
    table: Table[T],
    request: web.Request,
    where: Callable[[T], bool],
    document: Callable[[T], dict[str, Any]],
    before: str | None = None,
) -> Reply:
    try:
        limit = min(100, max(1, int(request.query.get("page_size", "20"))))
        rows, has_more = table.page(limit, before or request.query.get("before_id"), where)
    except ValueError as problem:
        raise InvalidParameter("page_size has to be a whole number") from problem
    except KeyError as problem:
        raise NotFound from problem
    return answer({name: [document(row) for row in rows], "has_more": has_more})


def _found(table: Table[T], request: web.Request) -> T:
    row = table.get(request.match_info["id"])
    if row is None:
        raise NotFound
    return row


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as problem:
        raise InvalidParameter("the body is not JSON") from problem
    if not isinstance(document, dict):
        raise InvalidParameter("the body has to be a JSON object")
    return document


def _object(document: dict[str, Any], name: str) -> dict[str, Any]:
    value = document.get(name)
    if not isinstance(value, dict):
        raise InvalidParameter(f"{name} has to be given, as an object")
    return value


def _text(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidParameter(f"{name} has to be given, as a text")
    return value
