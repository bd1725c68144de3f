"""What a classifier gets right: the paper's numbers, with intervals, a table and a picture."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _newsclippings.facts import OUTLETS, SOURCE_DATASETS
from _newsclippings.storage import SOFTWARE, write_atomically, write_text
from _newsclippings.train.places import PICTURE, REPORT

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
DRAWS = 1_000  # of the bootstrap
Prediction = dict[str, Any]


def predict(model: torch.nn.Module, batches: Iterable[dict[str, Any]], device: torch.device) -> list[Prediction]:
    """The model's answer for every row, sorted by index; a row that comes twice counts once.

    Each has `index`, `id`, `image_id`, `source_dataset`, `source`, `label`, `score` (probability of falsified) and
    `logits`.
    """
    model.train(mode=False)
    found: dict[int, Prediction] = {}
    with torch.no_grad():
        for batch in batches:
            tensors = {k: v.to(device) for k, v in batch.items() if k not in ("facts", "labels")}
            logits = model(**tensors)["logits"].float().cpu()
            scores = logits.softmax(-1)[:, 1].tolist()
            for facts, score, both in zip(batch["facts"], scores, logits.tolist(), strict=True):
                if not np.isfinite(both).all():
                    raise ValueError(
                        f"row {facts['index']}: expected two numbers, found {both}: the training diverged."
                    )
                label = facts["falsified"]
                rest = {name: value for name, value in facts.items() if name != "falsified"}
                found[facts["index"]] = {**rest, "label": label, "score": score, "logits": both}
    return [found[index] for index in sorted(found)]


def measure(predictions: list[Prediction]) -> dict[str, Any]:
    """All measures: value, and the 2.5 and 97.5 percentiles over resampled pairs.

    `accuracy` of all, pristine and falsified rows; `auc`; `pair_accuracy`: of how many pairs the falsified twin has the
    higher score (half of it where both are equal); `accuracy` by source dataset and by the caption's outlet.
    """
    labels = np.array([one["label"] for one in predictions], np.int64)
    scores = np.array([one["score"] for one in predictions])
    pairs = np.unique([one["index"] // 2 for one in predictions], return_inverse=True)[1]
    rows_of = _rows_of_pairs(pairs)
    right = ((scores > 0.5) == labels).astype(float)
    won = pairs_won(labels, scores, pairs)
    random = np.random.default_rng(0)
    picks = random.integers(0, len(rows_of), (DRAWS, len(rows_of))).tolist()
    draws = [np.concatenate([rows_of[pair] for pair in some]) for some in picks]

    def share(which: npt.NDArray[np.bool_]) -> Callable[[Ints], float]:
        return lambda rows: float(right[rows][which[rows]].mean()) if which[rows].any() else float("nan")

    every = np.ones(len(labels), bool)
    functions: dict[str, Callable[[Ints], float]] = {
        "accuracy": share(every),
        "accuracy_pristine": share(labels == 0),
        "accuracy_falsified": share(labels == 1),
        "auc": lambda rows: auc(labels[rows], scores[rows]),
        "pair_accuracy": lambda rows: _mean(won[rows]),
    }
    for k, name in enumerate(SOURCE_DATASETS):
        functions[f"accuracy of {name}"] = share(np.array([one["source_dataset"] == k for one in predictions]))
    for name in OUTLETS:
        functions[f"accuracy of {name}"] = share(np.array([one["source"] == name for one in predictions]))
    rows = np.concatenate(rows_of)
    found: dict[str, Any] = {"rows": len(predictions)}
    for name, function in functions.items():
        value = function(rows)
        if not np.isnan(value):
            low, high = np.nanpercentile([function(draw) for draw in draws], [2.5, 97.5])
            found[name] = {"value": value, "low": float(low), "high": float(high)}
    return found


def _rows_of_pairs(pairs: Ints) -> list[Ints]:
    """Rows of each pair, twins after each other."""
    order = np.argsort(pairs, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(pairs[order])) + 1)


def auc(labels: Ints, scores: Floats) -> float:
    """Probability that a falsified row has a higher score than a pristine one (ties count half)."""
    positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def pairs_won(labels: Ints, scores: Floats, pairs: Ints) -> Floats:
    """Of each falsified row whose twin is there, whether it has the higher score (ties: one half); else NaN."""
    won = np.full(len(labels), np.nan)
    order = np.lexsort((labels, pairs))  # the pristine twin first
    first, second = order[:-1], order[1:]
    twins = (pairs[first] == pairs[second]) & (labels[first] == 0) & (labels[second] == 1)
    won[second[twins]] = (np.sign(scores[second] - scores[first])[twins] + 1) / 2
    return won


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def write_report(folder: Path, predictions: list[Prediction], about: str, control: str | None = None) -> dict[str, Any]:
    """Write predictions.jsonl, measures.json, report.md and report.png; returns the measures."""
    folder.mkdir(parents=True, exist_ok=True)
    measures = measure(predictions)
    names = ("index", "id", "image_id", "label", "score", "logits")
    lines = (json.dumps({name: one[name] for name in names}) + "\n" for one in predictions)
    write_text(folder / "predictions.jsonl", "".join(lines), REPORT["predictions.jsonl"])
    write_text(folder / "measures.json", json.dumps(measures, indent=1) + "\n", REPORT["measures.json"])
    write_text(folder / "report.md", _markdown(measures, about, control), REPORT["report.md"])
    _draw(folder / "report.png", predictions, measures)
    return measures


def _markdown(measures: dict[str, Any], about: str, control: str | None) -> str:
    lines = [f"# {about}", "", f"{measures['rows']:,} rows; 95 % intervals by resampling pairs {DRAWS:,} times.", ""]
    lines += ["| measure | % | 95 % interval |", "|---|---:|---|"]
    for name, one in measures.items():
        if name != "rows":
            low, high = one["low"], one["high"]
            lines.append(
                f"| {name.replace('_', ' ')} | {one['value']:.1%} | {low:.1%} to {high:.1%} |".replace("%", "")
            )
    if control:
        one = measures["accuracy"]
        sound = all(_at_chance(measures[name]) for name in ("accuracy", "auc", "pair_accuracy") if name in measures)
        verdict = "as it has to be" if sound else "NOT CHANCE: something leaks, do not trust the other numbers"
        lines += ["", f"This is a control ({control}): expected about 50 %, found {one['value']:.1%}: {verdict}."]
    return "\n".join(lines) + "\n"


def _at_chance(one: dict[str, float]) -> bool:
    """Within three points of one half, or 1.6 times the 95 % interval, which one measure of 600 leaves by chance."""
    width = 1.6 * (one["high"] - one["low"]) / 2
    return abs(one["value"] - 0.5) <= max(0.03, width)


def _draw(path: Path, predictions: list[Prediction], measures: dict[str, Any]) -> None:
    """ROC on the left, accuracies on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = np.array([one["label"] for one in predictions])
    order = np.argsort([-one["score"] for one in predictions], kind="stable")
    hits = np.append(0, np.cumsum(labels[order])) / max(1, labels.sum())
    misses = np.append(0, np.cumsum(1 - labels[order])) / max(1, (1 - labels).sum())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.plot(misses, hits, color="#0969da")
    left.plot([0, 1], [0, 1], color="#8c959f", linestyle="--", linewidth=1)
    area = measures.get("auc", {"value": float("nan")})["value"]
    left.set(
        xlabel="pristine called falsified", ylabel="falsified found", title=f"ROC, area {area:.3f}", aspect="equal"
    )
    bars = {name: one for name, one in measures.items() if name.startswith("accuracy")}
    names = [name.removeprefix("accuracy of ").replace("_", " ") for name in bars]
    values = np.array([one["value"] for one in bars.values()])
    spread = [values - [one["low"] for one in bars.values()], [one["high"] for one in bars.values()] - values]
    right.barh(names, values, xerr=np.abs(spread), color="#54aeff", ecolor="#1f2328")
    right.axvline(0.5, color="#8c959f", linestyle="--", linewidth=1)
    right.set(xlim=(0, 1), title="accuracy, 95 % intervals")
    right.invert_yaxis()
    with write_atomically(path, REPORT[path.name]) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={SOFTWARE: PICTURE.name})
    pyplot.close(figure)
