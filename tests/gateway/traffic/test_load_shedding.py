"""When new orders are refused: the decision as a table, and a burst as a model."""

import asyncio
import math
from collections import deque

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from orderplane.gateway.http.problems import Problem
from orderplane.gateway.traffic import load_shedding as shedding
from orderplane.gateway.traffic.load_shedding import (
    BURST_SECONDS,
    MIN_THROUGHPUT,
    STALE_SECONDS,
    BacklogEstimate,
    LoadShedding,
    OrderTokenBucket,
    ShedReason,
    allowed_rate,
    shed_reason,
    updated_estimate,
)
from orderplane.gateway.traffic.order_backlog import OrderBacklog
from orderplane.ledgers.errors import Transient


@pytest.mark.parametrize(
    ("waiting", "untouched", "throughput", "reason"),
    [
        (0, 0.0, 0.0, None),
        (659, 0.0, 0.0, None),  # nobody knows yet how fast it is
        (660, 0.0, 0.0, ShedReason.LENGTH),
        (600, 0.0, 18.0, None),
        (1079, 60.0, 18.0, None),
        (1080, 60.0, 18.0, ShedReason.LENGTH),
        (1, 120.0, 0.0, None),
        (1, 120.1, 0.0, ShedReason.AGE),
        (1, 120.1, 50.0, ShedReason.AGE),
        (600, 120.1, 0.0, ShedReason.AGE),
    ],
)
def test_when_a_new_order_would_wait_too_long(
    waiting: int, untouched: float, throughput: float, reason: ShedReason | None
) -> None:
    assert shed_reason(BacklogEstimate(waiting, untouched, throughput), 120.0) is reason


@pytest.mark.parametrize(
    ("before", "line", "left"),
    [
        (BacklogEstimate(100), OrderBacklog(90, 0.0, 5, 1.0), 15),  # five came, and there are ten fewer
        (BacklogEstimate(100), OrderBacklog(110, 0.0, 10, 1.0), 0),
        (BacklogEstimate(100), OrderBacklog(120, 0.0, 10, 1.0), 0),  # one that was seen late
        (BacklogEstimate(100), OrderBacklog(80, 0.0, 0, 2.0), 10),
    ],
)
def test_the_throughput_is_what_left_since_the_last_reading(
    before: BacklogEstimate, line: OrderBacklog, left: float
) -> None:
    after = updated_estimate(before, line)
    assert after.waiting == line.waiting
    weight = after.throughput / left if left else 0.0
    assert 0.0 <= weight < 0.2  # ... and one look counts for little
    for _ in range(200):
        after = updated_estimate(BacklogEstimate(before.waiting, 0.0, after.throughput), line)
    assert after.throughput == pytest.approx(left)


def test_a_reading_without_time_between_leaves_the_throughput() -> None:
    assert updated_estimate(BacklogEstimate(5, 0.0, 3.0), OrderBacklog(4, 1.0, 0, 0.0)) == BacklogEstimate(
        4, 1.0, 3.0
    )


class World:
    """An operator that gets a set number of orders done a second, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.throughput = 18.0
        self.line: deque[float] = deque()
        self.entered = 0
        self.done = 0.0
        self.waits: list[float] = []
        self.pushback = 0.0
        self.is_silent = False

    async def read(self) -> OrderBacklog:
        if self.is_silent:
            raise Transient("LedgerUnavailable", "no")
        entered, self.entered = self.entered, 0
        age = self.now - self.line[0] if self.line else 0.0
        return OrderBacklog(len(self.line), age, entered, 1.0)

    def work(self, seconds: float) -> None:
        self.done += self.throughput * seconds
        while self.done >= 1 and self.line:
            self.done -= 1
            self.waits.append(self.now - self.line.popleft())
        self.done = min(self.done, 1.0)


def door(world: World, shed_after: float = 120.0) -> LoadShedding:
    return LoadShedding(world, lambda: world.pushback, shed_after=shed_after, monotonic=lambda: world.now)


def shed_for(reason: str) -> float:
    return REGISTRY.get_sample_value("orderplane_orders_shed_total", {"reason": reason}) or 0.0


async def look(shed: LoadShedding, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of watching."""

    async def stop(_: float) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch, pytest.raises(asyncio.CancelledError):
        patch.setattr(shedding.asyncio, "sleep", stop)
        await shed.watch(lambda: None)


async def live(
    world: World, shed: LoadShedding, seconds: int, per_second: int, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Let orders come; answers how many were admitted in each second."""
    admitted = []
    for _ in range(seconds):
        await look(shed, monkeypatch)
        count = 0
        for _ in range(per_second):
            world.now += 1 / per_second
            world.work(1 / per_second)
            try:
                shed.admit()
            except Problem as problem:
                assert (problem.type.code, problem.type.status) == ("overloaded", 503)
                assert int(problem.headers["Retry-After"]) >= 1
            else:
                world.line.append(world.now)
                world.entered += 1
                count += 1
        admitted.append(count)
    return admitted


async def test_what_can_be_carried_is_admitted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    assert await live(world, door(world), 120, 17, monkeypatch) == [17] * 120
    assert max(world.waits) < 1


async def test_a_burst_is_admitted_at_the_rate_at_which_it_is_worked_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    with capture_logs() as logs:
        admitted = await live(world, door(world), 300, 166, monkeypatch)
    # No second of it takes more than was shown to be got done, but for a moment at the beginning ...
    assert admitted[0] <= allowed_rate(0.0) * (BURST_SECONDS + 1)
    assert max(admitted[1:]) <= allowed_rate(world.throughput) + 1
    # ... and the minute of the burst a line of one minute, and what leaves it meanwhile.
    assert 18 * 60 <= sum(admitted[:60]) <= 2.2 * 18 * 60
    # From then on one enters for one that leaves: never nothing for long, never everything.
    for begin in range(75, 290, 5):
        assert 60 <= sum(admitted[begin : begin + 5]) <= 120
    assert max(world.waits) < 90
    assert [(log["event"], log["reason"]) for log in logs] == [
        ("new orders are refused", ShedReason.BURST),
        ("new orders are refused", ShedReason.LENGTH),
    ]


async def test_an_operator_that_slows_down_is_given_less(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    shed = door(world)
    await live(world, shed, 120, 166, monkeypatch)
    world.throughput = 12.0
    admitted = await live(world, shed, 240, 166, monkeypatch)
    assert sum(admitted[120:]) == pytest.approx(12 * 120, rel=0.15)
    assert max(world.waits) < 120


async def test_an_operator_that_stands_still_is_trusted_until_the_age_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.throughput = 0.0
    shed = door(world, 20.0)
    admitted = await live(world, shed, 40, 2, monkeypatch)
    assert admitted[:20] == [2] * 20
    assert admitted[22:] == [0] * 18
    world.throughput = 18.0
    admitted = await live(world, shed, 20, 2, monkeypatch)
    assert admitted[5:] == [2] * 15


async def test_between_two_looks_what_is_let_in_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    shed = door(world, 6.0)
    await look(shed, monkeypatch)
    for _ in range(int(MIN_THROUGHPUT * 3)):
        world.now += 1 / MIN_THROUGHPUT
        shed.admit()
    before = shed_for("backlog_length")
    with pytest.raises(Problem):
        shed.admit()
    assert shed_for("backlog_length") == before + 1


async def test_a_burst_is_told_to_come_again_in_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    shed = door(world)
    await look(shed, monkeypatch)
    for _ in range(int(allowed_rate(0.0) * BURST_SECONDS)):
        shed.admit()
    before = shed_for("burst")
    with pytest.raises(Problem) as refusal:
        shed.admit()
    assert refusal.value.headers["Retry-After"] == "1"
    assert shed_for("burst") == before + 1
    world.now += BURST_SECONDS
    for _ in range(int(allowed_rate(0.0) * BURST_SECONDS)):
        shed.admit()


async def test_repeats_take_nothing_from_new_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    shed = door(world, 6.0)
    await look(shed, monkeypatch)
    for _ in range(1000):
        shed.admit()
        shed.give_back()
    for _ in range(int(allowed_rate(0.0) * BURST_SECONDS)):
        shed.admit()
    with pytest.raises(Problem):
        shed.admit()


@pytest.mark.parametrize("throughput", [0.0, 4.0, MIN_THROUGHPUT, 18.0, 300.0])
def test_tokens_come_back_at_the_allowed_rate_and_are_not_saved_up(throughput: float) -> None:
    now = [0.0]
    bucket = OrderTokenBucket(lambda: now[0])

    def take_all() -> int:
        count = 0
        while bucket.has_token(throughput):
            bucket.take()
            count += 1
        return count

    take_all()
    taken = 0
    for _ in range(1000):
        now[0] += 0.01
        taken += take_all()
    assert taken == pytest.approx(allowed_rate(throughput) * 10, abs=1)
    now[0] += 3600
    assert take_all() == int(allowed_rate(throughput) * BURST_SECONDS)


def test_who_came_unasked_leaves_no_debt() -> None:
    now = [0.0]
    bucket = OrderTokenBucket(lambda: now[0])
    for _ in range(10_000):
        bucket.take()
    assert not bucket.has_token(0.0)
    now[0] += 1 / allowed_rate(0.0)
    assert bucket.has_token(0.0)


async def test_shedding_that_is_off_heeds_the_api_server_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.line.extend([0.0] * 5000)
    world.now = 5000.0
    shed = door(world, math.inf)
    await look(shed, monkeypatch)
    for _ in range(1000):
        shed.admit()
    world.pushback = 1.0
    with pytest.raises(Problem):
        shed.admit()


async def test_what_is_not_known_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    shed = door(world)
    world.line.extend([0.0] * 5000)
    world.now = 500.0
    await look(shed, monkeypatch)
    with pytest.raises(Problem):
        shed.admit()
    world.is_silent = True
    with capture_logs() as logs:
        world.now += STALE_SECONDS + 1
        await look(shed, monkeypatch)
    assert [log["event"] for log in logs] == ["the backlog is not known"]
    shed.admit()


async def test_an_api_server_that_asks_for_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    shed = door(world)
    await look(shed, monkeypatch)
    before = shed_for("api_server")
    world.pushback = 7.0
    with pytest.raises(Problem) as refusal:
        shed.admit()
    assert refusal.value.headers["Retry-After"] == "7"
    assert shed_for("api_server") == before + 1
    world.pushback = 0.0
    shed.admit()
