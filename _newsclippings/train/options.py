"""The options of `newsclippings train` that `transformers` does not have, and what may be given together."""

import re
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Final

from _newsclippings.config import LINKS, list_configs, parse_columns
from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, OUTLETS
from _newsclippings.generated import is_name
from _newsclippings.text import did_you_mean, printable
from _newsclippings.train.recipes import LORA, OFFICIAL, RECIPES, TABLE

# Defaults of flags of TrainingArguments, beside those of the recipe
DEFAULTS: Final[dict[str, Any]] = {
    "output_dir": "runs/newsclippings",
    "report_to": "none",
    "eval_strategy": "steps",
    "load_best_model_at_end": True,
    "save_steps": 1_000,
    "save_total_limit": 2,
    "optim": "adamw_torch",  # the recipe's, as torch has it
}
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
# Options for the builder of this package only; a published dataset was already filtered.
BUILDER_FLAGS: Final = {*LOCATION_FLAGS, "missing", "check_images"}

# Least values of flags
LEAST: Final = {"hidden": 1, "hidden_layers": 0, "tokens": 3, "shuffle_buffer": 0, "patience": 1, "seeds": 1, "lora": 1}
MOST_HIDDEN_LAYERS: Final = 100
HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
SHARDED_LORA: Final = (
    "--lora with FSDP or DeepSpeed: each process has a part of the matrices only. Leave one of them out."
)
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
            "help": "The numbers to start from: released is what the authors' code does, paper (the default) what its "
            "configuration intends, strong ours.",
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


# Help


def describe_options() -> list[tuple[str, str]]:
    """Describe the options for `--help`: each with the form of its values, and what it does."""
    found = []
    for option in fields(Options):
        default = _describe_numbers(option.name) or str(option.default)
        name = f"--{option.name} {_describe_values(option)}".rstrip()
        if option.default is True:
            name, default = f"--{option.name} / --no_{option.name}", option.name
        shown = "" if default in ("None", "False") else f"  [default: {default}]"
        found.append((name, str(option.metadata["help"]).replace("%%", "%") + shown))
    return found


def describe_defaults() -> list[tuple[str, str]]:
    """Describe the flags of the trainer that have another default here, for `--help`."""
    others = [number.flag for number in TABLE if number.flag not in Options.__dataclass_fields__]
    given = [(f"--{name}", str(value)) for name, value in DEFAULTS.items()]
    return given + [(f"--{name}", _describe_numbers(name)) for name in others]


def _describe_values(option: Field[Any]) -> str:
    kinds, known = str(option.type), option.metadata
    if option.type is bool:
        return ""
    values = "INTEGER" if "int" in kinds else "FLOAT" if "float" in kinds else "TEXT"
    values = f"[{'|'.join(known['choices'])}]" if "choices" in known else known.get("metavar", values)
    values = f"[{values}]" if known.get("nargs") == "?" else values
    return f"{values}..." if "list" in kinds else values


def _describe_numbers(flag: str) -> str:
    """Write the values of a flag in the recipes: one value, or each with its recipes; "" if it is in none."""
    recipes: dict[str, list[str]] = {}
    for recipe, numbers in RECIPES.items():
        if flag in numbers:
            recipes.setdefault(str(numbers[flag]), []).append(recipe)
    if len(recipes) < 2:
        return "".join(recipes)
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in recipes.items())
