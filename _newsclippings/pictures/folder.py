"""Read encoded pictures from the extracted folder tree by their paths.

Pictures are bytes and are not decoded here. A path is used only after a check that it stays below the folder.
"""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import BadFileError, NewsCLIPpingsError, UnsafePathError
from _newsclippings.storage import Lock, Rows, open_file, read_binary_array, unreadable_file
from _newsclippings.tables import array_of, as_array
from _newsclippings.text import option

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class Pictures(Protocol):
    """The pictures of a corpus table; row k is the picture of its k-th record.

    Attributes:
        paths: string (N,), in the normal form.
        present: bool (N,), whether the picture was looked for, is there and is not empty.
        sizes: int64 (N,), in bytes, of those that are present.
    """

    present: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]
    paths: pa.Array

    def look(self, rows: Rows) -> None:
        """Look for the pictures of some rows (-1 for none), but for those that are known to be present."""

    def why_absent(self, row: int) -> str | None:
        """Say why a picture that is there by name cannot be used; None if it is not there, or if it can."""

    def read(self, rows: Rows) -> pa.Array:
        """Read the encoded bytes (Arrow binary) of some rows, in their order; null for -1 and for absent pictures."""


class FolderPictures:
    """Pictures as files below a folder. Symbolic links that leave the folder are refused."""

    def __init__(
        self,
        root: str,
        paths: pa.Array,
        report: Callable[[str, NewsCLIPpingsError], None] | None = None,
        links_root: str | None = None,
    ) -> None:
        """Nothing is looked for yet.

        Args:
            root: the folder `origin`.
            paths: string (N,), image paths in the normal form, one per record.
            report: called with the full path and the error of each picture that may not be read, which then counts as
                absent. If unset, the error is raised.
            links_root: a folder below which links may lead, too.
        """
        self.root = os.path.realpath(root)
        allowed = [os.path.realpath(links_root)] if links_root is not None else []
        self._allowed = [self.root, *allowed, *map(os.path.realpath, _find_blobs(self.root))]
        self.paths = paths
        self._report = report
        self._folders: dict[str, str] = {}
        self._linked: dict[int, str] = {}
        self._looked = np.zeros(len(paths), bool)
        self._lock = Lock()
        self.status = np.full((len(paths), 2), -1, np.int64)  # size, mtime in ns
        self.sizes: npt.NDArray[np.int64] = self.status[:, 0]
        self.present = np.zeros(len(paths), bool)

    @property
    def looked(self) -> npt.NDArray[np.int64]:
        """The rows that were looked for, in order."""
        return np.flatnonzero(self._looked)

    def look(self, rows: Rows) -> None:
        """Look for the pictures of some rows; see `Pictures`.

        Raises:
            UnsafePathError: a symbolic link leaves the folder.
            DataNotFoundError: the system cannot tell whether a picture exists.
        """
        with self._lock:
            unique = np.unique(rows[rows >= 0])
            todo = unique[~self.present[unique]]  # one that was absent may have been put there
            for row, path in zip(todo.tolist(), self.paths.take(as_array(todo)).to_pylist(), strict=True):
                self._look_for(row, path)
            self.present[todo] = self.sizes[todo] > 0
            self._looked[todo] = True

    def _look_for(self, row: int, path: str) -> None:
        try:
            full = self._inside(path)
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                full = self._linked[row] = self._resolve(full)
                status = os.lstat(full)
            if self._report is not None and not os.access(full, os.R_OK):  # a build notices it when it reads
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except (OSError, UnsafePathError) as error:
            if isinstance(error, OSError) and error.errno in _ABSENT:
                return
            place = os.path.join(self.root, path)
            problem = unreadable_file(place, error) if isinstance(error, OSError) else error
            if self._report is None:
                raise problem from error
            self._report(place, problem)
            return
        if stat.S_ISREG(status.st_mode) and status.st_size:
            self.status[row] = status.st_size, _wrap_int64(status.st_mtime_ns)

    def full_paths(self, rows: Rows) -> pa.Array:
        """Return the absolute paths (Arrow string) of some rows; null for -1 and for absent pictures."""
        paths = [self._path(int(r)) if r >= 0 and self.present[r] else None for r in rows]
        return array_of(paths, pa.string())

    def read(self, rows: Rows) -> pa.Array:
        """Read the encoded bytes of some rows; see `Pictures`."""
        return read_binary_array(self.root, self.paths, rows, self.sizes, self.present, self._read_into)

    def _read_into(self, rows: Rows, views: list[memoryview]) -> None:
        for row, view in zip(rows.tolist(), views, strict=True):
            self._read_file(row, view)

    def _read_file(self, row: int, view: memoryview) -> None:
        path = self._path(row)
        file = open_file(path, getattr(os, "O_NOFOLLOW", 0))
        try:
            got = os.readv(file, [view])
            status = os.fstat(file)
        except OSError as error:
            raise unreadable_file(path, error) from error
        finally:
            os.close(file)
        state = status.st_size, _wrap_int64(status.st_mtime_ns)
        if got != len(view) or state != tuple(self.status[row].tolist()):
            message = (
                f"{path} changed while it was read: it had {len(view)} bytes, now it has {status.st_size} or was "
                "written again. Load again."
            )
            raise BadFileError(message)

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
        if real != self.root and not any(real.startswith(root.rstrip(os.sep) + os.sep) for root in self._allowed):
            store = _guess_store(os.path.relpath(full, self.root), real)
            ways = f"{option('links', 'follow')} with {option('links_root', store)}"
            message = (
                f"{full} leads through a link to {real}, which is outside of {self.root}. If you trust that folder, "
                f"pass {ways}; or replace the link by the file."
            )
            raise UnsafePathError(message)
        return real

    def why_absent(self, row: int) -> str | None:
        """Say that a picture is a link to a file that is not there; else None."""
        path = os.path.join(self.root, self.paths[row].as_py())
        if os.path.islink(path) and not os.path.exists(path):
            return "it is a link to a file that is not there: fetch its content (git annex get, dvc pull)"
        return None


def _find_blobs(root: str) -> list[str]:
    """Return the folder with the files of a snapshot of the Hub's client, to which its links lead; else nothing.

    A snapshot is `<repository>/snapshots/<commit>`, and its files are in `<repository>/blobs`, where nothing else is.
    """
    match = re.match(r"(.*/(?:datasets|models|spaces)--[^/]+)/snapshots/[0-9a-f]{40}(?:/|$)", root)
    return [f"{match[1]}/blobs"] if match is not None else []


def _guess_store(path: str, real: str) -> str:
    """Name the folder that links probably lead to: the store of DVC or git-annex, a tree like this one, or the last.

    Args:
        path: relative path of a file or a folder that a link leads out of the folder of pictures.
        real: where it leads.
    """
    match = re.match(r"(.*/(?:\.dvc/cache|\.git/annex/objects))/", real)
    if match is not None:
        return match[1]
    store = os.path.dirname(real)
    while path and os.path.basename(path) == os.path.basename(real):
        path, real = os.path.dirname(path), os.path.dirname(real)
        store = real
    return store


def _wrap_int64(nanoseconds: int) -> int:
    """Wrap a time into an int64; times before 1677 or after 2262 do not fit and lose their upper bits."""
    return (nanoseconds + (1 << 63)) % (1 << 64) - (1 << 63)


def pictures_state(*folders: FolderPictures) -> str:
    """A digest that changes when any picture that was looked for does: its size, its time, or whether it is there.

    Other rights, a hard link, or a copy with its times are no change. So the time of the last change does not count.
    """
    digest = hashlib.sha256()
    for pictures in folders:
        digest.update(pictures.status[pictures.looked].tobytes())
    return digest.hexdigest()
