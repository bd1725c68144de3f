"""Remote files through fsspec: opening, asking about them, trying again. A location is a local path or a URL."""

import contextlib
import functools
import os
import queue
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from _newsclippings.errors import (
    ConfigError,
    DataNotFoundError,
    MissingDependencyError,
    NewsCLIPpingsError,
    RemoteReadError,
)
from _newsclippings.facts import HUB_FILES
from _newsclippings.storage.threads import delay_forks
from _newsclippings.text import (
    describe_error,
    redact_error,
    redact_logs,
    remember_secrets,
    remember_token,
    without_secrets,
)

T = TypeVar("T")

TRIES = 6
PAUSE = 0.1  # seconds before the second try; three times as long before each further one, 12 in all
TIMEOUT = 30.0  # seconds without a byte, or for the head of an answer, until a request counts as failed
PATIENCE = 4  # times TIMEOUT, after which nothing is tried again


def is_url(location: str) -> bool:
    """Whether a location is a URL and not a local path."""
    return "://" in location


@functools.cache
def _reset_fsspec_in_children() -> None:
    """See to it, once, that a forked process does not wait for fsspec's thread, which stayed behind.

    Not every supported fsspec does so itself; `datasets` does the same in the workers it forks for a DataLoader.
    """

    def forget() -> None:
        asyn: Any = sys.modules.get("fsspec.asyn")
        if hasattr(asyn, "reset_lock"):  # not while it is imported: to wait for that would be for ever
            asyn.iothread[0] = asyn.loop[0] = None
            asyn.reset_lock()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forget)


def open_file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        ConfigError: nothing knows how to read that URL.
        Exception: whatever fsspec raises.
    """
    _reset_fsspec_in_children()
    with delay_forks():
        import fsspec  # takes a while to import, and most builds read local files only
        import fsspec.asyn

        unknown = [protocol for protocol in re.findall(r"([a-z0-9+.-]+)://", url) if _is_unknown_protocol(protocol)]
        if "http://" in url or "https://" in url:
            import _newsclippings.storage.http_answers  # noqa: F401
    remember_secrets_of(url)
    options: dict[str, Any] = {}
    if "http://" in url or "https://" in url:
        from _newsclippings.storage.http_answers import make_client_options

        http = {"client_kwargs": make_client_options(TIMEOUT)}
        options = http if url.startswith(("http://", "https://")) else {"http": http, "https": http}  # of a chain
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ValueError:
        if not unknown:
            raise
        system, path = None, ""
    if system is None:  # raised here, where it has no context: that would show the URL
        message = (
            f"{without_secrets(url)}: there is no such protocol. Use https://, hf://, s3:// or another one that fsspec "
            "knows, or download the file and pass the local path."
        )
        raise ConfigError(message)
    return system, path


def _is_unknown_protocol(protocol: str) -> bool:
    """Whether fsspec does not know a protocol. What it does know is imported."""
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        return True
    except Exception:  # a client that is not installed, or broken; raised again when it is used
        return False
    return False


def remember_secrets_of(url: str) -> None:
    """See to it that no message shows the secrets of a URL that is going to be used, nor those of the environment."""
    for one in (url, os.environ.get("HF_ENDPOINT", ""), *urllib.request.getproxies().values()):
        remember_secrets(one)
    remember_token(os.environ.get("HF_TOKEN"))
    if "hf://" in url:
        with contextlib.suppress(Exception):  # without the client, or with a file of it that cannot be read
            from huggingface_hub import get_token

            remember_token(get_token())
    redact_logs()


def call_with_timeout(action: Callable[[], T], seconds: float | None = None) -> T:
    """The result of a call of a client that has no limit for the whole of an answer, which may come byte by byte.

    Args:
        action: what to call, in a thread of its own: one that takes too long ends with the process.
        seconds: the limit; TIMEOUT * PATIENCE if not given.

    Raises:
        TimeoutError: it took longer.
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
    return result  # type: ignore[return-value] # of a T that may be None


def call_client(url: str, action: Callable[[], T]) -> T:
    """The result of one small request of a client of fsspec, in time. `http_answers` sees to those over HTTP itself."""
    return action() if "http://" in url or "https://" in url else call_with_timeout(action)


def retry(action: Callable[[], T], url: str, what: str) -> T:
    """The result of an action on a remote file, tried again after failures that may pass.

    Raises:
        DataNotFoundError: it does not exist, or access is refused, or the address is wrong.
        RemoteReadError: all tries failed.
    """
    began, cause = time.monotonic(), None
    for attempt in range(TRIES):
        time.sleep(PAUSE * 3 ** (attempt - 1) if attempt else 0)
        try:
            return action()
        except Exception as error:  # whatever the client of that protocol and the network raise
            failure = describe_read_failure(url, error) if _is_final(error) or _find_own_error(error) else None
            problem, cause = describe_error(error), redact_error(error)
        if failure is not None:  # raised here, where it has no context: that would show the URL
            raise failure
        if time.monotonic() - began > PATIENCE * TIMEOUT:
            break
    message = (
        f"{without_secrets(url)}: {what} could not be read (tried {attempt + 1} times; the last time: {problem}). What "
        "was fetched so far is kept: run it again when the server answers, or download the file and pass the local "
        "path."
    )
    raise RemoteReadError(message) from cause


def describe_read_failure(url: str, error: BaseException) -> NewsCLIPpingsError:
    """What to raise, where no error is handled, after reading a URL failed; it has a cause without secrets."""
    ours = _find_own_error(error)
    failure = ours or _fetch_error(url, error)
    if ours is None:
        failure.__cause__ = redact_error(error)
    failure.__suppress_context__ = True
    return failure


def _fetch_error(location: str, cause: BaseException) -> DataNotFoundError | MissingDependencyError | RemoteReadError:
    """The error of a remote file that could not be fetched, or not even asked about."""
    if isinstance(cause, ImportError):
        return MissingDependencyError(
            f"{without_secrets(location)}: the package that reads this protocol is missing ({describe_error(cause)}). "
            "Install it, or download the file and pass the local path."
        )
    case = DataNotFoundError if _is_final(cause) else RemoteReadError
    what = f"{without_secrets(location)} could not be fetched ({describe_error(cause)})."
    if location.startswith(HUB_FILES):
        place = without_secrets(location).removeprefix(HUB_FILES).lstrip("/")
        return case(
            f"{what} It was needed because there is no news_clippings/{place} below data_dir. Put a copy there (the "
            "authors' download.sh makes that tree), or go online: unset HF_HUB_OFFLINE, or name a mirror in "
            "HF_ENDPOINT."
        )
    return case(f"{what} Check the address, the network and your access, or download the file and pass the local path.")


def _find_own_error(error: BaseException) -> NewsCLIPpingsError | None:
    """An error of this package among an error and its causes: a client may have wrapped it."""
    cause: BaseException | None = error
    for _ in range(9):
        if cause is None or isinstance(cause, NewsCLIPpingsError):
            return cause
        cause = cause.__cause__
    return None


def _is_final(error: BaseException) -> bool:
    """Whether trying again does not help: the file does not exist, or access to it is refused."""
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None:  # how fsspec says that anything went wrong
        return _is_final(error.__cause__)
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
    refused = refused or type(error).__name__ == "OfflineModeIsEnabled"  # by the Hub's client, whatever its version
    return refused or isinstance(error, FileNotFoundError | PermissionError | ImportError | ValueError)


def fetch_info(url: str) -> dict[str, Any]:
    """What fsspec knows of a remote file: `size`, and whatever tells whether it changed.

    Raises:
        DataNotFoundError: it does not exist, or access is refused.
        RemoteReadError: its server does not answer.
    """

    def ask() -> dict[str, Any]:
        system, path = open_file_system(url)
        system.invalidate_cache()
        return dict(call_client(url, lambda: system.info(path)))

    return retry(ask, url, "its size")
