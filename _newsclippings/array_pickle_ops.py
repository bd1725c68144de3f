"""A pickle machine that knows number arrays and nothing else: the exact, slow half of `array_pickle`.

Opcodes that no pickler needs to write a dict of number arrays are refused by name.
"""

from collections.abc import Callable
from functools import partial
from mmap import mmap

from _newsclippings.array_pickle_calls import Memo
from _newsclippings.array_pickle_values import (
    MAX_LIST,
    MAX_MARKS,
    MAX_NAME,
    MAX_QUIET,
    MAX_STACK,
    MAX_TUPLE,
    NAMES,
    Array,
    Dtype,
    Name,
    Text,
)


class Machine(Memo):
    """The marks and the flow of one pickle, with a method for each kind of opcode."""

    def __init__(self, path: str, data: mmap) -> None:
        super().__init__(path, data)
        self.done = False
        self.marks: list[list[object]] = []  # the stacks below each MARK

    def step(self) -> None:
        """Execute one opcode."""
        if self.framed and self.pos == self.end:
            self.end, self.framed = self.size, False
        self.at = self.pos
        op = self.data[self.take(1)]
        act = _OPCODES.get(op)
        if act is None:
            found = _REFUSED.get(op, f"the byte 0x{op:02x}, which is no opcode")
            raise self.bad("only opcodes that make a dict of number arrays", found)
        act(self)
        self.quiet += 1
        if self.quiet > MAX_QUIET:
            raise self.bad("an entry", f"{MAX_QUIET} opcodes without one")
        if len(self.stack) > MAX_STACK:
            raise self.bad(f"at most {MAX_STACK} values at a time", "more")

    def open_frame(self) -> None:
        """FRAME."""
        if self.framed:
            raise self.bad("the end of the frame", "a frame inside it")
        size = self.number(8)
        start = self.take(size)
        self.pos, self.end, self.framed = start, start + size, True

    def stop(self) -> None:
        """STOP: must be the end of the file."""
        if self.marks or self.stack != [Name.TOP]:
            raise self.bad("one dict", "STOP with something else, or more")
        if self.pos != self.size:
            raise self.bad("the end of the file after STOP", f"{self.size - self.pos} more bytes")
        self.done = True

    # Numbers, literals, tuples, lists, the dict

    def literal(self, op: int, width: int, kind: str) -> None:
        """BINBYTES, BINUNICODE, BINSTRING, ..."""
        size = self.number(width)
        self.stack.append(Text(self.take(size), size, op, kind))

    def integer(self, width: int, signed: bool = False) -> None:
        """BININT, ..."""
        self.stack.append(self.number(width, signed))

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

    def constant(self, value: object) -> None:
        """NONE, NEWTRUE, NEWFALSE, EMPTY_TUPLE."""
        self.stack.append(value)

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
        """TUPLE, TUPLE1, ...: of plain values and of tuples of integers (shapes)."""
        if len(values) > MAX_TUPLE:
            raise self.bad(f"a tuple of at most {MAX_TUPLE}", f"one of {len(values)}")
        for value in values:
            if isinstance(value, tuple) and not all(type(n) is int for n in value):
                raise self.bad("a tuple of integers within a tuple", "deeper nesting")
        self.stack.append(tuple(values))

    def empty_list(self) -> None:
        """EMPTY_LIST."""
        self.stack.append([])

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
        for k in range(0, len(values), 2):
            self.add(values[k], values[k + 1])

    # Names, and the few calls that are understood

    def global_line(self) -> None:
        """GLOBAL: a name on two lines."""
        self.find_name(self.line(MAX_NAME), self.line(MAX_NAME))

    def stack_global(self) -> None:
        """STACK_GLOBAL: a name from two texts."""
        pair = self.pop(2)
        if not all(isinstance(text, Text) and text.kind == "text" for text in pair):
            raise self.bad("two texts before STACK_GLOBAL", "something else")
        self.find_name(self.content(pair[0], MAX_NAME), self.content(pair[1], MAX_NAME))

    def find_name(self, module: bytes, name: bytes) -> None:
        """One of the names that numpy writes."""
        known = NAMES.get((module, name))
        if known is None:
            shown = "".join(chr(c) if 32 < c < 127 else "?" for c in b".".join((module, name))[:80])
            torch = "Nothing was executed. Is it a file of PyTorch? Convert it to numpy arrays, where you trust it."
            do = torch if module.startswith(b"torch") else ""
            raise self.bad("the names with which numpy writes number arrays", f"the name {shown}", do)
        self.stack.append(known)

    def reduce(self) -> None:
        """REDUCE: of a known name, with the arguments that numpy writes."""
        function, arguments = self.pop(2)
        call = _CALLS.get(function) if isinstance(function, Name) else None
        if call is None or not isinstance(arguments, tuple):
            raise self.bad("a call with which numpy writes a number array", "REDUCE of something else")
        value = call(self, arguments)
        if value is None:
            raise self.bad("the arguments that numpy writes", "REDUCE with others")
        if isinstance(value, Array) and value.form:
            self.quiet = 0
        self.stack.append(value)

    def build(self) -> None:
        """BUILD: the state of a new array or number type."""
        value, state = self.pop(2)
        if isinstance(value, Array) and not value.form:
            good, self.quiet = self.array_state(value, state), 0
        elif isinstance(value, Dtype) and not value.dtype:
            good = self.dtype_state(value, state)
        else:
            raise self.bad("a new array or number type before BUILD", "something else")
        if not good:
            raise self.bad("the state that numpy writes for a number array", "BUILD with another")
        if isinstance(value, (Array, Dtype)) and value.remembered >= 0:
            form = value.form if isinstance(value, Array) else self._shared_form(value)
            self.memo_forms[value.remembered] = form
            self.memo_offsets[value.remembered] = value.offset if isinstance(value, Array) else 0
        self.stack.append(value)


_CALLS: dict[Name, Callable[[Machine, tuple[object, ...]], object]] = {
    Name.RECONSTRUCT: Machine.reconstruct,
    Name.DTYPE: Machine.dtype,
    Name.FROMBUFFER: Machine.frombuffer,
    Name.ENCODE: Machine.encode,
    Name.BYTES: Machine.no_bytes,
    Name.SCALAR: Machine.scalar,
}

_OPCODES: dict[int, Callable[[Machine], None]] = {
    ord("J"): lambda m: m.integer(4, signed=True),
    ord("K"): lambda m: m.integer(1),
    ord("M"): lambda m: m.integer(2),
    ord("I"): Machine.int_line,
    0x8A: Machine.long1,
    ord("N"): lambda m: m.constant(None),
    0x88: lambda m: m.constant(True),
    0x89: lambda m: m.constant(False),
    ord(")"): lambda m: m.constant(()),
    ord("("): Machine.mark,
    ord("t"): lambda m: m.tuple_of(m.to_mark()),
    0x85: lambda m: m.tuple_of(m.pop(1)),
    0x86: lambda m: m.tuple_of(m.pop(2)),
    0x87: lambda m: m.tuple_of(m.pop(3)),
    ord("]"): Machine.empty_list,
    ord("a"): lambda m: m.append(m.pop(1)),
    ord("e"): lambda m: m.append(m.to_mark()),
    ord("}"): Machine.empty_dict,
    ord("s"): lambda m: m.set_items(m.pop(2)),
    ord("u"): lambda m: m.set_items(m.to_mark()),
    ord("q"): lambda m: m.put(m.number(1)),
    ord("r"): lambda m: m.put(m.number(4)),
    0x94: Machine.memoize,
    ord("h"): lambda m: m.get(m.number(1)),
    ord("j"): lambda m: m.get(m.number(4)),
    ord("c"): Machine.global_line,
    0x93: Machine.stack_global,
    ord("R"): Machine.reduce,
    ord("b"): Machine.build,
    0x95: Machine.open_frame,
    ord("."): Machine.stop,
}
# opcode: bytes of its length, what it writes
for _op, (_width, _kind) in {
    ord("U"): (1, "either"),
    ord("T"): (4, "either"),
    ord("C"): (1, "bytes"),
    ord("B"): (4, "bytes"),
    0x8E: (8, "bytes"),
    0x96: (8, "bytes"),
    0x8C: (1, "text"),
    ord("X"): (4, "text"),
    0x8D: (8, "text"),
}.items():
    _OPCODES[_op] = partial(Machine.literal, op=_op, width=_width, kind=_kind)

_REFUSED = dict(
    zip(
        b"012FGLPQSVdgilop\x80\x81\x82\x83\x84\x8b\x8f\x90\x91\x92\x97\x98",
        [
            "POP",
            "POP_MARK",
            "DUP",
            "FLOAT",
            "BINFLOAT",
            "LONG",
            "PERSID",
            "BINPERSID",
            "STRING",
            "UNICODE",
            "DICT",
            "GET",
            "INST",
            "LIST",
            "OBJ",
            "PUT",
            "PROTO",
            "NEWOBJ",
            "EXT1",
            "EXT2",
            "EXT4",
            "LONG4",
            "EMPTY_SET",
            "ADDITEMS",
            "FROZENSET",
            "NEWOBJ_EX",
            "NEXT_BUFFER",
            "READONLY_BUFFER",
        ],
        strict=True,
    )
)
