"""`priors`: what a classifier reaches without seeing both sides, and controls that show that nothing leaks.

A prior has to be at chance: every caption of a pair is there once with each label. A control is one of three:
a positive that has to beat chance, a negative that must not, and a label that is planted and has to be found.
A negative control proves something only if its positive beats chance.
"""

import hashlib
from typing import Final

import numpy as np

from _newsclippings.suite.baseline import Baseline, Expected, Fit, Method, Published, Scorer
from _newsclippings.suite.networks import concatenate, interact, network
from _newsclippings.suite.rows import Bools, Floats, Rows, VectorsOfRows

SIDES: Final = ("image", "text")
POSITIVE: Final = "both sides"
CHANCE: Final = Published(0.5, "chance; 95 % of such tests are within 1.2 points at 7,264 rows")
BOTH: Final = network(interact(), rates=(1e-2,))  # linear, on products and differences


def _fit_frequency(_: Rows, __: Bools, ___: Rows, ____: Bools, _____: int) -> Scorer:
    """Score a row by how often its picture is in the split."""

    def score(rows: Rows) -> Floats:
        _pictures, places, counts = np.unique(rows.image_ids, return_inverse=True, return_counts=True)
        frequency: Floats = counts[places] / counts.max()
        return frequency

    return score


def _fit_ids(_: Rows, __: Bools, ___: Rows, ____: Bools, _____: int) -> Scorer:
    """Score a row by whether the ids of picture and caption differ, which gives the label away."""
    return lambda rows: (rows.ids != rows.image_ids).astype(np.float64)


def _shuffle(fit: Fit) -> Fit:
    """Let a coin decide for each caption which of its rows is called falsified, in all splits.

    Exchanging the scores of twins in test is the same as exchanging their labels, which no baseline sees. A caption has
    the same coin in every split, so that a model that learnt a row by heart is found out.
    """

    def shuffled(train: Rows, labels: Bools, validation: Rows, truth: Bools, seed: int) -> Scorer:
        scorer = fit(train, labels ^ _toss(train, seed), validation, truth ^ _toss(validation, seed), seed)

        def score(rows: Rows) -> Floats:
            scores = scorer(rows)
            twins = np.minimum(np.arange(len(rows)) ^ 1, len(rows) - 1)
            return np.where(_toss(rows, seed), scores[twins], scores)

        return score

    return shuffled


def _toss(rows: Rows, seed: int) -> Bools:
    """Toss a coin for each caption: bool (N,), the same wherever the caption is."""
    captions, places = np.unique(rows.ids, return_inverse=True)
    coins = [hashlib.sha256(f"{seed}:{caption}".encode()).digest()[0] & 1 for caption in captions.tolist()]
    return np.array(coins, bool)[places]


def _own_pictures(fit: Fit) -> Fit:
    """Train on the right rows, and score rows of which both twins have the caption's own picture."""

    def blinded(train: Rows, labels: Bools, validation: Rows, truth: Bools, seed: int) -> Scorer:
        scorer = fit(train, labels, validation, truth, seed)
        return lambda rows: scorer(_give_own_pictures(rows))

    return blinded


def _give_own_pictures(rows: Rows) -> Rows:
    column = rows.columns["image"]
    order = np.argsort(rows.image_ids, kind="stable")
    own = order[np.minimum(np.searchsorted(rows.image_ids[order], rows.ids), len(order) - 1)]
    places = np.where(rows.image_ids[own] == rows.ids, column.places[own], len(column.vectors) - 1)
    columns = {**rows.columns, "image": VectorsOfRows(column.vectors, places)}
    return Rows(rows.ids, rows.ids, rows.outlets, rows.image_outlets, columns)


PRIORS: Final = Baseline(
    name="priors",
    about="Text only, picture only, frequency of the picture; controls: positive, negative, and a planted label.",
    needs="vectors of both sides; scikit-learn",
    cost="half a minute of CPU a seed",
    methods=(
        Method("text only", network(concatenate("text")), ("text",), CHANCE, expected=Expected()),
        Method("picture only", network(concatenate("image")), ("image",), CHANCE, expected=Expected()),
        Method("picture frequency", _fit_frequency, (), CHANCE, seeded=False, expected=Expected()),
        Method(POSITIVE, BOTH, SIDES, threshold=0.5),
        Method("control: shuffled labels", _shuffle(BOTH), SIDES, threshold=0.5, expected=Expected(positive=POSITIVE)),
        Method(
            "control: own pictures", _own_pictures(BOTH), SIDES, threshold=0.5, expected=Expected(positive=POSITIVE)
        ),
        Method("control: ids", _fit_ids, (), threshold=0.5, seeded=False, expected=Expected(1.0)),
    ),
    differences=("There is no public code. The band of 1.2 points follows from the number of rows.",),
)
