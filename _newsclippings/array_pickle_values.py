"""What a pickle of number arrays is made of: limits, names, values, entries.

Values are descriptions of what stands in the file and where. Nothing that the file names is imported, looked up or
called: names are compared with the ten below. Nothing is copied, so that what is held is bounded by the limits below
and not by the lengths that the file claims.
"""

from array import array
from dataclasses import dataclass
from enum import Enum
from math import prod
from mmap import mmap

import numpy as np

from _newsclippings.errors import BadPickleError, bad_pickle

MAX_ENTRIES = 2_000_000  # of the dict, and likewise arrays in lists
MAX_ARRAY = 64 << 20  # bytes
MAX_DIMENSIONS = 4
MAX_LIST = 4096
MAX_TUPLE = 16
MAX_STACK = 8192  # a pickler writes 1000 entries between two marks
MAX_MARKS = 6
MAX_FORMS = 65_536
MAX_MEMO = 8_000_000  # things that can be referred to; 20 bytes each
MAX_QUIET = 10_000  # opcodes without an entry or an array
MAX_NAME = 256
NONE, LIST = 0, 1  # the first two forms


class Name(Enum):
    """What the names in the file stand for, and the dict itself."""

    RECONSTRUCT, NDARRAY, DTYPE, SCALAR, FROMBUFFER, ENCODE, BYTES, TOP = range(8)


NAMES = {
    (b"numpy.core.multiarray", b"_reconstruct"): Name.RECONSTRUCT,
    (b"numpy._core.multiarray", b"_reconstruct"): Name.RECONSTRUCT,
    (b"numpy.core.multiarray", b"scalar"): Name.SCALAR,
    (b"numpy._core.multiarray", b"scalar"): Name.SCALAR,
    (b"numpy.core.numeric", b"_frombuffer"): Name.FROMBUFFER,  # protocol 5
    (b"numpy._core.numeric", b"_frombuffer"): Name.FROMBUFFER,
    (b"numpy", b"ndarray"): Name.NDARRAY,
    (b"numpy", b"dtype"): Name.DTYPE,
    (b"_codecs", b"encode"): Name.ENCODE,  # how Python 3 writes bytes in protocol 2
    (b"__builtin__", b"bytes"): Name.BYTES,  # how it writes no bytes
}
DTYPES = frozenset({b"f2", b"f4", b"f8", b"i1", b"i2", b"i4", b"i8", b"u1", b"u2", b"u4", b"u8", b"b1"})
# What a pickler may refer back to, besides single bytes, which Python keeps only once.
SHARED_TEXTS = DTYPES | {b"latin1"} | {part for name in NAMES for part in name}
LONGEST_SHARED = max(map(len, SHARED_TEXTS))


@dataclass(frozen=True)
class Form:
    """What an array in the file looks like.

    Attributes:
        dtype: f2 f4 f8 i1..i8 u1..u8 or b1, in either byte order.
        shape: of the array.
        order: in which its numbers stand: "C", "F", or "K" for a transposed array of three or more dimensions.
        latin1: whether they stand as UTF-8 text whose Latin-1 encoding they are (protocol 2 written by Python 3). The
            four bytes before the text are its length.
        axes: of order "K": where each axis of `shape` stands in the array as it lies in the file, in C order.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    order: str = "C"
    latin1: bool = False
    axes: tuple[int, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Text:
    """A literal: where its bytes lie, and the opcode that wrote it.

    Attributes:
        kind: "text", "bytes", or "either" for a str of Python 2.
    """

    offset: int
    size: int
    op: int
    kind: str


@dataclass(frozen=True)
class Latin1:
    """Bytes written as text."""

    text: Text


class Dtype:
    """A number type, at first without its byte order."""

    __slots__ = ("code", "dtype", "remembered")

    def __init__(self, code: bytes) -> None:
        self.code, self.remembered = code, -1
        self.dtype: np.dtype | None = None


class Array:
    """A number array; form 0 until its data are known."""

    __slots__ = ("form", "offset", "remembered")

    def __init__(self, offset: int = 0, form: int = 0) -> None:
        self.offset, self.form, self.remembered = offset, form, -1


class Source:
    """The bytes of a pickle from front to back, and the entries and forms of arrays found so far."""

    def __init__(self, path: str, data: mmap) -> None:
        self.path, self.data, self.size = path, data, len(data)
        self.pos = self.at = 2  # the next byte; the first byte of the current opcode
        self.end, self.framed = self.size, False  # end of the frame, or of the file
        self.ids, self.offsets, self.forms = array("q"), array("q"), array("i")
        self.part_offsets, self.part_forms, self.list_starts = array("q"), array("i"), array("q", [0])
        self.form_table: list[Form | None] = [None, None]
        self.scalar_data: tuple[int, np.dtype] | None = None  # where the last integer of numpy lies
        self.quiet = 0  # opcodes since the last entry or array
        self._form_numbers: dict[Form, int] = {}

    def bad(self, expected: str, found: str, do: str = "") -> BadPickleError:
        """The error for what the current opcode does."""
        after = f" after id {self.ids[-1]} (entry {len(self.ids)})" if self.ids else ""
        return bad_pickle(self.path, self.at, after, expected, found, do)

    def take(self, size: int) -> int:
        """Where the next `size` bytes begin, which must lie in the frame or file."""
        start = self.pos
        if size > self.end - start:
            where = "frame" if self.framed else "file"
            found = f"{self.end - start} before the end of the {where} (truncated, or a false length)"
            raise self.bad(f"{size} bytes", found)
        self.pos = start + size
        return start

    def number(self, width: int, signed: bool = False) -> int:
        """The next `width` bytes as a little-endian number."""
        start = self.take(width)
        return int.from_bytes(self.data[start : self.pos], "little", signed=signed)

    def line(self, longest: int) -> bytes:
        """Bytes up to the next newline, without it."""
        stop = self.data.find(b"\n", self.pos, min(self.end, self.pos + longest + 1))
        if stop < 0:
            raise self.bad(f"a line of at most {longest} bytes", "none (truncated, or a false name)")
        start, self.pos = self.pos, stop + 1
        return self.data[start:stop]

    def content(self, value: object, longest: int = LONGEST_SHARED) -> bytes:
        """The bytes of a short literal; none of anything else."""
        if isinstance(value, Text) and value.size <= longest:
            return self.data[value.offset : value.offset + value.size]
        return b""

    def decoded(self, text: Text) -> bytes:
        """Bytes written as text."""
        try:
            return self.data[text.offset : text.offset + text.size].decode("utf-8").encode("latin-1")
        except UnicodeError:
            raise self.bad("bytes as Latin-1 text", "other text") from None

    def add(self, key: object, value: object) -> None:
        """Take an entry of the dict.

        Raises:
            BadPickleError: the key is no 64-bit integer, or the value no number array, list of them, or None.
        """
        if isinstance(value, Array) and value.form:
            self.enter(key, value.offset, value.form)
        elif value is None:
            self.enter(key, 0, NONE)
        elif isinstance(value, list):
            self.enter(key, len(self.list_starts) - 1, LIST)
            self.part_offsets.extend(part.offset for part in value)
            self.part_forms.extend(part.form for part in value)
            self.list_starts.append(len(self.part_forms))
            if len(self.part_forms) > MAX_ENTRIES:
                raise self.bad(f"at most {MAX_ENTRIES} arrays in lists", "more")
        else:
            raise self.bad("a number array, a list of number arrays, or None as the value of a key", "another value")

    def enter(self, key: object, offset: int, form: int) -> None:
        """Note an entry and where its value lies."""
        if type(key) is not int or not -(2**63) <= key < 2**63:
            raise self.bad("a key that is a 64-bit integer", "another key")
        if len(self.ids) >= MAX_ENTRIES:
            raise self.bad(f"at most {MAX_ENTRIES} entries", "more")
        self.ids.append(key)
        self.offsets.append(offset)
        self.forms.append(form)
        self.quiet = 0
