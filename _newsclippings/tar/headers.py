"""Parse and check 512-byte tar headers: POSIX ustar, GNU, PAX and older."""

import re
import struct

import numpy as np
import numpy.typing as npt

from _newsclippings.storage import normalise_path

BLOCK = 512
ZERO = bytes(BLOCK)
MAX_FIELDS = 10_000  # in a PAX header; real ones have a few
PLAIN = b"0\x007"  # types of members that are plain files
HARD, SYMBOLIC, SPARSE = b"1", b"2", b"S"
NO_DATA = b"123456"  # types of members without data, whatever size their headers give; as other readers take it


class DamageError(Exception):
    """The walk cannot go on at a byte of the tar, for a reason."""

    def __init__(self, byte: int, why: str) -> None:
        super().__init__(byte, why)
        self.byte, self.why = byte, why


def are_plausible(blocks: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Check many headers at once: checksum, digits of the size, and no bytes after a NUL in the name.

    Args:
        blocks: uint8 (N, 512).

    Returns:
        bool (N,); a header for which it is false may still be valid and needs a closer check.
    """
    field = blocks[:, 148:156].astype(np.int64)
    stored = np.zeros(len(blocks), np.int64)
    for column in field.T:
        stored = np.where((column >= 48) & (column <= 55), stored * 8 + column - 48, stored)
    sums = blocks.sum(1, dtype=np.int64) - field.sum(1) + 8 * 32
    size = blocks[:, 124:136]
    digits = ((size >= 48) & (size <= 55)) | (size == 0) | (size == 32)
    name = blocks[:, :100] != 0
    hidden = name[:, 1:] & ~name[:, :-1]
    ok: npt.NDArray[np.bool_] = (stored == sums) & digits.all(1) & ~hidden.any(1)
    return ok


def compute_checksums(header: bytes) -> tuple[int, int]:
    """Sum the bytes of a header as unsigned and as signed numbers; either may be its checksum."""
    field = header[148:156]
    signed = sum(struct.unpack("512b", header)) - sum(struct.unpack("8b", field)) + 256
    return sum(header) - sum(field) + 256, signed  # old tars summed signed bytes


def read_checksum(header: bytes) -> int:
    """Read the checksum field of a header; -1 if it is not a number."""
    digits = header[148:156].split(b"\0")[0].strip(b" ")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else -1


def check_checksum(header: bytes, byte: int) -> None:
    """Raise `DamageError` if the checksum of a header is wrong."""
    if read_checksum(header) not in compute_checksums(header):
        raise DamageError(byte, "the checksum of a header does not match")


def check_hidden_bytes(header: bytes, byte: int) -> None:
    """Raise `DamageError` if the name in a header has bytes after a NUL."""
    name = header[:100]
    if header[257:262] == b"ustar" and name.rstrip(b"\0").count(0):
        raise DamageError(byte, "bytes are hidden after a NUL in a member's name")


def parse_size(field: bytes, byte: int) -> int:
    """Parse a size: octal digits, or GNU's base-256."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40 or value >= 1 << 62:
            raise DamageError(byte, "the size in a header is negative or absurd")
        return value
    digits = field.split(b"\0")[0].strip(b" ")
    if not re.fullmatch(rb"[0-7]*", digits):
        raise DamageError(byte, "the size in a header is no octal number")
    return int(digits or b"0", 8)


def read_name(header: bytes) -> bytes:
    """Read the name in a header, with its ustar prefix."""
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def parse_pax_fields(data: bytes, byte: int) -> dict[bytes, bytes]:
    """Parse a PAX header: records of the form `length key=value`, each ended by a line break."""
    fields: dict[bytes, bytes] = {}
    k = 0
    while k < len(data):
        length = re.match(rb"(\d{1,9}) ", data[k : k + 10])
        end = k + int(length[1]) if length else 0
        key, equals, value = data[k + length.end() : end - 1].partition(b"=") if length else (b"", b"", b"")
        if not equals or end > len(data) or data[end - 1 : end] != b"\n":
            raise DamageError(byte, "a malformed PAX header")
        fields[key] = value
        if len(fields) > MAX_FIELDS:
            raise DamageError(byte, f"a PAX header of more than {MAX_FIELDS:,} fields")
        k = end
    return fields


def is_header_of(header: bytes, path: str, size: int) -> bool:
    """Check whether a header may belong to a file, by its size and by the part of the name that fits into a header."""
    try:
        if parse_size(header[124:136], 0) != size and size < 1 << 33:
            return False
        if (b"/" + header[:100].rstrip(b"\0")).endswith(b"/" + path.encode()):
            return True
        has_long_name = not path.isascii() or len(path) > 80  # the name is in a PAX or GNU header before this one
        return has_long_name or normalise_path(read_name(header).decode()) == path
    except (DamageError, ValueError):
        return False
