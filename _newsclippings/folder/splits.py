"""The rows that are written of a split: those of a joined split, or the pictures that several configs share."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from _newsclippings.folder.manifest import SplitEntry
from _newsclippings.folder.shards import Tables
from _newsclippings.pictures import Pictures, read_whole
from _newsclippings.rows import ROWS_OF_PICTURES, TABLES_AHEAD, JoinedSplit
from _newsclippings.storage import map_ahead
from _newsclippings.tables import Int32s, Int64s, as_array, empty_table, int64s, lookup, one_chunk, values_of


@dataclass(frozen=True)
class SplitRows:
    """The rows to write of a split.

    Attributes:
        sizes: int64 (N,), about the bytes that each row takes at most; those of pictures are exact. 0: not written.
        least: int64 (N,), bytes that each row takes on the disk at least: pictures and vectors as they are, and a tenth
            of the texts, which are compressed to a sixth or less.
        tables: makes tables of a range of the N rows.
        entry: the counts of the rows that are written.
    """

    sizes: Int64s
    least: Int64s
    tables: Callable[[tuple[int, int]], Tables]
    entry: SplitEntry

    def count(self, rows: tuple[int, int]) -> int:
        """How many rows of a range are written."""
        return int((self.sizes[slice(*rows)] > 0).sum())


def rows_of(split: JoinedSplit) -> SplitRows:
    """The rows of a joined split."""
    rows, batch = split.rows, split.rows_of_table("parquet")
    matches = rows.matches.filter(as_array(rows.keep))
    ids, images = int64s(matches["id"]), int64s(matches["image_id"])
    falsified = int(values_of(matches["falsified"]).sum())
    counts = {"rows": len(matches), "pristine": len(matches) - falsified, "falsified": falsified}
    entry = SplitEntry(**counts, ids_sha256=_digest_ids(ids, images), report=split.report)
    return SplitRows(*_sizes(split), lambda range_: split.tables([range_], batch, ahead=True), entry)


class IdsDigest:
    """SHA-256 of ids, row by row, as little-endian int64."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, *columns: Int64s) -> None:
        """Add the ids of the next rows, column by column."""
        self._digest.update(np.stack(columns, axis=1).astype("<i8").tobytes())

    def hexdigest(self) -> str:
        """The digest of all rows that were added."""
        return self._digest.hexdigest()


def _digest_ids(*columns: Int64s) -> str:
    digest = IdsDigest()
    digest.add(*columns)
    return digest.hexdigest()


def bytes_of(split: JoinedSplit) -> int:
    """About the bytes that the rows of a split take."""
    return int(_sizes(split)[0].sum())


def bytes_of_pictures(split: JoinedSplit) -> int:
    """The bytes that the pictures in the rows of a split take, at least."""
    if split.pictures is None or split.images == "path":
        return 0
    return int(_file_sizes(split.pictures, split.rows.image_row)[split.rows.keep].sum())


def _sizes(split: JoinedSplit) -> tuple[Int64s, Int64s]:
    """`sizes` and `least` of `SplitRows`."""
    rows = split.rows
    each = 40 + rows.matches.nbytes // max(1, len(rows.matches)) + 2 * rows.corpus.nbytes // max(1, len(rows.corpus))
    if split.metadata is not None:
        each += 2 * split.metadata.nbytes // max(1, len(split.metadata))
    if split.evidence is not None:
        each += 2 * split.evidence.nbytes // max(1, len(split.evidence))
    texts = np.full(len(rows.matches), each, np.int64)
    others, nulls = np.zeros((2, len(texts)), np.int64)
    if split.articles is not None:
        texts += _file_sizes(split.articles, rows.caption_row)
    if split.pictures is not None and split.images != "path":
        others += _file_sizes(split.pictures, rows.image_row)
    for name, vectors in split.embeddings.items():
        present = lookup(vectors.ids, int64s(rows.matches[split.vectors[name].key])) >= 0
        others, nulls = others + vectors.bytes_each * present, nulls + vectors.bytes_each * ~present
    return np.where(rows.keep, texts + others + nulls, 0), np.where(rows.keep, texts // 10 + others, 0)


def _file_sizes(files: Pictures, records: Int32s) -> Int64s:
    """Bytes of the files of records, 0 without a file."""
    return np.append(np.where(files.present, files.sizes, 0), 0)[records]


class SharedPictures:
    """The pictures that several configs use, each stored once.

    Attributes:
        table: `image_id` and `image_path` of each, sorted by id.
    """

    def __init__(self) -> None:
        self.table = empty_table(pa.schema([("image_id", pa.int64()), ("image_path", pa.string())]))

    def add(self, split: JoinedSplit) -> None:
        """Add the pictures of the rows of a split that are written; a picture without a record has no path."""
        rows = split.rows
        ids, first = np.unique(int64s(rows.matches["image_id"])[rows.keep], return_index=True)
        records = rows.image_row[rows.keep][first]
        paths = rows.corpus["image_path"].take(as_array(records, records < 0))
        more = pa.table([as_array(ids), paths], self.table.column_names)
        both = pa.concat_tables([self.table, more]).combine_chunks()
        _, first = np.unique(int64s(both["image_id"]), return_index=True)
        self.table = both.take(as_array(first))

    def rows(self, find: Callable[[pa.Array], Pictures]) -> SplitRows:
        """The rows to write: `image_id`, `image`, `image_path`; image is null where the file is missing.

        Args:
            find: finds the pictures of paths.
        """
        table = self.table
        paths = one_chunk(table["image_path"])
        known = values_of(paths.is_valid())
        records = np.where(known, np.cumsum(known) - 1, -1).astype(np.int32)
        pictures = find(paths.drop_null())

        def make(rows: tuple[int, int]) -> pa.Table:
            data = read_whole(pictures, records[slice(*rows)])
            image = pa.StructArray.from_arrays(
                [data, pa.nulls(len(data), pa.string())], ["bytes", "path"], mask=data.is_null()
            )
            return table.slice(rows[0], rows[1] - rows[0]).add_column(1, "image", image)

        def tables(rows: tuple[int, int]) -> Tables:
            starts = ((k, min(k + ROWS_OF_PICTURES, rows[1])) for k in range(*rows, ROWS_OF_PICTURES))
            with ThreadPoolExecutor(TABLES_AHEAD, thread_name_prefix="newsclippings") as pool:
                for (start, _), made in map_ahead(pool, make, starts, TABLES_AHEAD):
                    yield start, made

        sizes = _file_sizes(pictures, records)
        entry = SplitEntry(rows=len(table), ids_sha256=_digest_ids(int64s(table["image_id"])))
        return SplitRows(80 + sizes, 8 + sizes, tables, entry)
