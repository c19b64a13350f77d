"""How many deliveries each endpoint gets at a time, and what follows an attempt. Pure."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from orderplane.ledgers.webhook_endpoints import DisabledReason

CONCURRENCY = 64
"""Requests that one deliverer has under way."""

PER_ENDPOINT = 8
"""Requests that it has under way to one endpoint that takes them."""

IMPAIRED_SHARE = CONCURRENCY // 2
"""Requests that it has under way to all endpoints that fail or are slow: the rest is for the others."""

FAILURES_TO_IMPAIR = 3
"""Failures in a row after which an endpoint is tried with one request at a time, ever more rarely."""

SLOW_SECONDS = 3.0

LONGEST_PAUSE = 60.0
"""Seconds until an endpoint that takes nothing is tried with the next request."""

LONGEST_WISH = 3600.0
"""Seconds that an endpoint may wish for by Retry-After."""

JITTER = 0.2

Key = tuple[str, str]
"""The merchant and the id of an endpoint."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What this deliverer has seen of an endpoint lately.

    Args:
        failures: In a row.
        is_slow: Its last answer took long.
        next_at: Monotonic time before which it gets nothing.
    """

    failures: int = 0
    is_slow: bool = False
    next_at: float = 0.0

    @property
    def is_impaired(self) -> bool:
        """It must not take the places of the others."""
        return self.is_slow or self.failures >= FAILURES_TO_IMPAIR


@dataclass(frozen=True, slots=True)
class Claimed:
    """One delivery that is due, as its row and its endpoint stand.

    Args:
        attempt: The number of this attempt.
        tried_for: Since its first attempt, or since its replay, by the database's clock.
        secret, previous_secret: Encrypted; the second one only while it is valid.
    """

    merchant: str
    endpoint: str
    event_id: UUID
    type: str
    is_test: bool
    attempt: int
    tried_for: timedelta
    created_at: datetime
    url: str
    secret: str
    previous_secret: str | None
    body: bytes

    @property
    def key(self) -> Key:
        """Of its endpoint."""
        return self.merchant, self.endpoint


@dataclass(frozen=True, slots=True)
class Delivered:
    """The endpoint has taken it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It has not; try again after a pause."""

    reason: str
    pause: timedelta


@dataclass(frozen=True, slots=True)
class Parked:
    """It is given up until a person replays it."""

    reason: str


Outcome = Delivered | Retry | Parked


def places(
    due: Iterable[Key], in_flight: Mapping[Key, int], paces: Mapping[Key, Pace], now: float
) -> dict[Key, int]:
    """How many deliveries of each endpoint to claim; those with the fewest under way come first.

    Args:
        due: Endpoints with deliveries that are due.
    """
    free = CONCURRENCY - sum(in_flight.values())
    impaired = IMPAIRED_SHARE - sum(n for key, n in in_flight.items() if _pace(paces, key).is_impaired)
    given: dict[Key, int] = {}
    waiting = [key for key in due if _pace(paces, key).next_at <= now]
    while waiting and free > 0:
        waiting.sort(key=lambda key: in_flight.get(key, 0) + given.get(key, 0))
        for key in [*waiting]:
            pace, taken = _pace(paces, key), in_flight.get(key, 0) + given.get(key, 0)
            most = 1 if pace.is_impaired else PER_ENDPOINT
            if taken >= most or free <= 0 or (pace.is_impaired and impaired <= 0):
                waiting.remove(key)
                continue
            given[key] = given.get(key, 0) + 1
            free -= 1
            impaired -= pace.is_impaired
    return given


def after_attempt(
    pace: Pace, *, is_taken: bool, seconds: float, wish: float | None, now: float, pauses: Sequence[float]
) -> Pace:
    """The pace of an endpoint after an attempt.

    Args:
        seconds: How long the attempt took.
        wish: Its Retry-After.
    """
    is_slow = seconds > SLOW_SECONDS
    if is_taken:
        return Pace(is_slow=is_slow)
    failures = pace.failures + 1
    pause = min(wish or 0.0, LONGEST_WISH)
    if failures >= FAILURES_TO_IMPAIR:
        step = min(failures - FAILURES_TO_IMPAIR, len(pauses) - 1)
        pause = max(pause, min(pauses[step], LONGEST_PAUSE))
    return Pace(failures, is_slow, max(pace.next_at, now + pause))


def failure_of(status: int | None, failure: str | None) -> str | None:
    """Why an answer is none that takes the event; None if it does.

    Args:
        failure: Why there was no answer.
    """
    if status is None:
        return failure or "NoAnswer"
    if 200 <= status < 300:
        return None
    if status == 410:
        return "Gone"
    return "Redirected" if 300 <= status < 400 else "HttpError"


def outcome_of(
    failure: str | None,
    delivery: Claimed,
    *,
    wish: float | None,
    good_for: timedelta,
    pauses: Sequence[float],
    rng: random.Random,
) -> Outcome:
    """What follows an attempt.

    Args:
        failure: As `failure_of`.
        good_for: How long after its first attempt a delivery is tried.
    """
    if failure is None:
        return Delivered()
    if failure == "Gone" or delivery.tried_for > good_for:
        return Parked("GivenUp" if failure != "Gone" else failure)
    pause = pauses[min(delivery.attempt, len(pauses)) - 1] * (1 + rng.uniform(-JITTER, JITTER))
    return Retry(failure, timedelta(seconds=max(pause, min(wish or 0.0, LONGEST_WISH))))


def disabled_for(
    failure: str | None, failing_for: timedelta | None, patience: timedelta
) -> DisabledReason | None:
    """Why an endpoint gets nothing any more after an attempt; None if it goes on.

    410 says so: Standard Webhooks, operational considerations.

    Args:
        failing_for: Since its first failure after its last success.
    """
    if failure == "Gone":
        return DisabledReason.GONE
    if failure is not None and failing_for is not None and failing_for > patience:
        return DisabledReason.FAILING
    return None


def _pace(paces: Mapping[Key, Pace], key: Key) -> Pace:
    return paces.get(key, _FRESH)


_FRESH = Pace()
