"""Evaluate a classifier: the paper's measures with intervals, as JSON, as a table and as a picture."""

import json
from collections.abc import Callable, Iterable, Sequence
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
MOST_OUTLETS = 20  # besides those of VisualNews, whose accuracy is measured
DRAWS = 1_000  # bootstrap samples
Prediction = dict[str, Any]


def predict(model: torch.nn.Module, batches: Iterable[dict[str, Any]], device: torch.device) -> list[Prediction]:
    """Predict every row.

    Args:
        model: a `Classifier`.
        batches: of a `Collator`.
        device: of the model.

    Returns:
        A prediction per row, sorted by index, without duplicates: `index`, `id`, `image_id`, `source_dataset`,
        `source`, `label`, `score` (probability of falsified) and `logits`.

    Raises:
        ValueError: a prediction is not finite.
    """
    model.train(mode=False)
    predictions: dict[int, Prediction] = {}
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
                predictions[facts["index"]] = {**rest, "label": label, "score": score, "logits": both}
    return [predictions[index] for index in sorted(predictions)]


def validate(predictions: list[Prediction]) -> dict[str, float]:
    """Compute the mean cross-entropy, `loss`, and the `accuracy` of predictions."""
    logits = np.array([prediction["logits"] for prediction in predictions], np.float64)
    labels = np.array([int(prediction["label"]) for prediction in predictions])
    margins = logits[:, 1] - logits[:, 0]
    loss = np.logaddexp(0, np.where(labels == 1, -margins, margins)).mean()
    return {"loss": float(loss), "accuracy": float(((margins > 0) == labels).mean())}


def measure(predictions: list[Prediction], measures_of_pairs: Sequence[str] = SOURCE_DATASETS) -> dict[str, Any]:
    """Compute all measures, each with its value and the 2.5 and 97.5 percentiles over resampled pairs.

    The measures are `accuracy` of all, of pristine and of falsified rows; `auc`; `pair_accuracy`, the share of pairs in
    which the falsified twin has the higher score (ties count half); `accuracy` by source dataset and by the caption's
    outlet.

    Args:
        predictions: of the rows.
        measures_of_pairs: what the column `source_dataset` numbers.
    """
    labels = np.array([prediction["label"] for prediction in predictions], np.int64)
    scores = np.array([prediction["score"] for prediction in predictions])
    pairs = np.unique([prediction["index"] // 2 for prediction in predictions], return_inverse=True)[1]
    rows_of_pairs = _split_by_pair(pairs)
    right = ((scores > 0.5) == labels).astype(float)
    won = score_pairs(labels, scores, pairs)
    random = np.random.default_rng(0)
    picks = random.integers(0, len(rows_of_pairs), (DRAWS, len(rows_of_pairs))).tolist()
    draws = [np.concatenate([rows_of_pairs[pair] for pair in picked]) for picked in picks]

    def share(which: npt.NDArray[np.bool_]) -> Callable[[Ints], float]:
        return lambda rows: float(right[rows][which[rows]].mean()) if which[rows].any() else float("nan")

    functions: dict[str, Callable[[Ints], float]] = {
        "accuracy": share(np.ones(len(labels), bool)),
        "accuracy_pristine": share(labels == 0),
        "accuracy_falsified": share(labels == 1),
        "auc": lambda rows: auc(labels[rows], scores[rows]),
        "pair_accuracy": lambda rows: _mean(won[rows]),
    }
    for k, name in enumerate(measures_of_pairs):
        functions[f"accuracy of {name}"] = share(np.array([row["source_dataset"] == k for row in predictions]))
    others = sorted({str(row["source"]) for row in predictions if row["source"]} - {*OUTLETS})[:MOST_OUTLETS]
    for name in (*OUTLETS, *others):
        functions[f"accuracy of {name}"] = share(np.array([row["source"] == name for row in predictions]))
    rows = np.concatenate(rows_of_pairs)
    measures: dict[str, Any] = {"rows": len(predictions)}
    for name, function in functions.items():
        value = function(rows)
        if not np.isnan(value):
            low, high = np.nanpercentile([function(draw) for draw in draws], [2.5, 97.5])
            measures[name] = {"value": value, "low": float(low), "high": float(high)}
    return measures


def _split_by_pair(pairs: Ints) -> list[Ints]:
    """Return the rows of each pair."""
    order = np.argsort(pairs, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(pairs[order])) + 1)


def auc(labels: Ints, scores: Floats) -> float:
    """Compute the probability that a falsified row scores higher than a pristine one; ties count half."""
    positive, negative = int((labels == 1).sum()), int((labels == 0).sum())
    if not positive or not negative:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def score_pairs(labels: Ints, scores: Floats, pairs: Ints) -> Floats:
    """Score each falsified row against its twin: 1 if its score is higher, 0.5 for ties, else 0; NaN without a twin."""
    won = np.full(len(labels), np.nan)
    order = np.lexsort((labels, pairs))  # the pristine twin first
    first, second = order[:-1], order[1:]
    twins = (pairs[first] == pairs[second]) & (labels[first] == 0) & (labels[second] == 1)
    won[second[twins]] = (np.sign(scores[second] - scores[first])[twins] + 1) / 2
    return won


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def write_report(
    folder: Path,
    predictions: list[Prediction],
    title: str,
    control: str | None = None,
    measures_of_pairs: Sequence[str] = SOURCE_DATASETS,
) -> dict[str, Any]:
    """Write predictions.jsonl, measures.json, report.md and report.png, and return the measures."""
    folder.mkdir(parents=True, exist_ok=True)
    measures = measure(predictions, measures_of_pairs)
    names = ("index", "id", "image_id", "label", "score", "logits")
    lines = (json.dumps({name: prediction[name] for name in names}) + "\n" for prediction in predictions)
    write_text(folder / "predictions.jsonl", "".join(lines), REPORT["predictions.jsonl"])
    write_text(folder / "measures.json", json.dumps(measures, indent=1) + "\n", REPORT["measures.json"])
    write_text(folder / "report.md", _format_markdown(measures, title, control), REPORT["report.md"])
    _draw(folder / "report.png", predictions, measures)
    return measures


def _format_markdown(measures: dict[str, Any], title: str, control: str | None) -> str:
    lines = [f"# {title}", "", f"{measures['rows']:,} rows; 95 % intervals by resampling pairs {DRAWS:,} times.", ""]
    lines += ["| measure | % | 95 % interval |", "|---|---:|---|"]
    for name, result in measures.items():
        if name != "rows":
            low, high = result["low"], result["high"]
            lines.append(
                f"| {name.replace('_', ' ')} | {result['value']:.1%} | {low:.1%} to {high:.1%} |".replace("%", "")
            )
    if control:
        accuracy = measures["accuracy"]["value"]
        sound = all(_is_at_chance(measures[name]) for name in ("accuracy", "auc", "pair_accuracy") if name in measures)
        verdict = "as it should be" if sound else "NOT CHANCE: something leaks, do not trust the other numbers"
        lines += ["", f"This is a control ({control}): expected about 50 %, found {accuracy:.1%}: {verdict}."]
    return "\n".join(lines) + "\n"


def _is_at_chance(result: dict[str, float]) -> bool:
    """Check whether a result is within 3 points of 50 %, or 1.6 times its 95 % interval, which 1 in 600 exceeds."""
    width = 1.6 * (result["high"] - result["low"]) / 2
    return abs(result["value"] - 0.5) <= max(0.03, width)


def _draw(path: Path, predictions: list[Prediction], measures: dict[str, Any]) -> None:
    """Draw the ROC curve on the left and accuracies on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = np.array([prediction["label"] for prediction in predictions])
    order = np.argsort([-prediction["score"] for prediction in predictions], kind="stable")
    hits = np.append(0, np.cumsum(labels[order])) / max(1, labels.sum())
    misses = np.append(0, np.cumsum(1 - labels[order])) / max(1, (1 - labels).sum())
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.plot(misses, hits, color="#0969da")
    left.plot([0, 1], [0, 1], color="#8c959f", linestyle="--", linewidth=1)
    area = measures.get("auc", {"value": float("nan")})["value"]
    left.set(
        xlabel="pristine called falsified", ylabel="falsified found", title=f"ROC, area {area:.3f}", aspect="equal"
    )
    # The fonts of matplotlib have no letters for other names, which report.md has
    bars = {name: result for name, result in measures.items() if name.startswith("accuracy") and name.isascii()}
    names = [name.removeprefix("accuracy of ").replace("_", " ") for name in bars]
    values = np.array([bar["value"] for bar in bars.values()])
    spread = [values - [bar["low"] for bar in bars.values()], [bar["high"] for bar in bars.values()] - values]
    right.barh(names, values, xerr=np.abs(spread), color="#54aeff", ecolor="#1f2328")
    right.axvline(0.5, color="#8c959f", linestyle="--", linewidth=1)
    right.set(xlim=(0, 1), title="accuracy, 95 % intervals")
    right.invert_yaxis()
    with write_atomically(path, REPORT[path.name]) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={SOFTWARE: PICTURE.name})
    pyplot.close(figure)
