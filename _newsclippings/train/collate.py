"""Make batches of tensors from rows."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers import BatchFeature
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from _newsclippings.errors import ConfigError, DataNotFoundError, NewsCLIPpingsError
from _newsclippings.pictures import decode
from _newsclippings.text import printable, short_repr
from _newsclippings.train.data import FACTS, Row
from _newsclippings.train.options import Options

Batch = dict[str, Any]


class Processor:
    """Make the inputs of a classifier from captions and pictures: tokens, and pixels as in the training."""

    def __init__(
        self, tokenizer: Any, side: int, tokens: int, family: str | None = None, blank: str | None = None
    ) -> None:
        """Store what inputs are made with.

        Args:
            tokenizer: of the model.
            side: of the pictures that the model takes, in pixels.
            tokens: per caption; longer ones are truncated.
            family: `model_type` of the model by whose mean and deviation pixels are standardised; None: they are not.
            blank: `"captions"` or `"pictures"`, which an ablation sets to zeros, as in the authors' models/clip.py.
        """
        self.tokenizer, self.side, self.tokens, self.blank = tokenizer, side, tokens, blank
        self.scale = None
        if family is not None:
            self.scale = [torch.tensor(part).reshape(3, 1, 1) for part in find_pixel_scale(family)]

    def __call__(self, text: str | Sequence[str], images: Any) -> BatchFeature:
        """Make the inputs of a batch.

        Args:
            text: the caption, or the captions.
            images: the picture, or the pictures: path, bytes, image of Pillow, or `{"bytes", "path"}` of `datasets`.

        Returns:
            `input_ids` (B, tokens), for some models `attention_mask` (B, tokens), and `pixel_values`
            (B, 3, side, side): 0 to 1, or standardised.

        Raises:
            BadFileError: a picture is broken.
        """
        captions, pictures = ([text], [images]) if isinstance(text, str) else (list(text), images)
        return BatchFeature(
            {**self.make_tokens(captions), "pixel_values": torch.stack([self.make_pixels(one) for one in pictures])}
        )

    def save_pretrained(self, folder: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the tokenizer where `AutoProcessor` finds it; config.json of the model says the rest."""
        self.tokenizer.save_pretrained(os.path.join(folder, "tokenizer"))

    def make_tokens(self, captions: Sequence[str]) -> dict[str, torch.Tensor]:
        """Make `input_ids` and, for some models, `attention_mask` from captions."""
        found = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        )
        tokens = {name: found[name] for name in ("input_ids", "attention_mask") if name in found}
        if self.blank == "captions":  # the mask has the length
            blank = {"input_ids": torch.zeros_like, "attention_mask": torch.ones_like}
            tokens = {name: blank[name](each) for name, each in tokens.items()}
        return tokens

    def make_pixels(self, picture: Any) -> torch.Tensor:
        """Make float32 (3, side, side) from a picture."""
        if self.blank == "pictures":
            return torch.zeros(3, self.side, self.side)
        pixels = make_pixels(picture, self.side)
        return pixels if self.scale is None else (pixels - self.scale[0]) / self.scale[1]


class Collator:
    """Make a batch from rows: tensors, and the facts of each row."""

    def __init__(self, options: Options, processor: Processor | None, widths: Mapping[str, int]) -> None:
        """Store what batches are made with.

        Args:
            options: of the training.
            processor: of the model; None for vectors.
            widths: column -> width of its vectors; empty for pictures and captions.
        """
        self.options, self.processor, self.widths = options, processor, widths

    def __call__(self, rows: list[Row]) -> Batch:
        """Make a batch of `labels` (B,), `facts`, and either `vectors` or the model's inputs for text and pictures."""
        batch: Batch = {"labels": torch.tensor([row["falsified"] for row in rows])}
        batch["facts"] = [{name: row[name] for name in (*FACTS, "config") if name in row} for row in rows]
        if self.processor is None:
            products = self.options.products
            batch["vectors"] = torch.stack([make_vectors(row, self.widths, products) for row in rows])
            return batch
        batch |= self.processor.make_tokens([row["caption"] for row in rows])
        batch["pixel_values"] = torch.stack([self._pixels(self.processor, row) for row in rows])
        return batch

    def _pixels(self, processor: Processor, row: Row) -> torch.Tensor:
        try:
            return processor.make_pixels(row["image"])
        except NewsCLIPpingsError as error:
            do = "Pass --check_images --missing drop_pair, or build with check_images=True and missing='drop_pair'."
            raise ValueError(f"row {row['index']}, image_id {row['image_id']}: {error} {do}") from error


def find_pixel_scale(family: str | None) -> tuple[list[float], list[float]]:
    """Return mean and deviation of red, green and blue for which models of a family were trained."""
    if family == "siglip":
        return IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD
    return OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


def make_pixels(image: Any, side: int) -> torch.Tensor:
    """Decode a picture, resize it to a square of 256 / 224 of the side, and crop its centre.

    As in the authors' recipe, transparent areas show the colours behind them; `decode_small` makes them white.

    Args:
        image: `{"bytes", "path"}` of `datasets`; or a path, bytes, or an image of Pillow.
        side: of the result, in pixels.

    Returns:
        float32 (3, side, side), 0 to 1.

    Raises:
        BadFileError: the picture is broken.
        ConfigError: it is of another type.
    """
    whole = side * 256 // 224
    cut = (whole - side) // 2
    if isinstance(image, Image.Image):
        upright = ImageOps.exif_transpose(image).convert("RGB")
    else:
        upright = decode(_as_encoded(image), whole, on_white=False)
    small = upright.resize((whole, whole)).crop((cut, cut, cut + side, cut + side))
    return torch.from_numpy(np.asarray(small, np.float32).transpose(2, 0, 1) / 255)


def _as_encoded(picture: Any) -> Mapping[str, str | bytes | None]:
    if isinstance(picture, Mapping):
        return picture
    if isinstance(picture, bytes | bytearray | memoryview):
        return {"bytes": bytes(picture), "path": None}
    if not isinstance(picture, str | os.PathLike):
        message = f"picture {short_repr(picture)}: expected a path, the bytes of a file, or an image of Pillow."
        raise ConfigError(message)
    path = os.fspath(picture)
    if not os.path.isfile(path):
        message = f"{printable(str(path))}: there is no such file. Expected the path of a picture."
        raise DataNotFoundError(message)
    return {"bytes": None, "path": str(path)}


def make_vectors(row: Row, widths: Mapping[str, int], products: bool = False) -> torch.Tensor:
    """Join the vectors of a row, each L2-normalised; several (faces) are averaged, and a missing vector is zero.

    Args:
        row: with the columns of vectors.
        widths: column -> width of its vectors, in order.
        products: whether to add product and difference of the CLIP vectors.

    Returns:
        float32 (D,), where D is the sum of the widths, and with products twice that of a CLIP vector more.
    """
    vectors = {}
    for name, width in widths.items():
        value = torch.tensor(row[name] if row[name] is not None else [], dtype=torch.float32).reshape(-1, width)
        mean = value.mean(0) if len(value) else torch.zeros(width)
        vectors[name] = torch.nn.functional.normalize(mean, dim=-1)
    parts = list(vectors.values())
    if products:
        image, text = vectors["clip_image"], vectors["clip_text"]
        parts += [image * text, (image - text).abs()]
    return torch.cat(parts)
