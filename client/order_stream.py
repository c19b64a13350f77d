"""Follow orders by the stream of the gateway, over as many connections as it takes."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import orjson

from orderplane.client.accounts import Caller
from orderplane.client.event_stream import EventReader, ServerEvent
from orderplane.client.responses import Order
from orderplane.client.transport import NO_ANSWER, RETRY_SECONDS, ApiProblem, Request

_FIRST_PAUSE, _MAX_PAUSE, _JITTER = 0.2, 5.0, 0.5
_LEFT_SECONDS = 15.0
"""Between two reads of an order that has left the cluster."""
_PASSING = frozenset({429, 502, 503, 504})
"""Status codes of what another try may change."""


class ChangeKind(StrEnum):
    """What is told of orders."""

    RESET = "reset"  # forget what you know; the state follows
    ORDER = "order"  # it is so now
    SYNCED = "synced"  # the state is complete; changes follow
    GONE = "gone"  # it has left the cluster, or does not match the filters any more


_KINDS = frozenset(kind.value for kind in ChangeKind)


@dataclass(frozen=True, slots=True)
class OrderChange:
    """One thing that is told.

    Args:
        id: Of the order; empty for what is not of one order.
        order: As it is now; for `ORDER` only.
        is_gap: Of a `RESET`: what has happened before is not known any more.
        position: Of a change, the same at every gateway; None for what is part of the state.
    """

    kind: ChangeKind
    id: str = ""
    order: Order | None = None
    is_gap: bool = False
    position: str | None = None


async def follow(
    caller: Caller, path: str, query: Mapping[str, str | int | None], *, retry_seconds: float = RETRY_SECONDS
) -> AsyncGenerator[OrderChange, None]:
    """Every change, once and in order, without end. A connection that ends is opened again where it was.

    Args:
        retry_seconds: How long a gateway that does not answer, or has no place, is tried.

    Raises:
        ApiProblem: it was refused, or not answered within `retry_seconds`.
    """
    reader, pause, waited = EventReader(), _FIRST_PAUSE, 0.0
    while True:
        headers = {"Accept": "text/event-stream"}
        if reader.last_id is not None:
            headers["Last-Event-ID"] = reader.last_id
        reader = EventReader(reader.last_id)
        try:
            async with caller.stream(Request("GET", path, query, headers=headers)) as pieces:
                async for piece in pieces:
                    pause, waited = _FIRST_PAUSE, 0.0
                    for event in reader.feed(piece):
                        if (change := _change_of(event)) is not None:
                            yield change
        except ApiProblem as problem:
            if not (problem.code == NO_ANSWER or problem.status in _PASSING) or waited >= retry_seconds:
                raise
            seconds, pause = problem.retry_after or pause, min(_MAX_PAUSE, pause * 2)
        else:
            # The gateway has ended it, and said when to come back.
            seconds = reader.retry_seconds or _FIRST_PAUSE
        waited += seconds
        await asyncio.sleep(seconds + random.uniform(0, _JITTER * seconds))


async def follow_one(
    caller: Caller, path: str, *, retry_seconds: float = RETRY_SECONDS
) -> AsyncGenerator[Order, None]:
    """One order, and again whenever it looks different, wherever it is; raises as `follow` does.

    Raises:
        ApiProblem: `order_not_found`, also if it is deleted meanwhile.
    """
    known: Order | None = None
    async with aclosing(follow(caller, path, {}, retry_seconds=retry_seconds)) as changes:
        async for change in changes:
            if change.kind is ChangeKind.GONE:
                break
            if change.order is not None and change.order != known:
                known = change.order
                yield known
    # It has left the cluster, and no stream tells of it any more; only its parcel moves.
    while True:
        request = Request("GET", path.removesuffix("/watch"))
        order = cast("Order", (await caller.send(request)).document)
        if order != known:
            known = order
            yield known
        await asyncio.sleep(_LEFT_SECONDS)


def _change_of(event: ServerEvent) -> OrderChange | None:
    """None for what is no change of orders: the end of a stream, and what is not known here."""
    if event.name not in _KINDS:
        return None
    kind, document = ChangeKind(event.name), orjson.loads(event.data)
    order = cast("Order", document) if kind is ChangeKind.ORDER else None
    return OrderChange(kind, document.get("id", ""), order, document.get("code") == "too_old", event.id)
