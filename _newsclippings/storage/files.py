"""Open, fetch and identify files, and write them atomically.

A location is a local path or any URL that fsspec reads (`hf://`, `https://`, ...).
"""

import contextlib
import hashlib
import io
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.facts import HUB_FILES
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.local import LocalFile, open_file, read_file
from _newsclippings.storage.outputs import Maker, check_output
from _newsclippings.storage.parts import is_part, list_parts, open_parts, open_random
from _newsclippings.storage.places import Place, RemotePath
from _newsclippings.storage.progress import progress_bar
from _newsclippings.storage.remote import (
    RemoteFile,
    call_client,
    describe_read_failure,
    fetch_info,
    find_version,
    is_http,
    is_url,
    open_file_system,
    retry,
)
from _newsclippings.text import printable, without_secrets

JSON_MOST = 1 << 30  # largest file of matches, in bytes; the authors' largest has less than a tenth of that
LARGEST = 16 << 30  # largest file that is fetched as a whole, in bytes; the authors' largest has 2.4 GB
_BLOCK = 1 << 20  # bytes that are read at a time
HEAD = 64 * 1024  # bytes hashed at either end of a file, in which two JSON or tar files differ
WHOLE = 4 << 20  # largest file that is identified by all of its bytes
SAMPLES, SAMPLE = 64, 4096  # number and bytes of the samples between the ends of a larger file
_WRONG_FILES = (
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself (git lfs pull)."),
    (b"<!DOCTYPE", "an HTML page", "The download went wrong; fetch it again."),
    (b"<!doctype", "an HTML page", "The download went wrong; fetch it again."),
    (b"<html", "an HTML page", "The download went wrong; fetch it again."),
    (b"<?xml", "an XML page", "The download went wrong; fetch it again."),
    (b"\x1f\x8b", "a gzip archive", "Decompress it (gunzip)."),
    (b"PK\x03\x04", "a zip archive", "Unpack it (unzip)."),
)


class Stream(Protocol):
    """An open file, read from front to back."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Read up to `size` bytes, or all if it is negative; empty at the end."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Read into a buffer; return the number of bytes, 0 at the end."""

    def __enter__(self) -> "Stream":
        """Return the stream, which is closed when the block ends."""

    def __exit__(self, *_: Any) -> Any:
        """Close the stream."""


def open_stream(location: str, access: Access = NO_ACCESS) -> Stream:
    """Open a location for reading bytes from front to back.

    Raises:
        DataNotFoundError: it does not exist, or access is refused.
        RemoteReadError: its server does not answer.
        BadFileError: it is a folder, a pipe or a device.
    """
    if not is_url(location):
        return open(location, "rb", buffering=0, opener=open_file)
    try:
        system, path = open_file_system(location, access)
        stream: Stream = call_client(location, lambda: system.open(path, "rb"))
    except Exception as error:  # whatever the client of that protocol and the network raise
        failure = describe_read_failure(location, error)
    else:
        return stream
    raise failure


def read_json_text(location: str, access: Access = NO_ACCESS) -> bytes:
    """Read a whole JSON file, and refuse one whose first bytes show that it holds something else.

    Raises:
        DataNotFoundError: it does not exist, or access is refused.
        RemoteReadError: its server does not answer.
        BadFileError: the file is too large, empty, an HTML page, or a Git LFS pointer.
    """
    if is_url(location):
        sink = io.BytesIO()
        fetch_into(location, sink, JSON_MOST, access)
        data = sink.getvalue()
    else:
        if os.path.isfile(location) and os.path.getsize(location) > JSON_MOST:
            raise _too_large_file(location, JSON_MOST)
        data = read_file(location)
    check_json_head(location, data)
    return data


def fetch_into(location: str, sink: BinaryIO, most: int = LARGEST, access: Access = NO_ACCESS) -> None:
    """Copy a whole remote file, of at most `most` bytes.

    After a failure that may be temporary it goes on where it stopped, or from the start if the file changed or its
    server does not support ranges.
    """
    name = printable(without_secrets(location).rpartition("/")[2])
    version: dict[str, str] | None = None

    def copy() -> None:
        nonlocal version
        info = fetch_info(location, access)
        size, before, version = info.get("size"), version, find_version(info)
        if isinstance(size, int) and size > most:
            raise _too_large_file(without_secrets(location), most)
        copied = sink.tell() if version == before and info.get("partial", True) and isinstance(size, int) else 0
        sink.seek(copied)
        sink.truncate()
        system, path = open_file_system(location, access)
        known = {"size": size if info["partial"] else None} if is_http(location) else {}
        with call_client(location, lambda: system.open(path, "rb", **known)) as source:
            if copied:
                source.seek(copied)
            with progress_bar(initial=copied, total=size, desc=name, unit="B", unit_scale=True) as bar:
                while (not isinstance(size, int) or copied < size) and (
                    data := call_client(location, lambda: source.read(_BLOCK))
                ):
                    copied += len(data)
                    if copied > most:
                        raise _too_large_file(without_secrets(location), most)
                    sink.write(data)
                    bar.update(len(data))
        if isinstance(size, int) and copied != size:
            message = f"got {copied:,} of {size:,} bytes"
            raise OSError(message)

    retry(copy, location, "it")


def _too_large_file(location: object, most: int) -> BadFileError:
    do = "It is another file, or the server does not stop sending."
    return bad_file(location, f"at most {most:,} bytes", "more", do)


def recognise_wrong_file(head: bytes) -> str | None:
    """Name what a file holds instead of data if its first bytes show it, such as "an HTML page"; else None."""
    return next((what for magic, what, _ in _WRONG_FILES if head.lstrip().startswith(magic)), None)


def check_json_head(location: str, data: bytes) -> None:
    """Raise `BadFileError` if the first bytes of a file show that it is not JSON; `data` may be the whole file."""
    if not data or data.isspace():
        raise bad_file(location, "JSON", "an empty file", "The download went wrong; fetch it again.")
    for magic, what, do in _WRONG_FILES:
        if data[:64].lstrip().startswith(magic):
            raise bad_file(location, "JSON", what, do)


def identify(location: str, dated: bool = True, access: Access = NO_ACCESS) -> str:
    """Return a text by which what was made of a location is found again, at the cost of some small reads.

    A local file counts by its content, not by its path, its rights or its inode: by all bytes of a small file, and by
    the size, both ends, samples and the time of modification of a larger one. An edit between the samples changes that
    time, unless somebody sets it back on purpose; a copy that keeps its times has the same content. A tar counts
    without the time: of another tar the sizes and places of members differ, and with them all samples, and each header
    is compared with the index when its member is read. A local folder counts by its resolved path. A URL counts by its
    size and ETag, or whatever its protocol has, or without the time by its size and both ends: servers that share a
    name may have ETags of their own. A URL of the authors' pinned revision is its own identity.

    Args:
        location: a path or a URL.
        dated: whether the time of the last modification of a large local file counts, and the ETag of a URL.
        access: what the user passed to reach a URL.

    Returns:
        A SHA-256 in hex, or the pinned URL.

    Raises:
        DataNotFoundError: it does not exist, or access is refused.
        RemoteReadError: its server does not answer.
    """
    if is_url(location):
        if location.startswith(HUB_FILES):
            return location
        if not dated:
            remote = open_random(location, access)
            digest = hashlib.sha256(f"{remote.size}".encode())
            digest.update(remote.read_at(0, HEAD))
            digest.update(remote.read_at(max(HEAD, remote.size - HEAD), HEAD))
            return digest.hexdigest()
        states = _find_versions(location, access)
        # The signature in a URL may be renewed
        place = without_secrets(location) if all("etag" in state for state in states) else location
        return hashlib.sha256("".join(f"{place} {sorted(state.items())}" for state in states).encode()).hexdigest()
    if os.path.isdir(location):
        return _hash_path(location).hexdigest()
    if is_part(location) and len(parts := list_parts(location)) > 1:
        each = (_identify_one(part, dated) for part in parts)
        return hashlib.sha256("".join(each).encode()).hexdigest()
    return _identify_one(location, dated)


def _find_versions(location: str, access: Access) -> list[dict[str, str]]:
    """Ask for the version of a remote file, or of each of its parts."""
    if is_part(location):
        return [file.version for file in open_parts(location, access).files if isinstance(file, RemoteFile)]
    return [find_version(fetch_info(location, access))]


def _identify_one(location: str, dated: bool) -> str:
    with LocalFile(location) as file:
        digest = hashlib.sha256(f"{file.size}".encode())
        if file.size <= WHOLE:
            digest.update(file.read_at(0, WHOLE))
            return digest.hexdigest()
        if dated:
            digest.update(f" {file.status.st_mtime_ns}".encode())
        for start in range(HEAD, file.size - HEAD, (file.size - 2 * HEAD) // SAMPLES):
            digest.update(file.read_at(start, SAMPLE))
        digest.update(file.read_at(0, HEAD))
        digest.update(file.read_at(file.size - HEAD, HEAD))
    return digest.hexdigest()


def stamp(location: str, access: Access = NO_ACCESS) -> str:
    """Return a text that changes when a location is written to, replaced or touched, as must not happen during a run.

    It is made from a local file's resolved path, size, times and ends. A local folder and a URL have no more than their
    identity; see `identify`, also for the errors.
    """
    if is_url(location) or os.path.isdir(location):
        return identify(location, access=access)
    parts = list_parts(location) if is_part(location) else [location]
    return (
        _stamp_one(location)
        if len(parts) == 1
        else hashlib.sha256("".join(map(_stamp_one, parts)).encode()).hexdigest()
    )


def _stamp_one(location: str) -> str:
    digest = _hash_path(location)
    with LocalFile(location) as file:
        status = file.status
        digest.update(f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
        digest.update(file.read_at(0, HEAD))
        digest.update(file.read_at(max(HEAD, status.st_size - HEAD), HEAD))
    return digest.hexdigest()


def _hash_path(location: str) -> "hashlib._Hash":
    return hashlib.sha256(os.path.realpath(location).encode("utf-8", "surrogateescape"))


def compute_hub_digests(path: str | Path, advance: Callable[[int], object] = lambda _: None) -> tuple[str, str]:
    """Compute the digests by which the Hub identifies a file.

    Args:
        path: the file.
        advance: called with the number of bytes after each read.

    Returns:
        Its SHA-256, and the SHA-1 of its git blob, both in hex.
    """
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % os.path.getsize(path), usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            sha256.update(block)
            git.update(block)
            advance(len(block))
    return sha256.hexdigest(), git.hexdigest()


@contextlib.contextmanager
def write_atomically(path: str | Place, maker: Maker | None = None) -> Iterator[str]:
    """Yield a temporary path in the same folder, which is made; rename it to `path` if the block succeeds.

    Of a remote file, the temporary path is on the local disk, and is uploaded.

    Args:
        path: the file to write.
        maker: the command that writes it, if users name the file: then only its own output is replaced.

    Raises:
        NewsCLIPpingsError: see `check_output`; raised before the block, or before the file is renamed.
    """
    check_output(path, maker)
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="newsclippings-") as folder:
            temporary = os.path.join(folder, "file")
            yield temporary
            check_output(path, maker)
            path.put(temporary)
        return
    temporary = f"{path}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    try:
        yield temporary
        check_output(path, maker)  # another process may have written it in the meantime
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def write_text(path: str | Place, text: str, maker: Maker | None = None) -> None:
    """Write a text file in UTF-8, completely or not at all; see `write_atomically`."""
    with write_atomically(path, maker) as temporary:
        Path(temporary).write_text(text, encoding="utf-8")
