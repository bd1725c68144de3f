"""Charts of the numbers, for a card. Needs matplotlib, of the extra `plot`."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Final

from _newsclippings.errors import MissingDependencyError
from _newsclippings.facts import COLORS, FAINT, INK, LABELS, PAPER
from _newsclippings.storage import CHART, SOFTWARE, Place, check_output, write_atomically
from _newsclippings.text import printable

BLUE, GRID = "#3b6ea8", "#e3e6ea"  # of bars without a label; of grid lines
STYLE: Final = {
    "font.size": 10,
    "text.parse_math": False,  # names may contain a $
    "savefig.dpi": 150,
    "grid.color": GRID,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    **dict.fromkeys(("text.color", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), FAINT),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
}
WIDTH: Final = 8.0  # inches
LONGEST: Final = 24  # characters of a name beside a bar; longer names are cut

Stats = Mapping[str, Any]


def require_matplotlib() -> None:
    """Raise `MissingDependencyError` where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        message = (
            "Charts need matplotlib, which is not installed: pip install 'newsclippings[plot]'. "
            "Without --plot, the same numbers are printed."
        )
        raise MissingDependencyError(message)


def check_charts(configs: Iterable[str], folder: Place) -> None:
    """Refuse to draw charts of configs if other files have their names; raises as `check_output`."""
    for config in configs:
        for name in CHARTS:
            check_output(_chart(folder, config, name), CHART)


def _chart(folder: Place, config: str, name: str) -> Place:
    return folder / f"{config}-{name.replace('_', '-')}.png"


def draw_stats(stats: Stats, folder: Place) -> list[Place]:
    """Draw a chart of each group of numbers.

    Args:
        stats: as `folder_stats` returns them.
        folder: the folder to write to; each chart is a PNG named after its config and what it shows.

    Returns:
        The files.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib as mpl

    written = []
    with mpl.rc_context(STYLE):
        for config, groups in stats["configs"].items():
            for name, draw in CHARTS.items():
                file = _chart(folder, config, name)
                if groups.get(name) is None:
                    if file.is_file() and CHART.wrote(file):
                        file.unlink()  # of an earlier build
                    continue
                figure = draw(groups[name])
                figure.suptitle(config, x=0.008, ha="left", color=FAINT, size=10)
                written.append(file)
                with write_atomically(file, CHART) as temporary:
                    figure.savefig(temporary, format="png", metadata={SOFTWARE: CHART.name})
    return written


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _scores(by_measure: Stats) -> Any:
    """A histogram per sub-split, below each other on the same axis, with a line at the median."""
    figure = _figure(0.9 + 1.15 * len(by_measure))
    panels = figure.subplots(len(by_measure), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (measure, spread) in zip(panels, by_measure.items(), strict=True):
        _histogram(axes, spread, f"{measure}  ({spread['count']:,} falsified rows)", COLORS[1], "{:.3f}")
    panels[-1].set_xlabel("similarity_score of falsified rows")
    return figure


def _labels_of(what: str) -> Callable[[Stats], Any]:
    """A function that draws rows by name and label: of captions, and beside them of pictures."""

    def draw(by_owner: Stats) -> Any:
        most = max((len(counts) for counts in by_owner.values()), default=1)
        figure = _figure(1.3 + 0.27 * most)
        panels = figure.subplots(1, len(by_owner), squeeze=False)[0]
        for axes, (owner, counts) in zip(panels, by_owner.items(), strict=True):
            _label_bars(axes, counts)
            axes.set_title(f"{what} of the {owner[:-1]}")
            axes.set_ylim(most - 0.4, -0.6)  # the same thickness of bars in both
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False)
        return figure

    return draw


def _label_bars(axes: Any, counts: Stats) -> None:
    at, start = range(len(counts)), [0] * len(counts)
    for label, color in zip(LABELS, COLORS, strict=True):
        rows = [labels[label] for labels in counts.values()]
        bars = axes.barh(at, rows, left=start, color=color, height=0.72, label=label, edgecolor=PAPER, linewidth=0.6)
        start = [a + b for a, b in zip(start, rows, strict=True)]
    shares = [f"{labels[LABELS[1]] / max(1, n):.0%}" for labels, n in zip(counts.values(), start, strict=True)]
    axes.bar_label(bars, shares, padding=4, color=FAINT, size=8.5)
    _name_bars(axes, counts)
    axes.set(xlim=(0, 1.16 * max([1, *start])), xlabel="rows (share falsified)")
    axes.locator_params(axis="x", integer=True)
    _thousands(axes.xaxis)


def _captions(spread: Stats) -> Any:
    figure = _figure(2.9)
    axes = figure.subplots()
    _histogram(axes, spread, f"Length of captions  ({spread['count']:,}, each once)")
    axes.set_xlabel("characters")
    return figure


def _pictures(spreads: Stats) -> Any:
    figure = _figure(4.9)
    panels = figure.subplot_mosaic([["bytes", "bytes"], ["width", "height"]])
    for name, unit in (("bytes", "bytes"), ("width", "pixels"), ("height", "pixels")):
        title = f"Pictures: {name}  ({spreads[name]['count']:,}, each once)"
        _histogram(panels[name], spreads[name], title, log=name == "bytes")
        panels[name].set_xlabel("bytes (logarithmic)" if name == "bytes" else unit)
    return figure


def _reused(numbers: Stats) -> Any:
    """How many rows show a picture; and the pictures that most rows show."""
    most = numbers["most"]
    figure = _figure(1.3 + 0.22 * max(12, len(most)))
    left, right = figure.subplots(1, 2)
    uses: dict[int, int] = {}  # 0: one row, 1: two, 2: three or four, 3: five to eight, ...
    for rows, pictures in numbers["rows_per_picture"].items():
        k = (int(rows) - 1).bit_length()
        uses[k] = uses.get(k, 0) + pictures
    bars = left.barh(list(uses), list(uses.values()), color=BLUE, height=0.72)
    left.bar_label(bars, [f"{pictures:,}" for pictures in uses.values()], padding=4, color=FAINT, size=8.5)
    left.set(title=f"Pictures by rows  ({sum(uses.values()):,})", xlabel="pictures", ylabel="rows that show it")
    _name_bars(left, [f"{2**k}" if k < 2 else f"{2 ** (k - 1) + 1} to {2**k}" for k in uses], list(uses))
    left.locator_params(axis="x", integer=True, nbins=5)
    left.set(xlim=(0, 1.3 * max([1, *uses.values()])), ylim=(max([7, *uses]) + 0.6, -0.6))
    _thousands(left.xaxis)
    right.barh(range(len(most)), [picture["rows"] for picture in most], color=BLUE, height=0.72)
    _name_bars(right, [str(picture["image_id"]) for picture in most])
    right.invert_yaxis()
    right.locator_params(axis="x", integer=True)
    right.set(title="Shown by most rows (image_id)", xlabel="rows")
    return figure


def _name_bars(axes: Any, names: Collection[str], at: Sequence[int] | None = None) -> None:
    shown = [printable(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…") for name in names]
    axes.set_yticks(range(len(names)) if at is None else at, shown)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def _histogram(
    axes: Any, spread: Stats, title: str, color: str = BLUE, form: str = "{:,.0f}", log: bool = False
) -> None:
    axes.set_title(title)
    _thousands(axes.yaxis)
    axes.locator_params(axis="y", integer=True, nbins=4)
    if not spread["count"]:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=FAINT)
        axes.set(xticks=[], yticks=[])
        return
    axes.stairs(spread["counts"], spread["edges"], fill=True, color=color)
    axes.margins(x=0.01, y=0.28)  # space for the label
    if log:
        axes.set_xscale("log", subs=[])
        wide = max(spread["edges"]) > 1_000 * min(spread["edges"])  # else the numbers overlap
        axes.xaxis.get_major_locator().set_params(subs=(1,) if wide else (1, 2, 5))
    _thousands(axes.xaxis, small=max(spread["edges"]) < 10)
    axes.axvline(spread["median"], color=INK, linewidth=1)
    beside = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "va": "top", "size": 8.5}
    axes.annotate(f"median {form.format(spread['median'])}", (spread["median"], 0.97), (4, 0), **beside)


def _thousands(axis: Any, small: bool = False) -> None:
    axis.set_major_formatter(lambda value, _: f"{value:g}" if small else f"{value:,.0f}")


CHARTS: Final[dict[str, Callable[[Stats], Any]]] = {
    "scores": _scores,
    "outlets": _labels_of("Outlet"),
    "topics": _labels_of("Topic"),
    "caption_characters": _captions,
    "pictures": _pictures,
    "reused": _reused,
}
