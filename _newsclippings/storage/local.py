"""Local files that are read in place: at positions, from several threads and processes."""

import errno
import io
import os
import stat
import weakref
from collections.abc import Callable
from typing import Protocol

from _newsclippings.errors import NewsCLIPpingsError, bad_file
from _newsclippings.storage.disk import changed_file, ignore_unsupported, unreadable_file

_NO_CALL = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class RandomFile(Protocol):
    """A file that is read at positions, local or remote.

    Attributes:
        path: its location, for errors.
        size: in bytes.
    """

    path: str
    size: int

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; fewer at the end of the file."""

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, from `offset` on; an error where the file ends before."""

    def hop_reader(self) -> Callable[[int, int], bytes]:
        """A `read_at` for someone who goes through the file from front to back, leaving most of it out."""


def open_file(path: str, flags: int = 0) -> int:
    """A descriptor of a plain local file, to read it.

    Raises:
        DataNotFoundError: it is not there, or may not be read.
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
    """The whole of a plain local file.

    Args:
        path: the file.
        most: bytes that it may have; unset: any number.

    Raises:
        DataNotFoundError: it is not there, or cannot be read.
        BadFileError: it is a folder, a pipe or a device, or larger.
    """
    try:
        with open(path, "rb", opener=open_file) as file:
            data = file.read(-1 if most is None else most + 1)
            if most is not None and len(data) > most:
                found = f"{max(len(data), os.fstat(file.fileno()).st_size):,}"
                raise bad_file(path, f"at most {most:,} bytes", found, "Is it another file?")
            return data
    except OSError as error:
        raise error if isinstance(error, NewsCLIPpingsError) else unreadable_file(path, error)  # noqa: B904


def has_content(path: str | os.PathLike[str], data: bytes) -> bool:
    """Whether a file has just this in it; no more of it is read than that takes.

    Raises:
        DataNotFoundError: it is not there, or cannot be read.
        BadFileError: it is a folder, a pipe or a device.
    """
    try:
        with open(path, "rb", opener=open_file) as file:
            return file.read(len(data) + 1) == data
    except OSError as error:
        raise error if isinstance(error, NewsCLIPpingsError) else unreadable_file(path, error)  # noqa: B904


class LocalFile:
    """A local file for reads at a position; safe to share between threads, opened once per process.

    Attributes:
        path: its location.
        status: what the system said of it when it was opened.
        size: in bytes, then.
    """

    def __init__(self, path: str, read_ahead: bool = False, at_rest: bool = True) -> None:
        self.path = path
        self._read_ahead, self._at_rest = read_ahead, at_rest
        self._closing: list[Callable[[], object]] = []
        self._opened, self.status = self._open()
        self.size = self.status.st_size

    def _open(self) -> tuple[tuple[int, int], os.stat_result]:
        """This process and a descriptor of its own, and what the system says of it.

        Raises:
            BadFileError: it is another file than the one that was opened first.
        """
        descriptor = open_file(self.path)
        close, status = weakref.finalize(self, os.close, descriptor), os.fstat(descriptor)
        if self._closing and not os.path.samestat(self.status, status):
            close()
            raise bad_file(self.path, "the same file as before", "another", "Load it again.")
        if hasattr(os, "posix_fadvise") and not self._read_ahead:  # between headers lie pictures nobody asked for
            with ignore_unsupported():
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        self._closing.append(close)
        return (os.getpid(), descriptor), status

    def _descriptor(self) -> int:
        """This process's own: some network file systems serve each open file by itself.

        There is no lock, which a fork could find taken: threads that come at once open it each. The inherited one stays
        open, since a thread that forked may be about to read from it.
        """
        if self._opened[0] != os.getpid():
            self._opened, _ = self._open()
        return self._opened[1]

    def close(self) -> None:
        """Give the file descriptors back."""
        for close in self._closing:
            close()

    def __enter__(self) -> "LocalFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; fewer at the end of the file."""
        return self.hop_reader()(offset, length)

    def hop_reader(self) -> Callable[[int, int], bytes]:
        """As `RandomFile`: nothing is read ahead."""
        descriptor = self._descriptor()

        def read_at(offset: int, length: int) -> bytes:
            try:
                return os.pread(descriptor, length, offset)
            except OSError as error:
                raise unreadable_file(self.path, error) from error

        return read_at

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, from `offset` on.

        Raises:
            BadFileError: the file ends before, or changed.
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
        """Read into several buffers by one call; None where there is no such call: its callers do without."""
        if not hasattr(os, "preadv"):  # macOS before Python 3.12
            return None
        try:
            return os.preadv(self._descriptor(), buffers, offset)
        except OSError as error:
            if error.errno in _NO_CALL:  # some file systems and sandboxes
                return None
            raise unreadable_file(self.path, error) from error

    def check_unchanged(self) -> None:
        """Raise `BadFileError` if the file was written to since it was opened, unless it is one that may be."""
        status = os.fstat(self._descriptor())
        same = (status.st_size, status.st_mtime_ns) == (self.status.st_size, self.status.st_mtime_ns)
        if self._at_rest and not same:
            raise changed_file(self.path)


class FileSlice(io.RawIOBase):
    """A stretch of a file as a stream of its own."""

    def __init__(self, file: RandomFile, offset: int, size: int) -> None:
        super().__init__()
        self._file, self._offset, self._end = file, offset, offset + size

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants any buffer
        """Read up to `len(buffer)` bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")[: self._end - self._offset]
        if len(view):
            self._file.read_into(self._offset, view)
            self._offset += len(view)
        return len(view)
