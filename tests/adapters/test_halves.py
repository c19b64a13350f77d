"""No half of a process ends, or stands still, without a word."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest
from structlog.testing import capture_logs

from orderplane.adapters import halves as halves_module
from orderplane.adapters.halves import Beat, Half, Halves
from orderplane.adapters.retry import retry
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.dev.localplane.ports import free_port


@pytest.fixture
def stopping() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def halves(stopping: asyncio.Event) -> Halves:
    return Halves(stopping)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    monkeypatch.setattr(halves_module.time, "monotonic", lambda: now[0])
    yield now


async def forever(_: Beat) -> None:
    await asyncio.Event().wait()


async def returns(_: Beat) -> None:
    """It has nothing to do any more."""


async def fails(_: Beat) -> None:
    raise ValueError("broken")


async def is_cancelled_by_a_library(_: Beat) -> None:
    # What awaiting a task does that a library has cancelled: nobody has cancelled us.
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (returns, "returned"),
        (fails, "ValueError('broken')"),
        (is_cancelled_by_a_library, "cancelled by a library"),
    ],
)
async def test_a_half_that_ends_early_ends_the_process_with_a_log_line(
    halves: Halves, stopping: asyncio.Event, work: object, why: str
) -> None:
    with capture_logs() as lines:
        async with asyncio.timeout(5), halves.running(Half("listen", work), Half("other", forever)):  # type: ignore[arg-type]
            await stopping.wait()
    (line,) = lines
    assert (line["half"], line["why"], line["log_level"]) == ("listen", why, "error")
    assert halves.has_failed


async def test_a_half_that_ends_because_it_was_told_to_is_no_failure(
    halves: Halves, stopping: asyncio.Event
) -> None:
    async def until_told(_: Beat) -> None:
        await stopping.wait()

    with capture_logs() as lines:
        async with halves.running(Half("drains", until_told, finish=stopping.set), Half("x", forever)):
            await asyncio.sleep(0)
    assert (lines, halves.has_failed) == ([], False)


async def test_what_is_in_hand_is_finished_and_what_takes_too_long_is_cancelled(
    halves: Halves, stopping: asyncio.Event
) -> None:
    ends: list[str] = []

    async def work(name: str, seconds: float) -> None:
        try:
            await stopping.wait()
            await asyncio.sleep(seconds)
            ends.append(f"{name} finished")
        except asyncio.CancelledError:
            ends.append(f"{name} cancelled")
            raise

    quick = Half("quick", lambda _: work("quick", 0), finish=stopping.set)
    slow = Half("slow", lambda _: work("slow", 60), finish=stopping.set)
    async with halves.running(quick, slow, drain_seconds=0.2):
        await asyncio.sleep(0)
    assert sorted(ends) == ["quick finished", "slow cancelled"]
    assert not halves.has_failed


async def test_a_failure_at_the_end_is_a_failure(halves: Halves, stopping: asyncio.Event) -> None:
    async def breaks(_: Beat) -> None:
        await stopping.wait()
        raise ValueError("too late")

    with capture_logs() as lines:
        async with halves.running(Half("drains", breaks, finish=stopping.set), drain_seconds=5):
            await asyncio.sleep(0)
    assert halves.has_failed
    assert [line["half"] for line in lines] == ["drains"]


async def test_a_half_that_makes_no_progress_is_named_by_the_probe(
    halves: Halves, clock: list[float]
) -> None:
    beats: list[Beat] = []

    async def work(beat: Beat) -> None:
        beats.append(beat)
        await forever(beat)

    port = free_port()
    probe = f"http://127.0.0.1:{port}/healthz"
    async with (
        serve_telemetry("127.0.0.1", port, why_not_ready=lambda: None, stuck=lambda: halves.stuck),
        aiohttp.ClientSession() as http,
        halves.running(Half("listen", work, patience=30), Half("count", work)),
    ):
        await asyncio.sleep(0)
        clock[0] += 29
        async with http.get(probe) as answer:
            assert answer.status == 200
        clock[0] += 2
        async with http.get(probe) as answer:
            assert answer.status == 503
            assert await answer.text() == "listen has made no progress for 31 s\n"
        beats[0]()
        async with http.get(probe) as answer:
            assert answer.status == 200


async def test_of_a_half_with_many_things_at_a_time_the_longest_counts(halves: Halves) -> None:
    seconds = [0.0]
    async with halves.running(Half("payments", forever, silence=lambda: seconds[0], patience=600)):
        assert halves.stuck == {}
        seconds[0] = 601.0
        assert halves.stuck == {"payments": 601.0}


async def test_a_cancellation_that_a_library_leaks_is_tried_again() -> None:
    problems: list[Exception] = []
    attempts = 0

    async def attempt() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise asyncio.CancelledError
        return "done"

    assert await retry(attempt, on=(), on_failure=problems.append, longest_pause=0.01) == "done"
    assert len(problems) == 1


async def test_a_cancellation_that_is_meant_ends_it() -> None:
    problems: list[Exception] = []
    retrying = asyncio.create_task(retry(asyncio.Event().wait, on=(), on_failure=problems.append))
    await asyncio.sleep(0)
    retrying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await retrying
    assert problems == []
