"""`cross-outlet`: train without two outlets, test on them, on the union of the configs.

The protocol is that of ConDA-TTT (Gu et al., arXiv 2406.07430; github.com/gymbeijing/ooc-detection-2:
src/save_all_tensor_to_one_file_newsclippings.py, dataset/newsCLIPpingsDatasetConDATriplet.py) and of VDT (Yang et al.,
AAAI 2026, arXiv 2511.10213; github.com/yanggxii/VDT at a23fb33: trainers/train_VDT.py, configs/configNews.py).
A row has one outlet. In their code it is the first folder of the picture's path. The caption's outlet is measured, too.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from _newsclippings.errors import bad_file
from _newsclippings.evaluate import Measured, load_truth, measure, summarise
from _newsclippings.evaluate import Rows as Answered
from _newsclippings.facts import CONFIGS, OUTLETS, SPLITS, VERSION
from _newsclippings.suite.baseline import Baseline, Line, Method, Published
from _newsclippings.suite.networks import interact, network
from _newsclippings.suite.rows import Bools, Floats, Labelled, Rows
from _newsclippings.suite.run import Run
from _newsclippings.tables import Int64s

TARGET_OUTLETS: Final = ("bbc", "guardian")  # --target_domain bbc,guardian
SIDES: Final = ("image", "text")
RULES: Final = ("picture", "caption")  # whose outlet a row has
OTHER: Final = "it adapts to unlabelled rows of the target, with BLIP-2 vectors"
PUBLISHED: Final = Published(0.723, "VDT (arXiv 2511.10213)", "BLIP-2", "f1_weighted", OTHER)
# Hidden size, learning rate, batch, epochs and patience of VDT
FIT: Final = network(interact(), hidden=(500,), rates=(1e-4,), batch=256, epochs=20, patience=5, decay=0)


def _outlet(rows: Rows, rule: str) -> Int64s:
    return rows.image_outlets if rule == "picture" else rows.outlets


def _run(run: Run) -> list[Line]:
    parts = run.load(SIDES)
    truths = [load_truth(config, "test", run.data_dir, groups=False) for config in run.configs]
    falsified = np.concatenate([truth.falsified for truth in truths])
    digests = "+".join(truth.digest for truth in truths)
    return [line for rule in RULES for line in _measure_rule(run, rule, parts, falsified, digests)]


def _measure_rule(run: Run, rule: str, parts: Mapping[str, Labelled], falsified: Bools, digests: str) -> list[Line]:
    codes = [OUTLETS.index(outlet) for outlet in TARGET_OUTLETS]
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    kept = []
    for split in SPLITS:
        outlet = _outlet(parts[split].rows, rule)
        if unknown := int((outlet < 0).sum()):
            run.notes.append(f"{split}: {unknown:,} rows have no record of their {rule}, so no outlet: left out.")
        kept.append(outlet)
    source_train, source_validation = (
        part.take((outlet >= 0) & ~np.isin(outlet, codes))
        for part, outlet in zip((train, validation), kept[:2], strict=True)
    )
    masks = {"both": np.isin(kept[2], codes), **{OUTLETS[code]: kept[2] == code for code in codes}}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    if not masks or not len(source_train.rows) or not len(source_validation.rows):
        expected = f"rows of {' and '.join(TARGET_OUTLETS)} in test, and of other outlets in train and validation"
        raise bad_file(f"{'+'.join(run.configs)}, {rule} rule", expected, "none")
    found, files = [], []
    for seed in range(run.seeds):
        learnt = FIT(
            source_train.rows, source_train.falsified, source_validation.rows, source_validation.falsified, seed
        )
        scores = learnt(test.rows)
        for number, config in enumerate(run.configs):
            of_config = test.config == number
            folder = run.folder(f"{rule} rule", seed)
            files.append(run.write(folder, "test", test.index[of_config], scores[of_config], f"-{config}"))
        found.append(_measure(scores, falsified, test, masks))
    lines = []
    for position, name in enumerate(masks):
        for chosen in ("f1_weighted", "accuracy_at_eer") if name == "both" else ("accuracy",):
            published = PUBLISHED if chosen == PUBLISHED.measure else None
            where = "bbc and guardian" if name == "both" else name
            method = Method(f"{where}, {rule} rule", FIT, SIDES, published)
            group = summarise([each[position] for each in found])[chosen]
            rows = int(masks[name].sum())
            signature = "|".join([
                f"newsclippings|v:{VERSION}|config:{'+'.join(run.configs)}|split:test|rows:{rows}|matches:{digests}",
                f"outlets:{name} by {rule}|thr:0.5|ci:captions,{len(found[0][position].draws['accuracy'])},seed0",
            ])  # fmt: skip
            line = run.line(method, chosen, group, rows, signature, files, {})
            lines.append({**line, "seeds": run.seeds})
    return lines


def _measure(scores: Floats, falsified: Bools, test: Labelled, masks: Mapping[str, Bools]) -> list[Measured]:
    """Measure the rows of outlets. Rows of one caption are drawn together, since configs share pairs."""
    found = []
    for mask in masks.values():
        score, truth = scores[mask], falsified[mask]
        unit = np.unique(test.rows.ids[mask], return_inverse=True)[1]
        pair = np.unique(np.stack([test.config, test.index // 2], 1)[mask], axis=0, return_inverse=True)[1].ravel()
        found += measure(Answered(truth, score > 0.5, score, pair, unit, True))
    return found


CROSS_OUTLET: Final = Baseline(
    name="cross-outlet",
    about="Train without bbc and guardian, test on them, on the union of all five configs.",
    needs="vectors of both sides, the outlets of data.json or the metadata; scikit-learn",
    cost="hours on a CPU for all five configs; minutes with --config",
    published=(PUBLISHED,),
    configs=tuple(CONFIGS),
    differences=(
        "The vectors are of both sides, as a product and a difference; theirs are multimodal vectors of BLIP-2, and "
        "pictures are blurred to augment them (src/save_all_tensor_to_one_file_newsclippings.py).",
        "Nothing adapts to the target: no unlabelled rows of its outlets in training, no test-time training. Their "
        "hidden size, learning rate, batch, epochs and patience are kept (configs/configNews.py); no dropout.",
        "The epoch is chosen on validation rows of the source outlets. Their code chooses it by F1 on the rows that it "
        "reports (trainers/train_VDT.py: tgt_validation_loader is of the phase test).",
        "Accuracy at EER is computed from scores. Their code takes from each row the logit of the wrong class, which "
        "needs the label (trainers/train_VDT.py: pred_logits), so their number is not comparable.",
        "A row's outlet is that of its picture, as in their code; the caption's outlet is measured beside it.",
        "Configs share pairs: the rows of a caption are drawn together for intervals.",
    ),
    run=_run,
)
