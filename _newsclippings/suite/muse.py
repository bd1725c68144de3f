"""`muse`: a decision tree, a random forest and an MLP on cosines of picture, caption and their evidence.

Papadopoulos et al., "Similarity over Factuality" (WACV 2025, arXiv 2407.13488); the numbers of their recipe are read
in github.com/stevejpapad/outcontext-misinfo-progress at d5c341f: src/muse_ml_experiment.py, src/muse_mlp_experiment.py,
src/models.py, src/utils.py. Without evidence there is one cosine, of picture and caption.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from _newsclippings.suite.baseline import LARGE_CLIP, Baseline, Fit, Line, Method, Published, Scorer
from _newsclippings.suite.clip_cosine import SOURCE
from _newsclippings.suite.networks import Features, classifier, cosine, network
from _newsclippings.suite.rows import EVIDENCE, Bools, Float32s, Rows
from _newsclippings.suite.run import Run

LEFT_OUT: Final = 111288  # the id of a caption that their code drops from train (src/utils.py)
FIRST_SEED: Final = 42  # of their trees; their MLP has 0
WIDTH: Final = 768  # of both hidden layers of their MLP: the width of ViT-L/14
PAIR: Final = (("image", "text"),)
# img_txt, img_X_img, txt_X_img, img_X_txt, txt_X_txt, X_img_X_txt
ALL_SIX: Final = (
    *PAIR,
    ("image", EVIDENCE[0]),
    ("text", EVIDENCE[0]),
    ("image", EVIDENCE[1]),
    ("text", EVIDENCE[1]),
    EVIDENCE,
)


def _tree(seed: int) -> Any:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=7, random_state=FIRST_SEED + seed)


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(random_state=FIRST_SEED + seed)


def _similarities(pairs: tuple[tuple[str, str], ...]) -> Features:
    def features(rows: Rows) -> Float32s:
        return np.stack([cosine(*pair)(rows) for pair in pairs], axis=1).astype(np.float32)

    return features


def _without_one_caption(fit: Fit) -> Fit:
    def fitted(train: Rows, labels: Bools, validation: Rows, truth: Bools, seed: int) -> Scorer:
        kept = train.ids != LEFT_OUT
        return fit(train.take(kept), labels[kept], validation, truth, seed)

    return fitted


def _methods(pairs: tuple[tuple[str, str], ...], published: dict[str, Published]) -> tuple[Method, ...]:
    features = _similarities(pairs)
    estimators: dict[str, Callable[[int], Any]] = {"DT": _tree, "RF": _forest}
    fits = {name: classifier(features, make) for name, make in estimators.items()}
    fits["MLP"] = network(
        features, hidden=(WIDTH, WIDTH), rates=(1e-4, 5e-5), epochs=50, patience=10, batch=512, decay=0.01, scale=False
    )
    columns = tuple(dict.fromkeys(name for pair in pairs for name in pair if name not in EVIDENCE))
    return tuple(
        Method(
            f"{'img_txt' if pairs == PAIR else 'six'} {name}",
            _without_one_caption(fit),
            columns,
            published.get(name),
            0.5,
        )
        for name, fit in fits.items()
    )


BEST: Final = Published(
    0.900, "MUSE with evidence (arXiv 2407.13488); the table that we quote does not say of which", LARGE_CLIP
)
WITHOUT: Final = _methods(PAIR, {"MLP": Published(0.807, SOURCE, LARGE_CLIP)})
WITH: Final = _methods(ALL_SIX, dict.fromkeys(("DT", "RF", "MLP"), BEST))
OTHER: Final = replace(BEST, differs="it was published with evidence that CCN's lists keep")
UNLABELLED: Final = tuple(replace(method, name=f"{method.name} unlabelled", published=OTHER) for method in WITH)


def _run(run: Run) -> list[Line]:
    return run.measure_methods(WITHOUT if run.evidence is None else UNLABELLED if run.unlabelled else WITH)


MUSE: Final = Baseline(
    name="muse",
    about="Decision tree, random forest and MLP on the cosine of picture and caption, or on six cosines with evidence.",
    needs="vectors of both sides (published: CLIP ViT-L/14); for six, --evidence and --model; scikit-learn",
    cost="three minutes of CPU a seed, nearly all of them for the MLP; vectors of the evidence: hours on a GPU",
    methods=WITHOUT,
    published=(BEST,),
    differences=(
        "MLP: ReLU for GELU, and Adam with an L2 penalty for AdamW with weight decay 0.01, since scikit-learn has no "
        "others (src/models.py, src/muse_mlp_experiment.py).",
        "MLP: the learning rate (1e-4 or 5e-5) is chosen on validation; their script reports both.",
        "Of img_txt alone their scripts train the MLP only; tree and forest on it have no published number.",
        "Seeds: 42, 43, ... for trees and 0, 1, ... for the MLP; theirs are 42 and 0 only.",
        "As theirs: caption 111288 is left out of train (src/utils.py; by id, not by image_id). Test is complete.",
        "Of the evidence that CCN's lists keep, the picture nearest to the row's picture and the text nearest to its "
        "caption are used, by cosine; theirs is re-ranked by CLIP, of which the first is used.",
    ),
    run=_run,
)
