"""Draws dashboards: run by `pictures`, in an environment of its own that has matplotlib.

`python draw.py FOLDER` reads dashboards as JSON from standard input, and writes FOLDER/NAME.png for each.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot

WIDTH, UNIT = 16.0, 0.33
"""Inches of a whole row, and of one unit of height in Grafana's grid."""

MANY = 8
"""A legend with more series than this hides the picture."""


def draw(dashboard: dict[str, Any], file: Path) -> None:
    """One picture with every panel at its place in Grafana's grid."""
    panels = dashboard["panels"]
    height = max(panel["y"] + panel["h"] for panel in panels)
    figure = pyplot.figure(figsize=(WIDTH, height * UNIT), dpi=70)
    for panel in panels:
        axes = figure.add_axes(
            (
                panel["x"] / 24 + 0.03,
                1 - (panel["y"] + panel["h"] - 1.2) / height,
                panel["w"] / 24 - 0.04,
                (panel["h"] - 2.4) / height,
            )
        )
        unit = "" if panel["unit"] == "short" else f" ({panel['unit']})"
        axes.set_title(panel["title"] + unit, fontsize=8, loc="left")
        axes.tick_params(labelsize=6)
        {"stat": draw_number, "bargauge": draw_bars}.get(panel["type"], draw_lines)(axes, panel)
    figure.savefig(file, metadata={"Software": None})
    pyplot.close(figure)


def draw_number(axes: Any, panel: dict[str, Any]) -> None:
    """The newest value, large."""
    axes.axis("off")
    value = panel["series"][0]["values"][-1]
    axes.text(0.5, 0.4, f"{value:.6g}", fontsize=18, ha="center", va="center", color="#1f60c4")


def draw_bars(axes: Any, panel: dict[str, Any]) -> None:
    """The newest value of each series."""
    series = sorted(panel["series"], key=lambda each: each["values"][-1])
    axes.barh(range(len(series)), [each["values"][-1] for each in series], color="#5794f2")
    axes.set_yticks([])
    for row, each in enumerate(series):
        axes.text(0, row, f" {each['name']}", fontsize=7, va="center")


def draw_lines(axes: Any, panel: dict[str, Any]) -> None:
    """Values over the seconds since the beginning."""
    for each in panel["series"]:
        values = [value if math.isfinite(value) else math.nan for value in each["values"]]
        axes.plot(each["seconds"], values, linewidth=0.9, label=each["name"] or panel["title"])
    # A line at zero is to be seen, too.
    _, top = axes.get_ylim()
    axes.set_ylim(-0.03 * max(top, 1e-3), top)
    axes.grid(visible=True, linewidth=0.2)
    if len(panel["series"]) <= MANY:
        axes.legend(fontsize=5, loc="upper left", frameon=False)


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        draw(each, Path(sys.argv[1]) / f"{each['name']}.png")
