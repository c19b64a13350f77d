"""Runs before and after a change, compared: ratios of CPU and of waits."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from orderplane.dev.bench.cpu import STAND_INS, by_process
from orderplane.dev.bench.load import KINDS
from orderplane.dev.bench.record import LoadRecord

Pair = tuple[LoadRecord, LoadRecord]
_Figures = dict[tuple[str, str], float]

YARDSTICK, CORES, REQUEST, ORDER, P95 = (
    "yardstick, CPU s",
    "cores in use",
    "CPU ms of a request, gateway",
    "CPU ms of an order",
    "p95, ms",
)
"""Sections."""
ALL = "all without sandboxes and k6"
_CPU = {CORES, REQUEST, ORDER}

SPOILED = 0.05
"""Share of the machine that others used, above which a run says little."""
LEAST = 0.005
"""Cores or milliseconds: a ratio of less means nothing."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure before and after.

    Args:
        before, after: The medians of all pairs.
        ratio: The median of each pair's `after` by its `before`.
        lowest, highest: The extremes of these ratios.
        adjusted: The same as `ratio`, as if the machine had been equally fast: divided by the ratio of the
            yardsticks. None where it says nothing, because a figure is not CPU time.
    """

    section: str
    name: str
    before: float
    after: float
    ratio: float
    lowest: float
    highest: float
    adjusted: float | None


def compare(pairs: Sequence[Pair]) -> list[Row]:
    """A row for each figure that all runs have, and that is not next to nothing in all of them."""
    found = [(figures(before), figures(after)) for before, after in pairs]
    every = [each for pair in found for each in pair]
    names = [name for name in every[0] if all(name in each for each in every)]
    return [_row(pairs, found, name) for name in names if max(each[name] for each in every) >= LEAST]


def cpu_ratio(pairs: Sequence[Pair]) -> float:
    """CPU of all processes but the stand-ins, after by before, as if the machine had been equally fast."""
    return next(
        row.adjusted or row.ratio for row in compare(pairs) if (row.section, row.name) == (CORES, ALL)
    )


def figures(record: LoadRecord) -> dict[tuple[str, str], float]:
    """The figures of one run by section and name, in the order in which they are shown."""
    cores, costs = record.load.usage.cores, record.costs
    found = {
        (YARDSTICK, "the fixed work"): record.conditions.yardstick_seconds,
        (CORES, ALL): sum(used for name, used in cores.items() if name not in STAND_INS),
        **{(CORES, name): used for name, used in by_process(cores).items()},
    }
    if costs is not None:
        for kind in KINDS:
            found[REQUEST, kind] = costs.requests[kind].cpu_ms.get("gateway", 0.0)
        found[ORDER, ALL] = costs.order.all_ms
        found |= {(ORDER, name): spent for name, spent in costs.order.cpu_ms.items()}
    durations = {kind: record.load.answers.of_kind(kind) for kind in KINDS}
    return found | {(P95, kind): each["p(95)"] for kind, each in durations.items() if each}


def warnings(pairs: Sequence[Pair]) -> list[str]:
    """Why the ratios may say less than they seem to."""
    found = []
    for number, (before, after) in enumerate(pairs, 1):
        here = f"pair {number}: " if len(pairs) > 1 else ""
        for name, of in _MUST_BE_EQUAL.items():
            if of(before) != of(after):
                found.append(f"{here}{name} before {of(before)}, after {of(after)}")
        for side, record in (("before", before), ("after", after)):
            used, missed = record.load.usage, record.load.answers.missed
            if used.others > SPOILED:
                found.append(f"{here}others used {100 * used.others:.0f} % of the machine in the run {side}")
            if used.stolen > SPOILED:
                found.append(f"{here}{100 * used.stolen:.0f} % of the machine was stolen in the run {side}")
            if missed:
                found.append(f"{here}thresholds missed in the run {side}: {', '.join(missed)}")
    return found


_MUST_BE_EQUAL: dict[str, Callable[[LoadRecord], object]] = {
    "the load was": lambda record: record.load.spec.model_dump(exclude={"kind"}),
    "gateways:": lambda record: record.conditions.gateways,
    "the machine was": lambda record: record.conditions.machine,
    "the yardstick was": lambda record: record.conditions.before.alone.work,
}


def _row(pairs: Sequence[Pair], found: Sequence[tuple[_Figures, _Figures]], name: tuple[str, str]) -> Row:
    ratios = [after[name] / before[name] if before[name] else math.inf for before, after in found]
    speeds = [
        after.conditions.yardstick_seconds / before.conditions.yardstick_seconds for before, after in pairs
    ]
    adjusted = [ratio / speed for ratio, speed in zip(ratios, speeds, strict=True)]
    section, shown = name
    return Row(
        section=section,
        name=shown,
        before=statistics.median(before[name] for before, _ in found),
        after=statistics.median(after[name] for _, after in found),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        adjusted=statistics.median(adjusted) if section in _CPU else None,
    )
