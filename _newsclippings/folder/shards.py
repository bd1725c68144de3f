"""The Parquet files of a split: how many there are, which rows are in each, and how one is written."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.facts import EMBEDDINGS
from _newsclippings.pictures import Pictures
from _newsclippings.rows import JoinedSplit, part_ranges
from _newsclippings.tables import Int32s, Int64s, as_array, empty_table, int64s, lookup, values_of

SHARDS = 8  # their number is a multiple of it, so that nodes and workers get equal shares,
FEWEST = 100  # where each then has at least so many rows
MAX_SHARD = 450_000_000  # bytes; the Hub's guide: 500 MB
MAX_GROUP = 90_000_000  # bytes of a row group, uncompressed; the Hub's viewer: 100 MB
CHUNKING = {"min_chunk_size": 256 << 10, "max_chunk_size": 1 << 20, "norm_level": 0}  # as `datasets` writes

Tables = Iterator[tuple[int, pa.Table]]


@dataclass(frozen=True)
class Rows:
    """What is written of a split.

    Attributes:
        sizes: int64 (N,), bytes that each row takes at most, about; those of pictures are exact.
        least: int64 (N,), bytes that each takes on the disk, at least: pictures and vectors as they are, and a tenth of
            the texts, which are compressed to a sixth or less.
        batch: rows of a row group.
        tables: makes tables of up to `batch` rows of a range of the N rows.
        facts: of the rows that come out, for the manifest: `rows`, `ids_sha256` and more.
    """

    sizes: Int64s
    least: Int64s
    batch: int
    tables: Callable[[tuple[int, int]], Tables]
    facts: dict[str, Any]


def rows_of(split: JoinedSplit) -> Rows:
    """The rows of a joined split."""
    rows, report, batch = split.rows, split.report, split.rows_of_table("parquet")
    matches = rows.matches.filter(as_array(rows.keep))
    ids, images = int64s(matches["id"]), int64s(matches["image_id"])
    falsified = int(values_of(matches["falsified"]).sum())
    facts = {
        "rows": len(matches),
        "pristine": len(matches) - falsified,
        "falsified": falsified,
        "ids_sha256": ids_digest(ids, images),
        "report": report.as_dict(),
    }
    return Rows(*_sizes(split), batch, lambda one: split.tables([one], batch, ahead=True), facts)


class IdsDigest:
    """SHA-256 of ids, row by row, as little-endian int64; some rows after the other."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, *columns: Int64s) -> None:
        """Add the ids of some rows, column by column."""
        self._digest.update(np.stack(columns, axis=1).astype("<i8").tobytes())

    def hexdigest(self) -> str:
        """Of all that was added."""
        return self._digest.hexdigest()


def ids_digest(*columns: Int64s) -> str:
    """SHA-256 of the ids of all rows, see `IdsDigest`."""
    digest = IdsDigest()
    digest.add(*columns)
    return digest.hexdigest()


def bytes_of(split: JoinedSplit) -> int:
    """Bytes that the rows of a split take, about."""
    return int(_sizes(split)[0].sum())


def bytes_of_pictures(split: JoinedSplit) -> int:
    """Bytes that the pictures in the rows of a split take, at least."""
    if split.pictures is None or split.images == "path":
        return 0
    return int(file_sizes(split.pictures, split.rows.image_row)[split.rows.keep].sum())


def _sizes(split: JoinedSplit) -> tuple[Int64s, Int64s]:
    """`sizes` and `least`, see `Rows`."""
    rows = split.rows
    each = 40 + rows.matches.nbytes // max(1, len(rows.matches)) + 2 * rows.corpus.nbytes // max(1, len(rows.corpus))
    if split.metadata is not None:
        each += 2 * split.metadata.nbytes // max(1, len(split.metadata))
    texts = np.full(len(rows.matches), each, np.int64)
    others, nulls = np.zeros((2, len(texts)), np.int64)
    if split.articles is not None:
        texts += file_sizes(split.articles, rows.caption_row)
    if split.pictures is not None and split.images != "path":
        others += file_sizes(split.pictures, rows.image_row)
    for kind, vectors in split.embeddings.items():
        there = lookup(vectors.ids, int64s(rows.matches[EMBEDDINGS[kind].key])) >= 0
        others, nulls = others + vectors.bytes_each * there, nulls + vectors.bytes_each * ~there
    return np.where(rows.keep, texts + others + nulls, 0), np.where(rows.keep, texts // 10 + others, 0)


def file_sizes(files: Pictures, records: Int32s) -> Int64s:
    """Bytes of the files of some records, 0 where there is none."""
    return np.append(np.where(files.present, files.sizes, 0), 0)[records]


def plan_shards(sizes: Int64s) -> list[tuple[int, int]]:
    """Ranges of rows, one per file: as few files as are small enough, or the least such multiple of eight.

    Args:
        sizes: int64 (rows,), bytes of each row.
    """
    rows, ends = len(sizes), np.append(0, np.cumsum(sizes))
    count = SHARDS if rows >= SHARDS * FEWEST else 1
    while True:
        ranges = [part_ranges(rows, [(part, count)])[0] for part in range(count)]
        largest = max(int(ends[stop] - ends[start]) for start, stop in ranges)
        if largest <= MAX_SHARD or 2 * count >= rows:
            return ranges
        count = count + SHARDS if count >= SHARDS else SHARDS


def nullable_vectors(schema: pa.Schema, facts: Iterable[Mapping[str, Any]]) -> pa.Schema:
    """The schema of files in which some rows have no vector: such vectors are lists of any length there.

    A null among lists of a fixed length can neither be written to Parquet nor read by pyarrow before version 26. The
    length stays in the features that `datasets` finds in the files and on the card, and gives it back on loading.

    Args:
        schema: of the rows.
        facts: of each split, see `Rows`.
    """
    reports = [(one["rows"], one.get("report", {}).get("coverage", {})) for one in facts]
    lacking = {name for rows, coverage in reports for name, count in coverage.items() if count < rows}
    for k, field in enumerate(schema):
        if field.name in lacking and pa.types.is_fixed_size_list(field.type):
            schema = schema.set(k, field.with_type(pa.list_(field.type.value_field)))
    return schema


def _as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of a fixed length as lists of any. A cast keeps the room of nulls, which older pyarrow does not write."""
    lists = []
    for chunk in column.chunks:
        valid = values_of(chunk.is_valid())
        ends = np.append(0, np.cumsum(valid * chunk.type.list_size)).astype(np.int32)
        lists.append(pa.ListArray.from_arrays(as_array(ends), chunk.drop_null().flatten(), mask=as_array(~valid)))
    return pa.chunked_array(lists)


def write_shard(
    file: str | os.PathLike[str], tables: Tables, schema: pa.Schema, progress: Callable[[int], Any]
) -> None:
    """Write tables to a Parquet file, each as a row group, or as several if it is large.

    Pictures and vectors are stored as they are, the rest is compressed. Pages have an index, and chunks that depend on
    the content (with pyarrow 21 or later), so that the Hub stores what did not change only once.

    Args:
        file: to write to.
        tables: rows, with the number of the first of each table.
        schema: of the file.
        progress: told how many rows were written.
    """
    plain, packed = _leaves(schema)
    options: dict[str, Any] = {
        "compression": dict.fromkeys(plain, "NONE") | dict.fromkeys(packed, "ZSTD"),
        "use_dictionary": packed,
        "write_statistics": packed,
        "write_page_index": True,
    }
    chunked = int(pa.__version__.partition(".")[0]) >= 21
    if chunked:
        options["use_content_defined_chunking"] = CHUNKING
    # An open file: a relative name with a colon is a URI to pyarrow
    with pa.OSFile(os.fspath(file), "wb") as sink, pq.ParquetWriter(sink, schema, **options) as writer:
        if chunked:  # by this the Hub knows
            writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
        for _, table in tables:
            fit = len(table) * MAX_GROUP // max(1, table.nbytes)
            group = max(1, min(len(table), fit))
            for k, field in enumerate(schema):
                if pa.types.is_list(field.type) and pa.types.is_fixed_size_list(table.schema[k].type):
                    table = table.set_column(k, field.name, _as_lists(table[k]))
            writer.write_table(table.cast(schema), row_group_size=group)
            progress(len(table))


def _leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Paths of the columns of a Parquet file that do not compress (pictures, vectors), and of the others."""
    sink = pa.BufferOutputStream()
    pq.write_table(empty_table(schema), sink)
    columns = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    leaves = [columns.column(k) for k in range(len(columns))]
    plain = [leaf.path for leaf in leaves if leaf.path == "image.bytes" or leaf.physical_type == "FLOAT"]
    return plain, [leaf.path for leaf in leaves if leaf.path not in plain]
