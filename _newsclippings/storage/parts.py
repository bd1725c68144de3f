"""Files in parts, as `split` and 7-Zip make them: `origin.tar.part_aa`, `origin.tar.001`, ..., read as one file."""

import os
import re
import string
from collections.abc import Callable, Iterator
from itertools import accumulate

from _newsclippings.errors import DataNotFoundError, bad_file
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.local import LocalFile, RandomFile
from _newsclippings.storage.remote import RemoteFile, is_url
from _newsclippings.text import without_secrets

MOST_PARTS = 10_000
_PART = re.compile(r"(.*\.(?:tar|zip)[._-]?(?:part[._-]?)?)([a-z]{2,3}|\d{2,5})((?:\?.*)?)", re.DOTALL)
_PACKED = ("gz", "xz", "lz", "zst", "bz")  # endings of compressed files, which look like the letters of a part


def is_part(location: str) -> bool:
    """Check whether a location is named like a part of a tar or a zip."""
    match = _PART.fullmatch(location)
    return match is not None and match[2] not in _PACKED


def first_part(location: str) -> str:
    """Return the location of the first of the parts that a part belongs to; numbers begin with 0 or 1."""
    match = _PART.fullmatch(location)
    if match is None or not is_part(location):
        return location
    stem, number, rest = match.groups()
    if number.isalpha():
        return f"{stem}{'a' * len(number)}{rest}"
    first = f"{stem}{0:0{len(number)}}{rest}"
    exists = int(number) == 0 if is_url(location) else os.path.exists(first)
    return first if exists else f"{stem}{1:0{len(number)}}{rest}"


def list_parts(location: str) -> list[str]:
    """List all parts of the local file that begins with this part.

    Raises:
        DataNotFoundError: one is missing before the last.
    """
    match = _PART.fullmatch(location)
    if match is None:
        return [location]
    folder, name = os.path.split(match[1])
    kind = "[a-z]" if match[2].isalpha() else r"\d"
    same = re.compile(rf"{re.escape(name)}({kind}{{{len(match[2])}}})")
    there = {entry for entry in os.listdir(folder or ".") if same.fullmatch(entry)}
    parts = []
    for part in _count(location):
        if not there:
            break
        if (entry := os.path.basename(part)) not in there:
            last = os.path.join(folder, max(there))
            message = f"{part} is missing: a part between {location} and {last}. Fetch it, and put it beside them."
            raise DataNotFoundError(message)
        there.discard(entry)
        parts.append(part)
    return parts or [location]


def open_random(location: str, access: Access = NO_ACCESS) -> RandomFile:
    """Open a local or remote file for reading at any position; of a file in parts, all of them."""
    if is_part(location):
        return open_parts(location, access)
    return RemoteFile(location, access) if is_url(location) else LocalFile(location)


def open_parts(location: str, access: Access) -> "JoinedFile":
    """Open all parts of the file that begins with this part. Remote parts are found by asking for the next name.

    Raises:
        DataNotFoundError: a part is missing before the last.
    """
    if not is_url(location):
        return JoinedFile([LocalFile(part) for part in list_parts(location)], _count(location))
    files: list[RandomFile] = [RemoteFile(location, access)]
    names = _count(location)
    next(names)
    for part in names:
        try:
            files.append(RemoteFile(part, access))
        except DataNotFoundError:
            if (after := next(names, None)) is not None:
                _require_absent(part, after, access)
            break
    return JoinedFile(files, _count(location))


def _require_absent(part: str, after: str, access: Access) -> None:
    try:
        RemoteFile(after, access)
    except DataNotFoundError:
        return
    message = f"{without_secrets(part)} is missing, but {without_secrets(after)} is there. Put it beside the others."
    raise DataNotFoundError(message)


def _count(location: str) -> Iterator[str]:
    """Yield the names of parts, from one on."""
    match = _PART.fullmatch(location)
    if match is None:
        return
    stem, number, rest = match.groups()
    letters = string.ascii_lowercase if number.isalpha() else string.digits
    value, base = 0, len(letters)
    for letter in number:
        value = value * base + letters.index(letter)
    for k in range(value, min(base ** len(number), value + MOST_PARTS)):
        text, left = "", k
        for _ in number:
            left, digit = divmod(left, base)
            text = letters[digit] + text
        yield f"{stem}{text}{rest}"


class JoinedFile:
    """Several files that are parts of one, read at any position of the whole.

    Attributes:
        path: the first part, and what the next would be called, for errors.
        size: of the whole, in bytes.
    """

    def __init__(self, files: list[LocalFile] | list[RandomFile], names: Iterator[str]) -> None:
        self._files = files
        self._starts = [0, *accumulate(file.size for file in files)]
        self.size = self._starts[-1]
        following = next((name for k, name in enumerate(names) if k == len(files)), "")
        following = without_secrets(following).rpartition("/")[2]
        self.path = f"{files[0].path} (parts: {len(files)}; after them comes {following})"

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` on; fewer at the end of the file."""
        stop = min(offset + length, self.size)
        return b"".join(file.read_at(start, end - start) for file, start, end in self._pieces(offset, stop))

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        """Fill the buffers in their order, from `offset` on.

        Raises:
            BadFileError: the file ends earlier.
        """
        wanted = sum(map(len, buffers))
        if offset + wanted > self.size:
            raise bad_file(self.path, f"{wanted} bytes at byte {offset}", f"a file of {self.size} bytes")
        for buffer in buffers:
            done = 0
            for file, start, end in self._pieces(offset, offset + len(buffer)):
                file.read_into(start, buffer[done : done + end - start])
                done += end - start
            offset += len(buffer)

    def skipping_reader(self) -> Callable[[int, int], bytes]:
        """Return a `read_at` for a caller that goes through the file from front to back; see `RandomFile`."""
        readers = [file.skipping_reader() for file in self._files]

        def read_at(offset: int, length: int) -> bytes:
            stop = min(offset + length, self.size)
            which = {id(file): reader for file, reader in zip(self._files, readers, strict=True)}
            return b"".join(which[id(file)](start, end - start) for file, start, end in self._pieces(offset, stop))

        return read_at

    def _pieces(self, offset: int, stop: int) -> Iterator[tuple[RandomFile, int, int]]:
        """Yield the parts that have a range of bytes, and the range in each."""
        for file, start in zip(self._files, self._starts, strict=False):
            low, high = max(offset, start), min(stop, start + file.size)
            if low < high:
                yield file, low - start, high - start
