"""The measures of a classifier of pairs, each for any number of weightings of the rows at once.

The names and definitions are those of scikit-learn, with falsified as the positive class. A weighting gives each unit
(a pair, or a cluster of pairs) a weight: all ones for the value itself, and the counts of a multinomial draw for the
bootstrap. Sums over rows are one product; curves are cumulative sums over the rows in the order of their scores.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from _newsclippings.tables import Int64s

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[Any]

BINS: Final = 15  # of P(falsified), equally wide, for `ece`
MEASURES: Final = (
    "accuracy", "accuracy_pristine", "accuracy_falsified", "balanced_accuracy", "f1_macro", "f1_weighted", "auc",
    "average_precision", "eer", "accuracy_at_eer", "brier", "ece", "pair_accuracy",
)  # fmt: skip
_SUMS = ("positive", "negative", "true_positive", "true_negative", "pairs", "won", "squares")


@dataclass(frozen=True)
class Rows:
    """Rows with a model's answers.

    Attributes:
        falsified: bool (N,), the truth.
        predicted: bool (N,), whether the model calls the row falsified.
        score: float64 (N,), higher for falsified; infinite where the model is silent; None for hard labels only.
        pair: int64 (N,), the pair of a row.
        unit: int64 (N,), what is resampled: the pair, or its cluster; from 0 on.
        probable: whether the scores are probabilities, so that `brier` and `ece` are defined.
    """

    falsified: Bools
    predicted: Bools
    score: Floats | None
    pair: Int64s
    unit: Int64s
    probable: bool

    def take(self, which: Bools) -> "Rows":
        """Return some of the rows."""
        score = None if self.score is None else self.score[which]
        arrays = self.falsified[which], self.predicted[which], score, self.pair[which], self.unit[which]
        return Rows(*arrays, self.probable)


class Measurer:
    """Computes all measures of some rows."""

    def __init__(self, rows: Rows) -> None:
        self.units, unit = np.unique(rows.unit, return_inverse=True)  # those that these rows belong to
        self._has_score, self._probable = rows.score is not None, rows.score is not None and rows.probable
        truth, right = rows.falsified, rows.falsified == rows.predicted
        columns = [truth, ~truth, truth & right, ~truth & right]
        if rows.score is not None:
            columns += [*score_pairs(truth, rows.score, rows.pair), *self._calibration(truth, rows.score)]
            self._sort(truth, rows.score, unit)
        self._sums = np.stack([np.bincount(unit, column, len(self.units)) for column in columns])

    def _calibration(self, truth: Bools, score: Floats) -> list[Floats]:
        """Return squared errors, and the difference of label and score in each bin of the score: (N,) each."""
        if not self._probable:
            return []
        probability = np.clip(score, 0, 1)
        bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], probability)
        return [(truth - probability) ** 2, *((truth - probability) * (bins == k) for k in range(BINS))]

    def _sort(self, truth: Bools, score: Floats, unit: Int64s) -> None:
        """Sort the rows of each class by score, and count below each threshold how many there are of each."""
        order = np.argsort(score, kind="stable")
        falsified = order[truth[order]]
        pristine = order[~truth[order]]
        self._units_of = unit[falsified], unit[pristine]
        steps, self._step = np.unique(score[falsified], return_inverse=True)  # the thresholds with a falsified row
        self._below = [np.searchsorted(score[pristine], steps, side) for side in ("left", "right")]
        self._starts = np.searchsorted(self._step, np.arange(len(steps)))
        points = np.append(np.unique(score), np.inf)  # the thresholds of the whole curve; at the last, none is called
        self._points = [np.searchsorted(score[rows], points) for rows in (falsified, pristine)]
        self._points[0][-1], self._points[1][-1] = len(falsified), len(pristine)  # silent pristine rows, too

    def __call__(self, weights: Weights) -> dict[str, Floats]:
        """Compute the measures.

        Args:
            weights: float (B, units of these rows). Sums have their precision.

        Returns:
            Measure -> float64 (B,), NaN where it is not defined. Measures that these rows do not allow are left out.
        """
        # Not `@`: threads of BLAS cost more time than they save
        every = np.einsum("ku,bu->kb", self._sums.astype(weights.dtype), weights).astype(np.float64)
        sums = dict(zip(_SUMS, every, strict=False))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = _label_measures(*(sums[name] for name in _SUMS[:4]))
            if self._has_score:
                found |= {"pair_accuracy": sums["won"] / sums["pairs"]}
                if min(map(len, self._units_of)):
                    found |= self._curve_measures(np.ascontiguousarray(weights.T))
            if self._probable:
                total = sums["positive"] + sums["negative"]
                found |= {"brier": sums["squares"] / total, "ece": np.abs(every[len(_SUMS) :]).sum(0) / total}
        return found

    def _curve_measures(self, weights: Weights) -> dict[str, Floats]:
        """Compute the measures of the curves over all thresholds. Weights are (units, B): rows are taken as a block."""
        falsified, pristine = (_cumulate(np.take(weights, units, axis=0)) for units in self._units_of)
        positive, negative = falsified[-1].astype(np.float64), pristine[-1].astype(np.float64)
        ends = np.append(self._starts[1:], len(falsified) - 1)
        before = np.take(falsified, self._starts, axis=0)  # (steps, B), falsified rows below each step
        here = np.take(falsified, ends, axis=0) - before
        below, up_to = (np.take(pristine, places, axis=0) for places in self._below)
        area = np.einsum("sb,sb->b", here, below + up_to, dtype=np.float64) / (2 * positive * negative)
        above = falsified[-1] - before
        precision = above / np.maximum(above + (pristine[-1] - below), 1)  # 0 where nothing is called falsified
        average = np.einsum("sb,sb->b", here, precision, dtype=np.float64) / positive
        eer, right = self._cross(falsified, pristine, positive, negative)
        return {"auc": area, "average_precision": average, "eer": eer, "accuracy_at_eer": right}

    def _cross(
        self, falsified: Weights, pristine: Weights, positive: Floats, negative: Floats
    ) -> tuple[Floats, Floats]:
        """Find where the rate of false positives crosses that of false negatives, by bisection of the thresholds.

        Returns:
            The rate at the crossing, on a line between two points of the curve, and the accuracy at the last threshold
            at which false positives are not more frequent.
        """
        draws = np.arange(falsified.shape[1])

        def rates(point: Int64s) -> tuple[Floats, Floats]:
            missed, passed = (
                cumulated[places[point], draws].astype(np.float64)
                for cumulated, places in zip((falsified, pristine), self._points, strict=True)
            )
            return (negative - passed) / negative, missed / positive

        low, high = np.zeros(len(draws), np.int64), np.full(len(draws), len(self._points[0]) - 1)
        while (high - low > 1).any():
            middle = (low + high) // 2
            false_positive, false_negative = rates(middle)
            over = false_positive > false_negative
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        (before, missed_before), (after, missed_after) = rates(low), rates(high)
        gap_before, gap_after = before - missed_before, after - missed_after
        eer = before + gap_before / (gap_before - gap_after) * (after - before)
        right = (positive * (1 - missed_after) + negative * (1 - after)) / (positive + negative)
        return eer, right


def _cumulate(weights: Weights) -> Weights:
    """Return sums over the first 0, 1, ... rows: (N + 1, B)."""
    sums = np.empty((len(weights) + 1, weights.shape[1]), weights.dtype)
    sums[0] = 0
    np.cumsum(weights, axis=0, out=sums[1:])
    return sums


def score_pairs(truth: Bools, score: Floats, pair: Int64s) -> list[Floats]:
    """Return for each falsified row whether its twin is there, and 1, 0.5 or 0 for a higher, equal or lower score."""
    twins, won = np.zeros(len(truth)), np.zeros(len(truth))
    order = np.lexsort((truth, pair))  # the pristine twin first
    first, second = order[:-1], order[1:]
    both = (pair[first] == pair[second]) & ~truth[first] & truth[second]
    first, second = first[both], second[both]
    twins[second] = 1
    won[second] = (score[second] > score[first]) + (score[second] == score[first]) / 2
    return [twins, won]


def _label_measures(positive: Floats, negative: Floats, tp: Floats, tn: Floats) -> dict[str, Floats]:
    total, fp, fn = positive + negative, negative - tn, positive - tp
    recalls = np.stack([tn / negative, tp / positive])
    classes = np.stack([2 * tn + fn + fp, 2 * tp + fn + fp])  # 0 for a class that is neither there nor predicted
    f1 = np.divide(np.stack([2 * tn, 2 * tp]), classes, out=np.zeros_like(classes), where=classes > 0)
    known = ~np.isnan(recalls)
    return {
        "accuracy": (tp + tn) / total,
        "accuracy_pristine": recalls[0],
        "accuracy_falsified": recalls[1],
        "balanced_accuracy": np.where(known, recalls, 0).sum(0) / known.sum(0),
        "f1_macro": f1.sum(0) / (classes > 0).sum(0),
        "f1_weighted": (f1[0] * negative + f1[1] * positive) / total,
    }


def best_threshold(falsified: Bools, score: Floats) -> float:
    """Find the threshold with the highest accuracy: halfway between two scores, or beyond all of them.

    Args:
        falsified: bool (N,), the truth.
        score: float64 (N,), finite; a row is called falsified if its score is above the threshold.
    """
    values, place = np.unique(score, return_inverse=True)
    gains = np.cumsum(np.bincount(place, np.where(falsified, -1.0, 1.0)))  # of a threshold after each value
    thresholds = np.append((values[:-1] + values[1:]) / 2, values[-1])
    best = int(np.argmax(gains))
    return float(thresholds[best]) if gains[best] > 0 else float(np.nextafter(values[0], -np.inf))
