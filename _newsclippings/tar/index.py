"""Index of an uncompressed tar: the position of each file, so that any of them is one positioned read.

The headers are walked once. The index is kept as a memory-mapped Arrow file, in which names are found by their hash and
whose checksums are compared before it is used. `index_file` writes and reads it as Parquet, for other machines.
"""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import BadFileError, BadTarError
from _newsclippings.storage import (
    HEAD,
    KeptFile,
    RandomFile,
    is_remote,
    open_table,
    write_kept,
)
from _newsclippings.tables import Int64s, as_array, one_chunk, values_of
from _newsclippings.tar.checksums import DATA_CRC, add_checksums
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.links import OTHERS, REFUSED, TARGET, resolve_members
from _newsclippings.tar.segments import check_magic, walk_headers
from _newsclippings.tar.walk import SCHEMA
from _newsclippings.text import printable

SAMPLED = 1024  # headers compared before an index is used for a copied or touched tar
Uint64s = npt.NDArray[np.uint64]

OPTIONAL = (TARGET, REFUSED, DATA_CRC)  # columns that an index has if it needs them, after those of `SCHEMA`
_KEYS = (pa.field("key", pa.uint64()), pa.field("row", pa.int32()))  # sorted keys, and the row of each


def _weights(count: int) -> Uint64s:
    """The outputs of SplitMix64 from seed 0, made odd. They are part of the format of the kept index."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    weights: Uint64s = mixed | np.uint64(1)
    return weights


_WEIGHTS = _weights(1 << 14)


def index_schema(columns: Iterable[str]) -> pa.Schema:
    """Return the schema of an index that has some columns: `SCHEMA` and those of `OPTIONAL` among them."""
    columns = list(columns)
    return pa.schema([*SCHEMA, *(field for field in OPTIONAL if field.name in columns)])


@dataclass(frozen=True)
class TarIndex:
    """Positions of the files of a tar.

    Attributes:
        members: Arrow table of `index_schema`, in the order of the tar.
        keys: uint64 (N,), sorted hashes of the names.
        rows: int32 (N,), the member of each key.
        damage: at which byte, after how many members and why the walk stopped; None if the tar is whole. With damage,
            `members` are those before it.
        location: where the index comes from, for errors.
        kept: its file in the cache, which is removed if it turns out not to fit the tar; None if it must stay.
        mapped: the open file in the cache; None if the index is in memory.
    """

    members: pa.Table
    keys: Uint64s
    rows: npt.NDArray[np.int32]
    damage: str | None
    location: str
    kept: Path | None = None
    mapped: KeptFile | None = None

    def check(self) -> None:
        """Raise `BadFileError` if the index was damaged after it was opened."""
        if self.mapped is not None:
            self.mapped.require_intact()

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the index; see `index_tar`."""
        return {key.decode(): value.decode() for key, value in (self.members.schema.metadata or {}).items()}

    def why_refused(self, row: int) -> str | None:
        """Say why a member has no data that can be used; None if it has."""
        reason: str | None = None
        if REFUSED.name in self.members.column_names:
            reason = self.members[REFUSED.name][row].as_py()
        return reason

    def find(self, names: pa.Array) -> Int64s:
        """Find members by their names.

        Args:
            names: string (N,), in the normal form; may have nulls.

        Returns:
            int64 (N,), the row of each member; -1 if there is none.

        Raises:
            BadFileError: the index was damaged since it was opened.
        """
        self.check()
        result = np.full(len(names), -1, np.int64)
        todo = np.flatnonzero(values_of(names.is_valid()))
        wanted = hash_names(names.take(as_array(todo)))
        places = np.searchsorted(self.keys, wanted)
        while len(todo):  # normally one pass; more only if two names share a hash
            same = places < len(self.keys)
            same[same] = self.keys[places[same]] == wanted[same]
            todo, wanted, places = todo[same], wanted[same], places[same]
            rows = self.rows[places]
            equal = values_of(
                pc.equal(one_chunk(self.members["name"].take(as_array(rows))), names.take(as_array(todo)))
            )
            result[todo[equal]] = rows[equal]
            todo, wanted, places = todo[~equal], wanted[~equal], places[~equal] + 1
        return result


def index_tar(file: RandomFile, parts: Path | None = None, checksums: bool = False) -> pa.Table:
    """Index a tar by walking its headers.

    Args:
        file: the tar.
        parts: folder for finished segments, from which an interrupted walk continues; None keeps none.
        checksums: read the data, too, and add the column `DATA_CRC`.

    Returns:
        Arrow table of `index_schema` in the order of the tar, with one row for each name. The metadata of its schema
        identify the tar, and list its members that are no plain files (`OTHERS`). If it is damaged (truncated, a wrong
        checksum, data after the end marker), they also have `damage`, and the table holds the members before it.

    Raises:
        BadTarError: the file is no uncompressed tar or has no files.
    """
    check_magic(file)
    metadata = identify_tar(file)
    parts = parts and parts / "-".join(value[:16] for value in metadata.values())
    walked, damage = walk_headers(file, parts)
    keys = sort_keys(walked["name"])[0]
    members, facts = resolve_members(walked, repeated=bool((keys[1:] == keys[:-1]).any()))
    metadata |= facts
    if not len(members):
        others = describe_others(metadata)
        why = damage or (f"it has only {others}" if others else "it is an empty tar")
        do = "Extract it, and pass the folder." if others and not damage else "Fetch it again."
        message = f"{file.path} has no file that can be read: {why}. {do}"
        raise BadTarError(message)
    if damage:
        metadata["damage"] = f"{damage}. The whole part has {_count_pictures(one_chunk(members['name']))}"
    if checksums:
        members = add_checksums(file, members, parts)
    return members.replace_schema_metadata(metadata)


def changed_tar(tar: str) -> BadTarError:
    """The error of a tar that is not what it was when reading it began."""
    return BadTarError(
        f"{tar}: the tar changed while it was read. Nothing was kept: try again when nothing writes to it."
    )


def identify_tar(file: RandomFile) -> dict[str, str]:
    """Identify a tar by its size and the SHA-256 of its first and last 64 KiB, as metadata of its index."""
    ends = {"head_sha256": file.read_at(0, HEAD), "tail_sha256": file.read_at(max(0, file.size - HEAD), HEAD)}
    return {"tar_size": str(file.size), **{name: hashlib.sha256(data).hexdigest() for name, data in ends.items()}}


def load_index(file: RandomFile, key: str, folder: Path, stamp_again: Callable[[], str]) -> TarIndex:
    """Load the index of a tar from the cache, or build it by walking the headers.

    Args:
        file: the tar.
        key: `stamp` of the tar, computed before it was opened. It is part of the name of the cached file. For a
            local tar so is a digest of `identify_tar`, by which the index of a copied or touched tar is found.
        folder: where indexes are kept. If it cannot be written, the tar is walked each time.
        stamp_again: computes `key` again, to notice a tar that changed.

    Raises:
        BadTarError: as `index_tar`; or the tar changed during the walk.
    """
    content = "" if is_remote(file) else f"{_digest(identify_tar(file))}-"
    cached, parts = folder / f"{content}{key}.arrow", folder / f"{key}.parts"
    of = content or key
    index = load_kept_index(cached, of)
    if index is None and content:
        index = _find_same_content(file, cached, of, sorted(folder.glob(f"{content}*.arrow")))
        if index is not None and stamp_again() != key:
            raise changed_tar(file.path)
    if index is None:
        table = index_tar(file, parts)
        if stamp_again() != key:  # never keep the index of one tar as that of another
            shutil.rmtree(parts, ignore_errors=True)
            raise changed_tar(file.path)
        index = keep_index(table, cached, file.path, parts, of)
    return index


def _find_same_content(file: RandomFile, cached: Path, of: str, others: list[Path]) -> TarIndex | None:
    """Find the index of a tar that was only copied, moved, linked or touched: a sample of its headers is unchanged.

    The kept file is renamed. Data between the headers are not in the index, and are always read from the tar.
    """
    for other in others:
        index = load_kept_index(other, of)
        if index is None or index.damage:  # the damage may have been repaired, which headers do not show
            continue
        count = len(index.members)
        rows = np.arange(count) if count <= SAMPLED else np.linspace(0, count - 1, SAMPLED).astype(np.int64)
        sample = index.members.select(["offset", "header_crc"]).take(as_array(rows))
        headers = zip(sample["offset"].to_pylist(), sample["header_crc"].to_pylist(), strict=True)
        if all(zlib.crc32(file.read_at(offset - BLOCK, BLOCK)) == crc for offset, crc in headers):
            with contextlib.suppress(OSError):
                os.replace(other, cached)
                return replace(index, location=str(cached), kept=cached)
            return index
    return None


def _digest(metadata: dict[str, str]) -> str:
    return hashlib.sha256(" ".join(metadata.values()).encode()).hexdigest()[:32]


def hash_names(names: pa.Array) -> Uint64s:
    """Hash each name to 64 bits: the sum of (byte + 1) times the weight of its position, modulo 2**64.

    Args:
        names: string (N,).

    Returns:
        uint64 (N,).
    """
    keys = np.zeros(len(names), np.uint64)
    for start in range(0, len(names), 1 << 13):
        part = names.slice(start, 1 << 13).cast(pa.binary())
        _, offsets, data = part.buffers()
        bounds = np.frombuffer(offsets, np.int32, len(part) + 1, part.offset * 4).astype(np.int64)
        if bounds[0] == bounds[-1]:
            continue
        letters = np.frombuffer(data, np.uint8, bounds[-1] - bounds[0], bounds[0]).astype(np.uint64) + np.uint64(1)
        lengths = np.diff(bounds)
        position = np.arange(len(letters)) - np.repeat(bounds[:-1] - bounds[0], lengths)
        letters *= _WEIGHTS[position % len(_WEIGHTS)]
        filled = lengths > 0
        keys[start : start + len(part)][filled] = np.add.reduceat(letters, (bounds[:-1] - bounds[0])[filled])
    return keys


def keep_index(table: pa.Table, cached: Path, location: str, parts: Path | None = None, of: str = "") -> TarIndex:
    """Write an index to the cache and map it; if it cannot be written, use it from memory.

    Args:
        table: the index, see `index_tar`.
        cached: the file in the cache.
        location: where it comes from, for errors.
        parts: folder of finished segments, which is removed.
        of: key of the tar, stored in the file.
    """
    keys, rows = sort_keys(table["name"])
    table = table.combine_chunks()
    schema = pa.schema([*table.schema, *_KEYS], table.schema.metadata)
    kept = pa.table([*table.columns, as_array(keys), as_array(rows)], schema)
    with contextlib.suppress(OSError, BadFileError):  # disk full, read-only, or a folder of that name
        cached.parent.mkdir(parents=True, exist_ok=True)
        with write_kept(cached, of) as temporary, pa.ipc.new_file(temporary, kept.schema) as writer:
            writer.write_table(kept)
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)
        if (index := load_kept_index(cached, of)) is not None:
            return index
    return _make_index(kept, location)


def load_kept_index(cached: Path, of: str = "") -> TarIndex | None:
    """Load an index from the cache; None if there is none, if it is damaged, or if it belongs to another key."""
    opened = open_table(cached, of)
    if opened is None or opened.table.num_columns == 0 or opened.table.column(0).num_chunks != 1:
        return None
    schema = opened.table.schema
    if not schema.equals(pa.schema([*index_schema(schema.names), *_KEYS])):
        return None
    return replace(_make_index(opened.table, str(cached)), kept=cached, mapped=opened.file)


def _make_index(table: pa.Table, location: str) -> TarIndex:
    keys = np.frombuffer(table["key"].chunk(0).buffers()[1], np.uint64, len(table))
    rows = np.frombuffer(table["row"].chunk(0).buffers()[1], np.int32, len(table))
    damage = (table.schema.metadata or {}).get(b"damage")
    return TarIndex(
        table.select(index_schema(table.column_names).names), keys, rows, damage.decode() if damage else None, location
    )


def sort_keys(names: pa.ChunkedArray) -> tuple[Uint64s, npt.NDArray[np.int32]]:
    """Hash names, string (N,), and sort the hashes.

    Returns:
        uint64 (N,), the sorted hashes; int32 (N,), the row of each.
    """
    keys = np.concatenate([np.empty(0, np.uint64), *map(hash_names, names.chunks)])
    order = np.argsort(keys, kind="stable")
    return keys[order], order.astype(np.int32)


def describe_others(metadata: Mapping[str, str]) -> str:
    """List the members of a tar that are no plain files, and the first names of each kind; empty if there are none."""
    parts = []
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):  # an index of anyone
        for kind, entry in json.loads(metadata.get(OTHERS, "{}")).items():
            count, first = int(entry["members"]), [str(name)[:200] for name in entry["first"][:5]]
            more = ", ..." if count > len(first) else ""
            parts.append(printable(f"{count:,} x {kind[:80]} ({', '.join(first)}{more})"))
    return "; ".join(parts[:20])


def _count_pictures(names: pa.Array) -> str:
    """Describe how many pictures of each outlet a tar has."""
    outlets = pc.extract_regex(names, r"^(?P<outlet>[^/]+)/images/")
    counts = pc.value_counts(pc.drop_null(pc.struct_field(outlets, [0]))).to_pylist()
    return "pictures of " + ", ".join(f"{c['values']} ({c['counts']:,})" for c in counts) if counts else "no picture"
