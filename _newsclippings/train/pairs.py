"""Predict pairs of one's own with the classifier of a run."""

import os
from collections.abc import Sequence
from typing import Any, Final

import torch

from _newsclippings.errors import ConfigError
from _newsclippings.text import short_repr
from _newsclippings.train.model import Classifier

BATCH: Final = 8  # pairs, as `TrainingArguments` has by default in evaluation


def predict_pairs(model: Any, caption: Any, picture: Any) -> float | list[float]:
    """Compute the probability of falsified of one pair or of several; see `_newsclippings.train.predict`."""
    captions, pictures = _as_pairs(caption, picture)
    if isinstance(model, str | os.PathLike):
        model = Classifier.from_pretrained(model)
        if torch.cuda.is_available():
            model = model.to("cuda")
    if not isinstance(model, Classifier):
        message = (
            f"model {short_repr(model)}: expected the folder of a run, its name on the Hub, or what "
            "AutoModel.from_pretrained returns for it."
        )
        raise ConfigError(message)
    if model.processor is None:
        columns = ", ".join(model.widths) or "none"
        message = (
            f"This model takes vectors ({columns}), not captions and pictures. Make vectors of your pairs with the "
            "same encoder (newsclippings embed), and call the model with them: model(vectors=...); or evaluate it on "
            "rows that have them: newsclippings train --eval_only RUN."
        )
        raise ConfigError(message)
    training, scores = model.training, list[float]()
    model.train(mode=False)
    try:
        with torch.no_grad():
            for start in range(0, len(captions), BATCH):
                part = slice(start, start + BATCH)
                inputs = model.processor(captions[part], pictures[part]).to(model.device)
                inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
                scores += model(**inputs)["logits"].float().cpu().softmax(-1)[:, 1].tolist()
    finally:
        model.train(training)
    return scores[0] if isinstance(caption, str) else scores


def _as_pairs(caption: Any, picture: Any) -> tuple[list[str], list[Any]]:
    """Return captions and pictures as two lists of one length."""
    if isinstance(caption, str):
        if _is_list(picture):
            message = f"One caption, but a list of {len(picture)} pictures: pass a list of as many captions."
            raise ConfigError(message)
        return [caption], [picture]
    if not isinstance(caption, Sequence) or not all(isinstance(text, str) for text in caption):
        raise ConfigError(f"caption {short_repr(caption)}: expected a text, or a list of texts.")
    if not _is_list(picture) or len(picture) != len(caption):
        found = f"{len(picture)}" if _is_list(picture) else short_repr(picture)
        raise ConfigError(f"{len(caption)} captions: expected a list of as many pictures, found {found}.")
    return list(caption), list(picture)


def _is_list(picture: Any) -> bool:
    """Check whether it is a list of pictures, such as a column of `datasets`; bytes are one picture."""
    return isinstance(picture, Sequence) and not isinstance(picture, str | bytes | bytearray | memoryview)
