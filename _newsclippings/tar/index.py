"""Byte-offset index of an uncompressed tar: where each file lies in it, so that any of them is one positioned read.

The headers are walked once. The index is kept as a memory-mapped Arrow file in which names are found by their hash; its
checksums are compared before any of it is used. As Parquet it can be given to others, who then need no walk: it holds
names, places and the tar's identity, no pixels.
"""

import contextlib
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import BadFileError, BadTarError
from _newsclippings.storage import (
    HEAD,
    DamagedError,
    KeptFile,
    LocalFile,
    RandomFile,
    damaged_cache,
    open_kept,
    write_kept,
)
from _newsclippings.tables import Int64s, as_array, one_chunk, values_of
from _newsclippings.tar.headers import BLOCK
from _newsclippings.tar.segment import SCHEMA
from _newsclippings.tar.walking import check_magic, walk_headers

SAMPLED = 1024  # headers that are compared before an index is believed to be that of a tar with other times
Uint64s = npt.NDArray[np.uint64]

_KEPT = SCHEMA.append(pa.field("key", pa.uint64())).append(
    pa.field("row", pa.int32())
)  # sorted keys, and whose they are


def _weights(count: int) -> Uint64s:
    """Odd numbers that look random: SplitMix64 of 0, 1, 2, ... They are part of the format of the kept index."""
    mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    weights: Uint64s = mixed | np.uint64(1)
    return weights


_WEIGHTS = _weights(1 << 14)


@dataclass(frozen=True)
class TarIndex:
    """Where the files of a tar lie.

    Attributes:
        members: Arrow table of `SCHEMA`, in the order of the tar.
        keys: uint64 (N,), sorted hashes of the names.
        rows: int32 (N,), the member of each key.
        damage: None, or at which byte, after how many members and why the walk had to stop; `members` is then the
            whole part before it.
        location: where the index comes from, for errors.
        kept: the file in the cache that it was made into, which goes if it turns out not to fit the tar.
        mapped: the file in the cache that all of this is in; None if it is in memory.
    """

    members: pa.Table
    keys: Uint64s
    rows: npt.NDArray[np.int32]
    damage: str | None
    location: str
    kept: Path | None = None
    mapped: KeptFile | None = None

    def find(self, names: pa.Array) -> Int64s:
        """The member of each name (in the normal form, nulls allowed); -1 where there is none.

        Raises:
            BadFileError: the index was damaged since it was opened.
        """
        if self.mapped is not None:
            try:
                self.mapped.check()
            except DamagedError:
                raise damaged_cache(self.mapped.path) from None
        found = np.full(len(names), -1, np.int64)
        todo = np.flatnonzero(values_of(names.is_valid()))
        wanted = name_keys(names.take(as_array(todo)))
        places = np.searchsorted(self.keys, wanted)
        while len(todo):  # once round, but for names of the same hash
            same = places < len(self.keys)
            same[same] = self.keys[places[same]] == wanted[same]
            todo, wanted, places = todo[same], wanted[same], places[same]
            rows = self.rows[places]
            equal = values_of(
                pc.equal(one_chunk(self.members["name"].take(as_array(rows))), names.take(as_array(todo)))
            )
            found[todo[equal]] = rows[equal]
            todo, wanted, places = todo[~equal], wanted[~equal], places[~equal] + 1
        return found


def walk(file: RandomFile, parts: Path | None = None) -> pa.Table:
    """Index a tar by hopping from header to header.

    Args:
        file: the tar.
        parts: folder for what is done of the walk, to go on from after an interruption; None to keep nothing.

    Returns:
        Arrow table of `SCHEMA` in the order of the tar. Its schema's metadata hold the tar's identity, and `damage`
        where the walk had to stop: a truncated file, a header whose checksum fails, data after the end marker.

    Raises:
        BadTarError: the file is no uncompressed tar, or has a link, a device, a sparse file, or a name that leaves the
            root.
    """
    check_magic(file)
    about = identity(file)
    members, damage = walk_headers(file, parts and parts / "-".join(value[:16] for value in about.values()))
    if not len(members):
        message = f"{file.path}: {damage or 'it has no file in it'}. Expected a tar with pictures: fetch it again."
        raise BadTarError(message)
    if damage:
        about["damage"] = f"{damage}. The whole part has {_covered(one_chunk(members['name']))}"
    return members.replace_schema_metadata(about)


def changed_tar(tar: str) -> BadTarError:
    """The error of a tar that is not what it was when reading it began."""
    return BadTarError(
        f"{tar}: the tar changed while it was read. Nothing was kept: try again when nothing writes to it."
    )


def identity(file: RandomFile) -> dict[str, str]:
    """What tells a tar from others: its size, and the SHA-256 of its first and last 64 KiB."""
    ends = {"head_sha256": file.read_at(0, HEAD), "tail_sha256": file.read_at(max(0, file.size - HEAD), HEAD)}
    return {"tar_size": str(file.size), **{name: hashlib.sha256(data).hexdigest() for name, data in ends.items()}}


def load_index(file: RandomFile, key: str, folder: Path, key_now: Callable[[], str]) -> TarIndex:
    """The index of a tar, from the cache or by walking its headers.

    Args:
        file: the tar.
        key: its fingerprint, made before it was opened; names the cached file, with the content of a local tar. One of
            the same content and other times has its index moved to its own name.
        folder: where indexes are kept. One that cannot be written to costs the walk each time, and nothing else.
        key_now: makes the fingerprint anew.

    Raises:
        BadTarError: as `walk`, or a member is there twice, or the tar changed during the walk.
    """
    content = f"{_digest(identity(file))}-" if isinstance(file, LocalFile) else ""
    cached, parts = folder / f"{content}{key}.arrow", folder / f"{key}.parts"
    of = content or key
    index = load_kept(cached, of)
    if index is None and content:
        index = _of_same_content(file, cached, of, sorted(folder.glob(f"{content}*.arrow")))
        if index is not None and key_now() != key:
            raise changed_tar(file.path)
    if index is None:
        table = walk(file, parts)
        if key_now() != key:  # else the index of one tar would be kept as that of another
            shutil.rmtree(parts, ignore_errors=True)
            raise changed_tar(file.path)
        index = keep(table, cached, file.path, parts, of)
    return index


def _of_same_content(file: RandomFile, cached: Path, of: str, others: list[Path]) -> TarIndex | None:
    """The index of a tar that was only copied, moved, linked or touched since: its headers are where they were.

    What is kept moves to its new name. The pieces between headers are no part of an index, and are read from the tar.
    """
    for other in others:
        index = load_kept(other, of)
        if index is None or index.damage:  # damage may have been mended, where no header tells
            continue
        count = len(index.members)
        rows = np.arange(count) if count <= SAMPLED else np.linspace(0, count - 1, SAMPLED).astype(np.int64)
        sample = index.members.select(["offset", "header_crc"]).take(as_array(rows))
        places = zip(sample["offset"].to_pylist(), sample["header_crc"].to_pylist(), strict=True)
        if all(zlib.crc32(file.read_at(offset - BLOCK, BLOCK)) == crc for offset, crc in places):
            with contextlib.suppress(OSError):
                os.replace(other, cached)
                return replace(index, location=str(cached), kept=cached)
            return index
    return None


def _digest(about: dict[str, str]) -> str:
    return hashlib.sha256(" ".join(about.values()).encode()).hexdigest()[:32]


def name_keys(names: pa.Array) -> Uint64s:
    """A 64-bit hash of each name: the sum of its bytes plus one, each times a weight of its position, modulo 2**64."""
    keys = np.zeros(len(names), np.uint64)
    for start in range(0, len(names), 1 << 13):
        some = names.slice(start, 1 << 13).cast(pa.binary())
        _, offsets, data = some.buffers()
        bounds = np.frombuffer(offsets, np.int32, len(some) + 1, some.offset * 4).astype(np.int64)
        if bounds[0] == bounds[-1]:
            continue
        letters = np.frombuffer(data, np.uint8, bounds[-1] - bounds[0], bounds[0]).astype(np.uint64) + np.uint64(1)
        lengths = np.diff(bounds)
        position = np.arange(len(letters)) - np.repeat(bounds[:-1] - bounds[0], lengths)
        letters *= _WEIGHTS[position % len(_WEIGHTS)]
        filled = lengths > 0
        keys[start : start + len(some)][filled] = np.add.reduceat(letters, (bounds[:-1] - bounds[0])[filled])
    return keys


def keep(table: pa.Table, cached: Path, location: str, parts: Path | None = None, of: str = "") -> TarIndex:
    """Write an index to the cache, ready to be mapped; use it from memory where that cannot be.

    Args:
        table: see `walk`.
        cached: the file in the cache.
        location: where it comes from, for errors.
        parts: folder that is of no use any more.
        of: key of what it is the index of.

    Raises:
        BadTarError: a member is there twice.
    """
    keys, rows = sorted_keys(table["name"], location)
    table = table.combine_chunks()
    kept = pa.table([*table.columns, as_array(keys), as_array(rows)], _KEPT.with_metadata(table.schema.metadata))
    with contextlib.suppress(OSError, BadFileError):  # no room, no right to write, a folder in its place
        cached.parent.mkdir(parents=True, exist_ok=True)
        with write_kept(cached, of) as temporary, pa.ipc.new_file(temporary, kept.schema) as writer:
            writer.write_table(kept)
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)
        if (index := load_kept(cached, of)) is not None:
            return index
    return _as_index(kept, location)


def load_kept(cached: Path, of: str = "") -> TarIndex | None:
    """An index that was kept of something; None where there is none, or it is not what was written."""
    with contextlib.suppress(DamagedError, pa.ArrowInvalid, OSError):
        file = open_kept(cached, of)
        if file is None:
            return None
        file.check()
        table = pa.ipc.open_file(pa.BufferReader(file.content)).read_all()
        if table.schema.equals(_KEPT) and table["key"].num_chunks == 1:
            return replace(_as_index(table, str(cached)), kept=cached, mapped=file)
    return None


def _as_index(table: pa.Table, location: str) -> TarIndex:
    keys = np.frombuffer(table["key"].chunk(0).buffers()[1], np.uint64, len(table))
    rows = np.frombuffer(table["row"].chunk(0).buffers()[1], np.int32, len(table))
    damage = (table.schema.metadata or {}).get(b"damage")
    return TarIndex(table.select(SCHEMA.names), keys, rows, damage.decode() if damage else None, location)


def sorted_keys(names: pa.ChunkedArray, location: str) -> tuple[Uint64s, npt.NDArray[np.int32]]:
    """The hashes of some names, sorted, and whose they are.

    Raises:
        BadTarError: a name stands twice.
    """
    keys = np.concatenate([np.empty(0, np.uint64), *map(name_keys, names.chunks)])
    order = np.argsort(keys, kind="stable")
    keys, rows = keys[order], order.astype(np.int32)
    same = np.flatnonzero(keys[1:] == keys[:-1])
    suspects = names.take(as_array(np.union1d(rows[same], rows[same + 1])))
    twice = next((c["values"] for c in pc.value_counts(suspects).to_pylist() if c["counts"] > 1), None)
    if twice is not None:
        message = f"{location}: expected each file once, found member {twice!r} twice. Get the tar from its authors."
        raise BadTarError(message)
    return keys, rows


def _covered(names: pa.Array) -> str:
    """How many pictures of each outlet a tar has, in words."""
    outlets = pc.extract_regex(names, r"^(?P<outlet>[^/]+)/images/")
    counts = pc.value_counts(pc.drop_null(pc.struct_field(outlets, [0]))).to_pylist()
    return "pictures of " + ", ".join(f"{c['values']} ({c['counts']:,})" for c in counts) if counts else "no picture"
