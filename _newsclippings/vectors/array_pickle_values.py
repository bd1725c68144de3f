"""What a pickle of number arrays is made of: limits, names, values, and the few calls with which numpy writes arrays.

Values are descriptions of what stands in the file and where. Nothing that the file names is imported, looked up or
called: names are compared with the ten below. Only short literals are copied, so that what is held is bounded by the
limits below and not by the lengths that the file claims.
"""

from dataclasses import dataclass
from enum import Enum
from io import FileIO
from math import prod

import numpy as np

from _newsclippings.vectors.array_pickle_window import MAX_NAME, Window

MAX_ARRAY = 64 << 20  # bytes
MAX_DIMENSIONS = 4
MAX_FORMS = 65_536
NONE, LIST = 0, 1  # the first two forms


class Name(Enum):
    """What the names in the file stand for; the dict itself; and booleans, which must not be taken for integers."""

    RECONSTRUCT, NDARRAY, DTYPE, SCALAR, FROMBUFFER, ENCODE, BYTES, TOP, TRUE, FALSE = range(10)


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
_FLAGS = 0, 1, Name.FALSE, Name.TRUE


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
    """A literal: where its bytes lie, the opcode that wrote it, and a short one's bytes.

    A str of Python 2 is neither text nor bytes.
    """

    offset: int
    size: int
    op: int
    short: bytes = b""

    @property
    def is_text(self) -> bool:
        """Written by BINUNICODE and the like."""
        return self.op in b"X\x8c\x8d"

    @property
    def is_bytes(self) -> bool:
        """Written by BINBYTES, BYTEARRAY8 and the like."""
        return self.op in b"BC\x8e\x96"


@dataclass(frozen=True)
class Latin1:
    """Bytes written as text."""

    text: Text


@dataclass(eq=False)
class Dtype:
    """A number type; without its byte order (dtype None) until its state is known."""

    code: bytes
    dtype: np.dtype | None = None
    slot: int = -1  # in the memo


@dataclass(eq=False)
class Array:
    """A number array; form 0 until its state is known."""

    offset: int = 0
    form: int = 0
    slot: int = -1  # in the memo


def content(value: object) -> bytes:
    """The bytes of a short literal; none of anything else."""
    return value.short if isinstance(value, Text) else b""


def latin1_bytes(text: bytes) -> bytes | None:
    """The bytes that UTF-8 text stands for, if it is Latin-1."""
    try:
        return text.decode("utf-8").encode("latin-1")
    except UnicodeError:
        return None


class Calls(Window):
    """What numpy's calls make, found by looking at their arguments.

    A call gives None where its arguments are not the ones that numpy writes.
    """

    def __init__(self, path: str, file: FileIO, size: int) -> None:
        super().__init__(path, file, size)
        self.quiet = 0  # opcodes since the last entry or array
        self.form_table: list[Form | None] = [None, None]
        self.scalar_data: tuple[int, np.dtype] | None = None  # where the last integer of numpy lies
        self._form_numbers: dict[Form, int] = {}

    def text(self, op: int, size: int) -> Text:
        """A literal of the next `size` bytes."""
        start = self.take(size)
        short = self.data[start - self.base : self.pos - self.base] if size <= MAX_NAME else b""
        return Text(start, size, op, short)

    def decoded(self, text: Text) -> bytes:
        """Bytes written as text."""
        data = latin1_bytes(self.part(text.offset, text.offset + text.size))
        if data is None:
            raise self.bad("bytes as Latin-1 text", "other text")
        return data

    def find_name(self, module: bytes, name: bytes) -> Name:
        """One of the names that numpy writes."""
        known = NAMES.get((module, name))
        if known is None:
            shown = "".join(chr(c) if 32 < c < 127 else "?" for c in b".".join((module, name))[:80])
            torch = "Nothing was executed. Is it a file of PyTorch? Convert it to numpy arrays, where you trust it."
            do = torch if module.startswith(b"torch") else ""
            raise self.bad("the names with which numpy writes number arrays", f"the name {shown}", do)
        return known

    def call(self, function: object, arguments: tuple[object, ...]) -> object:
        """REDUCE of one of the names."""
        match function, arguments:
            case Name.RECONSTRUCT, (Name.NDARRAY, (0,), letter):
                letter = letter.text if isinstance(letter, Latin1) else letter
                return Array() if content(letter) == b"b" else None
            case Name.DTYPE, (code, align, copy) if align in _FLAGS and copy in _FLAGS:
                if content(code) not in DTYPES:
                    raise self.bad("a number type, such as f4", "the name of another type")
                return Dtype(content(code))
            case Name.FROMBUFFER, (data, dtype, shape, order) | (data, dtype, shape, order, None):
                letter = content(order)
                return self.place(dtype, shape, letter.decode(), data) if letter in (b"C", b"F") else None
            case Name.FROMBUFFER, (data, dtype, shape, order, tuple(axes)) if content(order) == b"K":
                return self.place(dtype, shape, "K", data, axes)  # since numpy 2.3
            # of the opcodes for text, the protocols that need this have BINUNICODE only
            case Name.ENCODE, (Text(op=0x58) as text, codec) if content(codec) == b"latin1":
                return Latin1(text)
            case Name.BYTES, ():
                return Text(self.at, 0, ord("C"))
            case Name.SCALAR, (Dtype(dtype=dtype), raw) if dtype is not None and dtype.kind in "iu":
                return self.scalar(dtype, raw)
        return None

    def scalar(self, dtype: np.dtype, raw: object) -> int | None:
        """An integer of numpy, as a key."""
        self.scalar_data, data = None, b""
        if isinstance(raw, Latin1) and raw.text.size <= 16:
            data = self.decoded(raw.text)
        elif isinstance(raw, Text) and not raw.is_text:
            data, self.scalar_data = content(raw), (raw.offset, dtype)
        return int(np.frombuffer(data, dtype)[0]) if len(data) == dtype.itemsize else None

    def state(self, value: object, state: tuple[object, ...]) -> bool:
        """BUILD of a new array or number type; returns whether the state is one that numpy writes."""
        match value, state:
            case Array(form=0) as new, (1, shape, dtype, fortran, data) if fortran in _FLAGS:
                made = self.place(dtype, shape, "F" if fortran in (1, Name.TRUE) else "C", data)
                new.offset, new.form = made.offset, made.form
                return True
            case Dtype(dtype=None) as kind, (3 | 4, letter, None, None, None, -1, -1, 0):
                order = content(letter)
                if order in (b"<", b">", b"=") or (order == b"|" and kind.code[1:] == b"1"):
                    kind.dtype = np.dtype((order + kind.code).decode())
                return kind.dtype is not None
        return False

    def place(
        self, dtype: object, shape: object, order: str, data: object, axes: tuple[object, ...] | None = None
    ) -> Array:
        """An array, once its shape and its bytes agree."""
        if not isinstance(dtype, Dtype) or dtype.dtype is None:
            raise self.bad("a number type of the array", "something else")
        if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
            raise self.bad(f"a shape of at most {MAX_DIMENSIONS} dimensions", "something else")
        sizes = tuple(size for size in shape if isinstance(size, int) and 0 <= size <= MAX_ARRAY)
        # without the zeros, because numpy refuses to make an array of (0, 2**40, 2**40)
        if len(sizes) != len(shape) or prod(size or 1 for size in sizes) * dtype.dtype.itemsize > MAX_ARRAY:
            raise self.bad(f"a shape of at most {MAX_ARRAY} bytes", "another shape")
        need = prod(sizes) * dtype.dtype.itemsize
        text = data.text if isinstance(data, Latin1) else data
        if not isinstance(text, Text) or (text is data and text.is_text):
            raise self.bad("the bytes of the array", "something else")
        # a byte is one or two of UTF-8: what cannot be right is not decoded
        have = len(self.decoded(text)) if text is not data and text.size <= 2 * need else text.size
        if have != need:
            raise self.bad(f"the {need} bytes that an array of its shape and type has", f"{have}")
        kept = tuple(n for n in axes or () if isinstance(n, int))
        if axes is not None and (len(axes) != len(shape) or sorted(kept) != list(range(len(shape)))):
            raise self.bad("the order of the axes of the array", "something else")
        form = Form(dtype.dtype, tuple(sizes[n] for n in kept) if kept else sizes, order, text is not data, kept)
        number = self._form_numbers.setdefault(form, len(self.form_table))
        if number == len(self.form_table):
            self.form_table.append(form)
            if number > MAX_FORMS:
                raise self.bad(f"at most {MAX_FORMS} shapes of arrays", "more")
        self.quiet = 0
        return Array(text.offset if need else 0, number)
