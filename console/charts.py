"""Small charts as shapes of SVG. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600, 96


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar, from the bottom up, in units of the chart."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of one series.

    Args:
        summary: What the chart shows, for those who do not see it.
        most: The value that is as high as the chart.
    """

    title: str
    summary: str
    most: int
    bars: tuple[Bar, ...]


def bar_chart(title: str, values: Sequence[tuple[str, int]]) -> Chart:
    """One bar for each value; `values` have a label each, which is shown when one points at it."""
    most = max((value for _, value in values), default=0)
    step = WIDTH / max(1, len(values))
    bars = tuple(
        Bar(
            round(index * step + step * 0.1, 2),
            round(HEIGHT - HEIGHT * value / most, 2),
            round(step * 0.8, 2),
            round(HEIGHT * value / most, 2),
            f"{label}: {value}",
        )
        for index, (label, value) in enumerate(values)
        if value
    )
    total = sum(value for _, value in values)
    return Chart(title, f"{title}: {total} in the last hour, at most {most} in a minute.", most, bars)
