"""How many deliveries an endpoint gets at a time, and what follows an attempt."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.ledgers.webhook_endpoints import DisabledReason
from orderplane.workers.deliverer.plan import (
    CONCURRENCY,
    FAILURES_TO_IMPAIR,
    IMPAIRED_SHARE,
    LONGEST_PAUSE,
    LONGEST_WISH,
    PER_ENDPOINT,
    SLOW_SECONDS,
    Claimed,
    Delivered,
    Key,
    Pace,
    Parked,
    Retry,
    after_attempt,
    disabled_for,
    failure_of,
    outcome_of,
    places,
)
from orderplane.workers.settings import PAUSES

DEAD, SLOW = Pace(failures=FAILURES_TO_IMPAIR), Pace(is_slow=True)
DAY = timedelta(days=1)
DELIVERY = Claimed(
    merchant="demo", endpoint="we-1", event_id=uuid4(), type="order.shipped", is_test=False, attempt=1,
    tried_for=timedelta(), created_at=datetime(2026, 3, 1, tzinfo=UTC), url="https://erp.example/", secret="",
    previous_secret=None, body=b"{}",
)  # fmt: skip


def keys(count: int, name: str = "e") -> list[Key]:
    return [("demo", f"{name}-{number}") for number in range(count)]


def test_one_endpoint_gets_its_places_and_no_more() -> None:
    (key,) = keys(1)
    assert places([key], {}, {}, 0) == {key: PER_ENDPOINT}
    assert places([key], {key: 5}, {}, 0) == {key: PER_ENDPOINT - 5}
    assert places([key], {key: PER_ENDPOINT}, {}, 0) == {}


def test_one_that_fails_or_is_slow_gets_one_place() -> None:
    (key,) = keys(1)
    for pace in (DEAD, SLOW):
        assert places([key], {}, {key: pace}, 0) == {key: 1}
        assert places([key], {key: 1}, {key: pace}, 0) == {}
    assert places([key], {}, {key: replace(DEAD, next_at=7)}, 6.9) == {}
    assert places([key], {}, {key: replace(DEAD, next_at=7)}, 7) == {key: 1}


def test_many_dead_ones_leave_places_to_one_that_is_well() -> None:
    dead, (well,) = keys(500, "dead"), keys(1, "well")
    given_ = places([*dead, well], {}, dict.fromkeys(dead, DEAD), 0)
    assert given_[well] == PER_ENDPOINT
    assert sum(given_.values()) == IMPAIRED_SHARE + PER_ENDPOINT
    hanging = dict.fromkeys(dead[:IMPAIRED_SHARE], 1)
    assert places([*dead, well], hanging, dict.fromkeys(dead, DEAD), 0) == {well: PER_ENDPOINT}


def test_those_with_the_fewest_under_way_come_first() -> None:
    busy, idle = keys(9, "busy"), keys(2, "idle")
    in_flight = dict.fromkeys(busy, 7)
    assert places([*busy, *idle], in_flight, {}, 0) == {idle[0]: 1}, "the only place that is left"


KEYS = st.integers(0, 40).map(lambda number: ("demo", f"e-{number}"))


@given(
    due=st.lists(KEYS, unique=True, max_size=40),
    in_flight=st.dictionaries(KEYS, st.integers(0, 8), max_size=8),
    paces=st.dictionaries(KEYS, st.builds(Pace, st.integers(0, 9), st.booleans(), st.floats(0, 20))),
)
def test_no_bound_is_ever_passed(
    due: list[Key], in_flight: Mapping[Key, int], paces: Mapping[Key, Pace]
) -> None:
    given_ = places(due, in_flight, paces, 10)
    assert sum(given_.values()) + sum(in_flight.values()) <= max(CONCURRENCY, sum(in_flight.values()))
    for key, number in given_.items():
        pace = paces.get(key, Pace())
        assert key in due
        assert pace.next_at <= 10
        assert number + in_flight.get(key, 0) <= (1 if pace.is_impaired else PER_ENDPOINT)
    if not given_ and sum(in_flight.values()) < CONCURRENCY:
        fresh = [key for key in due if key not in paces]
        assert all(in_flight.get(key, 0) >= PER_ENDPOINT for key in fresh), "nobody waits for nothing"


def after(pace: Pace, *, is_taken: bool = False, seconds: float = 0.1, wish: float | None = None) -> Pace:
    return after_attempt(pace, is_taken=is_taken, seconds=seconds, wish=wish, now=100, pauses=PAUSES)


def test_an_endpoint_that_fails_is_tried_ever_more_rarely_and_one_success_ends_that() -> None:
    pace, pauses = Pace(), []
    for _ in range(FAILURES_TO_IMPAIR + 6):
        pace = after(pace)
        pauses.append(max(0, pace.next_at - 100))
    assert pauses == [0, 0, 5, 30, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert pace.is_impaired
    assert after(pace, is_taken=True) == Pace()
    assert after(Pace(), is_taken=True, seconds=SLOW_SECONDS + 1) == SLOW


def test_an_endpoint_may_wish_for_a_pause_of_an_hour_at_most() -> None:
    assert after(Pace(), wish=20).next_at == 120
    assert after(Pace(), wish=1e6).next_at == 100 + LONGEST_WISH
    assert after(Pace(next_at=500), wish=20).next_at == 500, "a longer wish holds"


@pytest.mark.parametrize(
    ("status", "failure", "why"),
    [
        (200, None, None), (204, None, None), (299, None, None), (199, None, "HttpError"),
        (301, None, "Redirected"), (308, None, "Redirected"), (400, None, "HttpError"),
        (404, None, "HttpError"), (410, None, "Gone"), (429, None, "HttpError"), (500, None, "HttpError"),
        (None, "TimedOut", "TimedOut"), (None, None, "NoAnswer"),
    ],
)  # fmt: skip
def test_only_2xx_takes_an_event(status: int | None, failure: str | None, why: str | None) -> None:
    assert failure_of(status, failure) == why


def outcome(failure: str | None, *, wish: float | None = None, **row: object) -> object:
    return outcome_of(
        failure, replace(DELIVERY, **row), wish=wish, good_for=DAY, pauses=PAUSES, rng=random.Random(7)
    )  # type: ignore[arg-type]


def test_a_failure_is_tried_again_for_a_day_with_growing_pauses() -> None:
    assert outcome(None) == Delivered()
    assert outcome(None, tried_for=2 * DAY) == Delivered()
    pauses = []
    for attempt in range(1, 14):
        result = outcome("HttpError", attempt=attempt)
        assert isinstance(result, Retry)
        pauses.append(result.pause.total_seconds())
    assert pauses == pytest.approx([*PAUSES, *[PAUSES[-1]] * 5], rel=0.21)
    assert 0.9 * DAY.total_seconds() < sum(pauses) < 1.2 * DAY.total_seconds()
    assert outcome("HttpError", attempt=14, tried_for=DAY + timedelta(seconds=1)) == Parked("GivenUp")
    assert outcome("Gone") == Parked("Gone")


def test_a_wish_makes_a_pause_longer_and_never_shorter() -> None:
    for wish, least, most in ((600, 600, 600), (1, 4, 6), (1e9, LONGEST_WISH, LONGEST_WISH)):
        result = outcome("HttpError", wish=wish)
        assert isinstance(result, Retry)
        assert least <= result.pause.total_seconds() <= most


@pytest.mark.parametrize(
    ("failure", "failing_for", "reason"),
    [
        (None, None, None), (None, 9 * DAY, None), ("HttpError", None, None), ("HttpError", DAY, None),
        ("HttpError", 4 * DAY, DisabledReason.FAILING), ("Gone", None, DisabledReason.GONE),
    ],
)  # fmt: skip
def test_an_endpoint_is_disabled_after_days_or_when_it_says_so(
    failure: str | None, failing_for: timedelta | None, reason: DisabledReason | None
) -> None:
    assert disabled_for(failure, failing_for, 3 * DAY) == reason
