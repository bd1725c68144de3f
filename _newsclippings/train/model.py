"""The classifier: normalised features of caption and picture, concatenated, and a small head."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig

from _newsclippings.storage import write_text
from _newsclippings.text import printable
from _newsclippings.train.options import LOCATION_FLAGS, Options
from _newsclippings.train.places import NOTES_MAKER
from _newsclippings.train.tiny import byte_tokenizer, tiny_config
from _newsclippings.train.untrusted import (
    EARLIER,
    NOTES,
    WEIGHTS,
    build_module,
    call_safely,
    check_draft,
    check_shapes,
    check_size,
    check_tokens,
    find_weights,
    make_error,
    read_backbone_config,
    read_json,
    read_notes,
    read_shapes,
    read_tokenizer,
    read_widths,
    resolve_inside,
)

MAY_DIFFER = {"data", *LOCATION_FLAGS, "eval_only", "patience", "seeds", "positive"}  # Options a resumed run may change
# Parameters that belong to OpenAI's CLIP itself and to none of its parts, by their names in `transformers`
DIRECT = {"logit_scale", "text_projection.weight", "text_model.embeddings.position_embedding.weight"}


class Classifier(nn.Module):
    """Classify pairs of caption and picture as pristine or falsified.

    With a backbone (CLIP, SigLIP), L2-normalised features of both, (B, 2 D), or with products (B, 4 D), go through
    hidden layers to 2 classes. Without a backbone, the same head takes vectors that were computed before.
    """

    def __init__(self, options: Options, backbone: nn.Module | None, widths: Mapping[str, int] | None = None) -> None:
        """Make the layers.

        Args:
            options: of the training.
            backbone: makes features of pictures and captions; None for vectors.
            widths: without a backbone: column -> width of its vectors, in order.
        """
        super().__init__()
        self.options, self.backbone, self.widths = options, backbone, dict(widths or {})
        if backbone is not None:
            backbone.requires_grad_(not options.freeze_backbone)
            for name, parameter in backbone.named_parameters():
                if options.freeze_direct and name in DIRECT:
                    parameter.requires_grad_(False)
            width = (4 if options.products else 2) * _width(backbone.config)
        else:
            width = sum(self.widths.values()) + (2 * self.widths["clip_image"] if options.products else 0)
        layers: list[nn.Module] = []
        for _ in range(options.hidden_layers):
            layers += [nn.Linear(width, options.hidden), nn.ReLU()]
            width = options.hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(
        self,
        labels: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        vectors: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute logits, and the loss if labels are given.

        Args:
            labels: (B,), 0 pristine, 1 falsified.
            input_ids: (B, tokens).
            attention_mask: (B, tokens), 0 for padding.
            pixel_values: float32 (B, 3, side, side), 0 to 1, or standardised.
            vectors: float32 (B, width), in place of the three before.

        Returns:
            `logits` (B, 2), and `loss` if labels are given.
        """
        if self.backbone is not None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.options.freeze_backbone):
                text = _pool(self.backbone.get_text_features(input_ids=input_ids, attention_mask=attention_mask))
                image = _pool(self.backbone.get_image_features(pixel_values=pixel_values))
            text, image = normalize(text, dim=-1), normalize(image, dim=-1)
            both = [text, image, *((text * image, (text - image).abs()) if self.options.products else ())]
            vectors = torch.cat(both, dim=-1)
        logits = self.head(vectors)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}

    def groups(self, head_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return the parameters for the optimizer, with separate learning rates, and no weight decay for biases."""
        parts = [(self.head, head_rate)]
        if self.backbone is not None:
            parts.append((self.backbone, self.options.backbone_learning_rate))
        groups = []
        for part, rate in parts:
            trained = [(name, value) for name, value in part.named_parameters() if value.requires_grad]
            for biases in (False, True):
                chosen = [value for name, value in trained if ("bias" in name) == biases]
                if chosen:
                    groups.append({"params": chosen, "lr": rate, "weight_decay": 0.0 if biases else weight_decay})
        return groups


def make_classifier(options: Options, widths: Mapping[str, int] | None = None) -> tuple[Classifier, Any]:
    """Make a new classifier and its tokenizer (None for vectors); `widths` as of `Classifier`.

    Raises:
        ValueError: the model or its tokenizer is missing, damaged or of an unknown kind.
    """
    if options.features:
        return Classifier(options, None, widths), None
    if options.from_config == "tiny":
        return Classifier(options, AutoModel.from_config(tiny_config())), byte_tokenizer()
    place = options.from_config or options.model
    folder = Path(place)
    local = folder.is_dir()
    if local:
        config = read_backbone_config(place, read_json(folder, "config.json"))
    else:
        config = read_backbone_config(place, PreTrainedConfig.get_config_dict(place)[0])
    # In full precision, whatever the stored weights have: the recipe's learning rates are too small for half precision.
    if options.from_config:
        backbone = build_module(place, lambda: _make_backbone(config))
    else:
        if local:
            files = find_weights(folder)
            for file in files:
                read_shapes(file, place)
            check_draft(place, lambda: _make_backbone(config), check_size(place, files))
        expected = "a model that transformers can load"
        backbone = call_safely(place, expected, lambda: _load_backbone(place, config, local))
    tokenizer = (
        read_tokenizer(folder, config.model_type)
        if local
        else AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    )
    known, needed = len(tokenizer), config.text_config.vocab_size
    if known < needed // 2:  # without files, `transformers` makes an empty tokenizer
        raise ValueError(
            f"{place}: expected a tokenizer of about {needed:,} tokens, found one of {known:,}. Save the model's "
            "tokenizer (or processor) there, too."
        )
    check_tokens(place, tokenizer, needed)
    return Classifier(options, backbone), tokenizer


def _make_backbone(config: Any) -> Any:
    return AutoModel.from_config(config, trust_remote_code=False, dtype=torch.float32)


def _load_backbone(place: str, config: Any, local: bool) -> Any:
    return AutoModel.from_pretrained(
        place,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=local,
    )


def check_notes(folder: Path, options: Options, readers: dict[str, int] | None) -> None:
    """Raise `ValueError` if a run cannot begin or resume in a folder.

    It cannot if the folder has weights of another classifier, or if its stream was divided differently.

    Args:
        folder: of a run.
        options: of the run that is to begin or resume there.
        readers: `workers` and `ranks` that read a stream; None without --streaming.
    """
    if not _has_weights(folder):
        return
    notes, _ = read_notes(folder)
    for name, value in asdict(options).items():
        before = notes["options"].get(name, EARLIER.get(name, value))
        if name not in MAY_DIFFER and before != value:
            noted = printable(str(before))[:200]
            raise ValueError(
                f"{folder}: its checkpoints were made with --{name} {noted}, not {value}. Pass the same flag to "
                "resume, or choose another --output_dir."
            )
    before = notes.get("stream")
    if readers and before and before != readers:
        raise ValueError(
            f"{folder}: its stream was read by {before['workers']} workers x {before['ranks']} ranks, found "
            f"{readers['workers']} x {readers['ranks']}: rows would be skipped or repeated. Resume with "
            f"--dataloader_num_workers {before['workers']} on {before['ranks']} ranks, or choose another --output_dir."
        )


def _has_weights(folder: Path) -> bool:
    return (folder / NOTES).exists() and (any(folder.glob("checkpoint-*")) or (folder / WEIGHTS).exists())


def check_noted_widths(folder: Path, widths: Mapping[str, int]) -> None:
    """Raise `ValueError` if a folder has weights for vectors of other widths than the rows have."""
    if _has_weights(folder):
        notes, known = read_notes(folder)
        check_widths(folder, read_widths(folder, notes, Options(**known).columns()), widths)


def check_widths(run: Path, noted: Mapping[str, int], widths: Mapping[str, int]) -> None:
    """Raise `ValueError` if the vectors of a run have other widths than those of the rows."""
    for name, width in noted.items():
        if widths[name] != width:
            raise ValueError(
                f"{run}: it was trained on vectors {name} of {width:,} numbers, and those of the rows have "
                f"{widths[name]:,}. Pass the vectors of the same encoder, or train again in another --output_dir."
            )


def find_run(folder: Path) -> Path:
    """Return the folder of a run; for a checkpoint, that is its parent."""
    is_checkpoint = folder.resolve().name.startswith("checkpoint-")
    return folder.parent if is_checkpoint and not (folder / NOTES).exists() else folder


def save_notes(folder: Path, model: Classifier, tokenizer: Any, readers: dict[str, int] | None = None) -> None:
    """Write what is needed to make the classifier again and to resume, next to the checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    notes: dict[str, Any] = {"options": asdict(model.options), "stream": readers}
    if model.backbone is not None:
        notes["backbone"] = model.backbone.config.to_dict()
    else:
        notes["widths"] = model.widths
    # first, since this file marks the folder as that of a run
    write_text(folder / NOTES, json.dumps(notes, indent=1) + "\n", NOTES_MAKER)
    if model.backbone is not None:
        tokenizer.save_pretrained(folder / "tokenizer")


def load_classifier(folder: Path) -> tuple[Classifier, Any]:
    """Load the classifier of a run (its last weights), or of one of its checkpoints, and its tokenizer.

    Raises:
        ValueError: the folder has none, or it is damaged.
    """
    home, weights = find_run(folder), folder / WEIGHTS
    if not (home / NOTES).exists() or not weights.exists():
        raise ValueError(
            f"{folder} is not the folder of a run or a checkpoint: it needs {weights.name}, and {NOTES} in it or in "
            "its parent."
        )
    notes, known = read_notes(home)
    options = Options(**known)
    where, weights = home / NOTES, resolve_inside(folder, WEIGHTS)
    config = None
    if options.features is None:
        config = read_backbone_config(where, notes.get("backbone") or {})
    elif notes.get("backbone") is not None:
        raise make_error(where, "no backbone beside --features", "one")
    call_safely(where, "options that fit each other", lambda: options.check(set()))
    widths = read_widths(home, notes, options.columns())

    def make_it() -> Classifier:
        return Classifier(options, None if config is None else _make_backbone(config), widths)

    model = build_module(where, make_it, check_shapes(weights, read_shapes(weights)))
    load_weights(model, folder)
    if config is None:
        return model, None
    tokenizer = read_tokenizer(home / "tokenizer")
    check_tokens(home / "tokenizer", tokenizer, config.text_config.vocab_size)
    return model, tokenizer


def load_weights(model: nn.Module, folder: Path) -> None:
    """Load the weights in the folder of a run or a checkpoint into a model of the same layers.

    Raises:
        ValueError: they are damaged, or of other layers.
    """
    weights = resolve_inside(folder, WEIGHTS)
    check_shapes(weights, read_shapes(weights))(model)
    call_safely(weights, "weights", lambda: model.load_state_dict(load_file(weights)))


def _width(config: Any) -> int:
    return int(getattr(config, "projection_dim", None) or config.text_config.projection_size)


def _pool(features: Any) -> torch.Tensor:
    """Return projected features (B, D), which `transformers` wraps since version 5."""
    pooled: torch.Tensor = features if isinstance(features, torch.Tensor) else features.pooler_output
    return pooled
