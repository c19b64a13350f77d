"""Routes to reserve stock without an order.

Only the reservation controller changes stock. These routes create or delete a Reservation and read from the
ledger what the controller decided.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from orderplane.adapters.retry import pauses
from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.api_errors import NotFound
from orderplane.crds.defaults import draw_shard, reservation_manifest
from orderplane.crds.documents import Manifest
from orderplane.crds.meta import Kind
from orderplane.crds.reservation import Reservation, ReservationSpec
from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
    IfNoneMatch,
    body_doc,
    keyed_doc,
    protected_docs,
)
from orderplane.gateway.http.problems import Problem, render
from orderplane.gateway.http.responses import idempotent_response, json_response, tagged_response
from orderplane.gateway.idempotent_create import CreateRequest
from orderplane.gateway.inventory import views
from orderplane.gateway.inventory.requests import ReleaseRequest, ReserveRequest
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import Services, ServicesDep
from orderplane.ledgers.postgres.idempotency import IdempotencyKey, StoredResponse
from orderplane.ledgers.postgres.inventory import PostgresInventory, ReservationRecord
from orderplane.ledgers.states import ReservationState
from orderplane.ledgers.stock import HOLD_SECONDS

router = APIRouter(tags=["inventory"])

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_Reader = Annotated[Principal, Depends(allowed(Scope.INVENTORY_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.INVENTORY_WRITE))]
_LOCATION = {"Location": {"description": "The reservation.", "schema": {"type": "string"}}}

IMMUTABLE_FIELDS = ("items", "expiresAt")
"""The fields of the spec that identify a reservation as the requested one."""

DECISION_SECONDS = 2.0
"""How long a request waits for the controller."""

_FIRST_PAUSE, _MAX_PAUSE = 0.02, 0.2


@router.post(
    "/api/inventory/reserve",
    status_code=201,
    summary="Reserve stock",
    responses={
        201: {
            "model": views.ReservationView,
            "description": "The stock is reserved.",
            "headers": {**_LOCATION, **REPLAYED_HEADER},
        },
        202: {
            "model": views.ReservationView,
            "description": "It is not decided yet; read Location.",
            "headers": {**_LOCATION, **REPLAYED_HEADER},
        },
        **protected_docs("out_of_stock", "request_in_progress", "request_expired", "reservation_name_taken",
                         "reservation_refused", "no_namespace", *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("ReserveRequest"),
)  # fmt: skip
async def reserve(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Reserve stock until it is released or its time is over.

    If a request is not answered, repeat it with the same key and body within a day: there will be one
    reservation, and the same answer, byte for byte, also if it was `out_of_stock`.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), ReserveRequest)
    name = idempotency.reservation_name(caller.merchant, caller.name, key)
    outcome = await services.idempotent_create.execute(
        IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key)),
        idempotency.fingerprint(["reserve", body.document]),
        CreateRequest(
            Kind.RESERVATION,
            IMMUTABLE_FIELDS,
            build=partial(_build_reservation, caller.merchant, name, body.request),
            discard=lambda: None,
            respond=partial(_respond, services.inventory, caller.merchant),
        ),
    )
    services.availability.expire(caller.merchant)
    return idempotent_response(outcome, f"/api/inventory/reservations/{name}")


@router.get(
    "/api/inventory/reservations/{reservation_id}",
    summary="Read a reservation",
    responses={
        200: {"model": views.ReservationView},
        304: {"description": "The version of If-None-Match is still current."},
        **protected_docs("reservation_not_found"),
    },
)
async def read_reservation(
    reservation_id: str,
    caller: _Reader,
    services: ServicesDep,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One reservation, also one that is over, belongs to an order, or was created with kubectl."""
    resource, record = await _find(services, caller.merchant, reservation_id)
    return tagged_response(if_none_match, _view(resource, record))


@router.post(
    "/api/inventory/release",
    summary="Release a reservation",
    responses={
        200: {"model": views.ReservationView, "description": "The stock is released."},
        202: {"model": views.ReservationView, "description": "It will be released in a moment."},
        **protected_docs("reservation_not_found", "reservation_of_order", "write_conflict", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("ReleaseRequest"),
)
async def release(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Release reserved stock. Repeating the request has no effect, so it needs no key."""
    check_media_type(request.headers.get("Content-Type"))
    name = read_body(await request.body(), ReleaseRequest).request.reservation
    resource, record = await _find(services, caller.merchant, name)
    view = _view(resource, record)
    if view["order"] is not None:
        raise Problem("reservation_of_order", "The stock is held for an order. Cancel the order instead.")
    if resource is not None:
        uid = resource.metadata.uid
        with suppress(NotFound):  # deleted by another request
            await services.api.delete(Kind.RESERVATION, caller.merchant, name, uid=uid)
        record = await _poll(lambda: services.inventory.reservation_of(caller.merchant, uid), is_over)
        view = _view(resource, record)
        services.availability.expire(caller.merchant)
    return json_response(view, status=200 if is_over(record) else 202)


def response_for(manifest: Manifest, record: ReservationRecord | None) -> StoredResponse:
    """201 if the stock was held, 409 if there was too little, 202 if it is not decided yet. Pure."""
    if record is None:
        spec = ReservationSpec.model_validate(manifest["spec"])
        assert spec.expires_at is not None, "it was asked for by itself"
        view = views.pending_view(manifest["metadata"]["name"], spec, spec.expires_at)
        return StoredResponse(202, orjson.dumps(view).decode())
    if record.state is ReservationState.REJECTED:
        problem = Problem(
            "out_of_stock", f"Nothing was reserved: {record.message}. Request less, with a new key."
        )
        return StoredResponse(409, render(problem)[0].decode())
    return StoredResponse(201, orjson.dumps(views.reservation_view(record)).decode())


def is_over(record: ReservationRecord | None) -> bool:
    """Whether the reservation was decided and holds nothing any more. Pure."""
    return record is not None and record.state not in (
        ReservationState.HELD,
        ReservationState.PINNED,
        ReservationState.COMMITTED,
    )


async def _build_reservation(merchant: str, name: str, request: ReserveRequest) -> Manifest:
    expires_at = datetime.now(UTC) + timedelta(seconds=request.ttl_seconds)
    return reservation_manifest(
        merchant, name, request.items, expires_at, current_traceparent(), draw_shard()
    )


async def _respond(
    inventory: PostgresInventory, merchant: str, uid: str, manifest: Manifest
) -> StoredResponse:
    """The response as soon as the reservation is decided, or after `DECISION_SECONDS`."""
    record = await _poll(lambda: inventory.reservation_of(merchant, uid), lambda record: record is not None)
    return response_for(manifest, record)


async def _poll(
    read: Callable[[], Awaitable[ReservationRecord | None]],
    is_done: Callable[[ReservationRecord | None], bool],
) -> ReservationRecord | None:
    """Read with growing pauses until it is done or `DECISION_SECONDS` are over; gives the last record."""
    deadline, delays = time.monotonic() + DECISION_SECONDS, pauses(_FIRST_PAUSE, _MAX_PAUSE)
    while True:
        record, pause = await read(), next(delays)
        if is_done(record) or time.monotonic() + pause > deadline:
            return record
        await asyncio.sleep(pause)


async def _find(
    services: Services, merchant: str, name: str
) -> tuple[Reservation | None, ReservationRecord | None]:
    """The resource if it still exists, and the ledger's record of it.

    Raises:
        Problem: `reservation_not_found`.
    """
    if not _NAME.fullmatch(name):
        raise _not_found()
    try:
        resource = Reservation.model_validate(await services.api.get(Kind.RESERVATION, merchant, name))
    except NotFound:
        record = await services.inventory.reservation_named(merchant, name)
        if record is None:
            raise _not_found() from None
        return None, record
    reference = resource.spec.order_ref
    holder = reference.uid if reference else resource.metadata.uid
    return resource, await services.inventory.reservation_of(merchant, holder)


def _view(resource: Reservation | None, record: ReservationRecord | None) -> views.ReservationView:
    if record is not None:
        return views.reservation_view(record)
    assert resource is not None
    from_now = resource.metadata.creation_timestamp + timedelta(seconds=HOLD_SECONDS)
    return views.pending_view(resource.metadata.name, resource.spec, resource.spec.expires_at or from_now)


def _not_found() -> Problem:
    return Problem("reservation_not_found", "No reservation has this id. It is in the answer to the POST.")
