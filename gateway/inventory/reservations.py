"""Stock that is kept for somebody who has not ordered yet."""

import re
from contextlib import suppress
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import Response

from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import Kind
from orderplane.crds.reservation import Reservation
from orderplane.gateway.acceptance import Making
from orderplane.gateway.http import keys
from orderplane.gateway.http.body import check_media_type, read_body
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.http.responses import (
    ANSWERED_HEADERS,
    BODY_PROBLEMS,
    KEY_PROBLEMS,
    answered_response,
    body_doc,
    guarded_docs,
    json_response,
    keyed_doc,
    tagged_response,
)
from orderplane.gateway.inventory import reserving, views
from orderplane.gateway.inventory.requests import ReleaseRequest, ReserveRequest
from orderplane.gateway.principal import Principal, Scope, allowed
from orderplane.gateway.services import Services, ServicesDep
from orderplane.ledgers.postgres.idempotency import KeyRef
from orderplane.ledgers.postgres.inventory import Kept

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
            "headers": {**_LOCATION, **ANSWERED_HEADERS},
        },
        202: {
            "model": views.ReservationView,
            "description": "It is not decided yet: look at Location.",
            "headers": {**_LOCATION, **ANSWERED_HEADERS},
        },
        **guarded_docs("out_of_stock", "request_in_progress", "reservation_name_taken", "reservation_refused",
                       *BODY_PROBLEMS, *KEY_PROBLEMS),
    },
    openapi_extra=keyed_doc("ReserveRequest"),
)  # fmt: skip
async def reserve(request: Request, caller: _Writer, services: ServicesDep) -> Response:
    """Keep stock until it is released, or its time is over.

    Repeat a request that was not answered with the same key and body: there will be one reservation, and the
    answer is the same, byte for byte, also where it was `out_of_stock`.
    """
    key = keys.parse_key(request.headers.getlist("Idempotency-Key"))
    check_media_type(request.headers.get("Content-Type"))
    body = read_body(await request.body(), ReserveRequest)
    name = keys.reservation_name(caller.merchant, caller.name, key)
    answered = await services.acceptance.accept(
        KeyRef(caller.merchant, caller.name, keys.hash_key(key)),
        keys.fingerprint(["reserve", body.document]),
        Making(
            Kind.RESERVATION,
            reserving.IMMUTABLE,
            write=partial(reserving.write, caller.merchant, name, body.request),
            drop=lambda: None,
            answer=partial(reserving.answer, services.inventory, caller.merchant),
        ),
    )
    return answered_response(answered, f"/api/inventory/reservations/{name}")


@router.get(
    "/api/inventory/reservations/{reservation_id}",
    summary="Read a reservation",
    responses={
        200: {"model": views.ReservationView},
        304: {"description": "It is still as it was at If-None-Match."},
        **guarded_docs("reservation_not_found"),
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
        **guarded_docs("reservation_not_found", "reservation_of_order", "write_conflict", *BODY_PROBLEMS),
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
        kept = await reserving.patiently(
            lambda: services.inventory.kept_for(caller.merchant, uid),
            reserving.is_over,
        )
        view = _view(resource, kept)
    return json_response(view, status=200 if reserving.is_over(kept) else 202)


async def _look(services: Services, merchant: str, name: str) -> tuple[Reservation | None, Kept | None]:
    """The resource, while there is one, and what the ledger says of it.

    Raises:
        Problem: `reservation_not_found`.
    """
    if not _NAME.fullmatch(name):
        raise _not_found()
    try:
        resource = Reservation.model_validate(await services.api.get(Kind.RESERVATION, merchant, name))
    except NotFound:
        kept = await services.inventory.kept_as(merchant, name)
        if kept is None:
            raise _not_found() from None
        return None, kept
    reference = resource.spec.order_ref
    holder = reference.uid if reference else resource.metadata.uid
    return resource, await services.inventory.kept_for(merchant, holder)


def _view(resource: Reservation | None, kept: Kept | None) -> views.ReservationView:
    if kept is not None:
        return views.reservation_view(kept)
    assert resource is not None
    return views.pending_view(resource.metadata.name, resource.spec)


def _not_found() -> Problem:
    return Problem("reservation_not_found", "No reservation has this id. It is in the answer to the POST.")
