"""Plots of an evaluation: ROC, reliability, and accuracy by source dataset. Needs matplotlib, of the extra `plot`."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from _newsclippings.errors import MissingDependencyError
from _newsclippings.evaluate.evaluation import Evaluation
from _newsclippings.evaluate.measures import BINS
from _newsclippings.evaluate.report import System
from _newsclippings.facts import FAINT, INK
from _newsclippings.storage import EVALUATION, SOFTWARE, Place, check_output, write_atomically
from _newsclippings.text import printable

STYLE: Final = {
    "font.size": 10,
    "text.parse_math": False,  # names may contain a $
    "savefig.dpi": 150,
    **dict.fromkeys(("text.color", "axes.labelcolor"), INK),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
}


def require_matplotlib() -> None:
    """Raise `MissingDependencyError` where matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        message = (
            "Plots need matplotlib, which is not installed: pip install 'newsclippings[plot]'. Or leave --out out."
        )
        raise MissingDependencyError(message)


def list_plots(folder: Place) -> list[Place]:
    """List the files that `draw_evaluation` may write.

    Raises:
        NewsCLIPpingsError: something else is in the place of one; see `check_output`.
    """
    files = [folder / f"{name}.png" for name in PLOTS]
    for file in files:
        check_output(file, EVALUATION)
    return files


def draw_evaluation(evaluation: Evaluation, folder: Place) -> list[Place]:
    """Draw the plots that the systems allow: without scores there are no curves.

    Returns:
        The files that were written.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    written = []
    with mpl.rc_context(STYLE):
        for file, (draw, fits) in zip(list_plots(folder), PLOTS.values(), strict=True):
            systems = [system for system in evaluation.systems if fits(system)]
            if not systems:
                if file.is_file() and EVALUATION.wrote(file):
                    file.unlink()  # of earlier systems
                continue
            figure = Figure(figsize=(6.0, 5.0), layout="constrained")
            axes = figure.subplots()
            draw(axes, systems)
            if len(systems) > 1:
                axes.legend(frameon=False)
            with write_atomically(file, EVALUATION) as temporary:
                figure.savefig(temporary, format="png", metadata={SOFTWARE: EVALUATION.name})
            written.append(file)
    return written


def _draw_roc(axes: Any, systems: Sequence[System]) -> None:
    for system in systems:
        rows = system.rows
        if rows.score is None:
            continue
        order = np.argsort(-rows.score, kind="stable")
        score = rows.score[order]
        last = np.append(score[1:] != score[:-1], True)  # of equal scores
        hits, misses = (np.append(0, np.cumsum(which[order])[last]) for which in (rows.falsified, ~rows.falsified))
        label = f"{printable(system.name)}, AUC {system.whole.values['auc']:.3f}"
        axes.plot(misses / misses[-1], hits / hits[-1], label=label)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    title = systems[0].name if len(systems) == 1 else "ROC"
    axes.set(xlabel="pristine rows called falsified", ylabel="falsified rows found", title=printable(title))


def _draw_reliability(axes: Any, systems: Sequence[System]) -> None:
    for system in systems:
        rows = system.rows
        if rows.score is None:
            continue
        score = np.clip(rows.score, 0, 1)
        bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], score)
        count = np.bincount(bins, minlength=BINS)
        there = count > 0
        means = [np.bincount(bins, values, BINS)[there] / count[there] for values in (score, rows.falsified)]
        axes.plot(*means, marker="o", label=f"{printable(system.name)}, ECE {system.whole.values['ece']:.3f}")
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1)
    axes.set(xlabel="P(falsified)", ylabel="share of falsified rows", title="Reliability")


def _draw_sources(axes: Any, systems: Sequence[System]) -> None:
    keys = [*systems[0].groups["source_dataset"]]
    for k, system in enumerate(systems):
        results = [system.groups["source_dataset"][key].results()["accuracy"] or {} for key in keys]
        value, low, high = (np.array([one.get(name, np.nan) for one in results]) for name in ("value", "low", "high"))
        height = 0.8 / len(systems)
        places = np.arange(len(keys)) + (k - (len(systems) - 1) / 2) * height
        spread = np.abs([value - low, high - value])
        axes.barh(places, value, height, xerr=spread, ecolor=INK, label=printable(system.name))
    axes.axvline(0.5, color=FAINT, linestyle="--", linewidth=1)
    axes.set_yticks(np.arange(len(keys)), keys)
    axes.set(xlim=(0, 1), xlabel="accuracy, 95 % intervals")
    axes.invert_yaxis()


PLOTS: Final[dict[str, tuple[Callable[[Any, Sequence[System]], None], Callable[[System], bool]]]] = {
    "roc": (_draw_roc, lambda system: "auc" in system.whole.values),
    "reliability": (_draw_reliability, lambda system: "ece" in system.whole.values),
    "source_dataset": (_draw_sources, lambda system: "source_dataset" in system.groups),
}
