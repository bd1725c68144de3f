"""Measure the predictions of one model or compare those of several."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from _newsclippings.config import bad_value
from _newsclippings.errors import ConfigError
from _newsclippings.evaluate.answers import Answers, match_answers
from _newsclippings.evaluate.intervals import DRAWS, SEED, Measured, holm, mcnemar, measure, percentiles, wilson
from _newsclippings.evaluate.measures import MEASURES, Bools, Measurer, Rows, best_threshold, score_pairs
from _newsclippings.evaluate.predictions import read_predictions
from _newsclippings.evaluate.report import FORMS, System, format_systems
from _newsclippings.evaluate.truth import Truth, group_rows, load_truth
from _newsclippings.facts import DEFAULT_CONFIG, SPLITS, VERSION
from _newsclippings.storage import PlaceLike, find_place
from _newsclippings.text import option, printable, short_repr

CLUSTERS: Final = ("pairs", "pictures")
MOST_KEYS: Final = 1_000  # groups of a breakdown; VisualNews has 159 topics
MOST_OF_CLUSTER: Final = 0.1  # share of the rows in one cluster from which on a note warns
VALIDATION: Final = "val:"  # before a file, as a threshold
Source = str | os.PathLike[str] | Iterable[Any]  # a path, or a table that `iterate_rows` takes
Threshold = float | str


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The measures of one or several models on the same rows.

    Attributes:
        systems: one for each file.
        comparisons: of each other system with the first: `a`, `b`, `measure`, `difference` (a - b), `low`, `high`; of
            accuracy also the p values `mcnemar_p`, `mcnemar_pairs_p` and `holm_p`.
        only: (a, b) -> rows that only a, and that only b gets right.
        group: measure -> mean, sd and interval over systems that differ by their seed only; None if not asked for.
        notes: what is wrong or suspicious, a line each.
    """

    systems: Sequence[System]
    comparisons: Sequence[Mapping[str, Any]]
    only: Mapping[tuple[str, str], tuple[int, int]]
    group: Mapping[str, Any] | None
    notes: Sequence[str]

    def __repr__(self) -> str:
        names = ", ".join(system.name for system in self.systems)
        return f"<Evaluation of {printable(names)}: print it, or see values, as_dict() and table()>"

    @property
    def signature(self) -> str:
        """All that the numbers of the first system depend on, in one line."""
        return self.systems[0].signature

    @property
    def values(self) -> dict[str, float | None]:
        """Measure -> its value for the first system; None if it is not defined."""
        found = {name: self.systems[0].whole.values.get(name, math.nan) for name in MEASURES}
        return {name: None if math.isnan(value) else value for name, value in found.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the JSON output: of one system, or of several with their comparisons."""
        if len(self.systems) == 1:
            return self.systems[0].as_dict()
        systems = [{"name": system.name, **system.as_dict()} for system in self.systems]
        found = {"systems": systems, "comparisons": [dict(comparison) for comparison in self.comparisons]}
        return found if self.group is None else {**found, "group": self.group}

    def table(self, form: str = "text") -> str:
        """Return the measures as text, markdown, latex, html or csv."""
        if form not in FORMS:
            raise bad_value("form", form, FORMS)
        return format_systems(self.systems, self.comparisons, self.only, self.group, form)

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return self.table("html")


def evaluate(
    *predictions: Source,
    config: str = DEFAULT_CONFIG,
    split: str = "test",
    data_dir: str | os.PathLike[str] | None = None,
    built: PlaceLike | None = None,
    partial: bool = False,
    threshold: Threshold | Sequence[Threshold | None] | None = None,
    cluster: str = "pairs",
    group: bool = False,
) -> Evaluation:
    """Measure the predictions of a model, or compare those of several.

    The true labels are those of the official matches, or of a built folder, and never those of a file of predictions.
    Intervals of 95 % are from a bootstrap over pairs.

    Args:
        predictions: of each model a file (JSON lines, CSV, TSV or Parquet), or rows as dicts, a data frame or a dict of
            columns. Each row has `index`, or `id` and `image_id`, and `score` (higher for falsified) or
            `label_predicted` (1 for falsified).
        config: name of the config.
        split: name of the split.
        data_dir: folder with the official tree. Unset: the variable NEWSCLIPPINGS_DATA_DIR, then the Hub.
        built: a folder that `newsclippings build` wrote, to use instead.
        partial: accept missing rows, and count them as wrong; also unknown and doubled ones.
        threshold: a score above it calls a row falsified; or `"val:FILE"`, predictions of the validation split for
            which the best one is chosen; or one of these for each model. Unset: the labels of the file, or 0.5.
        cluster: `"pairs"`, or `"pictures"` to resample pairs that share pictures together.
        group: the models differ by their seed only: report mean and standard deviation.

    Raises:
        ConfigError: an option has a value that cannot be used.
        BadFileError: a file is no table of predictions, or has missing, unknown, doubled, NaN or flipped rows.
        NewsCLIPpingsError: the matches are not there or damaged.
    """
    if not isinstance(split, str) or split not in SPLITS:
        raise bad_value("split", split, SPLITS)
    place, folder = None if built is None else find_place(built), None if data_dir is None else os.fspath(data_dir)
    if place is not None and folder is not None:
        raise ConfigError(f"{option('built')} and {option('data_dir')} both name the true labels. Pass one of them.")
    return evaluate_truth(
        predictions,
        lambda: load_truth(config, split, folder, place),
        lambda: load_truth(config, "validation", folder, place, groups=False),
        partial=partial,
        threshold=threshold,
        cluster=cluster,
        group=group,
    )


def evaluate_truth(
    predictions: Sequence[Source],
    load: Callable[[], Truth],
    load_validation: Callable[[], Truth],
    *,
    partial: bool = False,
    threshold: Threshold | Sequence[Threshold | None] | None = None,
    cluster: str = "pairs",
    group: bool = False,
) -> Evaluation:
    """Measure the predictions of models on true labels of any source. The options are checked before anything is read.

    Args:
        predictions: as of `evaluate`.
        load: loads the true labels.
        load_validation: loads those of the validation split, if a threshold is chosen there.
        partial: as of `evaluate`.
        threshold: as of `evaluate`.
        cluster: as of `evaluate`; rows are resampled if there are no pairs.
        group: as of `evaluate`.
    """
    if not predictions:
        raise ConfigError("No predictions were passed. Pass a file, or rows with index and score.")
    if not isinstance(cluster, str) or cluster not in CLUSTERS:
        raise bad_value("cluster", cluster, CLUSTERS)
    thresholds, truth = _list_thresholds(threshold, len(predictions)), load()
    unit = truth.units(cluster)
    large = [name for name, keys in truth.groups.items() if len({*keys}) > MOST_KEYS]
    truth = replace(truth, groups={name: keys for name, keys in truth.groups.items() if name not in large})
    notes = [f"Left out: the breakdown by {name}, which has more than {MOST_KEYS:,} groups." for name in large]
    validation: Truth | None = None
    systems = []
    for source, chosen in zip(predictions, thresholds, strict=True):
        answers = match_answers(read_predictions(source), truth, partial)
        limit, shown = None, "labels"
        if isinstance(chosen, str):
            validation = validation or load_validation()
            own = match_answers(read_predictions(chosen.removeprefix(VALIDATION)), validation, partial)
            limit = _choose_threshold(own)
            shown = f"val,{limit:.12g}"
        elif chosen is not None or answers.predicted is None:
            limit = 0.5 if chosen is None else chosen
            shown = f"{limit:.12g}"
        systems.append(_measure(answers, answers.rows(limit, unit), shown, cluster))
    largest = np.bincount(unit).max() / len(unit)
    if cluster != "pairs" and largest > MOST_OF_CLUSTER:
        do = f"so intervals are too narrow. Use {option('cluster', 'pairs')}."
        notes.append(f"One cluster has {largest:.0%} of the rows, {do}")
    return compare(systems, group, notes)


def read_answers(
    predictions: Sequence[Source],
    config: str,
    split: str,
    data_dir: str | None = None,
    built: PlaceLike | None = None,
) -> tuple[dict[int, list[tuple[float | None, bool]]], list[str]]:
    """Read what models say of each row; missing rows count as wrong.

    Args:
        predictions: as of `evaluate`.
        config: name of the config.
        split: name of the split.
        data_dir: see `evaluate`.
        built: see `evaluate`.

    Returns:
        Index -> each model's score (None without one) and whether its label is right; and notes as of `Evaluation`.
    """
    truth = load_truth(config, split, data_dir, None if built is None else find_place(built), groups=False)
    answers = [match_answers(read_predictions(source), truth, True) for source in predictions]
    columns = []
    for one in answers:
        rows = one.rows(None, truth.index)
        scores: list[float] = [math.nan] * len(truth.index) if one.score is None else one.score.tolist()
        right = (rows.falsified == rows.predicted).tolist()
        columns.append([(value if math.isfinite(value) else None, ok) for value, ok in zip(scores, right, strict=True)])
    rows_of_all = zip(truth.index.tolist(), zip(*columns, strict=True), strict=True)
    return {index: [*row] for index, row in rows_of_all}, [
        f"{one.name}: {note}" for one in answers for note in one.notes
    ]


def choose_pairs(answers: Mapping[int, Sequence[tuple[float | None, bool]]], most: int) -> list[int]:
    """Choose pairs to show, in their order: of each outcome (which models are right) equally many, the first ones."""
    outcomes: dict[tuple[bool, ...], list[int]] = {}
    for index, row in answers.items():
        outcomes.setdefault(tuple(right for _, right in row), []).append(index // 2)
    share = max(1, most // max(1, len(outcomes)))
    chosen = [pair for pairs in outcomes.values() for pair in [*dict.fromkeys(pairs)][:share]]
    return sorted({*chosen})[:most]


def _list_thresholds(threshold: Any, count: int) -> list[float | str | None]:
    several = [*threshold] if isinstance(threshold, list | tuple) else [threshold]
    for value in several:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        file = isinstance(value, str) and value.startswith(VALIDATION) and value != VALIDATION
        if not (value is None or number or file):
            expected = f"a number or {VALIDATION}FILE"
            raise ConfigError(f"{option('threshold')}: expected {expected}, found {short_repr(value)}. Correct it.")
    if len(several) not in (1, count):
        message = f"{option('threshold')}: expected one, or one for each of {count} files, found {len(several)}."
        raise ConfigError(message)
    return several * count if len(several) == 1 else several


def _choose_threshold(answers: Answers) -> float:
    if answers.score is None:
        raise ConfigError(f"{answers.name} has no scores to choose a threshold from. Add them, or pass a number.")
    return best_threshold(answers.truth.falsified[~answers.silent], answers.score[~answers.silent])


def _measure(answers: Answers, rows: Rows, threshold: str, cluster: str) -> System:
    """Measure one system, and its breakdowns."""
    truth, counts = answers.truth, answers.counts
    masks = [(name, key, which) for name, keys in truth.groups.items() for key, which in group_rows(keys).items()]
    of_classes = answers.rows_of_classes(rows.unit)
    whole, *found = measure(rows, [rows.take(which) for _, _, which in masks])
    classes = None if of_classes is None else measure(of_classes)[0]
    groups: dict[str, dict[str, Measured]] = {name: {} for name in truth.groups}
    for (name, key, _), one in zip(masks, found, strict=True):
        groups[name][key] = one
    parts = {
        "v": VERSION,
        "config": truth.config,
        "split": truth.split,
        "rows": f"{counts['found']}/{counts['expected']}",
        "matches": truth.digest,
        "missing": f"{counts['missing']},left_out" if truth.absent else counts["missing"],
        **({"labels": truth.labels} if truth.labels else {}),
        "thr": threshold,
        "ci": f"{cluster if truth.has_pairs or cluster != 'pairs' else 'rows'},{DRAWS},seed{SEED}",
    }
    signature = "|".join(["newsclippings", *(f"{name}:{value}" for name, value in parts.items())])
    return System(answers.name, signature, answers, rows, whole, groups, classes)


def compare(systems: Sequence[System], group: bool = False, more_notes: Sequence[str] = ()) -> Evaluation:
    """Compare systems that were measured on the same rows with the same units.

    Args:
        systems: the systems.
        group: they differ by their seed only: they are summarised instead.
        more_notes: about all of them.
    """
    prefix = len(systems) > 1
    notes = [f"{system.name}: {note}" if prefix else note for system in systems for note in system.answers.notes]
    notes += [note for note in (systems[0].answers.truth.left_out, *more_notes) if note]
    if group:
        return Evaluation(systems, [], {}, summarise([system.whole for system in systems]), notes)
    first, only = systems[0], {}
    comparisons: list[dict[str, Any]] = []
    for other in systems[1:]:
        right, others = (one.rows.falsified == one.rows.predicted for one in (first, other))
        only[first.name, other.name] = int((right & ~others).sum()), int((others & ~right).sum())
        pairs = _count_pairs(first.rows, other.rows)
        for name in MEASURES:
            values = [one.whole.values.get(name, math.nan) for one in (first, other)]
            if math.isnan(values[0] - values[1]):
                continue
            low, high = percentiles(first.whole.draws[name] - other.whole.draws[name])
            tests: dict[str, float | None] = {"mcnemar_p": None, "mcnemar_pairs_p": None, "holm_p": None}
            if name == "accuracy":
                tests["mcnemar_p"] = mcnemar(*only[first.name, other.name])
                tests["mcnemar_pairs_p"] = mcnemar(*pairs) if first.answers.truth.has_pairs else None
            found = {"a": first.name, "b": other.name, "measure": name, "difference": values[0] - values[1]}
            comparisons.append({**found, "low": low, "high": high, **tests})
    tested = [comparison for comparison in comparisons if comparison["mcnemar_p"] is not None]
    for comparison, p in zip(tested, holm(one["mcnemar_p"] for one in tested), strict=True):
        comparison["holm_p"] = p
    return Evaluation(systems, comparisons, only, None, notes)


def _count_pairs(one: Rows, other: Rows) -> tuple[int, int]:
    """Count the pairs that only one, and that only the other gets right.

    A pair is right if the falsified twin has the higher score; without scores, if both twins have the right label.
    """
    scored = one.score is not None and other.score is not None
    first, second = (_right_pairs(rows, scored) for rows in (one, other))
    return int((first & ~second).sum()), int((second & ~first).sum())


def _right_pairs(rows: Rows, scored: bool) -> Bools:
    if scored and rows.score is not None:
        return np.equal(score_pairs(rows.falsified, rows.score, rows.pair)[1], 1)
    wrong = rows.falsified != rows.predicted
    return np.equal(np.bincount(np.unique(rows.pair, return_inverse=True)[1], wrong), 0)


def summarise(runs: Sequence[Measured]) -> dict[str, Any]:
    """Summarise runs that differ by their seed: of each measure the mean, its interval, and both spreads.

    Args:
        runs: measures of the same rows with the same units.

    Returns:
        Measure -> `mean`, `sd` over runs, `low` and `high` of the mean over draws of pairs, and `sd_rows`, the
        standard deviation over these draws for a single run. None if the measure is not defined.
    """
    found: dict[str, Any] = {}
    for name in MEASURES:
        values = np.array([run.values.get(name, math.nan) for run in runs])
        if np.isnan(values).any():
            found[name] = None
            continue
        draws = np.stack([run.draws[name] for run in runs])
        low, high = percentiles(draws.mean(0))
        if values.mean() in (0, 1) and low == high:  # no draw differs
            low, high = wilson(values.mean() * runs[0].units, runs[0].units)
        sd = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        spread = float(np.nanstd(draws, axis=1).mean())
        found[name] = {"mean": float(values.mean()), "sd": sd, "low": low, "high": high, "sd_rows": spread}
    return found


def compute_metrics(eval_dataset: Any) -> Callable[[Any], dict[str, float]]:
    """Make the function that `transformers.Trainer` takes as `compute_metrics`.

    The trainer drops columns that the model does not take; so the index and the label of each row are kept here.

    Args:
        eval_dataset: the dataset that the trainer evaluates, with the columns `index` and `falsified`.

    Returns:
        A function of an `EvalPrediction` with logits of two classes (N, 2), of which the second is falsified, or with
        one logit (N,) or (N, 1). It returns all measures by their names, without intervals.

    Raises:
        ConfigError: the dataset is a stream, or lacks a column.
    """
    names = getattr(eval_dataset, "column_names", None)
    if not hasattr(eval_dataset, "__len__") or not {"index", "falsified"} <= {*(names or ())}:
        raise ConfigError(
            "eval_dataset: expected a dataset with the columns index and falsified, and no stream. Do not remove or "
            "rename them before this call: the trainer leaves out columns that a model does not take."
        )
    kept = eval_dataset.select_columns(["index", "falsified"]).with_format("numpy")[:]
    index, falsified = kept["index"].astype(np.int64), kept["falsified"] == 1

    def compute(result: Any) -> dict[str, float]:
        outputs = result.predictions[0] if isinstance(result.predictions, tuple) else result.predictions
        logits = np.array(outputs, np.float64)
        logits = logits[:, None] if logits.ndim == 1 else logits
        if len(logits) != len(index) or logits.shape[1:] not in ((1,), (2,)):
            expected = f"one or two logits for each of {len(index):,} rows"
            raise ConfigError(
                f"predictions: expected {expected}, found the shape {logits.shape}. Make compute_metrics of the "
                "dataset that is evaluated: before trainer.predict(test), set trainer.compute_metrics = "
                "newsclippings.compute_metrics(test)."
            )
        margin = logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)
        wrong = np.where(falsified, -np.inf, np.inf)  # a model that diverged gets no row right
        margin = np.where(np.isnan(margin), wrong, margin)
        score = np.exp(-np.logaddexp(0, -margin))
        rows = Rows(falsified, margin > 0, score, index // 2, np.zeros(len(index), np.int64), True)
        return {name: float(value[0]) for name, value in Measurer(rows)(np.ones((1, 1))).items()}

    return compute
