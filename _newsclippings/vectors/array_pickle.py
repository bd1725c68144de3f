"""Pickles of `{id: number array | None | list of number arrays}`, read as data: nothing in them is executed.

The file is walked once, for the place of each array; arrays are read when they are asked for. Most entries look just
like one before but for the id, the numbers and the memo numbers. Such entries are recognised by comparing bytes with a
`Pattern`, at several times the speed of unpickling; all else goes through the machine in `array_pickle_machine`.
"""

import contextlib
import os
from array import array
from dataclasses import dataclass, field
from io import FileIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from _newsclippings.errors import bad_pickle, changed_file, unreadable
from _newsclippings.storage import open_file
from _newsclippings.vectors.array_pickle_runs import Walk
from _newsclippings.vectors.array_pickle_values import LIST, NONE, Form, latin1_bytes
from _newsclippings.vectors.array_pickle_window import read_at

__all__ = ["ArrayPickle", "Form", "open_array_pickle"]

BLOCK = 1 << 19  # bytes that are copied together: they stay in the cache of a core
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
    """

    path: str
    ids: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    forms: npt.NDArray[np.int32]
    form_table: list[Form | None]
    list_starts: npt.NDArray[np.int64]
    part_offsets: npt.NDArray[np.int64]
    part_forms: npt.NDArray[np.int32]
    _file: FileIO = field(repr=False)
    _state: tuple[int, int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._state[0]

    def array(self, k: int) -> npt.NDArray[Any] | list[npt.NDArray[Any]] | None:
        """The k-th value: read-only, a copy.

        Raises:
            BadFileError: the file changed since it was opened.
        """
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
        size = form.nbytes
        if form.latin1 and size:
            text = self._bytes(offset - 4, min(4 + 2 * size, self.size - offset + 4))
            buffer = latin1_bytes(text[4 : 4 + int.from_bytes(text[:4], "little")])
        else:
            buffer = self._bytes(offset, size)
        if buffer is None or len(buffer) != size:  # it was right when the file was opened
            raise changed_file(self.path)
        if form.order != "K":
            order: Literal["C", "F"] = "F" if form.order == "F" else "C"
            array: npt.NDArray[Any] = np.ndarray(form.shape, form.dtype, buffer, order=order)
            return array
        stored = [size for _, size in sorted(zip(form.axes, form.shape, strict=True))]
        transposed: npt.NDArray[Any] = np.ndarray(stored, form.dtype, buffer).transpose(form.axes)
        return transposed

    def _bytes(self, offset: int, size: int) -> bytes:
        data = read_at(self.path, self._file, offset, size)
        self.check_unchanged()
        return data

    def copy(self, places: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]) -> None:
        """Copy the bytes of the arrays of some entries, which have the same form, but not Latin-1 text.

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
            raise changed_file(self.path)

    def check_unchanged(self) -> None:
        """Make sure that the file is the one that was opened.

        Raises:
            BadFileError: it has another size or time of change.
        """
        _check_unchanged(self.path, self._file, self._state)

    def close(self) -> None:
        """Make sure of the file once more and give it back.

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
    """Open a pickle and find its arrays. Costs about 20 bytes an entry, and as much again while the file is walked.

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
        try:
            _check_head(path, head)
            walk = Walk(path, file, state[0], patterns)
            for _ in walk.run():
                _check_unchanged(path, file, state)
        except Exception:
            _check_unchanged(path, file, state)  # what was found may be of two states of it
            raise
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
            file,
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


def _check_unchanged(path: str, file: FileIO, state: tuple[int, int]) -> None:
    if _state(file) != state:
        raise changed_file(path)


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
