"""What measures.json says of a run beside its measures. No place on anybody's machine is in it."""

import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from enum import Enum
from pathlib import Path
from typing import Any, Final

import datasets
import torch
import transformers
from transformers import TrainingArguments

from _newsclippings.config import parse_vectors
from _newsclippings.errors import ConfigError
from _newsclippings.facts import EMBEDDINGS, NAME, SPLITS, VERSION
from _newsclippings.folder import MANIFEST, BuiltFolder
from _newsclippings.storage import find_place, is_url
from _newsclippings.text import printable, without_secrets
from _newsclippings.train.data import Counts
from _newsclippings.train.evaluate import find_truth
from _newsclippings.train.options import Options
from _newsclippings.train.recipes import TABLE
from _newsclippings.train.untrusted import PLACES, read_json
from _newsclippings.vectors import find_vectors

MEASURES: Final = "measures.json"
PLAIN: Final = re.compile(r"[\w ./:;@+,=()%-]{0,300}")  # texts that are kept of measures that may come from anyone
MOST_FACTS: Final = 1_000
FORMS: Final[dict[str, type]] = {
    "model": str, "configs": list, "versions": dict, "data": dict, "encoders": dict, "dropped_rows": dict,
    "flags": dict,
}  # fmt: skip
RULED: Final = ("accuracy", "auc", "pair_accuracy")  # measures that are 50 % by chance
ACCURACIES: Final = ("accuracy", "accuracy_pristine", "accuracy_falsified")
# Flags of TrainingArguments that are noted beside numbers: their texts are names, and no places or tokens
WORDS: Final = ("lr_scheduler_type", "optim", "eval_strategy", "save_strategy", "metric_for_best_model")
# Numbers and switches without an influence on the result, and those that say where a process runs
UNNOTED: Final = {
    "local_rank", "disable_tqdm", "push_to_hub", "eval_steps_per_second", "logging_steps", "ddp_timeout",
    "ddp_find_unused_parameters",
}  # fmt: skip


def describe_versions() -> dict[str, str]:
    """Return the versions of what trains, evaluates and reads the rows."""
    return {
        NAME: VERSION,
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "datasets": datasets.__version__,
    }


def describe_run(options: Options, training: TrainingArguments, counts: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a run that was trained.

    Args:
        options: of the run.
        training: its other flags.
        counts: split -> config -> `Counts` of its rows.
    """
    counts = {split: counts[split] for split in SPLITS if split in counts}
    return {
        "model": name_model(asdict(options)),
        "recipe": options.recipe,
        "seed": training.seed,
        "configs": options.configs(),
        "versions": describe_versions(),
        "data": {"of": name_data(options.data), "matches": digest_matches(options, [*counts])},
        "encoders": describe_encoders(options),
        "dropped_rows": {split: count_dropped(one) for split, one in counts.items()},
        "flags": list_flags(options, training),
    }


def name_model(noted: Mapping[str, Any]) -> str:
    """Return a name of a model without its place: of a local folder or file only the last part.

    Args:
        noted: options of a run, which may come from anyone.
    """
    if noted.get("features"):
        return printable(str(noted["features"]))[:200]
    place = without_secrets(printable(str(noted.get("weights") or noted.get("from_config") or noted.get("model"))))[
        :200
    ]
    is_name = re.fullmatch(r"[\w.-]+/[\w.-]+", place) and not Path(place).exists()  # on the Hub
    return place if is_name or is_url(place) else Path(place).name


def name_data(data: str) -> str:
    """Return a name of a dataset without its place."""
    return "a local folder" if Path(data).exists() else without_secrets(printable(data))[:200]


def digest_matches(options: Options, splits: list[str]) -> dict[str, dict[str, str]]:
    """Return config -> split -> the digest of its matches, as in signatures; nothing for other datasets."""
    found: dict[str, dict[str, str]] = {}
    for config in options.configs():
        for split in splits:
            truth = find_truth(options.of_config(config), split, groups=False)
            if truth is not None:
                found.setdefault(config, {})[split] = truth.digest
    return found


def describe_encoders(options: Options) -> dict[str, str]:
    """Return column of vectors -> what made them: the model that a plan names, or what is known instead."""
    own = options.own_vectors()
    built: Mapping[str, Any] = {}
    if Path(options.data, options.configs()[0], MANIFEST).is_file():
        built = BuiltFolder.open(find_place(options.data)).manifests[options.configs()[0]].vectors
    found = {}
    for name in options.columns():
        if name in own:
            found[name] = find_vectors(name, parse_vectors(name, own[name])).facts.meaning
        elif name in built:
            found[name] = built[name].meaning
        elif name in EMBEDDINGS:
            found[name] = EMBEDDINGS[name].meaning
        else:
            found[name] = "unknown"
    return found


def count_dropped(counts: Mapping[str, Counts]) -> dict[str, dict[str, Any]]:
    """Return config -> how many rows are used, and how many were dropped and why; None if only reading shows it."""
    found: dict[str, dict[str, Any]] = {}
    for config, one in counts.items():
        incomplete = None if one.whole is None else one.of_outlets - one.whole
        found[config] = {"used": one.whole, "incomplete": incomplete, "other_outlets": one.total - one.of_outlets}
    return found


def list_flags(options: Options, training: TrainingArguments | None) -> dict[str, Any]:
    """Return the flags of a run: numbers, switches and names, and no places.

    Args:
        options: of the run.
        training: its other flags; those of the recipes, and numbers and switches that are not the default.
    """
    flags = {name: value for name, value in asdict(options).items() if name not in PLACES}
    if training is None:
        return flags
    wanted = {number.flag for number in TABLE} | {*WORDS}
    for field in fields(training):
        value, default = getattr(training, field.name), field.default
        value = value.value if isinstance(value, Enum) else value
        changed = default is not MISSING and value != default and isinstance(value, bool | int | float)
        if field.name in wanted or (changed and field.init and field.name not in UNNOTED):
            flags.setdefault(field.name, value)
    return flags


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the measures of a run, which may come from anyone, and what they say of it.

    Returns:
        The content of measures.json, and of it the facts of the run: numbers and plain texts only. Both are empty if
        there is none of this form.
    """
    if not (folder / MEASURES).is_file():
        return {}, {}
    content = read_json(folder, MEASURES)
    facts = content.get("run")
    leaves: list[Any] = [facts]
    for value in leaves:  # the list grows during the loop
        leaves += [*value.values(), *value] if isinstance(value, dict) else value if isinstance(value, list) else []
        if len(leaves) > MOST_FACTS:
            return {}, {}
    texts = [value for value in leaves if isinstance(value, str)]
    if not isinstance(facts, dict) or not all(PLAIN.fullmatch(text) for text in texts):
        return {}, {}
    sound = all(isinstance(facts.get(name, kind()), kind) for name, kind in FORMS.items())
    return (content, facts) if sound else ({}, {})


# Controls


def read_positive(folder: Path, configs: list[str], split: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Read the measures of the run without the control.

    Args:
        folder: of the run.
        configs: names of the configs that are tested.
        split: name of the split that is tested.
        flags: of the run with the control.

    Returns:
        Config -> measures, as in measures.json.

    Raises:
        ConfigError: there are none, or they are those of other flags or rows.
    """
    found = {}
    for config in configs:
        place = folder / config if len(configs) > 1 else folder
        content, facts = read_run(place)
        shown, do = printable(str(place)), "Leave --positive out to train the run without the control."
        if not content:
            message = f"{shown} has no {MEASURES} that says how its run was trained. {do}"
            raise ConfigError(message)
        signature, own = str(content.get("signature")), facts.get("flags")
        own = own if isinstance(own, dict) else {}
        differs = [name for name in sorted(own.keys() | flags.keys()) if own.get(name) != flags.get(name)]
        if f"|config:{config}|split:{split}|" not in signature:
            message = f"{shown} was not tested on {config}, {split}. {do}"
            raise ConfigError(message)
        if set(differs) != {"control"} or own.get("control"):
            names = ", ".join(f"--{name}" for name in differs if name != "control") or "--control"
            message = f"{shown} was not trained with the same flags: {printable(names)[:200]}. {do}"
            raise ConfigError(message)
        measures = content.get("measures")
        if not isinstance(measures, dict) or not all(_is_result(measures, name) for name in (*RULED, *ACCURACIES)):
            message = f"{shown}: the measures in {MEASURES} are damaged. {do}"
            raise ConfigError(message)
        found[config] = measures
    return found


def _is_result(measures: Mapping[str, Any], name: str) -> bool:
    value = measures.get(name)
    keys = ("value", "low", "high")
    return (value is None and name not in ACCURACIES) or (
        isinstance(value, dict) and all(isinstance(value.get(key), int | float) for key in keys)
    )


def judge_control(control: Mapping[str, Any], positive: Mapping[str, Any] | None) -> tuple[str, str]:
    """Judge a control by its measures and those of the same training without it.

    Returns:
        The verdict: `"as it has to be"`, `"no evidence"` or `"not chance"`; and a sentence for people.
    """
    accuracy = control["accuracy"]["value"]
    found = f"expected about 50 %, found {accuracy:.1%}"
    if not all(_is_at_chance(control[name]) for name in RULED if control.get(name)):
        return "not chance", f"{found}: NOT CHANCE: something leaks, do not trust the other numbers."
    if positive is None:
        return "no evidence", f"{found}, but no evidence: there is no run without the control to compare (--positive)."
    beats = [name for name in RULED if positive.get(name) and _beats_chance(positive[name])]
    if beats:
        best = positive[beats[0]]["value"]
        return "as it has to be", f"{found}; without it, {beats[0]} is {best:.1%}: as it has to be."
    pristine, falsified = (positive[f"accuracy_{label}"]["value"] for label in ("pristine", "falsified"))
    if {pristine, falsified} == {0.0, 1.0}:
        why = f"this model calls everything {'pristine' if pristine else 'falsified'}, also without the control"
    else:
        why = f"this model is at chance without the control, too (accuracy {positive['accuracy']['value']:.1%})"
    return "no evidence", f"{found}, but no evidence: {why}."


def _is_at_chance(result: Mapping[str, float]) -> bool:
    """Check whether a result is within 3 points of 50 %, or 1.6 times its 95 % interval, which 1 in 600 exceeds."""
    width = 1.6 * (result["high"] - result["low"]) / 2
    return abs(result["value"] - 0.5) <= max(0.03, width)


def _beats_chance(result: Mapping[str, float]) -> bool:
    return result["value"] > 0.5 and not _is_at_chance(result)
