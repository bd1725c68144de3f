"""The classifier: features of caption and picture, normalised and put side by side, and a small head."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer

from _newsclippings.files import write_text
from _newsclippings.schema import EMBEDDINGS
from training.options import FEATURES, Options
from training.tiny import byte_tokenizer, tiny_config

ABOUT = "classifier.json"
WEIGHTS = "model.safetensors"
MAY_DIFFER = {"data", "data_dir", "visual_news", "visual_news_index", "eval_only"}  # of Options, where a run goes on


class Classifier(nn.Module):
    """Is this the caption's own picture?

    With a backbone (CLIP, SigLIP): L2-normalised features of both, (B, 2 D), through one hidden layer to 2 classes,
    pristine and falsified. Without: the same head on vectors that were made before.
    """

    def __init__(self, options: Options, backbone: nn.Module | None) -> None:
        super().__init__()
        self.options, self.backbone = options, backbone
        if backbone is not None:
            backbone.requires_grad_(not options.freeze_backbone)
            width = 2 * _width(backbone.config)
        else:
            width = width_of(options)
        self.head = nn.Sequential(nn.Linear(width, options.hidden), nn.ReLU(), nn.Linear(options.hidden, 2))

    def forward(
        self,
        labels: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        vectors: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Logits (B, 2), and the loss if labels (B,) are given.

        Args:
            labels: 0 pristine, 1 falsified.
            input_ids: (B, tokens).
            attention_mask: (B, tokens), 1 for what counts.
            pixel_values: float32 (B, 3, side, side), 0 to 1.
            vectors: float32 (B, width), instead of the three before.
        """
        if self.backbone is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.options.freeze_backbone):
                text = _pooled(self.backbone.get_text_features(input_ids=input_ids, attention_mask=attention_mask))
                image = _pooled(self.backbone.get_image_features(pixel_values=pixel_values))
            text = text * 0 if self.options.image_only else normalize(text, dim=-1)
            image = image * 0 if self.options.text_only else normalize(image, dim=-1)
            vectors = torch.cat([text, image], dim=-1)
        logits = self.head(vectors)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}

    def groups(self, head_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Parameters for the optimizer: the head at one rate, the backbone at another."""
        groups = [{"params": list(self.head.parameters()), "lr": head_rate, "weight_decay": weight_decay}]
        if self.backbone is not None and not self.options.freeze_backbone:
            rate = self.options.backbone_learning_rate
            groups.append({"params": list(self.backbone.parameters()), "lr": rate, "weight_decay": weight_decay})
        return groups


def width_of(options: Options) -> int:
    """Numbers of a row that is made of the authors' vectors."""
    kinds = FEATURES[options.features or "all"]
    return sum(EMBEDDINGS[kind].width for kind in kinds) + (
        2 * EMBEDDINGS["clip_image"].width if options.products else 0
    )


def make(options: Options) -> tuple[Classifier, Any]:
    """A new classifier, and its tokenizer (None for features)."""
    if options.features:
        return Classifier(options, None), None
    if options.from_config == "tiny":
        return Classifier(options, AutoModel.from_config(tiny_config())), byte_tokenizer()
    place = options.from_config or options.model
    config = AutoConfig.from_pretrained(place)
    if not (hasattr(config, "text_config") and hasattr(getattr(config, "vision_config", None), "image_size")):
        raise ValueError(f"{place}: expected a CLIP or a SigLIP with pictures of one size, found {config.model_type}.")
    try:  # in full precision, whatever the weights are stored in: the recipe's rates are too small for half of it
        read = AutoModel.from_config if options.from_config else AutoModel.from_pretrained
        backbone = read(config if options.from_config else place, dtype=torch.float32)
    except SafetensorError as error:
        raise cut_off(place, error) from error
    tokenizer = AutoTokenizer.from_pretrained(place)
    known, needed = len(tokenizer), config.text_config.vocab_size
    if known < needed // 2:  # `transformers` makes an empty one where there are no files
        raise ValueError(
            f"{place}: expected a tokenizer of about {needed:,} tokens, found one of {known:,}. Save the model's "
            "tokenizer (or processor) there, too."
        )
    return Classifier(options, backbone), tokenizer


def check_about(folder: Path, options: Options, readers: dict[str, int] | None) -> None:
    """Raise `ValueError` if a folder has weights of another classifier, or of a stream that was read otherwise.

    Args:
        folder: of a run.
        options: of the run that is to begin or to go on there.
        readers: `workers` and `ranks` of a stream; None for all others.
    """
    if not (folder / ABOUT).exists() or not (any(folder.glob("checkpoint-*")) or (folder / WEIGHTS).exists()):
        return
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    for name, value in asdict(options).items():
        before = about["options"].get(name, value)
        if name not in MAY_DIFFER and before != value:
            raise ValueError(
                f"{folder}: expected flags as those of its checkpoints, --{name} {before}, found {value}. Give the "
                "same to go on, or another --output_dir."
            )
    before = about.get("stream")
    if readers and before and before != readers:
        raise ValueError(
            f"{folder}: its stream was read by {before['workers']} workers x {before['ranks']} ranks, found "
            f"{readers['workers']} x {readers['ranks']}: rows would be skipped or come twice. Go on with "
            f"--dataloader_num_workers {before['workers']} on {before['ranks']} ranks, or give another --output_dir."
        )


def home_of(folder: Path) -> Path:
    """The folder of a run: that one, or, of a checkpoint, the one above it."""
    return folder if (folder / ABOUT).exists() else folder.parent


def cut_off(place: object, error: Exception) -> ValueError:
    """Weights that end too early, or are none."""
    return ValueError(f"{place}: expected weights, found a file that is cut off ({error}). Use another checkpoint.")


def save_about(folder: Path, model: Classifier, tokenizer: Any, readers: dict[str, int] | None = None) -> None:
    """Write beside the checkpoints what is needed to make the classifier again, and to go on."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"options": asdict(model.options), "stream": readers}
    if model.backbone is not None:
        about["backbone"] = model.backbone.config.to_dict()
        tokenizer.save_pretrained(folder / "tokenizer")
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")


def load(folder: Path) -> tuple[Classifier, Any]:
    """The classifier of a run (its last weights), or of one of its checkpoints.

    Raises:
        ValueError: the folder holds none.
    """
    home, weights = home_of(folder), folder / WEIGHTS
    if not (home / ABOUT).exists() or not weights.exists():
        raise ValueError(
            f"{folder}: expected {weights.name}, and {ABOUT} in it or above it: a run's folder, or a checkpoint's."
        )
    about = json.loads((home / ABOUT).read_text(encoding="utf-8"))
    options = Options(**about["options"])
    backbone, tokenizer = None, None
    if "backbone" in about:
        backbone = AutoModel.from_config(AutoConfig.for_model(**about["backbone"]), dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(home / "tokenizer")
    model = Classifier(options, backbone)
    try:
        model.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise cut_off(weights, error) from error
    return model, tokenizer


def _width(config: Any) -> int:
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


def _pooled(features: Any) -> torch.Tensor:
    """Projected features (B, D); since version 5 `transformers` wraps them."""
    pooled: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return pooled
