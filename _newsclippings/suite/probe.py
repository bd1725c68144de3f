"""`probe`: small classifiers on vectors of frozen encoders."""

from typing import Final

from _newsclippings.suite.baseline import SHIPPED_VECTORS, Baseline, Method, Published
from _newsclippings.suite.networks import concatenate, interact, network

SIDES: Final = ("image", "text")
OTHERS: Final = ("sbert", "places", "facenet")  # kinds of the authors beside CLIP
SOURCE: Final = "GraphCURE, on the authors' vectors"


def _published(value: float, more: str = "") -> Published:
    return Published(value, SOURCE + more, SHIPPED_VECTORS)


PROBE: Final = Baseline(
    name="probe",
    about="Classifiers on both vectors, on their product and difference, and on all of the authors' vectors.",
    needs="vectors of both sides; for `all`, the authors' five kinds (about 9 GB); scikit-learn",
    cost="a minute of CPU a seed; `all` takes several",
    methods=(
        Method("linear", network(concatenate(*SIDES)), SIDES, _published(0.535), 0.5),
        Method("mlp", network(concatenate(*SIDES), hidden=(256,), decay=1e-2), SIDES, _published(0.533), 0.5),
        Method("products", network(interact(), hidden=(256,), decay=1e-2), SIDES, _published(0.637), 0.5),
        Method(
            "all",
            network(interact(*SIDES, *OTHERS), hidden=(256,), decay=1e-2),
            (*SIDES, *OTHERS),
            _published(0.653, " (five seeds: 64.95, deviation 0.41)"),
            0.5,
        ),
    ),
    differences=(
        "There is no public code to follow: vectors have length 1, features are scaled on train, one hidden layer of "
        "256 with ReLU, Adam 1e-3, batches of 256, at most 30 epochs, stopped after 5 without a better validation.",
        "Of several faces the mean is taken; a row without a vector has zeros.",
    ),
)
