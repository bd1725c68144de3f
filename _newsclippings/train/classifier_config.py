"""What config.json of a run says: how the classifier is made, and nothing about the machine that trained it."""

from collections.abc import Mapping
from typing import Any, Final

from transformers import PreTrainedConfig

MODEL_TYPE: Final = "newsclippings"
# Options that are saved: those that make the model, and those that say on which rows it was trained
SAVED_OPTIONS: Final = (
    "features", "products", "hidden_layers", "hidden", "tokens", "normalize", "text_only", "image_only", "recipe",
    "config", "train_outlets", "outlet_rule", "control", "mislabel_pristine",
)  # fmt: skip


class ClassifierConfig(PreTrainedConfig):
    """The configuration of a `Classifier`.

    Attributes:
        options: the `Options` that are named in `SAVED_OPTIONS`.
        backbone: configuration of the model of features, as plain values; None for vectors.
        widths: for vectors: column -> width, in order.
        base_model: name on the Hub of the model that was fine-tuned; None if it has none.
        changes: flags of the recipe that had another value in the training -> that value.
    """

    model_type = MODEL_TYPE

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        backbone: Mapping[str, Any] | None = None,
        widths: Mapping[str, int] | None = None,
        base_model: str | None = None,
        changes: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.options = {name: value for name, value in dict(options or {}).items() if name in SAVED_OPTIONS}
        self.backbone = None if backbone is None else dict(backbone)
        self.widths = dict(widths or {})
        self.base_model = base_model
        self.changes = dict(changes or {})
        super().__init__(**{"id2label": {0: "pristine", 1: "falsified"}, **kwargs})
