"""Reserve stock without an order."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.api_errors import NotFound
from orderplane.crds.defaults import draw_shard, reservation_manifest
from orderplane.crds.meta import Kind
from orderplane.crds.reservation import Reservation, ReservationSpec
from orderplane.gateway import idempotency
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.documentation import (
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    REPLAYED_HEADER,
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
from orderplane.ledgers.gate import ReservationState
from orderplane.ledgers.postgres.idempotency import IdempotencyKey, StoredResponse
from orderplane.ledgers.postgres.inventory import PostgresInventory, ReservationRecord

router = APIRouter(tags=["inventory"])

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_Reader = Annotated[Principal, Depends(allowed(Scope.INVENTORY_READ))]
_Writer = Annotated[Principal, Depends(allowed(Scope.INVENTORY_WRITE))]
_LOCATION = {"Location": {"description": "The reservation.", "schema": {"type": "string"}}}


@router.post(
    "/api/inventory/reserve",
    status_code=201,
    summary="Reserve stock",
    responses={
        201: {
            "model": views.ReservationView,
            "description": "It is kept.",
            "headers": {**_LOCATION, **REPLAYED_HEADER},
        },
        202: {
            "model": views.ReservationView,
            "description": "It is not decided yet: look at Location.",
            "headers": {**_LOCATION, **REPLAYED_HEADER},
        },
        **protected_docs("out_of_stock", "request_in_progress", "reservation_name_taken",
                       "reservation_refused",
                       *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("ReserveRequest"),
)  # fmt: skip
async def reserve(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Keep stock until it is released, or its time is over.

    Repeat a request that was not answered with the same key and body: there will be one reservation, and the
    answer is the same, byte for byte, also where it was `out_of_stock`.
    """
    key = idempotency.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), ReserveRequest)
    name = idempotency.reservation_name(caller.merchant, caller.name, key)
    answered = await services.idempotent_create.accept(
        IdempotencyKey(caller.merchant, caller.name, idempotency.hash_key(key)),
        idempotency.fingerprint(["reserve", body.document]),
        CreateRequest(
            Kind.RESERVATION,
            IMMUTABLE,
            write=partial(write, caller.merchant, name, body.request),
            drop=lambda: None,
            answer=partial(answer, services.inventory, caller.merchant),
        ),
    )
    return idempotent_response(answered, f"/api/inventory/reservations/{name}")


@router.get(
    "/api/inventory/reservations/{reservation_id}",
    summary="Read a reservation",
    responses={
        200: {"model": views.ReservationView},
        304: {"description": "It is still as it was at If-None-Match."},
        **protected_docs("reservation_not_found"),
    },
)
async def read_reservation(
    reservation_id: str,
    caller: _Reader,
    services: ServicesDep,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One reservation, also one that is over, one of an order, or one that was made with kubectl."""
    resource, kept = await _look(services, caller.merchant, reservation_id)
    return tagged_response(if_none_match, _view(resource, kept))


@router.post(
    "/api/inventory/release",
    summary="Release a reservation",
    responses={
        200: {"model": views.ReservationView, "description": "Nothing is kept any more."},
        202: {"model": views.ReservationView, "description": "It will be given back in a moment."},
        **protected_docs("reservation_not_found", "reservation_of_order", "write_conflict", *BODY_PROBLEMS),
    },
    openapi_extra=body_doc("ReleaseRequest"),
)
async def release(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Give back what a reservation keeps; asking twice is asking once, and needs no key."""
    check_media_type(request.headers.get("Content-Type"))
    name = read_body(await request.body(), ReleaseRequest).request.reservation
    resource, kept = await _look(services, caller.merchant, name)
    view = _view(resource, kept)
    if view["order"] is not None:
        raise Problem("reservation_of_order", "The stock is kept for an order. Cancel the order instead.")
    if resource is not None:
        uid = resource.metadata.uid
        with suppress(NotFound):  # somebody was faster
            await services.api.delete(Kind.RESERVATION, caller.merchant, name, uid=uid)
        kept = await patiently(
            lambda: services.inventory.reservation_of(caller.merchant, uid),
            is_over,
        )
        view = _view(resource, kept)
    return json_response(view, status=200 if is_over(kept) else 202)


async def _look(
    services: Services, merchant: str, name: str
) -> tuple[Reservation | None, ReservationRecord | None]:
    """The resource, while there is one, and what the ledger says of it.

    Raises:
        Problem: `reservation_not_found`.
    """
    if not _NAME.fullmatch(name):
        raise _not_found()
    try:
        resource = Reservation.model_validate(await services.api.get(Kind.RESERVATION, merchant, name))
    except NotFound:
        kept = await services.inventory.reservation_named(merchant, name)
        if kept is None:
            raise _not_found() from None
        return None, kept
    reference = resource.spec.order_ref
    holder = reference.uid if reference else resource.metadata.uid
    return resource, await services.inventory.reservation_of(merchant, holder)


def _view(resource: Reservation | None, kept: ReservationRecord | None) -> views.ReservationView:
    if kept is not None:
        return views.reservation_view(kept)
    assert resource is not None
    return views.pending_view(resource.metadata.name, resource.spec)


def _not_found() -> Problem:
    return Problem("reservation_not_found", "No reservation has this id. It is in the answer to the POST.")


Json = dict[str, Any]

IMMUTABLE = ("items", "expiresAt")
"""The fields of the spec by which a reservation is known to be the one that was asked for."""

PATIENCE = 2.0
"""Seconds that a request waits for the controllers."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.2


async def write(merchant: str, name: str, request: ReserveRequest) -> Json:
    """The manifest of the reservation `name`; its time begins now."""
    expires_at = datetime.now(UTC) + timedelta(seconds=request.ttl_seconds)
    return reservation_manifest(
        merchant, name, request.items, expires_at, current_traceparent(), draw_shard()
    )


async def answer(inventory: PostgresInventory, merchant: str, uid: str, manifest: Json) -> StoredResponse:
    """What to say of the reservation that was made, as soon as it is decided or it was waited long enough."""
    kept = await patiently(lambda: inventory.reservation_of(merchant, uid), lambda kept: kept is not None)
    return answer_of(manifest, kept)


def answer_of(manifest: Json, kept: ReservationRecord | None) -> StoredResponse:
    """201 where the stock was kept, 409 where there was too little, 202 where nobody knows yet. Pure."""
    if kept is None:
        spec = ReservationSpec.model_validate(manifest["spec"])
        view = views.pending_view(manifest["metadata"]["name"], spec)
        return StoredResponse(202, orjson.dumps(view).decode())
    if kept.state is ReservationState.REJECTED:
        problem = Problem("out_of_stock", f"Nothing is kept: {kept.message}. Ask for less, with a new key.")
        return StoredResponse(409, render(problem)[0].decode())
    return StoredResponse(201, orjson.dumps(views.reservation_view(kept)).decode())


def is_over(kept: ReservationRecord | None) -> bool:
    """Whether it was decided, and nothing is kept any more."""
    return kept is not None and kept.state not in (
        ReservationState.HELD,
        ReservationState.PINNED,
        ReservationState.COMMITTED,
    )


async def patiently(
    look: Callable[[], Awaitable[ReservationRecord | None]],
    is_enough: Callable[[ReservationRecord | None], bool],
) -> ReservationRecord | None:
    """Look ever more slowly until it is enough, or PATIENCE is over; answers what was seen last."""
    deadline, pause = time.monotonic() + PATIENCE, _FIRST_PAUSE
    while True:
        kept = await look()
        if is_enough(kept) or time.monotonic() + pause > deadline:
            return kept
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
