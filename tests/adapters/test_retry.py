"""Waiting and retrying: when an attempt is made again, and when no more."""

import asyncio
import itertools

import pytest

from orderplane.adapters.retry import Stopped, pauses, retry, wait_for_event


class Unreliable:
    """Fails a number of times."""

    def __init__(self, failures: int, problem: Exception | None = None) -> None:
        self.attempts = 0
        self.noted: list[Exception] = []
        self._failures = failures
        self._problem = problem or ConnectionError("not yet")

    async def attempt(self) -> int:
        self.attempts += 1
        if self.attempts <= self._failures:
            raise self._problem
        return self.attempts


def test_pauses_double_up_to_the_longest() -> None:
    assert list(itertools.islice(pauses(0.5, 3.0), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


async def test_an_attempt_is_repeated_until_it_succeeds() -> None:
    dependency = Unreliable(3)
    result = await retry(
        dependency.attempt, on=(OSError,), on_failure=dependency.noted.append, longest_pause=0.01
    )
    assert (result, dependency.attempts, len(dependency.noted)) == (4, 4, 3)


async def test_other_failures_are_raised() -> None:
    dependency = Unreliable(1, ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await retry(dependency.attempt, on=(OSError,), on_failure=dependency.noted.append)
    assert not dependency.noted


async def test_it_ends_when_it_is_told_to() -> None:
    dependency, stopping = Unreliable(1_000_000), asyncio.Event()
    retrying = asyncio.create_task(
        retry(dependency.attempt, on=(OSError,), on_failure=dependency.noted.append, stopping=stopping)
    )
    await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(Stopped):
        await retrying
    assert dependency.attempts == 1


async def test_a_wait_says_whether_the_event_is_set() -> None:
    event = asyncio.Event()
    assert not await wait_for_event(event, 0.01)
    event.set()
    assert await wait_for_event(event, 10)
