"""The classifier: features of caption and picture, normalised and put side by side, and a small head."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig

from _newsclippings.facts import EMBEDDINGS
from _newsclippings.storage import write_text
from _newsclippings.text import printable
from _newsclippings.train.options import FEATURES, Options
from _newsclippings.train.places import NOTED
from _newsclippings.train.strangers import (
    ABOUT,
    WEIGHTS,
    backbone_config,
    build,
    careful,
    check_draft,
    check_tokens,
    fault,
    inside,
    no_larger_than,
    read_about,
    read_json,
    read_tokenizer,
    same_shapes,
    shapes_of,
    weights_of,
)
from _newsclippings.train.tiny import byte_tokenizer, tiny_config

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
    folder = Path(place)
    local = folder.is_dir()
    if local:
        config = backbone_config(place, read_json(folder, "config.json"))
    else:
        config = backbone_config(place, PreTrainedConfig.get_config_dict(place)[0])
    # In full precision, whatever the weights are stored in: the recipe's rates are too small for half of it.
    if options.from_config:
        backbone = build(place, lambda: _new(config))
    else:
        if local:
            files = weights_of(folder)
            for file in files:
                shapes_of(file, place)
            check_draft(place, lambda: _new(config), no_larger_than(place, files))
        backbone = careful(place, "a model that transformers can load", lambda: _trained(place, config, local))
    tokenizer = (
        read_tokenizer(folder, config.model_type)
        if local
        else AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    )
    known, needed = len(tokenizer), config.text_config.vocab_size
    if known < needed // 2:  # `transformers` makes an empty one where there are no files
        raise ValueError(
            f"{place}: expected a tokenizer of about {needed:,} tokens, found one of {known:,}. Save the model's "
            "tokenizer (or processor) there, too."
        )
    check_tokens(place, tokenizer, needed)
    return Classifier(options, backbone), tokenizer


def _new(config: Any) -> Any:
    return AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)


def _trained(place: str, config: Any, local: bool) -> Any:
    return AutoModel.from_pretrained(
        place,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=local,
    )


def check_about(folder: Path, options: Options, readers: dict[str, int] | None) -> None:
    """Raise `ValueError` if a folder has weights of another classifier, or of a stream that was read otherwise.

    Args:
        folder: of a run.
        options: of the run that is to begin or to go on there.
        readers: `workers` and `ranks` of a stream; None for all others.
    """
    if not (folder / ABOUT).exists() or not (any(folder.glob("checkpoint-*")) or (folder / WEIGHTS).exists()):
        return
    about, _ = read_about(folder)
    for name, value in asdict(options).items():
        before = about["options"].get(name, value)
        if name not in MAY_DIFFER and before != value:
            noted = printable(str(before))[:200]
            raise ValueError(
                f"{folder}: expected flags as those of its checkpoints, --{name} {noted}, found {value}. Give the "
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
    is_checkpoint = folder.resolve().name.startswith("checkpoint-")
    return folder.parent if is_checkpoint and not (folder / ABOUT).exists() else folder


def save_about(folder: Path, model: Classifier, tokenizer: Any, readers: dict[str, int] | None = None) -> None:
    """Write beside the checkpoints what is needed to make the classifier again, and to go on."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"options": asdict(model.options), "stream": readers}
    if model.backbone is not None:
        about["backbone"] = model.backbone.config.to_dict()
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n", NOTED)  # first: it tells whose folder this is
    if model.backbone is not None:
        tokenizer.save_pretrained(folder / "tokenizer")


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
    about, known = read_about(home)
    options = Options(**known)
    where, weights = home / ABOUT, inside(folder, WEIGHTS)
    config = None
    if options.features is None:
        config = backbone_config(where, about.get("backbone") or {})
    elif about.get("backbone") is not None:
        raise fault(where, "no backbone beside --features", "one")
    careful(where, "options that fit each other", lambda: options.check(set()))

    def make_it() -> Classifier:
        return Classifier(options, None if config is None else _new(config))

    model = build(where, make_it, same_shapes(weights, shapes_of(weights)))
    careful(weights, "weights", lambda: model.load_state_dict(load_file(weights)))
    if config is None:
        return model, None
    tokenizer = read_tokenizer(home / "tokenizer")
    check_tokens(home / "tokenizer", tokenizer, config.text_config.vocab_size)
    return model, tokenizer


def _width(config: Any) -> int:
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


def _pooled(features: Any) -> torch.Tensor:
    """Projected features (B, D); since version 5 `transformers` wraps them."""
    pooled: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return pooled
