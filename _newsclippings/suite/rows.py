"""Rows as a baseline sees them: ids, outlets and vectors, and no labels. Labels are returned beside them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.config import Request
from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.facts import NAME, OUTLETS
from _newsclippings.rows import join_config
from _newsclippings.storage import cache_folder
from _newsclippings.tables import Int64s, array_of, int64s, lookup, unique_ids, values_of
from _newsclippings.text import option
from _newsclippings.vectors import Embeddings

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]

SHIPPED = {"image": "clip_image", "text": "clip_text"}  # the vectors of both sides, unless the user passes others
_SIDES = {"image": "pictures", "text": "captions"}
# (config, split) -> int64 (M,), numbers of rows; float32 (M, width), vectors of their evidence of each side
Evidence = Callable[[str, str], tuple[Int64s, Float32s, Float32s]]
EVIDENCE = ("evidence_image", "evidence_text")


class VectorsOfRows(NamedTuple):
    """The vectors of one column.

    Attributes:
        vectors: float32 (M + 1, width), each of length 1; the last one is zero, for rows without a vector.
        places: int64 (N,), the vector of each row.
    """

    vectors: Float32s
    places: Int64s


@dataclass(frozen=True)
class Rows:
    """N rows without their labels.

    Attributes:
        ids: int64 (N,), of the captions.
        image_ids: int64 (N,), of the pictures.
        outlets: int64 (N,), of the captions: a position in `OUTLETS`, -1 if unknown.
        image_outlets: int64 (N,), of the pictures.
        columns: name -> vectors: `image` and `text`, and other kinds of the authors.
    """

    ids: Int64s
    image_ids: Int64s
    outlets: Int64s
    image_outlets: Int64s
    columns: dict[str, VectorsOfRows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, which: npt.NDArray[Any]) -> "Rows":
        """Return some of the rows: a mask, or their numbers."""
        columns = {name: VectorsOfRows(each.vectors, each.places[which]) for name, each in self.columns.items()}
        sides = self.outlets[which], self.image_outlets[which]
        return Rows(self.ids[which], self.image_ids[which], *sides, columns)

    def vectors(self, name: str) -> Float32s:
        """Return the vectors of a column: float32 (N, width)."""
        column = self.columns[name]
        return column.vectors[column.places]


@dataclass(frozen=True)
class Labelled:
    """Rows of one split, and what only the trainer and `evaluate` may see.

    Attributes:
        rows: the rows.
        falsified: bool (N,), the labels.
        index: int64 (N,), the row numbers in the official file.
        config: int64 (N,), the position of the config in the list that was asked for.
        lacking: column -> how many rows have no vector.
    """

    rows: Rows
    falsified: Bools
    index: Int64s
    config: Int64s
    lacking: dict[str, int]

    def take(self, which: npt.NDArray[Any]) -> "Labelled":
        """Return some of the rows: a mask, or their numbers."""
        return Labelled(self.rows.take(which), self.falsified[which], self.index[which], self.config[which], {})


def name_columns(names: Sequence[str], vectors: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """Choose the vectors of columns.

    Args:
        names: `image`, `text`, or kinds of the authors.
        vectors: what the user passed: `image` or `text` -> location.

    Returns:
        Name -> the column of the join, and what `Request.embeddings` takes for it.
    """
    return {
        name: (f"{name}_vectors", (vectors[name], _SIDES[name])) if name in vectors else (SHIPPED.get(name, name), True)
        for name in names
    }


def load_rows(
    configs: Sequence[str],
    split: str,
    names: Sequence[str],
    vectors: Mapping[str, Any],
    data_dir: str | None,
    evidence: Evidence | None = None,
    visual_news: list[str] | None = None,
) -> Labelled:
    """Load the rows of a split of several configs, one after the other. Each vector is in memory once.

    Args:
        configs: names of the configs.
        split: name of the split.
        names: columns of vectors: `image`, `text`, or kinds of the authors.
        vectors: see `name_columns`.
        data_dir: see `Request`.
        evidence: gives the vectors of evidence by row number, in columns `EVIDENCE`; see `benchmark`.
        visual_news: see `Request`; a generated config needs it for its captions.

    Raises:
        NewsCLIPpingsError: an input is not there, or damaged.
    """
    chosen = name_columns(names, vectors)
    options: dict[str, Any] = {"images": "none", "missing": "null", "embeddings": dict(chosen.values()) or None}
    options["visual_news"] = visual_news
    requests = [Request(config, data_dir=data_dir, splits=[split], **options) for config in configs]
    joins = [join_config(request, cache_folder() / NAME)[1][split] for request in requests]
    tables = [joined.rows.table(0, len(joined.rows))[0] for joined in joins]
    keys = {key: np.concatenate([int64s(table[key]) for table in tables]) for key in ("id", "image_id")}
    outlets, image_outlets = (
        np.concatenate([_outlets(table[key]) for table in tables]) for key in ("source", "image_source")
    )
    columns = {}
    for name, (column, _) in chosen.items():
        facts = joins[0].vectors[column]
        columns[name] = _load_vectors(joins[0].embeddings[column], keys[facts.key], facts.width, facts.several)
    _check_widths(columns)
    rows = Rows(keys["id"], keys["image_id"], outlets, image_outlets, columns)
    index = np.concatenate([values_of(table["index"]).astype(np.int64) for table in tables])
    number = np.repeat(np.arange(len(configs)), [len(table) for table in tables])
    if evidence is not None:
        rows = _add_evidence(rows, [evidence(config, split) for config in configs], index, number)
    lacking = {name: int((each.places == len(each.vectors) - 1).sum()) for name, each in columns.items()}
    falsified = np.concatenate([int64s(table["falsified"]) for table in tables]) == 1
    return Labelled(rows, falsified, index, number, {name: count for name, count in lacking.items() if count})


def _check_widths(columns: Mapping[str, VectorsOfRows]) -> None:
    """Raise `ConfigError` if pictures and captions cannot be compared."""
    widths = [columns[name].vectors.shape[1] for name in _SIDES if name in columns]
    if len({*widths}) > 1:
        message = (
            f"{option('vectors')}: those of image have {widths[0]} numbers, those of text {widths[1]}, so they cannot "
            "be compared. Pass both of one model."
        )
        raise ConfigError(message)


def _outlets(column: pa.ChunkedArray) -> Int64s:
    return values_of(pc.index_in(column, value_set=array_of(OUTLETS, pa.string())), -1).astype(np.int64)


def _load_vectors(embeddings: Embeddings, keys: Int64s, width: int, several: bool) -> VectorsOfRows:
    """Load the vectors of ids, each once; of several vectors of an id their mean."""
    ids = unique_ids(keys)
    taken = embeddings.take(ids)
    known = values_of(taken.is_valid())
    vectors = np.zeros((len(ids) + 1, width), np.float32)
    if several:
        counts = np.where(known, values_of(pc.list_value_length(taken), 0), 0).astype(np.int64)
        numbers = values_of(taken.flatten().flatten()).reshape(-1, width)
        np.add.at(vectors, np.repeat(np.arange(len(ids)), counts), numbers.astype(np.float32))
        known = counts > 0
    else:
        vectors[:-1][known] = values_of(taken.flatten()).reshape(-1, width)
    places = np.searchsorted(ids, keys)
    return VectorsOfRows(normalise(vectors), np.where(known[places], places, len(ids)))


def normalise(vectors: Float32s) -> Float32s:
    """Make vectors (N, width) of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Float32s = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found


def _add_evidence(
    rows: Rows, given: Sequence[tuple[Int64s, Float32s, Float32s]], index: Int64s, config: Int64s
) -> Rows:
    """Add the vectors of evidence as columns; rows without evidence have zeros."""
    columns = {}
    for side, name in enumerate(EVIDENCE, 1):
        vectors = np.zeros((len(rows) + 1, given[0][side].shape[1]), np.float32)
        for number, parts in enumerate(given):
            of_config = np.flatnonzero(config == number)
            places = lookup(index[of_config], parts[0])
            if len(parts[0]) != len(parts[side]) or (places < 0).any():
                raise bad_file(f"evidence: {name}", "a vector for each row number of the split", "others")
            vectors[of_config[places]] = parts[side]
        columns[name] = VectorsOfRows(normalise(vectors), np.arange(len(rows)))
    return replace(rows, columns={**rows.columns, **columns})
