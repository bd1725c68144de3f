"""`clip-finetune`: `newsclippings train` with each of its recipes; its predictions enter the table."""

import contextlib
import sys
from dataclasses import replace
from typing import Final

from _newsclippings.errors import ConfigError
from _newsclippings.suite.baseline import Baseline, Line, Method, Published, Scorer
from _newsclippings.suite.rows import Bools, Rows
from _newsclippings.suite.run import Run
from _newsclippings.train import train

FIRST_SEED: Final = 2  # of all recipes
SOURCE: Final = "CLIP ViT-B/32 of the paper, as quoted by SNIFFER's card"


def _no_fit(_: Rows, __: Bools, ___: Rows, ____: Bools, _____: int) -> Scorer:
    message = "clip-finetune is trained by `newsclippings train`."
    raise ConfigError(message)


def _run(run: Run) -> list[Line]:
    lines: list[Line] = []
    for method in CLIP_FINETUNE.methods:
        files = []
        for seed in range(run.seeds):
            place = run.folder(method.name, seed)
            flags = ["--recipe", method.name, "--config", run.configs[0], "--seed", str(FIRST_SEED + seed)]
            flags += ["--data_dir", run.data_dir] if run.data_dir else []
            flags += ["--visual_news", *run.visual_news] if run.visual_news else []
            with contextlib.redirect_stdout(sys.stderr):  # it prints its report
                train([*flags, "--output_dir", str(place), *run.flags])
            files.append(place / "predictions.jsonl")
        own = replace(method, published=_differing(method.published)) if run.flags else method
        lines.append(run.describe(own, files, [method.threshold] * len(files), {}))
    return lines


def _differing(published: Published | None) -> Published | None:
    return replace(published, differs="flags change the recipe") if published else None


PAPER: Final = Published(0.660, SOURCE)
CLIP_FINETUNE: Final = Baseline(
    name="clip-finetune",
    about="CLIP, fine-tuned by `newsclippings train` with the recipes released, paper and strong.",
    needs="pictures, a GPU, the extra `train`",
    cost="hours on a GPU for each recipe and seed",
    methods=(
        Method("released", _no_fit, (), PAPER, 0.5),
        Method("paper", _no_fit, (), PAPER, 0.5),
        Method("strong", _no_fit, (), None, 0.5),
    ),
    published=(Published(0.865, 'CLIP ViT-L/14, fine-tuned ("Pics Can Lie")', differs="another backbone"),),
    differences=(
        "Nobody can say from public material what the paper ran: `newsclippings train --recipe` has the readings, and "
        "the source of each number is in _newsclippings/train/recipes.py.",
    ),
    run=_run,
)
