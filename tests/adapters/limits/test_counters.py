"""What is counted, how exactly, and the bound on memory."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits.aio import strategies as strategies_module
from limits.aio.storage import MemoryStorage
from limits.aio.storage import memory as storage_module

from orderplane.adapters.limits import shared
from orderplane.adapters.limits.counters import Limit
from orderplane.adapters.limits.memory import MemoryCounters
from orderplane.adapters.limits.shared import StoredCounters

ESTIMATED, EXACT = Limit(5, 60), Limit(5, 60, is_exact=True)


class Clock:
    """The wall clock of everything that counts here; at the beginning of a window."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def counters(clock: Clock) -> MemoryCounters:
    return MemoryCounters(unix_time=clock.time)


@pytest.mark.parametrize("limit", [ESTIMATED, EXACT])
async def test_so_many_are_within_and_no_more(counters: MemoryCounters, limit: Limit) -> None:
    standings = [await counters.hit(limit, "user", "u-1") for _ in range(7)]
    assert [standing.is_within for standing in standings] == [True] * 5 + [False] * 2
    assert [standing.left for standing in standings] == [4, 3, 2, 1, 0, 0, 0]
    assert all(0 <= standing.reset_seconds <= 60 for standing in standings)
    assert (await counters.hit(limit, "user", "u-2")).left == 4


@pytest.mark.parametrize("limit", [ESTIMATED, EXACT])
async def test_to_look_counts_nothing(counters: MemoryCounters, limit: Limit) -> None:
    for _ in range(5):
        assert (await counters.peek(limit, "k")).is_within
        await counters.hit(limit, "k")
    assert not (await counters.peek(limit, "k")).is_within


async def test_an_exact_limit_holds_in_any_window(clock: Clock, counters: MemoryCounters) -> None:
    clock.now += 59
    for _ in range(5):
        await counters.hit(EXACT, "k")
    clock.now += 59
    assert not (await counters.hit(EXACT, "k")).is_within
    clock.now += 2
    assert (await counters.hit(EXACT, "k")).is_within


async def test_an_estimated_limit_gives_back_little_by_little(clock: Clock, counters: MemoryCounters) -> None:
    for _ in range(5):
        await counters.hit(ESTIMATED, "k")
    clock.now += 66  # a tenth into the next window: nine tenths of the last one still count
    assert (await counters.hit(ESTIMATED, "k")).is_within
    assert not (await counters.hit(ESTIMATED, "k")).is_within
    clock.now += 54
    assert (await counters.peek(ESTIMATED, "k")).left == 4


async def test_keys_that_look_alike_are_not_the_same(counters: MemoryCounters) -> None:
    assert (await counters.hit(EXACT, "a/b", "c")).left == 4
    assert (await counters.hit(EXACT, "a", "b/c")).left == 4


@settings(max_examples=100)
@given(
    st.sampled_from([ESTIMATED, EXACT, Limit(3, 7), Limit(3, 7, is_exact=True)]),
    st.lists(st.tuples(st.integers(0, 45), st.booleans(), st.sampled_from("ab")), max_size=40),
)
async def test_it_counts_as_the_library_does_in_redis(
    limit: Limit, steps: list[tuple[int, bool, str]]
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        for module in (shared, storage_module, strategies_module):
            patch.setattr(module, "time", clock)
        counters, reference = MemoryCounters(unix_time=clock.time), StoredCounters(MemoryStorage())
        for seconds, is_hit, key in steps:
            # Not a moment at which a window ends: the library's arithmetic is by floats.
            clock.now += seconds + 0.001
            ours, theirs = [
                await (each.hit(limit, key) if is_hit else each.peek(limit, key))
                for each in (counters, reference)
            ]
            assert (ours.is_within, ours.left) == (theirs.is_within, theirs.left)


@pytest.mark.parametrize("limit", [ESTIMATED, EXACT])
async def test_what_is_over_is_forgotten(clock: Clock, counters: MemoryCounters, limit: Limit) -> None:
    for number in range(50):
        await counters.hit(limit, str(number))
    clock.now += 121
    for number in range(50, 75):
        await counters.hit(limit, str(number))
    assert len(counters) == 25


@pytest.mark.parametrize("limit", [ESTIMATED, EXACT])
async def test_there_is_a_bound_and_the_oldest_goes(limit: Limit) -> None:
    counters = MemoryCounters(max_keys=10)
    for number in range(1000):
        await counters.hit(limit, str(number))
    assert len(counters) <= 10
    assert (await counters.peek(limit, "999")).left == 4
    assert (await counters.peek(limit, "0")).left == 5


async def test_a_hit_costs_the_same_however_many_keys_there_are() -> None:
    counters = MemoryCounters()

    async def best() -> float:
        times = []
        for _ in range(20):
            begun_at = time.process_time()
            for number in range(200):
                await counters.hit(ESTIMATED, str(number))
            times.append(time.process_time() - begun_at)
        return min(times)

    few = await best()
    for number in range(50_000):
        await counters.hit(ESTIMATED, str(number))
    assert await best() < 5 * few
