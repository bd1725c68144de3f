"""Pickles of `{id: number array | None | list of number arrays}`, read as data: nothing in them is executed.

The file is mapped and walked once, for the place of each array; arrays are views of the file. Most entries look just
like one before but for the id, the numbers and the memo numbers. Such entries are recognised by comparing bytes with a
`Pattern`, at several times the speed of unpickling; all else goes through the machine in `array_pickle_machine`.
"""

import contextlib
import os
from array import array
from dataclasses import dataclass, field
from io import FileIO
from mmap import ACCESS_READ, MADV_DONTNEED, mmap
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from _newsclippings.array_pickle_runs import Walk
from _newsclippings.array_pickle_values import LIST, NONE, Form
from _newsclippings.errors import BadFileError, bad_file, bad_pickle, unreadable
from _newsclippings.files import open_file

__all__ = ["ArrayPickle", "Form", "open_array_pickle"]

BLOCK = 1 << 19  # bytes that are copied together: they stay in the cache of a core
MAPPED = 1 << 25  # bytes of the file that are walked before the memory of their pages is given back
_MAGIC = (
    (b"\x1f\x8b", "gzip", "Decompress it first (gunzip)."),
    (b"PK\x03\x04", "a zip archive", "Is it a file of torch.save? Convert it to numpy arrays, where you trust it."),
    (b"\x93NUMPY", "a .npy file", "Read it with numpy.load."),
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself (git lfs pull)."),
    (b"<", "an HTML page", "The download went wrong; fetch it again."),
)


@dataclass(frozen=True, eq=False)
class ArrayPickle:
    """The entries of an open pickle of number arrays; a context manager.

    Attributes:
        path: the file.
        ids: int64 (N,), in the order of the file, each once.
        offsets: int64 (N,); byte of the array's data in the file; 0 for None and for arrays of no numbers; for a list,
            its number.
        forms: int32 (N,); place in `form_table`; 0 for None, 1 for a list.
        form_table: what arrays look like; None at 0 and 1.
        list_starts: int64 (L + 1,); list n has the arrays `list_starts[n]` up to `list_starts[n + 1]` of the next two.
        part_offsets: int64 (P,); byte of an array's data.
        part_forms: int32 (P,); place in `form_table`.
        data: uint8 (size,); the mapped file, read-only.
    """

    path: str
    ids: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    forms: npt.NDArray[np.int32]
    form_table: list[Form | None]
    list_starts: npt.NDArray[np.int64]
    part_offsets: npt.NDArray[np.int64]
    part_forms: npt.NDArray[np.int32]
    data: npt.NDArray[np.uint8] = field(repr=False)
    _file: FileIO = field(repr=False)
    _map: mmap = field(repr=False)
    _state: tuple[int, int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    def array(self, k: int) -> npt.NDArray[Any] | list[npt.NDArray[Any]] | None:
        """The k-th value: read-only, a view of the file but for Latin-1 text.

        Raises:
            BadFileError: the file changed since it was opened.
        """
        if self._map.size() != self._state[0]:  # reading past a new end of the file would end the process
            self.check_unchanged()
        form, offset = int(self.forms[k]), int(self.offsets[k])
        if form == NONE:
            return None
        if form != LIST:
            return self._array(form, offset)
        parts = range(self.list_starts[offset], self.list_starts[offset + 1])
        return [self._array(int(self.part_forms[p]), int(self.part_offsets[p])) for p in parts]

    def _array(self, number: int, offset: int) -> npt.NDArray[Any]:
        form = self.form_table[number]
        if form is None:
            raise IndexError(number)
        # not the map itself: numpy would not keep it open
        buffer: npt.NDArray[np.uint8] | bytes = self.data
        if form.latin1 and form.nbytes:
            size = int.from_bytes(self._map[offset - 4 : offset], "little")
            buffer, offset = self._map[offset : offset + size].decode("utf-8").encode("latin-1"), 0
        if form.order != "K":
            order: Literal["C", "F"] = "F" if form.order == "F" else "C"
            array: npt.NDArray[Any] = np.ndarray(form.shape, form.dtype, buffer, offset, order=order)
            return array
        stored = [size for _, size in sorted(zip(form.axes, form.shape, strict=True))]
        transposed: npt.NDArray[Any] = np.ndarray(stored, form.dtype, buffer, offset).transpose(form.axes)
        return transposed

    def copy(self, places: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]) -> None:
        """Copy the bytes of the arrays of some entries, which have the same form, but not Latin-1 text.

        Reads instead of copying out of the map: faster, and what is cut off meanwhile does not end the process.

        Args:
            places: of the entries; best in the order of the file.
            out: uint8 (n, size), C-contiguous.

        Raises:
            BadFileError: the file changed since it was opened.
        """
        size = out.shape[1]
        offsets, buffer = self.offsets[places], np.empty(4 * BLOCK, np.uint8)
        every = np.ndarray((max(len(buffer) - size + 1, 0), size), np.uint8, buffer, 0, (1, 1))
        rows = max(BLOCK // max(size, 1), 1)
        for start in range(0, len(places), rows):
            some = offsets[start : start + rows]
            first = some.min()
            width = int(some.max() - first) + size
            if width <= len(buffer):
                self._read(int(first), buffer[:width])
                out[start : start + rows] = every[some - first]
            else:  # far apart, or large
                for offset, row in zip(some.tolist(), out[start : start + rows], strict=True):
                    self._read(offset, row)

    def _read(self, offset: int, out: npt.NDArray[np.uint8]) -> None:
        self._file.seek(offset)
        try:
            got = self._file.readinto(out.data)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if got != len(out):
            raise _changed(self.path)

    def let_go(self) -> None:
        """Give back the memory of the parts of the file that were read; they are read again where they are needed."""
        _let_go(self._map)

    def check_unchanged(self) -> None:
        """Make sure that the file is the one that was opened.

        Raises:
            BadFileError: it has another size or time of change.
        """
        _check_unchanged(self.path, self._file, self._state)

    def close(self) -> None:
        """Make sure of the file once more and give it back; the map goes with the last array in use.

        Raises:
            BadFileError: the file changed since it was opened.
        """
        if self._file.closed:
            return
        try:
            self.check_unchanged()
        finally:
            self._file.close()

    def __enter__(self) -> "ArrayPickle":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_array_pickle(path: str, *, patterns: bool = True) -> ArrayPickle:
    """Map a pickle and find its arrays. Costs about 20 bytes an entry, and as much again while the file is walked.

    Args:
        path: a local file.
        patterns: False walks every entry with the exact machine, for tests; the result is the same.

    Raises:
        BadPickleError: the file is no pickle of protocol 2 to 5 that holds just one dict of 64-bit integers and number
            arrays, lists of them or None, each id once; or it is larger or deeper than any sensible one.
        BadFileError: it changed meanwhile.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(path, "rb", buffering=0, opener=open_file))
        state = _state(file)
        try:
            head = file.read(64)
        except OSError as error:
            raise unreadable(path, error) from error
        _check_head(path, head)
        mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
        walk = Walk(path, mapped, patterns)
        kept = 0  # where pages of the map may be in memory from
        for _ in walk.run():
            _check_unchanged(path, file, state)
            if walk.pos - kept > MAPPED:
                kept = walk.pos
                _let_go(mapped)
        _check_unchanged(path, file, state)
        ids = _column(walk.ids)
        ordered = np.sort(ids)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(twice):
            first, second = np.flatnonzero(ids == twice[0])[:2] + 1
            raise walk.bad("each id once", f"id {twice[0]} as entries {first} and {second}")
        entries = ArrayPickle(
            path,
            ids,
            _column(walk.offsets),
            _column(walk.forms),
            walk.form_table,
            _column(walk.list_starts),
            _column(walk.part_offsets),
            _column(walk.part_forms),
            np.frombuffer(mapped, np.uint8),
            file,
            mapped,
            state,
        )
        stack.pop_all()
        return entries


def _column(numbers: "array[int]") -> npt.NDArray[Any]:
    column = np.frombuffer(numbers, numbers.typecode) if numbers else np.empty(0, numbers.typecode)
    column.flags.writeable = False
    return column


def _state(file: FileIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _let_go(mapped: mmap) -> None:
    """Pages of a mapped file count as memory of the process for as long as nobody says that they are done with."""
    if hasattr(mapped, "madvise"):
        mapped.madvise(MADV_DONTNEED)


def _check_unchanged(path: str, file: FileIO, state: tuple[int, int]) -> None:
    if _state(file) != state:
        raise _changed(path)


def _changed(path: str) -> BadFileError:
    do = "Its values are not to be trusted: load again when it is at rest."
    return bad_file(path, "a file that stays as it is while it is read", "that it changed", do)


def _check_head(path: str, head: bytes) -> None:
    """Refuse what is plainly no pickle of protocol 2 to 5, by its first bytes."""
    expected = "a pickle of protocol 2 to 5"
    if not head:
        raise bad_pickle(path, 0, "", expected, "an empty file", "The download went wrong; fetch it again.")
    for magic, what, do in _MAGIC:
        if head.lstrip().startswith(magic):
            raise bad_pickle(path, 0, "", expected, what, do)
    do = "Where you trust it, write it anew with pickle.dump(..., protocol=4)."
    if head[0] != 0x80:
        found = "no opcode PROTO: protocol 0 or 1, or another kind of file"
        raise bad_pickle(path, 0, "", expected, found, do)
    if len(head) < 2 or not 2 <= head[1] <= 5:
        raise bad_pickle(path, 1, "", expected, f"protocol {head[1]}" if len(head) > 1 else "one byte", do)
