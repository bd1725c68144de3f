"""Evaluate a classifier: predict rows, and measure the predictions as `newsclippings evaluate` does."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _newsclippings.evaluate import Evaluation, Truth, draw_evaluation, evaluate_truth, load_truth, make_truth
from _newsclippings.facts import NAME
from _newsclippings.folder import MANIFEST
from _newsclippings.storage import find_place, write_text
from _newsclippings.text import printable
from _newsclippings.train.options import Options
from _newsclippings.train.places import OLD_PICTURE, REPORT

Prediction = dict[str, Any]
WRITTEN = ("index", "id", "image_id", "label", "score", "logits", "config")  # columns of predictions.jsonl


def predict(model: torch.nn.Module, batches: Iterable[dict[str, Any]], device: torch.device) -> list[Prediction]:
    """Predict every row.

    Args:
        model: a `Classifier`.
        batches: of a `Collator`.
        device: of the model.

    Returns:
        A prediction per row, sorted by config and index, without duplicates: `config`, `index`, `id`, `image_id`,
        `source_dataset`, `source`, `label`, `score` (probability of falsified) and `logits`.

    Raises:
        ValueError: a prediction is not finite.
    """
    model.train(mode=False)
    predictions: list[Prediction] = []
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
                rest = {name: value for name, value in facts.items() if name != "falsified"}
                predictions.append({**rest, "label": int(facts["falsified"]), "score": score, "logits": both})
    return sort_predictions(predictions)


def sort_predictions(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Sort predictions by config and index, and keep the last of those of the same row."""
    rows = {(prediction["config"], prediction["index"]): prediction for prediction in predictions}
    return [rows[key] for key in sorted(rows)]


def validate(predictions: list[Prediction]) -> dict[str, float]:
    """Compute the mean cross-entropy, `loss`, and the `accuracy` of predictions."""
    logits = np.array([prediction["logits"] for prediction in predictions], np.float64)
    labels = np.array([int(prediction["label"]) for prediction in predictions])
    margins = logits[:, 1] - logits[:, 0]
    loss = np.logaddexp(0, np.where(labels == 1, -margins, margins)).mean()
    return {"loss": float(loss), "accuracy": float(((margins > 0) == labels).mean())}


def find_truth(options: Options, split: str, groups: bool = True) -> Truth | None:
    """Load the labels that `newsclippings evaluate` takes: the official ones, or those of a built folder.

    Args:
        options: where the rows are; with one config.
        split: name of the split.
        groups: whether to look up the groups of breakdowns.

    Returns:
        None for other datasets, whose rows are all that is known of them.
    """
    if options.data == NAME:
        return load_truth(options.config, split, options.data_dir, groups=groups)
    if Path(options.data, options.config, MANIFEST).is_file():
        return load_truth(options.config, split, built=find_place(options.data))
    return None


def measure_rows(truth: Truth | None, options: Options, predictions: list[Prediction], name: str) -> Evaluation:
    """Measure the predictions of a config as `newsclippings evaluate` does.

    Rows that were not loaded (other outlets, incomplete pairs, pairs that a published dataset left out) are counted as
    missing, and not measured. With the control shuffled_labels, the labels are the shuffled ones.

    Args:
        truth: of `find_truth`.
        options: of the rows; with one config.
        predictions: of these rows, in the order of their index.
        name: of the model.
    """
    labels = np.array([row["label"] for row in predictions]) == 1
    if truth is None:
        truth = make_truth(options.config, options.split, [{**row, "falsified": row["label"]} for row in predictions])
    else:
        loaded = np.isin(truth.index, [row["index"] for row in predictions])
        truth = truth if loaded.all() else truth.take(loaded)
        if "outlet" not in truth.groups and len(truth.index) == len(predictions):
            left_out = "Left out: breakdowns by outlet_pair, topic and year, since their files are not on this machine."
            outlets = [row["source"] or "unknown" for row in predictions]
            truth = replace(truth, groups={**truth.groups, "outlet": outlets}, left_out=left_out)
    if options.control == "shuffled_labels" and len(truth.index) == len(predictions):
        truth = replace(truth, falsified=labels, labels=options.control)
    answers = [{name: row[name] for name in ("index", "id", "image_id", "label", "score")} for row in predictions]
    known = truth
    evaluation = evaluate_truth([answers], lambda: known, lambda: known)
    return replace(evaluation, systems=[replace(system, name=name) for system in evaluation.systems])


def write_report(
    folder: Path, predictions: list[Prediction], evaluation: Evaluation, facts: Mapping[str, Any], title: str
) -> None:
    """Write predictions.jsonl, measures.json, report.md and the plots of `newsclippings evaluate`.

    Args:
        folder: for these files.
        predictions: of the rows.
        evaluation: of the predictions.
        facts: of the run, for measures.json; with a control, `facts["control"]` has its verdict.
        title: of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({name: prediction[name] for name in WRITTEN}) + "\n" for prediction in predictions)
    write_text(folder / "predictions.jsonl", "".join(lines), REPORT["predictions.jsonl"])
    measures = json.dumps({**evaluation.as_dict(), "run": facts}, indent=1) + "\n"
    write_text(folder / "measures.json", measures, REPORT["measures.json"])
    write_text(folder / "report.md", format_report(evaluation, facts, title), REPORT["report.md"])
    draw_evaluation(evaluation, folder)
    old = folder / "report.png"  # of an earlier version, and now of other numbers
    if old.is_file() and OLD_PICTURE.wrote(old):
        old.unlink()


def format_report(evaluation: Evaluation, facts: Mapping[str, Any], title: str) -> str:
    """Format the report of a run in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    seed = "" if facts["seed"] is None else f", seed {facts['seed']}"
    about = f"A run of `newsclippings train`: {facts['model']}{seed}; {versions}."
    parts = [f"# {title}", about, evaluation.table("markdown"), *(printable(note) for note in evaluation.notes)]
    if control := facts.get("control"):
        parts.append(f"This is a control ({control['what']}): {control['sentence']}")
    return "\n\n".join(parts) + "\n"
