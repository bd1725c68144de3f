"""Files that are made of others and kept in a cache: their bytes are compared with checksums before they are used.

A kept file is its content, then a checksum of each piece of the content, then a trailer that covers those checksums,
and the key of what it was made of: a sound file that was copied from elsewhere over another is none.
What does not match is made again by the caller, or refused; it is never used.
"""

import contextlib
import logging
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from _newsclippings.errors import BadFileError, NewsCLIPpingsError
from _newsclippings.storage.files import write_atomically
from _newsclippings.tables import Int64s

PIECE = 64 << 10  # bytes that one checksum covers: as few as a random read may cost
_TRAILER = struct.Struct("<16sQQ")  # magic, bytes of the content, checksum of both and of all piece checksums
_MAGIC = b"newsclippings-1\n"
_State = tuple[int, int, int, int, int]
_logger = logging.getLogger("newsclippings")


class DamagedError(Exception):
    """The content of a kept file is not what was written."""


def damaged_cache(path: object) -> BadFileError:
    """The error of a file in the cache that is not what was written there."""
    return BadFileError(f"{path}: this file of the cache is damaged, or gone. Load again: it is then made again.")


class KeptFile:
    """A kept file, mapped.

    Attributes:
        path: the file.
        content: its content. Call `check` each time before bytes of it are used: it is mapped, and may be damaged, or
            cut off, while this process has it open.
    """

    def __init__(self, path: Path, content: pa.Buffer, sums: npt.NDArray[np.uint64], state: _State | None) -> None:
        self.path, self.content = path, content
        self._sums, self._view, self._state = sums, memoryview(content), state
        self._unproved = np.ones(len(sums), np.bool_)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Compare the pieces that hold some bytes of the content, each once, and again when the file was written to.

        Args:
            start: first byte.
            stop: the byte after the last; None for the end of the content.

        Raises:
            DamagedError: a piece is not what was written.
        """
        self._look()
        stop = self.content.size if stop is None else stop
        first, last = start // PIECE, -(-stop // PIECE)
        self._check(first + np.flatnonzero(self._unproved[first:last]))

    def check_many(self, starts: Int64s, stops: Int64s) -> None:
        """The same for many stretches: those from each of `starts` to the byte before its fellow in `stops`."""
        self._look()
        last = -(-stops // PIECE)
        edges = np.zeros(len(self._unproved) + 1, np.int64)  # +1 where a stretch begins, -1 behind its end
        np.add.at(edges, starts[starts < stops] // PIECE, 1)
        np.add.at(edges, last[starts < stops], -1)
        self._check(np.flatnonzero((np.cumsum(edges[:-1]) > 0) & self._unproved))

    def _look(self) -> None:
        """Prove nothing by what was compared before the file was written to; what was cut off may not even be read."""
        state = _state(self.path)
        if state == self._state or state is None or self._state is None or state[:2] != self._state[:2]:
            return  # the same, or what is mapped has no name any more: it was removed, or replaced by another
        if state[2] != self._state[2]:
            message = f"{self.path}: {state[2]:,} bytes, and not the {self._state[2]:,} that were written"
            raise DamagedError(message)
        self._state = state
        self._unproved[:] = True

    def _check(self, split_range: Int64s) -> None:
        for piece in split_range.tolist():
            if xxhash.xxh3_64_intdigest(self._view[piece * PIECE : (piece + 1) * PIECE]) != self._sums[piece]:
                message = f"{self.path}: bytes {piece * PIECE:,} to {(piece + 1) * PIECE:,} are not those written"
                raise DamagedError(message)
            self._unproved[piece] = False


@contextlib.contextmanager
def write_kept(path: Path, key: str = "") -> Iterator[str]:
    """Give a temporary name to write the content to; add the checksums and rename it to `path` if all went well.

    Args:
        path: the file.
        key: of what it is made of; whoever opens it has to know it.
    """
    with write_atomically(path) as temporary:
        yield temporary
        with open(temporary, "r+b") as file:
            sums = [xxhash.xxh3_64_intdigest(piece) for piece in iter(lambda: file.read(PIECE), b"")]
            size, packed = file.tell(), np.array(sums, "<u8").tobytes()
            file.write(packed + _TRAILER.pack(_MAGIC, size, _checksum(size, packed, key)))


def open_kept(path: Path, key: str = "") -> KeptFile | None:
    """Map a kept file; None if there is none, it is not whole, or of another key. Its content is not compared yet."""
    if not os.path.isfile(path):
        return None
    with contextlib.suppress(pa.ArrowInvalid, OSError):
        state = _state(path)  # before it is read
        file: Any = pa.memory_map(str(path))
        if file.size() < _TRAILER.size:
            return None
        data = file.read_buffer(file.size())
        magic, size, checksum = _TRAILER.unpack(memoryview(data)[-_TRAILER.size :])
        count = -(-size // PIECE)
        if magic != _MAGIC or size + 8 * count + _TRAILER.size != data.size:
            return None
        packed = data.slice(size, 8 * count)
        if _checksum(size, packed, key) == checksum:
            return KeptFile(path, data.slice(0, size), np.frombuffer(packed, "<u8").astype(np.uint64), state)
    return None


@dataclass(frozen=True)
class KeptTable:
    """An Arrow table in memory, or mapped from a kept file.

    Attributes:
        table: the table. Call `check` each time before its values are used.
        file: the kept file; None if the table is in memory.
    """

    table: pa.Table
    file: KeptFile | None = None

    def check(self) -> None:
        """Raise `BadFileError` if the file was damaged after it was opened."""
        if self.file is not None:
            try:
                self.file.check()
            except DamagedError:
                raise damaged_cache(self.file.path) from None


Make = Callable[[list[str]], Mapping[str, pa.Table | KeptTable]]


def keep_tables(folder: Path, keys: Mapping[str, str], make: Make) -> dict[str, KeptTable]:
    """Open tables that were kept in a folder; make those that are not there, or not whole, and keep them.

    Of several processes that need the same table one makes it, and the others wait. A folder that cannot be written to
    costs the making each time, and nothing else.

    Args:
        folder: where they are kept.
        keys: name of each table -> what it is made of, a name for its file.
        make: makes the tables of some names, reading each input once. A `KeptTable` among them is not kept.
    """
    found = {name: table for name, key in keys.items() if (table := _open_table(folder, key)) is not None}
    if len(found) < len(keys):
        with contextlib.ExitStack() as locks:
            for key in sorted(keys[name] for name in keys if name not in found):
                locks.enter_context(_locked(folder / f"{key}.lock"))
            absent = []
            for name in (name for name in keys if name not in found):
                table = _open_table(folder, keys[name])  # another process may have made it
                if table is None:
                    absent.append(name)
                else:
                    found[name] = table
            if absent:
                for name, made in make(absent).items():
                    found[name] = made if isinstance(made, KeptTable) else _keep_table(made, folder, keys[name])
    return {name: found[name] for name in keys}


def _open_table(folder: Path, key: str) -> KeptTable | None:
    """A kept table, compared with its checksums; None where there is none, or it is not what was written."""
    with contextlib.suppress(DamagedError, pa.ArrowInvalid, OSError):
        file = open_kept(folder / f"{key}.arrow", key)
        if file is not None:
            file.check()
            return KeptTable(pa.ipc.open_file(pa.BufferReader(file.content)).read_all(), file)
    return None


def _keep_table(table: pa.Table, folder: Path, key: str) -> KeptTable:
    """Write a table to the cache and map it; where it cannot be written, it stays in memory."""
    path = folder / f"{key}.arrow"
    try:
        with write_kept(path, key) as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
            writer.write_table(table.combine_chunks())
    except (OSError, NewsCLIPpingsError) as error:  # a full disk, no right to write, a folder in its place
        _logger.warning("%s cannot be written (%s): what is read now is read again next time.", path, error)
        return KeptTable(table)
    return _open_table(folder, key) or KeptTable(table)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process in at a time; all of them where there are no locks, or no file can be made for one."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):
            import fcntl  # not on Windows

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)  # a forked child has the file open, too
        yield


def _state(path: Path) -> _State | None:
    """Which file it is, its size, and its times; None if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _checksum(size: int, packed: Any, key: str) -> int:
    hashed = xxhash.xxh3_64(_MAGIC + size.to_bytes(8, "little"))
    hashed.update(packed)
    hashed.update(key.encode())
    return hashed.intdigest()
