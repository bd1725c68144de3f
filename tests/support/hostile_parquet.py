"""Parquet files written byte by byte: files that no library writes but an attacker may."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

IDENTITY = {"tar_size": str(1 << 40), "head_sha256": "0" * 64, "tail_sha256": "0" * 64}
INT32, INT64, BYTES = 1, 2, 6  # physical types
PLAIN, RLE, RLE_DICTIONARY, DELTA_BINARY, DELTA_BYTES = 0, 3, 8, 5, 7  # encodings
NONE, GZIP = 0, 2  # codecs
KINDS = {"name": BYTES, "offset": INT64, "size": INT64, "header_crc": INT64}


# Thrift, compact


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def zigzag(number: int) -> bytes:
    return varint((number << 1) ^ (number >> 63) if number >= 0 else ((-number) << 1) - 1)


@dataclass
class I32:
    value: int


@dataclass
class Many:
    """A list that claims `count` copies of one element, and has at most a thousand."""

    element: Any
    count: int


def encode(value: Any) -> tuple[int, bytes]:
    """Return the Thrift type and the bytes of a value: an int is an i64, a dict is a struct (field number -> value)."""
    if isinstance(value, I32):
        return 5, zigzag(value.value)
    if isinstance(value, int):
        return 6, zigzag(value)
    if isinstance(value, str | bytes):
        data = value.encode() if isinstance(value, str) else value
        return 8, varint(len(data)) + data
    if isinstance(value, Many):
        kind, data = encode(value.element)
        return 9, bytes([0xF0 | kind]) + varint(value.count) + data * min(value.count, 1000)
    if isinstance(value, list):
        parts = [encode(one) for one in value]
        kind = parts[0][0] if parts else 12
        head = bytes([len(parts) << 4 | kind]) if len(parts) < 15 else bytes([0xF0 | kind]) + varint(len(parts))
        return 9, head + b"".join(data for _, data in parts)
    out, last = b"", 0
    for number, one in sorted(value.items()):
        kind, data = encode(one)
        out, last = out + bytes([number - last << 4 | kind]) + data, number
    return 12, out + b"\0"


# Parquet


@dataclass
class Column:
    """The pages of a column and its metadata; metadata that are not set are true."""

    pages: bytes
    values: int
    encodings: list[int]
    codec: int = NONE
    said: dict[int, Any] = field(default_factory=dict)  # fields of ColumnMetaData
    unpacked: int | None = None


def page(
    data: bytes, values: int, encoding: int = PLAIN, *, dictionary: bool = False, codec: int = NONE, **said: int
) -> bytes:
    """A page; `said` may claim another size (unpacked=, packed=) or count=, or append zeros= MiB of zeros."""
    packed = gzip(data, said.get("zeros", 0)) if codec == GZIP else data
    about: dict[int, Any] = {
        1: I32(2 if dictionary else 0),
        2: I32(said.get("unpacked", len(data) + (said.get("zeros", 0) << 20))),
    }
    about[3] = I32(said.get("packed", len(packed)))
    count, kind = I32(said.get("count", values)), I32(encoding)
    about |= {7: {1: count, 2: kind}} if dictionary else {5: {1: count, 2: kind, 3: I32(RLE), 4: I32(RLE)}}
    return encode(about)[1] + packed


def gzip(data: bytes, zeros: int) -> bytes:
    """Compress some bytes and `zeros` MiB of zeros, compressing one MiB and repeating it."""
    packer, mebibyte = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    head = packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
    piece = packer.compress(mebibyte) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(data)
    for _ in range(zeros):
        checksum = zlib.crc32(mebibyte, checksum)
    end = struct.pack("<II", checksum, (len(data) + (zeros << 20)) & 0xFFFFFFFF)
    return b"\x1f\x8b\x08" + bytes(7) + head + piece * zeros + packer.flush() + end


def strings(values: Iterable[bytes]) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def runs(value: int, count: int) -> bytes:
    """Dictionary indices that are all equal: one RLE run of 8-bit values."""
    return b"\x08" + varint(count << 1) + bytes([value])


def repeated(value: int | bytes, rows: int, **column: Any) -> Column:
    """A column that repeats one value: a dictionary with it, and runs."""
    entry = strings([value]) if isinstance(value, bytes) else struct.pack("<q", value)
    codec = column.pop("codec", NONE)
    first = page(entry, 1, dictionary=True, codec=codec)
    pages, count = first, rows
    while count > 0:  # a page has no more than 2**31 - 1 values
        some = min(count, (1 << 31) - 1)
        pages, count = pages + page(runs(0, min(some, (1 << 30) - 1)), some, RLE_DICTIONARY, codec=codec), count - some
    return Column(pages, rows, [PLAIN, RLE, RLE_DICTIONARY], codec, **column)


def write(
    columns: dict[str, Column], rows: int, *, about: dict[str, str] | None = None, schema: Any = None, **said: Any
) -> bytes:
    """A Parquet file; `said` may claim other groups=, num_rows=, group_rows=, kinds=, or footer= (its length)."""
    body, chunks, kinds = b"PAR1", [], said.get("kinds", KINDS)
    for name, column in columns.items():
        size = len(column.pages)
        first = column.pages[:2] == b"\x15\x04"  # a dictionary
        meta: dict[int, Any] = {
            1: I32(kinds[name]),
            2: [I32(one) for one in column.encodings],
            3: name.split("."),
            4: I32(column.codec),
            5: column.values,
            6: size if column.unpacked is None else column.unpacked,
            7: size,
            9: len(body),
        }
        if first:
            meta[11] = len(body)
        meta = {number: value for number, value in {**meta, **column.said}.items() if value is not None}
        chunks.append({2: 0, 3: meta})
        body += column.pages
    group = {1: chunks, 2: len(body), 3: said.get("group_rows", rows)}
    leaves = [{1: I32(kinds[name]), 3: I32(0), 4: name} | ({6: I32(0)} if name == "name" else {}) for name in columns]
    metadata = {
        1: I32(2),
        2: schema or [{4: "schema", 5: I32(len(leaves))}, *leaves],
        3: said.get("num_rows", rows),
        4: said.get("groups", [group]),
        5: [{1: key, 2: value} for key, value in (IDENTITY if about is None else about).items()],
    }
    footer = encode(metadata)[1]
    return body + footer + struct.pack("<I", said.get("footer", len(footer))) + b"PAR1"


def packed_deltas(first: int, delta: int, count: int) -> bytes:
    """`first`, then `count - 1` times first + delta, as DELTA_BINARY_PACKED; `count` is one more than some blocks."""
    low, high = min(delta, 0), max(delta, 0)
    width = (high - low).bit_length()
    head = varint(128) + varint(4) + varint(count) + zigzag(first)
    steps = [delta, *[0] * 31]
    bits = sum((step - low) << k * width for k, step in enumerate(steps))
    others = bytes(3)
    block = zigzag(low) + bytes([width]) + others + bits.to_bytes(4 * width, "little")
    if low:  # the three other parts of the block have the value 0 as well
        zeros = sum(-low << k * width for k in range(32)).to_bytes(4 * width, "little")
        block = zigzag(low) + bytes([width] * 4) + bits.to_bytes(4 * width, "little") + zeros * 3
    return head + block + (zigzag(0) + bytes(4)) * (count // 128 - 1)


def same_prefixes(value: bytes, rows: int) -> bytes:
    """One long string, repeated, as DELTA_BYTE_ARRAY."""
    size = len(value)
    return packed_deltas(0, size, rows) + packed_deltas(size, -size, rows) + value


def plain(names: list[bytes], first: int = 1024) -> dict[str, Column]:
    """The columns of a valid index."""
    count = len(names)
    offsets = b"".join(struct.pack("<q", first + 1024 * k) for k in range(count))
    numbers = {
        "offset": offsets,
        "size": struct.pack("<q", 500) * count,
        "header_crc": b"".join(struct.pack("<q", k * 7919) for k in range(count)),
    }
    return {
        "name": Column(page(strings(names), count), count, [PLAIN, RLE]),
        **{name: Column(page(data, count), count, [PLAIN, RLE]) for name, data in numbers.items()},
    }
