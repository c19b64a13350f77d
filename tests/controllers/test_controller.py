"""The engine's worker loop: fairness between namespaces, and status writes that are refused."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from orderplane.controllers.engine import controller as loop
from orderplane.controllers.engine import delays, waiting
from orderplane.controllers.engine.backoff import (
    LONGEST_SECONDS,
    PATIENCE_SECONDS,
    STALLED_RETRY_SECONDS,
    FailureState,
)
from orderplane.controllers.engine.controller import Controller
from orderplane.controllers.engine.delays import Delay
from orderplane.controllers.engine.queue import Key, KeyedQueue
from orderplane.crds.api_errors import ApiError, Conflict, Unavailable, error_from
from orderplane.crds.meta import Kind
from orderplane.crds.reasons import Reason
from orderplane.ledgers.awaiting import awaiting
from orderplane.ledgers.errors import Transient

KEY = ("shop", "tea")
REFUSAL = error_from(
    422,
    {
        "reason": "Invalid",
        "message": 'Order.orderplane.dev "tea" is invalid: spec.address.city: Invalid value: "Secretville"',
        "details": {"causes": [{"field": "spec.address.city", "message": 'Invalid value: "Secretville"'}]},
    },
)


class Scripted:
    """A reconciler that does what the test says, and remembers what it was asked."""

    kind = Kind.ORDER

    def __init__(
        self,
        reconcile: Callable[[Key], Awaitable[None]] | None = None,
        problem: Callable[[], Exception | None] = lambda: None,
    ) -> None:
        self._reconcile = reconcile
        self._problem = problem
        self.reconciled: list[Key] = []
        self.writes = 0
        self.pause = 0.0
        self.told: list[FailureState] = []
        self.delays: list[Delay | None] = []
        self.is_busy = asyncio.Event()
        self.has_written = asyncio.Event()

    async def reconcile(self, key: Key, failure: FailureState | None, hint: object = None) -> None:
        self.reconciled.append(key)
        if len(self.reconciled) == 100:
            self.is_busy.set()
        if self._reconcile is not None:
            await self._reconcile(key)

    def report_pause(self, key: Key) -> float:
        return self.pause

    async def write_status(self, key: Key, delay: Delay | None) -> None:
        self.writes += 1
        self.delays.append(delay)
        self.has_written.set()
        problem = self._problem()
        if problem is not None:
            raise problem

    async def tell_unwritten(self, key: Key, failure: FailureState) -> None:
        self.told.append(failure)

    async def refresh(self, key: Key) -> None: ...

    def priority(self, key: Key) -> int:
        return 0

    def traceparent(self, key: Key) -> str | None:
        return None

    def order_of(self, key: Key) -> str:
        return key[1]


async def test_a_thousand_objects_that_fail_for_ever_do_not_delay_another_namespace() -> None:
    reached = asyncio.Event()

    async def fail(key: Key) -> None:
        await asyncio.sleep(0)
        if key[0] == "quiet":
            reached.set()
            return
        raise Transient(Reason.PAYMENTS_UNAVAILABLE, "the provider is down", retry_after=0.0)

    reconciler = Scripted(fail)
    workers = 4
    controller: Controller[object] = Controller(reconciler, workers=workers, writers=1, rng=random.Random(1))
    for number in range(1_000):
        controller.enqueue(("busy", str(number)))
    running = asyncio.create_task(controller.run())
    await asyncio.wait_for(reconciler.is_busy.wait(), 10)
    before = len(reconciler.reconciled)
    controller.enqueue(("quiet", "order"))
    await asyncio.wait_for(reached.wait(), 10)
    controller.stop()
    await running
    assert reconciler.reconciled.index(("quiet", "order")) - before <= workers


async def test_reports_wait_for_the_next_step_and_then_are_one() -> None:
    reconciler = Scripted()
    controller: Controller[object] = Controller(reconciler, workers=1, writers=1)
    running = asyncio.create_task(controller.run())
    reconciler.pause = 3600.0
    await controller.reconcile(KEY)
    await controller.reconcile(KEY)
    assert not reconciler.has_written.is_set()
    reconciler.pause = 0.0
    await controller.reconcile(KEY)
    await asyncio.wait_for(reconciler.has_written.wait(), 10)
    controller.stop()
    await running
    assert reconciler.writes == 1


async def test_a_step_that_takes_longer_than_the_pause_is_reported() -> None:
    reconciler = Scripted()
    controller: Controller[object] = Controller(reconciler, workers=1, writers=1)
    running = asyncio.create_task(controller.run())
    reconciler.pause = 0.001
    await controller.reconcile(KEY)
    await asyncio.wait_for(reconciler.has_written.wait(), 10)
    controller.stop()
    await running


async def test_what_waits_to_be_reported_is_written_at_the_end() -> None:
    reconciler = Scripted()
    controller: Controller[object] = Controller(reconciler, workers=1, writers=2)
    running = asyncio.create_task(controller.run())
    reconciler.pause = 3600.0
    await controller.reconcile(KEY)
    await controller.reconcile((KEY[0], "another"))
    assert reconciler.writes == 0
    controller.stop()
    await asyncio.wait_for(running, 10)
    assert reconciler.writes == 2


async def test_a_report_that_fails_at_the_end_does_not_delay_it() -> None:
    reconciler = Scripted(problem=lambda: Unavailable(0, "NoAnswer", "away"))
    controller: Controller[object] = Controller(reconciler, workers=1, writers=1)
    running = asyncio.create_task(controller.run())
    reconciler.pause = 3600.0
    await controller.reconcile(KEY)
    controller.stop()
    await asyncio.wait_for(running, 10)
    assert reconciler.writes == 1


class Pauses:
    """What a controller has asked its queues to wait, on a clock that the test moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.found: list[float] = []
        monkeypatch.setattr(KeyedQueue, "add_after", self._add_after)

    def _add_after(self, _: Key, seconds: float, priority: int = 0) -> None:
        self.found.append(seconds)
        self.now += seconds


async def test_a_status_that_is_refused_for_good_is_tried_rarely_and_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was tried once a second, for ever, and nobody was told."""
    pauses = Pauses(monkeypatch)
    reconciler = Scripted(problem=lambda: REFUSAL)
    controller: Controller[object] = Controller(
        reconciler, workers=1, writers=1, monotonic=lambda: pauses.now, rng=random.Random(1)
    )
    for _ in range(20):
        await controller.write_status(KEY)
    assert all(STALLED_RETRY_SECONDS / 2 <= pause <= STALLED_RETRY_SECONDS for pause in pauses.found)
    (told,) = reconciler.told
    assert (told.reason, told.message) == (Reason.STATUS_NOT_WRITTEN, "Invalid: spec.address.city")


async def test_status_writes_without_an_answer_back_off_and_are_told_after_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses = Pauses(monkeypatch)
    problems: list[Exception | None] = [Unavailable(503, "ServiceUnavailable", "etcd is away")]
    reconciler = Scripted(problem=lambda: problems[0])
    controller: Controller[object] = Controller(
        reconciler, workers=1, writers=1, monotonic=lambda: pauses.now, rng=random.Random(1)
    )
    while pauses.now <= PATIENCE_SECONDS:
        assert not reconciler.told
        await controller.write_status(KEY)
    assert all(2 * short >= long / 2 for short, long in zip(pauses.found, pauses.found[1:], strict=False))
    assert pauses.found[0] <= 0.25
    assert LONGEST_SECONDS / 2 <= pauses.found[-1] <= LONGEST_SECONDS
    assert reconciler.writes < 60
    await controller.write_status(KEY)
    assert len(reconciler.told) == 1
    problems[0] = None
    await controller.write_status(KEY)
    problems[0] = Unavailable(503, "ServiceUnavailable", "etcd is away")
    await controller.write_status(KEY)
    assert pauses.found[-1] <= 0.25


async def test_reconciles_do_not_outrun_the_pauses_of_status_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = Pauses(monkeypatch)
    problems: list[Exception | None] = [REFUSAL]
    reconciler = Scripted(problem=lambda: problems[0])
    controller: Controller[object] = Controller(
        reconciler, workers=1, writers=1, monotonic=lambda: pauses.now, rng=random.Random(1)
    )
    await controller.reconcile(KEY)
    assert not controller.is_idle
    await controller.write_status(KEY)
    reconciler.has_written.clear()
    running = asyncio.create_task(controller.run())
    await asyncio.wait_for(reconciler.has_written.wait(), 10)
    for _ in range(5):
        await asyncio.sleep(0)
    assert controller.is_idle
    for _ in range(5):
        await controller.reconcile(KEY)
    assert controller.is_idle
    problems[0] = None
    await controller.write_status(KEY)
    await controller.reconcile(KEY)
    assert not controller.is_idle
    controller.stop()
    await running


@pytest.mark.parametrize("what", ["reconcile", "write_status"])
async def test_a_race_that_is_lost_for_ever_is_not_run_at_full_speed(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    pauses = Pauses(monkeypatch)

    async def lose(_: Key) -> None:
        raise Conflict(409, "Conflict", "somebody was faster")

    reconciler = Scripted(lose, lambda: Conflict(409, "Conflict", "somebody was faster"))
    controller: Controller[object] = Controller(
        reconciler, workers=1, writers=1, monotonic=lambda: pauses.now, rng=random.Random(1)
    )
    for _ in range(20):
        await getattr(controller, what)(KEY)
    assert pauses.found[0] < 0.1
    assert LONGEST_SECONDS / 2 <= pauses.found[-1] <= LONGEST_SECONDS


@pytest.mark.parametrize(
    ("problem", "summary"),
    [
        (REFUSAL, "Invalid: spec.address.city"),
        (error_from(503, {"reason": "ServiceUnavailable", "message": "etcd is away"}), "etcd is away"),
        (error_from(422, {"reason": "Invalid", "message": "x"}), "Invalid: the object"),
    ],
)
def test_the_summary_of_a_refusal_has_no_values(problem: ApiError, summary: str) -> None:
    assert problem.summary == summary


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that takes seconds takes a hundredth of them."""
    monkeypatch.setattr(delays, "TELL_SECONDS", 0.03)
    monkeypatch.setattr(delays, "QUIET_SECONDS", 0.02)
    monkeypatch.setattr(waiting, "TELL_SECONDS", 0.03)
    monkeypatch.setattr(loop, "PROBE_SECONDS", 0.03)
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.005)


@pytest.mark.usefixtures("impatient")
async def test_a_call_without_an_answer_is_reported_while_it_is_open() -> None:
    answered = asyncio.Event()

    async def hang(_: Key) -> None:
        with awaiting("payments", "confirm"):
            await answered.wait()

    reconciler = Scripted(hang)
    controller: Controller[object] = Controller(reconciler, workers=1, writers=1, unix_time=lambda: 0.0)
    running = asyncio.create_task(controller.run())
    other = ("shop", "mug")
    controller.enqueue(KEY)
    controller.enqueue(other)
    # The second key waits for the only worker, which waits for the provider.
    await until(lambda: len(reconciler.delays) == 2)
    for delay in reconciler.delays:
        assert delay is not None
        assert (delay.reason, delay.whom, delay.is_stalled) == (Reason.PAYMENTS_UNCLEAR, "payments", False)
        assert "confirm" in delay.message
        assert "since 19" in delay.message
    answered.set()
    await until(lambda: len(reconciler.delays) == 4)
    assert reconciler.delays[2:] == [None, None]
    controller.stop()
    await running


@pytest.mark.usefixtures("impatient")
async def test_after_an_outage_all_go_on_before_their_own_pauses_are_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "pause_after", lambda *_: 3600.0)
    # One after the other, by probes alone, they would take a minute.
    monkeypatch.setattr(loop, "PROBE_SECONDS", 1.0)
    is_down = True

    async def ask(_: Key) -> None:
        if is_down:
            raise Transient(Reason.CARRIER_UNAVAILABLE, "down")

    reconciler = Scripted(ask)
    controller: Controller[object] = Controller(reconciler, workers=2, writers=1)
    running = asyncio.create_task(controller.run())
    keys = [("shop", str(number)) for number in range(50)]
    for key in keys:
        controller.enqueue(key)
    await until(lambda: set(keys) <= set(reconciler.reconciled))
    is_down = False
    done = len(reconciler.reconciled)
    await until(lambda: set(keys) <= set(reconciler.reconciled[done:]))
    controller.stop()
    await running
    assert len(reconciler.reconciled) == done + len(keys)


@pytest.mark.usefixtures("impatient")
async def test_a_failure_after_a_long_call_is_told_at_once() -> None:
    """Nothing was heard for as long as the call took."""

    async def time_out(_: Key) -> None:
        await asyncio.sleep(0.05)
        raise Transient(Reason.PAYMENTS_UNCLEAR, "no answer", retry_after=3600.0)

    reconciler = Scripted(time_out)
    controller: Controller[object] = Controller(reconciler, workers=1, writers=1)
    running = asyncio.create_task(controller.run())
    controller.enqueue(KEY)
    await until(lambda: bool(reconciler.delays))
    first = reconciler.delays[0]
    assert first is not None
    assert (first.reason, first.is_quiet) == (Reason.PAYMENTS_UNCLEAR, False)
    controller.stop()
    await running


async def test_only_outages_are_probed() -> None:
    async def refuse(_: Key) -> None:
        raise Transient(Reason.CHILD_CONFLICT, "a person has to act", is_final=True)

    reconciler = Scripted(refuse)
    controller: Controller[object] = Controller(reconciler, workers=1, writers=1)
    await controller.reconcile(KEY)
    assert not controller._resting
