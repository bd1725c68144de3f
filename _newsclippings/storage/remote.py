"""Positioned reads of a remote file: byte ranges, several at a time, tried again when the network fails."""

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from _newsclippings.errors import BadFileError, NewsCLIPpingsError, bad_file
from _newsclippings.storage.local import LocalFile, RandomFile
from _newsclippings.storage.network import call_client, fetch_info, is_url, open_file_system, retry
from _newsclippings.storage.threads import limit_threads, map_ahead
from _newsclippings.text import without_secrets

THREADS = 16  # requests at a time
PIECE = 2 << 20  # bytes of a request at most: what is in memory is 2 * THREADS of them
LOOK_AHEAD = (4 << 10, 1 << 20)  # bytes of a request while hopping: the least and the most
CLOSE = 16 << 10  # bytes between headers up to which reading through is better than a request for each

Range = tuple[int, int]  # first byte, and the one after the last


def open_random(location: str) -> RandomFile:
    """Open a local or remote file for reads at a position."""
    return RemoteFile(location) if is_url(location) else LocalFile(location)


class RemoteFile:
    """A remote file for reads at a position; safe to share between threads, and after a fork.

    Attributes:
        path: its URL, without what may be a password or a signature in it.
        size: in bytes.
    """

    def __init__(self, url: str) -> None:
        """Ask for its size.

        Raises:
            DataNotFoundError: it does not exist, or access is refused.
            RemoteReadError: its server does not answer.
            BadFileError: its size is not known, so that ranges cannot be asked for.
        """
        self._url, self.path = url, without_secrets(url)
        size = fetch_info(url).get("size")
        if not isinstance(size, int):
            raise _missing_ranges(self.path)
        if not 0 <= size < 1 << 62:
            raise bad_file(self.path, "the size of a file", f"{size}", "Use another server.")
        self.size = size
        self._own = threading.local()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset` on; fewer at the end of the file."""
        return self._read(offset, min(offset + length, self.size))

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers, one after the other, from `offset` on.

        Raises:
            BadFileError: the file ends before.
            RemoteReadError: all tries failed.
        """
        wanted = sum(map(len, buffers))
        if offset + wanted > self.size:
            raise bad_file(self.path, f"{wanted} bytes at byte {offset}", f"a file of {self.size} bytes")
        position = 0
        for _, data in self.read_ranges(split_range(offset, offset + wanted)):
            rest = memoryview(data)
            for start, buffer in zip(itertools.accumulate(map(len, buffers), initial=0), buffers, strict=False):
                low, high = max(start, position), min(start + len(buffer), position + len(rest))
                if low < high:
                    buffer[low - start : high - start] = rest[low - position : high - position]
            position += len(rest)

    def read_ranges(self, ranges: Iterable[Range]) -> Iterator[tuple[Range, bytes]]:
        """Read many ranges, `THREADS` at a time; they come in the order asked for.

        Raises:
            RemoteReadError: all tries of one of them failed.
        """
        return map_ahead(self._executor(), lambda one: self._read(*one), ranges, 2 * THREADS)

    def hop_reader(self) -> Callable[[int, int], bytes]:
        """As `RandomFile`: reads ahead as long as that pays."""
        return _LookAhead(self).read_at

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not survive a fork
            self._pool = (os.getpid(), ThreadPoolExecutor(limit_threads(THREADS), thread_name_prefix="newsclippings"))
        return self._pool[1]

    def _read(self, start: int, stop: int) -> bytes:
        """One range, tried again after failures that may pass."""
        if start >= stop:
            return b""

        def read() -> bytes:
            stream, self._own.stream = self._stream(), None

            def range_of_it() -> bytes:
                stream.seek(start)  # here, since some protocols have one stream for all
                data: bytes = stream.read(stop - start)
                return data

            try:
                data: bytes | None = call_client(self._url, range_of_it)
            except NewsCLIPpingsError:
                raise
            except ValueError:  # how fsspec says that there are no ranges
                data = None
            if data is None:
                raise _missing_ranges(self.path)
            if len(data) != stop - start:
                message = f"got {len(data)} bytes"
                raise OSError(message)
            self._own.stream = stream  # only one that works is used again
            return data

        return retry(read, self._url, f"bytes {start:,} to {stop - 1:,}")

    def _stream(self) -> Any:
        """This thread's own stream: seeking is not safe between threads, nor between processes."""
        if getattr(self._own, "stream", None) is None or self._own.process != os.getpid():
            system, path = open_file_system(self._url)
            known = {"size": self.size} if self._url.startswith(("http://", "https://")) else {}  # else it asks again
            opened = call_client(self._url, lambda: system.open(path, "rb", cache_type="none", **known))
            self._own.stream, self._own.process = opened, os.getpid()
            self._own.system = system  # one that is in an archive closes that when it goes
        return self._own.stream

    def __getstate__(self) -> dict[str, Any]:
        return {"_url": self._url, "path": self.path, "size": self.size}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local(), _pool=None)


class _LookAhead:
    """Reads from front to back with a window that grows where headers are close together, and shrinks elsewhere."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.start, self.window = 0, b""
        self.hits, self.last = 0, 0  # headers in the window that a request each would have cost, and the last of them
        self.length = LOOK_AHEAD[0]

    def read_at(self, offset: int, length: int) -> bytes:
        place = offset - self.start
        if not 0 <= place <= len(self.window) - length:
            close = self.hits * CLOSE >= len(self.window) > 0
            self.length = min(self.length * 2, LOOK_AHEAD[1]) if close else max(self.length // 2, LOOK_AHEAD[0])
            self.window = self.file.read_at(offset, max(length, self.length))
            self.start, place, self.hits, self.last = offset, 0, 0, offset
        if offset - self.last >= LOOK_AHEAD[0]:
            self.hits, self.last = self.hits + 1, offset
        return self.window[place : place + length]


def _missing_ranges(url: str) -> BadFileError:
    return BadFileError(
        f"{url}: the server does not answer range requests (206), and only some of the file is needed. Use another "
        "server, or download the file and pass the local path."
    )


def split_range(start: int, stop: int) -> Iterator[Range]:
    """A range in pieces of a request each."""
    for low in range(start, stop, PIECE):
        yield low, min(low + PIECE, stop)
