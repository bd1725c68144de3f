"""Encoded pictures by image path: from the extracted folder tree, or straight out of origin.tar.

Pictures are bytes. They are never decoded here, and an image path is only ever a key: into the index of the tar, or
below a folder that it is proven to stay in.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import NewsCLIPpingsError, UnsafePathError, bad_file, unreadable, zeros_in_tar
from _newsclippings.local_file import RandomFile, open_file
from _newsclippings.picture_end import TAIL, is_cut_by_zeros
from _newsclippings.tar_index import TarIndex
from _newsclippings.tar_members import Members, TarCopy, read_members

MAX_FILE = 256 << 20  # bytes of a picture or an article: a picture of 64 million pixels has 192 MB without compression
Rows = npt.NDArray[np.int32]
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Pictures(Protocol):
    """The pictures of a corpus table; row k is the picture of its k-th record.

    Attributes:
        present: bool (N,), whether the picture is there and not empty.
        sizes: int64 (N,), in bytes, where it is there.
        paths: string (N,), in the normal form.
    """

    present: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    paths: pa.Array

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes (Arrow binary) of some rows, in their order; null for -1 and for what is not present."""


class FolderPictures:
    """Pictures as files below a folder, which no symbolic link may lead out of."""

    def __init__(self, root: str, paths: pa.Array, odd: Callable[[NewsCLIPpingsError], None] | None = None) -> None:
        """Look which of the pictures are there.

        Args:
            root: the folder `origin`.
            paths: image paths in the normal form, one per record.
            odd: what to do about one that may not be read, before it counts as not there. Unset: raise it.

        Raises:
            UnsafePathError: a symbolic link leads out of the folder.
            DataNotFoundError: the system does not say whether a picture is there.
        """
        self.root = os.path.realpath(root)
        self.paths = paths
        self._folders: dict[str, str] = {}
        self._linked: dict[int, str] = {}
        self.status = np.full((len(paths), 3), -1, np.int64)  # size, mtime and ctime in ns
        for row, path in enumerate(paths.to_pylist()):
            try:
                full = self._inside(path)
                status = os.lstat(full)
                if stat.S_ISLNK(status.st_mode):
                    full = self._linked[row] = self._resolve(full)
                    status = os.lstat(full)
                if odd is not None and not os.access(full, os.R_OK):  # who builds finds it out by reading
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            except (OSError, UnsafePathError) as error:
                if isinstance(error, OSError) and error.errno in _ABSENT:
                    continue
                told = unreadable(os.path.join(self.root, path), error) if isinstance(error, OSError) else error
                if odd is None:
                    raise told from error
                odd(told)
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size:
                times = _in_64_bits(status.st_mtime_ns), _in_64_bits(status.st_ctime_ns)
                self.status[row] = status.st_size, *times
        self.sizes: npt.NDArray[np.int64] = self.status[:, 0]
        self.present = self.sizes > 0

    def full_paths(self, rows: Rows) -> pa.Array:
        """Absolute paths of some rows; null for -1 and for what is not present."""
        return pa.array([self._path(int(r)) if r >= 0 and self.present[r] else None for r in rows], pa.string())

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes of some rows; see `Pictures`."""
        return _binary(self.root, self.paths, rows, self.sizes, self.present, self._read_some)

    def _read_some(self, rows: Rows, views: list[memoryview]) -> None:
        for row, view in zip(rows.tolist(), views, strict=True):
            self._read_one(row, view)

    def _read_one(self, row: int, view: memoryview) -> None:
        path = self._path(row)
        file = open_file(path, getattr(os, "O_NOFOLLOW", 0))
        try:
            got = os.readv(file, [view])
            status = os.fstat(file)
        except OSError as error:
            raise unreadable(path, error) from error
        finally:
            os.close(file)
        if got != len(view) or (status.st_size, _in_64_bits(status.st_mtime_ns)) != tuple(
            self.status[row, :2].tolist()
        ):
            found = f"one of {status.st_size}, or written since"
            raise bad_file(path, f"a picture of {len(view)} bytes", found, "It changed meanwhile: load again.")

    def _path(self, row: int) -> str:
        return self._linked.get(row) or self._inside(self.paths[row].as_py())

    def _inside(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = self._resolve(os.path.join(self.root, folder))
        return f"{real}/{name}"

    def _resolve(self, full: str) -> str:
        real = os.path.realpath(full)
        if real != self.root and not real.startswith(self.root + os.sep):
            message = (
                f"{full}: expected a file or folder below {self.root}, found a link that leaves it, to {real}. "
                "Put the files themselves there, or pass visual_news= the folder that really holds them."
            )
            raise UnsafePathError(message)
        return real


def _in_64_bits(nanoseconds: int) -> int:
    """A time as an int64, for which those before 1677 and after 2262 are too large: they lose their first bits."""
    return (nanoseconds + (1 << 63)) % (1 << 64) - (1 << 63)


def pictures_state(*pictures: FolderPictures) -> str:
    """A digest that changes when any of the pictures does: its size, its times, or whether it is there."""
    digest = hashlib.sha256()
    for some in pictures:
        digest.update(some.status.tobytes())
    return digest.hexdigest()


class TarPictures:
    """Pictures as members of an uncompressed tar, each one positioned read."""

    def __init__(self, file: RandomFile | TarCopy, index: TarIndex, paths: pa.Array) -> None:
        """Find the pictures in the index.

        Args:
            file: the tar: local, the sparse copy of a remote one, or remote itself.
            index: its index.
            paths: image paths in the normal form, one per record; each is only a key of the index.
        """
        self.file = file
        self.paths = paths
        found = index.find(paths)
        there = found >= 0
        self._place = np.where(there, np.cumsum(there) - 1, -1)  # of each record among the members
        self.members = Members.of(index, found[there])
        self.sizes = np.append(self.members.sizes, 0)[self._place]
        self.present = self.sizes > 0

    def members_of(self, rows: Rows) -> Members:
        """The members that some rows need, each once."""
        there = rows[rows >= 0]
        return self.members.some(np.unique(self._place[there[self.present[there]]]))

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes of some rows; see `Pictures`.

        Raises:
            BadTarError: the header in front of a picture is not the one that was indexed.
        """
        return _binary(self.file.path, self.paths, rows, self.sizes, self.present, self._read_some)

    def byte_of(self, row: int) -> int:
        """The byte of the tar at which the data of a file begin."""
        return int(self.members.offsets[self._place[row]])

    def _read_some(self, rows: Rows, views: list[memoryview]) -> None:
        read_members(self.file, self.members, self._place[rows], views)


def read_whole(pictures: Pictures, rows: Rows, texts: bool = False) -> pa.Array:
    """Encoded bytes of some rows, see `Pictures`; none that a download left half empty in a tar.

    Args:
        pictures: where they are.
        rows: which of them.
        texts: whether they are articles: no text ends in zeros.

    Raises:
        BadTarError: a file in a tar ends in zeros where its end should be.
    """
    data = pictures.read(rows)
    if isinstance(pictures, TarPictures) and len(data):
        offsets = np.frombuffer(data.buffers()[1], np.int32, len(data) + 1, data.offset * 4)
        letters = np.frombuffer(data.buffers()[2] or b"", np.uint8)
        filled = np.flatnonzero(offsets[1:] > offsets[:-1])
        for k in filled[letters[offsets[filled + 1] - 1] == 0].tolist():
            file = letters[offsets[k] : offsets[k + 1]].tobytes()
            if not any(file[-TAIL:]) if texts else is_cut_by_zeros(file):
                row = int(rows[k])
                byte = pictures.byte_of(row) + len(file.rstrip(b"\0"))
                raise zeros_in_tar(pictures.file.path, pictures.paths[row].as_py(), byte)
    return data


def _binary(
    location: str,
    paths: pa.Array,
    rows: Rows,
    sizes: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    read_some: Callable[[Rows, list[memoryview]], None],
) -> pa.Array:
    """Read pictures into one buffer, which becomes the Arrow array without a copy; one that is there twice, once."""
    there = rows >= 0
    there[there] = present[rows[there]]
    lengths = np.zeros(len(rows), np.int64)
    lengths[there] = sizes[rows[there]]
    if (largest := int(lengths.max(initial=0))) > MAX_FILE:
        name = paths[int(rows[lengths.argmax()])].as_py()
        do = "Nothing that large is a picture or an article: look what it is."
        raise bad_file(location, f"files of at most {MAX_FILE:,} bytes", f"{name} of {largest:,}", do)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] >= 1 << 31:
        raise bad_file(location, f"{len(rows)} pictures of less than 2 GiB together", f"{offsets[-1]:,} bytes")
    offsets = offsets.astype(np.int32)
    try:
        buffer = pa.allocate_buffer(int(offsets[-1]))
    except MemoryError:
        found = f"{offsets[-1]:,} bytes"
        raise bad_file(location, f"{len(rows)} pictures that fit into memory", found, "Use more of it.") from None
    view = memoryview(buffer).cast("B")
    todo = np.flatnonzero(there)
    unique, first, which = np.unique(rows[todo], return_index=True, return_inverse=True)
    if len(todo):
        read_some(unique, [view[offsets[k] : offsets[k + 1]] for k in todo[first].tolist()])
    for k, original in zip(todo.tolist(), todo[first][which].tolist(), strict=True):
        if k != original:
            view[offsets[k] : offsets[k + 1]] = view[offsets[original] : offsets[original + 1]]
    validity = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(), len(rows), [validity, pa.py_buffer(offsets), buffer])
