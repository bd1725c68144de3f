"""Parse the command line of `newsclippings train`: its own options, and the flags of `transformers`."""

import argparse
import json
from typing import Any, Final, NoReturn

from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from _newsclippings.storage import shows_progress
from _newsclippings.text import did_you_mean, printable, short_repr
from _newsclippings.train.options import DEFAULTS, HUB_NAME, LOCATION_FLAGS, SHARDED_LORA, Options, UsageError
from _newsclippings.train.recipes import DEFAULT_RECIPE, LORA, ON_FEATURES, RECIPES

# Options allowed with --eval_only: they choose the rows. The run has noted how its model was made.
EVALUATION_FLAGS: Final = {
    "eval_only", "split", "weights", "config", "data", *LOCATION_FLAGS, "missing", "check_images", "train_outlets",
    "outlet_rule", "control", "positive", "streaming",
}  # fmt: skip
# Flags of TrainingArguments, which notices a wrong number late or never
AT_LEAST_ONE: Final = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
MORE_THAN_ZERO: Final = ("eval_steps", "save_steps", "logging_steps")  # of 0, it takes another number or saves nothing
AT_LEAST_ZERO: Final = ("learning_rate", "weight_decay", "max_grad_norm", "adam_epsilon", "num_train_epochs")
LARGEST_FLAGS: Final = 1_000_000  # characters of a file of flags
METRICS: Final = ("loss", "accuracy")  # of validation


class Parser(HfArgumentParser):
    """A parser of the options and the flags, whose errors are raised. The command has the help."""

    def __init__(self) -> None:
        super().__init__((Options, RunTrainingArguments), add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`, where argparse would print all flags and exit."""
        raise UsageError(f"{message[:1].upper()}{message[1:].rstrip('.')}. See newsclippings train --help.")


class RunTrainingArguments(TrainingArguments):
    """`TrainingArguments` whose checkpoints need not be validated: `PairTrainer` saves those that are better."""

    load_best_model_at_end: bool

    def __post_init__(self) -> None:
        """Check as `TrainingArguments` does, except that --save_steps may be any number above 0.

        `--gradient_checkpointing` is `activation_checkpointing` of newer versions, which warn of the old name.
        """
        for name in MORE_THAN_ZERO:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(
                    f"--{name}: expected a number of updates, 1 or more, or a part of all of them, such as 0.1; found "
                    f"{value:g}."
                )
        new, old = "activation_checkpointing", "gradient_checkpointing"
        if getattr(self, new, False) is None:
            setattr(self, new, getattr(self, old))
            setattr(self, old, None)
        keep, self.load_best_model_at_end = self.load_best_model_at_end, False
        super().__post_init__()
        self.load_best_model_at_end = keep and self.eval_strategy != IntervalStrategy.NO


def given_flags(arguments: list[str]) -> set[str]:
    """Return the names of the flags on a command line; `--no_shuffle` is `shuffle`."""
    flags = (argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--"))
    return {flag.replace("-", "_").removeprefix("no_") for flag in flags}


def read_flags(arguments: list[str]) -> list[str]:
    """Put the flags of the file that --flags names before those of the command line, which win.

    Raises:
        UsageError: the file is not there, has other content, or a flag that is unknown.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--flags")
    try:
        place, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return arguments  # the other parser says what is wrong
    if place.flags is None:
        return arguments
    given, known = given_flags(rest), _known_flags()
    found: list[str] = []
    for name, value in _read_object(place.flags).items():
        if name not in known:
            hint = did_you_mean(str(name), known)
            raise UsageError(f"{place.flags}: {short_repr(name)} is no flag of newsclippings train.{hint} Correct it.")
        if name in given:
            continue
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | int | float | bool) for one in values):
            expected = "a text, a number, true or false, or a list of them"
            raise UsageError(f"{place.flags}: {name}: expected {expected}, found {short_repr(value)}. Leave it out.")
        found += [f"--{name}", *(str(one).lower() if isinstance(one, bool) else str(one) for one in values)]
    return [*found, *rest]


def _known_flags() -> set[str]:
    actions = Parser()._actions
    names = {name.removeprefix("--").replace("-", "_") for action in actions for name in action.option_strings}
    return {name for name in names if name.removeprefix("no_") not in names - {name}} - {"flags"}


def _read_object(place: str) -> dict[str, Any]:
    """Read a YAML or JSON file of one object."""
    import yaml

    try:
        with open(place, encoding="utf-8") as file:
            text = file.read(LARGEST_FLAGS + 1)
        content = json.loads(text) if place.endswith(".json") else yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"--flags {place}: {error.strerror}. Pass a YAML or JSON file.") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())[:200].rstrip(".")
        raise UsageError(f"--flags {place}: expected YAML or JSON, found {why}. Correct it.") from error
    if not isinstance(content, dict) or len(text) > LARGEST_FLAGS:
        raise UsageError(f"--flags {place}: expected an object of flags and values, as learning_rate: 5e-5.")
    return content


def parse(arguments: list[str]) -> tuple[Options, TrainingArguments]:
    """Parse the command line.

    Raises:
        UsageError: flags are unknown, contradict each other, or are not supported.
    """
    try:
        return _parse(arguments)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _find_recipe(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe", nargs="?")
    recipe = parser.parse_known_args(arguments)[0].recipe
    return recipe if recipe in RECIPES else DEFAULT_RECIPE  # the other parser refuses unknown ones


def _check_evaluation(options: Options, given: set[str]) -> None:
    """Raise `ValueError` for flags that have no effect with or without --eval_only."""
    if options.eval_only is None:
        for name in ("split", "weights"):
            if name in given:
                raise ValueError(f"--{name} has no effect without --eval_only. Leave the flag out.")
        return
    if bool(options.eval_only) == bool(options.weights):
        raise ValueError(
            "--eval_only needs the folder of a run, or else --weights with a file: one of the two. Pass one."
        )
    allowed = EVALUATION_FLAGS | ({"model"} if options.weights else set())
    if unused := sorted(given & Options.__dataclass_fields__.keys() - allowed):
        raise ValueError(f"--{unused[0]} has no effect with --eval_only: the run has its own. Leave the flag out.")


def _check_validation(options: Options, training: TrainingArguments, given: set[str]) -> None:
    """Raise `ValueError` for flags of validation and of seeds that contradict each other."""
    if training.eval_strategy == IntervalStrategy.NO:
        about = {"eval_steps", "patience", "metric_for_best_model", "load_best_model_at_end"}
        if unused := sorted(given & about):
            raise ValueError(f"--{unused[0]} would change nothing with --eval_strategy no. Leave one of the two out.")
    elif training.metric_for_best_model not in METRICS:
        raise ValueError(
            f"--metric_for_best_model: expected {' or '.join(METRICS)}, found {training.metric_for_best_model}."
        )
    if training.load_best_model_at_end and training.save_strategy == SaveStrategy.NO:
        raise ValueError(
            "--save_strategy no keeps no checkpoint, so that the best cannot be tested. Leave it out, or pass "
            "--load_best_model_at_end false."
        )
    if options.patience is not None and not training.load_best_model_at_end:
        raise ValueError("--patience needs the best checkpoint. Leave out --load_best_model_at_end false.")
    if options.mislabel_pristine and training.dataloader_persistent_workers:
        raise ValueError("--dataloader_persistent_workers draws no new labels for --mislabel_pristine. Leave one out.")
    if options.seeds > 1 and training.push_to_hub:
        raise ValueError("--seeds with --push_to_hub: the runs would replace each other. Push one of them later.")
    if options.control and options.eval_only is None and not options.positive and training.world_size > 1:
        raise ValueError(
            "--control trains the same without the control first, in one process. With several, train that on its own, "
            "and pass its folder: --positive FOLDER."
        )
    if options.control and training.push_to_hub:
        raise ValueError("--control with --push_to_hub: a control is no model to use. Leave one of the two out.")
    if options.seeds > 1 and options.positive:
        raise ValueError("--seeds with --positive: each seed needs a run of its own. Leave one of the two out.")
    if options.seeds > 1 and training.world_size > 1:
        raise ValueError(
            "--seeds trains one run after the other in one process. With several, pass --seed and --output_dir to each."
        )


def _check_numbers(training: TrainingArguments) -> None:
    """Raise `ValueError` for numbers with which nothing is trained."""
    for name in AT_LEAST_ONE:
        if getattr(training, name) < 1:
            raise ValueError(f"--{name}: expected 1 or more, found {getattr(training, name)}.")
    for name in AT_LEAST_ZERO:
        if not 0 <= getattr(training, name) < float("inf"):
            raise ValueError(f"--{name}: expected a number of 0 or more, found {getattr(training, name)}.")
    if training.max_steps < -1 or training.max_steps == 0:
        raise ValueError(
            f"--max_steps: expected 1 or more, or -1 for as many as --num_train_epochs has, found {training.max_steps}."
        )
    if training.dataloader_num_workers < 0:
        raise ValueError(f"--dataloader_num_workers: expected 0 or more, found {training.dataloader_num_workers}.")


def _check_push(options: Options, training: TrainingArguments, given: set[str]) -> None:
    """Raise `ValueError` if a run cannot be pushed as the flags say."""
    if not training.push_to_hub:
        if unused := sorted(given & {"hub_model_id", "hub_private_repo"}):
            raise ValueError(f"--{unused[0]} has no effect without --push_to_hub. Leave the flag out.")
        return
    if not HUB_NAME.fullmatch(training.hub_model_id or ""):
        found = training.hub_model_id or "none"
        raise ValueError(f"--push_to_hub needs --hub_model_id OWNER/NAME, found {found}. Pass it.")
    if options.eval_only is not None and ("output_dir" in given or options.weights):
        raise ValueError(
            "--push_to_hub with --eval_only pushes the run that is evaluated, with its report. Leave out --output_dir "
            "and --weights."
        )


def _parse(arguments: list[str]) -> tuple[Options, TrainingArguments]:
    parser = Parser()
    given = given_flags(arguments)
    recipe = _find_recipe(arguments)
    parser.set_defaults(recipe=recipe, **RECIPES[recipe])
    parser.set_defaults(**DEFAULTS, remove_unused_columns=False, disable_tqdm=not shows_progress())
    if "features" in given:
        parser.set_defaults(**ON_FEATURES)
    if "lora" in given:
        parser.set_defaults(**LORA)
    if "num_train_epochs" in given and "max_steps" not in given:
        parser.set_defaults(max_steps=-1, warmup_steps=0)
    options, training, unknown = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if unknown:
        hint = did_you_mean(unknown[0].partition("=")[0].lstrip("-").replace("-", "_"), _known_flags())
        raise ValueError(f"{printable(unknown[0])[:200]} is no flag.{hint} See newsclippings train --help.")
    options.check(given)
    if options.eval_only is None:
        options.check_vectors()
    _check_evaluation(options, given)
    _check_numbers(training)
    _check_validation(options, training, given)
    _check_push(options, training, given)
    if options.lora is not None and (training.fsdp or training.deepspeed):
        raise ValueError(SHARDED_LORA)
    if training.gradient_checkpointing and options.freeze_backbone:
        raise ValueError("--gradient_checkpointing would change nothing with --freeze_backbone. Leave it out.")
    if options.streaming and training.dataloader_persistent_workers:
        raise ValueError(
            "--dataloader_persistent_workers does not work with --streaming: such workers do not notice a new epoch. "
            "Leave out one of the two."
        )
    for name in sorted(set(training.report_to or ()) - set(get_available_reporting_integrations())):
        raise ValueError(f"--report_to {name}: the package {name} is not installed: pip install {name}.")
    last = training.resume_from_checkpoint
    training.resume_from_checkpoint = {"true": True, "false": None}.get(str(last).lower(), last)  # True: the last one
    return options, training
