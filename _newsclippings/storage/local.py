"""Local files, read at any position, from several threads and processes."""

import errno
import io
import os
import stat
import weakref
from collections.abc import Callable
from typing import Protocol

from _newsclippings.errors import BadFileError, NewsCLIPpingsError, bad_file
from _newsclippings.storage.space import changed_file, ignore_unsupported, unreadable_file

_NO_CALL = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class RandomFile(Protocol):
    """A local or remote file, read at any position.

    Attributes:
        path: its location, for errors.
        size: in bytes.
    """

    path: str
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` on; fewer at the end of the file."""

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers in their order, from `offset` on; raise an error if the file ends earlier."""

    def skipping_reader(self) -> Callable[[int, int], bytes]:
        """Return a `read_at` for a caller that goes through the file from front to back and skips most of it."""


def open_file(path: str, flags: int = 0) -> int:
    """Open a plain local file for reading and return its descriptor.

    Raises:
        DataNotFoundError: it does not exist, or cannot be read.
        BadFileError: it is a folder, a pipe or a device.
    """
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)  # else opening a pipe waits for a writer
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        raise unreadable_file(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise bad_file(path, "a file", "a folder" if stat.S_ISDIR(mode) else "a pipe or a device", "Correct the path.")
    return descriptor


def read_file(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Read a whole plain local file.

    Args:
        path: the file.
        most: the largest size to accept, in bytes; any size if unset.

    Raises:
        DataNotFoundError: it does not exist, or cannot be read.
        BadFileError: it is a folder, a pipe or a device, or too large.
    """
    try:
        with open(path, "rb", opener=open_file) as file:
            data = file.read(-1 if most is None else most + 1)
            if most is not None and len(data) > most:
                size = f"{max(len(data), os.fstat(file.fileno()).st_size):,}"
                raise bad_file(path, f"at most {most:,} bytes", size, "Is it another file?")
            return data
    except OSError as error:
        raise error if isinstance(error, NewsCLIPpingsError) else unreadable_file(path, error)  # noqa: B904


class LocalFile:
    """A local file, read at any position; safe to share between threads, and opened by each process for itself.

    Attributes:
        path: its location.
        status: its `os.stat_result` when it was opened.
        size: in bytes, when it was opened.
    """

    def __init__(self, path: str, read_ahead: bool = False, may_change: bool = False) -> None:
        """Open the file.

        Args:
            path: the file.
            read_ahead: let the system read ahead; pays only if nearly all of the file is read in order.
            may_change: accept that the file is written to while it is open.

        Raises:
            DataNotFoundError: it does not exist, or cannot be read.
            BadFileError: it is a folder, a pipe or a device.
        """
        self.path = path
        self._read_ahead, self._may_change = read_ahead, may_change
        self._closing: list[Callable[[], object]] = []
        self._opened, self.status = self._open()
        self.size = self.status.st_size

    def _open(self) -> tuple[tuple[int, int], os.stat_result]:
        """Open the file; return the process id with the descriptor, and the file's status.

        Raises:
            BadFileError: another file is at this path now.
        """
        descriptor = open_file(self.path)
        close, status = weakref.finalize(self, os.close, descriptor), os.fstat(descriptor)
        if self._closing and not os.path.samestat(self.status, status):
            close()
            message = f"{self.path}: the file was replaced while it was read. Load it again."
            raise BadFileError(message)
        if hasattr(os, "posix_fadvise") and not self._read_ahead:  # what follows a header in a tar is often not needed
            with ignore_unsupported():
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self._closing.append(close)
        return (os.getpid(), descriptor), status

    def _descriptor(self) -> int:
        """Return this process's own descriptor, since some network file systems serve each open file separately.

        There is no lock, since a fork could find it taken: threads that call at the same time each open the file. The
        inherited descriptor stays open, since the thread that forked may be about to read from it.
        """
        if self._opened[0] != os.getpid():
            self._opened, _ = self._open()
        return self._opened[1]

    def close(self) -> None:
        """Close all descriptors."""
        for close in self._closing:
            close()

    def __enter__(self) -> "LocalFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` on; fewer at the end of the file."""
        return self.skipping_reader()(offset, length)

    def skipping_reader(self) -> Callable[[int, int], bytes]:
        """Return a `read_at` that reads nothing ahead; see `RandomFile`."""
        descriptor = self._descriptor()

        def read_at(offset: int, length: int) -> bytes:
            try:
                return os.pread(descriptor, length, offset)
            except OSError as error:
                raise unreadable_file(self.path, error) from error

        return read_at

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers in their order, from `offset` on.

        Raises:
            BadFileError: the file ends earlier, or changed.
            DataNotFoundError: it cannot be read.
        """
        wanted = sum(len(buffer) for buffer in buffers)
        got = self._read_all(offset, buffers)
        if got is None:
            data, got = self.read_at(offset, wanted), 0
            for buffer in buffers:
                part = data[got : got + len(buffer)]
                buffer[: len(part)] = part
                got += len(part)
        if got != wanted:
            raise bad_file(self.path, f"{wanted} bytes at byte {offset}", f"{got}", "Was the file replaced?")
        self.check_unchanged()

    def _read_all(self, offset: int, buffers: tuple[memoryview, ...]) -> int | None:
        """Read into several buffers by one system call; return the number of bytes, or None without such a call."""
        if not hasattr(os, "preadv"):  # macOS before Python 3.12
            return None
        try:
            return os.preadv(self._descriptor(), buffers, offset)
        except OSError as error:
            if error.errno in _NO_CALL:  # some file systems and sandboxes
                return None
            raise unreadable_file(self.path, error) from error

    def check_unchanged(self) -> None:
        """Raise `BadFileError` if the file was written to since it was opened, unless it may change."""
        status = os.fstat(self._descriptor())
        same = (status.st_size, status.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)
        if not self._may_change and not same:
            raise changed_file(self.path)


class FileSlice(io.RawIOBase):
    """A range of bytes of a file, as a stream."""

    def __init__(self, file: RandomFile, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._offset, self._end = file, offset, offset, offset + size

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place of the slice, and return it."""
        base = {os.SEEK_SET: self._start, os.SEEK_CUR: self._offset, os.SEEK_END: self._end}[whence]
        self._offset = base + offset
        return self._offset - self._start

    def readable(self) -> bool:
        """Return True: the stream can only be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants any buffer
        """Read up to `len(buffer)` bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")[: max(0, self._end - self._offset)]
        if len(view):
            self._file.read_into(self._offset, view)
            self._offset += len(view)
        return len(view)
