"""Predictions in the order of the true rows, and what is wrong or suspicious about them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.evaluate.measures import Bools, Floats, Measurer, Rows
from _newsclippings.evaluate.predictions import Codes, Predictions
from _newsclippings.evaluate.truth import Truth
from _newsclippings.tables import Int64s, lookup
from _newsclippings.text import option, short_repr

SHOWN = 3  # rows that a message names
SUSPICIOUS = 10  # rows from which on an order of scores is suspicious
LEAK = 0.99  # rank correlation from which on scores follow the similarity score


@dataclass(frozen=True)
class Answers:
    """What a model says of each true row (N,).

    Attributes:
        name: the file.
        truth: the true rows.
        score: float64 (N,), NaN where there is none; None if the file has no scores.
        predicted: int8 (N,), 1 for falsified, -1 where there is none; None if the file has no labels.
        silent: bool (N,), rows without an answer: they count as wrong.
        counts: rows that are expected, found, missing, unknown and doubled.
        notes: what is wrong or suspicious, a sentence each.
        right_class: bool (N,), whether the model names the kind of each row; None if it names none.
    """

    name: str
    truth: Truth
    score: Floats | None
    predicted: Codes | None
    silent: Bools
    counts: dict[str, int]
    notes: list[str]
    right_class: Bools | None = None

    def rows(self, threshold: float | None, unit: Int64s) -> Rows:
        """Return the rows to measure.

        A silent row counts as wrong: its label is the wrong one, and its score is beyond all others on the wrong side.

        Args:
            threshold: a row is called falsified if its score is above it; None to use the labels of the file.
            unit: int64 (N,), the units of the bootstrap.
        """
        truth, score, probable = self.truth.falsified, self.score, False
        if score is not None:
            known = score[~self.silent]
            probable = bool(((known >= 0) & (known <= 1)).all())
            score = np.where(self.silent, np.where(truth, -np.inf, np.inf), score)
        if threshold is None and self.predicted is not None:
            predicted = self.predicted == 1
        elif score is None:
            raise BadFileError(f"{self.name} has no scores, so {option('threshold')} has no effect. Leave it out.")
        else:
            predicted = score > (0.5 if threshold is None else threshold)
        predicted = np.where(self.silent, ~truth, predicted)
        return Rows(truth, predicted, score, self.truth.pair, unit, probable)

    def rows_of_classes(self, unit: Int64s) -> Rows | None:
        """Return the rows of which the accuracy is that of their kinds; None if the model names none."""
        if self.right_class is None:
            return None
        truth = self.truth.falsified
        return Rows(truth, np.where(self.right_class, truth, ~truth), None, self.truth.pair, unit, False)


def match_answers(predictions: Predictions, truth: Truth, partial: bool) -> Answers:
    """Bring predictions into the order of the true rows, and check them.

    Args:
        predictions: of a model.
        truth: the true rows of the split.
        partial: accept that rows are missing, unknown or doubled; the first of doubled rows counts.

    Raises:
        BadFileError: rows are missing, unknown, doubled or not numbers, or all labels of the file are inverted.
    """
    predictions, named = _read_classes(predictions, truth)
    rows, found = _find_rows(predictions, truth)
    expected = len(truth.index)
    unknown = np.setdiff1d(np.arange(len(predictions.places)), rows)
    first = np.unique(found, return_index=True)[1]
    doubled = rows[np.setdiff1d(np.arange(len(rows)), first)]
    rows, found = rows[first], found[first]
    there = np.zeros(expected, bool)
    there[found] = True
    score = predicted = None
    usable, abstained = np.ones(len(rows), bool), np.zeros(len(rows), bool)
    if predictions.abstained is not None:
        abstained = predictions.abstained[rows] == 1
    if predictions.score is not None:
        score = np.full(expected, np.nan)
        score[found] = predictions.score[rows]
        usable &= np.isfinite(predictions.score[rows])
    if predictions.predicted is not None:
        predicted = np.full(expected, -1, np.int8)
        predicted[found] = predictions.predicted[rows]
        usable &= predictions.predicted[rows] >= 0
    empty = found[~usable & ~abstained]
    silent = ~there
    silent[found[~usable | abstained]] = True
    missing = truth.index[~there]
    problems = [
        _count("missing", missing, [f"index {index}" for index in missing[:SHOWN].tolist()], of=expected),
        _count("unknown", unknown, [_describe(predictions, row) for row in unknown[:SHOWN].tolist()]),
        _count("doubled", doubled, [_describe(predictions, row) for row in doubled[:SHOWN].tolist()]),
        _count("NaN or empty", empty, [f"index {index}" for index in truth.index[empty[:SHOWN]].tolist()]),
    ]
    problems = [problem for problem in problems if problem]
    if problems and not partial:
        do = (
            f"Correct the file, or pass {option('partial', True)}, which counts missing and empty rows as wrong, and "
            "leaves out unknown ones and all but the first of doubled ones."
        )
        if len(missing):
            folder = "`newsclippings build --missing drop_pair`"
            do += f" To measure only the pairs that you have, pass the folder of {folder} as {option('built')}."
        raise BadFileError(f"{predictions.name}: {'; '.join(problems)}. {do}")
    counts = {
        "expected": expected,
        "found": len(found) - len(empty),
        "missing": len(missing) + len(empty),
        "unknown": len(unknown),
        "doubled": len(doubled),
    }
    notes = [f"{problem}." for problem in problems]
    if truth.absent:
        counts = {**counts, "expected": expected + truth.absent, "missing": counts["missing"] + truth.absent}
        notes.append(f"{truth.absent:,} of {counts['expected']:,} rows of the split are left out, and not measured.")
    if truth.labels:
        notes.append(f"The labels are not those of the split: {truth.labels}.")
    if abstained.any():
        notes.append(f"{int(abstained.sum()):,} rows abstain, and count as wrong.")
    if predictions.label is not None:
        notes += _check_labels(predictions, truth, rows, found)
    right = None
    if named is not None:
        right = np.zeros(expected, bool)
        kinds = truth.classes or ()
        right[found] = [named[row] == kinds[place] for row, place in zip(rows, found, strict=True)]
        right &= ~silent
    answers = Answers(predictions.name, truth, score, predicted, silent, counts, notes, right)
    notes += _check_answers(answers)
    return answers


def _read_classes(predictions: Predictions, truth: Truth) -> tuple[Predictions, Sequence[str | None] | None]:
    """Take hard labels from the kinds that a model names, unless it has labels; return the kinds, too."""
    named = predictions.group
    if named is None:
        return predictions, None
    if truth.classes is None:
        message = (
            f"{predictions.name}: group_predicted is for test sets with several kinds of falsified rows. Leave it out."
        )
        raise BadFileError(message)
    falsified = dict(zip(truth.classes, truth.falsified.tolist(), strict=True))
    unknown = next((k for k, name in enumerate(named) if name is not None and name not in falsified), None)
    if unknown is not None:
        place = f"{predictions.name}: {predictions.unit} {predictions.places[unknown]}"
        expected = f"{', '.join(sorted(falsified))} as group_predicted"
        raise bad_file(place, expected, short_repr(named[unknown]), "Correct it.")
    if predictions.predicted is None:
        codes = np.array([-1 if name is None else falsified[name] for name in named], np.int8)
        predictions = replace(predictions, predicted=codes)
    return predictions, named


def _find_rows(predictions: Predictions, truth: Truth) -> tuple[Int64s, Int64s]:
    """Find the true row of each prediction.

    Returns:
        Rows of the file and positions of true rows, int64 (K,) each. Unknown rows are left out. If several true rows
        have the same caption and picture, a single prediction of them holds for all.
    """
    keys = predictions.keys
    if "index" in keys:
        found = lookup(truth.index, keys["index"]).astype(np.int64)
        for name, own in (("id", truth.ids), ("image_id", truth.image_ids)):
            if name in keys:
                found[(found >= 0) & (own[found] != keys[name])] = -1  # of another config or split
        rows = np.flatnonzero(found >= 0)
        return rows, found[rows]
    pairs = [*zip(keys["id"].tolist(), keys["image_id"].tolist(), strict=True)]
    places: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, pair in enumerate(zip(truth.ids.tolist(), truth.image_ids.tolist(), strict=True)):
        places[pair].append(place)
    count, seen = Counter(pairs), Counter[tuple[int, int]]()
    matched: list[tuple[int, int]] = []
    for row, pair in enumerate(pairs):
        own_places = places.get(pair, [])
        if count[pair] == 1:
            matched += [(row, place) for place in own_places]
        elif own_places:
            matched.append((row, own_places[min(seen[pair], len(own_places) - 1)]))
            seen[pair] += 1
    both = np.array(matched, np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _count(what: str, rows: Int64s, examples: Sequence[str], of: int | None = None) -> str:
    """Describe how many rows have a problem, and the first of them; empty if none has."""
    if not len(rows):
        return ""
    share = f" of {of:,}" if of is not None else ""
    more = ", ..." if len(rows) > len(examples) else ""
    verb = "row is" if len(rows) == 1 and of is None else "rows are"
    return f"{len(rows):,}{share} {verb} {what} ({', '.join(examples)}{more})"


def _describe(predictions: Predictions, row: int) -> str:
    keys = ", ".join(f"{name} {values[row]}" for name, values in predictions.keys.items())
    return f"{predictions.unit} {predictions.places[row]}: {keys}"


def _check_labels(predictions: Predictions, truth: Truth, rows: Int64s, found: Int64s) -> list[str]:
    """Compare the labels of the file with the true ones, which are used."""
    if predictions.label is None:
        return []
    known = predictions.label[rows] >= 0
    wrong = known & (predictions.label[rows] != truth.falsified[found])
    if known.sum() > 1 and (wrong == known).all():
        raise BadFileError(
            f"{predictions.name}: the labels are flipped in all {int(known.sum()):,} rows: `label` is 1 where the "
            "picture is pristine. Write 1 for falsified, and scores that are higher for falsified; or leave `label` "
            "out if only it is flipped."
        )
    examples = [f"index {index}" for index in truth.index[found[wrong][:SHOWN]].tolist()]
    differs = "of another label than the official row, which counts"
    return [f"{text}." for text in [_count(differs, found[wrong], examples)] if text]


def _check_answers(answers: Answers) -> list[str]:
    """Report scores that no model gives: constant, flipped, or following the row's number or the similarity score."""
    which, truth = ~answers.silent, answers.truth
    falsified = truth.falsified[which]
    if len(falsified) < SUSPICIOUS or falsified.all() or not falsified.any():
        return []
    score = np.array(answers.predicted if answers.score is None else answers.score, np.float64)[which]
    if score.min() == score.max():
        return [f"All scores are constant ({score[0]:g})."]
    unit = np.arange(len(score))
    auc = Measurer(Rows(falsified, falsified, score, unit, unit, False))(np.ones((1, len(score))))["auc"][0]
    notes = []
    if answers.score is not None and not (score.min() >= 0 and score.max() <= 1):
        notes.append(
            "Scores are not all in [0, 1]: brier and ece are left out. Does the threshold fit (0 for logits)? See "
            f"{option('threshold')}."
        )
    if auc < 0.5 - 2 / np.sqrt(len(score)):
        notes.append(f"The scores seem flipped (AUC {auc:.3f}): they have to be higher for falsified rows.")
    odd = truth.index[which] % 2 == 1
    ordered = score[odd].min() > score[~odd].max() or score[odd].max() < score[~odd].min()
    if truth.pairs is None and ordered:
        notes.append(
            "The scores follow the parity of the row's index exactly, as those of a model that sees the index, or that "
            "makes no mistake."
        )
    similarity, own = truth.similarity[which][falsified], score[falsified]
    if (
        np.isfinite(similarity).all()
        and len(own) >= SUSPICIOUS
        and min(len(np.unique(own)), len(np.unique(similarity))) > 2
    ):
        correlation = float(np.corrcoef(_ranks(similarity), _ranks(own))[0, 1])
        if abs(correlation) >= LEAK:
            notes.append(
                f"The scores follow similarity_score (rank correlation {correlation:.3f} on falsified rows), which "
                "pristine rows have as 1. Does the model see it?"
            )
    return notes


def _ranks(values: Floats) -> Floats:
    """Return ranks, with the mean of equal values."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean: Floats = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return mean
