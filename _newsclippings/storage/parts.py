"""Files in parts, as `split` and 7-Zip make them: `origin.tar.part_aa`, `origin.tar.001`, ..., read as one file."""

import itertools
import os
import re
import string
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeGuard

from _newsclippings.errors import DataNotFoundError, bad_file
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.local import LocalFile, RandomFile
from _newsclippings.storage.plain_files import allow_open_files
from _newsclippings.storage.remote import Range, RemoteFile, is_url
from _newsclippings.storage.threads import limit_threads, map_ahead
from _newsclippings.text import without_secrets

MOST_PARTS = 10_000
PROBED = 8  # remote parts that are asked for at a time
_PART = re.compile(r"(.*\.(?:tar|zip)[._-]?(part[._-]?)?)([a-z]{2,3}|\d{2,5})((?:\?.*)?)", re.DOTALL)
_PACKED = ("gz", "xz", "lz", "zst", "bz")  # endings of compressed files, which look like the letters of a part
_CLEAR = 3  # most digits of an ending that is a part whatever is beside it; more could be a year


def is_part(location: str) -> bool:
    """Check whether a location is a part of a tar or a zip.

    Endings such as `.tar.bak` and `.tar.2021` could be those of parts. They are if the first part is there; at a URL
    only the first part itself may end so.
    """
    match = _PART.fullmatch(location)
    if match is None or match[3] in _PACKED:
        return False
    if match[2] or (match[3].isdecimal() and len(match[3]) <= _CLEAR):
        return True
    firsts = _name_firsts(match)
    return location in firsts if is_url(location) else any(map(os.path.exists, firsts))


def first_part(location: str) -> str:
    """Return the location of the first of the parts that a part belongs to; numbers begin with 0 or 1."""
    match = _PART.fullmatch(location)
    if match is None or not is_part(location):
        return location
    first, *after = _name_firsts(match)
    exists = location == first if is_url(location) else os.path.exists(first)
    return first if exists or not after else after[0]


def _name_firsts(match: "re.Match[str]") -> list[str]:
    """Return what the first of the parts may be called."""
    stem, _, number, rest = match.groups()
    if number.isalpha():
        return [f"{stem}{'a' * len(number)}{rest}"]
    return [f"{stem}{k:0{len(number)}}{rest}" for k in (0, 1)]


def list_parts(location: str) -> list[str]:
    """List all parts of the local file that begins with this part.

    Raises:
        DataNotFoundError: one is missing before the last.
    """
    match = _PART.fullmatch(location)
    if match is None:
        return [location]
    folder, name = os.path.split(match[1])
    kind = "[a-z]" if match[3].isalpha() else r"\d"
    same = re.compile(rf"{re.escape(name)}({kind}{{{len(match[3])}}})")
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


def is_remote(file: RandomFile) -> "TypeGuard[RangeFile]":
    """Check whether a file, or each of its parts, is remote: then many ranges are best read at a time."""
    return isinstance(file.files[0] if isinstance(file, JoinedFile) else file, RemoteFile)


def open_parts(location: str, access: Access) -> "JoinedFile":
    """Open all parts of the file that begins with this part. Remote parts are found by asking for the next names.

    Raises:
        DataNotFoundError: a part is missing before the last. Of remote parts, a longer gap than `PROBED` is not seen
            here; the tar is damaged there.
    """
    if not is_url(location):
        parts = list_parts(location)
        allow_open_files(2 * len(parts))  # a worker opens each for itself
        return JoinedFile([LocalFile(part) for part in parts], _count(location))
    files, names = [RemoteFile(location, access)], itertools.islice(_count(location), 1, None)

    def open_part(part: str) -> RemoteFile | None:
        try:
            return RemoteFile(part, access)
        except DataNotFoundError:
            return None

    with ThreadPoolExecutor(limit_threads(PROBED), thread_name_prefix="newsclippings") as pool:
        while asked := list(itertools.islice(names, PROBED)):
            opened = [file for _, file in map_ahead(pool, open_part, asked, PROBED)]
            files += [file for file in opened[: [*opened, None].index(None)] if file is not None]
            if None in opened:
                missing = asked[opened.index(None)]
                if after := [file.path for file in opened[opened.index(None) :] if file is not None]:
                    message = (
                        f"{without_secrets(missing)} is missing, but {after[-1]} is there. Put it beside the others."
                    )
                    raise DataNotFoundError(message)
                break
    return JoinedFile(files, _count(location))


def _count(location: str) -> Iterator[str]:
    """Yield the names of parts, from one on."""
    match = _PART.fullmatch(location)
    if match is None:
        return
    stem, _, number, rest = match.groups()
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
    """Several files that are parts of one, all local or all remote, read at any position of the whole.

    Attributes:
        files: the parts.
        path: the first part, and what the next would be called, for errors.
        size: of the whole, in bytes.
    """

    def __init__(self, files: Sequence[LocalFile | RemoteFile], names: Iterator[str]) -> None:
        self.files = files
        self._starts = [0, *itertools.accumulate(file.size for file in files)]
        self.size = self._starts[-1]
        following = next((name for k, name in enumerate(names) if k == len(files)), "")
        following = without_secrets(following).rpartition("/")[2]
        self.path = f"{files[0].path} (parts: {len(files)}; after them comes {following})"

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes from `offset` on; fewer at the end of the file."""
        stop = min(offset + length, self.size)
        return b"".join(self.files[k].read_at(start, end - start) for k, start, end in self._pieces(offset, stop))

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
            for k, start, end in self._pieces(offset, offset + len(buffer)):
                self.files[k].read_into(start, buffer[done : done + end - start])
                done += end - start
            offset += len(buffer)

    def read_ranges(self, ranges: Iterable[Range]) -> Iterator[tuple[Range, bytes]]:
        """Read many ranges of remote parts; see `RemoteFile.read_ranges`."""
        first = self.files[0]
        if isinstance(first, RemoteFile):
            return first.map_ranges(lambda start, stop: self.read_at(start, stop - start), ranges)
        return ((wanted, self.read_at(wanted[0], wanted[1] - wanted[0])) for wanted in ranges)

    def skipping_reader(self) -> Callable[[int, int], bytes]:
        """Return a `read_at` for a caller that goes through the file from front to back; see `RandomFile`."""
        readers = [file.skipping_reader() for file in self.files]

        def read_at(offset: int, length: int) -> bytes:
            stop = min(offset + length, self.size)
            return b"".join(readers[k](start, end - start) for k, start, end in self._pieces(offset, stop))

        return read_at

    def _pieces(self, offset: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the numbers of the parts that have a range of bytes, and the range in each."""
        starts = self._starts
        for k in range(bisect_right(starts, offset) - 1, bisect_left(starts, stop)):
            yield k, max(offset, starts[k]) - starts[k], min(stop, starts[k + 1]) - starts[k]


RangeFile: TypeAlias = RemoteFile | JoinedFile  # what `is_remote` is true of
