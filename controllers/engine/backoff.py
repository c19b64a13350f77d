"""How long to wait after a failure, and when to stop trying."""

import random
from dataclasses import dataclass, replace

from orderplane.ledgers.errors import Transient

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 30.0
PATIENCE_SECONDS = 900.0
"""After so long without one success a key is parked: said to be stalled, and tried only now and then."""
STALLED_RETRY_SECONDS = 60.0
QUIET_SECONDS = 2.0
"""Shorter hiccups are not worth a condition."""


@dataclass(frozen=True, slots=True)
class FailureState:
    """Why a key does not get on.

    Args:
        since: The monotonic time of the first failure in a row.
        is_stalled: Said to be stalled, and tried only now and then.
        is_quiet: Too young for a condition; but whatever was said before is not taken back either.
    """

    reason: str
    message: str
    since: float
    tries: int
    is_stalled: bool = False
    is_quiet: bool = False

    def as_told_at(self, now: float) -> "FailureState":
        """The same, quiet unless it is old enough, or final enough, for a condition."""
        return replace(self, is_quiet=not self.is_stalled and now - self.since < QUIET_SECONDS)


def after_failure(before: FailureState | None, problem: Transient, now: float) -> FailureState:
    """One more failure in a row; the same reason keeps its first message, so that conditions do not flap."""
    if before is None:
        return FailureState(problem.reason, problem.message, now, 1, is_stalled=problem.is_final)
    return FailureState(
        problem.reason,
        before.message if before.reason == problem.reason else problem.message,
        before.since,
        before.tries + 1,
        is_stalled=problem.is_final or now - before.since > PATIENCE_SECONDS,
    )


def pause_after(trouble: FailureState, problem: Transient, rng: random.Random) -> float:
    """Seconds until the next try: exponential, with full jitter above the half, never below what was asked.

    Source: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    """
    if trouble.is_stalled:
        return rng.uniform(STALLED_RETRY_SECONDS / 2, STALLED_RETRY_SECONDS)
    ceiling = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(trouble.tries - 1, 16))
    return max(rng.uniform(ceiling / 2, ceiling), problem.retry_after or 0.0)
