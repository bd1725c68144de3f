"""A pickle machine that knows number arrays and nothing else: the exact, slow half of `array_pickle`.

Opcodes that no pickler needs to write a dict of number arrays are refused by name.
"""

import pickletools
from array import array
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from io import FileIO

from _newsclippings.vectors.array_pickle_values import (
    LIST,
    NAMES,
    SHARED_TEXTS,
    Array,
    Calls,
    Dtype,
    Latin1,
    Name,
    Text,
)
from _newsclippings.vectors.array_pickle_window import STEP

MAX_ENTRIES = 2_000_000  # of the dict, and likewise arrays in lists
MAX_LIST = 4096
MAX_TUPLE = 16
MAX_STACK = 8192  # a pickler writes 1000 entries between two marks
MAX_MARKS = 6
MAX_MEMO = 8_000_000  # things that can be referred to; 20 bytes each
MAX_QUIET = 10_000  # opcodes without an entry or an array


class Machine(Calls):
    """Stack, marks, memo and entries of one pickle, with a method for each kind of opcode."""

    def __init__(self, path: str, file: FileIO, size: int) -> None:
        super().__init__(path, file, size)
        self.done = False
        self.stack: list[object] = []
        self.marks: list[list[object]] = []  # the stacks below each MARK
        self.offsets, self.forms = array("q"), array("i")
        self.part_offsets, self.part_forms, self.list_starts = array("q"), array("i"), array("q", [0])
        # What picklers refer to again; all else is forgotten. Memo numbers rise, so that they can be searched.
        # Form < 0: a place in `_shared`; 0: an unfinished value.
        self.memo_next = self.memo_count = 0
        self.memo_numbers, self.memo_offsets, self.memo_forms = array("Q"), array("q"), array("i")
        self._shared: list[object] = [None]
        self._shared_places: dict[object, int] = {}
        self._last_put = -1  # where the last PUT ended

    def step(self) -> None:
        """Execute one opcode."""
        if self.framed and self.pos == self.end:
            self.end, self.framed = self.size, False
        if self.pos > self.held:
            self.refill(STEP)
        self.at = self.pos
        op = self.data[self.take(1) - self.base]
        act = _OPCODES.get(op)
        if act is None:
            raise self.bad("only opcodes that make a dict of number arrays", _NAMES.get(op, f"the byte 0x{op:02x}"))
        act(self)
        self.quiet += 1
        if self.quiet > MAX_QUIET:
            raise self.bad("an entry", f"{MAX_QUIET} opcodes without one")
        if len(self.stack) > MAX_STACK:
            raise self.bad(f"at most {MAX_STACK} values at a time", "more")

    # Frames, the end

    def open_frame(self) -> None:
        """FRAME."""
        if self.framed:
            raise self.bad("the end of the frame", "a frame inside it")
        size = self.number(8)
        self.pos, self.end, self.framed = self.take(size), self.pos, True

    def stop(self) -> None:
        """STOP: must be the end of the file."""
        if self.marks or self.stack != [Name.TOP]:
            raise self.bad("one dict", "STOP with something else, or more")
        if self.pos != self.size:
            raise self.bad("the end of the file after STOP", f"{self.size - self.pos} more bytes")
        self.done = True

    # Literals, tuples, lists, the dict

    def literal(self, op: int, width: int) -> None:
        """BINBYTES, BINUNICODE, BINSTRING, ..."""
        self.stack.append(self.text(op, self.number(width)))

    def long1(self) -> None:
        """LONG1: an integer of up to 64 bits here."""
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
        values = self.stack[-count:]
        del self.stack[-count:]
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
        """TUPLE, TUPLE1, ...: of plain values and of tuples of integers (shapes)."""
        if len(values) > MAX_TUPLE:
            raise self.bad(f"a tuple of at most {MAX_TUPLE}", f"one of {len(values)}")
        for value in values:
            if isinstance(value, tuple) and not all(isinstance(n, int) for n in value):
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

    def empty_dict(self) -> None:
        """EMPTY_DICT."""
        if self.stack or self.marks:
            raise self.bad("one dict", "another inside it")
        self.stack.append(Name.TOP)

    def set_items(self, values: list[object]) -> None:
        """SETITEM, SETITEMS."""
        if self.marks or self.stack != [Name.TOP]:
            raise self.bad("entries of the one dict", "entries of something else")
        if len(values) % 2:
            raise self.bad("a value for each key", "a key without one")
        for key, value in zip(values[::2], values[1::2], strict=True):
            self.add(key, value)

    def add(self, key: object, value: object) -> None:
        """Take an entry of the dict."""
        if not isinstance(key, int) or not -(2**63) <= key < 2**63:
            raise self.bad("a key that is a 64-bit integer", "another key")
        offset, form = 0, 0
        if isinstance(value, Array) and value.form:
            offset, form = value.offset, value.form
        elif isinstance(value, list):
            offset, form = len(self.list_starts) - 1, LIST
            self.part_offsets.extend(part.offset for part in value)
            self.part_forms.extend(part.form for part in value)
            self.list_starts.append(len(self.part_forms))
        elif value is not None:
            raise self.bad("a number array, a list of number arrays, or None as the value of a key", "another value")
        self.ids.append(key)
        self.offsets.append(offset)
        self.forms.append(form)
        self.quiet = 0
        self.check_room()

    def check_room(self) -> None:
        """Refuse more entries, or things that can be referred to, than any sensible file has."""
        if max(len(self.ids), len(self.part_forms)) > MAX_ENTRIES:
            raise self.bad(f"at most {MAX_ENTRIES} entries, and arrays in lists", "more")
        if len(self.memo_numbers) > MAX_MEMO:
            raise self.bad(f"at most {MAX_MEMO} memoised values", "more")

    # Names, and the few calls that are understood

    def stack_global(self) -> None:
        """STACK_GLOBAL: a name from two texts."""
        module, name = self.pop(2)
        if not (isinstance(module, Text) and module.is_text and isinstance(name, Text) and name.is_text):
            raise self.bad("two texts before STACK_GLOBAL", "something else")
        self.stack.append(self.find_name(module.short, name.short))

    def reduce(self) -> None:
        """REDUCE: of a known name, with the arguments that numpy writes."""
        function, arguments = self.pop(2)
        value = self.call(function, arguments) if isinstance(arguments, tuple) else None
        if value is None:
            raise self.bad("a call with which numpy writes a number array", "REDUCE of something else")
        self.stack.append(value)

    def build(self) -> None:
        """BUILD: the state of a new array or number type."""
        value, state = self.pop(2)
        if not isinstance(value, (Array, Dtype)) or not isinstance(state, tuple) or not self.state(value, state):
            raise self.bad("a new array or number type and the state that numpy writes for it", "BUILD with another")
        if value.slot >= 0:
            self.memo_offsets[value.slot], self.memo_forms[value.slot] = self._shared_place(value)
        self.stack.append(value)

    # What can be referred to again

    def put(self, number: int) -> None:
        """PUT, MEMOIZE: remember the value on top, if it is one that picklers refer to again."""
        if not self.stack:
            raise self.bad("a value to memoise", "an empty stack")
        if number < self.memo_next or self._last_put == self.at:
            raise self.bad("each value memoised once, under rising numbers", f"memo number {number} here")
        self._last_put = self.pos
        self.memo_next, self.memo_count = number + 1, self.memo_count + 1
        value = self.stack[-1]
        offset, form = self._shared_place(value)
        if not form:
            if not isinstance(value, (Array, Dtype)):
                return
            if value.slot >= 0:
                raise self.bad("each value memoised once", "one that was memoised before")
            value.slot = len(self.memo_numbers)
        self.memo_numbers.append(number)
        self.memo_offsets.append(offset)
        self.memo_forms.append(form)
        self.check_room()

    def get(self, number: int) -> None:
        """GET: what was memoised, if it was a thing that can be shared."""
        place = bisect_left(self.memo_numbers, number)
        known = place < len(self.memo_numbers) and self.memo_numbers[place] == number
        form = self.memo_forms[place] if known else 0
        if not form:
            found = f"memo number {number}, which stands for something else, or for nothing yet"
            raise self.bad("a reference to a number array, a number type, a known name or a short text", found)
        self.stack.append(Array(self.memo_offsets[place], form) if form > 0 else self._shared[-form])

    def _shared_place(self, value: object) -> tuple[int, int]:
        """Offset and form of an array; 0 and less than 0 for what else picklers refer to; else 0 and 0."""
        key: object = None
        match value:
            case Array():
                return value.offset, value.form
            case Dtype(dtype=dtype) if dtype is not None:
                key = dtype.str
            case Text() if value.size <= 1 or (not value.is_bytes and value.short in SHARED_TEXTS):
                key = value.is_text, value.is_bytes, value.op == ord("X"), value.short
            case Latin1(text) if text.size <= 2:  # one byte
                key = Latin1, text.short
            case Name() if value in NAMES.values():
                key = value
        if key is None:
            return 0, 0
        place = self._shared_places.setdefault(key, len(self._shared))  # equal values share one
        if place == len(self._shared):
            self._shared.append(value)
        return 0, -place


_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_OPCODES: dict[int, Callable[[Machine], None]] = {
    ord("J"): lambda m: m.stack.append(m.number(4, signed=True)),
    ord("K"): lambda m: m.stack.append(m.number(1)),
    ord("M"): lambda m: m.stack.append(m.number(2)),
    ord("I"): Machine.int_line,
    0x8A: Machine.long1,
    ord("N"): lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(Name.TRUE),
    0x89: lambda m: m.stack.append(Name.FALSE),
    ord(")"): lambda m: m.stack.append(()),
    ord("("): Machine.mark,
    ord("t"): lambda m: m.tuple_of(m.to_mark()),
    0x85: lambda m: m.tuple_of(m.pop(1)),
    0x86: lambda m: m.tuple_of(m.pop(2)),
    0x87: lambda m: m.tuple_of(m.pop(3)),
    ord("]"): lambda m: m.stack.append([]),
    ord("a"): lambda m: m.append(m.pop(1)),
    ord("e"): lambda m: m.append(m.to_mark()),
    ord("}"): Machine.empty_dict,
    ord("s"): lambda m: m.set_items(m.pop(2)),
    ord("u"): lambda m: m.set_items(m.to_mark()),
    ord("q"): lambda m: m.put(m.number(1)),
    ord("r"): lambda m: m.put(m.number(4)),
    0x94: lambda m: m.put(m.memo_count),  # which is too low where PUT has left out a number
    ord("h"): lambda m: m.get(m.number(1)),
    ord("j"): lambda m: m.get(m.number(4)),
    ord("c"): lambda m: m.stack.append(m.find_name(m.line(), m.line())),
    0x93: Machine.stack_global,
    ord("R"): Machine.reduce,
    ord("b"): Machine.build,
    0x95: Machine.open_frame,
    ord("."): Machine.stop,
}
for _width, _ops in {1: b"UC\x8c", 4: b"TBX", 8: b"\x8d\x8e\x96"}.items():  # bytes of the length of a literal
    for _op in _ops:
        _OPCODES[_op] = partial(Machine.literal, op=_op, width=_width)
