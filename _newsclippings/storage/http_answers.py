"""Check the answers of untrusted HTTP servers: as many bytes as were requested, unencoded, and in time."""

import asyncio
import functools
import os
import re
from typing import Any, NamedTuple

from _newsclippings.errors import bad_file
from _newsclippings.facts import NAME, VERSION
from _newsclippings.text import without_secrets

SLOWEST = 1024  # bytes a second; a slower answer counts as failed
IN_MEMORY = 256 << 20  # bytes of the largest answer that is read as a whole
PIECE = 1 << 20  # bytes that are read at a time


class Part(NamedTuple):
    """An answer to the request for a range of bytes.

    Attributes:
        data: the bytes, fewer if the answer ended early.
        info: `size` of the whole file, if the server reports it; `partial`, whether the server supports ranges; and the
            headers that change with the content, under the names that fsspec gives them.
    """

    data: bytes
    info: dict[str, Any]


async def request_part(system: Any, url: str, start: int, stop: int) -> Part:
    """Request a range of bytes, not empty, in the session of fsspec's HTTP file system.

    Raises:
        aiohttp.ClientError: the server refuses, or the connection fails before any byte.
        TimeoutError: the answer comes too slowly.
    """
    import aiohttp

    session = await system.set_session()
    options = {**system.kwargs, "headers": {**system.kwargs.get("headers", {}), "Range": f"bytes={start}-{stop - 1}"}}
    async with session.get(system.encode_url(url), **options) as answer:
        total = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", answer.headers.get("Content-Range", ""))
        info = {name: answer.headers[name] for name in _VERSIONS if answer.headers.get(name)}
        info |= {"size": int(total[1]) if total else None, "partial": answer.status in (206, 416)}
        if answer.status == 416 and total:  # behind the end of the file, such as the first byte of an empty one
            return Part(b"", info)
        answer.raise_for_status()
        if answer.status != 206:
            return Part(b"", {**info, "size": answer.content_length})
        parts: list[bytes] = []
        try:
            while part := await answer.content.read(PIECE):
                parts.append(part)
        except (TimeoutError, OSError, aiohttp.ClientError):
            if not parts:
                raise
        return Part(b"".join(parts), info)


async def request_length(system: Any, url: str) -> int | None:
    """Request the head of a file, and return the length of the file; None if the server refuses or does not report it.

    Raises:
        aiohttp.ClientError: the connection fails.
        TimeoutError: the answer comes too slowly.
    """
    session = await system.set_session()
    async with session.head(system.encode_url(url), **{"allow_redirects": True, **system.kwargs}) as answer:
        plain = answer.headers.get("Content-Encoding", "identity").strip().lower() == "identity"
        length: int | None = answer.content_length if answer.status == 200 and plain else None
        return length


_VERSIONS = ("ETag", "Content-MD5", "Digest", "Last-Modified")


def make_http_options(given: dict[str, Any], patience: float) -> dict[str, Any]:
    """Make the arguments of fsspec's HTTP file system: the user's, and those that this package needs.

    Proxies and logins are read from the environment and .netrc, as curl does.

    Args:
        given: arguments that the user passed; they win over those of fsspec's configuration.
        patience: see `make_client_options`.
    """
    import fsspec.config

    options: dict[str, Any] = {}
    for layer in (*(fsspec.config.conf.get(name, {}) for name in ("http", "https")), given):
        client = {**options.get("client_kwargs", {}), **layer.get("client_kwargs", {})}
        headers = {**options.get("client_kwargs", {}).get("headers", {}), **client.get("headers", {})}
        options = {**options, **layer, "client_kwargs": {**client, "headers": headers}}
    own = make_client_options(patience)
    client = options["client_kwargs"]
    headers = {"User-Agent": f"{NAME}/{VERSION}", **client["headers"], "Accept-Encoding": "identity"}
    options["client_kwargs"] = {"trust_env": True, "timeout": own["timeout"], **client, **own, "headers": headers}
    if "timeout" in client:
        options["client_kwargs"]["timeout"] = client["timeout"]
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if bundle and not os.environ.get("SSL_CERT_FILE") and "ssl" not in options:  # OpenSSL itself reads SSL_CERT_FILE
        options["ssl"] = _trust(bundle)
    return options


@functools.cache
def _trust(bundle: str) -> Any:
    """Make the TLS settings that trust the certificates of a file or folder."""
    import ssl

    if os.path.isdir(bundle):
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)


@functools.cache
def make_client_options(patience: float) -> dict[str, Any]:
    """Make the options of an `aiohttp.ClientSession` that users cannot change, and the timeout.

    Args:
        patience: seconds for the head of an answer, for each pause in it, and for its body on top of the time that it
            takes at `SLOWEST`.
    """
    import aiohttp

    class Answer(aiohttp.ClientResponse):  # type: ignore[misc]
        """An answer that fails unless its head is in time and fits the request."""

        async def start(self, connection: Any) -> Any:
            try:
                await asyncio.wait_for(super().start(connection), patience)  # the head may come byte by byte
            except TimeoutError:
                message = f"got no answer in {patience:g} seconds"
                raise TimeoutError(message) from None
            if self.method == "GET" and self.status in (200, 206):
                self.content: Any = _Body(self.content, self._asked(), patience)
            return self

        def _asked(self) -> int | None:
            """Return how many bytes were requested; None for the whole file.

            Raises:
                BadFileError: the answer is compressed, so its bytes are not the file's and may unpack to any size.
                ClientPayloadError: it has another range than was requested, which fsspec would not notice.
            """
            coding = self.headers.get("Content-Encoding", "")
            if coding.strip().lower() not in ("", "identity"):
                raise bad_file(
                    without_secrets(str(self.url)),
                    "the file as it is (Accept-Encoding: identity)",
                    f"an answer in the encoding {coding[:40]!r}",
                    "Use another server, or download the file and pass the local path.",
                )
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.request_info.headers.get("Range", ""))
            if not asked:
                return None
            first, last = int(asked[1]), int(asked[2])
            if self.status == 206:
                got = re.match(r"bytes (\d+)-(\d+)/", self.headers.get("Content-Range", ""))
                length = self.content_length or 0
                if not got or int(got[1]) != first or int(got[2]) > last or length > last + 1 - first:
                    message = f"asked for {asked[0]}, got {self.headers.get('Content-Range')!r}, {length} bytes"
                    raise aiohttp.ClientPayloadError(message)
            return last + 1 - first

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=patience, sock_read=patience)
    # aiohttp follows at most ten redirects. Encoded answers are refused above, so nothing is decoded.
    return {"timeout": timeout, "response_class": Answer, "auto_decompress": False}


class _Body:
    """The body of an answer, read no further than requested, and no more slowly than `SLOWEST`."""

    def __init__(self, body: Any, asked: int | None, patience: float) -> None:
        self._body, self._asked, self._patience = body, asked, patience
        self._received, self._waited = 0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def read(self, length: int = -1) -> bytes:
        """Read up to `length` bytes, or all if it is negative; empty at the end of the requested bytes.

        Raises:
            TimeoutError: they come too slowly.
            OSError: there are more than `IN_MEMORY`.
        """
        if length >= 0:
            return await self._next(length)
        parts = []
        while part := await self._next(PIECE):
            parts.append(part)
            if self._received > IN_MEMORY:
                message = f"got more than {IN_MEMORY:,} bytes"
                raise OSError(message)
        return b"".join(parts)

    async def _next(self, length: int) -> bytes:
        if self._asked is not None:
            length = min(length, self._asked - self._received)
        loop = asyncio.get_running_loop()
        began = loop.time()
        data: bytes = await self._body.read(length)
        self._waited += loop.time() - began  # the reader's own time between two calls does not count
        self._received += len(data)
        if data and self._waited > self._patience + self._received / SLOWEST:
            message = f"got {self._received:,} bytes in {self._waited:.0f} seconds"
            raise TimeoutError(message)
        return data
