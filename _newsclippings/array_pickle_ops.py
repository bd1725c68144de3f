"""A pickle machine that knows number arrays and nothing else: the exact, slow half of `array_pickle`.

The values on its stack are descriptions of what stands in the file and where. Nothing that the file names is imported,
looked up or called: names are compared with the ten below. Nothing is copied, so that what the machine holds is bounded
by the limits below and not by the lengths that the file claims.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable
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
# Texts that a pickler may refer back to, as one byte may be that Python keeps only once.
_SHARED_TEXTS = DTYPES | {b"latin1"} | {part for name in NAMES for part in name}
LONGEST_SHARED = max(map(len, _SHARED_TEXTS))


@dataclass(frozen=True)
class Form:
    """What an array in the file looks like.

    Attributes:
        dtype: f2 f4 f8 i1..i8 u1..u8 or b1, in either byte order.
        shape: of the array.
        order: in which its numbers stand: "C", "F", or "K" for a transposed array of three or more dimensions.
        latin1: whether they stand as UTF-8 text whose Latin-1 encoding they are (protocol 2 written by Python 3). The
            four bytes before the text are its length.
        axes: of order "K": the axes of the array in C order, in the order of `shape`.
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
    """A literal: where its bytes lie, and which opcode wrote it."""

    offset: int
    size: int
    op: int

    @property
    def kind(self) -> str:
        """Whether it is text, bytes or a str of Python 2 (either)."""
        return _KIND[self.op]


@dataclass(frozen=True)
class Latin1:
    """Bytes written as text."""

    text: Text


class Dtype:
    """A number type, at first without its byte order."""

    def __init__(self, code: bytes) -> None:
        self.code, self.dtype, self.remembered = code, None, -1
        self.dtype: np.dtype | None


class Array:
    """A number array; form 0 until its data are known."""

    __slots__ = ("form", "offset", "remembered")

    def __init__(self, offset: int = 0, form: int = 0) -> None:
        self.offset, self.form, self.remembered = offset, form, -1


class Machine:
    """The state of reading one pickle, with a method for each group of opcodes."""

    def __init__(self, path: str, data: mmap) -> None:
        self.path, self.data, self.size = path, data, len(data)
        self.pos = self.at = 2  # next byte; first byte of this opcode
        self.end, self.framed, self.done = self.size, False, False  # end of frame or file
        self.stack: list[object] = []
        self.marks: list[list[object]] = []  # the stacks below each MARK
        self.quiet = 0
        # The entries.
        self.ids, self.offsets, self.forms = array("q"), array("q"), array("i")
        self.part_offsets, self.part_forms, self.list_starts = array("q"), array("i"), array("q", [0])
        self.form_table: list[Form | None] = [None, None]
        self._form_numbers: dict[Form, int] = {}
        # The memo: numbers rise, so that they can be searched. A negative form is a place in `_shared`, 0 unfinished.
        self.memo_next = self.memo_count = 0
        self.memo_numbers, self.memo_offsets, self.memo_forms = array("Q"), array("q"), array("i")
        self._shared: list[object] = [None]
        self._shared_places: dict[object, int] = {}
        self._last_put = -1

    def bad(self, expected: str, found: str, do: str = "", byte: int | None = None) -> BadPickleError:
        """The error for what stands here."""
        after = f" after id {self.ids[-1]} (entry {len(self.ids)})" if len(self.ids) else ""
        return bad_pickle(self.path, self.at if byte is None else byte, after, expected, found, do)

    def step(self) -> None:
        """Execute one opcode."""
        self.at = self.pos
        op = self.data[self.take(1)]
        act = OPCODES.get(op)
        if act is None:
            found = REFUSED.get(op, f"the byte 0x{op:02x}, which is no opcode")
            raise self.bad("an opcode that writes a dict of number arrays", found)
        act(self)
        self.quiet += 1
        if self.quiet > MAX_QUIET:
            raise self.bad("an entry", f"{MAX_QUIET} opcodes without one")
        if len(self.stack) > MAX_STACK:
            raise self.bad(f"at most {MAX_STACK} values at a time", "more")

    # Bytes of the file

    def take(self, size: int) -> int:
        """Where the next `size` bytes begin, which must lie in the frame or file."""
        start = self.pos
        if size > self.end - start:
            where = "the frame" if self.framed else "the file"
            raise self.bad(
                f"{size} bytes", f"{self.end - start} before the end of {where} (truncated, or a false length)"
            )
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
            raise self.bad(f"a line of at most {longest} bytes", "none")
        start, self.pos = self.pos, stop + 1
        return self.data[start:stop]

    def content(self, value: object, longest: int = LONGEST_SHARED) -> bytes:
        """The bytes of a short literal; none of anything else."""
        if isinstance(value, Text) and value.size <= longest:
            return self.data[value.offset : value.offset + value.size]
        return b""

    # Numbers, literals, tuples, lists

    def literal(self, op: int, width: int) -> None:
        """BINBYTES, BINUNICODE, BINSTRING, ..."""
        size = self.number(width)
        self.stack.append(Text(self.take(size), size, op))

    def long1(self) -> None:
        """An integer of up to 64 bits; Python writes larger ones so too."""
        width = self.number(1)
        if width > 8:
            raise self.bad("an integer of 64 bits", f"LONG1 of {width} bytes")
        self.stack.append(self.number(width, signed=True))

    def int_line(self) -> None:
        """INT: Python 2 writes integers of more than 32 bits so in any protocol."""
        digits = self.line(21)
        if not digits.removeprefix(b"-").isdigit() or digits[:1] == b"0" != digits:  # 00 and 01 are booleans
            raise self.bad("a decimal integer", "INT of something else")
        self.stack.append(int(digits))

    def pop(self, count: int) -> list[object]:
        """Take values off the stack, above the mark."""
        if len(self.stack) < count:
            raise self.bad(f"{count} values on the stack", f"{len(self.stack)}")
        cut = len(self.stack) - count
        values = self.stack[cut:]
        del self.stack[cut:]
        return values

    def mark(self) -> None:
        """MARK."""
        if len(self.marks) == MAX_MARKS:
            raise self.bad("a dict of number arrays", f"more than {MAX_MARKS} levels of nesting")
        self.marks.append(self.stack)
        self.stack = []

    def to_mark(self) -> list[object]:
        """The values since the last mark, which is taken away."""
        if not self.marks:
            raise self.bad("a MARK before", "none")
        values, self.stack = self.stack, self.marks.pop()
        return values

    def tuple_of(self, values: list[object]) -> None:
        """TUPLE, TUPLE1, ...: of plain values and flat tuples of integers (shapes)."""
        if len(values) > MAX_TUPLE:
            raise self.bad(f"a tuple of at most {MAX_TUPLE}", f"one of {len(values)}")
        for value in values:
            if isinstance(value, tuple) and not all(type(n) is int for n in value):
                raise self.bad("a tuple of integers within a tuple", "deeper nesting")
        self.stack.append(tuple(values))

    def append(self, values: list[object]) -> None:
        """APPEND, APPENDS: number arrays to a list of them."""
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, list):
            raise self.bad("a list before the values to append", "something else")
        if not values or not all(isinstance(value, Array) and value.form for value in values):
            raise self.bad("number arrays in a list", "something else, or nothing")
        target += values
        if len(target) > MAX_LIST:
            raise self.bad(f"a list of at most {MAX_LIST} arrays", "more")

    # The memo

    def put(self, number: int) -> None:
        """PUT, MEMOIZE: remember the value on top, if it is one that picklers refer to again."""
        if not self.stack:
            raise self.bad("a value to memoise", "an empty stack")
        if number < self.memo_next or self._last_put == self.at:
            raise self.bad("each value memoised once, under rising numbers", f"memo number {number} now")
        self._last_put = self.pos
        self.memo_next, self.memo_count = number + 1, self.memo_count + 1
        value = self.stack[-1]
        offset = form = 0
        if isinstance(value, Array):
            offset, form = value.offset, value.form
        elif not isinstance(value, Dtype) or value.dtype:
            form = self._shared_place(value)
            if not form:
                return
        if not form and isinstance(value, Array | Dtype):
            if value.remembered >= 0:
                raise self.bad("each value memoised once", "one memoised twice")
            value.remembered = len(self.memo_numbers)
        if len(self.memo_numbers) >= MAX_MEMO:
            raise self.bad(f"at most {MAX_MEMO} memoised values", "more")
        self.memo_numbers.append(number)
        self.memo_offsets.append(offset)
        self.memo_forms.append(form)

    def memoize(self) -> None:
        """MEMOIZE: under the number of values memoised so far."""
        if self.memo_count != self.memo_next:
            raise self.bad("PUT opcodes with numbers, as before", "MEMOIZE")
        self.put(self.memo_count)

    def get(self, number: int) -> None:
        """GET: what was memoised, if it was a thing that can be shared."""
        place = bisect_left(self.memo_numbers, number)
        known = place < len(self.memo_numbers) and self.memo_numbers[place] == number
        form = self.memo_forms[place] if known else 0
        if not form:
            found = f"memo number {number}, which stands for something else, or nothing yet"
            raise self.bad("a reference to a number array, a number type, a known name or a short text", found)
        self.stack.append(Array(self.memo_offsets[place], form) if form > 0 else self._shared[-form])

    def _shared_place(self, value: object) -> int:
        """The place of a value that picklers refer to, as a negative form; equal ones have the same. 0: no such value."""
        key: object = value
        if isinstance(value, Dtype):
            key = value.dtype
        elif isinstance(value, Text):
            content = self.content(value)
            if value.size > 1 and content not in _SHARED_TEXTS:
                return 0
            key = (value.kind, content)
        elif isinstance(value, Latin1) and value.text.size <= 2:  # one byte
            key = (Latin1, self.content(value.text))
        elif not isinstance(value, Name):
            return 0
        place = self._shared_places.setdefault(key, len(self._shared))
        if place == len(self._shared):
            self._shared.append(value)
        return -place

    # Names, and the few calls that are understood

    def find_name(self, module: bytes, name: bytes) -> None:
        """GLOBAL, STACK_GLOBAL: one of the ten names."""
        known = NAMES.get((module, name))
        if known is None:
            shown = "".join(chr(c) if 32 < c < 127 else "?" for c in b".".join((module, name))[:60])
            torch = "torch.load(..., weights_only=True) may read it." if module.startswith(b"torch") else ""
            raise self.bad("the names with which numpy writes number arrays", f"the name {shown}", torch)
        self.stack.append(known)

    def stack_global(self) -> None:
        """STACK_GLOBAL."""
        pair = self.pop(2)
        if not all(isinstance(text, Text) and text.kind == "text" for text in pair):
            raise self.bad("two texts before STACK_GLOBAL", "something else")
        self.find_name(self.content(pair[0], MAX_NAME), self.content(pair[1], MAX_NAME))

    def reduce(self) -> None:
        """REDUCE: of a known name and the arguments that numpy writes."""
        function, arguments = self.pop(2)
        understood = _CALLS.get(function) if isinstance(function, Name) else None
        if understood is None or not isinstance(arguments, tuple):
            raise self.bad("the call that makes a number array", "REDUCE of something else")
        value = understood(self, arguments)
        if value is None:
            raise self.bad("the arguments that numpy writes", f"others, for {function.name.lower()}")  # type: ignore[attr-defined]
        self.stack.append(value)

    def reconstruct(self, arguments: tuple[object, ...]) -> Array | None:
        """`_reconstruct(ndarray, (0,), b"b")`: an array whose data follow."""
        match arguments:
            case (Name.NDARRAY, (0,), Latin1(text) | text) if self.content(text) == b"b":
                return Array()
        return None
