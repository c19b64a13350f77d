"""The figures of a run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

from orderplane.adapters.kafka.topics import read_all
from orderplane.dev.demo.shop import Placed
from orderplane.ledgers.postgres.session import Pool, session

_LATENCY = """
SELECT extract(epoch FROM shipped.at - created.at)::float8 AS seconds
FROM history created JOIN history shipped USING (merchant, subject)
WHERE created.type = 'order.created' AND shipped.type = 'order.shipped'
"""


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one run. Latency is from `order.created` to `order.shipped`, in seconds."""

    ends: dict[str, int]
    latency_p50: float
    latency_p95: float
    events: dict[str, int]
    unexpected: tuple[str, ...]


async def summarise(placed: Sequence[Placed], pool: Pool, kafka: str) -> Summary:
    """Read the figures from the history and the topics."""
    async with session(pool) as connection:
        seconds = sorted(row["seconds"] for row in await connection.fetch(_LATENCY))
    topics: Counter[str] = Counter()
    if kafka:
        async for record in read_all(kafka):
            topics[record.topic] += 1
    ends = Counter(f"{p.phase} ({p.reason})" if p.reason else p.phase for p in placed)
    return Summary(
        ends=dict(ends.most_common()),
        latency_p50=percentile(seconds, 50),
        latency_p95=percentile(seconds, 95),
        events=dict(sorted(topics.items())),
        unexpected=tuple(describe(p) for p in placed if not p.is_as_expected),
    )


def percentile(ordered: Sequence[float], percent: int) -> float:
    """A percentile of sorted values; 0.0 if there are none."""
    if len(ordered) < 2:
        return ordered[0] if ordered else 0.0
    return quantiles(ordered, n=100, method="inclusive")[percent - 1]


def describe(placed: Placed) -> str:
    """One order that did not end as expected, as a line of text."""
    wanted = f"{placed.expected} ({placed.case.reason})" if placed.case.reason else placed.expected
    got = placed.problem or f"{placed.phase} ({placed.reason})"
    return f"#{placed.case.number} {placed.name} [{placed.case.story}]: expected {wanted}, got {got}"


def to_record(placed: Placed) -> dict[str, Any]:
    """One order as JSON."""
    seconds = placed.ended_at - placed.placed_at if placed.ended_at is not None else None
    return {
        "name": placed.name,
        "story": placed.case.story.value,
        "expected": placed.expected,
        "expectedReason": None if placed.was_too_late else placed.case.reason,
        "actual": placed.phase,
        "actualReason": placed.reason,
        "seconds": round(seconds, 3) if seconds is not None else None,
        "problem": placed.problem,
    }
