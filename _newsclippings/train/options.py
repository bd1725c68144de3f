"""Train a classifier on NewsCLIPpings and evaluate it. --recipe chooses the defaults; each number is a flag."""

import argparse
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from _newsclippings.config import LINKS, list_configs, parse_columns
from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, OUTLETS
from _newsclippings.generated import is_name
from _newsclippings.text import did_you_mean, printable, short_repr
from _newsclippings.train.recipes import DEFAULT_RECIPE, LORA, OFFICIAL, ON_FEATURES, RECIPES

# Flags of TrainingArguments that have no effect: the recipe sets optimizer and loss, `PairTrainer` validates.
UNSUPPORTED: Final = {
    "optim_args",
    "label_smoothing_factor",
    "eval_delay",
    "eval_on_start",
    "do_eval",
    "do_predict",
    "greater_is_better",
    "remove_unused_columns",
    "label_names",
    "prediction_loss_only",
    "do_train",
    "bf16_full_eval",
    "fp16_full_eval",
    "neftune_noise_alpha",
    "use_liger_kernel",
    "optim_target_modules",
    "gradient_checkpointing_kwargs",
    "activation_checkpointing_kwargs",
    "liger_kernel_config",
    "use_cache",
    "length_column_name",
    "eval_do_concat_batches",
    "eval_use_gather_object",
    "eval_accumulation_steps",
    "include_for_metrics",
    "batch_eval_metrics",
    "hub_strategy",
    "hub_token",
    "hub_always_push",
    "hub_revision",
}
# Flags without an effect with --streaming, and with --features.
NOT_STREAMED: Final = {"data_seed", "train_sampling_strategy", "dataloader_in_order", "dataloader_pin_memory"}
BACKBONE_FLAGS: Final = {
    "recipe", "model", "from_config", "tokens", "normalize", "backbone_learning_rate", "freeze_direct", "check_images",
    "lora", "gradient_checkpointing", "activation_checkpointing",
}  # fmt: skip
INPUT_FLAGS: Final = ("data_dir", "visual_news", "visual_news_index", "links", "links_root")  # as the builder has them
LOCATION_FLAGS: Final = (*INPUT_FLAGS, "embeddings")
# Options allowed with --eval_only: they choose the rows. The run has noted how its model was made.
EVALUATION_FLAGS: Final = {
    "eval_only", "split", "weights", "config", "data", *LOCATION_FLAGS, "missing", "check_images", "train_outlets",
    "outlet_rule", "control", "positive", "streaming",
}  # fmt: skip
# Options for the builder of this package only; a published dataset was already filtered.
BUILDER_FLAGS: Final = {*LOCATION_FLAGS, "missing", "check_images"}

# Flags of TrainingArguments, which notices a wrong number late or never
AT_LEAST_ONE: Final = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
AT_LEAST_ZERO: Final = ("learning_rate", "weight_decay", "max_grad_norm", "adam_epsilon", "num_train_epochs")
# Least values of flags
LEAST: Final = {"hidden": 1, "hidden_layers": 0, "tokens": 3, "shuffle_buffer": 0, "patience": 1, "seeds": 1, "lora": 1}
MOST_HIDDEN_LAYERS: Final = 100
HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
SHARDED_LORA: Final = (
    "--lora with FSDP or DeepSpeed: each process has a part of the matrices only. Leave one of them out."
)
LARGEST_FLAGS: Final = 1_000_000  # characters of a file of flags
# Names for --features of some columns of the authors' vectors
FEATURES: Final = {
    "clip": ["clip_image", "clip_text"],
    "sbert": ["sbert"],
    "places": ["places"],
    "facenet": ["facenet"],
    "all": ["clip_image", "clip_text", "sbert", "places", "facenet"],
}
OUTLET_RULES: Final = {
    "pair": ("source", "image_source"),
    "caption": ("source",),
}  # columns that must be of the outlets
ALL: Final = "all"  # configs
METRICS: Final = ("loss", "accuracy")  # of validation
CONTROLS: Final = {
    "shuffled_labels": "a coin decides which twin is called falsified, also in test",
    "own_pictures": "every picture is looked up by the caption's id, so that twins are the same",
}


@dataclass
class Options:
    """The options that `transformers.TrainingArguments` does not have."""

    recipe: str | None = field(
        default=None,
        metadata={
            "help": "The numbers to start from: released is what the authors' code does, paper what its configuration "
            "intends, strong ours.",
            "choices": list(RECIPES),
        },
    )
    config: str = field(
        default=DEFAULT_CONFIG,
        metadata={
            "help": "Config of the dataset, or several to train on their union, separated by commas, or all. Each is "
            f"tested on its own: {', '.join(CONFIGS)}, or the name of one that was generated into --data-dir."
        },
    )
    data: str = field(
        default="newsclippings",
        metadata={
            "help": "The dataset to load: newsclippings, a folder of `newsclippings build`, or a Hub repository."
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "Folder with visual_news/ and news_clippings/."})
    visual_news: list[str] | None = field(
        default=None,
        metadata={
            "help": "VisualNews: the folder origin, origin.tar, a zip, or the first part of either; several: of each "
            "picture the first that has it.",
            "action": "extend",
        },
    )
    visual_news_index: str | None = field(
        default=None, metadata={"help": "Index of origin.tar, made by `newsclippings index`."}
    )
    links: str = field(
        default="refuse",
        metadata={"help": "Symbolic links that leave the folder of pictures.", "choices": list(LINKS)},
    )
    links_root: str | None = field(
        default=None, metadata={"help": "The folder below which --links follow lets them lead."}
    )
    missing: str = field(
        default="error",
        metadata={
            "help": "What to do with pairs that lack a record or picture: 'drop_pair' leaves them out.",
            "choices": ["error", "drop_pair"],
        },
    )
    check_images: bool = field(
        default=False, metadata={"help": "Decode every picture first; those that do not decode count as missing."}
    )
    model: str = field(
        default="openai/clip-vit-base-patch32",
        metadata={"help": "The CLIP or SigLIP model: a name on the Hub, or a folder."},
    )
    from_config: str | None = field(
        default=None,
        metadata={"help": "Train from scratch: 'tiny', a small CLIP for tests, or a folder with a config.json."},
    )
    freeze_backbone: bool = field(default=False, metadata={"help": "Train the head only."})
    lora: int | None = field(
        default=None,
        metadata={
            "help": "Train the head, and of the backbone adapters of this rank only (LoRA), which are merged into the "
            f"weights at the end; --backbone_learning_rate is then {LORA['backbone_learning_rate']:g} by default. "
            "Needs the extra `lora`."
        },
    )
    text_only: bool = field(
        default=False, metadata={"help": "Ablation: every picture is blank (all zeros), as in the authors' code."}
    )
    image_only: bool = field(
        default=False, metadata={"help": "Ablation: every caption is the same (all tokens 0), as in the authors' code."}
    )
    features: str | None = field(
        default=None,
        metadata={
            "help": "Train on columns of vectors instead of pictures and captions: their names, separated by commas; "
            f"{', '.join(FEATURES)} are the authors'."
        },
    )
    embeddings: list[str] | None = field(
        default=None,
        metadata={
            "help": "With --features: where your own vectors are, as for `newsclippings build`: NAME=FOLDER of "
            "`newsclippings embed`, NAME=pictures:FILE or NAME=captions:FILE.",
            "metavar": "NAME=LOCATION",
            "action": "extend",
        },
    )
    products: bool = field(
        default=OFFICIAL["products"],
        metadata={"help": "Add product and difference of caption and picture (with --features: of the CLIP vectors)."},
    )
    hidden_layers: int = field(default=OFFICIAL["hidden_layers"], metadata={"help": "Hidden layers of the head."})
    hidden: int = field(default=OFFICIAL["hidden"], metadata={"help": "Units of each hidden layer of the head."})
    tokens: int = field(default=OFFICIAL["tokens"], metadata={"help": "Tokens per caption; longer ones are truncated."})
    backbone_learning_rate: float = field(
        default=OFFICIAL["backbone_learning_rate"], metadata={"help": "Learning rate of everything but the head."}
    )
    freeze_direct: bool = field(
        default=OFFICIAL["freeze_direct"],
        metadata={
            "help": "Do not train text projection, text positions and logit scale, which the authors' optimizer misses."
        },
    )
    normalize: bool = field(
        default=OFFICIAL["normalize"],
        metadata={"help": "Standardise pixels by the mean and deviation that the model was trained with."},
    )
    mislabel_pristine: float = field(
        default=OFFICIAL["mislabel_pristine"],
        metadata={
            "help": "Call pristine rows of train falsified with this probability, drawn again in each epoch: a mistake "
            "of the authors' code."
        },
    )
    patience: int | None = field(
        default=None, metadata={"help": "Stop after this many validations in a row without a better one."}
    )
    seeds: int = field(
        default=1,
        metadata={"help": "Train so many times, from --seed on, and report mean, deviation and interval over them."},
    )
    streaming: bool = field(default=False, metadata={"help": "Read rows as they are needed, without building first."})
    shuffle: bool = field(default=True, metadata={"help": "Use a new order of rows in each epoch."})
    shuffle_buffer: int = field(
        default=1_000, metadata={"help": "With --streaming: rows in the shuffle buffer of each worker."}
    )
    train_outlets: list[str] | None = field(
        default=None,
        metadata={
            "help": "Train and validate on pairs of these outlets only, and test on the other outlets.",
            "choices": list(OUTLETS),
        },
    )
    outlet_rule: str = field(
        default="pair",
        metadata={
            "help": "The outlet of a pair: that of its caption, whatever its pictures, or that of its caption and both "
            "pictures, so that pairs that mix outlets are left out.",
            "choices": list(OUTLET_RULES),
        },
    )
    control: str | None = field(
        default=None,
        metadata={
            "help": "Train on data from which nothing can be learned; accuracy should be about 50 %%. First, the same "
            "is trained without the control, in OUTPUT_DIR/positive; it is evidence only if that beats chance.",
            "choices": list(CONTROLS),
        },
    )
    positive: str | None = field(
        default=None,
        metadata={
            "help": "With --control: the folder of a run with the same flags but without the control, instead of "
            "training it."
        },
    )
    eval_only: str | None = field(
        default=None,
        metadata={
            "help": "Evaluate the run or the checkpoint in this folder, or the --weights, without training.",
            "nargs": "?",
            "const": "",
        },
    )
    split: str = field(
        default="test",
        metadata={"help": "With --eval_only: the split to evaluate on.", "choices": ["test", "validation"]},
    )
    weights: str | None = field(
        default=None,
        metadata={
            "help": "With --eval_only: a file of weights that the authors published (a checkpoint of MMF), here or at "
            "a URL. --model then names the tokenizer."
        },
    )

    flags: str | None = field(
        default=None,
        metadata={
            "help": "Read flags from this YAML or JSON file: an object of names without dashes, and values. Flags on "
            "the command line win."
        },
    )

    def configs(self) -> list[str]:
        """Return the names of the configs that --config names."""
        return [*CONFIGS] if self.config == ALL else self.config.split(",")

    def of_config(self, config: str) -> "Options":
        """Return the same options with one config."""
        return replace(self, config=config)

    def columns(self) -> list[str]:
        """Return the columns of vectors that --features names, in order; none without it."""
        names = [] if self.features is None else [name.strip() for name in self.features.split(",")]
        return [column for name in names for column in FEATURES.get(name, [name])]

    def own_vectors(self) -> dict[str, Any]:
        """Return column -> where your own vectors are, as the builder takes them."""
        return parse_columns(self.embeddings or [])

    def check(self, given: set[str]) -> None:
        """Raise `ValueError` if the options contradict each other, or a flag that was given would change nothing."""
        if self.data != Options.data and (unused := sorted(given & BUILDER_FLAGS)):
            raise ValueError(
                f"--{unused[0]} has no effect with --data {self.data}, which is already built. Leave the flag out."
            )
        configs, known_names = self.configs(), list_configs(self.data_dir)
        for name in configs:
            # A built folder has names of its own, and the folder of a generated config is not known when a run is read
            generated = is_name(name) and (self.data != Options.data or "config" not in given)
            if name not in known_names and not generated:
                hint = did_you_mean(name, [*known_names, ALL])
                known = f"{', '.join(known_names)}, several of them separated by commas, or {ALL}"
                raise ValueError(f"--config {printable(self.config)[:200]}: expected {known}.{hint}")
        if len({*configs}) < len(configs):
            raise ValueError(f"--config {self.config}: a config is there twice. Name each once.")
        idle = UNSUPPORTED | (NOT_STREAMED if self.streaming else set()) | (BACKBONE_FLAGS if self.features else set())
        for name in sorted(given & idle):
            raise ValueError(f"--{name} would change nothing here. Leave the flag out.")
        if self.lora is not None and self.freeze_backbone:
            raise ValueError("--lora trains adapters in the backbone. Leave out --freeze_backbone.")
        if self.lora is not None and "freeze_direct" in given:
            raise ValueError("--freeze_direct would change nothing with --lora. Leave the flag out.")
        if self.text_only and self.image_only:
            raise ValueError("--text_only and --image_only leave no features. Use only one of them.")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name}: expected {least} or more, found {value}.")
        if self.hidden_layers > MOST_HIDDEN_LAYERS:
            raise ValueError(f"--hidden_layers: expected {MOST_HIDDEN_LAYERS} or fewer, found {self.hidden_layers}.")
        if not 0 <= self.mislabel_pristine <= 1:
            raise ValueError(f"--mislabel_pristine: expected 0 to 1, found {self.mislabel_pristine}.")
        columns = self.columns()
        if "" in columns:
            raise ValueError(f"--features {self.features!r}: expected names of columns, separated by commas.")
        if len(set(columns)) < len(columns):
            raise ValueError(f"--features {self.features}: a column is there twice. Name each once.")
        if self.products and self.features and not {"clip_image", "clip_text"} <= {*columns}:
            raise ValueError(
                f"--products needs clip_image and clip_text, as --features clip has them, found --features "
                f"{self.features}."
            )
        unused = [name for name in ("text_only", "image_only", "freeze_backbone") if getattr(self, name)]
        if self.features and unused:
            raise ValueError(f"--features trains without a backbone and pictures. Leave out --{unused[0]}.")
        if self.features and self.control == "own_pictures":
            raise ValueError(
                "--control own_pictures needs pictures, which --features does not read. Use shuffled_labels."
            )
        if self.positive is not None and not self.control:
            raise ValueError("--positive would change nothing without --control. Leave the flag out.")
        if "outlet_rule" in given and not self.train_outlets:
            raise ValueError("--outlet_rule would change nothing without --train_outlets. Leave the flag out.")
        if self.train_outlets and set(self.train_outlets) >= set(OUTLETS):
            raise ValueError("--train_outlets has all outlets, so that none is left to test on. Leave some out.")

    def check_vectors(self) -> None:
        """Raise `ValueError` if --embeddings and --features do not fit each other."""
        columns = self.columns()
        try:
            own = self.own_vectors()
        except ConfigError as error:
            raise ValueError(f"--embeddings: {error}") from None
        for name in own:
            if name in EMBEDDINGS or name in FEATURES:
                raise ValueError(
                    f"--embeddings {name}: the authors' vectors need --features {name} only. Leave this out, or give "
                    f"your own vectors another name, such as my_{name}."
                )
            if name not in columns:
                raise ValueError(
                    f"--embeddings {name} would change nothing: --features does not name it. Add it there, or leave "
                    "this out."
                )
        unknown = [name for name in columns if name not in EMBEDDINGS and name not in own]
        if unknown and self.data == Options.data:
            hint = did_you_mean(unknown[0], [*FEATURES, *EMBEDDINGS, *own])
            raise ValueError(
                f"--features {unknown[0]}: expected {', '.join({**FEATURES, **EMBEDDINGS})}, or a name in --embeddings."
                f"{hint} Say where your own vectors are: --embeddings {unknown[0]}=LOCATION."
            )


class UsageError(ValueError):
    """The flags contradict each other, or are not supported."""


class RunTrainingArguments(TrainingArguments):
    """`TrainingArguments` whose checkpoints need not be validated: `PairTrainer` saves those that are better."""

    load_best_model_at_end: bool

    def __post_init__(self) -> None:
        """Check as `TrainingArguments` does, except that --save_steps may be any number."""
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
    actions = HfArgumentParser((Options, RunTrainingArguments))._actions
    names = {name.removeprefix("--").replace("-", "_") for action in actions for name in action.option_strings}
    return {name for name in names if name.removeprefix("no_") not in names - {name}} - {"flags", "help", "h"}


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
        UsageError: flags contradict each other, or are not supported.
        SystemExit: a flag is unknown, or `--help` was given.
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
    parser = HfArgumentParser(
        (Options, RunTrainingArguments),
        prog="newsclippings train",
        usage="newsclippings train [--help] [--recipe RECIPE] [--config CONFIG] [--data_dir FOLDER] [FLAGS]",
        description=__doc__,
        epilog="Example: newsclippings train --data_dir demo/data --from_config tiny --max_steps 30",
        allow_abbrev=False,
    )
    for action in parser._actions:
        if action.option_strings and action.option_strings[0].startswith("--no_"):  # made with the help of its opposite
            action.help = f"Turn --{action.dest} off."
    given = given_flags(arguments)
    recipe = _find_recipe(arguments)
    parser.set_defaults(recipe=recipe, **RECIPES[recipe])
    parser.set_defaults(output_dir="runs/newsclippings", report_to="none", remove_unused_columns=False)
    parser.set_defaults(eval_strategy="steps", load_best_model_at_end=True, save_steps=1_000, save_total_limit=2)
    parser.set_defaults(optim="adamw_torch")  # the recipe's, as torch has it
    if "features" in given:
        parser.set_defaults(**ON_FEATURES)
    if "lora" in given:
        parser.set_defaults(**LORA)
    if "num_train_epochs" in given and "max_steps" not in given:
        parser.set_defaults(max_steps=-1, warmup_steps=0)
    options, training = parser.parse_args_into_dataclasses(arguments)
    options.check(given)
    if options.eval_only is None:
        options.check_vectors()
    _check_evaluation(options, given)
    _check_numbers(training)
    _check_validation(options, training, given)
    _check_push(options, training, given)
    if options.lora is not None and (training.fsdp or training.deepspeed):
        raise ValueError(SHARDED_LORA)
    if (training.activation_checkpointing or training.gradient_checkpointing) and options.freeze_backbone:
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
