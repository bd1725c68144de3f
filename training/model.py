"""The classifier: features of caption and picture, normalised and put side by side, and a small head."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoConfig, AutoModel, AutoTokenizer

from _newsclippings.files import write_text
from _newsclippings.schema import EMBEDDINGS
from training.options import FEATURES, Options
from training.tiny import byte_tokenizer, tiny_config

ABOUT = "classifier.json"


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
    if options.from_config:
        config = AutoConfig.from_pretrained(options.from_config)
        return Classifier(options, AutoModel.from_config(config)), AutoTokenizer.from_pretrained(options.from_config)
    return Classifier(options, AutoModel.from_pretrained(options.model)), AutoTokenizer.from_pretrained(options.model)


def save_about(folder: Path, model: Classifier, tokenizer: Any) -> None:
    """Write beside the checkpoints what is needed to make the classifier again."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"options": asdict(model.options)}
    if model.backbone is not None:
        about["backbone"] = model.backbone.config.to_dict()
        tokenizer.save_pretrained(folder / "tokenizer")
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")


def load(folder: Path) -> tuple[Classifier, Any]:
    """The classifier of a run (its last weights), or of one of its checkpoints.

    Raises:
        ValueError: the folder holds none.
    """
    from safetensors.torch import load_file

    home = folder if (folder / ABOUT).exists() else folder.parent
    weights = folder / "model.safetensors"
    if not (home / ABOUT).exists() or not weights.exists():
        raise ValueError(
            f"{folder}: expected {weights.name}, and {ABOUT} in it or above it: a run's folder, or a checkpoint's."
        )
    about = json.loads((home / ABOUT).read_text(encoding="utf-8"))
    options = Options(**about["options"])
    backbone, tokenizer = None, None
    if "backbone" in about:
        backbone = AutoModel.from_config(AutoConfig.for_model(**about["backbone"]))
        tokenizer = AutoTokenizer.from_pretrained(home / "tokenizer")
    model = Classifier(options, backbone)
    model.load_state_dict(load_file(weights))
    return model, tokenizer


def _width(config: Any) -> int:
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


def _pooled(features: Any) -> torch.Tensor:
    """Projected features (B, D); since version 5 `transformers` wraps them."""
    pooled: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return pooled
