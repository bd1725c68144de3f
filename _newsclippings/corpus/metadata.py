"""The authors' metadata of articles, metadata/<split>.json: title, time, entities, and whether there is a person."""

import functools
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.corpus.records import corpus_schema, pick_records, refused_path, with_normal_paths
from _newsclippings.errors import bad_file
from _newsclippings.storage import BadNameError, FileSlice, LocalFile, Stream, normalise_paths
from _newsclippings.tables import Int64s, array_of, as_array, int64s, lookup, one_chunk, table_of, values_of

_ENTITIES = pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
STRUCT = pa.struct(
    [
        ("title", pa.string()),
        ("timestamp", pa.timestamp("s", tz="UTC")),
        ("timestamp_text", pa.string()),
        ("image_has_person", pa.bool_()),
        ("entities", _ENTITIES),
        (
            "linked_entities",
            pa.list_(
                pa.struct(
                    [
                        ("title", pa.string()),
                        ("type", pa.string()),
                        ("mention", pa.string()),
                        ("confidence", pa.float64()),
                    ]
                )
            ),
        ),
        ("article_path", pa.string()),
        ("full_article_path", pa.string()),
        ("title_entities", _ENTITIES),
    ]
)
PLACEHOLDERS = (date(1, 1, 1), date(1900, 1, 1), date(1970, 1, 1))  # in the files they mean "unknown"


class _BadRecordError(ValueError):
    """Metadata of a record are malformed: its id, what was expected and what was found."""


def read_metadata(
    open_file: Callable[[], Stream],
    location: str,
    wanted: Int64s | None,
    articles: bool = False,
    as_in_file: bool = False,
) -> pa.Table:
    """Read the wanted records of metadata/<split>.json with their metadata.

    Args:
        open_file: as in `read_corpus`.
        location: as in `read_corpus`.
        wanted: as in `read_corpus`.
        articles: as in `read_corpus`.
        as_in_file: whether all records (`wanted` is None) are in the order of the file, and not sorted by id.

    Returns:
        Arrow table: the columns of `corpus_schema` and a column `metadata` of `STRUCT`.

    Raises:
        BadFileError: the file, or a wanted record, is malformed.
        UnsafePathError: a wanted record names a file by a path that could leave the tree.
    """
    schema = corpus_schema(articles)

    def make_table(records: list[dict[str, Any]]) -> pa.Table:
        return table_of(records, schema).append_column("metadata", _make_structs(records))

    try:
        table = pick_records(open_file, location, wanted, schema, make_table, as_in_file)
    except _BadRecordError as error:
        record_id, expected, found = error.args
        raise bad_file(f"{location}: id {record_id}", expected, found, "Fetch the file again.") from None
    return with_normal_paths(table, location)


def read_metadata_file(path: str) -> pa.Table:
    """Read all records of a file of metadata on this machine, with their metadata; see `read_metadata`."""
    file = LocalFile(path, read_ahead=True)
    return read_metadata(functools.partial(FileSlice, file, 0, file.size), path, None)


def with_full_articles(records: pa.Table, metadata: pa.Table, location: str) -> pa.Table:
    """Add the places of the original articles to records.

    Args:
        records: Arrow table of records.
        metadata: Arrow table of `read_metadata`.
        location: the name of the file of the metadata in errors.

    Returns:
        The records with a column `article_path`: the file of the article, relative to the folder `articles` of
        VisualNews; "" for a record without metadata or without such a file.

    Raises:
        UnsafePathError: a path could leave the tree.
    """
    paths = one_chunk(metadata["metadata"]).field("full_article_path")
    absent = values_of(pc.utf8_length(paths), 0) == 0
    try:
        names = normalise_paths(paths.take(as_array(np.arange(len(paths)), absent)))
    except BadNameError as error:
        raise refused_path(location, metadata["id"], "full_article_path", paths, error) from None
    names = pc.replace_substring_regex(names, r"^(?:visual_?news/)?articles/", "")
    rows = lookup(int64s(metadata["id"]), int64s(records["id"]))
    none = array_of([""] * len(rows), pa.string())
    return records.append_column("article_path", pc.coalesce(names.take(as_array(rows, rows < 0)), none))


def _make_structs(records: list[dict[str, Any]]) -> pa.Array:
    try:
        return array_of([_convert(record) for record in records], STRUCT)
    except UnicodeEncodeError:
        if len(records) > 1:  # find out which record it is
            return pa.concat_arrays([_make_structs([record]) for record in records])
        raise _BadRecordError(records[0]["id"], "Unicode text in the metadata", "a lone surrogate") from None


def _convert(record: dict[str, Any]) -> dict[str, Any]:
    """Convert the metadata of a record to a value of `STRUCT`."""
    title, text, person, article, full_article = (_get(record, name, kind) for name, kind in _FIELDS)
    return {
        "title": title,
        "timestamp": parse_timestamp(text),
        "timestamp_text": text,
        "image_has_person": person,
        "entities": _get_entities(record, "caption_entities_spacy"),
        "linked_entities": [
            dict(zip(("title", "type", "mention", "confidence"), (*texts, _check_finite(record, number)), strict=True))
            for *texts, number in _get_lists(record, "caption_entities_rel", (str, str, str, (int, float)))
        ],
        "article_path": article,
        "full_article_path": full_article,
        "title_entities": None if record.get(_OF_TITLE) is None else _get_entities(record, _OF_TITLE),
    }


_FIELDS = (
    ("title", str),
    ("timestamp", str),
    ("image_has_person", bool),
    ("article_path", str),
    ("full_article_path", str),
)
_OF_TITLE = "title_entities_spacy"


def _get(record: dict[str, Any], name: str, kind: type) -> Any:
    value = record.get(name)
    if value is not None and type(value) is not kind:
        raise _BadRecordError(record.get("id"), f"{kind.__name__} or null as {name}", repr(value)[:60])
    return value


def _get_entities(record: dict[str, Any], name: str) -> list[dict[str, str]]:
    return [dict(zip(("text", "label"), entity, strict=True)) for entity in _get_lists(record, name, (str, str))]


def _get_lists(record: dict[str, Any], name: str, kinds: tuple[Any, ...]) -> list[list[Any]]:
    value = record.get(name)
    value = [] if value is None else value
    if not isinstance(value, list) or not all(_is_of(item, kinds) for item in value):
        raise _BadRecordError(record.get("id"), f"a list of lists of {len(kinds)} as {name}", repr(value)[:60])
    return list(value)


def _is_of(item: Any, kinds: tuple[Any, ...]) -> bool:
    """Check whether an item is a list with values of these types; a boolean is no number."""
    return (
        isinstance(item, list)
        and len(item) == len(kinds)
        and all(
            isinstance(value, kind) and not isinstance(value, bool) for value, kind in zip(item, kinds, strict=True)
        )
    )


def _check_finite(record: dict[str, Any], value: float) -> float:
    if not math.isfinite(value):  # JSON's 1e999
        raise _BadRecordError(record["id"], "finite numbers in caption_entities_rel", repr(value))
    return float(value)


def parse_timestamp(text: str | None) -> datetime | None:
    """Convert an ISO-8601 time to UTC; None if it is malformed or a placeholder such as 1900-01-01."""
    try:
        time = datetime.fromisoformat((text or "").strip())
        time = time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if time.date() in PLACEHOLDERS else time.replace(microsecond=0)
