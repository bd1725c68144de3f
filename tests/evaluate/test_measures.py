"""Every measure is what scikit-learn and scipy compute under that name, and every draw what its rows would give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _newsclippings.evaluate.intervals import Measured, holm, mcnemar, measure, wilson
from _newsclippings.evaluate.measures import MEASURES, Measurer, Rows, best_threshold

stats = pytest.importorskip("scipy.stats")
calibration = pytest.importorskip("sklearn.calibration")
metrics = pytest.importorskip("sklearn.metrics")

LEVELS = np.array([0.0, 1 / 15, 0.2, 0.3, 1 / 3, 0.5, 0.6, 0.75, 1.0])
PAIRS = st.lists(st.tuples(*[st.sampled_from(LEVELS.tolist())] * 2), min_size=1, max_size=30)


def rows_of(pairs: Any) -> Rows:
    """Rows of pairs (score of the pristine twin, score of the falsified one)."""
    score = np.array(pairs, float).ravel()
    place = np.arange(len(score))
    return Rows(place % 2 == 1, score > 0.5, score, place // 2, place // 2, True)


def by_sklearn(rows: Rows, weights: Any = None) -> dict[str, float]:
    """All measures, with a weight for each row, by other people's code."""
    truth, called, score = rows.falsified, rows.predicted, rows.score
    assert score is not None
    w = np.ones(len(truth)) if weights is None else weights
    keep = w > 0
    truth, called, score, w = truth[keep], called[keep], score[keep], w[keep]
    fpr, tpr, thresholds = metrics.roc_curve(truth, score, sample_weight=w, drop_intermediate=False)
    gap = fpr - (1 - tpr)
    last = int(np.flatnonzero(gap < 1e-12)[-1])  # rates that are equal
    cross = fpr[last]
    if gap[last] < -1e-12:
        cross += (fpr[last + 1] - fpr[last]) * gap[last] / (gap[last] - gap[last + 1])
    share, mean = (np.empty(0), np.empty(0)) if weights is not None else calibration.calibration_curve(
        truth, score, n_bins=15
    )  # fmt: skip
    bins = np.searchsorted(np.linspace(0, 1, 16)[1:-1], score)
    counts = np.bincount(bins, w)
    if weights is not None:
        counts, share, mean = (np.bincount(bins, w * v) for v in (np.ones(len(score)), truth, score))
        share, mean = share[counts > 0] / counts[counts > 0], mean[counts > 0] / counts[counts > 0]
    pairs = rows.score.reshape(-1, 2) if rows.score is not None else np.empty((0, 2))
    won = (pairs[:, 1] > pairs[:, 0]) + 0.5 * (pairs[:, 1] == pairs[:, 0])
    return {
        "accuracy": metrics.accuracy_score(truth, called, sample_weight=w),
        "accuracy_pristine": metrics.recall_score(truth, called, pos_label=False, sample_weight=w),
        "accuracy_falsified": metrics.recall_score(truth, called, sample_weight=w),
        "balanced_accuracy": metrics.balanced_accuracy_score(truth, called, sample_weight=w),
        "f1_macro": metrics.f1_score(truth, called, average="macro", sample_weight=w),
        "f1_weighted": metrics.f1_score(truth, called, average="weighted", sample_weight=w),
        "auc": metrics.roc_auc_score(truth, score, sample_weight=w),
        "average_precision": metrics.average_precision_score(truth, score, sample_weight=w),
        "eer": cross,
        "accuracy_at_eer": metrics.accuracy_score(truth, score >= thresholds[last], sample_weight=w),
        "brier": metrics.brier_score_loss(truth, score, sample_weight=w),
        "ece": float(np.sum(counts[counts > 0] * np.abs(share - mean)) / w.sum()),
        "pair_accuracy": float(np.average(won, weights=None if weights is None else weights[::2])),
    }


@settings(max_examples=40)
@given(PAIRS)
def test_values_are_those_of_scikit_learn(pairs: Any) -> None:
    """With many ties, perfect and useless scores: all measures to twelve digits."""
    rows = rows_of(pairs)
    (found,) = measure(rows, draws=1)
    assert found.values == pytest.approx(by_sklearn(rows), abs=1e-12)
    assert {*found.values} == {*MEASURES}


@settings(max_examples=30)
@given(PAIRS, st.integers(0, 99))
def test_a_draw_is_those_rows_repeated(pairs: Any, seed: int) -> None:
    """The value of a draw is the value of rows that are repeated as often as they are drawn."""
    rows, units = rows_of(pairs), len(pairs)
    weights = np.bincount(np.random.default_rng(seed).integers(0, units, units), minlength=units)
    drawn = {name: value[0] for name, value in Measurer(rows)(weights[None].astype(float)).items()}
    assert drawn == pytest.approx(by_sklearn(rows, np.repeat(weights, 2)), abs=1e-9)


def test_intervals_are_those_of_a_plain_bootstrap() -> None:
    """An independent loop over resampled pairs gives the same intervals, up to the noise of its draws."""
    random = np.random.default_rng(3)
    scores = np.round(random.normal((0.4, 0.6), 0.2, (300, 2)), 2).clip(0, 1)
    found = measure(rows_of(scores))[0].results()
    draws = [by_sklearn(rows_of(scores[random.integers(0, 300, 300)])) for _ in range(150)]
    for name in MEASURES:
        low, high = np.percentile([draw[name] for draw in draws], [2.5, 97.5])
        one = found[name]
        assert one is not None
        assert [one["low"], one["high"]] == pytest.approx([low, high], abs=0.3 * (high - low)), name
        assert one["low"] <= one["value"] <= one["high"] or name == "ece"


def test_groups_are_measured_as_alone() -> None:
    """A group has the values of its rows alone, and a group of all rows those of the whole."""
    rows = rows_of(np.random.default_rng(5).random((40, 2)))
    which = rows.pair % 3 == 0
    whole, part, every = measure(rows, [rows.take(which), rows])
    assert part.values == pytest.approx(by_sklearn(rows.take(which)))
    assert (part.rows, every) == (28, whole)


def test_the_edges_have_an_interval() -> None:
    """All right, or all wrong: Wilson's interval, as scipy computes it, instead of an empty one."""
    for pairs, k in (([(0.0, 1.0)] * 25, 25), ([(1.0, 0.0)] * 25, 0)):
        found = measure(rows_of(pairs))[0].results()["accuracy"]
        expected = stats.binomtest(k, 25).proportion_ci(method="wilson")
        assert found == pytest.approx({"value": k / 25, "low": expected.low, "high": expected.high}, abs=1e-9)
    assert wilson(3, 10) == pytest.approx(tuple(stats.binomtest(3, 10).proportion_ci(method="wilson")))


def test_what_is_not_defined_is_none() -> None:
    """Hard labels have no curves, scores beyond 1 no calibration, one class alone no AUC."""
    whole = rows_of(np.random.default_rng(5).random((9, 2)))
    scores = {"auc", "average_precision", "eer", "accuracy_at_eer", "brier", "ece", "pair_accuracy"}

    def lacking(rows: Rows) -> set[str]:
        return {name for name, one in measure(rows, draws=9)[0].results().items() if one is None}

    assert lacking(whole) == set()
    assert lacking(Rows(whole.falsified, whole.predicted, None, whole.pair, whole.unit, False)) == scores
    assert lacking(Rows(whole.falsified, whole.predicted, whole.score, whole.pair, whole.unit, False)) == {
        "brier",
        "ece",
    }
    one_class = whole.take(whole.falsified)
    assert lacking(one_class) == {"accuracy_pristine", "pair_accuracy", *scores} - {"brier", "ece"}


@settings(max_examples=100)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_test(one: int, other: int) -> None:
    """The exact test: as scipy's binomial test of the cases that one system gets right."""
    expected = stats.binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_rows() -> None:
    """Tens of thousands of rows neither overflow nor become zero too early."""
    assert mcnemar(13_000, 13_600) == pytest.approx(stats.binomtest(13_000, 26_600).pvalue, rel=1e-6)


@settings(max_examples=100)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm(values: list[float]) -> None:
    """Each p times the number of tests that are not more significant, and never below a smaller one."""
    order, worst, expected = sorted(range(len(values)), key=lambda k: values[k]), 0.0, dict[int, float]()
    for rank, k in enumerate(order):
        worst = max(worst, min(1.0, values[k] * (len(values) - rank)))
        expected[k] = worst
    assert holm(values) == pytest.approx([expected[k] for k in range(len(values))])


@settings(max_examples=100)
@given(PAIRS)
def test_the_best_threshold_is_best(pairs: Any) -> None:
    """No threshold has a higher accuracy on the same rows."""
    rows = rows_of(pairs)
    assert rows.score is not None
    accuracy = [
        np.mean((rows.score > t) == rows.falsified) for t in (best_threshold(rows.falsified, rows.score), -1, *LEVELS)
    ]
    assert accuracy[0] == max(accuracy)


def test_equal_draws_of_two_models() -> None:
    """Two models are compared on the same resampled pairs: a model less itself is exactly 0 in each draw."""
    rows = rows_of(np.random.default_rng(1).random((50, 2)))
    one, again = (measure(rows)[0] for _ in range(2))
    assert isinstance(one, Measured)
    assert all((one.draws[name] == again.draws[name]).all() for name in MEASURES)
