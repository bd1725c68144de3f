"""Add columns of vectors to rows that are loaded already."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from _newsclippings.config import Request
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.facts import NAME, Columns, vector_feature
from _newsclippings.rows import ROWS_OF_PICTURES
from _newsclippings.storage import (
    Access,
    cache_folder,
    changed_file,
    identify,
    is_proved,
    report_cache_errors,
    stamp,
    write_atomically,
    write_proof,
)
from _newsclippings.tables import Int64s, int64s
from _newsclippings.text import short_repr, without_secrets
from _newsclippings.vectors import Embeddings, VectorFiles, find_vectors

ROWS = 4096  # joined at a time


def join_vectors(
    dataset: Any,
    embeddings: Mapping[str, Any],
    *,
    vector_dtype: str = "float32",
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> Any:
    """Add columns of your own vectors to rows that are loaded already. Nothing of the rows is built again.

    Args:
        dataset: rows with the columns id and image_id: a `datasets.Dataset`, a stream (`IterableDataset`), or a dict of
            either, by split. Join a stream with pictures before `.filter`, after which `datasets` encodes them again.
        embeddings: column -> its vectors, as in a build: a folder that `newsclippings embed` wrote, or `(file,
            "pictures")` or `(file, "captions")`.
        vector_dtype: as in a build.
        storage_options: options of fsspec for URLs, as of `load_dataset`.
        token: of the Hub, as of `load_dataset`.

    Returns:
        The rows, of the same kind, with the columns at the end: lists of a fixed length of float32 (or float16), of
        several vectors lists of them; null for ids that have none. Those of a Dataset are written to the cache once.

    Raises:
        ConfigError: an argument is something else, or the rows have a column of that name, or lack the one with ids.
        DataNotFoundError: there are no such vectors.
        BadFileError: they are damaged, or none is of these rows.
    """
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    if not isinstance(embeddings, Mapping) or not embeddings:
        message = f"join_vectors: {short_repr(embeddings)}; expected a dict of the column's name -> its vectors."
        raise ConfigError(message)
    if given := [name for name, value in embeddings.items() if value is True]:
        message = f"join_vectors: {given[0]} is of the authors. Load the rows with embeddings=[{given[0]!r}] for those."
        raise ConfigError(message)
    places = Request(embeddings=embeddings, vector_dtype=vector_dtype).own_vectors()
    access = Access(storage_options, token)
    files = {name: find_vectors(name, place, vector_dtype, access) for name, place in places.items()}
    if isinstance(dataset, DatasetDict | IterableDatasetDict):
        some = [*dataset.values()]
        joined = {split: _join(rows, files, access, check=False) for split, rows in dataset.items()}
        if isinstance(dataset, DatasetDict):
            for name, own in files.items():
                if not any(_count(rows, name) for rows in joined.values()) and any(map(len, some)):
                    raise _no_vectors(name, own)
        return type(dataset)(joined)
    if not isinstance(dataset, Dataset | IterableDataset):
        message = f"join_vectors: expected a Dataset, a stream, or a dict of them, found {type(dataset).__name__}."
        raise ConfigError(message)
    return _join(dataset, files, access, check=True)


def _join(rows: Any, files: Mapping[str, VectorFiles], access: Access, check: bool) -> Any:
    from datasets import Dataset, Features, Image, concatenate_datasets

    if rows.features is None:
        message = "join_vectors: expected a stream whose columns are known, found one without. Join before `.map`."
        raise ConfigError(message)
    for name, own in files.items():
        if name in rows.features:
            message = f"join_vectors: the rows have a column {name} already. Choose another name, or remove it."
            raise ConfigError(message)
        key = own.facts.key
        if getattr(rows.features.get(key), "dtype", None) != "int64":
            message = f"join_vectors: expected rows with a column {key} (int64), found none. Keep that column."
            raise ConfigError(message)
    types: Columns = {name: vector_feature(own.facts) for name, own in files.items()}
    columns = Features.from_dict(types)
    if not isinstance(rows, Dataset):
        full = Features({**rows.features, **columns})
        how = rows._formatting
        for column, kind in rows.features.items():
            if isinstance(kind, Image):  # not to be decoded and encoded again
                rows = rows.cast_column(column, Image(decode=False))
        tables = rows.with_format("arrow")  # lists of Python would make each row of tensors fifty times as slow
        joined = tables.map(_AddVectors(files, access), batched=True, batch_size=ROWS_OF_PICTURES)
        return joined.cast(full).with_format(how and how.format_type)
    parts = [rows if rows._indices is None else rows.flatten_indices()]  # or `datasets` copies all parts, vectors too
    for name, own in files.items():
        key = own.facts.key
        ids = _read_ids(rows.select_columns([key]).with_format("arrow")[:], key)
        path = _write_column(name, own, ids, columns[name], access)
        part = Dataset.from_file(str(path))
        if check and len(rows) and not _count(part, name):
            raise _no_vectors(name, own)
        parts.append(part)
    joined = concatenate_datasets(parts, axis=1)
    how = rows.format  # lost if parts have different ones
    shown = None if {*how["columns"]} == {*rows.column_names} else [*how["columns"], *files]
    return joined.with_format(how["type"], shown, how["output_all_columns"], **how["format_kwargs"])


def _read_ids(table: pa.Table, key: str) -> Int64s:
    column = table[key]
    if column.null_count:
        message = f"join_vectors: expected an {key} in each row, found null. Remove those rows."
        raise ConfigError(message)
    return int64s(column.cast(pa.int64()))


def _open(own: VectorFiles, access: Access) -> tuple[Embeddings, str]:
    """Load vectors, and return them with a name of their content."""
    stamps: dict[str, str] = {}

    def find_identity(place: str) -> str:
        stamps.setdefault(place, stamp(place, access))
        return identify(place, access=access)

    def check_unchanged() -> None:
        for place, known in stamps.items():
            if stamp(place, access) != known:
                raise changed_file(without_secrets(place))

    vectors = own.load(find_identity, cache_folder() / NAME, check_unchanged, access)
    return vectors, own.key(find_identity)


def _write_column(name: str, own: VectorFiles, ids: Int64s, column: Any, access: Access) -> Path:
    """Write the vectors of some ids to the cache, as a file that `datasets` maps, unless they are there."""
    from datasets import Features

    vectors, key = _open(own, access)
    digest = hashlib.sha256(f"{name} {key} {own.facts.dtype} ".encode() + ids.tobytes()).hexdigest()[:32]
    folder = cache_folder() / NAME / "joined"
    path, proof = folder / f"{digest}.arrow", folder / f"{digest}.proof"
    if not is_proved(proof, folder):
        schema = Features({name: column}).arrow_schema
        with report_cache_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with write_atomically(path) as temporary, pa.ipc.new_stream(temporary, schema) as writer:
                for start in range(0, len(ids), ROWS):
                    some = vectors.take(ids[start : start + ROWS])
                    writer.write_batch(pa.RecordBatch.from_arrays([some.cast(schema.field(0).type)], schema=schema))
            write_proof(proof, folder, [path.name])
    return path


class _AddVectors:
    """Adds columns of vectors to a batch of a stream. It can be sent to other processes, which open the files."""

    def __init__(self, files: Mapping[str, VectorFiles], access: Access) -> None:
        self._files, self._access = dict(files), access
        self._opened: dict[str, Embeddings] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def __call__(self, table: pa.Table) -> pa.Table:
        for name, own in self._files.items():
            if name not in self._opened:
                self._opened[name] = _open(own, self._access)[0]
            table = table.append_column(name, self._opened[name].take(_read_ids(table, own.facts.key)))
        return table


def _count(rows: Any, name: str) -> int:
    """Count the rows that have a vector."""
    column = rows.data.column(name)
    return len(column) - int(column.null_count)


def _no_vectors(name: str, own: VectorFiles) -> BadFileError:
    other = "captions" if own.facts.key == "image_id" else "pictures"
    do = f"Are its ids of {other}?" if own.plan is None else "Embed those of these rows."
    return BadFileError(f"{name}: {without_secrets(own.location)} has no vector for any of the rows. {do}")
