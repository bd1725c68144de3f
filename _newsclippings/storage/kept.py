"""Files kept in a cache: their bytes are compared with checksums before they are used.

A kept file holds its content, then a checksum of each piece of the content, then a trailer with a checksum of those and
of the key that names what the file was made from, so an intact file that was copied over another is noticed too.
A proof is a kept file that names other files of a folder, with their sizes, checksums, and times when they were last
compared; it serves files that other programs read, which can hold nothing but their content.
A caller makes or fetches again what does not match, or refuses it; it never uses it.
"""

import contextlib
import hashlib
import json
import logging
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from _newsclippings.errors import BadFileError, ConfigError, NewsCLIPpingsError
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.files import LARGEST, fetch_into, identify, write_atomically
from _newsclippings.storage.remote import is_url
from _newsclippings.storage.space import report_cache_errors, report_full_disk
from _newsclippings.tables import Int64s
from _newsclippings.text import without_secrets

PIECE = 64 << 10  # bytes that one checksum covers; a read of one byte compares this many
ALWAYS = 256 << 20  # bytes of proved files that are compared each time; larger files only if their times changed
_BLOCK = 1 << 20  # bytes that are read at a time
_TRAILER = struct.Struct("<16sQQ")  # magic, bytes of the content, checksum of both and of all piece checksums
_MAGIC = b"newsclippings-1\n"
_State = tuple[int, int, int, int, int]
# Proof -> names and states of the files that this process compared with it; they need not be compared again.
_PROVED: dict[Path, dict[str, str]] = {}
_logger = logging.getLogger("newsclippings")


class DamagedError(Exception):
    """The content of a kept file is not what was written to it."""


def damaged_cache(path: object) -> BadFileError:
    """Make the error of a kept file that is not what was written."""
    return BadFileError(f"{path}: this file of the cache is damaged, or gone. Load again: it is then made again.")


class KeptFile:
    """A kept file, mapped into memory.

    Attributes:
        path: the file.
        content: its content. Call `check` each time before using bytes of it, since the file may be damaged or
            truncated while it is mapped.
    """

    def __init__(self, path: Path, content: pa.Buffer, sums: npt.NDArray[np.uint64], state: _State | None) -> None:
        self.path, self.content = path, content
        self._sums, self._view, self._state = sums, memoryview(content), state
        self._unproved = np.ones(len(sums), np.bool_)

    def check(self, start: int = 0, stop: int | None = None) -> None:
        """Compare the pieces that hold a range of bytes with their checksums, unless they were compared before.

        Pieces are compared again if the file was written to since.

        Args:
            start: first byte.
            stop: the byte after the last; None for the end of the content.

        Raises:
            DamagedError: a piece is not what was written.
        """
        self._notice_changes()
        stop = self.content.size if stop is None else stop
        first, last = start // PIECE, -(-stop // PIECE)
        self._check(first + np.flatnonzero(self._unproved[first:last]))

    def require_intact(self) -> None:
        """Check the whole content, and raise `BadFileError`, which advises to load again, if it is damaged."""
        try:
            self.check()
        except DamagedError:
            raise damaged_cache(self.path) from None

    def check_many(self, starts: Int64s, stops: Int64s) -> None:
        """Check many ranges of bytes: int64 (N,) of first bytes, and of the bytes after the last; see `check`."""
        self._notice_changes()
        last = -(-stops // PIECE)
        edges = np.zeros(len(self._unproved) + 1, np.int64)  # +1 where a range begins, -1 after its end
        np.add.at(edges, starts[starts < stops] // PIECE, 1)
        np.add.at(edges, last[starts < stops], -1)
        self._check(np.flatnonzero((np.cumsum(edges[:-1]) > 0) & self._unproved))

    def _notice_changes(self) -> None:
        """Compare all pieces again if the file was written to; raise `DamagedError` if its size changed.

        Reading beyond the end of a truncated file would crash the process.
        """
        state = _state(self.path)
        if state == self._state or state is None or self._state is None or state[:2] != self._state[:2]:
            return  # unchanged, or removed, or replaced by another file: the mapped one has no name any more
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
    """Yield a temporary path for the content; if the block succeeds, add the checksums and rename it to `path`.

    Args:
        path: the file.
        key: names what the content is made from; `open_kept` needs the same one.
    """
    with write_atomically(path) as temporary:
        yield temporary
        with open(temporary, "r+b") as file:
            sums = [xxhash.xxh3_64_intdigest(piece) for piece in iter(lambda: file.read(PIECE), b"")]
            size, packed = file.tell(), np.array(sums, "<u8").tobytes()
            file.write(packed + _TRAILER.pack(_MAGIC, size, _checksum(size, packed, key)))


def open_kept(path: Path, key: str = "") -> KeptFile | None:
    """Map a kept file, whose content is not compared yet; return None if it is absent, damaged or has another key."""
    if not os.path.isfile(path):
        return None
    with contextlib.suppress(pa.ArrowInvalid, OSError):
        state = _state(path)  # before it is mapped, so that a later change is noticed
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
        table: the table. Call `check` each time before using its values.
        file: the kept file; None if the table is in memory.
    """

    table: pa.Table
    file: KeptFile | None = None

    def check(self) -> None:
        """Raise `BadFileError` if the file was damaged after it was opened."""
        if self.file is not None:
            self.file.require_intact()


Make = Callable[[list[str]], Iterable[tuple[str, pa.Table | KeptTable]]]


def keep_tables(folder: Path, keys: Mapping[str, str], make: Make) -> dict[str, KeptTable]:
    """Open tables that are kept in a folder; make and keep those that are absent or damaged.

    If several processes need the same table, one makes it and the others wait. If the folder cannot be written to, the
    tables are made each time.

    Args:
        folder: where they are kept.
        keys: name of each table -> what it is made from, which is also the name of its file.
        make: makes the tables of the given names, reading each input once. It may return a `KeptTable` for one that is
            not to be kept.

    Returns:
        Name -> table, in the order of `keys`.
    """
    places = {name: (folder / f"{key}.arrow", key) for name, key in keys.items()}
    tables = {name: open_table(*place) for name, place in places.items()}
    if None in tables.values():
        with contextlib.ExitStack() as locks:
            for key in sorted(keys[name] for name, table in tables.items() if table is None):
                locks.enter_context(_lock_file(folder / f"{key}.lock"))
            # Another process may have made them while this one waited.
            tables = {name: table or open_table(*places[name]) for name, table in tables.items()}
            if absent := [name for name, table in tables.items() if table is None]:
                for name, made in make(absent):
                    tables[name] = made if isinstance(made, KeptTable) else _keep_table(made, *places[name])
    return {name: table for name, table in tables.items() if table is not None}


def open_table(path: Path, key: str) -> KeptTable | None:
    """Open a kept table and compare it with its checksums; return None if it is absent or damaged."""
    with contextlib.suppress(DamagedError, pa.ArrowInvalid, OSError):
        file = open_kept(path, key)
        if file is not None:
            file.check()
            return KeptTable(pa.ipc.open_file(pa.BufferReader(file.content)).read_all(), file)
    return None


def _keep_table(table: pa.Table, path: Path, key: str) -> KeptTable:
    """Write a table to the cache and map it; if it cannot be written, it stays in memory."""
    try:
        with write_kept(path, key) as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
            writer.write_table(table.combine_chunks())
    except (OSError, NewsCLIPpingsError) as error:  # for example a full or read-only disk, or a folder at this path
        _logger.warning("%s cannot be written (%s): what is read now is read again next time.", path, error)
        return KeptTable(table)
    return open_table(path, key) or KeptTable(table)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    """Let one process at a time run the block; all of them if the file cannot be made or locked."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):
            import fcntl  # not on Windows

            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
            stack.callback(fcntl.flock, file, fcntl.LOCK_UN)  # closing is not enough: a forked child has it open too
        yield


def _state(path: Path) -> _State | None:
    """Return device, inode, size and times of a file; None if there is none."""
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


def cache_folder() -> Path:
    """Return the cache folder of `datasets`; this package's folder is inside it."""
    caches = os.environ.get("XDG_CACHE_HOME", os.path.join("~", ".cache"))
    home = os.environ.get("HF_HOME", os.path.join(caches, "huggingface"))
    return Path(os.path.expanduser(os.environ.get("HF_DATASETS_CACHE", os.path.join(home, "datasets"))))


def local_copy(location: str, folder: Path, most: int = LARGEST, access: Access = NO_ACCESS) -> str:
    """Return a local path for a location: a local one itself, or that of a kept copy of a URL, fetched if needed.

    Args:
        location: a path or a URL.
        folder: where copies are kept.
        most: the largest file to fetch, in bytes.
        access: what the user passed to reach a URL.
    """
    if not is_url(location):
        return location
    proof = _proof_of_copy(location, folder, access)
    copy = folder / f"{proof.stem}-{without_secrets(location).rpartition('/')[2][-100:]}"
    if not is_proved(proof, folder):
        with report_cache_errors(folder):
            with write_atomically(copy) as temporary, open(temporary, "wb") as sink:
                fetch_into(location, sink, most, access)
            write_proof(proof, folder, [copy.name])
    return str(copy)


def has_local_copy(location: str, folder: Path, access: Access = NO_ACCESS) -> bool:
    """Check whether `local_copy` would fetch nothing, by the names of the kept files alone."""
    return not is_url(location) or _proof_of_copy(location, folder, access).exists()


def _proof_of_copy(location: str, folder: Path, access: Access) -> Path:
    return folder / f"{hashlib.sha256(identify(location, access=access).encode()).hexdigest()[:16]}.proof"


def write_proof(proof: Path, folder: Path, names: Iterable[str]) -> None:
    """Write a proof of the files with these names in a folder."""
    _write_proof(proof, {name: [*sum_file(folder / name), _state_text(folder / name)] for name in names})


def is_proved(proof: Path, folder: Path, only: str | None = None) -> bool:
    """Check whether the files that a proof names exist, and hold what they held when it was written.

    The smallest files are always compared, up to `ALWAYS` bytes together; larger ones only if their times changed since
    they were last compared.

    Args:
        proof: the proof; if it is absent or damaged, the result is False.
        folder: where the files are.
        only: check this file alone.
    """
    try:
        known = _read_proof(proof)
        states = {name: _state_text(folder / name) for name in known}
    except (OSError, ValueError, DamagedError):
        _PROVED.pop(proof, None)
        return False
    if any(size != int(states[name].split()[0]) for name, (size, *_) in known.items()):
        return False  # without reading the files, which may have terabytes
    if only is not None:
        return only in known and sum_file(folder / only) == tuple(known[only][:2])
    if _PROVED.get(proof) == states:
        return True
    read, changed = 0, False
    for name, (size, checksum, state) in sorted(known.items(), key=lambda item: item[1][0]):
        read += size
        changed |= state != states[name]
        if (read <= ALWAYS or state != states[name]) and sum_file(folder / name) != (size, checksum):
            return False
        known[name][2] = states[name]
    if changed:  # copied or touched files: with their new times, the next call need not compare them
        with contextlib.suppress(OSError, ConfigError):  # the disk is full or read-only
            _write_proof(proof, known)
    _PROVED[proof] = states
    return True


def _read_proof(proof: Path) -> dict[str, list[Any]]:
    file = open_kept(proof, proof.name)
    if file is None:
        raise DamagedError(proof)
    file.check()
    known: dict[str, list[Any]] = json.loads(file.content.to_pybytes())
    return known


def _write_proof(proof: Path, known: dict[str, list[Any]]) -> None:
    with report_full_disk(proof.parent), write_kept(proof, proof.name) as temporary:
        Path(temporary).write_bytes(json.dumps(known).encode())


def _state_text(path: Path) -> str:
    """Return size and times of a file, which change if it is written to."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        message = f"{path} is not a file"
        raise OSError(message)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def sum_file(path: Path) -> tuple[int, int]:
    """Return size and checksum of a file; (-1, 0) if it cannot be read."""
    hashed, size, block = xxhash.xxh3_64(), 0, memoryview(bytearray(_BLOCK))
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                hashed.update(block[:count])
                size += count
    except OSError:
        return -1, 0
    return size, hashed.intdigest()
