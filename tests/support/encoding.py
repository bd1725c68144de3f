"""Encoders that need no model, and an independent way to make the same vectors."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from PIL import Image

from newsclippings import Encoder
from support.world import SPLITS, World

Floats = npt.NDArray[np.float32]
WIDTH = 12


def picture_vector(picture: Image.Image) -> Floats:
    """Means of a 2 x 2 grid in three colours, moved away from zero."""
    small = np.asarray(picture.resize((2, 2), Image.Resampling.BOX), np.float32)
    vector: Floats = small.reshape(-1) / np.float32(255) + np.float32(0.01)
    return vector


def caption_vector(caption: str) -> Floats:
    digest = np.frombuffer(hashlib.sha256(caption.encode()).digest()[:WIDTH], np.uint8)
    return digest.astype(np.float32) + 1


def encoder(of: str = "pictures", **changes: Any) -> Encoder:
    """An encoder of pictures or captions in batches of 5; `changes` replaces its fields."""
    prepare: Callable[[Any], Any] = picture_vector if of == "pictures" else caption_vector
    fields: dict[str, Any] = {"of": of, "width": WIDTH, "facts": {"model": "plain"}, "prepare": prepare}
    return Encoder(**{**fields, "encode": np.stack, "batch": 5, **changes})


def faces(**changes: Any) -> Encoder:
    """As many vectors as the picture's first value says: 0, 1 or 2."""

    def encode(batch: list[Floats]) -> list[Floats]:
        return [np.repeat(vector[None], count_of(vector), axis=0) for vector in batch]

    return encoder(encode=encode, several=True, **changes)


def count_of(vector: Floats) -> int:
    return int(vector[0] * 255) % 3


def wanted(world: World, of: str = "pictures", config: str = "merged_balanced") -> dict[int, Any]:
    """The path or caption of each distinct id of a config, by the plan of the world."""
    key = "image_id" if of == "pictures" else "id"
    ids = {row[key] for split in SPLITS for row in world.rows(config, split)}
    field = "image_path" if of == "pictures" else "caption"
    return {number: getattr(world.records[number], field) for number in sorted(ids)}


def vectors_of(world: World, of: str = "pictures") -> dict[int, Floats]:
    """The vectors, one at a time, by a loop that knows nothing of the package."""
    if of == "captions":
        return {number: caption_vector(caption) for number, caption in wanted(world, of).items()}
    opened = {n: Image.open(io.BytesIO(world.pictures[path])) for n, path in wanted(world, of).items()}
    return {number: picture_vector(picture.convert("RGB")) for number, picture in opened.items()}


def read_folder(folder: Path) -> dict[int, Any]:
    """id -> vector, or list of vectors, of all parts, by pyarrow alone."""
    found: dict[int, Any] = {}
    for part in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(part)
        ids = table["id"].to_pylist()
        assert ids == sorted(set(ids) - set(found))
        found |= dict(zip(ids, table["vector"].to_pylist(), strict=True))
    return found


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}
