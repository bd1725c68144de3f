"""Open the encoder that a user names. torch and other large libraries are imported when one is opened."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from _newsclippings.embed.callables import load_callable, open_callable
from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.onnx_models import open_onnx
from _newsclippings.embed.open_clip_models import open_open_clip
from _newsclippings.embed.sentence_models import open_sentences
from _newsclippings.embed.transformers_models import open_transformers
from _newsclippings.errors import ConfigError
from _newsclippings.facts import SIDES
from _newsclippings.text import did_you_mean, short_repr

LIBRARIES: Final[dict[str, Callable[[str, str, str | None], Encoder]]] = {
    "st": open_sentences,
    "open_clip": open_open_clip,
    "onnx": open_onnx,
    "py": open_callable,
}


def open_encoder(model: str, of: str, *, device: str | None = None, augment: str | None = None) -> Encoder:
    """Open an encoder.

    Args:
        model: one of
            NAME, NAME@REVISION or a folder: a CLIP, SigLIP, DINO, ViT or the like, by transformers;
            `st:NAME`: a model of sentence-transformers;
            `open_clip:ARCH/PRETRAINED`: a model of open_clip;
            `onnx:DIR`: an ONNX model with its tokenizer.json or preprocessor_config.json;
            `py:MODULE:FUNCTION`: your own, which returns an `Encoder`, or vectors of a list of pictures or captions.
            Weights are read from safetensors only (but for ONNX), and no code from elsewhere is executed.
        of: `"pictures"` or `"captions"`.
        device: as torch names it; None for a GPU if there is one, else the CPU.
        augment: MODULE:FUNCTION, a function that changes each picture (PIL, RGB, at full size) or caption before it is
            encoded. It should return the same each time, or a run that is resumed gives other vectors.

    Returns:
        The encoder. It was tried on a blank picture or a short caption.

    Raises:
        ConfigError: the model, the device or the augmentation does not exist, or the model has no vectors of that side.
        DataNotFoundError: the model, or a part of it, is missing.
        BadFileError: the model is damaged, or refused because it can contain programs.
        RemoteReadError: the model could not be fetched now.
        MissingDependencyError: a library is not installed.
    """
    if of not in SIDES:
        message = f"of={short_repr(of)}: expected {' or '.join(SIDES)}.{did_you_mean(str(of), SIDES)}"
        raise ConfigError(message)
    library, colon, rest = model.partition(":")
    if colon and library in LIBRARIES:
        encoder = LIBRARIES[library](rest, of, device)
    elif colon and library.isidentifier():
        known = ", ".join(f"{name}:" for name in LIBRARIES)
        message = (
            f"model={short_repr(model)}: expected a name or a folder, alone or after one of {known}."
            f"{did_you_mean(library, LIBRARIES)}"
        )
        raise ConfigError(message)
    else:
        encoder = open_transformers(model, of, device)
    if augment is not None:
        encoder = add_augmentation(encoder, augment)
    return replace(encoder, facts=json.loads(json.dumps(encoder.facts)))  # tuples become lists, as a plan reads them


def add_augmentation(encoder: Encoder, name: str) -> Encoder:
    """Apply a user's function to each item before the encoder, which then gets whole pictures."""
    from PIL import Image

    function, digest = load_callable(name)
    if not callable(function):
        message = f"augment={short_repr(name)} is {short_repr(function)}, and no function."
        raise ConfigError(message)
    pictures = encoder.of == "pictures"

    def prepare(item: Any) -> Any:
        changed = function(item)
        if not isinstance(changed, Image.Image if pictures else str):
            expected = "a PIL picture" if pictures else "a str"
            message = f"augment={short_repr(name)}: expected {expected}, found {short_repr(changed)}."
            raise ConfigError(message)
        return encoder.prepare(changed.convert("RGB") if isinstance(changed, Image.Image) else changed)

    return replace(
        encoder, prepare=prepare, side=None, facts={**encoder.facts, "augment": name, "augment_sha256": digest}
    )
