"""Reading a Parquet file of a built folder, which may come from anybody: what it says of itself are bounds, not facts.

A kilobyte of Parquet can say that it has billions of rows, or one row of two gigabytes. So the sizes in its footer are
compared with its manifest and with limits before anything else is read; only needed columns are read, some rows at a
time; and texts stay as their dictionary, so that one that many rows have takes memory once.
"""

import contextlib
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.errors import BadFileError, NewsCLIPpingsError
from _newsclippings.folder.manifest_rules import AGAIN, PACKED
from _newsclippings.storage import LocalFile, unpacked_sizes

LARGEST_FOOTER = 8 << 20  # bytes; of 450 MB of pictures of 10 KB it has less than 2 MB
LARGEST_GROUP = 256 << 20  # bytes of a column in a row group, unpacked; the writer's limit is 90 MB, or one picture
MOST_OF_GROUP = 100_000  # rows of a row group; the writer's limit is 10,000
MOST_LEAVES = 200  # columns, those within structs counted
FIELDS = {"falsified": pa.int64(), "source_dataset": pa.int64(), "similarity_score": pa.float64()}
FIELDS |= dict.fromkeys(("id", "image_id"), pa.int64())
TEXTS = ("caption", "source", "topic", "image_source", "image_topic")
FIELDS |= dict.fromkeys(TEXTS, pa.dictionary(pa.int32(), pa.string()))
NO_NULLS = ("id", "image_id", "falsified", "similarity_score")


def check_shard(file: Path, about: Mapping[str, Any], features: Iterable[str], place: str | None = None) -> None:
    """Raise `BadFileError` if the footer of a file does not say what its manifest says: columns, rows and sizes.

    Args:
        file: its name, for errors.
        about: its entry in the manifest.
        features: the columns in the manifest.
        place: a path to open, if it is another one.
    """
    with _opened(file, place or os.fspath(file), about, features, [], ()):
        pass


def read_shard(
    file: Path, about: Mapping[str, Any], features: Iterable[str], columns: list[str], rows: int
) -> Generator[pa.RecordBatch, None, None]:
    """Some columns, up to so many rows at a time. Texts come as dictionaries; of `image`, ask for `image.bytes`.

    Raises:
        BadFileError: it is not what the manifest says, or cannot be read.
        DataNotFoundError: it is not there.
    """
    texts = [name for name in (*TEXTS, "image.bytes") if name in columns]
    read = 0
    with _opened(file, os.fspath(file), about, features, columns, texts) as parquet:
        # One thread: a thread takes address space, and one that cannot be started ends the process
        batches = parquet.iter_batches(batch_size=rows, columns=columns, use_threads=False)
        for batch in batches if parquet.num_row_groups else ():  # pyarrow 19 refuses to read a file of no rows
            for name in batch.schema.names:
                if name in NO_NULLS and batch.column(name).null_count:
                    raise _odd(f"{name} is null")
            read += len(batch)
            yield batch
        if read != about["rows"]:
            raise _odd(f"{read:,} rows, where its footer says {about['rows']:,}")


@contextlib.contextmanager
def _opened(
    file: Path,
    place: str,
    about: Mapping[str, Any],
    features: Iterable[str],
    columns: list[str],
    dictionaries: Iterable[str],
) -> Iterator[pq.ParquetFile]:
    try:
        _check_sizes(place, about["bytes"])
        with pq.ParquetFile(
            os.path.abspath(place),  # a relative name with a colon is a URI to pyarrow
            pre_buffer=False,  # with it, the whole file comes to memory
            read_dictionary=list(dictionaries),
            thrift_string_size_limit=LARGEST_FOOTER,
            thrift_container_size_limit=MOST_OF_GROUP,
        ) as parquet:
            _check_footer(parquet, about, list(features), columns)
            yield parquet
    except NewsCLIPpingsError:
        raise
    except (pa.ArrowException, ArithmeticError, LookupError, MemoryError, OSError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        message = f"{file}: cannot be read as Parquet that `newsclippings build` wrote ({why}). {AGAIN}"
        raise BadFileError(message) from error


def _check_sizes(place: str, size: int) -> None:
    """Look at the sizes in the footer before Arrow does.

    Arrow takes as much memory as they say, and its accessors of single columns abort the process on damaged ones.
    """
    with LocalFile(place) as opened:
        found = opened.size
    if found != size:
        raise _odd(f"{found:,} bytes, where its manifest says {size:,}")
    for sizes in unpacked_sizes(place, LARGEST_FOOTER):
        if max(sizes, default=0) > LARGEST_GROUP:
            raise _odd(f"a column of {max(sizes):,} bytes in one row group")


def _check_footer(parquet: pq.ParquetFile, about: Mapping[str, Any], features: list[str], columns: list[str]) -> None:
    footer, schema = parquet.metadata, parquet.schema_arrow
    if footer.num_columns > MOST_LEAVES or schema.names != features:
        wanted = ", ".join(schema.names[:30])
        raise _odd(f"the columns {wanted[:200]}")
    for name in (name for name in columns if name in FIELDS):
        if schema.field(name).type != FIELDS[name]:
            raise _odd(f"the column {name} of type {str(schema.field(name).type)[:60]}")
    if "image.bytes" in columns:
        image = pa.struct([("bytes", pa.dictionary(pa.int32(), pa.binary())), ("path", pa.string())])
        if schema.field("image").type != image:
            raise _odd(f"the column image of type {str(schema.field('image').type)[:60]}")
    if footer.num_rows != about["rows"]:
        raise _odd(f"{footer.num_rows:,} rows, where its manifest says {about['rows']:,}")
    rows = plain = 0
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        rows, plain = rows + group.num_rows, plain + group.total_byte_size
        if not 0 <= group.num_rows <= MOST_OF_GROUP:
            raise _odd(f"{group.num_rows:,} rows in one row group")
    if rows != about["rows"] or plain > PACKED * about["bytes"]:
        raise _odd(f"{rows:,} rows of {plain:,} bytes in its row groups")


def _odd(what: str) -> ValueError:
    return ValueError(f"it has {what}")
