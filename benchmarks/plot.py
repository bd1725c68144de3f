"""Draw results as horizontal bars: time and peak memory of every contender, relative to this package."""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import Line, duration, ratio

COLOURS = {"ours": "#1a7f37", "rival": "#8aa4c8", "floor": "#d0d0d0"}
TICKS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300]


class Bar(NamedTuple):
    """One bar: its position, its line of the table, its length, and the text for the absolute value."""

    y: float
    line: Line
    ratio: float | None
    size: str


def draw(summed: dict[str, list[Line]], title: str, out: Path) -> None:
    """Write a PNG with a row per contender, grouped by work, and ratios on a logarithmic axis."""
    mpl.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    times, peaks, heads, y = [], [], [], 0.0
    for work, contenders in summed.items():
        heads.append((y, work))
        for line in contenders:
            y += 1
            times.append(Bar(y, line, line.times, "" if line.time is None else duration(line.time)))
            peaks.append(Bar(y, line, line.peaks, "" if line.peak is None else f"{line.peak / 2**20:,.0f} MiB"))
        y += 1.6
    figure = Figure(figsize=(11, 1.2 + 0.2 * y), dpi=130, layout="constrained")
    time, memory = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axes, bars, what in ((time, times, "time"), (memory, peaks, "peak memory")):
        _draw_bars(axes, bars)
        axes.set_title(f"{what} / {what} of ours", loc="left", weight="bold")
    time.set_yticks([bar.y for bar in times], [bar.line.label for bar in times])
    time.set_ylim(y - 0.6, -1)
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right", "va": "center"}
    for at, work in heads:
        time.annotate(work, (0, at), (-8, 0), weight="bold", **beside)
    figure.suptitle(title, x=0.01, ha="left")
    figure.savefig(out)


def _draw_bars(axes: Any, bars: list[Bar]) -> None:
    known = [bar.ratio for bar in bars if bar.ratio]
    low, high = min([*known, 0.5]), max([*known, 2.0])
    axes.set_xscale("log")
    axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axes.set_xticks([], minor=True)
    axes.set_xlim(low / 1.15, high * (high / low) ** 0.45)  # space for the text after the longest bar
    axes.axvline(1, color=COLOURS["ours"], linewidth=0.8, zorder=0)
    for bar in bars:
        text, colour, end = bar.size, "#333333", 1.0
        if bar.ratio is not None:
            axes.barh(bar.y, bar.ratio - 1, left=1, height=0.72, color=COLOURS[bar.line.kind])
            text, end = f"{ratio(bar.ratio)}   {bar.size}", max(bar.ratio, 1)
        elif not bar.size:
            text, colour = bar.line.note.partition(":")[0], "#b00020"
        weight = "bold" if bar.line.kind == "ours" else "normal"
        axes.annotate(
            text, (end, bar.y), (4, 0), textcoords="offset points", va="center", color=colour, size=7, weight=weight
        )
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
