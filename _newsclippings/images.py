"""Encoded pictures by image path: from the extracted folder tree, or straight out of origin.tar.

Pictures are bytes. They are never decoded here, and an image path is only ever a key: into the index of the tar, or
below a folder that it is proven to stay in.
"""

import errno
import hashlib
import os
import stat
import zlib
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import BadTarError, UnsafePathError, bad_file
from _newsclippings.files import LocalFile
from _newsclippings.tar import TarIndex

Rows = npt.NDArray[np.int32]
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Pictures(Protocol):
    """The pictures of a corpus table; row k is the picture of its k-th record.

    Attributes:
        present: bool (N,), whether the picture is there and not empty.
        paths: string (N,), in the normal form.
    """

    present: npt.NDArray[np.bool_]
    paths: pa.Array

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes (Arrow binary) of some rows, in their order; null for -1 and for what is not present."""


class FolderPictures:
    """Pictures as files below a folder, which no symbolic link may lead out of."""

    def __init__(self, root: str, paths: pa.Array) -> None:
        """Look which of the pictures are there.

        Args:
            root: the folder `origin`.
            paths: image paths in the normal form, one per record.

        Raises:
            UnsafePathError: a symbolic link leads out of the folder.
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
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                continue
            if stat.S_ISREG(status.st_mode) and status.st_size:
                self.status[row] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        self.present = self.status[:, 0] > 0

    def full_paths(self, rows: Rows) -> pa.Array:
        """Absolute paths of some rows; null for -1 and for what is not present."""
        return pa.array([self._path(int(r)) if r >= 0 and self.present[r] else None for r in rows], pa.string())

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes of some rows; see `Pictures`."""
        return _binary(self.root, rows, self.status[:, 0], self.present, self._read_one)

    def _read_one(self, row: int, view: memoryview) -> None:
        path = self._path(row)
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0))
        try:
            got = os.readv(file, [view])
            size = os.fstat(file).st_size
        finally:
            os.close(file)
        if got != len(view) or size != len(view):
            raise bad_file(path, f"a picture of {len(view)} bytes", f"{size}", "It changed meanwhile: load again.")

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


def pictures_state(*pictures: FolderPictures) -> str:
    """A digest that changes when any of the pictures does: its size, its times, or whether it is there."""
    digest = hashlib.sha256()
    for some in pictures:
        digest.update(some.status.tobytes())
    return digest.hexdigest()


class TarPictures:
    """Pictures as members of an uncompressed tar, each one positioned read."""

    def __init__(self, path: str, index: TarIndex, paths: pa.Array) -> None:
        """Find the pictures in the index.

        Args:
            path: the tar.
            index: its index.
            paths: image paths in the normal form, one per record; each is only a key of the index.
        """
        self.path = path
        self.paths = paths
        # The hash table holds the wanted paths (thousands), and the names of the index (millions) stream by.
        unique = pc.unique(paths)
        hit = pc.index_in(index.members["name"], value_set=unique)
        places = pc.indices_nonzero(pc.is_valid(hit))
        found = index.members.take(places)
        row_of = np.full(len(unique), -1, np.int64)
        row_of[np.asarray(hit.take(places))] = np.arange(len(found))
        place = row_of[np.asarray(pc.index_in(paths, value_set=unique))]
        self._offset = np.append(np.asarray(found["offset"]), -1)[place]
        self._size = np.append(np.asarray(found["size"]), 0)[place]
        self._crc = np.append(np.asarray(found["header_crc"]), 0)[place]
        self.present = self._size > 0
        self._file: LocalFile | None = None

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes of some rows; see `Pictures`.

        Raises:
            BadTarError: the header in front of a picture is not the one that was indexed.
        """
        return _binary(self.path, rows, self._size, self.present, self._read_one, order=self._offset)

    def _read_one(self, row: int, view: memoryview) -> None:
        header = bytearray(512)
        if self._file is None:
            self._file = LocalFile(self.path)
        self._file.read_into(int(self._offset[row]) - 512, memoryview(header), view)
        if zlib.crc32(header) != self._crc[row]:
            message = (
                f"{self.path}: expected the header of {self.paths[row].as_py()} at byte {self._offset[row] - 512}, "
                "found another. The tar was replaced while it was read: load again."
            )
            raise BadTarError(message)


def _binary(
    location: str,
    rows: Rows,
    sizes: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
    read_one: Callable[[int, memoryview], None],
    order: npt.NDArray[np.int64] | None = None,
) -> pa.Array:
    """Read pictures into one buffer, which becomes the Arrow array without a copy."""
    there = rows >= 0
    there[there] = present[rows[there]]
    lengths = np.zeros(len(rows), np.int64)
    lengths[there] = sizes[rows[there]]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if offsets[-1] >= 1 << 31:
        raise bad_file(location, f"{len(rows)} pictures of less than 2 GiB together", f"{offsets[-1]:,} bytes")
    offsets = offsets.astype(np.int32)
    buffer = pa.allocate_buffer(int(offsets[-1]))
    view = memoryview(buffer).cast("B")
    todo = np.flatnonzero(there)
    if order is not None:  # front to back in the file
        todo = todo[np.argsort(order[rows[todo]], kind="stable")]
    for k in todo.tolist():
        read_one(int(rows[k]), view[offsets[k] : offsets[k + 1]])
    validity = pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.binary(), len(rows), [validity, pa.py_buffer(offsets), buffer])
