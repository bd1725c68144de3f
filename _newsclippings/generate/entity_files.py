"""Read the entities of captions: a folder that `newsclippings entities` wrote, or the authors' metadata."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.corpus import read_metadata_file
from _newsclippings.errors import DataNotFoundError, NewsCLIPpingsError, bad_file
from _newsclippings.facts import MATCHES_ROOTS, SPLITS
from _newsclippings.storage import (
    DECODER,
    check_accessible,
    compute_sha256,
    describe_json_error,
    read_file,
)
from _newsclippings.tables import Int64s, as_array, int64s, values_of
from _newsclippings.text import printable
from _newsclippings.vectors import MOST_PARTS, PLAN, SUMS, name_part, parse_sums

ENTITIES = pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
_MOST_PLAN = 1 << 24  # bytes
_MOST_FOOTER = 64 << 20
_DO = "Make the folder again with `newsclippings entities`."


class EntityTable(NamedTuple):
    """The entities of captions.

    Attributes:
        ids: int64 (N,), of the captions, sorted.
        entities: list of struct of text and label (N,). Where an entity is linked, what it is linked to is one, too, so
            that captions with another name of it have it in common.
    """

    ids: Int64s
    entities: pa.Array


def list_entity_files(place: str) -> list[str]:
    """List the files that have the entities: parts of a folder, or files of metadata.

    Args:
        place: a folder that `newsclippings entities` wrote, a file metadata/<split>.json of the authors, or a folder
            that has those.

    Raises:
        DataNotFoundError: there is nothing of it, or the folder is not complete.
        BadFileError: its plan is damaged.
    """
    check_accessible(place)
    if os.path.isfile(place):
        return [place]
    if os.path.isfile(os.path.join(place, PLAN)):
        return [os.path.join(place, name) for name in _list_parts(place)]
    folders = [place, *(os.path.join(place, root, "metadata") for root in MATCHES_ROOTS)]
    for folder in folders:
        files = [os.path.join(folder, f"{name}.json") for name in SPLITS.values()]
        if there := [file for file in files if os.path.isfile(file)]:
            return there
    message = (
        f"{place} has no entities. Expected a folder that `newsclippings entities` wrote ({PLAN}), or the authors' "
        "metadata/{train,val,test}.json."
    )
    raise DataNotFoundError(message)


def read_entities(place: str) -> EntityTable:
    """Read the entities of captions; see `list_entity_files` for the place.

    Raises:
        DataNotFoundError: there is nothing of it.
        BadFileError: a file is damaged, or has an id twice.
    """
    files = list_entity_files(place)
    parts = [_read_metadata(file) if file.endswith(".json") else _read_part(file) for file in files]
    if not files[0].endswith(".json"):
        _check_sums(place, files)
    ids = np.concatenate([np.empty(0, np.int64), *(part.ids for part in parts)])
    entities = pa.concat_arrays([part.entities for part in parts])
    return sort_entities(ids, entities, place)


def sort_entities(ids: Int64s, entities: pa.Array, place: str) -> EntityTable:
    """Sort entities by the ids of their captions.

    Raises:
        BadFileError: an id is there twice.
    """
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    if len(twice := ids[1:][np.diff(ids) == 0]):
        raise bad_file(f"{place}: id {twice[0]}", "each id once", "it more than once", _DO)
    return EntityTable(ids, entities.take(as_array(order)))


def _list_parts(folder: str) -> list[str]:
    """Return the names of the parts of a folder; raise an error if one is not there."""
    text = read_file(os.path.join(folder, PLAN), _MOST_PLAN)
    try:
        plan = DECODER.decode(text.decode())
        count, size = plan["count"], plan["part_size"]
        if type(count) is not int or type(size) is not int or size < 1 or not 0 < -(-count // size) <= MOST_PARTS:
            message = "its counts"
            raise ValueError(message)
    except (ValueError, RecursionError) as error:
        raise bad_file(os.path.join(folder, PLAN), "the plan of entities", describe_json_error(error), _DO) from None
    except (KeyError, TypeError):
        raise bad_file(os.path.join(folder, PLAN), "the plan of entities", "something else", _DO) from None
    names = [name_part(number) for number in range(-(-count // size))]
    there = set(os.listdir(folder))
    if missing := [name for name in names if name not in there]:
        message = (
            f"{folder} has {len(names) - len(missing):,} of its {len(names):,} parts; the first that is missing is "
            f"{missing[0]}. Finish it by the same `newsclippings entities` again."
        )
        raise DataNotFoundError(message)
    return names


def _check_sums(folder: str, files: list[str]) -> None:
    """Compare the parts of a folder with its checksums, if it has them."""
    place = os.path.join(folder, SUMS)
    if not os.path.exists(place):
        return
    sums = parse_sums(read_file(place, _MOST_PLAN), place)
    for file in files:
        if compute_sha256(Path(file)) != sums.get(os.path.basename(file)):
            raise bad_file(file, f"the content that {SUMS} names", "another", _DO)


def _read_part(file: str) -> EntityTable:
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
        names = [name for name in ("id", "entities", "linked") if name in opened.schema_arrow.names]
        table = opened.read(names)
        entities = table["entities"].cast(ENTITIES).combine_chunks()
        ids = table["id"].cast(pa.int64())
        if ids.null_count or entities.null_count:
            raise bad_file(file, "an id and entities in each row", "null", _DO)
        entities = pa.concat_arrays([entities]) if isinstance(entities, pa.Array) else pa.concat_arrays(entities.chunks)
        if "linked" in names:
            linked = table["linked"].cast(pa.list_(pa.string())).combine_chunks()
            entities = _link(entities, linked, file)
        return EntityTable(int64s(ids), entities)
    except NewsCLIPpingsError:
        raise
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise bad_file(file, "the entities of captions", printable(str(error))[:100], _DO) from error


def _link(entities: pa.Array, linked: pa.Array, file: str) -> pa.Array:
    """Add what entities are linked to, with their labels, as further entities of their captions."""
    counts, others = (values_of(pc.list_value_length(column), 0) for column in (entities, linked))
    if (counts != others).any():
        raise bad_file(file, "one value in linked for each of the entities", "another number", _DO)
    flat, titles = entities.flatten(), linked.flatten()
    known = np.flatnonzero(values_of(pc.utf8_length(titles), 0) > 0)
    owners = np.repeat(np.arange(len(entities)), counts)
    owners = np.concatenate([owners, owners[known]])
    order = as_array(np.argsort(owners, kind="stable"))
    texts, labels = (pc.struct_field(flat, name) for name in ("text", "label"))
    columns = [
        pa.concat_arrays([texts, titles.take(as_array(known))]).take(order),
        pa.concat_arrays([labels, labels.take(as_array(known))]).take(order),
    ]
    offsets = np.searchsorted(np.sort(owners), np.arange(len(entities) + 1)).astype(np.int32)
    values = pa.StructArray.from_arrays(columns, fields=list(ENTITIES.value_type))
    return pa.ListArray.from_arrays(as_array(offsets), values)


def _read_metadata(file: str) -> EntityTable:
    table = read_metadata_file(file)
    return EntityTable(int64s(table["id"]), entities_of(table))


def entities_of(metadata: pa.Table) -> pa.Array:
    """Return the entities of captions in a table of metadata."""
    column = metadata["metadata"].combine_chunks()
    column = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    return column.field("entities")
