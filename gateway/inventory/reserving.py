"""Have a Reservation made for nobody's order, and wait a little for what the controllers decide.

The stock is theirs alone: here a resource is made, or asked to go, and the ledger is looked at.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from orderplane.adapters.telemetry.traces import current_traceparent
from orderplane.crds.defaults import draw_shard, reservation_manifest
from orderplane.crds.reservation import ReservationSpec
from orderplane.gateway.http.problems import Problem, render
from orderplane.gateway.inventory import views
from orderplane.gateway.inventory.requests import ReserveRequest
from orderplane.ledgers.gate import ReservationState
from orderplane.ledgers.postgres.idempotency import Answer
from orderplane.ledgers.postgres.inventory import Kept, PostgresInventory

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


async def answer(inventory: PostgresInventory, merchant: str, uid: str, manifest: Json) -> Answer:
    """What to say of the reservation that was made, as soon as it is decided or it was waited long enough."""
    kept = await patiently(lambda: inventory.kept_for(merchant, uid), lambda kept: kept is not None)
    return answer_of(manifest, kept)


def answer_of(manifest: Json, kept: Kept | None) -> Answer:
    """201 where the stock was kept, 409 where there was too little, 202 where nobody knows yet. Pure."""
    if kept is None:
        spec = ReservationSpec.model_validate(manifest["spec"])
        view = views.pending_view(manifest["metadata"]["name"], spec)
        return Answer(202, orjson.dumps(view).decode())
    if kept.state is ReservationState.REJECTED:
        problem = Problem("out_of_stock", f"Nothing is kept: {kept.message}. Ask for less, with a new key.")
        return Answer(409, render(problem)[0].decode())
    return Answer(201, orjson.dumps(views.reservation_view(kept)).decode())


def is_over(kept: Kept | None) -> bool:
    """Whether it was decided, and nothing is kept any more."""
    return kept is not None and kept.state not in (
        ReservationState.HELD,
        ReservationState.PINNED,
        ReservationState.COMMITTED,
    )


async def patiently(
    look: Callable[[], Awaitable[Kept | None]], is_enough: Callable[[Kept | None], bool]
) -> Kept | None:
    """Look ever more slowly until it is enough, or PATIENCE is over; answers what was seen last."""
    deadline, pause = time.monotonic() + PATIENCE, _FIRST_PAUSE
    while True:
        kept = await look()
        if is_enough(kept) or time.monotonic() + pause > deadline:
            return kept
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
