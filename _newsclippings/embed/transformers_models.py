"""Encoders of `transformers`: CLIP and its like for pictures and captions, DINO, ViT and their like for pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from _newsclippings.embed.encoder import Encoder, Float32s
from _newsclippings.embed.libraries import (
    EXTRA,
    find_versions,
    make_blank,
    measure_width,
    pad,
    pick_device,
    report_library_errors,
    require,
    stack,
)
from _newsclippings.embed.model_folder import FILES, TOKENS, ModelFolder, check_config, find_model_folder, find_weights
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError


def open_transformers(model: str, of: str, device: str | None) -> Encoder:
    """Open a model of `transformers`. Vectors of CLIP and its like are the projected features, as the model gives them.

    Args:
        model: a folder, or NAME or NAME@REVISION on the Hub.
        of: `"pictures"` or `"captions"`.
        device: as torch names it; None to choose.

    Raises:
        NewsCLIPpingsError: it is missing, damaged or refused, or has no vectors of that side.
    """
    require(model, ("torch", "transformers", "safetensors"), EXTRA)
    import torch

    where = pick_device(device)
    folder = find_model_folder(model, FILES)
    weights = find_weights(folder)
    check_config(folder)
    with _quiet():
        config, joint = _read_config(folder, of)
        network, has_pooler = _load(folder, config, where)
    side = None
    if of == "pictures":
        from _newsclippings.embed.picture_processor import PictureProcessor

        processor = PictureProcessor(folder)
        prepare, side = processor.prepare, processor.side
        facts: dict[str, Any] = {"preprocessing": processor.facts}
    else:
        prepare, fills, left, facts = _make_tokenizer(folder, config)

    def compute(items: list[Any]) -> Any:
        inputs = stack(folder.name, pad(items, fills, left) if of == "captions" else items, where)
        with torch.inference_mode():
            if not joint:
                return network(**inputs)
            features = network.get_image_features(**inputs) if of == "pictures" else network.get_text_features(**inputs)
        return getattr(features, "pooler_output", features)  # wrapped since version 5 of transformers

    pooling = "projected features"
    if not joint:
        with report_library_errors(folder.name, "cannot encode pictures"):
            blank = compute([prepare(make_blank(of))])
        has_pooler = has_pooler and blank.get("pooler_output") is not None
        pooling = "pooler output" if has_pooler else "first token of the last layer"

    def encode(items: list[Any]) -> Float32s:
        features = compute(items)
        if not joint:
            features = features.pooler_output if has_pooler else features.last_hidden_state[:, 0]
            features = features.flatten(1)  # convolutional networks give (N, width, 1, 1)
        vectors: Float32s = features.float().cpu().numpy()
        return vectors

    return Encoder(
        of=of,
        width=measure_width(folder.name, of, prepare, encode),
        facts={
            **folder.describe_origin(weights),
            "kind": config.model_type,
            "pooling": pooling,
            **facts,
            "device": where.type,
            "dtype": "float32",
            "versions": find_versions("transformers", "torch", "pillow" if of == "pictures" else "tokenizers"),
        },
        prepare=prepare,
        encode=encode,
        side=side,
        batch=32 if where.type == "cpu" else 128,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep `transformers` from drawing a bar and a table while a model is loaded; what matters becomes an error."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _read_config(folder: ModelFolder, of: str) -> tuple[Any, bool]:
    """Return a model's configuration, and whether it has vectors of both pictures and captions.

    Raises:
        BadFileError: transformers has no such model, or it needs code of its own.
        ConfigError: it has no vectors of this side.
    """
    from transformers import MODEL_MAPPING, AutoConfig

    with report_library_errors(folder.name, "is not a model that transformers knows without code from elsewhere"):
        config = AutoConfig.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
        kind = MODEL_MAPPING[type(config)]
    kind = kind[0] if isinstance(kind, tuple) else kind
    joint = hasattr(kind, "get_image_features") and hasattr(kind, "get_text_features")
    if of == "captions" and not joint:
        message = (
            f"{folder.name} ({config.model_type}) has no vectors of captions. Choose a CLIP, a SigLIP or their like; "
            f"for a model of sentences, st:{folder.name}."
        )
        raise ConfigError(message)
    if not joint and getattr(kind, "main_input_name", None) != "pixel_values":
        message = (
            f"{folder.name} ({config.model_type}) has no vectors of pictures. Choose a CLIP, a SigLIP, a DINO, a ViT "
            "or their like."
        )
        raise ConfigError(message)
    return config, joint


def _load(folder: ModelFolder, config: Any, device: Any) -> tuple[Any, bool]:
    """Load a model, and return it and whether its weights have all of its pooler.

    Raises:
        BadFileError: the weights are damaged, or those of another model.
    """
    import torch
    from transformers import AutoModel

    with report_library_errors(folder.name, "cannot be loaded"):
        network, report = AutoModel.from_pretrained(
            folder.path,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    missing = set(report["missing_keys"])
    # Many a ViT was saved without it; transformers then makes up random numbers.
    pooler = {name for name in missing if "pooler" in name.split(".")}
    if missing - pooler:
        message = (
            f"{folder.name}: its weights lack {len(missing - pooler)} of the model's tensors, such as "
            f"{min(missing - pooler)}. Fetch the model again, or choose another one."
        )
        raise BadFileError(message)
    return network.train(False).to(device), not pooler


def _make_tokenizer(folder: ModelFolder, config: Any) -> tuple[Any, dict[str, int], bool, dict[str, Any]]:
    """Return a function that makes the tokens of a caption, how they are padded, and facts.

    Raises:
        DataNotFoundError: there is no tokenizer.
        BadFileError: it is damaged, or that of another model.
    """
    from transformers import AutoTokenizer

    if not folder.has(*TOKENS):
        message = f"{folder.name} has no tokenizer. Save the model's tokenizer (or processor) there, too."
        raise DataNotFoundError(message)
    with _quiet(), report_library_errors(folder.name, "has a tokenizer that cannot be used"):
        tokenizer = AutoTokenizer.from_pretrained(folder.path, trust_remote_code=False, local_files_only=True)
        largest = max(tokenizer.get_vocab().values(), default=-1)
    text = getattr(config, "text_config", config)
    if largest >= text.vocab_size:
        message = (
            f"{folder.name}: expected a tokenizer of the model's {text.vocab_size:,} tokens, found a token of number "
            f"{largest:,}. Save the model's own tokenizer there."
        )
        raise BadFileError(message)
    most = min(tokenizer.model_max_length, text.max_position_embeddings)
    # SigLIP is trained on captions with all tokens, and attends to the padding.
    whole = config.model_type.startswith("siglip")
    fills = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}

    def prepare(caption: str) -> dict[str, list[int]]:
        if whole:
            tokens = tokenizer(caption, truncation=True, max_length=most, padding="max_length")
            return {"input_ids": tokens["input_ids"]}
        return {**tokenizer(caption, truncation=True, max_length=most)}

    facts = {
        "tokenizer": type(tokenizer).__name__,
        "tokenizer_sha256": folder.compute_sums(folder.path / name for name in TOKENS if folder.has(name)),
        "max_tokens": most,
        "padding": "to max_tokens" if whole else "to the longest of a batch",
    }
    return prepare, fills, tokenizer.padding_side == "left", facts
