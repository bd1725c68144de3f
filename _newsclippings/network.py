"""Remote files through fsspec: opening, asking about them, trying again. A location is a local path or a URL."""

import functools
import os
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from _newsclippings.errors import (
    NewsCLIPpingsError,
    in_words,
    not_fetched,
    not_read,
    unknown_protocol,
    without_secrets,
)

T = TypeVar("T")

TRIES = 6
PAUSE = 0.1  # seconds before the second try; three times as long before each further one, 12 in all
TIMEOUT = 30.0  # seconds without a byte until a request counts as failed


def is_url(location: str) -> bool:
    """Whether a location is a URL and not a local path."""
    return "://" in location


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


@functools.cache
def _compare_ranges() -> Any:
    """Refuses answers with another range than was asked for, which fsspec would take for that one."""
    import aiohttp

    async def compare(session: Any, context: Any, sent: Any) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", sent.headers.get("Range", ""))
        got = re.match(r"bytes (\d+)-(\d+)/", sent.response.headers.get("Content-Range", ""))
        if asked and sent.response.status == 206 and (got is None or got[1] != asked[1] or int(got[2]) > int(asked[2])):
            message = f"asked for {asked[0]}, got {sent.response.headers.get('Content-Range')}"
            raise aiohttp.ClientPayloadError(message)

    traces = aiohttp.TraceConfig()
    traces.on_request_end.append(compare)
    return traces


def file_system(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it. HTTP servers may go silent: there is a limit for that."""
    import fsspec  # takes a while to import, and most builds read local files only

    _survive_forks()
    options: dict[str, Any] = {}
    if url.startswith(("http://", "https://")):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
        options["client_kwargs"] = {"timeout": timeout, "trace_configs": [_compare_ranges()]}
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
    except ValueError as error:
        raise unknown_protocol(without_secrets(url)) from error
    return system, path


def try_again(action: Callable[[], T], url: str, what: str) -> T:
    """The result of an action on a remote file, tried again after failures that may pass.

    Raises:
        DataNotFoundError: it is not there, or not for us, or the address is none, or all tries failed.
    """
    problem = ""
    for attempt in range(TRIES):
        time.sleep(PAUSE * 3 ** (attempt - 1) if attempt else 0)
        try:
            return action()
        except NewsCLIPpingsError:
            raise
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
    refused = refused or type(error).__name__ == "OfflineModeIsEnabled"  # by the Hub's client, whatever its version
    return refused or isinstance(error, FileNotFoundError | PermissionError | ImportError | ValueError)


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
