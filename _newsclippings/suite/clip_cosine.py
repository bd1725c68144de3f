"""`clip-cosine`: the cosine of picture and caption, with the threshold that is best on validation."""

from typing import Final

from _newsclippings.suite.baseline import LARGE_CLIP, Baseline, Method, Published, Scorer
from _newsclippings.suite.networks import cosine
from _newsclippings.suite.rows import Bools, Rows

PAIR: Final = cosine("image", "text")
SOURCE: Final = "MUSE with img_txt alone (Papadopoulos et al., WACV 2025, arXiv 2407.13488)"


def _fit(_: Rows, __: Bools, ___: Rows, ____: Bools, _____: int) -> Scorer:
    return lambda rows: (1 - PAIR(rows)) / 2  # in [0, 1]


CLIP_COSINE: Final = Baseline(
    name="clip-cosine",
    about="The cosine of picture and caption; a threshold is chosen on validation.",
    needs="vectors of both sides",
    cost="seconds",
    methods=(Method("cosine", _fit, ("image", "text"), Published(0.807, SOURCE, LARGE_CLIP), seeded=False),),
    differences=(
        "The published 80.7 is of a classifier on the same cosine; here the threshold is chosen on validation.",
    ),
)
