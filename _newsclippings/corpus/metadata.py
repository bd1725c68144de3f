"""What the authors know of each article, metadata/<split>.json: title, time, entities, and whether a person is seen."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from _newsclippings.corpus.exact_scan import corpus_schema, with_normal_paths
from _newsclippings.corpus.fast_scan import Build
from _newsclippings.corpus.records import pick_records
from _newsclippings.errors import bad_file
from _newsclippings.storage import Stream
from _newsclippings.tables import Int64s, array_of, table_of

STRUCT = pa.struct(
    [
        ("title", pa.string()),
        ("timestamp", pa.timestamp("s", tz="UTC")),
        ("timestamp_text", pa.string()),
        ("image_has_person", pa.bool_()),
        ("entities", pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))),
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
    ]
)
PLACEHOLDERS = (date(1, 1, 1), date(1900, 1, 1), date(1970, 1, 1))  # what stands for "unknown" in the files


class _BadRecordError(ValueError):
    """A record whose metadata are not in the form of the authors: id, what was expected and found."""


def read_metadata(open_file: Callable[[], Stream], location: str, wanted: Int64s, articles: bool = False) -> pa.Table:
    """Read the wanted records of metadata/<split>.json with all that they hold.

    Args:
        open_file: opens the file for reading bytes from its start; called once for each pass.
        location: what to call it in errors.
        wanted: ids, sorted and unique.
        articles: whether the path of the article is asked for.

    Returns:
        Arrow table, sorted by id: the columns of `corpus_schema` and a column `metadata` of `STRUCT`.

    Raises:
        BadFileError: the file, or a wanted record, is malformed.
        UnsafePathError: as `read_corpus`.
    """
    schema = corpus_schema(articles)
    try:
        table = pick_records(open_file, location, wanted, schema, metadata_build(schema))
    except _BadRecordError as error:
        record_id, expected, found = error.args
        raise bad_file(f"{location}: id {record_id}", expected, found, "Fetch the file again.") from None
    return with_normal_paths(table, location)


def metadata_build(schema: pa.Schema) -> Build:
    """What makes a table of decoded records: the columns of `schema`, and `metadata`."""

    def build(records: list[dict[str, Any]]) -> pa.Table:
        return table_of(records, schema).append_column("metadata", _structs(records))

    return build


def _structs(records: list[dict[str, Any]]) -> pa.Array:
    try:
        return array_of([_plain(record) for record in records], STRUCT)
    except UnicodeEncodeError:
        if len(records) > 1:  # find out which
            return pa.concat_arrays([_structs([record]) for record in records])
        raise _BadRecordError(records[0]["id"], "Unicode text in the metadata", "a lone surrogate") from None


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a record in our names; lists become structs."""
    title, text, person = (_typed(record, *field) for field in _FIELDS)
    return {
        "title": title,
        "timestamp": parse_timestamp(text),
        "timestamp_text": text,
        "image_has_person": person,
        "entities": [
            dict(zip(("text", "label"), entity, strict=True))
            for entity in _lists(record, "caption_entities_spacy", (str, str))
        ],
        "linked_entities": [
            dict(zip(("title", "type", "mention", "confidence"), (*texts, _finite(record, number)), strict=True))
            for *texts, number in _lists(record, "caption_entities_rel", (str, str, str, (int, float)))
        ],
    }


_FIELDS = (("title", str), ("timestamp", str), ("image_has_person", bool))


def _typed(record: dict[str, Any], name: str, kind: type) -> Any:
    value = record.get(name)
    if value is not None and type(value) is not kind:
        raise _BadRecordError(record.get("id"), f"{kind.__name__} or null as {name}", repr(value)[:60])
    return value


def _lists(record: dict[str, Any], name: str, kinds: tuple[Any, ...]) -> list[list[Any]]:
    value = record.get(name)
    value = [] if value is None else value
    shape = isinstance(value, list) and all(isinstance(one, list) and len(one) == len(kinds) for one in value)
    if not shape or not all(
        isinstance(part, kind) and not isinstance(part, bool)
        for one in value
        for part, kind in zip(one, kinds, strict=True)
    ):
        raise _BadRecordError(record.get("id"), f"a list of lists of {len(kinds)} as {name}", repr(value)[:60])
    return list(value)


def _finite(record: dict[str, Any], value: float) -> float:
    if not math.isfinite(value):  # JSON's 1e999
        raise _BadRecordError(record["id"], "finite numbers in caption_entities_rel", repr(value))
    return float(value)


def parse_timestamp(text: str | None) -> datetime | None:
    """An ISO-8601 time as UTC; None if it is none, or a placeholder such as 1900-01-01."""
    try:
        time = datetime.fromisoformat((text or "").strip())
        time = time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if time.date() in PLACEHOLDERS else time.replace(microsecond=0)
