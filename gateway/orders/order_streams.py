"""Streams of orders: the state of what somebody follows, and then each change, until the stream ends."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import orjson
from prometheus_client import Counter, Gauge, Histogram

from orderplane.crds.api_errors import ApiError
from orderplane.crds.documents import OrderDocument
from orderplane.gateway.http.event_stream import (
    EventStreamResponse,
    Write,
    comment,
    event,
    reconnect_after,
)
from orderplane.gateway.http.problems import Problem
from orderplane.gateway.orders.order_changes import Position, order_event
from orderplane.gateway.orders.order_feed import Ending, Follower, Interest, OrderFeed, Restart
from orderplane.gateway.orders.views import order_view
from orderplane.gateway.principal import Principal, TokenRefused
from orderplane.gateway.traffic.stream_places import StreamPlaces
from orderplane.ledgers.errors import Transient

COMMENT_SECONDS = 15.0
"""A comment comes when nothing else was sent for so long. Proxies end what is silent for 60 s."""
LOOK_SECONDS = 5.0
"""How often a stream without events looks at its token and at the time."""
CHECK_SECONDS = 1.0
"""A token that was checked longer ago is checked before something is sent."""
RETRY_SECONDS = 1.0
RECONNECT_SECONDS = (1.0, 3.0)
"""After the end of a stream its client waits so long, drawn anew for each: not all come back at once."""
WRITE_BYTES = 64 * 1024

STREAMS = Gauge("orderplane_streams", "Streams of orders that are open.")
ENDED = Counter(
    "orderplane_streams_ended_total",
    "Streams of orders that have ended: the code of their last event, or disconnected.",
    ["code"],
)
RESTARTS = Counter(
    "orderplane_stream_restarts_total",
    "States of orders that were sent: at the start of a stream, or because what a client had missed was not "
    "known any more (too_old).",
    ["code"],
)
DELAY = Histogram(
    "orderplane_stream_delay_seconds",
    "From the moment at which the watch tells of a change to the end of its sending, for each stream.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

TIME_OVER = Ending("timeout", "The stream has lasted as long as `timeoutSeconds` says.")
DISCONNECTED = Ending("disconnected", "The client has gone.")
LEAVING = Ending("leaving", "This gateway is about to end. Connect again.")

_RESET_DETAILS = {
    Restart.STARTED: "The orders follow as they are now.",
    Restart.TOO_OLD: "What has happened since Last-Event-ID is not known any more. Forget what you know of "
    "the orders: they follow as they are now.",
}

State = Callable[[], Awaitable[Sequence[OrderDocument]]]
"""Reads the orders that somebody follows as they are now. It raises ApiError, Transient, Problem."""

CheckToken = Callable[[], Awaitable[object]]
"""Raises TokenRefused where the token is not accepted any more; Transient, Problem where it is not known."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for.

    Args:
        seen: The last position that it knows; None if it knows nothing.
        seconds: How long the stream lasts at most.
    """

    interest: Interest
    seen: Position | None
    seconds: float


class OrderStreams:
    """All streams of this gateway."""

    def __init__(self, feed: OrderFeed, places: StreamPlaces) -> None:
        self._feed = feed
        self._places = places
        STREAMS.set_function(lambda: len(self._feed.followers()))

    def open(
        self, caller: Principal, check_token: CheckToken, wanted: Wanted, state: State
    ) -> EventStreamResponse:
        """A stream for a caller who may read what it shows.

        Raises:
            Problem: `too_many_streams`, `overloaded`.
        """
        self._places.enter(caller.merchant, caller.name, is_shop=caller.customer is None)
        leave = partial(self._places.leave, caller.merchant, caller.name)
        return EventStreamResponse(OrderStream(self._feed, wanted, check_token, state, on_close=leave))

    def leave(self) -> None:
        """End all streams, and open no more: their clients go to another gateway."""
        self._places.close()
        for follower in self._feed.followers():
            follower.end(LEAVING)


class OrderStream:
    """Implements `event_stream.Stream`."""

    def __init__(
        self,
        feed: OrderFeed,
        wanted: Wanted,
        check_token: CheckToken,
        state: State,
        on_close: Callable[[], None],
    ) -> None:
        self._feed = feed
        self._check_token = check_token
        self._state = state
        self._on_close = on_close
        self._follower = Follower(wanted.interest, wanted.seen)
        self._opened_at = self._sent_at = self._checked_at = time.monotonic()
        self._ends_at = self._opened_at + wanted.seconds
        self._is_open = True
        self._ahead: dict[str, int] = {}
        """Versions of orders in the state, of which the watch has still to tell."""
        feed.follow(self._follower)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._feed.leave(self._follower)
            self._follower.end(DISCONNECTED)
            self._on_close()

    async def run(self, write: Write, abort: Callable[[], None]) -> None:
        self._follower.cut = abort
        await write(reconnect_after(random.uniform(*RECONNECT_SECONDS)))
        while self._follower.ending is None:
            next_look = min(time.monotonic() + LOOK_SECONDS, self._sent_at + COMMENT_SECONDS, self._ends_at)
            await self._follower.wait(max(0.0, next_look - time.monotonic()))
            try:
                await self._check()
                await self._send_what_waits(write)
            except TokenRefused as refusal:
                self._follower.end(Ending("invalid_token", str(refusal)))
            except (ApiError, Transient, Problem):
                # What may not be shown, or cannot be read, waits.
                await asyncio.sleep(RETRY_SECONDS)
            if time.monotonic() - self._sent_at >= COMMENT_SECONDS:
                await self._send(write, comment("", id_=_id_of(self._feed.position_of(self._follower))))
            if time.monotonic() >= self._ends_at:
                self._follower.end(TIME_OVER)
        ending = self._follower.ending
        ENDED.labels(ending.code).inc()
        await write(event("end", orjson.dumps({"code": ending.code, "detail": ending.detail})))

    async def _check(self) -> None:
        """Before anything is sent, and when it is not known for how long the token has been good."""
        now = time.monotonic()
        if now - self._checked_at >= CHECK_SECONDS:
            await self._check_token()
            self._checked_at = now

    async def _send_what_waits(self, write: Write) -> None:
        if self._follower.restart is not None:
            await self._send_state(write, self._follower.restart)
        told = [
            (change, event)
            for change, event in self._follower.take(WRITE_BYTES)
            if change.order.version > self._ahead.get(change.order.key[1], 0)
        ]
        if told:
            await self._send(write, b"".join(event for _, event in told))
        for change, _ in told:
            if change.at > self._opened_at:
                DELAY.observe(self._sent_at - change.at)

    async def _send_state(self, write: Write, restart: Restart) -> None:
        position = self._feed.end
        self._follower.begin_at(position)
        try:
            orders = await self._state()
        except BaseException:
            self._follower.restart = self._follower.restart or restart
            raise
        self._ahead = {
            order["metadata"]["name"]: version
            for order in orders
            if (version := int(order["metadata"]["resourceVersion"])) > (position.version if position else 0)
        }
        RESTARTS.labels(restart.value).inc()
        detail = {"code": restart.value, "detail": _RESET_DETAILS[restart]}
        await self._send(write, event("reset", orjson.dumps(detail)))
        for order in reversed(orders):
            await self._send(write, order_event(orjson.dumps(order_view(order))))
        await self._send(write, event("synced", b"{}", id_=_id_of(position)))

    async def _send(self, write: Write, data: bytes) -> None:
        await write(data)
        self._sent_at = time.monotonic()


def _id_of(position: Position | None) -> str | None:
    return str(position) if position is not None else None
