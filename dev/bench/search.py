"""The highest rate that holds: searched with short runs, by halving the ratio between good and bad rates."""

import math
from collections.abc import Awaitable, Callable, Sequence

from pydantic import BaseModel, ConfigDict

from orderplane.dev.bench.load import KINDS, Answers

LOWEST, HIGHEST = 60, 1_000_000
"""Requests a minute."""
FINE = 1.05
"""The search ends when the lowest bad rate is at most this multiple of the highest good one."""
TRIES = 2
"""A rate is bad when so many runs have failed. One may have had bad luck on a busy machine."""


class Trial(BaseModel):
    """One short run.

    Args:
        missed: What did not hold: a p95, or a request that was refused or not sent. Empty if all held.
        p95_ms: By kind of request.
        end_seconds: From its end until the last order was finished; None if one was not in time. It decides
            nothing, but when it grows with the rate, orders come faster than they are processed.
    """

    model_config = ConfigDict(frozen=True)

    per_minute: int
    missed: tuple[str, ...]
    p95_ms: dict[str, float]
    end_seconds: float | None

    @property
    def is_held(self) -> bool:
        """Every p95 below its bound, and none refused."""
        return not self.missed


def trial(per_minute: int, answers: Answers, end_seconds: float | None) -> Trial:
    """What a run has shown."""
    durations = {kind: answers.of_kind(kind) for kind in KINDS}
    return Trial(
        per_minute=per_minute,
        missed=tuple(answers.missed),
        p95_ms={kind: found["p(95)"] for kind, found in durations.items() if found},
        end_seconds=end_seconds,
    )


def highest_held(trials: Sequence[Trial]) -> int | None:
    """The highest rate that held in any run; None if none did."""
    return max((each.per_minute for each in trials if each.is_held), default=None)


def next_rate(trials: Sequence[Trial], start: int) -> int | None:
    """The rate to try next, in requests a minute; None when the answer is known well enough.

    It doubles from `start` until a rate is bad, or halves until one is good; then it takes the geometric
    middle of the two. A rate that held above one that failed is believed: to hold by luck is rare, to fail by
    bad luck is not.
    """
    good = highest_held(trials)
    failures: dict[int, int] = {}
    for each in trials:
        if not each.is_held and (good is None or each.per_minute > good):
            failures[each.per_minute] = failures.get(each.per_minute, 0) + 1
    if again := [rate for rate, count in failures.items() if count < TRIES]:
        return min(again)
    bad = min(failures, default=None)
    if good is None and bad is None:
        return start
    if bad is None:
        assert good is not None
        return good * 2 if good * 2 <= HIGHEST else None
    if good is None:
        return bad // 2 if bad // 2 >= LOWEST else None
    return round(math.sqrt(good * bad)) if bad > good * FINE else None


async def search(
    start: int, run: Callable[[int], Awaitable[Trial]], has_time: Callable[[], bool]
) -> tuple[Trial, ...]:
    """Run at one rate after the other, until the answer is known or no time is left."""
    trials: list[Trial] = []
    while has_time() and (rate := next_rate(trials, start)) is not None:
        trials.append(await run(rate))
    return tuple(trials)
