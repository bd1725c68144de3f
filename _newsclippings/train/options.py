"""What a run is made of: the official recipe as defaults, each of them a flag."""

from dataclasses import dataclass, field
from typing import Any, Final

from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, OUTLETS

# The authors' recipe for CLIP (github.com/g-luo/news_clippings, news_clippings_training: configs and README), where
# `transformers` has another default. `backbone_learning_rate`, `hidden` and `tokens` are fields of Options.
OFFICIAL: Final[dict[str, Any]] = {
    "learning_rate": 5e-5,  # of the head
    "backbone_learning_rate": 5e-7,  # of CLIP
    "adam_epsilon": 1e-8,
    "lr_scheduler_type": "linear",
    "warmup_steps": 4_000,
    "max_steps": 44_000,
    "per_device_train_batch_size": 16,
    "hidden": 512,  # units of the head's only hidden layer
    "tokens": 77,  # of a caption; the rest is cut off
    "seed": 2,
}

# With the vectors that the authors ship there is no backbone to be careful with.
ON_FEATURES: Final[dict[str, Any]] = {
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "warmup_steps": 0,
    "max_steps": -1,
    "num_train_epochs": 10.0,
    "per_device_train_batch_size": 256,
}

# Of TrainingArguments: the optimizer and the loss are the recipe's, and only test is evaluated, at the end.
NOT_HERE: Final = {
    "optim",
    "optim_args",
    "gradient_checkpointing",
    "label_smoothing_factor",
    "eval_strategy",
    "eval_steps",
    "eval_delay",
    "eval_on_start",
    "do_eval",
    "do_predict",
    "load_best_model_at_end",
    "metric_for_best_model",
    "greater_is_better",
    "remove_unused_columns",
    "label_names",
    "prediction_loss_only",
    "do_train",
    "bf16_full_eval",
    "fp16_full_eval",
    "neftune_noise_alpha",
    "use_liger_kernel",
    "activation_checkpointing",
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
}
# What means nothing with --streaming, and with --features.
ON_A_STREAM: Final = {"data_seed", "train_sampling_strategy", "dataloader_in_order", "dataloader_pin_memory"}
OF_A_BACKBONE: Final = {"model", "from_config", "tokens", "backbone_learning_rate", "check_images"}
# Of Options, what may stand beside --eval_only: what is evaluated. How the model is made, its run knows.
EVALUATED: Final = {
    "eval_only", "config", "data", "data_dir", "visual_news", "visual_news_index", "missing", "check_images",
    "train_outlets", "control", "streaming",
}  # fmt: skip
# Of Options, what the builder of this package is told; rows that come from elsewhere have their fate behind them.
OF_THE_BUILDER: Final = {"data_dir", "visual_news", "visual_news_index", "missing", "check_images"}

FEATURES: Final = {
    "clip": ["clip_image", "clip_text"],
    "sbert": ["sbert"],
    "places": ["places"],
    "facenet": ["facenet"],
    "all": ["clip_image", "clip_text", "sbert", "places", "facenet"],
}
CONTROLS: Final = {
    "shuffled_labels": "a coin decides which twin is called falsified, in test, too",
    "own_pictures": "every picture is looked up by the caption's id, so that twins are the same",
}


@dataclass
class Options:
    """What `transformers.TrainingArguments` does not know of."""

    config: str = field(default=DEFAULT_CONFIG, metadata={"help": "Config of the dataset.", "choices": list(CONFIGS)})
    data: str = field(
        default="newsclippings",
        metadata={
            "help": "What load_dataset loads: this package's name, a folder of `newsclippings build`, a Hub repository."
        },
    )
    data_dir: str | None = field(default=None, metadata={"help": "As NewsCLIPpingsConfig.data_dir."})
    visual_news: str | None = field(default=None, metadata={"help": "As NewsCLIPpingsConfig.visual_news."})
    visual_news_index: str | None = field(default=None, metadata={"help": "As NewsCLIPpingsConfig.visual_news_index."})
    missing: str = field(
        default="error",
        metadata={
            "help": "Pairs that lack a record or picture: 'drop_pair' leaves them out.",
            "choices": ["error", "drop_pair"],
        },
    )
    check_images: bool = field(
        default=False, metadata={"help": "As NewsCLIPpingsConfig.check_images: what does not decode is missing."}
    )
    model: str = field(
        default="openai/clip-vit-base-patch32", metadata={"help": "CLIP or SigLIP: a name on the Hub, or a folder."}
    )
    from_config: str | None = field(
        default=None, metadata={"help": "'tiny': a small CLIP from scratch, for tests; or a folder with a config.json."}
    )
    freeze_backbone: bool = field(default=False, metadata={"help": "Train the head only."})
    text_only: bool = field(default=False, metadata={"help": "Ablation: the picture's features are zero."})
    image_only: bool = field(default=False, metadata={"help": "Ablation: the caption's features are zero."})
    features: str | None = field(
        default=None,
        metadata={"help": "Train on the authors' vectors instead of pictures and captions.", "choices": list(FEATURES)},
    )
    products: bool = field(
        default=False, metadata={"help": "With --features: also product and difference of the CLIP vectors."}
    )
    hidden: int = field(default=OFFICIAL["hidden"], metadata={"help": "Units of the hidden layer of the head."})
    tokens: int = field(default=OFFICIAL["tokens"], metadata={"help": "Tokens of a caption."})
    backbone_learning_rate: float = field(
        default=OFFICIAL["backbone_learning_rate"], metadata={"help": "Of everything but the head."}
    )
    streaming: bool = field(default=False, metadata={"help": "Read rows as they are needed; nothing is built."})
    shuffle: bool = field(default=True, metadata={"help": "Rows in another order in each epoch."})
    shuffle_buffer: int = field(
        default=1_000, metadata={"help": "With --streaming: rows that are drawn from, in each worker."}
    )
    train_outlets: list[str] | None = field(
        default=None,
        metadata={
            "help": "Train on pairs with captions and pictures of these outlets only, test on those of the others.",
            "choices": list(OUTLETS),
        },
    )
    control: str | None = field(
        default=None,
        metadata={
            "help": "Train on data of which nothing can be learned: has to end at one half.",
            "choices": list(CONTROLS),
        },
    )
    eval_only: str | None = field(
        default=None, metadata={"help": "Folder of a run, or of one of its checkpoints: evaluate it, train nothing."}
    )

    def check(self, given: set[str]) -> None:
        """Raise `ValueError` if the options contradict each other, or a flag that was given would change nothing."""
        if self.data != Options.data and (odd := sorted(given & OF_THE_BUILDER)):
            raise ValueError(f"--{odd[0]} with --data {self.data}, which is built and read as it is. Leave it out.")
        dead = NOT_HERE | (ON_A_STREAM if self.streaming else set()) | (OF_A_BACKBONE if self.features else set())
        for name in sorted(given & dead):
            raise ValueError(
                f"--{name}: expected flags that mean something here; this one would change nothing. Leave it out."
            )
        if self.text_only and self.image_only:
            raise ValueError("--text_only and --image_only: expected one of them, since nothing would be left.")
        for name, least in {"hidden": 1, "tokens": 3, "shuffle_buffer": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(f"--{name}: expected {least} or more, found {getattr(self, name)}.")
        if self.products and (self.features is None or "clip_image" not in FEATURES[self.features]):
            raise ValueError(f"--products: expected --features clip or all, found --features {self.features}.")
        if self.features and (
            self.text_only or self.image_only or self.freeze_backbone or self.control == "own_pictures"
        ):
            raise ValueError("--features: its vectors have no backbone and no pictures; leave out the flags for those.")
        if self.train_outlets and self.streaming:
            raise ValueError("--train_outlets --streaming: how many rows would there be? Leave out --streaming.")
        if self.train_outlets and set(self.train_outlets) >= set(OUTLETS):
            raise ValueError("--train_outlets: expected some of the outlets, found all: none is left to test on.")


class UsageError(ValueError):
    """The command line asks for what is not done here, or contradicts itself."""


def given_flags(arguments: list[str]) -> set[str]:
    """Names of the flags of a command line; `--no_shuffle` is `shuffle`."""
    flags = (one.partition("=")[0].removeprefix("--") for one in arguments if one.startswith("--"))
    return {flag.replace("-", "_").removeprefix("no_") for flag in flags}


def parse(arguments: list[str]) -> tuple[Options, TrainingArguments]:
    """Read the command line.

    Raises:
        UsageError: options contradict each other, or what they ask for is not done here.
        SystemExit: an option is unknown, or `--help` was asked for.
    """
    try:
        return _parse(arguments)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _parse(arguments: list[str]) -> tuple[Options, TrainingArguments]:
    parser = HfArgumentParser(
        (Options, TrainingArguments),
        prog="newsclippings train",
        description=__doc__,
        epilog="Example: newsclippings train --data_dir demo/data --from_config tiny --max_steps 30",
        allow_abbrev=False,
    )
    own = Options.__dataclass_fields__
    parser.set_defaults(**{name: value for name, value in OFFICIAL.items() if name not in own})
    parser.set_defaults(output_dir="runs/newsclippings", report_to="none", remove_unused_columns=False)
    if any(argument.startswith("--features") for argument in arguments):
        parser.set_defaults(**ON_FEATURES)
    given = given_flags(arguments)
    if "num_train_epochs" in given and "max_steps" not in given:
        parser.set_defaults(max_steps=-1, warmup_steps=0)
    options, training = parser.parse_args_into_dataclasses(arguments)
    options.check(given)
    if options.eval_only and (odd := sorted(given & own.keys() - EVALUATED)):
        raise ValueError(f"--{odd[0]} with --eval_only: a run knows how its model was made. Leave the flag out.")
    if options.streaming and training.dataloader_persistent_workers:
        raise ValueError("--dataloader_persistent_workers --streaming: such workers would not hear of a new epoch.")
    for name in sorted(set(training.report_to or ()) - set(get_available_reporting_integrations())):
        raise ValueError(f"--report_to {name}: the package {name} is not installed: pip install {name}.")
    last = training.resume_from_checkpoint
    training.resume_from_checkpoint = {"true": True, "false": None}.get(str(last).lower(), last)  # True: the last one
    return options, training
