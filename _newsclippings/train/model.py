"""The classifier: normalised features of caption and picture, concatenated, and a small head."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from _newsclippings.errors import ConfigError, DataNotFoundError
from _newsclippings.hub import fetch_model
from _newsclippings.storage import write_text
from _newsclippings.text import printable
from _newsclippings.train.classifier_config import MODEL_TYPE, SAVED_OPTIONS, ClassifierConfig
from _newsclippings.train.collate import Processor
from _newsclippings.train.lora import add_adapters
from _newsclippings.train.options import HUB_NAME, LOCATION_FLAGS, Options
from _newsclippings.train.places import CONFIG_MAKER, NOTES_MAKER
from _newsclippings.train.tiny import byte_tokenizer, tiny_config
from _newsclippings.train.untrusted import (
    CONFIG,
    EARLIER,
    NOTES,
    WEIGHTS,
    build_module,
    call_safely,
    check_draft,
    check_shapes,
    check_size,
    check_tokens,
    clean_config,
    find_weights,
    make_error,
    read_backbone_config,
    read_base_model,
    read_changes,
    read_json,
    read_notes,
    read_options,
    read_shapes,
    read_tokenizer,
    read_widths,
    resolve_inside,
)

HUB_ARGUMENTS = {"revision", "token", "cache_dir", "force_download", "local_files_only"}
# Options a resumed run may change
MAY_DIFFER = {"data", *LOCATION_FLAGS, "eval_only", "patience", "seeds", "flags", "positive"}
# Parameters that belong to OpenAI's CLIP itself and to none of its parts, by their names in `transformers`
DIRECT = {"logit_scale", "text_projection.weight", "text_model.embeddings.position_embedding.weight"}


class Classifier(PreTrainedModel):
    """Classify pairs of caption and picture as pristine or falsified.

    With a backbone (CLIP, SigLIP), L2-normalised features of both, (B, 2 D), or with products (B, 4 D), go through
    hidden layers to 2 classes. Without a backbone, the same head takes vectors that were computed before.

    Attributes:
        options: of the training.
        backbone: makes features of pictures and captions; None for vectors.
        widths: without a backbone: column -> width of its vectors, in order.
        processor: makes its inputs from captions and pictures; None for vectors, or if it was not loaded with one.
    """

    config_class = ClassifierConfig
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True

    def __init__(
        self, config: ClassifierConfig, backbone: nn.Module | None = None, options: Options | None = None
    ) -> None:
        """Make the layers.

        Args:
            config: how.
            backbone: the model of features; if it is not given, a new one is made as `config` says.
            options: of the training; if they are not given, those in `config`.
        """
        super().__init__(config)
        self.options = Options(**config.options) if options is None else options
        self.processor: Processor | None = None
        if backbone is None and config.backbone is not None:
            backbone = _make_backbone(read_backbone_config(CONFIG, config.backbone))
        self.backbone, self.widths = backbone, dict(config.widths)
        if backbone is not None:
            backbone.requires_grad_(not self.options.freeze_backbone)
            for name, parameter in backbone.named_parameters():
                if self.options.freeze_direct and name in DIRECT:
                    parameter.requires_grad_(False)
            if self.options.lora is not None:
                add_adapters(backbone, self.options.lora)
            width = (4 if self.options.products else 2) * _width(backbone.config)
        else:
            width = sum(self.widths.values()) + (2 * self.widths["clip_image"] if self.options.products else 0)
        layers: list[nn.Module] = []
        for _ in range(self.options.hidden_layers):
            layers += [nn.Linear(width, self.options.hidden), nn.ReLU()]
            width = self.options.hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, 2))
        self.post_init()

    def get_input_embeddings(self) -> None:
        """Return none: captions and pictures have one each, in the backbone."""

    def init_weights(self) -> None:
        """Keep the weights of the layers: those of a model that was loaded, and torch's own of the head."""

    @classmethod
    def from_pretrained(cls, place: str | os.PathLike[str], *args: Any, **kwargs: Any) -> "Classifier":
        """Load the classifier of a run, which `AutoModel.from_pretrained` calls.

        Nothing in the folder is executed, and sizes are checked before memory is allocated.

        Args:
            place: the folder of a run or a checkpoint, or the name of a run on the Hub.
            args: none.
            kwargs: where to find it on the Hub, see `fetch_run`; `dtype`, and `config`, which is read again.

        Raises:
            ConfigError: an argument is unknown.
            ValueError: the run is damaged.
        """
        for name in ("config", "adapter_kwargs", "trust_remote_code", "_from_auto", "_commit_hash"):
            kwargs.pop(name, None)  # of `AutoModel`
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
        if args:
            raise bad_argument("a second positional argument")
        model = load_classifier(fetch_run(place, **kwargs))[0]
        model.train(mode=False)
        if isinstance(dtype, torch.dtype):
            model.to(dtype)
        return model

    def save_pretrained(self, folder: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save weights, configuration and tokenizer, for `AutoModel` and `AutoProcessor`."""
        super().save_pretrained(folder, *args, **kwargs)
        if self.processor is not None:
            self.processor.save_pretrained(folder)

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


def make_shardable(model: nn.Module) -> None:
    """Turn single numbers, such as CLIP's logit scale, into buffers: FSDP cannot divide them, and none has a gradient.

    Their names in the weights stay.
    """
    for part in [*model.modules()]:
        for name, value in [*part.named_parameters(recurse=False)]:
            if value.dim() == 0:
                delattr(part, name)
                part.register_buffer(name, value.detach())


def make_classifier(options: Options, widths: Mapping[str, int] | None = None) -> tuple[Classifier, Any]:
    """Make a new classifier and its tokenizer (None for vectors); `widths` as of `Classifier`.

    Raises:
        ValueError: the model or its tokenizer is missing, damaged or of an unknown kind.
    """
    if options.features:
        return Classifier(make_config(options, None, widths), options=options), None
    if options.from_config == "tiny":
        return _finish(options, AutoModel.from_config(tiny_config()), byte_tokenizer())
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
    base = None if options.from_config or local or not HUB_NAME.fullmatch(place) else place
    return _finish(options, backbone, tokenizer, base)


def _finish(options: Options, backbone: Any, tokenizer: Any, base: str | None = None) -> tuple[Classifier, Any]:
    config = make_config(options, backbone.config.to_dict(), base_model=base)
    model = Classifier(config, backbone, options)
    model.processor = make_processor(model, tokenizer)
    return model, tokenizer


def make_config(
    options: Options,
    backbone: Mapping[str, Any] | None,
    widths: Mapping[str, int] | None = None,
    base_model: str | None = None,
) -> ClassifierConfig:
    """Make the configuration of a classifier, with numbers and names only; arguments as of `ClassifierConfig`."""
    saved = {name: getattr(options, name) for name in SAVED_OPTIONS}
    return ClassifierConfig(saved, None if backbone is None else clean_config(CONFIG, backbone), widths, base_model)


def make_processor(model: Classifier, tokenizer: Any) -> Processor | None:
    """Make the processor of a classifier; None for vectors."""
    if model.backbone is None:
        return None
    config, options = model.backbone.config, model.options
    side, family = int(config.vision_config.image_size), str(config.model_type)
    tokens = min(options.tokens, int(config.text_config.max_position_embeddings))
    blank = "captions" if options.image_only else "pictures" if options.text_only else None
    return Processor(tokenizer, side, tokens, family if options.normalize else None, blank)


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
        check_widths(folder, read_widths(folder / NOTES, notes, Options(**known).columns()), widths)


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
    notes |= {"base_model": model.config.base_model, "changes": model.config.changes}
    # first, since this file marks the folder as that of a run
    write_text(folder / NOTES, json.dumps(notes, indent=1) + "\n", NOTES_MAKER)
    save_config(folder, model)
    if model.backbone is not None:
        tokenizer.save_pretrained(folder / "tokenizer")


def save_config(folder: Path, model: Classifier) -> None:
    """Write config.json, with which transformers loads the last weights of a run."""
    plain = ClassifierConfig.from_dict({**model.config.to_dict(), "architectures": [type(model).__name__]})
    write_text(folder / CONFIG, plain.to_json_string(), CONFIG_MAKER)


def load_classifier(folder: Path) -> tuple[Classifier, Any]:
    """Load the classifier of a run (its last weights), or of one of its checkpoints, and its tokenizer.

    Raises:
        ValueError: the folder has none, or it is damaged.
    """
    home, weights = find_run(folder), folder / WEIGHTS
    noted = (home / NOTES).exists()
    where = home / (NOTES if noted else CONFIG)
    if not where.exists() or not weights.exists():
        raise ValueError(
            f"{folder} is not the folder of a run or a checkpoint: it needs {weights.name}, and {NOTES} or {CONFIG} in "
            "it or in its parent."
        )
    if noted:
        notes, known = read_notes(home)
    else:
        notes = read_json(home, CONFIG)
        if notes.get("model_type") != MODEL_TYPE or not isinstance(notes.get("options"), dict):
            raise make_error(where, f"a model of type {MODEL_TYPE}, with its options", notes.get("model_type"))
        known = read_options(where, notes["options"])
    weights = resolve_inside(folder, WEIGHTS)
    shapes = read_shapes(weights)
    if not any(".lora_A." in name for name in shapes):
        known.pop("lora", None)  # the last weights of a run have it merged
    options = Options(**known)
    backbone = None
    if options.features is None:
        backbone = read_backbone_config(where, notes.get("backbone") or {})
    elif notes.get("backbone") is not None:
        raise make_error(where, "no backbone beside --features", "one")
    call_safely(where, "options that fit each other", lambda: options.check(set()))
    config = make_config(
        options,
        None if backbone is None else backbone.to_dict(),
        read_widths(where, notes, options.columns()),
        read_base_model(where, notes.get("base_model")),
    )
    config.changes = read_changes(where, notes.get("changes"))

    def make_it() -> Classifier:
        return Classifier(config, None if backbone is None else _make_backbone(backbone), options)

    model = build_module(where, make_it, check_shapes(weights, shapes, f"weights that fit {where.name}"))
    load_weights(model, folder)
    if backbone is None:
        return model, None
    tokenizer = _read_tokenizer(home, backbone)
    model.processor = make_processor(model, tokenizer)
    return model, tokenizer


def _read_tokenizer(home: Path, backbone: Any) -> Any:
    """Read the tokenizer of a run, which has one for each token that its backbone knows."""
    place = home / "tokenizer"
    tokenizer = read_tokenizer(place)
    check_tokens(place, tokenizer, backbone.text_config.vocab_size)
    return tokenizer


def fetch_run(place: str | os.PathLike[str], **kwargs: Any) -> Path:
    """Return the folder of a run, fetched from the Hub if it is not on this machine.

    Args:
        place: the folder, or the name on the Hub.
        kwargs: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`, for the Hub.

    Raises:
        ConfigError: an argument is unknown.
        DataNotFoundError: it is neither a folder nor on the Hub, or the Hub refuses access.
        RemoteReadError: the Hub does not answer.
    """
    if unknown := sorted(kwargs.keys() - HUB_ARGUMENTS):
        raise bad_argument(unknown[0])
    folder = Path(place)
    if folder.is_dir():
        return folder
    if not HUB_NAME.fullmatch(os.fspath(place)):
        message = f"{printable(os.fspath(place))}: expected the folder of a run, or its name on the Hub, OWNER/NAME."
        raise DataNotFoundError(message)
    return fetch_model(os.fspath(place), [CONFIG, WEIGHTS, "tokenizer/*"], **kwargs)


def load_processor(place: str | os.PathLike[str], **kwargs: Any) -> Processor:
    """Load the processor of a run, which `AutoProcessor.from_pretrained` calls; arguments as of `fetch_run`.

    Raises:
        ConfigError: the run takes vectors, or an argument is unknown.
        ValueError: the run is damaged.
    """
    for name in ("config", "trust_remote_code", "_from_auto"):
        kwargs.pop(name, None)  # of `AutoProcessor`
    processor = load_classifier(fetch_run(place, **kwargs))[0].processor
    if processor is None:
        message = f"{printable(os.fspath(place))} takes vectors, and needs no processor."
        raise ConfigError(message)
    return processor


def bad_argument(name: str) -> ConfigError:
    """Make the error for an argument of `from_pretrained` that is not known."""
    known = ", ".join(sorted(HUB_ARGUMENTS))
    return ConfigError(f"{name} is no argument for a run of newsclippings: expected dtype, {known}. Leave it out.")


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
