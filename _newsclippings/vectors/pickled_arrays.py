"""Read pickles of `{id: number array or None}` as data, without executing anything in them.

A pickle is a program. `PickledArrays` knows the few instructions with which Python and numpy write a dict of number
arrays in protocols 2 to 5, and refuses all others. Names in the file are compared with a fixed table, and never
imported, looked up or called. The arrays stay in the file; only their positions are kept.

The entries of a large file differ only in their ids, numbers and memo numbers. After an entry was read instruction by
instruction, a `Pattern` made from its bytes matches others like it, several times faster than unpickling them.
"""

import os
import pickletools
import re
import struct
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from _newsclippings.errors import BadPickleError
from _newsclippings.storage import changed_file, open_file, unreadable_file

__all__ = ["Form", "PickledArrays"]

WINDOW = 4 << 20  # bytes of the file held in memory at a time
BLOCK = 1 << 19  # bytes copied at a time; so many fit into the cache of a core
MAX_ARRAY = 64 << 20  # bytes
MAX_DIMENSIONS = 4
MAX_ENTRIES = 2_000_000
MAX_FORMS = 65_536
MAX_IDLE = 10_000  # instructions without an entry
MAX_STACK = 64  # values of one entry
SHORT = 256  # bytes; longer texts are neither names nor number types
MAX_PATTERNS = 64  # kept at a time
MAX_LEARNT = 1000  # patterns made for a file; limits the time lost on a file whose entries are all different
NONE = -1  # the form of None

CONVERT = (
    'If you trust the file, convert it: pickle.dump({int(k): numpy.array(v, "f4", order="C") if v is not None and '
    'len(v) else None for k, v in pickle.load(open("old.pkl", "rb"), encoding="latin1").items()}, '
    'open("new.pkl", "wb"), 4)'
)
OTHER_FILES = (
    (b"\x1f\x8b", "gzip", "Decompress it first (gunzip)."),
    (b"PK\x03\x04", "a zip archive", "Is it a file of torch.save? If you trust it, convert it to numpy arrays."),
    (b"\x93NUMPY", "a .npy file", "Read it with numpy.load."),
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself (git lfs pull)."),
    (b"<", "an HTML page", "The download went wrong; fetch it again."),
)

INTEGERS = {ord("K"): 1, ord("M"): 2, ord("J"): 4}  # instruction -> bytes of the number
PUTS = {ord("q"): 1, ord("r"): 4, 0x94: 0}
FRAME, MARK_AND_ENTRIES, DICT, ENTRY, ENTRIES, STOP = 0x95, ord("("), ord("}"), ord("s"), ord("u"), ord(".")
NO_MORE_PUTS = rb"(?!(?:\x95.{8})?[qr\x94])"  # otherwise the matched value would be memoised a second time


class Name(Enum):
    """The meaning of a name in the file."""

    RECONSTRUCT, NDARRAY, DTYPE, SCALAR, FROMBUFFER, ENCODE, BYTES = range(7)


class Sign(Enum):
    """Booleans, which must not be confused with integers, and the mark at the start of a tuple."""

    TRUE, FALSE, MARK = range(3)


NAMES = {
    (b"numpy.core.multiarray", b"_reconstruct"): Name.RECONSTRUCT,
    (b"numpy._core.multiarray", b"_reconstruct"): Name.RECONSTRUCT,
    (b"numpy.core.multiarray", b"scalar"): Name.SCALAR,
    (b"numpy._core.multiarray", b"scalar"): Name.SCALAR,
    (b"numpy.core.numeric", b"_frombuffer"): Name.FROMBUFFER,  # protocol 5
    (b"numpy._core.numeric", b"_frombuffer"): Name.FROMBUFFER,
    (b"numpy", b"ndarray"): Name.NDARRAY,
    (b"numpy", b"dtype"): Name.DTYPE,
    (b"_codecs", b"encode"): Name.ENCODE,  # Python 3 writes bytes so in protocol 2
    (b"__builtin__", b"bytes"): Name.BYTES,  # and empty bytes so
}
CODES = frozenset({b"f2", b"f4", b"f8", b"i1", b"i2", b"i4", b"i8", b"u1", b"u2", b"u4", b"u8", b"b1"})
# Literals that a pickler may refer to by a memo number.
WORDS = CODES | {part for name in NAMES for part in name} | {b"", b"b", b"<", b">", b"=", b"|", b"C", b"F", b"latin1"}
LONGEST_WORD = max(map(len, WORDS))
FLAGS = 0, 1, Sign.FALSE, Sign.TRUE


class Form(NamedTuple):
    """The type and shape of an array.

    Attributes:
        dtype: f2 f4 f8 i1..i8 u1..u8 or b1, in either byte order.
        shape: of the array, in C order.
        latin1: whether the bytes are stored as text, each byte as the Latin-1 character, in UTF-8 (protocol 2).
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    latin1: bool = False

    @property
    def nbytes(self) -> int:
        """Size of its numbers, in bytes."""
        return prod(self.shape) * self.dtype.itemsize


class Literal(NamedTuple):
    """The position of a text or bytes in the file, and the content if it is short."""

    offset: int
    size: int
    kind: str  # text, bytes, or latin1 (bytes stored as text)
    short: bytes = b""


class Array(NamedTuple):
    """A number array; its form is NONE until its state is known."""

    offset: int = 0
    form: int = NONE


class Dtype(NamedTuple):
    """A number type; `dtype` is None until its state, with the byte order, is known."""

    code: bytes
    dtype: np.dtype | None = None
    memo_number: int = NONE


@dataclass(frozen=True, eq=False)
class Pattern:
    """The bytes of an entry after its key, with gaps for the numbers of the array and for memo numbers.

    Attributes:
        whole: matches these bytes; its groups are the memo numbers that occur in them. If the array is stored as text,
            it ends before the text, and its last group is the length of the text.
        back: matches the bytes after the text; None if the array is not stored as text.
        start, size: position and size of the numbers, in bytes.
        form: of the array.
        memo: values that the entry adds to the memo (as in PickledArrays._memo).
        written: meaning of each memo number that occurs: NEW, or that of an earlier value.
        follow: packs these numbers if all are new, since new ones are consecutive; else None.
    """

    whole: re.Pattern[bytes]
    back: re.Pattern[bytes] | None
    start: int
    size: int
    form: int
    memo: bytes
    written: tuple[int, ...]
    follow: struct.Struct | None


# Meaning of a memo number: a value that is not referred to again, an array or its bytes, else a row of `_shared`.
PLAIN, ARRAY = 0, 1
NEW, NUMBERS = -1, -2  # gaps of a pattern: a new memo number, and the numbers of the array


class PickledArrays:
    """The entries of a pickle of number arrays; a context manager.

    Attributes:
        path, size: of the file.
        ids: int64 (N,), in the order of the file, each once.
        offsets: int64 (N,); byte of the file at which the array's numbers begin; 0 for None and for empty arrays.
        forms: int32 (N,); row of `form_table`; -1 for None.
        form_table: types and shapes of the arrays.
    """

    def __init__(self, path: str) -> None:
        """Open a pickle and find its arrays. Takes about 30 bytes of memory per entry.

        Args:
            path: a local file.

        Raises:
            BadPickleError: the file is not a pickle of protocol 2 to 5 with one dict from 64-bit integers to number
                arrays in C order or None; an id or an array occurs more than once; or an array or the dict is too
                large.
            BadFileError: it changed while it was read.
        """
        self.path, self._file = path, open(path, "rb", buffering=0, opener=open_file)  # noqa: SIM115
        self._state = self._get_state()
        self.size = self._state[0]
        self.form_table: list[Form] = []
        self._form_numbers: dict[Form, int] = {}
        self._ids, self._offsets, self._forms = array("q"), array("q"), array("i")
        # Bytes in memory and their position; the next byte; the current instruction; the end of the frame or file.
        self._data, self._base = b"", 0
        self._pos = self._at = 0
        self._end, self._framed = self.size, False
        self._idle = 0
        self._stack: list[Any] = []
        self._memo = bytearray()  # by memo number: PLAIN, ARRAY, or a row of _shared
        self._shared: list[Any] = [None, None]
        self._shared_places: dict[object, int] = {}
        self._first = 0  # the first memo number; 1 if Python 2 wrote the file
        self._put_end = 0  # position after the last instruction that memoised
        self._patterns: list[Pattern] = []  # the last one that matched comes first
        self._learnt = 0
        self._gaps: list[tuple[int, int, int]] = []  # memo numbers in the current entry: position, width, meaning
        self._can_learn = False  # whether the current entry can become a pattern
        try:
            try:
                self._read()
            finally:
                self.check_unchanged()  # otherwise the entries may come from two versions of the file
            self.ids, self.offsets, self.forms = map(_make_column, (self._ids, self._offsets, self._forms))
            ordered = np.sort(self.ids)
            repeated = ordered[1:][ordered[1:] == ordered[:-1]]
            if len(repeated):
                first, second = np.flatnonzero(self.ids == repeated[0])[:2] + 1
                raise self._refusal("each id once", f"id {repeated[0]} as entries {first} and {second}")
        except BaseException:
            self._file.close()
            raise
        self._data, self._memo = b"", bytearray()

    def __len__(self) -> int:
        return len(self.ids)

    def __enter__(self) -> "PickledArrays":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Check that the file did not change, and close it.

        Raises:
            BadFileError: it changed since it was opened.
        """
        if self._file.closed:
            return
        try:
            self.check_unchanged()
        finally:
            self._file.close()

    def check_unchanged(self) -> None:
        """Check that the file did not change.

        Raises:
            BadFileError: its size or its modification time changed since it was opened.
        """
        if self._get_state() != self._state:
            raise changed_file(self.path)

    def _get_state(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    # Reading the arrays

    def copy(self, places: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]) -> None:
        """Copy the numbers of arrays that have the same form.

        Args:
            places: int64 (n,), rows of the entries; fastest in the order of the file.
            out: uint8 (n, bytes of an array), C-contiguous; filled.

        Raises:
            BadFileError: the file changed since it was opened.
        """
        size, offsets = out.shape[1], self.offsets[places]
        latin1 = any(self.form_table[number].latin1 for number in self.forms[places[:1]])
        rows = max(BLOCK // max(size, 1), 1)
        for start in range(0, len(places), rows):
            part, target = offsets[start : start + rows], out[start : start + rows]
            first = int(part.min())
            width = int(part.max()) - first + size
            if width <= 4 * BLOCK and not latin1:
                data = self._read_at(first, width)
                target[:] = np.ndarray((width - size + 1, size), np.uint8, data, 0, (1, 1))[part - first]
            else:  # stored as text, far apart, or large
                for offset, row in zip(part.tolist(), target, strict=True):
                    row[:] = np.frombuffer(self._read_numbers(offset, size, latin1), np.uint8)
        self.check_unchanged()

    def _read_numbers(self, offset: int, size: int, latin1: bool) -> bytes:
        """Read the numbers of an array."""
        if not latin1 or not size:
            return self._read_at(offset, size)
        # A byte of the array takes one or two in UTF-8, so that more than the array may be read.
        text = self._read_at(offset, min(2 * size, self.size - offset)).decode("utf-8", "replace")
        numbers = _decode_latin1(text[:size].encode())
        if numbers is None or len(numbers) != size:
            raise changed_file(self.path)
        return numbers

    def _read_at(self, offset: int, size: int) -> bytes:
        """Read bytes of the file. It is not mapped, since reading a mapped file that was truncated ends the process."""
        try:
            data = os.pread(self._file.fileno(), size or 1, offset)[:size]  # a file that cannot be read may have size 0
        except OSError as error:
            raise unreadable_file(self.path, error) from error
        if len(data) != size:
            raise changed_file(self.path)
        return data

    # Reading the pickle from its beginning to its end

    def _refusal(self, expected: str, found: str, do: str = "") -> BadPickleError:
        """Make the error for the current instruction."""
        after = f" after id {self._ids[-1]} (entry {len(self._ids)})" if self._ids else ""
        do = do or "Nothing in it was executed. Get a fresh copy of the file from its authors."
        return BadPickleError(f"{self.path}: byte {self._at}{after}: expected {expected}, found {found}. {do}")

    def _hold(self, count: int) -> None:
        """Have the next `count` bytes in memory, or all that are left."""
        if self._pos + count > self._base + len(self._data) < self.size:
            self._data = b""  # freed first: only one window is in memory
            self._base = self._pos
            self._data = self._read_at(self._pos, min(WINDOW, self.size - self._pos))

    def _advance(self, count: int) -> int:
        """Move past the next `count` bytes, which must be in the frame or file, and return where they begin."""
        start, left = self._pos, self._end - self._pos
        if count > left:
            where = "frame" if self._framed else "file"
            what = f"{left} before the end of the {where} (truncated, or a false length)"
            raise self._refusal(f"{count} bytes", what)
        self._pos += count
        return start

    def _take(self, count: int) -> bytes:
        """Read the next few bytes."""
        if self._pos + count > self._base + len(self._data):
            self._hold(count)
        start = self._advance(count) - self._base
        return self._data[start : start + count]

    def _take_number(self, width: int, signed: bool = False) -> int:
        return int.from_bytes(self._take(width), "little", signed=signed)

    def _take_line(self) -> bytes:
        """Read up to the next newline, and return the bytes before it."""
        self._hold(SHORT + 1)
        start = self._pos - self._base
        stop = self._data.find(b"\n", start, min(self._end - self._base, start + SHORT + 1))
        if stop < 0:
            raise self._refusal(f"a line of at most {SHORT} bytes", "none (truncated, or a false name)")
        self._pos = self._base + stop + 1
        return self._data[start:stop]

    def _next_instruction(self) -> int:
        """Read the next instruction; enter and leave frames."""
        while True:
            if self._framed and self._pos == self._end:
                self._end, self._framed = self.size, False
            self._at = self._pos
            self._idle += 1
            if self._idle > MAX_IDLE:
                raise self._refusal("an entry", f"{MAX_IDLE} opcodes without one")
            if len(self._ids) > MAX_ENTRIES:
                raise self._refusal(f"at most {MAX_ENTRIES} entries", "more")
            op = self._take(1)[0]
            if op != FRAME:
                return op
            if self._framed:
                raise self._refusal("the end of the frame", "a frame inside it")
            size = self._take_number(8)
            start = self._advance(size)
            self._pos, self._end, self._framed = start, start + size, True
            self._can_learn = False

    # Reading the dict

    def _read(self) -> None:
        self._check_head(self._read_at(0, min(64, self.size)))
        self._pos = 2
        if self._next_instruction() != DICT:
            raise self._refusal("one dict", "something else")
        op = self._next_instruction()
        if op in PUTS:
            self._stack.append(None)
            self._step(op)
            self._stack.clear()
            op = self._next_instruction()
        while op != STOP:
            if op == MARK_AND_ENTRIES:
                self._read_entries()
            else:
                op = self._read_entry(op)
                self._add_entry()
                if op != ENTRY:
                    raise self._refusal("an entry of the dict, or its end", _name_opcode(op))
            op = self._next_instruction()
        if self._pos != self.size:
            raise self._refusal("the end of the file after STOP", f"{self.size - self._pos} more bytes")

    def _check_head(self, head: bytes) -> None:
        """Refuse a file whose first bytes show that it is no pickle of protocol 2 to 5."""
        expected = "a pickle of protocol 2 to 5"
        if not head:
            raise self._refusal(expected, "an empty file", "The download went wrong; fetch it again.")
        for magic, what, do in OTHER_FILES:
            if head.lstrip().startswith(magic):
                raise self._refusal(expected, what, do)
        do = "If you trust it, write it again with pickle.dump(..., protocol=4)."
        if head[0] != 0x80:
            raise self._refusal(expected, "no opcode PROTO: protocol 0 or 1, or another kind of file", do)
        self._at = 1
        if len(head) < 2 or not 2 <= head[1] <= 5:
            raise self._refusal(expected, f"protocol {head[1]}" if len(head) > 1 else "one byte", do)

    def _read_entries(self) -> None:
        """Read a batch of entries."""
        op = self._next_instruction()
        while op != ENTRIES:
            if op in INTEGERS and self._skip_known_entries():
                op = self._next_instruction()
                continue
            start, memo = self._at, len(self._memo)
            self._gaps, self._can_learn = [], op in INTEGERS
            op = self._read_entry(op)
            value = self._add_entry()
            if self._can_learn:
                self._learn(start, self._at, value, memo)

    def _read_entry(self, op: int) -> int:
        """Read an entry, and return the instruction after it."""
        while True:
            match self._stack:
                case _, (None | Array()) as value if op not in PUTS and (value is None or value.form != NONE):
                    return op
            self._step(op)
            op = self._next_instruction()

    def _add_entry(self) -> Array | None:
        """Take an entry off the stack, and return its value."""
        key, value = self._pop(2)
        if not isinstance(key, int):
            raise self._refusal("a key that is a 64-bit integer", "another key")
        self._ids.append(key)
        self._offsets.append(value.offset if value else 0)
        self._forms.append(value.form if value else NONE)
        self._idle = 0
        return value  # type: ignore[no-any-return]

    # Executing instructions

    def _step(self, op: int) -> None:
        """Execute an instruction within an entry."""
        act = _INSTRUCTIONS.get(op)
        if act is None:
            do = CONVERT if op in b"]I" else ""
            raise self._refusal("only opcodes that make a dict of number arrays", _name_opcode(op), do)
        act(self)
        if len(self._stack) > MAX_STACK:
            raise self._refusal(f"at most {MAX_STACK} values at a time", "more")

    def _push(self, value: object) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        """Take `count` values off the stack, all above the last mark."""
        values = self._stack[-count:]
        if len(values) < count or Sign.MARK in values:
            raise self._refusal(f"{count} values on the stack", "fewer")
        del self._stack[-count:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        if Sign.MARK not in self._stack:
            raise self._refusal("a MARK before", "none")
        count = self._stack[::-1].index(Sign.MARK)
        values = self._pop(count) if count else []
        self._stack.pop()
        return values

    def _push_long1(self) -> None:
        width = self._take_number(1)
        if width > 8:
            raise self._refusal("an integer of 64 bits", f"LONG1 of {width} bytes")
        self._push(self._take_number(width, signed=True))

    def _push_literal(self, width: int, kind: str) -> None:
        size = self._take_number(width)
        offset = self._pos
        if size > SHORT:
            self._advance(size)
        self._push(Literal(offset, size, kind, self._take(size) if size <= SHORT else b""))

    def _push_tuple(self, values: list[Any]) -> None:
        """Push a tuple of plain values and of tuples of integers (shapes)."""
        for value in values:
            if type(value) is tuple and not all(isinstance(n, int) for n in value):
                raise self._refusal("a tuple of integers within a tuple", "deeper nesting")
        self._push(tuple(values))

    def _put(self, number: int) -> None:
        """Give the value on top of the stack the next memo number."""
        if not self._stack or self._stack[-1] is Sign.MARK:
            raise self._refusal("a value to memoise", "none")
        if number == 1 and not self._memo:
            self._memo.append(PLAIN)
            self._first = 1
        if number != len(self._memo) or self._put_end == self._at:
            raise self._refusal("each value memoised once, under rising numbers", f"memo number {number} here")
        self._put_end = self._pos
        value = self._stack[-1]
        shared = self._share(value)
        if shared == PLAIN and (isinstance(value, Array) or (isinstance(value, Literal) and value.size == 1)):
            shared = ARRAY  # Python has one object for each single byte, so that arrays may share it
        self._memo.append(shared)
        if isinstance(value, Dtype):
            self._stack[-1] = value._replace(memo_number=number)

    def _share(self, value: object) -> int:
        """Return the row of `_shared` for a value that picklers refer to again; PLAIN for any other value."""
        key: object = None
        match value:
            case Name():
                key = value
            case Literal(short=short, kind=kind, size=size) if size == len(short) and short in WORDS:
                key = kind, short
            case Dtype(dtype=dtype) if dtype is not None:
                key = dtype.str
        if key is None:
            return PLAIN
        place = self._shared_places.setdefault(key, len(self._shared))
        if place == len(self._shared):
            self._shared.append(value)
        return place

    def _put_written(self, width: int) -> None:
        self._gaps.append((self._pos, width, NEW))
        self._can_learn = self._can_learn and width == 4  # only the first numbers of a file are shorter
        self._put(self._take_number(width))

    def _push_memo(self, width: int) -> None:
        """Push the value that has a memo number."""
        at, number = self._pos, self._take_number(width)
        known = self._memo[number] if number < len(self._memo) else PLAIN
        if known == ARRAY:
            raise self._refusal("an array of its own for each id", "one that several ids share", CONVERT)
        if known == PLAIN:
            what = f"memo number {number}, which belongs to something else or is not given yet"
            raise self._refusal("a reference to a number type, a known name or a short text", what)
        if width == 4:
            self._gaps.append((at, width, known))
        self._push(self._shared[known])

    def _push_name(self, module: bytes, name: bytes) -> None:
        """Push the meaning of a name, which must be one that numpy writes."""
        known = NAMES.get((module, name))
        if known is None:
            shown = "".join(chr(c) if 32 < c < 127 else "?" for c in b".".join((module, name))[:80])
            torch = "Nothing was executed. Is it a file of PyTorch? If you trust it, convert it to numpy arrays."
            do = torch if module.startswith(b"torch") else ""
            raise self._refusal("the names with which numpy writes number arrays", f"the name {shown}", do)
        self._push(known)

    def _push_stack_name(self) -> None:
        match self._pop(2):
            case Literal(kind="text") as module, Literal(kind="text") as name:
                self._push_name(module.short, name.short)
            case _:
                raise self._refusal("two texts before STACK_GLOBAL", "something else")

    def _reduce(self) -> None:
        """Push the result of a known call, which is recognised by its arguments."""
        match self._pop(2):
            case Name.RECONSTRUCT, (Name.NDARRAY, (0,), Literal(short=b"b", size=1)):
                self._push(Array())
            case Name.DTYPE, (Literal(short=code), align, copy) if align in FLAGS and copy in FLAGS:
                if code not in CODES:
                    raise self._refusal("a number type, such as f4", "the name of another type")
                self._push(Dtype(code))
            case Name.FROMBUFFER, (data, dtype, shape, Literal(short=b"C" | b"F" as order), *axes) if axes in (
                [],
                [None],
            ):
                self._push(self._make_array(dtype, shape, order == b"F", data))
            case Name.ENCODE, (Literal(kind="text") as text, Literal(short=b"latin1")):
                self._push(text._replace(kind="latin1"))
            case Name.BYTES, ():
                self._push(Literal(self._at, 0, "bytes"))
            case Name.SCALAR, _:
                raise self._refusal("ids that are integers of Python", "a number of numpy", CONVERT)
            case _:
                raise self._refusal("a call with which numpy writes a number array", "REDUCE of something else")

    def _build(self) -> None:
        """Complete a new array or number type with its state."""
        value, state = self._pop(2)
        match value, state:
            case Array(form=-1), (1, shape, dtype, fortran, data) if fortran in FLAGS:
                self._push(self._make_array(dtype, shape, fortran in (1, Sign.TRUE), data))
            case Dtype(dtype=None), (3 | 4, Literal(short=b"<" | b">" | b"=" | b"|" as order), *rest) if rest == [
                None,
                None,
                None,
                -1,
                -1,
                0,
            ] and (order != b"|" or value.code[1:] == b"1"):
                made = value._replace(dtype=np.dtype((order + value.code).decode()))
                if made.memo_number != NONE:
                    self._memo[made.memo_number] = self._share(made)
                self._push(made)
            case _:
                raise self._refusal(
                    "a new array or number type and the state that numpy writes for it", "BUILD with another"
                )

    def _make_array(self, kind: object, shape: object, fortran: bool, data: object) -> Array:
        """Make an array, and check that its shape and its bytes agree."""
        if not isinstance(kind, Dtype) or kind.dtype is None:
            raise self._refusal("a number type of the array", "something else")
        if type(shape) is not tuple or len(shape) > MAX_DIMENSIONS:
            raise self._refusal(f"a shape of at most {MAX_DIMENSIONS} dimensions", "something else")
        # dimensions of 0 count as 1, since numpy refuses to make an array of (0, 2**40, 2**40)
        if (
            not all(isinstance(n, int) and 0 <= n <= MAX_ARRAY for n in shape)
            or prod(n or 1 for n in shape) * kind.dtype.itemsize > MAX_ARRAY
        ):
            raise self._refusal(f"a shape of at most {MAX_ARRAY} bytes", "another shape")
        if not isinstance(data, Literal) or data.kind == "text":
            raise self._refusal("the bytes of the array", "something else")
        form = Form(kind.dtype, shape, data.kind == "latin1")
        size = data.size
        if form.latin1 and size <= 2 * form.nbytes:  # a byte takes one or two in UTF-8; longer texts are wrong
            decoded = _decode_latin1(self._read_at(data.offset, size))
            if decoded is None:
                raise self._refusal("bytes as Latin-1 text", "other text")
            size = len(decoded)
        if size != form.nbytes:
            raise self._refusal(f"the {form.nbytes} bytes that an array of its shape and type has", f"{size}")
        if fortran and sum(n > 1 for n in shape) > 1 and size:
            raise self._refusal("an array in C order", "one in Fortran order", CONVERT)
        number = self._form_numbers.setdefault(form, len(self.form_table))
        if number == len(self.form_table):
            self.form_table.append(form)
            if number >= MAX_FORMS:
                raise self._refusal(f"at most {MAX_FORMS} shapes of arrays", "more")
        return Array(data.offset if size else 0, number)

    # Matching entries that are like an earlier one

    def _learn(self, start: int, stop: int, value: Array | None, memo: int) -> None:
        """Make a pattern of an entry, whose new memo numbers begin at `memo`."""
        form = self.form_table[value.form] if value else None
        size = form.nbytes if form else 0
        if start < self._base or self._learnt == MAX_LEARNT or 0 < size <= LONGEST_WORD:  # it may be one of WORDS
            return
        raw = self._data[start - self._base : stop - self._base]
        begin = value.offset - start if value and size else len(raw)
        gaps = [(at - start, width, meaning) for at, width, meaning in self._gaps]
        written = tuple(meaning for _, _, meaning in gaps)
        new, given = written.count(NEW), bytes(self._memo[memo:])
        if new not in (0, len(given)) or begin < 0:
            return
        key, end = 1 + INTEGERS[raw[0]], begin + size
        back = None
        if form and form.latin1 and size:
            end = begin + int.from_bytes(raw[begin - 4 : begin], "little")
            back = _compile_pattern(raw, end, len(raw), [gap for gap in gaps if gap[0] >= end], NO_MORE_PUTS)
            whole = _compile_pattern(raw, key, begin, [*(gap for gap in gaps if gap[0] < begin), (begin - 4, 4, NEW)])
        else:
            numbers = [(begin, size, NUMBERS)] if size else []
            whole = _compile_pattern(raw, key, len(raw), sorted(gaps + numbers), NO_MORE_PUTS)
        self._learnt += 1
        self._patterns[MAX_PATTERNS - 1 :] = []
        follow = struct.Struct(f"<{new}I") if new == len(written) else None
        number = value.form if value else NONE
        self._patterns.insert(0, Pattern(whole, back, begin - key, size, number, given, written, follow))

    def _skip_known_entries(self) -> bool:
        """Read the entries from the current instruction on that match a pattern; return whether there were any."""
        if not self._patterns:
            return False
        self._pos = self._at
        self._hold(WINDOW // 16)
        data, base, memo, patterns = self._data, self._base, self._memo, self._patterns
        pos, end = self._pos - base, min(self._end - base, len(data) - 10)  # NO_MORE_PUTS looks at 10 bytes
        count = len(self._ids)
        while pos < end and (width := INTEGERS.get(data[pos])):
            start = pos + 1 + width
            for pattern in patterns:
                match = pattern.whole.match(data, start)
                if match:
                    break
            else:
                break
            written, stop = match.groups(), match.end()
            if pattern.back:
                length = int.from_bytes(written[-1], "little")
                match = pattern.back.match(data, stop + length)
                if not match or len(_decode_latin1(data[stop : stop + length]) or b"") != pattern.size:
                    break
                written, stop = (*written[:-1], *match.groups()), match.end()
            if stop > end or (written and not self._fits_memo(pattern, b"".join(written))):
                break
            memo += pattern.memo
            self._ids.append(int.from_bytes(data[pos + 1 : start], "little", signed=width == 4))
            self._offsets.append(base + start + pattern.start if pattern.size else 0)
            self._forms.append(pattern.form)
            pos = stop
            if pattern is not patterns[0]:
                patterns.remove(pattern)
                patterns.insert(0, pattern)
        self._pos = base + pos
        if len(self._ids) == count:
            self._pos += 1
            return False
        self._idle = 0
        return True

    def _fits_memo(self, pattern: Pattern, numbers: bytes) -> bool:
        """Check whether the memo numbers of an entry have the same meanings as in its pattern."""
        new, written = len(self._memo), pattern.written
        if pattern.follow:
            return numbers == pattern.follow.pack(*range(new, new + len(written)))
        for meaning, (number,) in zip(written, struct.iter_unpack("<I", numbers), strict=True):
            if number != new if meaning == NEW else number >= len(self._memo) or self._memo[number] != meaning:
                return False
            new += meaning == NEW
        return True


def _make_column(numbers: "array[int]") -> npt.NDArray[Any]:
    column = np.frombuffer(numbers, numbers.typecode) if numbers else np.empty(0, numbers.typecode)
    column.flags.writeable = False
    return column


def _decode_latin1(text: bytes) -> bytes | None:
    """Decode UTF-8 and encode as Latin-1; None if that is impossible."""
    try:
        return text.decode("utf-8").encode("latin-1")
    except UnicodeError:
        return None


def _compile_pattern(
    raw: bytes, start: int, stop: int, gaps: list[tuple[int, int, int]], after: bytes = b""
) -> re.Pattern[bytes]:
    """Compile an expression that matches the bytes from `start` to `stop`, with a group for each gap."""
    text = b""
    for at, width, meaning in gaps:
        text += re.escape(raw[start:at]) + (b".{%d}" if meaning == NUMBERS else b"(.{%d})") % width
        start = at + width
    return re.compile(text + re.escape(raw[start:stop]) + after, re.DOTALL)


_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}


def _name_opcode(op: int) -> str:
    return _NAMES.get(op, f"the byte 0x{op:02x}")


_INSTRUCTIONS: dict[int, Callable[[PickledArrays], None]] = {
    ord("J"): lambda p: p._push(p._take_number(4, signed=True)),
    ord("K"): lambda p: p._push(p._take_number(1)),
    ord("M"): lambda p: p._push(p._take_number(2)),
    0x8A: PickledArrays._push_long1,
    ord("N"): lambda p: p._push(None),
    0x88: lambda p: p._push(Sign.TRUE),
    0x89: lambda p: p._push(Sign.FALSE),
    ord("("): lambda p: p._push(Sign.MARK),
    ord(")"): lambda p: p._push(()),
    ord("t"): lambda p: p._push_tuple(p._pop_to_mark()),
    0x85: lambda p: p._push_tuple(p._pop(1)),
    0x86: lambda p: p._push_tuple(p._pop(2)),
    0x87: lambda p: p._push_tuple(p._pop(3)),
    ord("q"): lambda p: p._put_written(1),
    ord("r"): lambda p: p._put_written(4),
    0x94: lambda p: p._put(len(p._memo) - p._first),
    ord("h"): lambda p: p._push_memo(1),
    ord("j"): lambda p: p._push_memo(4),
    ord("c"): lambda p: p._push_name(p._take_line(), p._take_line()),
    0x93: PickledArrays._push_stack_name,
    ord("R"): PickledArrays._reduce,
    ord("b"): PickledArrays._build,
}
for _kind, _widths in {
    "bytes": {ord("U"): 1, ord("T"): 4, ord("C"): 1, ord("B"): 4, 0x8E: 8, 0x96: 8},  # Python 2 writes the first two
    "text": {0x8C: 1, ord("X"): 4, 0x8D: 8},
}.items():
    for _op, _width in _widths.items():
        _INSTRUCTIONS[_op] = partial(PickledArrays._push_literal, width=_width, kind=_kind)
