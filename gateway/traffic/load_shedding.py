"""Load shedding: refuse new orders while they would wait too long; everything else goes on."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge
from starlette.types import ASGIApp, Receive, Scope, Send

from orderplane.gateway.http.problems import Problem, problem_response, unavailable
from orderplane.gateway.traffic.order_backlog import OrderBacklog
from orderplane.gateway.traffic.rate_limits import RouteClass, class_of
from orderplane.ledgers.errors import Transient

MIN_THROUGHPUT = 11.0
"""Orders a second that the operator is trusted with before it has shown what it can."""
HEADROOM = 2.0
"""So many times the pace may come: a line has to be able to grow, or nobody would see how fast it can be."""
BURST_SECONDS = 0.5
"""So long a time's worth may come in one moment."""


def allowed_rate(pace: float) -> float:
    """Orders a second that may come while `pace` a second leave."""
    return HEADROOM * max(pace, MIN_THROUGHPUT)


class OrderTokenBucket:
    """A token bucket: each order takes one, and they come back at the allowed pace."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tokens = allowed_rate(0.0) * BURST_SECONDS
        self._filled_at = clock()

    def is_free(self, pace: float) -> bool:
        """Whether one more may come now, while `pace` a second leave."""
        now, rate = self._clock(), allowed_rate(pace)
        self._tokens = min(rate * BURST_SECONDS, self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        return self._tokens >= 1

    def take(self) -> None:
        """One has come; where nobody asked whether it may, it leaves no debt to those who come later."""
        self._tokens = max(0.0, self._tokens - 1)

    def give_back(self) -> None:
        """The last one that came was none."""
        self._tokens += 1


SHED = Counter("orderplane_orders_shed_total", "New orders that were sent away.", ["reason"])
AGE = Gauge("orderplane_backlog_age_seconds", "How long the first order waits that nobody has looked at.")
WAITING = Gauge("orderplane_backlog_orders", "Accepted orders without a label or an end.")
PACE = Gauge("orderplane_backlog_orders_per_second", "How many left the backlog of late.")

LOOK_SECONDS = 1.0
STALE_SECONDS = 10.0
"""What was seen longer ago is not believed any more."""
PACE_SECONDS = 10.0
"""Over about so long the pace is an average."""
RETRY_SECONDS = 5.0
RUSH_RETRY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class ShedReason(StrEnum):
    """Why a new order is sent away."""

    API_SERVER = "api_server"  # it has asked to be left alone
    AGE = "backlog_age"  # the operator takes nothing up
    LENGTH = "backlog_length"  # it does, but more is waiting than it gets done in time
    RUSH = "rush"  # too many come at once, whom it would be busy with at the cost of everybody's answers


class BacklogSource(Protocol):
    """What is needed of `PostgresOrderBacklog`."""

    async def look(self) -> OrderBacklog: ...


@dataclass(frozen=True, slots=True)
class BacklogEstimate:
    """What is ahead of a new order.

    Args:
        waiting: Orders that have to be done first.
        untouched_seconds: How long the first of those waits that the operator has not looked at.
        pace: How many a second leave.
    """

    waiting: int = 0
    untouched_seconds: float = 0.0
    pace: float = 0.0


def updated_estimate(before: BacklogEstimate, line: OrderBacklog) -> BacklogEstimate:
    """What the next look at the line says; the pace moves slowly, so that one slow second changes little."""
    if line.seconds <= 0:
        return BacklogEstimate(line.waiting, line.untouched_seconds, before.pace)
    left = max(0, before.waiting + line.entered - line.waiting) / line.seconds
    weight = 1 - math.exp(-line.seconds / PACE_SECONDS)
    return BacklogEstimate(line.waiting, line.untouched_seconds, before.pace + weight * (left - before.pace))


def shed_reason(backlog: BacklogEstimate, shed_after: float) -> ShedReason | None:
    """Why a new order is to be sent away, if it is.

    The line is held at what is worked off in half the time. So while it moves, one that enters for one that
    leaves, nobody's age gets near to `shed_after`; an age that does means that it does not move.
    """
    if backlog.untouched_seconds > shed_after:
        return ShedReason.AGE
    if backlog.waiting >= max(backlog.pace, MIN_THROUGHPUT) * shed_after / 2:
        return ShedReason.LENGTH
    return None


class LoadShedding:
    """Knows the backlog, and whether one more order is admitted.

    Args:
        shed_after: Seconds that a new order may have to wait; infinite admits all that the API server takes.
        pushback: In how many seconds the API server may be asked again; 0 where it has nothing against it.
    """

    def __init__(
        self,
        source: BacklogSource,
        pushback: Callable[[], float],
        *,
        shed_after: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._pushback = pushback
        self._shed_after = shed_after
        self._clock = clock
        self._pacing = OrderTokenBucket(clock)
        self._seen = BacklogEstimate()
        self._seen_at = -math.inf
        self._admitted = 0
        self._refused: ShedReason | None = None
        self._told: ShedReason | None = None

    def admit(self) -> None:
        """Let one new order in.

        Raises:
            Problem: `overloaded`; nothing was made.
        """
        self.check()
        self._pacing.take()
        self._admitted += 1

    def give_back(self) -> None:
        """The order that was let in is none: it is there already."""
        self._pacing.give_back()
        self._admitted = max(0, self._admitted - 1)

    def check(self) -> None:
        """See whether a new order would be let in now.

        Raises:
            Problem: `overloaded`; it would not be, and counts as sent away.
        """
        pushback = self._pushback()
        if (reason := self._why_not(pushback)) is not None:
            SHED.labels(reason.value).inc()
            self._refused = reason
            raise _overloaded(reason, pushback)

    async def watch(self) -> None:
        """Look at the line again and again, until cancelled."""
        is_known = True
        while True:
            try:
                line = await self._source.look()
            except Transient as problem:
                if is_known:
                    log.warning("the backlog is not known", why=problem.message)
                is_known = False
            else:
                is_known = True
                self._note(line)
            await asyncio.sleep(LOOK_SECONDS)

    def _why_not(self, pushback: float) -> ShedReason | None:
        if pushback > 0:
            return ShedReason.API_SERVER
        if math.isinf(self._shed_after) or (ahead := self._ahead()) is None:
            return None
        if (reason := shed_reason(ahead, self._shed_after)) is not None:
            return reason
        return None if self._pacing.is_free(ahead.pace) else ShedReason.RUSH

    def _ahead(self) -> BacklogEstimate | None:
        """The backlog with what was let in since it was looked at; None where that was too long ago."""
        if self._clock() - self._seen_at > STALE_SECONDS:
            return None
        seen = self._seen
        return BacklogEstimate(seen.waiting + self._admitted, seen.untouched_seconds, seen.pace)

    def _note(self, line: OrderBacklog) -> None:
        self._seen = updated_estimate(self._seen, line)
        self._seen_at = self._clock()
        self._admitted = 0
        self._tell()
        AGE.set(line.untouched_seconds)
        WAITING.set(line.waiting)
        PACE.set(self._seen.pace)

    def _tell(self) -> None:
        """Log when it begins and when it is over, by what happened since the last look."""
        if self._refused is not self._told:
            self._told = self._refused
            log.info("new orders are sent away" if self._told else "no order is sent away", reason=self._told)
        self._refused = None


def _overloaded(reason: ShedReason, pushback: float) -> Problem:
    if reason is ShedReason.API_SERVER:
        why, seconds = "The API server sheds load", pushback
    elif reason is ShedReason.RUSH:
        why, seconds = "Too many orders come at once", RUSH_RETRY_SECONDS
    else:
        why, seconds = "So many orders are waiting that this one would be late", RETRY_SECONDS
    return unavailable(
        f"{why}; this request made nothing. Repeat it with the same key.", seconds, code="overloaded"
    )


MOST_LOOKED_AT = 3
"""New orders and repeats of old ones that are being answered, while the door is shut for the new ones."""


class OrderAdmissionMiddleware:
    """Counts who is placing an order, and sends away (503) who would have to be sent away anyhow."""

    def __init__(self, app: ASGIApp, *, load_shedding: LoadShedding, most: int = MOST_LOOKED_AT) -> None:
        self._app = app
        self._load_shedding = load_shedding
        self._most = most
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or class_of(scope["method"], scope["path"]) is not RouteClass.ORDERS:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            try:
                self._load_shedding.check()
            except Problem as problem:
                await problem_response(problem)(scope, receive, send)
                return
        self._inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1
