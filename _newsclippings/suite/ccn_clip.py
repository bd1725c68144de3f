"""`ccn-clip`: a linear classifier on the product of the vectors of picture and caption."""

from typing import Final

from _newsclippings.suite.baseline import Baseline, Method
from _newsclippings.suite.networks import network
from _newsclippings.suite.rows import Float32s, Rows


def _product(rows: Rows) -> Float32s:
    return rows.vectors("image") * rows.vectors("text")


CCN_CLIP: Final = Baseline(
    name="ccn-clip",
    about="CCN's classifier without evidence: a linear layer on the product of both vectors.",
    needs="vectors of both sides; scikit-learn",
    cost="about ten seconds of CPU a seed",
    methods=(Method("product linear", network(_product, batch=64, decay=1.2e-6), ("image", "text"), threshold=0.5),),
    differences=(
        "Their code (finetuning_clip) also trains CLIP, at 5e-7, and the layer at 5e-5. Here the vectors stay as they "
        "are, and the layer learns at 1e-3.",
        "Their dropout before the layer is left out; features are scaled on train instead.",
        "Their number is of the trained CLIP, so none is compared.",
    ),
)
