"""The captions of a corpus, and all that rules, splits and files need to know of them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.corpus import SCHEMA, Corpus, hash_records, read_own_table
from _newsclippings.errors import ConfigError
from _newsclippings.generate.entity_files import EntityTable, entities_of
from _newsclippings.inputs import Inputs, is_table
from _newsclippings.pictures import PictureSources
from _newsclippings.tables import Int32s, Int64s, array_of, as_array, int64s, lookup, one_chunk, values_of

Bools = npt.NDArray[np.bool_]
_OWN = ("article", "time", "has_person")  # columns of a table of one's own that are no texts to compare


@dataclass(frozen=True)
class Records:
    """The captions of a corpus, sorted by id.

    Attributes:
        table: Arrow table of `corpus.SCHEMA`.
        articles: string (N,), what names the article; "" if it is unknown.
        times: float64 (N,), in seconds; NaN if it is unknown; None if it is of all.
        has_person: bool (N,), whether there surely is a person in the picture; None if nothing is known of any.
        columns: name -> string (N,), which rules may name; "" or null is unknown.
        splits: official split -> positions, int64, in ascending order; None without official splits.
        entities: those of the authors' metadata, if these were read.
    """

    table: pa.Table
    articles: pa.Array
    times: npt.NDArray[np.float64] | None = None
    has_person: Bools | None = None
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    splits: Mapping[str, Int64s] | None = None
    entities: EntityTable | None = None

    def __len__(self) -> int:
        return len(self.table)

    @property
    def ids(self) -> Int64s:
        """The ids, int64 (N,)."""
        return int64s(self.table["id"])

    def texts(self, name: str) -> pa.Array:
        """Return a column of `corpus.SCHEMA`."""
        return one_chunk(self.table[name])

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that rules may name; `outlet` and `source` are one."""
        return ("topic", "source", "outlet", "article", *self.columns)

    def column(self, name: str) -> pa.Array:
        """Return a column that rules may name, or one of `corpus.SCHEMA`."""
        if name in self.columns:
            return self.columns[name]
        return self.articles if name == "article" else self.texts("source" if name == "outlet" else name)

    def codes(self) -> dict[str, Int32s]:
        """Number the values of the columns that rules may name: int32 (N,), -1 for unknown."""
        return {name: number_texts(self.column(name)) for name in self.names}

    def digest(self) -> str:
        """Return the SHA-256 of everything here but the entities."""
        digest = hashlib.sha256(hash_records(self.table).encode())
        for column in (self.articles, *self.columns.values()):
            for start in range(0, len(column), 1 << 14):
                digest.update(json.dumps(column.slice(start, 1 << 14).to_pylist()).encode("utf-8", "surrogatepass"))
        for values in (self.times, self.has_person, *(self.splits or {}).values()):
            digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        digest.update(json.dumps([[*self.columns], [*(self.splits or {})]]).encode())
        return digest.hexdigest()

    def hash_used(self, ids: Int64s) -> str:
        """Return the SHA-256 of the records with some ids; see `corpus.hash_records`."""
        return hash_records(self.table.take(as_array(lookup(self.ids, np.unique(ids)))).combine_chunks())


def number_texts(column: pa.Array) -> Int32s:
    """Number texts: int32 (N,), -1 for "" and null."""
    encoded: Any = pc.dictionary_encode(column)
    codes = values_of(encoded.indices, -1).astype(np.int32)
    empty = encoded.dictionary.index(pa_text("")).as_py() if len(encoded.dictionary) else -1
    return np.where(codes == empty, np.int32(-1), codes) if empty >= 0 else codes


def pa_text(text: str) -> pa.Scalar:
    """Return a text as a scalar of Arrow."""
    return array_of([text], pa.string())[0]


def read_records(inputs: Inputs, cache: Path, own: bool, official: bool) -> Records:
    """Read all captions of a corpus.

    Args:
        inputs: where it is.
        cache: folder for indexes of tars and copies of remote files.
        own: whether it is the user's own. Else the authors' metadata name the articles, times, persons and entities.
        official: whether captions are divided into the official splits, so that others are left out.

    Raises:
        NewsCLIPpingsError: an input is not there or malformed.
    """
    if inputs.data_json is not None and is_table(inputs.data_json):
        return _of_table(read_own_table(inputs.data_json, None))
    sources = PictureSources(inputs, cache, kept=False, whole=False)
    corpus = Corpus(inputs, sources.archives, False, metadata=True, articles=True, cache=cache)
    every = corpus.read_all() if corpus.data_json is not None else None
    if own and every is not None:
        return Records(every.select(SCHEMA.names), one_chunk(every["article_path"]))
    parts = {split: corpus.read_metadata(split, None) for split in inputs.metadata}
    ids = np.concatenate([int64s(table["id"]) for table in parts.values()])
    known, first = np.unique(ids, return_index=True)
    if len(known) < len(ids):
        message = "The authors' metadata have an id in two splits. Fetch the files again."
        raise ConfigError(message)
    columns = ["metadata", *SCHEMA.names]
    metadata = pa.concat_tables([table.select(columns).replace_schema_metadata() for table in parts.values()])
    metadata = metadata.take(as_array(first)).combine_chunks()
    if every is None:
        records, about = metadata.select(SCHEMA.names), np.arange(len(known), dtype=np.int32)
    else:
        records = every.select(SCHEMA.names)
        about = lookup(known, int64s(records["id"]))
        if official:
            records, about = records.take(as_array(np.flatnonzero(about >= 0))), about[about >= 0]
    return _with_metadata(records, every, metadata, about, parts if official else None)


def _with_metadata(
    records: pa.Table, every: pa.Table | None, metadata: pa.Table, about: Int32s, parts: Mapping[str, pa.Table] | None
) -> Records:
    """Add what the metadata say of records.

    Args:
        records: of all captions.
        every: records with `article_path`; None without data.json.
        metadata: the metadata, sorted by id.
        about: int32 (N,), the row of each caption in them; -1 for none.
        parts: split -> its metadata, for official splits.
    """
    struct = metadata["metadata"].combine_chunks()
    struct = struct if isinstance(struct, pa.Array) else pa.concat_arrays(struct.chunks)
    rows = as_array(about, about < 0)
    ids = int64s(records["id"])
    articles = struct.field("full_article_path").take(rows)
    if every is not None:
        own = one_chunk(every["article_path"]).take(as_array(lookup(int64s(every["id"]), ids)))
        articles = pc.coalesce(articles, own)
    seconds = struct.field("timestamp").cast(pa.int64()).take(rows)
    persons = struct.field("image_has_person").take(rows)
    return Records(
        records.combine_chunks(),
        pc.coalesce(articles, array_of([""] * len(ids), pa.string())),
        values_of(seconds, np.nan).astype(np.float64),
        values_of(persons, 0).astype(bool),
        splits=None if parts is None else {s: _places(ids, int64s(table["id"])) for s, table in parts.items()},
        entities=EntityTable(int64s(metadata["id"]), entities_of(metadata)),
    )


def _places(ids: Int64s, some: Int64s) -> Int64s:
    places = np.sort(lookup(ids, some))
    return places[places >= 0].astype(np.int64)


def _of_table(table: pa.Table) -> Records:
    times, persons = (one_number_chunk(table[name]) for name in ("time", "has_person"))
    others = [name for name in table.column_names if name not in (*SCHEMA.names, *_OWN)]
    return Records(
        table.select(SCHEMA.names),
        one_chunk(table["article"]),
        None if times.null_count == len(times) else values_of(times, np.nan),
        None if persons.null_count == len(persons) else values_of(persons, 0).astype(bool),
        {name: one_chunk(table[name]) for name in others},
    )


def one_number_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
