"""Vectors in files of users: Parquet, Arrow, .npy, .safetensors, pickles, and folders that `newsclippings embed` wrote.

Such files may come from anyone. Nothing in them is executed, and what they claim is compared with their size.
"""

import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.config import OwnVectors
from _newsclippings.errors import ConfigError, DataNotFoundError, NewsCLIPpingsError, bad_file
from _newsclippings.facts import NAME, SIDES, VERSION, Vectors
from _newsclippings.storage import (
    NO_ACCESS,
    Access,
    FileSlice,
    LocalFile,
    RandomFile,
    cache_folder,
    check_accessible,
    find_place,
    is_url,
    local_copy,
    map_ahead,
    open_random,
    progress_bar,
    read_file,
    read_footer,
    recognise_wrong_file,
)
from _newsclippings.tables import Int64s, values_of
from _newsclippings.text import option, printable, without_secrets
from _newsclippings.vectors.embeddings import (
    BATCH_BYTES,
    Batch,
    Embeddings,
    Float32s,
    convert_once,
    read_batches,
    read_pickle,
)
from _newsclippings.vectors.pickled_arrays import PickledArrays
from _newsclippings.vectors.plan import MOST_WIDTH, PLAN, SUMS, Plan, parse_plan, parse_sums, parse_unread

ID, VECTOR = "id", "vector"  # columns of Parquet and Arrow
IDS, VECTORS = "ids", "vectors"  # tensors of safetensors
_MAGIC: Final = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\x93NUMPY": "npy", b"\x80": "pickle"}
_SMALL = 16 << 20  # bytes of plan.json, of SHA256SUMS, and of the head of .npy and .safetensors, at most
_MOST_FOOTER = 64 << 20  # bytes of a footer of Parquet
_MOST_ROWS = 1 << 28
_ENDINGS = (".parquet", ".arrow", ".feather", ".ipc", ".npy", ".safetensors", ".pkl", ".pickle")  # of URLs of files
_FLOATS: Final = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}  # types of tensors
_INTEGERS: Final = {"I64": "<i8", "I32": "<i4", "U64": "<u8", "U32": "<u4"}
_FORMS = (
    "Expected .parquet or .arrow with the columns id and vector, .npy with .ids.npy beside it, .safetensors with ids "
    "and vectors, a pickle like the authors', or the folder that `newsclippings embed` wrote."
)
_READ_AHEAD = 2  # parts of a folder


class Form(NamedTuple):
    """What the vectors of a file look like: numbers per vector, any number per id or one, and `float16` or not."""

    width: int
    several: bool
    half: bool


@dataclass(frozen=True)
class VectorFiles:
    """The vectors of a user, in one file or in a folder. Only its head was read.

    Attributes:
        location: the file or folder.
        kind: `"parquet"`, `"arrow"`, `"npy"`, `"safetensors"`, `"pickle"` or `"folder"`.
        facts: what the column is.
        files: the files by whose content the vectors are known.
        plan: of a folder; None for a file.
    """

    location: str
    kind: str
    facts: Vectors
    files: tuple[str, ...]
    plan: Plan | None = None

    def key(self, identity: Callable[[str], str]) -> str:
        """Name what is made of these vectors by their content; `identity` as `Inputs.identity`."""
        made_of = [VERSION, self.kind, *self.facts[:3], self.facts.dtype, *map(identity, self.files)]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]

    def load(
        self,
        identity: Callable[[str], str],
        cache: Path,
        check_unchanged: Callable[[], None],
        access: Access = NO_ACCESS,
    ) -> Embeddings:
        """Load the vectors, which are converted at their first use.

        Args:
            identity: identifies the content of a file.
            cache: this package's folder in the cache.
            check_unchanged: raises an error if a file changed since it was identified.
            access: what the user passed to reach URLs.
        """
        form = self.facts.width, self.facts.several, self.facts.dtype
        read = functools.partial(self.read, functools.partial(local_copy, folder=cache / "downloads", access=access))
        place = without_secrets(self.location)
        return convert_once(read, place, self.key(identity), *form, cache / "embeddings", check_unchanged)

    def read(self, fetch: Callable[[str], str]) -> Iterator[Batch]:
        """Yield the vectors. Ids without a vector are left out.

        Args:
            fetch: returns the local copy of a file.

        Raises:
            BadFileError: the content is not what it should be: another width, NaN, an id twice, damage.
        """
        shown, total, ids = without_secrets(self.location), 0, []
        with progress_bar(desc=f"Reading {printable(os.path.basename(shown.rstrip('/')))}", unit=" ids") as bar:
            for batch in _guard(shown, self._read(fetch)):
                vectors = batch.vectors
                if vectors.dtype != self.facts.dtype:
                    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite
                        vectors = vectors.astype(self.facts.dtype)
                _check_finite(shown, batch, vectors)
                ids.append(batch.ids)
                total += len(batch.ids)
                bar.update(len(batch.ids))
                yield Batch(batch.ids, batch.counts, vectors)
        if not total:
            raise bad_file(shown, "vectors by id", "none", _FORMS)
        found, first, counts = np.unique(np.concatenate(ids), return_index=True, return_counts=True)
        if (counts > 1).any():
            twice = int(found[counts > 1][np.argmin(first[counts > 1])])
            raise bad_file(f"{shown}: id {twice}", "each id once", "it more than once", "Keep one vector of each id.")

    def _read(self, fetch: Callable[[str], str]) -> Iterator[Batch]:
        width, several = self.facts.width, self.facts.several
        if self.plan is not None:
            return _read_folder(self.location, self.plan, fetch)
        paths = [fetch(file) for file in self.files]
        if self.kind == "pickle":
            return read_batches(paths[0], width, several)
        if self.kind == "npy":
            return _read_npy(paths[0], paths[1], without_secrets(self.location))
        if self.kind == "safetensors":
            return _read_safetensors(paths[0], without_secrets(self.location))
        read = _read_parquet if self.kind == "parquet" else _read_arrow
        return read(paths[0], without_secrets(self.location), width, several)


def find_vectors(name: str, own: OwnVectors, dtype: str = "float32", access: Access = NO_ACCESS) -> VectorFiles:
    """Read the head of a user's vectors.

    Args:
        name: of the column, for errors and its meaning.
        own: where they are.
        dtype: `"float16"` to keep them so if they are stored so.
        access: what the user passed to reach URLs.

    Raises:
        DataNotFoundError: there is no such file or folder.
        ConfigError: it is not said whether its ids are of pictures or of captions, or said otherwise than in its plan.
        BadFileError: it is not a file of vectors, or a folder that is not complete.
    """
    location = _locate(name, own.location)
    shown = without_secrets(location)
    if _is_folder(location):
        plan = _read_plan(location, shown, access)
        if own.of not in (None, plan.of):
            message = f"{option('embeddings')} {name}: {shown} has vectors of {plan.of}, not of {own.of}."
            raise ConfigError(message)
        files = (PLAN, SUMS) if is_url(location) else (PLAN, *plan.parts)
        model = plan.encoder.get("model")
        by = " by " + re.sub(r"[^\w./:@+-]", "_", model)[:200] if isinstance(model, str) else ""  # it comes from anyone
        facts = _facts(Form(plan.width, plan.several, plan.dtype == "float16"), plan.of, by, dtype)
        return VectorFiles(location, "folder", facts, tuple(f"{location}/{file}" for file in files), plan)
    if own.of is None:
        message = (
            f"{option('embeddings')} {name}: a file does not say whether its ids are of pictures or of captions. Pass "
            f"({shown!r}, 'pictures') if they are image_id, 'captions' if they are id; on the command line "
            f"{name}=pictures:{shown}."
        )
        raise ConfigError(message)
    kind, form = _guarded(shown, functools.partial(_read_head, location, shown, access))
    files = (location, _ids_beside(location)) if kind == "npy" else (location,)
    return VectorFiles(location, kind, _facts(form, own.of, "", dtype), files)


def read_embeddings(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, token: str | bool | None = None
) -> tuple[Int64s, Float32s]:
    """Read a file or a folder of one vector per id. Nothing in it is executed.

    Args:
        path: a folder that `newsclippings embed` wrote; a .parquet or .arrow file with the columns id and vector; .npy
            with .ids.npy beside it; .safetensors with the tensors ids and vectors; or a pickle of the authors, such
            as `embeddings/clip_image_embeddings/clip_image_embeddings_test.pkl`: a dict of int to numpy array of shape
            (d,) or (1, d), of any float or integer type. All but a pickle may be a URL.
        storage_options: options of fsspec for a URL.
        token: of the Hub, for a URL.

    Returns:
        ids, int64 (N,), and vectors, float32 (N, d), in the order of the file.

    Raises:
        BadPickleError: it is a pickle of something else, or damaged.
        BadFileError: an id has no vector or several, or a vector has another width or a number that is not finite.
        DataNotFoundError: it does not exist.
    """
    ids, _, vectors = _read_whole(path, True, Access(storage_options, token))
    return ids, vectors


def read_faces(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None, token: str | bool | None = None
) -> tuple[Int64s, Int64s, Float32s]:
    """Read a file or a folder of any number of vectors per id (FaceNet: one per face). Nothing in it is executed.

    Args:
        path: as of `read_embeddings`, with lists of vectors; a pickle is a dict of int to None or an array of shape
            (n, d).
        storage_options: options of fsspec for a URL.
        token: of the Hub, for a URL.

    Returns:
        ids, int64 (N,), in the order of the file; starts, int64 (N + 1,); vectors, float32 (F, d): those of the k-th id
        are `vectors[starts[k]:starts[k + 1]]`.

    Raises:
        BadPickleError, BadFileError, DataNotFoundError: as `read_embeddings`, except that an id may have no vector.
    """
    return _read_whole(path, False, Access(storage_options, token))


def _read_whole(path: str | os.PathLike[str], one_each: bool, access: Access) -> tuple[Int64s, Int64s, Float32s]:
    location = _locate("vectors", os.fspath(path))
    if not is_url(location) and not os.path.isdir(location):
        with LocalFile(location) as file:
            if _find_kind(file) == "pickle":
                return read_pickle(location, one_each)
    files = find_vectors("vectors", OwnVectors(location, None if _is_folder(location) else "pictures"), access=access)
    if files.facts.several and one_each:
        place = without_secrets(location)
        raise bad_file(place, "one vector of each id", "lists of them", "Use read_faces.")
    cache = cache_folder() / NAME / "downloads"
    batches = [*files.read(functools.partial(local_copy, folder=cache, access=access))]
    counts = [np.ones(len(b.ids), np.int64) if b.counts is None else b.counts for b in batches]
    starts = np.append(0, np.cumsum(np.concatenate(counts)))
    return np.concatenate([b.ids for b in batches]), starts, np.concatenate([b.vectors for b in batches])


def _locate(name: str, location: str) -> str:
    """Return a location in full; raise `DataNotFoundError` if a local one does not exist."""
    location = location.rstrip("/") if len(location) > 1 else location
    if is_url(location):
        return location
    location = os.path.abspath(os.path.expanduser(location))
    check_accessible(location)
    if not os.path.exists(location):
        message = f"{name}: {location} does not exist. Correct the path, or make it with `newsclippings embed`."
        raise DataNotFoundError(message)
    return location


def _is_folder(location: str) -> bool:
    return not location.lower().partition("?")[0].endswith(_ENDINGS) if is_url(location) else os.path.isdir(location)


def _facts(form: Form, of: str, by: str, dtype: str) -> Vectors:
    what = f"Vector{'s' if form.several else ''} of the {of[:-1]}{by}."
    return Vectors(form.width, SIDES[of], form.several, what, dtype if form.half else "float32")


def _guarded(shown: str, read: Callable[[], Any]) -> Any:
    """Call a function that reads a file, and turn the errors of libraries into errors of this package."""
    return next(iter(_guard(shown, (read() for _ in range(1)))))


def _guard(shown: str, values: Iterator[Any]) -> Iterator[Any]:
    """Yield values, and turn the errors of libraries that read a file into errors of this package."""
    try:
        yield from values
    except NewsCLIPpingsError:
        raise
    except MemoryError:
        raise bad_file(shown, "vectors by id", "a file that takes more memory than there is", _FORMS) from None
    except Exception as error:  # pyarrow and numpy raise errors of many types for files they cannot read
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, and not of Arrow
            raise
        what, do = printable(" ".join(str(error).split())[:200]), _FORMS
        if "Expected all lists to be of size" in what:  # pyarrow < 26 cannot read null among lists of a fixed length
            do = "Leave out the rows without a vector, or upgrade pyarrow to 26."
        raise bad_file(shown, "vectors by id", what, do) from None


def _check_finite(shown: str, batch: Batch, vectors: npt.NDArray[Any]) -> None:
    if not np.isfinite(vectors).all():
        row = int(np.argmin(np.isfinite(vectors).all(1)))
        k = row if batch.counts is None else int(np.searchsorted(np.cumsum(batch.counts), row, side="right"))
        do = "Encode that one again, or leave its id out."
        raise bad_file(f"{shown}: id {batch.ids[k]}", f"finite {vectors.dtype} numbers", "NaN or infinity", do)


def _read_plan(location: str, shown: str, access: Access) -> Plan:
    """Read the plan of a folder; of a local one, check that all parts are there."""
    if not is_url(location):
        names = set(os.listdir(location))
        if PLAN not in names:
            has = ", ".join(sorted(names)[:5]) or "nothing"
            raise bad_file(shown, f"a folder that `newsclippings embed` wrote ({PLAN})", f"one with {has}", _FORMS)
    place = find_place(f"{location}/{PLAN}", access)
    plan = parse_plan(read_file(place, _SMALL), f"{shown}/{PLAN}")
    if not is_url(location) and (missing := [part for part in plan.parts if part not in names]):
        have = len(plan.parts) - len(missing)
        message = (
            f"{shown} has {have:,} of its {len(plan.parts):,} parts; the first that is missing is {missing[0]}. Finish "
            "it by the same `newsclippings embed` again."
        )
        raise DataNotFoundError(message)
    return plan


def _read_folder(location: str, plan: Plan, fetch: Callable[[str], str]) -> Iterator[Batch]:
    """Read the parts of a folder ahead, in threads, and compare them with its SHA256SUMS."""
    shown = without_secrets(location)
    sums = _read_sums(location, fetch)
    ids = hashlib.sha256()

    def read(part: str) -> tuple[str, list[Batch]]:
        path = fetch(f"{location}/{part}")
        if sums:
            with open(path, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sums.get(part):
                    do = "Fetch it again, or remove it and run the same `newsclippings embed` again."
                    raise bad_file(f"{shown}/{part}", f"the content that {SUMS} names", "another", do)
        return path, [*_guard(f"{shown}/{part}", _read_parquet(path, f"{shown}/{part}", plan.width, plan.several))]

    known = 0
    with ThreadPoolExecutor(_READ_AHEAD, thread_name_prefix="newsclippings") as pool:
        for part, (path, batches) in map_ahead(pool, read, iter(plan.parts), _READ_AHEAD):
            yield from batches
            each = np.sort(np.concatenate([_unread_ids(path, f"{shown}/{part}"), *(batch.ids for batch in batches)]))
            known += len(each)
            ids.update(each.astype("<i8").tobytes())
    if known != plan.count or ids.hexdigest() != plan.ids_sha256:
        found = f"{known:,} others" if known == plan.count else f"{known:,}"
        do = "Make the folder again with `newsclippings embed`."
        raise bad_file(shown, f"the {plan.count:,} ids of its {PLAN}", found, do)


def _read_sums(location: str, fetch: Callable[[str], str]) -> dict[str, str]:
    """Read name -> SHA-256 of each part; nothing for a local folder that is not complete yet."""
    if not is_url(location) and not os.path.exists(f"{location}/{SUMS}"):
        return {}
    return parse_sums(read_file(find_place(fetch(f"{location}/{SUMS}")), _SMALL), f"{without_secrets(location)}/{SUMS}")


def _unread_ids(path: str, shown: str) -> Int64s:
    """Read from the metadata of a part the ids that it has no vector of, because they could not be read."""
    import pyarrow.parquet as pq

    by_reason = parse_unread(pq.read_schema(path).metadata or {}, shown)
    return np.array([number for ids in by_reason.values() for number in ids], np.int64)


def check_part(path: str, shown: str, plan: Plan) -> int:
    """Check the footer of a part of a folder.

    Args:
        path: of the part; that of an open descriptor, for example.
        shown: its name, for errors.
        plan: of the folder.

    Returns:
        The number of its rows.

    Raises:
        BadFileError: it has other columns than ids and vectors of the plan.
    """

    def check() -> int:
        schema, batches = _open_parquet(path, shown, NO_ACCESS)
        form = _form_of_batches(schema, batches, shown)
        found = (form.width, form.several, "float16" if form.half else "float32")
        if schema.names != [ID, VECTOR] or found != (plan.width, plan.several, plan.dtype):
            columns = printable(", ".join(f"{field.name[:40]} ({str(field.type)[:80]})" for field in [*schema][:5]))
            expected = f"columns {ID} and {VECTOR}, of {plan.width:,} numbers ({plan.dtype}), as its {PLAN} says"
            raise bad_file(shown, expected, columns, "Remove it, and run the same `newsclippings embed` again.")
        return read_footer(find_place(path), shown, (ID, VECTOR), _MOST_FOOTER, _FORMS, nested=True).rows

    rows: int = _guarded(shown, check)
    return rows


def _ids_beside(location: str) -> str:
    """Name the file of ids beside a .npy file."""
    path, mark, query = location.partition("?") if is_url(location) else (location, "", "")
    return f"{path.removesuffix('.npy')}.ids.npy{mark}{query}"


def _read_head(location: str, shown: str, access: Access) -> tuple[str, Form]:
    """Find out what kind of file it is, and what its vectors look like."""
    file = open_random(location, access)
    kind = _find_kind(file)
    if kind is None:
        found = recognise_wrong_file(file.read_at(0, min(64, file.size))) or "something else"
        raise bad_file(shown, "a file of vectors", found, _FORMS)
    if kind == "pickle":
        if is_url(location):
            message = f"{shown} is a pickle; at a URL its vectors cannot be read. Fetch it, and pass the path."
            raise ConfigError(message)
        with PickledArrays(location) as pickled:
            shapes = [form.shape for form in pickled.form_table if form.shape]
        several = any(len(shape) == 2 and shape[0] != 1 for shape in shapes)
        return kind, Form(_check_width(shapes[0][-1] if shapes else 0, shown), several, False)
    if kind == "npy":
        shape, dtype = _read_npy_head(file, shown)
        if not is_url(location) and not os.path.exists(_ids_beside(location)):
            message = (
                f"{_ids_beside(location)} does not exist: the ids (int64) of the vectors in {shown}. Save it there."
            )
            raise DataNotFoundError(message)
        return kind, _form_of_array(shape, dtype, shown)
    if kind == "safetensors":
        tensor = _read_tensors(file, shown)[VECTORS]
        return kind, _form_of_array(tensor.shape, tensor.dtype, shown)
    if kind == "parquet":
        return kind, _form_of_batches(*_open_parquet(location, shown, access), shown)
    return kind, _form_of_batches(*_open_arrow(FileSlice(file, 0, file.size), shown), shown)


def _find_kind(file: RandomFile) -> str | None:
    """Recognise a file of vectors by its first bytes; None for anything else."""
    head = file.read_at(0, min(16, file.size) or 1)  # of no bytes, one: a device may have more than it says
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _SMALL:
        return "safetensors"  # asked first: the length of its head may begin with the byte of a pickle
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def _check_width(width: int, shown: str) -> int:
    if not 1 <= width <= MOST_WIDTH:
        raise bad_file(shown, f"vectors of 1 to {MOST_WIDTH:,} numbers", f"vectors of {width:,}", _FORMS)
    return width


def _form_of_array(shape: tuple[int, ...], dtype: npt.DTypeLike, shown: str) -> Form:
    if len(shape) not in (2, 3):
        raise bad_file(shown, "vectors of shape (N, d), or (N, k, d) for several of each id", f"shape {shape}", _FORMS)
    return Form(_check_width(shape[-1], shown), len(shape) == 3, np.dtype(dtype) == np.float16)


def _batch_of_array(ids: Int64s, vectors: npt.NDArray[Any], rows: slice) -> Batch:
    some = vectors[rows]
    counts = np.full(len(some), some.shape[1], np.int64) if some.ndim == 3 else None
    if some.dtype == np.uint16:  # bfloat16: the upper half of float32
        some = (some.astype(np.uint32) << 16).view(np.float32)
    return Batch(ids[rows], counts, some.reshape(-1, some.shape[-1]))


def _split_rows(rows: int, bytes_of_row: int) -> Iterator[slice]:
    step = max(1, BATCH_BYTES // max(1, bytes_of_row))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _as_ids(values: npt.NDArray[Any], shown: str) -> Int64s:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise bad_file(shown, "ids: integers (N,)", f"{values.dtype} {values.shape}", _FORMS)
    if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
        raise bad_file(shown, "ids that fit into int64", str(values.max()), _FORMS)
    return values.astype(np.int64)


# .npy


def _read_npy_head(file: RandomFile, shown: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    head = io.BytesIO(file.read_at(0, min(file.size, 1 << 17)))
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(head)
    if version not in read:
        raise bad_file(shown, ".npy of version 1 or 2", f"version {version}", _FORMS)
    shape, _, dtype = read[version](head)
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise bad_file(shown, "vectors of float16, float32 or float64", str(dtype), _FORMS)
    return shape, dtype


def _read_npy(path: str, ids_path: str, shown: str) -> Iterator[Batch]:
    numbers = np.load(ids_path, mmap_mode="r", allow_pickle=False)
    ids = _as_ids(numbers, f"{shown} (its .ids.npy)")
    vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    if len(ids) != len(vectors):
        raise bad_file(shown, f"as many vectors as there are ids ({len(ids):,})", f"{len(vectors):,}", _FORMS)
    for rows in _split_rows(len(ids), vectors[:1].nbytes):
        yield _batch_of_array(ids, vectors, rows)


# .safetensors


class _Tensor(NamedTuple):
    """A tensor in a file."""

    dtype: str
    shape: tuple[int, ...]
    start: int  # byte of the file


def _read_tensors(file: RandomFile, shown: str) -> dict[str, _Tensor]:
    """Read the head of a .safetensors file, and check the tensors `ids` and `vectors`."""
    length = int.from_bytes(file.read_at(0, 8), "little")
    if length > min(_SMALL, file.size - 8):
        raise bad_file(shown, ".safetensors", f"a head of {length:,} bytes", "Fetch it again: it is cut or damaged.")
    head = json.loads(file.read_at(8, length))
    found = {}
    for name, known in ((IDS, _INTEGERS), (VECTORS, _FLOATS)):
        if name not in head:
            names = ", ".join(printable(str(each)[:40]) for each in list(head)[:10] if each != "__metadata__")
            raise bad_file(shown, f"tensors {IDS} and {VECTORS}", names or "none", _FORMS)
        dtype, shape, (start, stop) = (head[name][key] for key in ("dtype", "shape", "data_offsets"))
        if dtype not in known:
            raise bad_file(shown, f"{name} of type {', '.join(known)}", printable(str(dtype)[:40]), _FORMS)
        numbers = [*shape, start, stop]
        size = np.dtype(known[dtype]).itemsize * functools.reduce(lambda a, b: a * b, shape, 1)
        if not all(type(number) is int and number >= 0 for number in numbers) or stop - start != size:
            raise bad_file(shown, f"{name} of shape {shape}", f"{stop - start:,} bytes", "Fetch it again.")
        if 8 + length + stop > file.size:
            expected, cut = f"{8 + length + stop:,} bytes", f"{file.size:,} (truncated)"
            raise bad_file(shown, expected, cut, "Fetch it again.")
        found[name] = _Tensor(known[dtype], tuple(shape), 8 + length + start)
    return found


def _read_safetensors(path: str, shown: str) -> Iterator[Batch]:
    tensors = _read_tensors(open_random(path), shown)
    arrays = {
        name: np.memmap(path, tensor.dtype, "r", tensor.start, tensor.shape) if 0 not in tensor.shape else np.empty(0)
        for name, tensor in tensors.items()
    }
    if not all(array.size for array in arrays.values()):
        return
    ids, vectors = _as_ids(arrays[IDS], shown), arrays[VECTORS]
    if len(ids) != len(vectors):
        raise bad_file(shown, f"as many vectors as there are ids ({len(ids):,})", f"{len(vectors):,}", _FORMS)
    for rows in _split_rows(len(ids), vectors[:1].nbytes):
        yield _batch_of_array(ids, vectors, rows)


# Parquet and Arrow


def _open_parquet(location: str, shown: str, access: Access) -> tuple[pa.Schema, Callable[[int], Iterator[Any]]]:
    """Open a Parquet file, whose footer is checked before Arrow reads it."""
    import pyarrow.parquet as pq

    footer = read_footer(find_place(location, access), shown, (ID, VECTOR), _MOST_FOOTER, _FORMS, nested=True)
    if footer.rows > _MOST_ROWS:
        raise bad_file(shown, f"at most {_MOST_ROWS:,} rows", f"{footer.rows:,}", _FORMS)
    file = open_random(location, access)
    opened = pq.ParquetFile(FileSlice(file, 0, file.size) if is_url(location) else location, buffer_size=1 << 20)

    def batches(rows: int) -> Iterator[Any]:
        yield from opened.iter_batches(rows, columns=[ID, VECTOR], use_threads=False)

    return opened.schema_arrow, batches


def _open_arrow(source: Any, shown: str) -> tuple[pa.Schema, Callable[[int], Iterator[Any]]]:
    opened = pa.ipc.open_file(source)
    if missing := {ID, VECTOR} - set(opened.schema.names):
        names = ", ".join(printable(name[:40]) for name in opened.schema.names[:10]) or "none"
        raise bad_file(shown, f"columns {ID} and {VECTOR}", f"columns {names}, without {min(missing)}", _FORMS)

    def batches(rows: int) -> Iterator[Any]:
        for number in range(opened.num_record_batches):
            batch = opened.get_batch(number).select([ID, VECTOR])
            batch.validate(full=True)
            yield from (batch.slice(start, rows) for start in range(0, len(batch), rows))

    return opened.schema, batches


def _form_of_batches(schema: pa.Schema, batches: Callable[[int], Iterator[Any]], shown: str) -> Form:
    """Find the form of vectors in a column; the width of lists of any length is that of the first."""
    kind, depth, width = schema.field(VECTOR).type, 0, None
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        kind, depth = kind.value_type, depth + 1
    if not pa.types.is_floating(kind) or depth not in (1, 2):
        expected = "vectors: lists of floats, or lists of such lists for several of each id"
        raise bad_file(shown, expected, printable(str(schema.field(VECTOR).type)[:200]), _FORMS)
    if not pa.types.is_integer(schema.field(ID).type):
        raise bad_file(shown, "ids that are integers", printable(str(schema.field(ID).type)[:200]), _FORMS)
    if width is None:
        first = (_first_width(batch.column(VECTOR), depth) for batch in batches(64))
        width = next((width for width in first if width is not None), 0)
    return Form(_check_width(width, shown), depth == 2, pa.types.is_float16(kind))


def _first_width(column: pa.Array, depth: int) -> int | None:
    for _ in range(depth - 1):
        column = column.flatten()
    lengths = pc.list_value_length(column.drop_null())
    return lengths[0].as_py() if len(lengths) else None


def _read_parquet(path: str, shown: str, width: int, several: bool) -> Iterator[Batch]:
    schema, batches = _open_parquet(path, shown, NO_ACCESS)
    _form_of_batches(schema, batches, shown)
    return _convert(batches, shown, width, several)


def _read_arrow(path: str, shown: str, width: int, several: bool) -> Iterator[Batch]:
    return _convert(_open_arrow(pa.memory_map(path), shown)[1], shown, width, several)


def _convert(batches: Callable[[int], Iterable[Any]], shown: str, width: int, several: bool) -> Iterator[Batch]:
    for batch in batches(max(1, BATCH_BYTES // (4 * width))):
        ids = batch.column(batch.schema.get_field_index(ID))
        if ids.null_count:
            raise bad_file(shown, "an id in each row", "a row without one", "Remove that row.")
        column = batch.column(batch.schema.get_field_index(VECTOR))
        present, lengths, values = _flatten(column)
        numbers = _as_ids(values_of(ids), shown)[present]
        counts = lengths if several else None
        if several:
            whole, lengths, values = _flatten(values)
            if not whole.all():
                do = "Use an empty list for an id without any."
                raise bad_file(shown, "lists of vectors", "a list with a null in it", do)
        if (lengths != width).any():
            row = int(np.argmax(lengths != width))
            k = row if counts is None else int(np.searchsorted(np.cumsum(counts), row, side="right"))
            found = f"{lengths[row]:,}"
            do = "All vectors of a file have one width."
            raise bad_file(f"{shown}: id {numbers[k]}", f"a vector of {width:,} numbers", found, do)
        if values.null_count:
            raise bad_file(
                shown, "vectors of numbers", "a vector with a null in it", "Remove its row, or encode again."
            )
        yield Batch(numbers, counts, values_of(values).reshape(-1, width))


def _flatten(column: pa.Array) -> tuple[npt.NDArray[np.bool_], Int64s, pa.Array]:
    """Return which lists are not null (N,), the lengths of those (M,), and their values one after another."""
    present = values_of(column.is_valid())
    column = column.drop_null() if column.null_count else column
    if pa.types.is_fixed_size_list(column.type):
        return present, np.full(len(column), column.type.list_size, np.int64), column.flatten()
    return present, values_of(pc.list_value_length(column)).astype(np.int64), column.flatten()
