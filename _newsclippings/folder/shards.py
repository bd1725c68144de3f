"""The Parquet files of a split: how many there are, how a file is written, and how one of unknown origin is read.

A file that is read may come from anybody. A kilobyte of Parquet can claim billions of rows, or a row of two gigabytes.
So the sizes in its footer are compared with its manifest and with limits before anything else is read; only needed
columns are read, in batches; and texts stay as their dictionary, so that a text of many rows takes memory once.
"""

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.errors import BadFileError, NewsCLIPpingsError
from _newsclippings.folder.manifest import AGAIN, LARGEST_RATIO, ShardEntry, SplitEntry
from _newsclippings.rows import part_ranges
from _newsclippings.storage import Place, PlaceLike, open_parquet, open_place, read_unpacked_sizes, size_of
from _newsclippings.tables import Int64s, as_array, empty_table, values_of

SHARDS = 8  # a split has a multiple of 8, so that nodes and workers get equal shares
FEWEST = 100  # rows of a shard, at least; a split of fewer than 8 x 100 rows has one shard
MAX_SHARD = 450_000_000  # bytes; the Hub's guide: 500 MB
MAX_GROUP = 90_000_000  # bytes of a row group, uncompressed; the Hub's viewer: 100 MB
CHUNKING = {"min_chunk_size": 256 << 10, "max_chunk_size": 1 << 20, "norm_level": 0}  # as `datasets` writes

LARGEST_FOOTER = 8 << 20  # bytes; that of 450 MB of pictures of 10 KB has less than 2 MB
LARGEST_GROUP = 256 << 20  # bytes of a column in a row group, unpacked; the writer stops at 90 MB, or at one picture
MOST_OF_GROUP = 100_000  # rows of a row group; the writer stops at 10,000
MOST_LEAVES = 200  # columns, fields of structs counted
TEXTS = ("caption", "source", "topic", "image_source", "image_topic")
TYPES = {
    "falsified": pa.int64(),
    "source_dataset": pa.int64(),
    "similarity_score": pa.float64(),
    "id": pa.int64(),
    "image_id": pa.int64(),
    **dict.fromkeys(TEXTS, pa.dictionary(pa.int32(), pa.string())),
}
NO_NULLS = ("id", "image_id", "falsified", "similarity_score")

Tables = Iterator[tuple[int, pa.Table]]


def plan_shards(sizes: Int64s) -> list[tuple[int, int]]:
    """Ranges of rows, one per file: one file, or the smallest multiple of eight whose files are small enough.

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


def allow_null_vectors(schema: pa.Schema, splits: Iterable[SplitEntry]) -> pa.Schema:
    """A schema in which columns of vectors with nulls are lists of any length.

    A null among lists of a fixed length can neither be written to Parquet nor read by pyarrow before version 26. The
    length stays in the features that `datasets` reads from the files and the card, and restores on loading.

    Args:
        schema: of the rows.
        splits: the counts of each split.
    """
    lacking = {
        name
        for split in splits
        if split.report is not None
        for name, count in split.report.coverage.items()
        if count < split.rows
    }
    for k, column in enumerate(schema):
        if column.name in lacking and pa.types.is_fixed_size_list(column.type):
            schema = schema.set(k, column.with_type(pa.list_(column.type.value_field)))
    return schema


def write_shard(
    file: str | os.PathLike[str], tables: Tables, schema: pa.Schema, progress: Callable[[int], Any]
) -> None:
    """Write tables to a Parquet file, each as a row group, or as several if it is large.

    Pictures and vectors are stored as they are, the rest is compressed. Pages have an index, and chunks that depend on
    the content (with pyarrow 21 or later), so that the Hub stores only what changed.

    Args:
        file: to write to.
        tables: rows, with the number of the first of each table.
        schema: of the file.
        progress: called with the number of rows of each table that was written.
    """
    plain, packed = _split_leaves(schema)
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
        if chunked:  # the Hub looks for this
            writer.add_key_value_metadata({"content_defined_chunking": json.dumps(CHUNKING)})
        for _, table in tables:
            fit = len(table) * MAX_GROUP // max(1, table.nbytes)
            group = max(1, min(len(table), fit))
            for k, column in enumerate(schema):
                if pa.types.is_list(column.type) and pa.types.is_fixed_size_list(table.schema[k].type):
                    table = table.set_column(k, column.name, _as_lists(table[k]))
            writer.write_table(table.cast(schema), row_group_size=group)
            progress(len(table))


def describe_shard(file: Place, config: str, split: str, sha256: str) -> ShardEntry:
    """Describe a file that was written, for the manifest."""
    footer = pq.read_metadata(open_parquet(file))
    plain = sum(footer.row_group(k).total_byte_size for k in range(footer.num_row_groups))
    return ShardEntry(config, file.name, split, footer.num_rows, size_of(file), plain, sha256)


def _as_lists(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Lists of a fixed length as lists of any. A cast keeps the values of nulls, which older pyarrow does not write."""
    lists = []
    for chunk in column.chunks:
        valid = values_of(chunk.is_valid())
        ends = np.append(0, np.cumsum(valid * chunk.type.list_size)).astype(np.int32)
        lists.append(pa.ListArray.from_arrays(as_array(ends), chunk.drop_null().flatten(), mask=as_array(~valid)))
    return pa.chunked_array(lists)


def _split_leaves(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Paths of the columns of a Parquet file that do not compress (pictures, vectors), and of the others."""
    sink = pa.BufferOutputStream()
    pq.write_table(empty_table(schema), sink)
    columns = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    leaves = [columns.column(k) for k in range(len(columns))]
    plain = [leaf.path for leaf in leaves if leaf.path == "image.bytes" or leaf.physical_type == "FLOAT"]
    return plain, [leaf.path for leaf in leaves if leaf.path not in plain]


def check_shard(file: Place, shard: ShardEntry, features: Iterable[str], opened: str) -> None:
    """Raise `BadFileError` if the footer of a file differs from its manifest: columns, rows or sizes.

    Args:
        file: its name, for errors.
        shard: its entry in the manifest.
        features: the columns in the manifest.
        opened: the path to read, which may be that of an open descriptor.
    """
    with _open_shard(file, opened, shard, features, [], ()):
        pass


def read_shard(
    file: Place,
    shard: ShardEntry,
    features: Iterable[str],
    columns: list[str],
    rows: int,
    wanted: Int64s | None = None,
) -> Generator[pa.RecordBatch, None, None]:
    """Read columns of a file in batches.

    Args:
        file: the file.
        shard: its entry in the manifest.
        features: the columns in the manifest.
        columns: to read. Texts come as dictionaries; of the column `image`, ask for `image.bytes`.
        rows: of a batch, at most.
        wanted: numbers of the rows to read, in order; only their row groups are read. None: all.

    Raises:
        BadFileError: it differs from its manifest, or cannot be read.
        DataNotFoundError: it is missing.
    """
    texts = [name for name in (*TEXTS, "image.bytes") if name in columns]
    with _open_shard(file, file, shard, features, columns, texts) as parquet:
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)
        parts = [[*range(len(sizes))]]  # row groups that are read together
        if wanted is not None:
            parts = [[group] for group in np.unique(np.searchsorted(ends, wanted, side="right")).tolist()]
        for groups in filter(None, parts):  # pyarrow 19 refuses to read a file of no rows
            start, expected = int(ends[groups[0]]) - sizes[groups[0]], sum(sizes[group] for group in groups)
            # One thread: a thread takes address space, and one that cannot be started ends the process
            for batch in parquet.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
                for name in batch.schema.names:
                    if name in NO_NULLS and batch.column(name).null_count:
                        raise _odd(f"{name} is null")
                start, first, expected = start + len(batch), start, expected - len(batch)
                if wanted is None:
                    yield batch
                elif len(inside := wanted[(wanted >= first) & (wanted < start)]):
                    yield batch.take(as_array(inside - first))
            if expected:
                raise _odd(f"{shard.rows - expected:,} rows, where its footer says {shard.rows:,}")


@contextlib.contextmanager
def _open_shard(
    file: Place,
    opened: PlaceLike,
    shard: ShardEntry,
    features: Iterable[str],
    columns: list[str],
    dictionaries: Iterable[str],
) -> Iterator[pq.ParquetFile]:
    try:
        _check_sizes(opened, shard.bytes)
        with pq.ParquetFile(
            open_parquet(opened),
            pre_buffer=False,  # else the whole file is read to memory
            read_dictionary=list(dictionaries),
            thrift_string_size_limit=LARGEST_FOOTER,
            thrift_container_size_limit=MOST_OF_GROUP,
        ) as parquet:
            _check_footer(parquet, shard, list(features), columns)
            yield parquet
    except NewsCLIPpingsError:
        raise
    except (pa.ArrowException, ArithmeticError, LookupError, MemoryError, OSError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        message = f"{file}: cannot be read as Parquet that `newsclippings build` wrote ({why}). {AGAIN}"
        raise BadFileError(message) from error


def _check_sizes(opened: PlaceLike, size: int) -> None:
    """Compare the size of the file, and the sizes in its footer, before Arrow reads it.

    Arrow allocates as much memory as they claim, and its accessors of single columns abort the process on damaged ones.
    """
    with open_place(opened) as file:
        if file.size != size:
            raise _odd(f"{file.size:,} bytes, where its manifest says {size:,}")
    for sizes in read_unpacked_sizes(opened, LARGEST_FOOTER):
        if max(sizes, default=0) > LARGEST_GROUP:
            raise _odd(f"a column of {max(sizes):,} bytes in one row group")


def _check_footer(parquet: pq.ParquetFile, shard: ShardEntry, features: list[str], columns: list[str]) -> None:
    footer, schema = parquet.metadata, parquet.schema_arrow
    if footer.num_columns > MOST_LEAVES or schema.names != features:
        names = ", ".join(schema.names[:30])
        raise _odd(f"the columns {names[:200]}")
    for name in (name for name in columns if name in TYPES):
        if schema.field(name).type != TYPES[name]:
            raise _odd(f"the column {name} of type {str(schema.field(name).type)[:60]}")
    if "image.bytes" in columns:
        image = pa.struct([("bytes", pa.dictionary(pa.int32(), pa.binary())), ("path", pa.string())])
        if schema.field("image").type != image:
            raise _odd(f"the column image of type {str(schema.field('image').type)[:60]}")
    if footer.num_rows != shard.rows:
        raise _odd(f"{footer.num_rows:,} rows, where its manifest says {shard.rows:,}")
    rows = plain = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        rows, plain = rows + group.num_rows, plain + group.total_byte_size
        if not 0 <= group.num_rows <= MOST_OF_GROUP:
            raise _odd(f"{group.num_rows:,} rows in one row group")
    if rows != shard.rows or plain > LARGEST_RATIO * shard.bytes:
        raise _odd(f"{rows:,} rows of {plain:,} bytes in its row groups")


def _odd(what: str) -> ValueError:
    return ValueError(f"it has {what}")
