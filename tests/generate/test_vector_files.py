"""Vectors by name: one file or several, their digest, and ids with several vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.generating import write_parts

from _newsclippings.config import Request
from _newsclippings.generate.vector_files import NamedVectors, open_vectors, parse_named
from _newsclippings.inputs import find_inputs
from newsclippings import ConfigError

IDS = np.array([3, 5, 9, 12], np.int64)
PLAN: dict[str, Any] = {"width": 2, "dtype": "float32", "normalised": False, "encoder": {"model": "t"}}


def opened(folder: Path, vectors: Any, **plan: Any) -> NamedVectors:
    place = write_parts(folder, IDS, {"vector": vectors}, {"of": "pictures", "several": False, **PLAN, **plan})
    inputs = find_inputs(Request(embeddings={"mine": str(place)}))
    return open_vectors(["v"], {"v": place}, inputs, folder / "cache", {"v": "m"})["v"]


def test_several_vectors_of_an_id(tmp_path: Path) -> None:
    """Of pictures with several faces it is unknown whom the caption names: those with exactly one count."""
    kind = pa.list_(pa.list_(pa.float32(), 2))
    faces = pa.array([[[3.0, 4.0]], [], [[1.0, 0.0], [0.0, 1.0]], [[0.0, 2.0]]], kind)
    vectors = opened(tmp_path / "f", faces, several=True)
    assert vectors.ids.tolist() == [3, 12]
    assert vectors.take(vectors.ids).tolist() == [[np.float32(0.6), np.float32(0.8)], [0.0, 1.0]]


def test_the_digest_is_of_the_numbers(tmp_path: Path) -> None:
    """It does not depend on the form of the files, only on ids, numbers and sides."""
    numbers = np.array([[3, 4], [1, 0], [0, 1], [5, 12]], np.float32)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), 2)
    folder = opened(tmp_path / "f", flat)
    np.save(tmp_path / "v.npy", numbers[::-1])
    np.save(tmp_path / "v.ids.npy", IDS[::-1])
    place = (str(tmp_path / "v.npy"), "pictures")
    inputs = find_inputs(Request(embeddings={"mine": place}))
    other = open_vectors(["v"], {"v": place}, inputs, tmp_path / "cache", {"v": "m"})["v"]
    assert other.digest() == folder.digest()
    captions = open_vectors(["v"], {"v": (place[0], "captions")}, inputs, tmp_path / "cache", {"v": "m"})["v"]
    assert captions.digest() != folder.digest()
    assert opened(tmp_path / "g", flat, normalised=True).digest() == folder.digest()


def test_wrong_vectors(tmp_path: Path) -> None:
    """A name without vectors, a zero vector, a place that is none."""
    inputs = find_inputs(Request(embeddings=["clip_text"]))
    with pytest.raises(ConfigError, match=r"method near needs vectors 'clip_txt', .* Did you mean 'clip_text'\?"):
        open_vectors(["clip_txt"], {}, inputs, tmp_path, {"clip_txt": "near"})
    for wrong in ({"x": True}, {"x": 7}, {"x": ("a", "b", "c")}):
        with pytest.raises(ConfigError, match="x"):
            parse_named(wrong)
    zero = pa.FixedSizeListArray.from_arrays(pa.array(np.array([3, 4, 0, 0, 0, 1, 5, 12], np.float32)), 2)
    vectors = opened(tmp_path / "f", zero)
    with pytest.raises(ConfigError, match="the vector of id 5 is zero"):
        vectors.take(vectors.ids)
