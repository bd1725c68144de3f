"""Make batches of tensors from rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers.image_utils import (
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.pictures import decode
from _newsclippings.train.data import FACTS, Row
from _newsclippings.train.options import Options

Batch = dict[str, Any]


class Collator:
    """Make a batch from rows: tensors, and the facts of each row."""

    def __init__(
        self,
        options: Options,
        tokenizer: Any,
        side: int,
        tokens: int,
        widths: Mapping[str, int],
        family: str | None = None,
    ) -> None:
        """Store what batches are made with.

        Args:
            options: of the training.
            tokenizer: of the model; None for vectors.
            side: of the pictures that the model takes, in pixels.
            tokens: per caption.
            widths: column -> width of its vectors; empty for pictures and captions.
            family: `model_type` of the model, by which pixels are standardised with --normalize.
        """
        self.mean, self.deviation = (torch.tensor(part).reshape(3, 1, 1) for part in find_pixel_scale(family))
        self.options, self.tokenizer, self.side, self.tokens, self.widths = options, tokenizer, side, tokens, widths

    def __call__(self, rows: list[Row]) -> Batch:
        """Make a batch of `labels` (B,), `facts`, and either `vectors` or the model's inputs for text and pictures."""
        batch: Batch = {"labels": torch.tensor([row["falsified"] for row in rows])}
        batch["facts"] = [{name: row[name] for name in (*FACTS, "config") if name in row} for row in rows]
        if self.widths:
            products = self.options.products
            batch["vectors"] = torch.stack([make_vectors(row, self.widths, products) for row in rows])
            return batch
        captions = [row["caption"] for row in rows]
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        )
        batch["input_ids"] = tokens["input_ids"]
        if "attention_mask" in tokens:
            batch["attention_mask"] = tokens["attention_mask"]
        if self.options.image_only:  # ones, as in the authors' models/clip.py; also the mask, which has the length
            batch |= {name: torch.ones_like(batch[name]) for name in batch.keys() & {"input_ids", "attention_mask"}}
        if self.options.text_only:
            batch["pixel_values"] = torch.ones(len(rows), 3, self.side, self.side)
        else:
            batch["pixel_values"] = torch.stack([self._pixels(row) for row in rows])
        return batch

    def _pixels(self, row: Row) -> torch.Tensor:
        try:
            pixels = make_pixels(row["image"], self.side)
        except NewsCLIPpingsError as error:
            do = "Pass --check_images --missing drop_pair, or build with check_images=True and missing='drop_pair'."
            raise ValueError(f"row {row['index']}, image_id {row['image_id']}: {error} {do}") from error
        return (pixels - self.mean) / self.deviation if self.options.normalize else pixels


def find_pixel_scale(family: str | None) -> tuple[list[float], list[float]]:
    """Return mean and deviation of red, green and blue for which models of a family were trained."""
    if family == "siglip":
        return IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD
    return OPENAI_CLIP_MEAN, OPENAI_CLIP_STD


def make_pixels(image: dict[str, Any], side: int) -> torch.Tensor:
    """Decode a picture, resize it to a square of 256 / 224 of the side, and crop its centre.

    As in the authors' recipe, transparent areas show the colours behind them; `decode_small` makes them white.

    Returns:
        float32 (3, side, side), 0 to 1.
    """
    whole = side * 256 // 224
    cut = (whole - side) // 2
    small = decode(image, whole, on_white=False).resize((whole, whole)).crop((cut, cut, cut + side, cut + side))
    return torch.from_numpy(np.asarray(small, np.float32).transpose(2, 0, 1) / 255)


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
