"""The search for the highest rate that holds: a table of its decisions, and properties of whole searches."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.dev.bench.search import (
    FINE,
    HIGHEST,
    LOWEST,
    TRIES,
    Trial,
    highest_held,
    next_rate,
    search,
    trial,
)

from .records import answers

START = 10_000
RATES = st.integers(LOWEST, HIGHEST)


def at(per_minute: int, *, holds: bool) -> Trial:
    missed = () if holds else ("http_req_failed rate==0",)
    return Trial(per_minute=per_minute, missed=missed, p95_ms={}, end_seconds=1.0)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([], START),
        ([(10_000, True)], 20_000),
        ([(10_000, False)], 10_000),  # once more
        ([(10_000, False), (10_000, False)], 5_000),
        ([(10_000, False), (10_000, True)], 20_000),
        ([(10_000, True), (20_000, False), (20_000, False)], 14_142),
        ([(10_000, True), (20_000, False), (20_000, False), (14_142, False)], 14_142),
        ([(10_000, True), (10_400, False), (10_400, False)], None),
        # A good run above a bad one: the bad one had bad luck.
        ([(10_000, False), (10_000, False), (20_000, True)], 40_000),
        ([(LOWEST, False), (LOWEST, False)], None),
        ([(HIGHEST, True)], None),
    ],
)
def test_what_is_tried_next(runs: list[tuple[int, bool]], expected: int | None) -> None:
    assert next_rate([at(rate, holds=holds) for rate, holds in runs], START) == expected


@given(limit=RATES, start=RATES)
async def test_it_finds_the_limit_in_few_runs(limit: int, start: int) -> None:
    async def run(per_minute: int) -> Trial:
        assert LOWEST <= per_minute <= HIGHEST
        return at(per_minute, holds=per_minute <= limit)

    trials = await search(start, run, lambda: True)
    found = highest_held(trials)
    assert len(trials) <= TRIES * (math.log2(HIGHEST / LOWEST) + 6)
    if found is None:
        assert limit < 2 * LOWEST
    else:
        assert found <= limit
        assert limit < found * FINE + 1 or found > HIGHEST / 2


@given(start=RATES, answers_of_runs=st.lists(st.booleans(), min_size=1, max_size=12))
async def test_it_ends_when_its_time_is_over_whatever_happens(
    start: int, answers_of_runs: list[bool]
) -> None:
    left = list(answers_of_runs)

    async def run(per_minute: int) -> Trial:
        return at(per_minute, holds=left.pop())

    trials = await search(start, run, lambda: bool(left))
    held = [each.per_minute for each in trials if each.is_held]
    assert highest_held(trials) == max(held, default=None)


def test_a_run_is_held_if_its_thresholds_are() -> None:
    good, bad = trial(600, answers(120.0), 3.0), trial(600, answers(420.0, missed=True), None)
    assert (good.is_held, good.p95_ms["place"], good.missed) == (True, 120.0, ())
    assert not bad.is_held
    assert "place p(95)<300" in bad.missed
    assert trial(600, answers(count=0), 3.0).p95_ms == {}
