"""Read embedding vectors by id from the authors' pickles, which are never unpickled.

A pickle `<kind>_<split>.pkl` is converted once, in its own order, to a mapped file that is named by its identity.
After that, reading a vector only copies its bytes. Vectors are float32, whatever type the pickle has.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import bad_file
from _newsclippings.storage import (
    DamagedError,
    KeptFile,
    changed_file,
    damaged_cache,
    open_kept,
    progress_bar,
    report_cache_errors,
    write_kept,
)
from _newsclippings.tables import Int64s, as_array, lookup
from _newsclippings.text import printable
from _newsclippings.vectors.pickled_arrays import NONE, Form, PickledArrays

Float32s = npt.NDArray[np.float32]

_FETCH_AGAIN = "Fetch the file again from the authors' Hub repository."
BATCH_BYTES = 32 << 20  # of vectors that are converted, and held in memory, at a time
READ_BYTES = 4 << 20  # the same for reads into memory; so few stay in the CPU cache until they are checked
_COUNTS = 16  # bytes at the end of a converted file: the numbers of ids and of vectors
_NUMBERS = {"float32": pa.float32(), "float16": pa.float16()}


def read_pickle(path: str, one_each: bool) -> tuple[Int64s, Int64s, Float32s]:
    """Read a pickle into memory; see `read_faces`. If `one_each`, an id must have one vector."""
    with PickledArrays(path) as file:
        width, everything = _find_width(file), np.arange(len(file))
        starts = _starts(file, everything, width, one_each)
        vectors = np.empty((int(starts[-1]), width), np.float32)
        for batch in _split_into_batches(starts, width, READ_BYTES):
            _copy_vectors(file, everything[batch], vectors[starts[batch.start] : starts[batch.stop]])
        return np.array(file.ids), starts, vectors  # a copy of the ids, which are a view of memory of `file`


class Batch(NamedTuple):
    """Some ids of a file, and their vectors.

    Attributes:
        ids: int64 (N,).
        counts: int64 (N,), the number of vectors of each id; None if each has one.
        vectors: float32 or float16 (M, width), those of the first id first.
    """

    ids: Int64s
    counts: Int64s | None
    vectors: npt.NDArray[Any]


class Embeddings:
    """The vectors of one file, or of one kind and split, in a mapped file. They are used after a checksum was compared.

    Attributes:
        ids: int64 (N,), sorted; those that have a vector, or, of several, a list that may be empty.
        bytes_each: bytes per id, on average.
    """

    def __init__(self, vectors: "_ConvertedFile", convert_again: Callable[[], "_ConvertedFile"]) -> None:
        """Store the open vectors, and how to convert them again if some turn out to be damaged."""
        self._vectors, self._convert_again = vectors, convert_again
        self._order = np.append(np.argsort(vectors.ids, kind="stable"), -1)  # the last entry is for unknown ids
        self.ids = vectors.ids[self._order[:-1]]
        self.bytes_each = vectors.bytes_each

    def count(self, keys: Int64s) -> int:
        """Count the ids among `keys` that have a vector."""
        return int((lookup(self.ids, keys) >= 0).sum())

    def take(self, keys: Int64s) -> pa.Array:
        """Return the vectors of some ids.

        Args:
            keys: int64 (N,).

        Returns:
            Fixed-size lists of float32 or float16 (N,), of several vectors lists of them; null for ids without.

        Raises:
            BadPickleError, BadFileError: they were damaged, and converting them again failed.
        """
        places = self._order[lookup(self.ids, keys)]
        try:
            return self._vectors.take(places)
        except DamagedError:
            self._vectors = self._convert_again()
            return self._vectors.take(places)


class _ConvertedFile:
    """A file of converted vectors.

    It has the vectors, if several the start of each id's vectors (int32), the ids (int64), and the numbers of ids and
    of vectors (int64), all little-endian. Nothing in it is used before its checksum was compared.
    """

    def __init__(self, file: KeptFile, width: int, several: bool, dtype: str) -> None:
        """Check and read everything but the vectors.

        Raises:
            DamagedError: the file is damaged, or has vectors of another form.
        """
        size, numbers = file.content.size, _NUMBERS[dtype]
        file.check(max(0, size - _COUNTS))
        ids, vectors = np.frombuffer(file.content, "<i8", 2, size - _COUNTS).tolist() if size >= _COUNTS else (0, 0)
        self._bytes_of_row = numbers.bit_width // 8 * width
        self._end = vectors * self._bytes_of_row + -(vectors * self._bytes_of_row) % 8
        starts = 4 * (ids + 1 + (ids + 1) % 2) if several else 0
        if size != self._end + starts + 8 * ids + _COUNTS:
            message = f"{file.path} has other vectors than expected"
            raise DamagedError(message)
        file.check(self._end)
        self.ids: Int64s = np.array(np.frombuffer(file.content, "<i8", ids, self._end + starts), np.int64)
        self.bytes_each = self._bytes_of_row * vectors // max(1, ids)
        self._file = file
        values = pa.Array.from_buffers(numbers, width * vectors, [None, file.content])
        self._array = pa.Array.from_buffers(pa.list_(numbers, width), vectors, [None], children=[values])
        self._starts = np.arange(ids + 1, dtype=np.int32)
        if several:
            self._starts = np.frombuffer(file.content, "<i4", ids + 1, self._end)
            offsets = file.content.slice(self._end, 4 * (ids + 1))
            self._array = pa.Array.from_buffers(
                pa.list_(self._array.type), ids, [None, offsets], children=[self._array]
            )

    def take(self, places: Int64s) -> pa.Array:
        """Return the vectors of the ids at `places` (int64 (N,)); null for -1.

        Raises:
            DamagedError: a vector is damaged.
        """
        self._file.check(self._end)
        known = places[places >= 0]
        bounds = (self._bytes_of_row * self._starts[part].astype(np.int64) for part in (known, known + 1))
        self._file.check_many(*bounds)
        return self._array.take(as_array(places, places < 0))


def load_embeddings(
    path: str, key: str, width: int, faces: bool, folder: Path, check_unchanged: Callable[[], None] = lambda: None
) -> Embeddings:
    """Load the vectors of a pickle of the authors.

    Args:
        path: the pickle.
        key: its identity, which names the converted file.
        width: numbers per vector.
        faces: whether an id may have any number of vectors, or None.
        folder: where converted files are kept.
        check_unchanged: raises an error if the pickle changed since `key` was computed; then nothing is kept.

    Raises:
        BadPickleError: the file is not a dict of number arrays, or damaged.
        BadFileError: a vector has another width, or a number that is not finite.
    """

    def read() -> Iterator[Batch]:
        return read_batches(path, width, faces)

    return convert_once(read, path, key, width, faces, "float32", folder, check_unchanged)


def convert_once(
    read: Callable[[], Iterator[Batch]],
    location: str,
    key: str,
    width: int,
    several: bool,
    dtype: str,
    folder: Path,
    check_unchanged: Callable[[], None],
) -> Embeddings:
    """Load vectors; convert them at their first use, and again if the converted file is damaged.

    Args:
        read: reads them.
        location: where they come from, for errors.
        key: names the converted file: the identity of what is read, and of what it becomes.
        width: numbers per vector.
        several: whether an id may have any number of vectors.
        dtype: `"float32"` or `"float16"`, of what `read` yields.
        folder: where converted files are kept.
        check_unchanged: raises an error if the input changed since `key` was computed; then nothing is kept.
    """
    converted = folder / f"{key}.vectors"

    def convert() -> _ConvertedFile:
        with report_cache_errors(folder):
            converted.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            with write_kept(converted, converted.name) as temporary, open(temporary, "wb") as file:
                _write(read(), file, several)
                check_unchanged()
        vectors = _open_converted(converted, width, several, dtype)
        if vectors is None:
            raise damaged_cache(converted)
        return vectors

    def convert_again() -> _ConvertedFile:
        vectors = convert()
        if not np.array_equal(vectors.ids, known.ids):
            raise changed_file(location)
        return vectors

    known = _open_converted(converted, width, several, dtype) or convert()
    return Embeddings(known, convert_again)


def _open_converted(converted: Path, width: int, several: bool, dtype: str) -> _ConvertedFile | None:
    """Open a file of converted vectors; None if there is none, or if it is damaged."""
    file = open_kept(converted, converted.name)
    with contextlib.suppress(DamagedError):
        return _ConvertedFile(file, width, several, dtype) if file else None
    return None


def _write(batches: Iterable[Batch], file: BinaryIO, several: bool) -> None:
    """Write the content of a `_ConvertedFile`."""
    ids, counts = [np.empty(0, "<i8")], [np.zeros(1, np.int64)]
    for batch in batches:
        ids.append(batch.ids.astype("<i8"))
        counts.append(np.ones(len(batch.ids), np.int64) if batch.counts is None else batch.counts)
        file.write(np.ascontiguousarray(batch.vectors).data)
    file.write(bytes(-file.tell() % 8))
    starts = np.cumsum(np.concatenate(counts))
    if several:
        file.write(starts.astype("<i4").data)
        file.write(bytes(-file.tell() % 8))
    file.write(np.concatenate(ids).data)
    file.write(np.array([len(starts) - 1, starts[-1]], "<i8").data)


def read_embedding_ids(path: str, width: int, faces: bool) -> tuple[Int64s, int]:
    """Read the ids of a pickle, without its vectors.

    Args:
        path: the pickle.
        width: numbers per vector.
        faces: whether an id may have any number of vectors, or None.

    Returns:
        int64 (N,), the ids that have a vector; and the size of all vectors as float32, in bytes.

    Raises:
        BadPickleError, BadFileError: as `load_embeddings`, except that numbers need not be finite.
    """
    with PickledArrays(path) as file:
        entries = np.flatnonzero(file.forms != NONE)
        starts = _starts(file, entries, width, one_each=not faces)
        return np.array(file.ids[entries]), 4 * width * int(starts[-1])


def read_batches(path: str, width: int, several: bool) -> Iterator[Batch]:
    """Yield the vectors of a pickle, in its order. Ids whose value is None are left out. Batches share their memory."""
    with PickledArrays(path) as file:
        entries = np.flatnonzero(file.forms != NONE)
        starts = _starts(file, entries, width, one_each=not several)
        memory = np.empty((0, width), "<f4")  # reused for each batch
        with progress_bar(total=len(entries), desc=f"Converting {printable(os.path.basename(path))}") as bar:
            for batch in _split_into_batches(starts, width, BATCH_BYTES):
                places, count = entries[batch], int(starts[batch.stop] - starts[batch.start])
                if count > len(memory):
                    memory = np.empty((count, width), "<f4")
                _copy_vectors(file, places, memory[:count])
                bar.update(len(places))
                counts = np.diff(starts[batch.start : batch.stop + 1])
                yield Batch(np.array(file.ids[places]), counts if several else None, memory[:count])


def _find_width(file: PickledArrays) -> int:
    """Return the width of the first array of a file; 0 if there is none."""
    return next((form.shape[-1] for form in file.form_table if form.shape), 0)


def _starts(file: PickledArrays, places: Int64s, width: int, one_each: bool) -> Int64s:
    """Return where the vectors of each entry begin if all are concatenated, and where the last end: int64 (N + 1,).

    Raises:
        BadFileError: a vector has another width; or `one_each` is set, and an entry does not have exactly one vector.
    """
    forms = file.forms[places]
    counts = np.zeros(len(places), np.int64)
    for number in np.unique(forms[forms != NONE]).tolist():
        counts[forms == number] = _count_rows(file, file.form_table[number], width, places[np.argmax(forms == number)])
    if one_each and (counts != 1).any():
        i = int(np.argmax(counts != 1))
        place = f"{file.path}: id {file.ids[places[i]]}"
        raise bad_file(place, "one vector", f"{counts[i]} vectors", "Is this a file of faces? Then use read_faces.")
    return np.append(0, np.cumsum(counts))


def _split_into_batches(starts: Int64s, width: int, size: int) -> Iterator[slice]:
    """Yield ranges of entries whose vectors take at most `size` bytes together, but at least one entry."""
    most, start = max(1, size // (4 * max(width, 1))), 0
    while start < len(starts) - 1:
        stop = int(np.searchsorted(starts, starts[start] + most, side="right")) - 1
        batch = slice(start, max(start + 1, stop))
        yield batch
        start = batch.stop


def _copy_vectors(file: PickledArrays, places: Int64s, vectors: Float32s) -> None:
    """Copy the vectors of some entries to consecutive rows of `vectors`.

    Raises:
        BadFileError: a number is not finite, or too large for float32; or the file changed.
    """
    width = vectors.shape[1]
    starts = _starts(file, places, width, one_each=False)
    forms = file.forms[places]
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite, and is refused below
        for number in np.unique(forms[forms != NONE]).tolist():
            alike = np.flatnonzero(forms == number)
            form = file.form_table[number]
            if form.dtype == np.float32 and len(alike) == len(places) == len(vectors):  # the usual case: no extra copy
                file.copy(places, vectors.view(np.uint8))
            else:
                numbers = np.empty((len(alike), form.nbytes), np.uint8)
                file.copy(places[alike], numbers)
                target = (starts[alike, None] + np.arange(starts[alike[0] + 1] - starts[alike[0]])).reshape(-1)
                vectors[target] = numbers.view(form.dtype).reshape(len(target), width)
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(1)))
        k = places[np.searchsorted(starts, row, side="right") - 1]
        raise bad_file(f"{file.path}: id {file.ids[k]}", "finite float32 numbers", "NaN or infinity", _FETCH_AGAIN)


def _count_rows(file: PickledArrays, form: Form, width: int, k: int) -> int:
    """Count the vectors in an array: 1 if it has one dimension, else its number of rows."""
    shape = form.shape
    if not 1 <= len(shape) <= 2 or shape[-1] != width:
        raise bad_file(f"{file.path}: id {file.ids[k]}", f"vectors of {width} numbers", f"shape {shape}", _FETCH_AGAIN)
    return shape[0] if len(shape) == 2 else 1
