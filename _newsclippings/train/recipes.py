"""The recipes of the paper's classifier as one table: what a flag is set to in each, and where the number comes from.

Nobody can say from public material what the paper itself ran. `released` is what the authors' code does when it runs,
`paper` what its configuration seems to intend, and `strong` is ours.
"""

from typing import Any, Final, NamedTuple

DEFAULT_RECIPE: Final = "paper"

# Sources: files of github.com/g-luo/news_clippings_training (master, cd2e0dd), and MMF at the commit that it pins
# (7fa7607d), whose MLPClassifer has no softmax. The branch twitter-comms, with a softmax, was never merged.
EXPERIMENT: Final = "configs/experiments/clip.yaml"
MODEL: Final = "configs/models/clip.yaml"
CODE: Final = "models/clip.py"
MMF: Final = "MMF's default"


class Number(NamedTuple):
    """A flag of `newsclippings train`, its value in each recipe, and the source of the values."""

    flag: str
    released: Any
    paper: Any
    strong: Any
    source: str


TABLE: Final = (
    Number("hidden_layers", 2, 2, 2, f"{MODEL}: mlp_num_layers"),
    Number("hidden", 512, 512, 512, f"{MODEL}: mlp_hidden_dim"),
    Number("products", False, False, True, f"{CODE} concatenates; strong: ours"),
    Number("normalize", False, False, True, f"{MODEL}: no Normalize; strong: as the model was trained"),
    Number("tokens", 77, 77, 77, f"{MODEL}: max_seq_length"),
    Number("learning_rate", 5e-5, 5e-5, 5e-5, f"{EXPERIMENT}: lr"),
    Number("backbone_learning_rate", 5e-7, 5e-7, 5e-7, f"{MODEL}: finetune_lr_multiplier 1e-2"),
    Number("freeze_direct", True, False, False, "models/utils.py: only named_children() are optimized"),
    Number("weight_decay", 0.01, 0.01, 0.01, f"{MMF}, none on names with 'bias'"),
    Number("adam_epsilon", 1e-8, 1e-8, 1e-8, f"{EXPERIMENT}: eps"),
    Number("max_grad_norm", 0.0, 0.0, 0.0, f"{MMF}: clip_gradients off"),
    Number("lr_scheduler_type", "constant", "linear", "linear", f"{EXPERIMENT}: warmup_linear; {MMF} ignores it"),
    Number("warmup_steps", 0, 4_000, 4_000, f"{EXPERIMENT}: num_warmup_steps"),
    Number("max_steps", 22_000, 44_000, 44_000, f"{MMF}: max_updates; {EXPERIMENT}: num_training_steps"),
    Number("per_device_train_batch_size", 16, 16, 64, f"{EXPERIMENT}: batch_size; strong: CCN's finetuning_clip"),
    Number("eval_steps", 1_000, 1_000, 1_000, f"{MMF}: evaluation_interval"),
    Number("metric_for_best_model", "loss", "loss", "accuracy", f"{MMF}: total_loss; strong: CCN's finetuning_clip"),
    Number("mislabel_pristine", 0.5, 0.0, 0.0, "datasets/news_clippings.py: if not target"),
    Number("seed", 2, 2, 2, "configs/news_clippings.yaml: seed"),
)
RECIPES: Final[dict[str, dict[str, Any]]] = {
    name: {number.flag: getattr(number, name) for number in TABLE} for name in ("released", "paper", "strong")
}
OFFICIAL: Final = RECIPES[DEFAULT_RECIPE]

# Values for columns of vectors (--features): without a backbone, larger learning rates are safe.
ON_FEATURES: Final[dict[str, Any]] = {
    "recipe": None,
    "hidden_layers": 1,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "warmup_steps": 0,
    "max_steps": -1,
    "num_train_epochs": 10.0,
    "per_device_train_batch_size": 256,
    "eval_steps": 100,
}

# With --lora: adapters begin at zero, and need larger steps than weights that were trained before.
LORA: Final[dict[str, Any]] = {"backbone_learning_rate": 1e-4}


def find_changes(recipe: str, values: dict[str, Any]) -> dict[str, Any]:
    """Return the flags of a recipe whose values are others."""
    return {name: values[name] for name, value in RECIPES[recipe].items() if values[name] != value}
