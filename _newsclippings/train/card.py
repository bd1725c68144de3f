"""The card of a run, README.md, and its result for the Hub, .eval_results. Neither names a place on this machine."""

import os
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any, Final, NamedTuple

import yaml

from _newsclippings.evaluate import HUB_RESULT, HUB_RESULT_MARKS, format_hub_result
from _newsclippings.facts import CITATION, ENV_DATA_DIR, HUB_REPO, HUB_REVISION, LICENSE, NAME, VERSION, VISUAL_NEWS_URL
from _newsclippings.storage import Maker, check_output, outputs, write_text
from _newsclippings.text import printable
from _newsclippings.train.classifier_config import ClassifierConfig
from _newsclippings.train.options import CONTROLS, HUB_NAME, Options
from _newsclippings.train.untrusted import CONFIG, WEIGHTS

README: Final = "README.md"
RESULTS: Final = HUB_RESULT
TEMPLATE: Final = Path(__file__).with_name("card.md")
MARK: Final = b"<!-- Written by `newsclippings train`"
# An earlier version let transformers write the card
MAKERS: Final = {
    README: Maker("train", (MARK,), earlier=(b"generated_from_trainer",)),
    RESULTS: Maker("train", HUB_RESULT_MARKS),
}
# What is pushed. Other files of a run may name places, such as the notes with which it resumes.
PUSHED: Final = (README, CONFIG, WEIGHTS, RESULTS, "predictions.jsonl")
DEFINITIONS: Final = {
    "accuracy": "Accuracy",
    "accuracy_pristine": "Accuracy of pristine rows",
    "accuracy_falsified": "Accuracy of falsified rows",
    "balanced_accuracy": "Balanced accuracy",
    "f1_macro": "F1, macro",
    "f1_weighted": "F1, weighted",
    "auc": "Area under the ROC curve",
    "average_precision": "Average precision",
    "eer": "Equal error rate",
    "accuracy_at_eer": "Accuracy at the equal error rate",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "pair_accuracy": "Pair accuracy",
}


class Measured(NamedTuple):
    """What the card takes from measures.json.

    Attributes:
        rows: number of rows that were predicted.
        signature: all that the numbers depend on, in one line.
        values: name of a measure -> its value, and its 95 % interval.
        facts: of the run: recipe, seed, versions.
    """

    rows: int
    signature: str
    values: dict[str, tuple[float, float, float]]
    facts: dict[str, Any]


def read_measured(report: Mapping[str, Any]) -> Measured:
    """Read the content of measures.json: the JSON of `newsclippings evaluate`, with the facts of the run as `run`."""
    found = {name: report["measures"][name] for name in DEFINITIONS if report["measures"].get(name)}
    values = {name: (each["value"], each["low"], each["high"]) for name, each in found.items()}
    facts = {name: report["run"][name] for name in ("seed", "versions") if report["run"].get(name) is not None}
    return Measured(report["rows"]["found"], report["signature"], values, facts)


def check_card(folder: Path) -> None:
    """Refuse to replace files of a card that another program wrote; raises as `check_output`."""
    for name, maker in MAKERS.items():
        check_output(folder / name, maker)


def write_card(folder: Path, config: ClassifierConfig, options: Options, reports: Mapping[str, Any]) -> None:
    """Write README.md and .eval_results of a run.

    Args:
        folder: of the run.
        config: of its classifier.
        options: by which it was tested.
        reports: config of the data -> the content of its measures.json.
    """
    measured = {name: read_measured(report) for name, report in reports.items()}
    write_text(folder / README, make_card(config, options, measured), MAKERS[README])
    if _is_official(options):
        (folder / RESULTS).parent.mkdir(exist_ok=True)
        write_text(folder / RESULTS, make_results(options, measured), MAKERS[RESULTS])
    else:
        (folder / RESULTS).unlink(missing_ok=True)  # of an earlier test


def list_pushed(folder: Path) -> dict[str, Path]:
    """List the files of a run to push: name in the repository -> file."""
    found = {name: folder / name for name in PUSHED if (folder / name).is_file()}
    tokens = sorted(file for file in (folder / "tokenizer").glob("*") if file.is_file())
    found |= {file.name: file for file in sorted(folder.glob("*.png")) if outputs.EVALUATION.wrote(file)}
    return found | {f"tokenizer/{file.name}": file for file in tokens}


def make_results(options: Options, measured: Mapping[str, Measured]) -> str:
    """Make the YAML of .eval_results: the accuracy on the test split, one entry for each config."""
    place, revision = _data_on_hub(options)
    return "".join(
        format_hub_result(name, each.values["accuracy"][0], each.signature, place, revision)
        for name, each in measured.items()
    )


def make_card(config: ClassifierConfig, options: Options, measured: Mapping[str, Measured]) -> str:
    """Make the text of README.md."""
    base = f"[{config.base_model}](https://huggingface.co/{config.base_model})" if config.base_model else ""
    vectors = ", ".join(f"`{name}`" for name in config.widths)
    what = f"It was fine-tuned from {base}." if base else "It was trained from a configuration or a model of one's own."
    use = 'newsclippings.predict(model, "A caption.", "picture.jpg")  # 0 to 1'
    if vectors:
        what = f"It was trained on vectors ({vectors}), not on captions and pictures."
        use = f"model(vectors=...)  # float32 (rows, {_width(config)}), each L2-normalised, in this order"
    tables = [_make_table(options, name, each) for name, each in measured.items()]
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        what=what,
        name="OWNER/NAME",
        use=use,
        measured="\n\n".join(tables),
        training=_describe_training(config, options, next(iter(measured.values()))),
        terms=base or "the model that it began from, if it did not begin from random numbers",
        license=LICENSE,
        citation=CITATION,
    )
    return f"---\n{_head(config, options, measured)}---\n\n{text}"


def _make_table(options: Options, name: str, measured: Measured) -> str:
    tested = f"On the split {options.split} of `{name}`, {measured.rows:,} rows; 95 % intervals over pairs."
    if options.control:
        tested += f" This is a control ({CONTROLS[options.control]}), from which nothing can be learned."
    if options.train_outlets:
        outlets = ", ".join(sorted(options.train_outlets))
        tested += f" Trained on {outlets} only, and tested on {_other_outlets(options)}."
    lines = [
        f"| {DEFINITIONS[name]} | {value:.2%} | {low:.2%} to {high:.2%} |"
        for name, (value, low, high) in measured.values.items()
    ]
    table = "\n".join(["| measure | value | 95 % interval |", "|---|---:|---|", *lines])
    return f"{tested}\n\n{table}\n\nSignature: `{measured.signature}`"


def name_card(text: str, repo_id: str) -> str:
    """Return the text of a card with the name of its repository."""
    return text.replace("OWNER/NAME", repo_id)


def _width(config: ClassifierConfig) -> int:
    return sum(config.widths.values()) + (2 * config.widths["clip_image"] if config.options["products"] else 0)


def _other_outlets(options: Options) -> str:
    return "the other outlets" if options.split == "test" else "the same outlets"


def _describe_training(config: ClassifierConfig, options: Options, measured: Measured) -> str:
    trained, (place, revision) = Options(**config.options), _data_on_hub(options)
    data = f"Data: NewsCLIPpings, config `{trained.config}`, "
    data += f"from [{place}](https://huggingface.co/{'' if place == HUB_REPO else 'datasets/'}{place})"
    data += f" at revision `{revision}`" if revision else ""
    data += f", pictures and captions of [VisualNews]({VISUAL_NEWS_URL}), which its authors give out on request."
    recipe = f"Recipe: `{trained.recipe}`" if trained.recipe else "Recipe: that for vectors"
    changes = ", ".join(f"`{name} {value}`" for name, value in config.changes.items())
    parts = [data, f"{recipe}, but {changes}." if changes else f"{recipe}."]
    if trained.mislabel_pristine:
        parts.append(f"Pristine rows were called falsified with probability {trained.mislabel_pristine:g}, on purpose.")
    if trained.text_only or trained.image_only:
        parts.append(f"Ablation: {'captions' if trained.text_only else 'pictures'} only.")
    parts += [f"Seed: {measured.facts['seed']}."] if "seed" in measured.facts else []
    versions = measured.facts.get("versions", {NAME: VERSION})
    parts.append(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.")
    return printable(" ".join(parts))


def _data_on_hub(options: Options) -> tuple[str, str | None]:
    """Return the repository of the matches, and its revision if they were read from there."""
    if options.data != NAME:
        on_hub = HUB_NAME.fullmatch(options.data) and not os.path.exists(options.data)
        return options.data if on_hub else HUB_REPO, None
    pinned = options.data_dir is None and not os.environ.get(ENV_DATA_DIR)
    return HUB_REPO, HUB_REVISION if pinned else None


def _is_official(options: Options) -> bool:
    """Check whether a result is of the whole test split with its own labels."""
    return options.split == "test" and not options.control and not options.train_outlets


def _head(config: ClassifierConfig, options: Options, measured: Mapping[str, Measured]) -> str:
    place, revision = _data_on_hub(options)
    head: dict[str, Any] = {
        "language": ["en"],
        "license": "other",
        "license_name": "as-the-base-model-and-the-data",
        "license_link": VISUAL_NEWS_URL,
        "library_name": "newsclippings",
        "tags": ["newsclippings", "misinformation", "out-of-context", "fact-checking", "image-text"],
        **({"base_model": config.base_model} if config.base_model else {}),
    }
    if place != HUB_REPO:
        head["datasets"] = [place]
    if _is_official(options):
        dataset = {"type": place, "name": "NewsCLIPpings", "split": options.split}
        if revision:
            dataset["revision"] = revision
        results = [
            {
                "task": {"type": "image-text-classification", "name": "Does the picture belong to the caption?"},
                "dataset": dataset | {"config": name},
                "metrics": [
                    {"type": measure, "name": DEFINITIONS[measure], "value": value}
                    for measure, (value, _, _) in each.values.items()
                ],
            }
            for name, each in measured.items()
        ]
        head["model-index"] = [{"name": "newsclippings", "results": results}]
    return str(yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1_000))
