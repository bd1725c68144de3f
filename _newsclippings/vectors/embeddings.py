"""Embedding vectors by id: out of the authors' pickles, which are never unpickled, into a mapped file.

A file of `<kind>_<split>.pkl` is converted once, in its own order, and kept by its fingerprint; from then on a vector
costs what copying its bytes costs. Output is float32 whatever the file holds.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm.auto import tqdm

from _newsclippings.errors import bad_file
from _newsclippings.storage import (
    DamagedError,
    KeptFile,
    changed_file,
    damaged_cache,
    open_kept,
    report_cache_errors,
    write_kept,
)
from _newsclippings.tables import Int64s, as_array, lookup
from _newsclippings.text import printable
from _newsclippings.vectors.pickled_arrays import NONE, Form, PickledArrays

Float32s = npt.NDArray[np.float32]

_AGAIN = "Fetch the file again from the authors' Hub repository."
BATCH_BYTES = 32 << 20  # of vectors that are converted, and held in memory, together
_COUNTS = 16  # bytes that say how many ids and vectors a converted file has
READ_BYTES = 4 << 20  # likewise, where nothing but memory is written: they stay in the cache until they are checked


def read_embeddings(path: str | os.PathLike[str]) -> tuple[Int64s, Float32s]:
    """Read a pickle of one vector per id, without unpickling it.

    Args:
        path: a file such as `embeddings/clip_image_embeddings/clip_image_embeddings_test.pkl`: a dict of int to numpy
            array of shape (d,) or (1, d), of any float or integer type.

    Returns:
        ids, int64 (N,), and vectors, float32 (N, d), in the order of the file.

    Raises:
        BadPickleError: the file is anything else, or damaged.
        BadFileError: an id has no vector, or one of another width, or with a number that is not finite.
    """
    ids, _, vectors = _read(path, one_each=True)
    return ids, vectors


def read_faces(path: str | os.PathLike[str]) -> tuple[Int64s, Int64s, Float32s]:
    """Read a pickle of any number of vectors per id (FaceNet: one per face), without unpickling it.

    Args:
        path: a dict of int to None or a numpy array of shape (n, d).

    Returns:
        ids, int64 (N,), in the order of the file; starts, int64 (N + 1,); vectors, float32 (F, d): those of the k-th id
        are `vectors[starts[k]:starts[k + 1]]`.

    Raises:
        BadPickleError, BadFileError: as `read_embeddings`, but for ids without a vector.
    """
    return _read(path, one_each=False)


def _read(path: str | os.PathLike[str], one_each: bool) -> tuple[Int64s, Int64s, Float32s]:
    with PickledArrays(os.fspath(path)) as file:
        width, everything = _width(file), np.arange(len(file))
        starts = _starts(file, everything, width, one_each)
        vectors = np.empty((int(starts[-1]), width), np.float32)
        for some in _batches(starts, width, READ_BYTES):
            _fill(file, everything[some], vectors[starts[some.start] : starts[some.stop]])
        return np.array(file.ids), starts, vectors  # the file's own ids are a view of what is given back


class Embeddings:
    """The vectors of one kind and split, mapped; bytes of them are compared with checksums before they are used.

    Attributes:
        ids: int64 (N,), sorted; those that have a vector (or faces, none perhaps).
        bytes_each: bytes of one of them, on average.
    """

    def __init__(self, vectors: "_Vectors", again: Callable[[], "_Vectors"]) -> None:
        """Vectors, and how to convert them again if some turn out to be damaged."""
        self._vectors, self._again = vectors, again
        self._order = np.append(np.argsort(vectors.ids, kind="stable"), -1)  # the last one is for ids not there
        self.ids = vectors.ids[self._order[:-1]]
        self.bytes_each = vectors.bytes_each

    def count(self, keys: Int64s) -> int:
        """How many of some ids have a vector."""
        return int((lookup(self.ids, keys) >= 0).sum())

    def take(self, keys: Int64s) -> pa.Array:
        """The vectors of some ids, in their order, null where there is none.

        Returns:
            Fixed-size lists of float32, or for faces lists of them.

        Raises:
            BadPickleError, BadFileError: they were damaged, and converting them again failed.
        """
        places = self._order[lookup(self.ids, keys)]
        try:
            return self._vectors.take(places)
        except DamagedError:
            self._vectors = self._again()
            return self._vectors.take(places)


class _Vectors:
    """A file of converted vectors: counts of ids and of vectors; the ids; of faces, where each id's start; the vectors.

    All numbers are little-endian, the vectors float32. Nothing in the file is used before it was compared.
    """

    def __init__(self, file: KeptFile, width: int, faces: bool) -> None:
        """Compare all but the vectors.

        Raises:
            DamagedError: something of it is not what was written, or it holds other vectors.
        """
        file.check(0, min(_COUNTS, file.content.size))
        ids, vectors = np.frombuffer(file.content, "<i8", 2).tolist() if file.content.size >= _COUNTS else (0, 0)
        starts = _COUNTS + 8 * ids
        self._first = starts + (4 * (ids + 1) if faces else 0)
        if file.content.size != self._first + 4 * width * vectors:
            message = f"{file.path}: not the vectors asked for"
            raise DamagedError(message)
        file.check(0, self._first)
        self.ids: Int64s = np.array(np.frombuffer(file.content, "<i8", ids, _COUNTS), np.int64)
        self.bytes_each = 4 * width * vectors // max(1, ids)
        self._file, self._bytes_of_row = file, 4 * width
        numbers = pa.Array.from_buffers(pa.float32(), width * vectors, [None, file.content.slice(self._first)])
        self._array = pa.Array.from_buffers(pa.list_(pa.float32(), width), vectors, [None], children=[numbers])
        self._starts = np.arange(ids + 1, dtype=np.int32)
        if faces:
            self._starts = np.frombuffer(file.content, "<i4", ids + 1, starts)
            offsets = file.content.slice(starts, self._first - starts)
            self._array = pa.Array.from_buffers(
                pa.list_(self._array.type), ids, [None, offsets], children=[self._array]
            )

    def take(self, places: Int64s) -> pa.Array:
        """The vectors of the k-th ids, null for -1.

        Raises:
            DamagedError: one of them is not what was written.
        """
        self._file.check(0, self._first)
        known = places[places >= 0]
        rows = (self._starts[part].astype(np.int64) for part in (known, known + 1))
        self._file.check_many(*(self._first + self._bytes_of_row * each for each in rows))
        return self._array.take(as_array(places, places < 0))


def load_embeddings(path: str, key: str, width: int, faces: bool, folder: Path) -> Embeddings:
    """The vectors of a pickle, converted when it is met for the first time, and again when the result is damaged.

    Args:
        path: the pickle.
        key: its fingerprint; names the converted file.
        width: of a vector.
        faces: whether an id may have any number of vectors, or None.
        folder: where converted files are kept.

    Raises:
        BadPickleError: the file is no dict of number arrays, or damaged.
        BadFileError: a vector has another width, or a number that is not finite.
    """
    converted = folder / f"{key}.vectors"

    def convert() -> _Vectors:
        with report_cache_errors(folder):
            converted.unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            with write_kept(converted, converted.name) as temporary, open(temporary, "wb") as file:
                for part in _converted(path, width, faces):
                    file.write(part.data)
        vectors = _open(converted, width, faces)
        if vectors is None:
            raise damaged_cache(converted)
        return vectors

    def again() -> _Vectors:
        vectors = convert()
        if not np.array_equal(vectors.ids, known.ids):
            raise changed_file(path)
        return vectors

    known = _open(converted, width, faces) or convert()
    return Embeddings(known, again)


def _open(converted: Path, width: int, faces: bool) -> _Vectors | None:
    """A file of converted vectors; None if there is none, or a damaged one."""
    file = open_kept(converted, converted.name)
    with contextlib.suppress(DamagedError):
        return _Vectors(file, width, faces) if file else None
    return None


def embedding_ids(path: str, width: int, faces: bool) -> tuple[Int64s, int]:
    """The ids of a pickle that have a vector, and the bytes of all vectors as float32; no vector is read.

    Args:
        path: the pickle.
        width: of a vector.
        faces: whether an id may have any number of vectors, or None.

    Raises:
        BadPickleError, BadFileError: as `load_embeddings`, but for numbers that are not finite.
    """
    with PickledArrays(path) as file:
        entries = np.flatnonzero(file.forms != NONE)
        starts = _starts(file, entries, width, one_each=not faces)
        return np.array(file.ids[entries]), 4 * width * int(starts[-1])


def _converted(path: str, width: int, faces: bool) -> Iterator[npt.NDArray[Any]]:
    """The parts of a file of vectors (`_Vectors`), in the order of the pickle; ids whose value is None are left out."""
    with PickledArrays(path) as file:
        entries = np.flatnonzero(file.forms != NONE)
        starts = _starts(file, entries, width, one_each=not faces)
        yield np.array([len(entries), starts[-1]], "<i8")
        yield file.ids[entries].astype("<i8")
        if faces:
            yield starts.astype("<i4")
        memory = np.empty((0, width), "<f4")  # of each batch in turn
        with tqdm(total=len(entries), desc=f"Converting {printable(os.path.basename(path))}", disable=None) as bar:
            for some in _batches(starts, width, BATCH_BYTES):
                places, count = entries[some], int(starts[some.stop] - starts[some.start])
                if count > len(memory):
                    memory = np.empty((count, width), "<f4")
                _fill(file, places, memory[:count])
                bar.update(len(places))
                yield memory[:count]


def _width(file: PickledArrays) -> int:
    """Width of the vectors of a file: that of its first array."""
    return next((form.shape[-1] for form in file.form_table if form.shape), 0)


def _starts(file: PickledArrays, places: Int64s, width: int, one_each: bool) -> Int64s:
    """Where the vectors of each of some entries start, if all vectors are put behind each other, and the last ones end.

    Raises:
        BadFileError: a vector has another width, or an entry not just one vector where that is asked for.
    """
    forms = file.forms[places]
    counts = np.zeros(len(places), np.int64)
    for number in np.unique(forms[forms != NONE]).tolist():
        counts[forms == number] = _rows(file, file.form_table[number], width, places[np.argmax(forms == number)])
    if one_each and (counts != 1).any():
        i = int(np.argmax(counts != 1))
        place = f"{file.path}: id {file.ids[places[i]]}"
        raise bad_file(place, "one vector", f"{counts[i]} vectors", "Is this a file of faces? Then use read_faces.")
    return np.append(0, np.cumsum(counts))


def _batches(starts: Int64s, width: int, size: int) -> Iterator[slice]:
    """Entries whose vectors take a certain number of bytes together, or one entry."""
    most, start = max(1, size // (4 * max(width, 1))), 0
    while start < len(starts) - 1:
        stop = int(np.searchsorted(starts, starts[start] + most, side="right")) - 1
        some = slice(start, max(start + 1, stop))
        yield some
        start = some.stop


def _fill(file: PickledArrays, places: Int64s, vectors: Float32s) -> None:
    """Put the vectors of some entries behind each other.

    Raises:
        BadFileError: a number is not finite, or too large for float32; or the file changed.
    """
    width = vectors.shape[1]
    starts = _starts(file, places, width, one_each=False)
    forms = file.forms[places]
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is found below
        for number in np.unique(forms[forms != NONE]).tolist():
            mine = np.flatnonzero(forms == number)
            form = file.form_table[number]
            if form.dtype == np.float32 and len(mine) == len(places) == len(vectors):  # nearly always: no copy
                file.copy(places, vectors.view(np.uint8))
            else:
                numbers = np.empty((len(mine), form.nbytes), np.uint8)
                file.copy(places[mine], numbers)
                target = (starts[mine, None] + np.arange(starts[mine[0] + 1] - starts[mine[0]])).reshape(-1)
                vectors[target] = numbers.view(form.dtype).reshape(len(target), width)
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(1)))
        k = places[np.searchsorted(starts, row, side="right") - 1]
        raise bad_file(f"{file.path}: id {file.ids[k]}", "finite float32 numbers", "NaN or infinity", _AGAIN)


def _rows(file: PickledArrays, form: Form, width: int, k: int) -> int:
    """How many vectors an array is: one if it is flat, else as many as it has rows."""
    shape = form.shape
    if not 1 <= len(shape) <= 2 or shape[-1] != width:
        raise bad_file(f"{file.path}: id {file.ids[k]}", f"vectors of {width} numbers", f"shape {shape}", _AGAIN)
    return shape[0] if len(shape) == 2 else 1
