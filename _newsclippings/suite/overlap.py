"""Which rows of a table, or of a test set of others, are in NewsCLIPpings: by id, path, caption or picture."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from _newsclippings.config import Request, bad_value
from _newsclippings.corpus import Corpus
from _newsclippings.errors import BadFileError, DataNotFoundError, NewsCLIPpingsError, bad_file
from _newsclippings.facts import DEFAULT_CONFIG, NAME, SPLITS
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.pictures import FolderPictures, Pictures, read_whole
from _newsclippings.rows import Joiner
from _newsclippings.storage import (
    DECODER,
    NO_ACCESS,
    Access,
    cache_folder,
    describe_json_error,
    local_copy,
    open_place,
    read_file,
    read_unpacked_sizes,
    recognise_wrong_file,
)
from _newsclippings.suite.adapters import load_test_set
from _newsclippings.suite.compare import FLAT, Hashes, as_hashes, caption_key, check_path, find_near, hash_picture
from _newsclippings.tables import Int32s, Int64s, array_of, as_array, int64s, lookup, one_chunk, unique_ids
from _newsclippings.text import option, printable, short_repr

NAMES: Final = {"id": "id or image_id", "path": "image_path", "caption": "caption"}  # way -> what a table needs for it
# Column of a table -> its names
COLUMNS: Final = {
    "id": ("id",),
    "image_id": ("image_id",),
    "caption": ("caption", "text"),
    "image_path": ("image_path", "image"),
}
VISUAL_NEWS_IDS: Final = ("dgm4",)  # test sets whose ids are those of VisualNews
SHOWN: Final = 5
MOST: Final = 1 << 30  # bytes of a table
MOST_FOOTER: Final = 8 << 20
MOST_UNPACKED: Final = 1 << 28  # bytes of a column in a row group of a Parquet file
BLOCK: Final = 500  # pictures that are in memory at a time
THREADS: Final = 4
_DO = f"Give each row any of {', '.join(name for names in COLUMNS.values() for name in names)}."
_OUTLETS: Final = {
    "guardian": "guardian", "gardian": "guardian", "bbc": "bbc", "usa_today": "usa_today",
    "washington_post": "washington_post", "wash": "washington_post",
}  # fmt: skip
_OUTLET = "|".join(_OUTLETS)
_PATHS: Final = (
    re.compile(rf"(?:^|/)({_OUTLET})(?:/images)?/([0-9]{{4}})/([0-9]{{3}})\.[a-z]+$", re.IGNORECASE),
    re.compile(rf"(?:^|/)({_OUTLET})(?:_(?:train|val|test))?_([0-9]{{4}})_([0-9]{{3}})\.[a-z]+$", re.IGNORECASE),
)


@dataclass(frozen=True)
class Overlap:
    """The rows of a table that are in a split.

    Attributes:
        name: the table.
        rows: its rows.
        config: name of the config.
        split: name of the split.
        split_rows: rows of the split.
        found: way (id, path, caption, picture), if it could be compared -> row of the table -> the first row of the
            split (its index) that has the same.
        notes: what was not compared, and why.
    """

    name: str
    rows: int
    config: str
    split: str
    split_rows: int
    found: Mapping[str, Mapping[int, int]]
    notes: Sequence[str]

    @property
    def row_numbers(self) -> list[int]:
        """The rows of the table, from 0 on, that are in the split in any way."""
        return sorted({row for rows in self.found.values() for row in rows})

    def as_dict(self) -> dict[str, Any]:
        """Return the content of the JSON output."""
        return {
            "made_by": "newsclippings overlap",
            "name": self.name,
            "rows": self.rows,
            "config": self.config,
            "split": self.split,
            "split_rows": self.split_rows,
            "overlapping": len(self.row_numbers),
            "by": {way: len(rows) for way, rows in self.found.items()},
            "notes": [*self.notes],
            "row_numbers": self.row_numbers,
        }

    def __str__(self) -> str:
        numbers = self.row_numbers
        lines = [
            f"{printable(self.name)}: {len(numbers):,} of {self.rows:,} rows are in {self.config}/{self.split} "
            f"({self.split_rows:,} rows)."
        ]
        lines += [f"by {way}: {len(rows):,}" for way, rows in self.found.items()]
        for row in numbers[:SHOWN]:
            ways = ", ".join(f"{way} of row {rows[row]}" for way, rows in self.found.items() if row in rows)
            lines.append(f"row {row}: {ways}")
        return "\n".join([*lines, *([f"... and {len(numbers) - SHOWN:,} more"] if len(numbers) > SHOWN else [])])


@dataclass(frozen=True)
class Table:
    """A table whose rows are looked for. A column is None if the table does not have it, and so is a missing value."""

    name: str
    count: int
    ids: Sequence[int | None] | None
    image_ids: Sequence[int | None] | None
    captions: Sequence[str | None] | None
    paths: Sequence[str | None] | None
    root: str | None = None  # the folder of its pictures, if it is known


def find_overlap(
    table: str | os.PathLike[str],
    *,
    on: str | None = None,
    pictures: str | os.PathLike[str] | None = None,
    config: str = DEFAULT_CONFIG,
    split: str = "train",
    data_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Overlap:
    """Find the rows of a table that are in a split of NewsCLIPpings, so that a test on them is no test.

    A row is found by its id or image_id (of VisualNews), by the path of its picture in any dialect
    (`bbc/images/0498/511.jpg`, DGM4's `bbc/0498/511.jpg`, MMFakeBench's `BBC_val_0498_511.jpg`), by its caption
    (letters and digits only), and if asked for by its picture (a perceptual hash).

    Args:
        table: CSV, TSV, JSON, JSON lines or Parquet with any of the columns id, image_id, caption (or text), image_path
            (or image); or the folder or list of a test set of others.
        on: the name of that test set; see `open_test_set`.
        pictures: a folder that image_path is relative to: its pictures are compared with those of the split, all of
            which are read (59,876 in merged_balanced/train). For a test set of others, its own folder.
        config: name of the config.
        split: name of the split.
        data_dir: folder with the official tree.
        storage_options: options of fsspec for URLs.
        fields: fields of `Request` that say where pictures are.

    Raises:
        ConfigError: an option has a value that cannot be used.
        NewsCLIPpingsError: a file is missing or damaged.
    """
    if not isinstance(split, str) or split not in SPLITS:
        raise bad_value("split", split, SPLITS)
    if pictures is not None and not os.path.isdir(os.path.expanduser(os.fspath(pictures))):
        message = f"{option('pictures', os.fspath(pictures))}: there is no such folder. Correct the path."
        raise DataNotFoundError(message)
    data = None if data_dir is None else os.fspath(data_dir)
    images = "none" if pictures is None else "bytes"
    request = Request(config, data_dir=data, splits=[split], images=images, missing="null", **fields)
    inputs = find_inputs(request, access=Access(storage_options) if storage_options else NO_ACCESS)
    inputs.require_visual_news(request)
    rows = _read_table(os.fspath(table)) if on is None else _read_test_set(on, table)
    members = _read_split(inputs, split)
    found: dict[str, dict[int, int]] = {}
    if rows.ids is not None or rows.image_ids is not None:
        found["id"] = _find(rows.image_ids, members.by_id) | _find(rows.ids, members.by_id)
    if rows.paths is not None:
        found["path"] = _find([path and path_key(path) for path in rows.paths], members.by_path)
    if rows.captions is not None:
        found["caption"] = _find([text and caption_key(text) for text in rows.captions], members.by_caption)
    notes = [f"Not compared by {way}: there is no column {NAMES[way]}." for way in NAMES if way not in found]
    if pictures is None:
        notes.append("Not compared by picture: no folder of pictures was passed.")
    elif rows.paths is None:
        notes.append(f"Not compared by picture: there is no column {NAMES['path']}.")
    else:
        root = rows.root or os.path.abspath(os.path.expanduser(os.fspath(pictures)))
        own = _hash_folder(root, [check_path(rows.name, path) if path else "" for path in rows.paths])
        known = [*members.by_record]
        theirs = members.paths.take(as_array(np.array(known, np.int64)))
        there = _hash_blocks(Joiner(inputs, request, _cache()).pictures(theirs), len(theirs))
        nearest = find_near(own, there).tolist()
        found["picture"] = {row: members.by_record[known[place]] for row, place in enumerate(nearest) if place >= 0}
        for hashes, of in ((own, rows.name), (there, f"{config}/{split}")):
            if lacking := int((hashes == FLAT).sum()):
                notes.append(f"{of}: {lacking:,} pictures are not there, do not decode, or have one colour only.")
    return Overlap(rows.name, rows.count, config, split, members.rows, found, notes)


def path_key(path: str) -> str | None:
    """Return outlet, folder and number of a picture of VisualNews, from its path in any dialect; None for others."""
    for pattern in _PATHS:
        if match := pattern.search(path):
            return f"{_OUTLETS[match[1].lower()]}/{match[2]}/{match[3]}"
    return None


@dataclass(frozen=True)
class Members:
    """A split of NewsCLIPpings: what its rows have -> the first row (index) that has it.

    Attributes:
        rows: its rows.
        by_id: id of a caption or a picture -> row.
        by_path: `path_key` of a picture -> row.
        by_caption: `caption_key` of a caption -> row.
        by_record: position in `paths` of a picture -> row.
        paths: paths of pictures in the normal form (Arrow string).
    """

    rows: int
    by_id: Mapping[Any, int]
    by_path: Mapping[Any, int]
    by_caption: Mapping[Any, int]
    by_record: Mapping[int, int]
    paths: pa.Array


def _read_split(inputs: Inputs, split: str) -> Members:
    """Read the matches of a split, and their captions and paths."""
    file = local_copy(inputs.matches[split], _cache() / "downloads")
    matches = read_matches(file, inputs.config, names=inputs.source_datasets)
    ids, image_ids = int64s(matches["id"]), int64s(matches["image_id"])
    corpus = Corpus(inputs, {}, False, False, False, _cache())
    ((_, records),) = corpus.read_records({split: unique_ids(ids, image_ids)})
    known = int64s(records["id"])
    captions, paths = one_chunk(records["caption"]), one_chunk(records["image_path"])
    of_captions, of_pictures = (_first_rows(lookup(known, values)) for values in (ids, image_ids))
    by_path, by_caption = (
        {key(text): row for record, row in reversed(first.items()) if (text := texts[record].as_py())}
        for key, texts, first in ((path_key, paths, of_pictures), (caption_key, captions, of_captions))
    )
    by_id = _first_rows(ids) | _first_rows(image_ids)
    return Members(len(matches), by_id, by_path, by_caption, of_pictures, paths)


def _first_rows(values: Int64s | Int32s) -> dict[int, int]:
    """Return value -> the first row that has it, in the order of these rows; negative values are left out."""
    found: dict[int, int] = {}
    for row, value in enumerate(values.tolist()):
        if value >= 0:
            found.setdefault(value, row)
    return found


def _find(keys: Sequence[Any] | None, known: Mapping[Any, int]) -> dict[int, int]:
    """Return row -> row of the split, for the keys that are known; None and empty ones are in no split."""
    return {row: known[key] for row, key in enumerate(keys or ()) if key not in (None, "") and key in known}


def _hash_folder(root: str, paths: Sequence[str]) -> Hashes:
    return _hash_blocks(FolderPictures(root, array_of(paths, pa.string())), len(paths))


def _hash_blocks(pictures: Pictures, count: int) -> Hashes:
    """Hash pictures: uint64 (count,), `FLAT` for those that are not there or do not decode."""
    hashes: list[int] = []
    with ThreadPoolExecutor(THREADS, thread_name_prefix=NAME) as pool:
        for start in range(0, count, BLOCK):
            numbers = np.arange(start, min(start + BLOCK, count), dtype=np.int32)
            pictures.look(numbers)
            hashes += pool.map(_hash, read_whole(pictures, numbers).to_pylist())
    return as_hashes(hashes)


def _hash(data: bytes | None) -> int:
    try:
        return FLAT if data is None else hash_picture({"bytes": data, "path": None})
    except BadFileError:
        return FLAT


def _read_test_set(on: str, location: str | os.PathLike[str]) -> Table:
    rows = load_test_set(on, location)
    ids = [row.id for row in rows.rows] if on in VISUAL_NEWS_IDS else None
    captions, paths = [row.caption for row in rows.rows], [row.image_path for row in rows.rows]
    return Table(rows.name, len(rows.rows), ids, None, captions, paths, rows.root)


def _read_table(file: str) -> Table:
    """Read a table of a stranger, of which any column may be missing."""
    name = printable(file)
    rows = [*_read_rows(file, name)]
    if not rows:
        raise bad_file(name, "rows", "none", _DO)
    columns = {
        column: [next((row[n] for n in names if row.get(n) is not None), None) for row in rows]
        for column, names in COLUMNS.items()
        if any(n in row for row in rows for n in names)
    }
    if not columns:
        found = ", ".join(printable(str(column)[:40]) for column in list(rows[0])[:10])
        raise bad_file(name, "one of the columns that are compared", found or "none", _DO)
    texts = {column: [_to_text(name, row, column, v) for row, v in enumerate(columns[column])] for column in columns
             if column in ("caption", "image_path")}  # fmt: skip
    ids = {column: [_to_id(name, row, column, v) for row, v in enumerate(columns[column])] for column in columns
           if column in ("id", "image_id")}  # fmt: skip
    return Table(name, len(rows), ids.get("id"), ids.get("image_id"), texts.get("caption"), texts.get("image_path"))


def _to_text(name: str, row: int, column: str, value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise bad_file(f"{name}: row {row}", f"a text as {column}", short_repr(value), _DO)
    return value


def _to_id(name: str, row: int, column: str, value: Any) -> int | None:
    """Read an id; None for an id of another kind, such as a name, since it is none of VisualNews."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[0-9]{1,18}", value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise bad_file(f"{name}: row {row}", f"a number or a text as {column}", short_repr(value), _DO)
    return int(value) if value is not None and float(value).is_integer() else None


def _read_rows(file: str, name: str) -> Iterator[Mapping[str, Any]]:
    with open_place(file) as opened:
        head = opened.read_at(0, 1024)
    if head.startswith(b"PAR1"):
        yield from _read_parquet(file, name)
        return
    if what := recognise_wrong_file(head):
        raise bad_file(name, "CSV, TSV, JSON, JSON lines or Parquet", what, "Unpack it, or fetch it again.")
    data = read_file(file, MOST)
    try:
        text = data.decode("utf-8-sig")
        start = text.lstrip()[:1]
        if start == "[":
            values = DECODER.decode(text)
        elif start == "{":
            values = [DECODER.decode(line) for line in text.split("\n") if not line.isspace() and line]
        else:
            delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
            values = [*_read_csv(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), name)]
    except BadFileError:
        raise
    except (ValueError, RecursionError, csv.Error) as error:
        raise bad_file(name, "CSV, TSV, JSON, JSON lines or Parquet", describe_json_error(error), _DO) from None
    for number, value in enumerate(values):
        if not isinstance(value, dict):
            raise bad_file(f"{name}: row {number}", "an object", short_repr(value), _DO)
        yield {key: each for key, each in value.items() if each != ""}


def _read_csv(lines: Any, name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table of texts; a row with too many or too few values would be compared by wrong ones."""
    header: list[str] = next(lines, [])
    if len({*header}) < len(header):
        raise bad_file(f"{name}: line 1", "different names of columns", "one twice", _DO)
    for values in filter(None, lines):
        if len(values) != len(header):
            expected = f"{len(header)} values"
            raise bad_file(f"{name}: line {lines.line_num}", expected, str(len(values)), "Quote texts with commas.")
        yield dict(zip(header, values, strict=True))


def _read_parquet(file: str, name: str) -> Iterator[Mapping[str, Any]]:
    import pyarrow.parquet as pq

    try:
        sizes = read_unpacked_sizes(file, MOST_FOOTER)
        if max((size for group in sizes for size in group), default=0) > MOST_UNPACKED:
            raise bad_file(name, f"at most {MOST_UNPACKED:,} bytes of a column in a row group", "more", _DO)
        with pa.OSFile(file) as opened:  # pyarrow takes some paths for URIs
            limits = {"thrift_string_size_limit": MOST_FOOTER, "thrift_container_size_limit": 100_000}
            table = pq.ParquetFile(opened, pre_buffer=False, **limits)
            wanted = [n for names in COLUMNS.values() for n in names if n in table.schema_arrow.names]
            flat = [n for n in wanted if not pa.types.is_nested(table.schema_arrow.field(n).type)]
            for batch in table.iter_batches(10_000, columns=flat, use_threads=False):
                yield from batch.to_pylist()
    except NewsCLIPpingsError:
        raise
    except Exception as error:  # pyarrow raises errors of many types for files it cannot read
        raise bad_file(name, "a Parquet file", printable(" ".join(str(error).split())[:200]), _DO) from None


def _cache() -> Path:
    return cache_folder() / NAME
