"""Batches of tensors, made of rows."""

from typing import Any

import numpy as np
import torch

from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.facts import EMBEDDINGS
from _newsclippings.pictures import decode
from _newsclippings.train.data import FACTS, Row
from _newsclippings.train.options import FEATURES, Options

Batch = dict[str, Any]


class Collator:
    """Makes a batch of rows: tensors, and the facts of each row."""

    def __init__(self, options: Options, tokenizer: Any, side: int, tokens: int) -> None:
        """Of captions and pictures, or of vectors.

        Args:
            options: which vectors.
            tokenizer: of the model; None for features.
            side: of a picture that the model takes, in pixels.
            tokens: of a caption.
        """
        self.options, self.tokenizer, self.side, self.tokens = options, tokenizer, side, tokens

    def __call__(self, rows: list[Row]) -> Batch:
        """`labels` (B,), `facts`, and `input_ids`, `attention_mask`, `pixel_values` or `vectors`."""
        batch: Batch = {"labels": torch.tensor([row["falsified"] for row in rows])}
        batch["facts"] = [{name: row[name] for name in FACTS} for row in rows]
        if self.options.features:
            batch["vectors"] = torch.stack([vectors_of(row, self.options) for row in rows])
            return batch
        captions = [row["caption"] for row in rows]
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        )
        batch["input_ids"] = tokens["input_ids"]
        if "attention_mask" in tokens:
            batch["attention_mask"] = tokens["attention_mask"]
        batch["pixel_values"] = torch.stack([self._pixels(row) for row in rows])
        return batch

    def _pixels(self, row: Row) -> torch.Tensor:
        try:
            return pixels(row["image"], self.side)
        except NewsCLIPpingsError as error:
            do = "Pass --check_images --missing drop_pair, or build with check_images=True and missing='drop_pair'."
            raise ValueError(f"row {row['index']}, image_id {row['image_id']}: {error} {do}") from error


def pixels(image: dict[str, Any], side: int) -> torch.Tensor:
    """float32 (3, side, side), 0 to 1: resized to 256 / 224 of the side, whatever its shape, then cropped.

    As in the authors' recipe, what is transparent shows the colours behind it; `decode_small` makes it white.
    """
    whole = side * 256 // 224
    cut = (whole - side) // 2
    small = decode(image, whole, on_white=False).resize((whole, whole)).crop((cut, cut, cut + side, cut + side))
    return torch.from_numpy(np.asarray(small, np.float32).transpose(2, 0, 1) / 255)


def vectors_of(row: Row, options: Options) -> torch.Tensor:
    """float32 (width,): the row's vectors, each L2-normalised, zero where there is none; the mean of several faces."""
    found = {}
    for kind in FEATURES[options.features or "all"]:
        width = EMBEDDINGS[kind].width
        value = torch.tensor(row[kind] if row[kind] is not None else [], dtype=torch.float32).reshape(-1, width)
        mean = value.mean(0) if len(value) else torch.zeros(width)
        found[kind] = torch.nn.functional.normalize(mean, dim=-1)
    parts = list(found.values())
    if options.products:
        image, text = found["clip_image"], found["clip_text"]
        parts += [image * text, (image - text).abs()]
    return torch.cat(parts)
