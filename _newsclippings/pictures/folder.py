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

from _newsclippings.errors import NewsCLIPpingsError, UnsafePathError, bad_file
from _newsclippings.storage import Rows, open_file, read_binary, unreadable
from _newsclippings.tables import array_of

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
        paths = [self._path(int(r)) if r >= 0 and self.present[r] else None for r in rows]
        return array_of(paths, pa.string())

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes of some rows; see `Pictures`."""
        return read_binary(self.root, self.paths, rows, self.sizes, self.present, self._read_some)

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
            raise bad_file(path, f"a picture of {len(view)} bytes", found, "It changed while it was read: load again.")

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
