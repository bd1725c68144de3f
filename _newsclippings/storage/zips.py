"""Zip archives: list their members by the central directory, and read each at its position.

What an archive says of itself is only a bound: sizes are compared with what is read, data with their CRC-32. Members
that are encrypted, or packed by another method than deflate, are passed over, with the reason.
"""

import io
import struct
import zlib
from typing import NamedTuple

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.local import RandomFile
from _newsclippings.storage.parts import open_random
from _newsclippings.storage.paths import normalise_path
from _newsclippings.storage.threads import lazy_property

MOST_DIRECTORY = 1 << 30  # bytes of the central directory; that of all of VisualNews has about 150 MB
MOST_RATIO = 200  # bytes that a byte of a packed picture can unpack to; a bomb has about 1,000
SMALL = 1 << 20  # bytes that any member may unpack to
_END, _LOCATOR, _END64 = b"PK\5\6", b"PK\6\7", b"PK\6\6"
_ENTRY, _LOCAL = b"PK\1\2", b"PK\3\4"
_BLOCK = 1 << 16
_GUESS = 64  # bytes of the extra field of a local header, read with it
_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "zstd", 95: "xz"}  # that are not read


class ZipMember(NamedTuple):
    """A member, as the central directory lists it."""

    name: str
    offset: int  # byte of its local header
    packed: int  # bytes
    size: int  # bytes
    crc: int
    deflated: bool


def read_zip_directory(file: RandomFile) -> tuple[list[ZipMember], dict[str, str]]:
    """List the members of a zip, with names in the normal form; of one that is there twice, the last.

    Returns:
        The members that can be read; and the names of the others, each with the reason.

    Raises:
        BadFileError: it is no zip, or its directory is damaged.
    """
    directory, start = _read_directory(file)
    members: dict[str, ZipMember] = {}
    refused: dict[str, str] = {}
    at = 0
    while at < len(directory):
        if directory[at : at + 4] != _ENTRY or at + 46 > len(directory):
            raise _damaged(file, f"its directory breaks off at byte {start + at:,}")
        flags, method, crc, packed, size, name_length, extra_length, note_length, offset = struct.unpack_from(
            "<8xHH4xIIIHHH8xI", directory, at
        )
        at += 46
        raw, extra = directory[at : at + name_length], directory[at + name_length : at + name_length + extra_length]
        at += name_length + extra_length + note_length
        if at > len(directory):
            raise _damaged(file, "its directory breaks off")
        size, packed, offset = _with_zip64(extra, size, packed, offset)
        text = raw.decode("utf-8" if flags & 0x800 else "cp437", "replace").replace("\\", "/")
        if text.endswith("/"):
            continue
        try:
            name = normalise_path(text)
        except ValueError as error:  # no row needs such a name
            refused[text] = str(error)
            continue
        if flags & 1 or method not in (0, 8):
            packing = f"packed as {_METHODS.get(method, f'method {method}')}, not deflated or stored"
            refused[name] = f"it is {'encrypted' if flags & 1 else packing}"
            continue
        if offset + packed > start or (method == 0 and size != packed):
            raise _damaged(file, f"{name} has an impossible position or size")
        members[name] = ZipMember(name, offset, packed, size, crc, method == 8)
    return list(members.values()), refused


def read_zip_member(file: RandomFile, member: ZipMember) -> bytes:
    """Read a member into memory.

    Raises:
        BadFileError: it is damaged, or it unpacks to another size than the directory gives, or to far too much.
    """
    check_zip_member(file, member)
    return _unpack(file, member, file.read_at(member.offset, 30 + len(member.name) + _GUESS + member.packed))


def check_zip_member(file: RandomFile, member: ZipMember) -> None:
    """Raise `BadFileError` if a member claims a size that no picture has."""
    if member.size > SMALL and member.size > member.packed * MOST_RATIO:
        what = f"{member.name} is {member.packed:,} bytes that claim to unpack to {member.size:,}"
        raise bad_file(file.path, f"members that unpack to at most {MOST_RATIO} times their size", what)


class ZipArchive:
    """A zip, and the list of its members. Both are opened on first use.

    Attributes:
        location: path or URL.
    """

    def __init__(self, location: str, access: Access = NO_ACCESS) -> None:
        self.location, self._access = location, access

    @property
    def path(self) -> str:
        """The location for errors."""
        return self.file.path

    @lazy_property
    def file(self) -> RandomFile:
        """The open zip."""
        return open_random(self.location, self._access)

    @property
    def members(self) -> list[ZipMember]:
        """The members that can be read; see `read_zip_directory`."""
        return self._directory[0]

    @property
    def refused(self) -> dict[str, str]:
        """The names of the other members, each with the reason why it cannot be read."""
        return self._directory[1]

    @lazy_property
    def _directory(self) -> tuple[list[ZipMember], dict[str, str]]:
        return read_zip_directory(self.file)

    @lazy_property
    def _numbers(self) -> dict[str, int]:
        return {member.name: number for number, member in enumerate(self.members)}

    def find(self, name: str | None) -> int | None:
        """Return the number of the member with a name; None if there is none."""
        return self._numbers.get(name) if name is not None else None

    def check_size(self, number: int) -> None:
        """Raise `BadFileError` if a member claims a size that no picture has."""
        check_zip_member(self.file, self.members[number])

    def read(self, number: int) -> bytes:
        """Read a member into memory; see `read_zip_member`."""
        return read_zip_member(self.file, self.members[number])

    def open(self, number: int) -> "ZipStream":
        """Open a member for reading from front to back."""
        return ZipStream(self.file, self.members[number])


class ZipStream(io.RawIOBase):
    """A member, read from front to back in bounded memory, and checked at its end."""

    def __init__(self, file: RandomFile, member: ZipMember) -> None:
        super().__init__()
        self._file, self._member = file, member
        self._at = _data_offset(file, member, file.read_at(member.offset, 30))
        self._stop = self._at + member.packed
        self._inflate = zlib.decompressobj(-15) if member.deflated else None
        self._crc, self._left = 0, member.size

    def readable(self) -> bool:
        """Return True: the stream can only be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants any buffer
        """Read up to `len(buffer)` bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        if not len(view):
            return 0
        data = self._read(min(len(view), _BLOCK * 16))
        self._crc, self._left = zlib.crc32(data, self._crc), self._left - len(data)
        if self._left < 0 or (not data and (self._left or self._crc != self._member.crc)):
            raise _damaged(self._file, f"{self._member.name} is not what its directory says")
        view[: len(data)] = data
        return len(data)

    def _read(self, most: int) -> bytes:
        if self._inflate is None:
            return self._next(most)
        while not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._next(_BLOCK)
            try:
                data = self._inflate.decompress(packed, most)
            except zlib.error as error:
                raise _damaged(self._file, f"{self._member.name} does not unpack") from error
            if data or not packed:
                return data
        return b""

    def _next(self, most: int) -> bytes:
        data = self._file.read_at(self._at, min(most, self._stop - self._at))
        self._at += len(data)
        return data


def _read_directory(file: RandomFile) -> tuple[bytes, int]:
    """Read the central directory; return it and the byte at which it begins."""
    low = max(0, file.size - (1 << 16) - 22)
    tail = file.read_at(low, file.size - low)
    at = tail.rfind(_END)
    if at < 0 or at + 22 > len(tail):
        raise _damaged(file, "it has no central directory: it is no zip, or was cut off")
    part, length, offset = struct.unpack_from("<4xH6xII", tail, at)
    end = low + at
    locator = file.read_at(end - 20, 20) if end >= 20 else b""
    if locator[:4] == _LOCATOR:
        place = struct.unpack_from("<8xQ", locator)[0]
        record = file.read_at(place, 56) if place <= end - 76 else b""
        if record[:4] != _END64 or len(record) < 56:
            raise _damaged(file, "the end of its directory is damaged")
        part, length, offset = struct.unpack_from("<16xI20xQQ", record)
        end = place
    if part:  # counted from 0
        message = (
            f"{file.path} is the last of {part + 1} parts of a zip (`zip -s`), which are not read in place. Join them: "
            "zip -s 0 LAST.zip --out WHOLE.zip"
        )
        raise BadFileError(message)
    if length > MOST_DIRECTORY or offset + length > end:
        raise _damaged(file, f"its directory claims {length:,} bytes")
    directory = file.read_at(offset, length)
    if len(directory) != length:
        raise _damaged(file, "its directory breaks off")
    return directory, offset


def _with_zip64(extra: bytes, *values: int) -> list[int]:
    """Replace each value that is all ones by the next number of the field for large archives."""
    at, numbers = 0, b""
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            numbers = extra[at + 4 : at + 4 + length]
        at += 4 + length
    result = []
    for value in values:
        if value == 0xFFFFFFFF and len(numbers) >= 8:
            value, numbers = struct.unpack_from("<Q", numbers)[0], numbers[8:]
        result.append(value)
    return result


def _data_offset(file: RandomFile, member: ZipMember, header: bytes) -> int:
    if header[:4] != _LOCAL or len(header) < 30:
        raise _damaged(file, f"{member.name} has no header at byte {member.offset:,}")
    name, extra = struct.unpack_from("<26xHH", header)
    return member.offset + 30 + int(name) + int(extra)


def _unpack(file: RandomFile, member: ZipMember, data: bytes) -> bytes:
    at = _data_offset(file, member, data) - member.offset
    packed = data[at : at + member.packed]
    if len(packed) < member.packed:
        packed += file.read_at(member.offset + at + len(packed), member.packed - len(packed))
    if member.deflated:
        inflate = zlib.decompressobj(-15)
        try:
            packed = inflate.decompress(packed, member.size + 1)
        except zlib.error as error:
            raise _damaged(file, f"{member.name} does not unpack") from error
    if len(packed) != member.size or zlib.crc32(packed) != member.crc:
        raise _damaged(file, f"{member.name} is not what its directory says")
    return packed


def _damaged(file: RandomFile, why: str) -> BadFileError:
    return BadFileError(f"{file.path}: the zip is damaged: {why}. Fetch it again.")
