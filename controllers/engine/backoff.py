"""How long to wait after a failure, and when to give a key up as stalled."""

import random
from dataclasses import dataclass

from orderplane.ledgers.errors import Transient

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 30.0
PATIENCE_SECONDS = 900.0
"""After so long without one success a key is stalled: its status says so, and it is tried rarely."""
LONGEST_GAP_SECONDS = 90.0
"""Between two failures: the longest pause and the longest call. What is beyond it does not count as trying:
the process was stopped, or its machine slept."""
STALLED_RETRY_SECONDS = 60.0
RACE_SECONDS = 0.06
"""The longest pause after the first lost race."""
QUIET_SECONDS = 2.0
"""Failures that are over sooner are not worth a status write."""
PROBE_SECONDS = 3.0
"""While somebody does not answer, at least one of the keys that wait for that is tried so often."""
WOKEN_BY_AN_ANSWER = 2
"""The first answer after an outage has so many others tried at once, and so has each of theirs."""


@dataclass(frozen=True, slots=True)
class FailureState:
    """The failures in a row of one key.

    Args:
        since: The monotonic time when the first try that failed was begun.
        last: The monotonic time of the newest one.
        tried_seconds: The time from the first to the newest one in which it was really tried.
        is_stalled: It failed for too long, or only a person can help; it is tried only now and then.
        whom: Who did not answer, as in `Awaited`; None where somebody did.
    """

    reason: str
    message: str
    since: float
    tries: int
    is_stalled: bool = False
    last: float = 0.0
    tried_seconds: float = 0.0
    whom: str | None = None


def after_failure(
    before: FailureState | None,
    problem: Transient,
    now: float,
    *,
    begun: float | None = None,
    whom: str | None = None,
) -> FailureState:
    """One more failure in a row; the same reason keeps its first message, so that conditions do not flap.

    Args:
        begun: When the try that failed was begun; where it is not known, now.
        whom: As in `FailureState`.
    """
    if before is None:
        since = now if begun is None else begun
        return FailureState(
            problem.reason, problem.message, since, 1, is_stalled=problem.is_final, last=now, whom=whom
        )
    tried_seconds = before.tried_seconds + min(now - before.last, LONGEST_GAP_SECONDS)
    return FailureState(
        problem.reason,
        before.message if before.reason == problem.reason else problem.message,
        before.since,
        before.tries + 1,
        is_stalled=problem.is_final or tried_seconds > PATIENCE_SECONDS,
        last=now,
        tried_seconds=tried_seconds,
        whom=whom,
    )


def pause_after(failure: FailureState, problem: Transient, rng: random.Random) -> float:
    """Seconds until the next try: exponential, with full jitter above the half, never below what was asked.

    Source: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    """
    if failure.is_stalled:
        return rng.uniform(STALLED_RETRY_SECONDS / 2, STALLED_RETRY_SECONDS)
    ceiling = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(failure.tries - 1, 16))
    return max(rng.uniform(ceiling / 2, ceiling), problem.retry_after or 0.0)


def pause_after_race(races: int, rng: random.Random) -> float:
    """Seconds until the next try after that many lost races in a row: short at first, as the winner's watch
    event is on its way, but a race that is lost for ever must not be run for ever at full speed."""
    return min(LONGEST_SECONDS, RACE_SECONDS * (1 << min(races - 1, 16))) * rng.uniform(0.75, 1.0)
