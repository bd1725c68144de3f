"""Remote files through fsspec: open them, ask about them, read byte ranges, and retry when the network fails."""

import contextlib
import functools
import itertools
import os
import queue
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from _newsclippings.errors import (
    BadFileError,
    ConfigError,
    DataNotFoundError,
    MissingDependencyError,
    NewsCLIPpingsError,
    RemoteReadError,
    bad_file,
)
from _newsclippings.facts import HUB_FILES
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.threads import delay_forks, limit_threads, map_ahead
from _newsclippings.text import (
    describe_error,
    redact_error,
    redact_logs,
    remember_secrets,
    remember_token,
    short_repr,
    without_secrets,
)

if TYPE_CHECKING:
    from _newsclippings.storage.http_answers import Part

T = TypeVar("T")

TRIES = 6
PAUSE = 0.1  # seconds before the second try; three times as long before each further one, 12 in all
TIMEOUT = 30.0  # seconds without a byte, or for the head of an answer, after which a request counts as failed
PATIENCE = 4  # after this many times TIMEOUT nothing is tried again
THREADS = 16  # requests at a time
PIECE = 2 << 20  # bytes of a request at most; up to 2 * THREADS answers are in memory
LOOK_AHEAD = (4 << 10, 1 << 20)  # fewest and most bytes of a request when most of the file is skipped
SHORTEST = 1024  # bytes; a shorter answer to a longer request counts as a failure
ENV_MAX_WAIT = "NEWSCLIPPINGS_MAX_WAIT"
_WAIT_UNTIL: dict[str, float] = {}  # host -> moment (`time.monotonic`) before which it asked for no requests
CLOSE = 16 << 10  # if headers are closer together than this many bytes, one long read is faster than many requests

# Fields of fsspec's clients that change when the content of a remote file does.
_VERSION_FIELDS = ("size", "etag", "last-modified", "lastmodified", "last_modified", "content-md5", "digest", "mtime",
          "blob_id", "xet_hash", "generation")  # fmt: skip

# File systems opened in this process or the one that it was forked from. A forked process never closes inherited ones:
# it would remove their connections from the event loop's epoll, which it shares with its parent, and the parent's next
# request would wait for an answer that its loop does not see.
_OPENED: dict[int, Any] = {}

Range = tuple[int, int]  # first byte, and the byte after the last


def is_url(location: str) -> bool:
    """Check whether a location is a URL and not a local path."""
    return "://" in location


def is_http(url: str) -> bool:
    """Check whether a URL is read over HTTP, and not through another file system in front of it."""
    return url.startswith(("http://", "https://"))


@functools.cache
def _reset_fsspec_in_children() -> None:
    """Make forked processes forget fsspec's thread, which exists only in the parent.

    Not every supported fsspec does this itself; `datasets` does the same in the workers of a DataLoader.
    """

    def reset() -> None:
        asyn: Any = sys.modules.get("fsspec.asyn")
        if hasattr(asyn, "reset_lock"):  # absent if the fork happened during the import
            asyn.iothread[0] = asyn.loop[0] = None
            asyn.reset_lock()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=reset)


def open_file_system(url: str, access: Access = NO_ACCESS) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and the path in it.

    Args:
        url: the URL. One of HTTP is never a chain: it may have `::` in its host or its query.
        access: what the user passed. It is added to the settings of fsspec's configuration.

    Raises:
        ConfigError: no client reads this kind of URL.
        Exception: whatever fsspec raises.
    """
    _reset_fsspec_in_children()
    with delay_forks():
        import fsspec  # takes a while to import, and most builds read local files only
        import fsspec.asyn

        protocols = re.findall(r"([a-z0-9+.-]+)://", url)[: 1 if is_http(url) else None]
        unknown = [protocol for protocol in protocols if _is_unknown_protocol(protocol)]
        options = {protocol: access.options_of(protocol, url) for protocol in protocols}
        for protocol in {"http", "https"} & options.keys():
            from _newsclippings.storage.http_answers import make_http_options

            options[protocol] = make_http_options(options[protocol], TIMEOUT)
    remember_secrets_of(url)
    try:
        if is_http(url):
            system, path = fsspec.filesystem(protocols[0], **options[protocols[0]]), url
        else:
            system, path = fsspec.core.url_to_fs(url, **options)
    except ValueError:
        if not unknown:
            raise
        system, path = None, ""
    if system is None:  # raised here and not above, since the error above, which shows the URL, would be its context
        message = (
            f"{without_secrets(url)}: there is no such protocol. Use https://, hf://, s3:// or another one that fsspec "
            "supports, or download the file and pass the local path."
        )
        raise ConfigError(message)
    _OPENED[id(system)] = system
    return system, path


def _is_unknown_protocol(protocol: str) -> bool:
    """Check whether fsspec does not support a protocol; import the client of a supported one."""
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        return True
    except Exception:  # a client that is not installed, or broken; raised again when it is used
        return False
    return False


def remember_secrets_of(url: str) -> None:
    """Remove the secrets of a URL, of proxies and of the Hub from all messages from now on."""
    import urllib.request  # slow to import, and most commands read nothing from a server

    for address in (url, os.environ.get("HF_ENDPOINT", ""), *urllib.request.getproxies().values()):
        remember_secrets(address)
    remember_token(os.environ.get("HF_TOKEN"))
    if "hf://" in url:
        with contextlib.suppress(Exception):  # the client is not installed, or a file of its cannot be read
            from huggingface_hub import get_token

            remember_token(get_token())
    redact_logs()


def call_with_timeout(action: Callable[[], T], seconds: float | None = None) -> T:
    """Call a client that sets no limit on the time of a whole answer, and return its result.

    Args:
        action: the call; made in a daemon thread, so one that takes too long ends with the process.
        seconds: the limit; TIMEOUT * PATIENCE if not given.

    Raises:
        TimeoutError: the call took longer.
    """
    seconds = TIMEOUT * PATIENCE if seconds is None else seconds
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((action(), None))
        except BaseException as error:  # raised again below
            results.put((None, error))

    threading.Thread(target=run, name="newsclippings-call", daemon=True).start()
    try:
        result, error = results.get(timeout=seconds)
    except queue.Empty:
        message = f"no whole answer in {seconds:,.0f} seconds"
        raise TimeoutError(message) from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value] # T itself may be None


def call_client(url: str, action: Callable[[], T]) -> T:
    """Make one small request of an fsspec client within the time limit; over HTTP, `http_answers` sets the limit."""
    return action() if "http://" in url or "https://" in url else call_with_timeout(action)


def retry(action: Callable[[], T], url: str, what: str) -> T:
    """Run an action on a remote file, again after failures that may be temporary, and return its result.

    A server that asks to wait (Retry-After) is obeyed by all threads, up to `longest_wait` seconds together.

    Args:
        action: what to run.
        url: the file's URL.
        what: what the action reads, for the error.

    Raises:
        DataNotFoundError: the file does not exist, access is refused, or the address is wrong.
        RemoteReadError: all tries failed.
    """
    began, cause, attempt, waited = time.monotonic(), None, 0, 0.0
    host = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    while True:
        if (pause := _WAIT_UNTIL.get(host, 0) - time.monotonic()) > 0:
            waited += pause
            time.sleep(pause * random.uniform(1, 1.1))  # not all threads at the same moment
        try:
            return action()
        except Exception as error:  # whatever the client of that protocol and the network raise
            failure = describe_read_failure(url, error) if _is_final(error) or _find_own_error(error) else None
            problem, cause = describe_error(error), redact_error(error)
            asked = _find_retry_after(error)
        if failure is not None:  # raised here and not above, since `error`, which shows the URL, would be its context
            raise failure
        if asked is not None and waited + asked <= longest_wait():
            _WAIT_UNTIL[host] = max(_WAIT_UNTIL.get(host, 0), time.monotonic() + asked)
            continue
        attempt += 1
        if attempt == TRIES or time.monotonic() - began - waited > PATIENCE * TIMEOUT or asked is not None:
            break
        time.sleep(PAUSE * 3 ** (attempt - 1) * random.uniform(0.5, 1.5))
    do = "run it again when the server answers"
    if asked is not None:
        do = f"the server asks to wait {asked:,.0f} seconds: run it again then, or allow more with {ENV_MAX_WAIT}"
    message = (
        f"{without_secrets(url)}: {what} could not be read (tried {attempt} times; the last time: {problem}). What "
        f"was fetched so far is kept: {do}, or {_name_local_way(url)}."
    )
    raise RemoteReadError(message) from cause


def longest_wait() -> float:
    """Return how many seconds servers may ask to wait, for one request in all: NEWSCLIPPINGS_MAX_WAIT, or 300.

    Raises:
        ConfigError: the variable is no number of seconds.
    """
    text = os.environ.get(ENV_MAX_WAIT) or "300"
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        message = f"{ENV_MAX_WAIT}={short_repr(text)}: expected a number of seconds, 0 or more."
        raise ConfigError(message)
    return seconds


def _find_retry_after(error: BaseException) -> float | None:
    """Return the seconds, 1 or more, that a server asks to wait, from the error of a client or one of its causes."""
    cause: BaseException | None = error
    for _ in range(9):
        if cause is None:
            return None
        headers = getattr(cause, "headers", None) or getattr(getattr(cause, "response", None), "headers", None)
        value = None if headers is None else headers.get("Retry-After")
        if isinstance(value, str):
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                if value.strip().isdecimal():
                    seconds = float(value)
                else:
                    from email.utils import parsedate_to_datetime  # slow to import, and seldom needed

                    seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
                return max(seconds, 1) if seconds > 0 else None
        cause = cause.__cause__
    return None


def describe_read_failure(url: str, error: BaseException) -> NewsCLIPpingsError:
    """Make the error to raise after reading a URL failed, with a cause without secrets.

    Raise it outside of the `except` block: the original error, which may show secrets, would become its context.
    """
    own = _find_own_error(error)
    failure = own or _fetch_error(url, error)
    if own is None:
        failure.__cause__ = redact_error(error)
    failure.__suppress_context__ = True
    return failure


def _fetch_error(location: str, cause: BaseException) -> DataNotFoundError | MissingDependencyError | RemoteReadError:
    """Make the error of a remote file that could not be fetched, or whose size could not be asked for."""
    if isinstance(cause, ImportError):
        return MissingDependencyError(
            f"{without_secrets(location)}: the package that reads this protocol is missing ({describe_error(cause)}). "
            f"Install it{_name_extra(location)}, or use a local path."
        )
    case = DataNotFoundError if _is_final(cause) else RemoteReadError
    what = f"{without_secrets(location)} could not be fetched ({describe_error(cause)})."
    if location.startswith(HUB_FILES):
        return case(
            f"{what} Go online: unset HF_HUB_OFFLINE, or name a mirror in HF_ENDPOINT. Or {_name_local_way(location)}."
        )
    wrong_option = isinstance(cause, TypeError)
    check = "the names of your storage options" if wrong_option else "the address, the network and your access"
    return case(f"{what} Check {check}, or {_name_local_way(location)}.")


def _name_local_way(location: str) -> str:
    """How to do without a URL, for errors."""
    if not location.startswith(HUB_FILES):
        return "download the file and pass the local path"
    place = without_secrets(location).removeprefix(HUB_FILES).lstrip("/")
    return (
        f"put a copy at news_clippings/{place} below data_dir, where none was found: `newsclippings download` makes "
        "that tree on a machine with a network"
    )


def _name_extra(location: str) -> str:
    """How to install the client of a bucket, for errors."""
    return " (pip install 'newsclippings[cloud]')" if re.search(r"(s3a?|gc?s)://", location) else ""


def _find_own_error(error: BaseException) -> NewsCLIPpingsError | None:
    """Find an error of this package among an error and its causes, since a client may have wrapped it."""
    cause: BaseException | None = error
    for _ in range(9):
        if cause is None or isinstance(cause, NewsCLIPpingsError):
            return cause
        cause = cause.__cause__
    return None


def _is_final(error: BaseException) -> bool:
    """Check whether trying again cannot help: no such file, access is refused, or a client has no such option."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:  # fsspec's error for any failure
        return _is_final(error.__cause__)
    response = getattr(error, "response", None)
    status = getattr(error, "status", None) or getattr(response, "status_code", None)
    if isinstance(response, dict):  # of S3's client
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
    refused = refused or type(error).__name__ == "OfflineModeIsEnabled"  # by the Hub's client, whatever its version
    return refused or isinstance(error, FileNotFoundError | PermissionError | ImportError | ValueError | TypeError)


def fetch_info(url: str, access: Access = NO_ACCESS) -> dict[str, Any]:
    """Ask for what the client of a URL reports of the file: `size`, and fields that change with the content.

    Over HTTP the first byte is requested: the answer has the size of the whole file, and shows whether ranges work
    (`partial`), while HEAD is often refused or wrong. HEAD is asked only if that answer leaves the size open.

    Raises:
        DataNotFoundError: the file does not exist, or access is refused.
        RemoteReadError: the server does not answer.
    """

    def ask() -> dict[str, Any]:
        system, path = open_file_system(url, access)
        if is_http(url):
            info = fetch_part(system, url, 0, 1).info
            if info["partial"] and info["size"] is None:
                info["size"] = _fetch_length(system, url)
            return info
        system.invalidate_cache()
        return dict(call_client(url, lambda: system.info(path)))

    return retry(ask, url, "its size")


def find_version(info: Mapping[str, Any]) -> dict[str, str]:
    """Return the size of a remote file and the fields that change with its content, from what its client reports."""
    return {key.lower(): str(value) for key, value in info.items() if key.lower() in _VERSION_FIELDS}


def fetch_part(system: Any, url: str, start: int, stop: int) -> "Part":
    """Request a range of bytes over HTTP once; see `http_answers.request_part`."""
    from fsspec.asyn import sync

    from _newsclippings.storage.http_answers import request_part

    part: Part = sync(system.loop, request_part, system, url, start, stop)
    return part


def _fetch_length(system: Any, url: str) -> int | None:
    """Ask for the length of a whole file by HEAD; see `http_answers.request_length`."""
    from fsspec.asyn import sync

    from _newsclippings.storage.http_answers import request_length

    length: int | None = sync(system.loop, request_length, system, url)
    return length


class RemoteFile:
    """A remote file, read at any position; safe to share between threads, and after a fork.

    Attributes:
        path: its URL, without secrets.
        size: in bytes.
        version: see `find_version`.
    """

    def __init__(self, url: str, access: Access = NO_ACCESS) -> None:
        """Ask for the file's size.

        Args:
            url: the URL.
            access: what the user passed to reach it.

        Raises:
            DataNotFoundError: the file does not exist, or access is refused.
            RemoteReadError: the server does not answer.
            BadFileError: the server does not report a size, so ranges cannot be requested.
        """
        self._url, self.path, self._access = url, without_secrets(url), access
        info = fetch_info(url, access)
        size, self.version = info.get("size"), find_version(info)
        if not isinstance(size, int) or (is_http(url) and not info["partial"]):
            raise _missing_ranges(self.path)
        if not 0 <= size < 1 << 62:
            raise bad_file(self.path, "the size of a file", f"{size}", "Use another server.")
        self.size = size
        self._own = threading.local()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` on; fewer at the end of the file."""
        return self._read(offset, min(offset + length, self.size))

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers in their order, from `offset` on.

        Raises:
            BadFileError: the file ends earlier.
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
        """Read many ranges, `THREADS` at a time; yield each with its bytes, in the given order.

        Raises:
            RemoteReadError: all tries for a range failed.
        """
        return self.map_ranges(self._read, ranges)

    def map_ranges(self, read: Callable[[int, int], bytes], ranges: Iterable[Range]) -> Iterator[tuple[Range, bytes]]:
        """Call a function for many ranges in the threads for this file; see `read_ranges`."""
        return map_ahead(self._executor(), lambda wanted: read(*wanted), ranges, 2 * THREADS)

    def skipping_reader(self) -> Callable[[int, int], bytes]:
        """Return a `read_at` that reads ahead while that is faster; see `RandomFile`."""
        return _LookAhead(self).read_at

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not survive a fork
            self._pool = (os.getpid(), ThreadPoolExecutor(limit_threads(THREADS), thread_name_prefix="newsclippings"))
        return self._pool[1]

    def _read(self, start: int, stop: int) -> bytes:
        """Read one range; again after failures that may be temporary, and from where an answer ended too early."""
        data = bytearray()

        def read() -> bytes:
            while len(data) < stop - start:
                part = self._read_part(start + len(data), stop)
                data.extend(part)
                if len(part) < min(SHORTEST, stop - start - len(data)):
                    message = f"got {len(part)} bytes"
                    raise OSError(message)
            return bytes(data)

        return retry(read, self._url, f"bytes {start:,} to {stop - 1:,}")

    def _read_part(self, start: int, stop: int) -> bytes:
        """Read the beginning of a range, usually all of it, with one request."""
        if is_http(self._url):
            part = fetch_part(open_file_system(self._url, self._access)[0], self._url, start, stop)
            if not part.info["partial"]:
                raise _missing_ranges(self.path)
            return part.data
        stream, self._own.stream = self._stream(), None

        def read_range() -> bytes:
            stream.seek(start)  # here, since in some protocols all threads share one stream
            data: bytes = stream.read(stop - start)
            return data

        try:
            data: bytes | None = call_client(self._url, read_range)
        except NewsCLIPpingsError:
            raise
        except ValueError:  # fsspec's error if the server does not support ranges
            data = None
        if data is None:
            raise _missing_ranges(self.path)
        self._own.stream = stream  # reused, since it works
        return data

    def _stream(self) -> Any:
        """Return this thread's own stream, since seeking is not safe between threads or processes."""
        if getattr(self._own, "stream", None) is None or self._own.process != os.getpid():
            system, path = open_file_system(self._url, self._access)
            opened = call_client(self._url, lambda: system.open(path, "rb", cache_type="none"))
            self._own.stream, self._own.process = opened, os.getpid()
            self._own.system = system  # kept, since a file system inside an archive closes it when collected
        return self._own.stream

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in ("_url", "path", "size", "version", "_access")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _own=threading.local(), _pool=None)


class _LookAhead:
    """Reads a file from front to back through a window that grows while headers are close together, else shrinks."""

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.start, self.window = 0, b""
        self.hits, self.last = 0, 0  # headers read from the window that had saved a request, and where the last begins
        self.length = LOOK_AHEAD[0]

    def read_at(self, offset: int, length: int) -> bytes:
        """Read `length` bytes from `offset` on, from the window if they are in it."""
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
        f"{url}: the server does not support range requests (206), and only parts of the file are needed. Use another "
        "server, or download the file and pass the local path."
    )


def split_range(start: int, stop: int) -> Iterator[Range]:
    """Split a range into pieces of one request each."""
    for low in range(start, stop, PIECE):
        yield low, min(low + PIECE, stop)
