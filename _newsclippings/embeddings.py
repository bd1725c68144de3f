"""Embedding vectors by id: out of the authors' pickles, which are never unpickled, into a mapped Arrow file.

A file of `<kind>_<split>.pkl` is converted once, in its own order, and kept by its fingerprint; from then on a vector
costs what copying its bytes costs. Output is float32 whatever the file holds.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tqdm.auto import tqdm

from _newsclippings.array_pickle import ArrayPickle, Form, open_array_pickle
from _newsclippings.array_pickle_values import LIST, NONE
from _newsclippings.arrow import Int64s, int64s
from _newsclippings.disk import full_disk_told
from _newsclippings.errors import bad_file
from _newsclippings.files import write_atomically
from _newsclippings.join import lookup

Float32s = npt.NDArray[np.float32]

_AGAIN = "Fetch the file again from the authors' Hub repository."
BATCH_BYTES = 32 << 20  # of vectors that are converted, and held in memory, together
UNPACKED_BYTES = 64 << 20  # of vectors that a file of any size may hold; only shared arrays can be more than 4 times it
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
    with open_array_pickle(os.fspath(path)) as file:
        width, everything = _width(file), np.arange(len(file))
        starts = _starts(file, everything, width, one_each)
        vectors = np.empty((int(starts[-1]), width), np.float32)
        for some in _batches(starts, width, READ_BYTES):
            _fill(file, everything[some], vectors[starts[some.start] : starts[some.stop]])
        return np.array(file.ids), starts, vectors  # the file's own ids are a view of what is given back


class Embeddings:
    """The vectors of one kind and split, mapped.

    Attributes:
        ids: int64 (N,), sorted; those that have a vector (or faces, none perhaps).
        bytes_each: bytes of one of them, on average.
    """

    def __init__(self, table: pa.Table) -> None:
        ids = int64s(table["id"])
        self._order = np.append(np.argsort(ids, kind="stable"), -1)  # the last one is for ids that are not there
        self.ids = ids[self._order[:-1]]
        self._type = table.schema.field("vector").type
        self._chunks = [chunk for chunk in table["vector"].chunks if len(chunk)]
        self._starts = np.cumsum([0, *map(len, self._chunks)])
        self.bytes_each = table["vector"].nbytes // max(1, len(table))

    def count(self, keys: Int64s) -> int:
        """How many of some ids have a vector."""
        return int((lookup(self.ids, keys) >= 0).sum())

    def take(self, keys: Int64s) -> pa.Array:
        """The vectors of some ids, in their order, null where there is none.

        Returns:
            Fixed-size lists of float32, or for faces lists of them.
        """
        places = self._order[lookup(self.ids, keys)]
        chunk_of = np.where(places < 0, -1, np.searchsorted(self._starts, places, side="right") - 1)
        parts, rows = [], []
        for k in np.unique(chunk_of).tolist():
            here = np.flatnonzero(chunk_of == k)
            rows.append(here)
            if k < 0:
                parts.append(pa.nulls(len(here), self._type))
            else:
                parts.append(self._chunks[k].take(pa.array(places[here] - self._starts[k])))
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *rows]))
        return pa.concat_arrays(parts or [pa.nulls(0, self._type)]).take(pa.array(order))


def load_embeddings(path: str, key: str, width: int, faces: bool, folder: Path) -> Embeddings:
    """The vectors of a pickle, converted when it is met for the first time.

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
    converted = folder / f"{key}.arrow"
    vector = pa.list_(pa.float32(), width)
    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(vector) if faces else vector)])
    if converted.exists():
        with contextlib.suppress(pa.ArrowInvalid, OSError):  # not ours, or half of it: make it anew
            table = pa.ipc.open_file(pa.memory_map(str(converted))).read_all()
            if table.schema.equals(schema):
                return Embeddings(table)
    with full_disk_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(converted) as temporary, pa.ipc.new_file(temporary, schema) as writer:
            for batch in _converted(path, width, faces, schema):
                writer.write_table(batch)
    return Embeddings(pa.ipc.open_file(pa.memory_map(str(converted))).read_all())


def embedding_ids(path: str, width: int, faces: bool) -> tuple[Int64s, int]:
    """The ids of a pickle that have a vector, and the bytes of all vectors as float32; no vector is read.

    Args:
        path: the pickle.
        width: of a vector.
        faces: whether an id may have any number of vectors, or None.

    Raises:
        BadPickleError, BadFileError: as `load_embeddings`, but for numbers that are not finite.
    """
    with open_array_pickle(path) as file:
        entries = np.flatnonzero(file.forms != NONE)
        starts = _starts(file, entries, width, one_each=not faces)
        return np.array(file.ids[entries]), 4 * width * int(starts[-1])


def _converted(path: str, width: int, faces: bool, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of ids and vectors, in the order of the file; ids whose value is None are left out."""
    with open_array_pickle(path) as file:
        entries = np.flatnonzero(file.forms != NONE)
        starts = _starts(file, entries, width, one_each=not faces)
        memory = np.empty((0, width), np.float32)  # of each batch in turn
        with tqdm(total=len(entries), desc=f"Converting {os.path.basename(path)}", disable=None) as bar:
            for some in _batches(starts, width, BATCH_BYTES):
                places, own = entries[some], starts[some.start : some.stop + 1] - starts[some.start]
                if own[-1] > len(memory):
                    memory = np.empty((int(own[-1]), width), np.float32)
                _fill(file, places, memory[: own[-1]])
                values = pa.FixedSizeListArray.from_arrays(pa.array(memory[: own[-1]].reshape(-1)), width)
                if faces:
                    values = pa.ListArray.from_arrays(pa.array(own.astype(np.int32)), values)
                bar.update(len(places))
                yield pa.table([pa.array(file.ids[places]), values], schema=schema)


def _width(file: ArrayPickle) -> int:
    """Width of the vectors of a file: that of its first array."""
    shapes = (form.shape for form in file.form_table if form is not None and form.shape)
    return int(next(shapes, (0,))[-1])


def _starts(file: ArrayPickle, places: Int64s, width: int, one_each: bool) -> Int64s:
    """Where the vectors of each of some entries start, if all vectors are put behind each other, and the last ones end.

    Raises:
        BadFileError: a vector has another width, an entry not just one vector where that is asked for, or there are far
            more numbers than the file has room for.
    """
    forms = file.forms[places]
    counts = np.zeros(len(places), np.int64)
    for number in np.unique(forms[forms > LIST]).tolist():
        counts[forms == number] = _rows(file, file.form_table[number], width, places[np.argmax(forms == number)])
    for i in np.flatnonzero(forms == LIST).tolist():
        parts = slice(*file.list_starts[file.offsets[places[i]] :][:2].tolist())
        counts[i] = sum(_rows(file, file.form_table[n], width, places[i]) for n in file.part_forms[parts].tolist())
    if one_each and (counts != 1).any():
        i = int(np.argmax(counts != 1))
        place = f"{file.path}: id {file.ids[places[i]]}"
        raise bad_file(place, "one vector", f"{counts[i]} vectors", "Is this a file of faces? Then use read_faces.")
    needed, most = 4 * width * int(counts.sum()), max(4 * file.size, UNPACKED_BYTES)
    if needed > most:
        found = f"{needed:,} bytes of them, since many ids refer to the same array"
        raise bad_file(file.path, f"at most {most:,} bytes of vectors in a file of {file.size:,} bytes", found, _AGAIN)
    return np.append(0, np.cumsum(counts))


def _batches(starts: Int64s, width: int, size: int) -> Iterator[slice]:
    """Entries whose vectors take a certain number of bytes together, or one entry."""
    most, start = max(1, size // (4 * max(width, 1))), 0
    while start < len(starts) - 1:
        stop = int(np.searchsorted(starts, starts[start] + most, side="right")) - 1
        some = slice(start, max(start + 1, stop))
        yield some
        start = some.stop


def _fill(file: ArrayPickle, places: Int64s, vectors: Float32s) -> None:
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
            if form is None or form.order != "C" or form.latin1:  # rare: one by one
                for i in mine.tolist():
                    value = file.array(int(places[i]))
                    several = value if isinstance(value, list) else [value]
                    rows = [np.asarray(one).reshape(-1, width) for one in several]
                    vectors[starts[i] : starts[i + 1]] = np.concatenate([np.empty((0, width)), *rows])
            elif form.dtype == np.float32 and len(mine) == len(places) == len(vectors):  # nearly always: no copy
                file.copy(places, vectors.view(np.uint8))
            else:
                numbers = np.empty((len(mine), form.nbytes), np.uint8)
                file.copy(places[mine], numbers)
                target = (starts[mine, None] + np.arange(starts[mine[0] + 1] - starts[mine[0]])).reshape(-1)
                vectors[target] = numbers.view(form.dtype).reshape(len(target), width)
    if not np.isfinite(vectors).all():
        file.check_unchanged()  # else they are not the file's
        row = int(np.argmin(np.isfinite(vectors).all(1)))
        k = places[np.searchsorted(starts, row, side="right") - 1]
        raise bad_file(f"{file.path}: id {file.ids[k]}", "finite float32 numbers", "NaN or infinity", _AGAIN)


def _rows(file: ArrayPickle, form: Form | None, width: int, k: int) -> int:
    """How many vectors an array is: one if it is flat, else as many as it has rows."""
    shape = form.shape if form is not None else ()
    if not 1 <= len(shape) <= 2 or shape[-1] != width:
        raise bad_file(f"{file.path}: id {file.ids[k]}", f"vectors of {width} numbers", f"shape {shape}", _AGAIN)
    return shape[0] if len(shape) == 2 else 1
