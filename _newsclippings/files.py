"""Opening, fingerprinting and atomically writing files. The only place that opens a location.

A location is a local path or any URL that fsspec reads (`hf://`, `https://`, ...).
"""

import contextlib
import functools
import hashlib
import io
import os
import shutil
import stat
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from _newsclippings.errors import bad_file, in_words, no_ranges, not_fetched, not_read, without_secrets
from _newsclippings.schema import HUB_FILES

T = TypeVar("T")

TRIES = 6
PAUSE = 0.1  # seconds before the second try; three times as long before each further one, 12 in all
TIMEOUT = 30.0  # seconds without a byte until a request counts as failed
HEAD = 64 * 1024  # bytes hashed at either end of a file: enough to tell two JSON or tar files apart
_NOT_DATA = (
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself (git lfs pull)."),
    (b"<!DOCTYPE", "an HTML page", "The download went wrong; fetch it again."),
    (b"<!doctype", "an HTML page", "The download went wrong; fetch it again."),
    (b"<html", "an HTML page", "The download went wrong; fetch it again."),
)


def is_url(location: str) -> bool:
    """Whether a location is a URL and not a local path."""
    return "://" in location


class Stream(Protocol):
    """An open file, read from front to back."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Up to `size` bytes, all where it is negative; empty at the end."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill a buffer as far as there is something; 0 at the end."""

    def __enter__(self) -> "Stream":
        """The stream, closed when the block ends."""

    def __exit__(self, *_: Any) -> Any:
        """Close the stream."""


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


# What a client tells of a remote file that changes when its content does, by whatever name.
_STATE = ("size", "etag", "last-modified", "lastmodified", "last_modified", "content-md5", "digest", "mtime",
          "blob_id", "xet_hash", "generation")  # fmt: skip


@functools.cache
def _survive_forks() -> None:
    """See to it, once, that a forked process does not wait for fsspec's thread, which stayed behind.

    Not every supported fsspec does so itself; `datasets` does the same in the workers it forks for a DataLoader.
    """

    def forget() -> None:
        import fsspec.asyn

        fsspec.asyn.iothread[0] = fsspec.asyn.loop[0] = None
        fsspec.asyn.reset_lock()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. HTTP servers may go silent: there is a limit for that."""
    import fsspec  # takes a while to import, and most builds read local files only

    _survive_forks()
    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        options["client_kwargs"] = {"timeout": timeout}
    system, path = fsspec.core.url_to_fs(url, **options)
    return system, path


def try_again(action: Callable[[], T], url: str, what: str) -> T:
    """The result of an action on a remote file, tried again after failures that may pass.

    Raises:
        DataNotFoundError: it is not there, or not for us, or all tries failed.
        BadFileError: the server sends whole files only.
    """
    problem = ""
    for attempt in range(TRIES):
        time.sleep(PAUSE * 3 ** (attempt - 1) if attempt else 0)
        try:
            return action()
        except ValueError as error:  # how fsspec says that there are no ranges
            raise no_ranges(without_secrets(url)) from error
        except Exception as error:  # whatever the client of that protocol and the network raise
            if _is_final(error):
                raise not_fetched(url, error) from error
            problem = in_words(error)
    raise not_read(without_secrets(url), what, TRIES, problem)


def _is_final(error: BaseException) -> bool:
    """Whether trying again is of no use."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:  # how fsspec says that anything went wrong
        return _is_final(error.__cause__)
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
    return refused or isinstance(error, FileNotFoundError | PermissionError | ImportError)


def remote_info(url: str) -> dict[str, Any]:
    """What fsspec knows of a remote file: `size`, and whatever tells whether it changed.

    Raises:
        DataNotFoundError: it is not there, or cannot be asked about.
    """

    def ask() -> dict[str, Any]:
        system, path = file_system(url)
        system.invalidate_cache()
        return dict(system.info(path))

    return try_again(ask, url, "its size")


def open_stream(location: str) -> Stream:
    """Open a location for reading bytes from front to back.

    Raises:
        DataNotFoundError: it is a URL and cannot be opened.
    """
    if not is_url(location):
        return open(location, "rb", buffering=0)
    try:
        system, path = file_system(location)
        stream: Stream = system.open(path, "rb")
    except Exception as error:  # whatever the client of that protocol and the network raise
        raise not_fetched(location, error) from error
    return stream


def read_json_text(location: str) -> bytes:
    """The whole of a JSON file, after a look at whether it is one.

    Raises:
        BadFileError: the file is empty, an HTML page, or a Git LFS pointer.
    """
    with open_stream(location) as stream:
        data = stream.read() or b""
    check_json_head(location, data[:64])
    return data


def check_json_head(location: str, head: bytes) -> None:
    """Refuse what is plainly not JSON, by its first bytes."""
    if not head.strip():
        raise bad_file(location, "JSON", "an empty file", "The download went wrong; fetch it again.")
    for magic, what, do in _NOT_DATA:
        if head.lstrip().startswith(magic):
            raise bad_file(location, "JSON", what, do)


def fingerprint(location: str) -> str:
    """What changes when the content of a location changes, at the cost of two small reads.

    A local file: size, times of content and inode change in nanoseconds, hash of head and tail. A local folder: its
    resolved path. A file at the authors' pinned revision stands for itself; any other URL is asked for its size, and
    for its ETag or whatever the protocol has.
    """
    if is_url(location):
        if location.startswith(HUB_FILES):
            return location
        state = {k.lower(): str(v) for k, v in remote_info(location).items() if k.lower() in _STATE}
        return hashlib.sha256(f"{location} {sorted(state.items())}".encode()).hexdigest()
    status = os.stat(location)
    digest = hashlib.sha256(os.path.realpath(location).encode("utf-8", "surrogateescape"))
    if os.path.isfile(location):
        digest.update(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
        with open(location, "rb") as file:
            digest.update(file.read(HEAD))
            file.seek(max(HEAD, status.st_size - HEAD))
            digest.update(file.read(HEAD))
    return digest.hexdigest()


def local_copy(location: str, folder: Path) -> str:
    """A local path of a location: itself, or a copy of a URL that is fetched once and kept in a folder."""
    if not is_url(location):
        return location
    key = hashlib.sha256(fingerprint(location).encode()).hexdigest()[:16]
    copy = folder / f"{key}-{without_secrets(location).rpartition('/')[2]}"
    if not copy.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with open_stream(location) as source, write_atomically(copy) as temporary, open(temporary, "wb") as sink:
            shutil.copyfileobj(source, sink, HEAD)  # type: ignore[misc]  # raw streams give bytes, None only if not blocking
    return str(copy)


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[str]:
    """Give a temporary name in the same folder; rename it to `path` when all went well, else remove it."""
    temporary = f"{path}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


class LocalFile:
    """A local file for reads at a position; safe to share between threads, opened once per process."""

    def __init__(self, path: str, read_ahead: bool = False) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._close = weakref.finalize(self, os.close, self._fd)
        status = os.fstat(self._fd)
        if stat.S_ISDIR(status.st_mode):
            raise bad_file(path, "a file", "a folder", "Correct the path.")
        self.size = status.st_size
        if hasattr(os, "posix_fadvise") and not read_ahead:  # between headers lie pictures that nobody asked for
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def close(self) -> None:
        """Give the file descriptor back."""
        self._close()

    def __enter__(self) -> "LocalFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; fewer at the end of the file."""
        return os.pread(self._fd, length, offset)

    def hop_reader(self) -> Callable[[int, int], bytes]:
        """As `RandomFile`: nothing is read ahead."""
        descriptor = self._fd
        return lambda offset, length: os.pread(descriptor, length, offset)

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, from `offset` on.

        Raises:
            BadFileError: the file ends before.
        """
        wanted = sum(len(buffer) for buffer in buffers)
        if hasattr(os, "preadv"):
            got = os.preadv(self._fd, buffers, offset)
        else:  # macOS before Python 3.12
            data, got = os.pread(self._fd, wanted, offset), 0
            for buffer in buffers:
                part = data[got : got + len(buffer)]
                buffer[: len(part)] = part
                got += len(part)
        if got != wanted:
            raise bad_file(self.path, f"{wanted} bytes at byte {offset}", f"{got}", "Was the file replaced?")


class Member(io.RawIOBase):
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
