"""The meaning of the few calls in a pickle of number arrays, and the memo through which they share what they make."""

from array import array
from bisect import bisect_left
from math import prod
from mmap import mmap

import numpy as np

from _newsclippings.array_pickle_values import (
    DTYPES,
    MAX_ARRAY,
    MAX_DIMENSIONS,
    MAX_FORMS,
    MAX_MEMO,
    SHARED_TEXTS,
    Array,
    Dtype,
    Form,
    Latin1,
    Name,
    Source,
    Text,
)

Arguments = tuple[object, ...]


class Calls(Source):
    """What numpy's calls make, found by looking at their arguments. None: these are not the ones that numpy writes."""

    def reconstruct(self, arguments: Arguments) -> Array | None:
        """`_reconstruct(ndarray, (0,), b"b")`: an array whose state follows."""
        if len(arguments) != 3 or arguments[0] is not Name.NDARRAY or not _same(arguments[1], (0,)):
            return None
        letter = arguments[2].text if isinstance(arguments[2], Latin1) else arguments[2]
        return Array() if self.content(letter) == b"b" else None

    def dtype(self, arguments: Arguments) -> Dtype | None:
        """`dtype("f4", False, True)`: a number type whose state follows."""
        if len(arguments) != 3 or not all(type(flag) in (bool, int) and flag in (0, 1) for flag in arguments[1:]):
            return None
        code = self.content(arguments[0])
        if code not in DTYPES:
            raise self.bad("a number type, such as f4", "the name of another type")
        return Dtype(code)

    def frombuffer(self, arguments: Arguments) -> Array | None:
        """`_frombuffer(data, dtype, shape, order)`, and the axes of a transposed array since numpy 2.3."""
        if len(arguments) not in (4, 5):
            return None
        order, axes = self.content(arguments[3]), arguments[4] if len(arguments) == 5 else None
        if order == b"K" and isinstance(axes, tuple):
            return Array(*self.place(arguments[1], arguments[2], "K", arguments[0], axes))
        if order not in (b"C", b"F") or axes is not None:
            return None
        return Array(*self.place(arguments[1], arguments[2], order.decode(), arguments[0]))

    def encode(self, arguments: Arguments) -> Latin1 | None:
        """`_codecs.encode(text, "latin1")`."""
        text = arguments[0] if arguments else None
        # of the opcodes for text, the protocols that need this have BINUNICODE only
        if not isinstance(text, Text) or text.op != ord("X") or len(arguments) != 2:
            return None
        return Latin1(text) if self.content(arguments[1]) == b"latin1" else None

    def no_bytes(self, arguments: Arguments) -> Text | None:
        """`bytes()`."""
        return None if arguments else Text(self.at, 0, 0, "bytes")

    def scalar(self, arguments: Arguments) -> int | None:
        """`scalar(dtype, bytes)`: an integer of numpy, as a key."""
        if len(arguments) != 2 or not isinstance(arguments[0], Dtype):
            return None
        dtype, raw = arguments[0].dtype, arguments[1]
        if dtype is None or dtype.kind not in "iu":
            return None
        self.scalar_data = None
        if isinstance(raw, Latin1) and raw.text.size <= 16:
            data = self.decoded(raw.text)
        elif isinstance(raw, Text) and raw.kind != "text":
            data, self.scalar_data = self.content(raw), (raw.offset, dtype)
        else:
            return None
        return int(np.frombuffer(data, dtype)[0]) if len(data) == dtype.itemsize else None

    def array_state(self, array: Array, state: object) -> bool:
        """`(1, shape, dtype, is_fortran, data)`; returns whether it is that."""
        if not isinstance(state, tuple) or len(state) != 5 or not _same(state[0], 1):
            return False
        if type(state[3]) not in (bool, int) or state[3] not in (0, 1):
            return False
        array.offset, array.form = self.place(state[2], state[1], "F" if state[3] else "C", state[4])
        return True

    def dtype_state(self, value: Dtype, state: object) -> bool:
        """`(3, "<", None, None, None, -1, -1, 0)`; returns whether it is that."""
        if not isinstance(state, tuple) or len(state) != 8 or type(state[0]) is not int or state[0] not in (3, 4):
            return False
        order = self.content(state[1])
        if not _same(state[2:], (None, None, None, -1, -1, 0)) or order not in (b"<", b">", b"|", b"="):
            return False
        if order == b"|" and value.code[1:] != b"1":
            return False
        value.dtype = np.dtype((order + value.code).decode())
        return True

    def place(
        self, dtype: object, shape: object, order: str, data: object, axes: Arguments | None = None
    ) -> tuple[int, int]:
        """Where an array lies and the number of its form, once its shape and its bytes agree."""
        if not isinstance(dtype, Dtype) or dtype.dtype is None:
            raise self.bad("a number type of the array", "something else")
        if not isinstance(shape, tuple) or len(shape) > MAX_DIMENSIONS:
            raise self.bad(f"a shape of at most {MAX_DIMENSIONS} dimensions", "something else")
        sizes = [size for size in shape if type(size) is int and 0 <= size <= MAX_ARRAY]
        # without the zeros, because numpy refuses to make an array of (0, 2**40, 2**40)
        if len(sizes) != len(shape) or prod(size or 1 for size in sizes) * dtype.dtype.itemsize > MAX_ARRAY:
            raise self.bad(f"a shape of at most {MAX_ARRAY} bytes", "another shape")
        need = prod(sizes) * dtype.dtype.itemsize
        text = data.text if isinstance(data, Latin1) else data
        if not isinstance(text, Text) or (text is data and text.kind == "text"):
            raise self.bad("the bytes of the array", "something else")
        # a byte is one or two of UTF-8: what cannot be right is not decoded
        have = len(self.decoded(text)) if text is not data and text.size <= 2 * need else text.size
        if have != need:
            raise self.bad(f"the {need} bytes that an array of its shape and type has", f"{have}")
        kept = tuple(n for n in axes or () if type(n) is int)
        if axes is not None and (len(axes) != len(shape) or sorted(kept) != list(range(len(shape)))):
            raise self.bad("the order of the axes of the array", "something else")
        form = Form(dtype.dtype, tuple(sizes[n] for n in kept) if kept else tuple(sizes), order, text is not data, kept)
        number = self._form_numbers.setdefault(form, len(self.form_table))
        if number == len(self.form_table):
            self.form_table.append(form)
            if number > MAX_FORMS:
                raise self.bad(f"at most {MAX_FORMS} shapes of arrays", "more")
        return text.offset if need else 0, number


class Memo(Calls):
    """The stack, and what was on it that picklers refer to again: all else is forgotten."""

    def __init__(self, path: str, data: mmap) -> None:
        super().__init__(path, data)
        self.stack: list[object] = []
        # Memo numbers rise, so that they can be searched. Form < 0: a place in `_shared`; 0: an unfinished value.
        self.memo_next = self.memo_count = 0
        self.memo_numbers, self.memo_offsets, self.memo_forms = array("Q"), array("q"), array("i")
        self._shared: list[object] = [None]
        self._shared_places: dict[object, int] = {}
        self._last_put = -1  # where the last PUT ended

    def put(self, number: int) -> None:
        """PUT: remember the value on top, if it is one that picklers refer to again."""
        if not self.stack:
            raise self.bad("a value to memoise", "an empty stack")
        if number < self.memo_next or self._last_put == self.at:
            raise self.bad("each value memoised once, under rising numbers", f"memo number {number} here")
        self._last_put = self.pos
        self.memo_next, self.memo_count = number + 1, self.memo_count + 1
        value = self.stack[-1]
        offset = form = 0
        if isinstance(value, Array):
            offset, form = value.offset, value.form
        elif not isinstance(value, Dtype) or value.dtype:
            form = self._shared_form(value)
            if not form:
                return
        if not form and isinstance(value, (Array, Dtype)):
            if value.remembered >= 0:
                raise self.bad("each value memoised once", "one that was memoised before")
            value.remembered = len(self.memo_numbers)
        if len(self.memo_numbers) >= MAX_MEMO:
            raise self.bad(f"at most {MAX_MEMO} memoised values", "more")
        self.memo_numbers.append(number)
        self.memo_offsets.append(offset)
        self.memo_forms.append(form)

    def memoize(self) -> None:
        """MEMOIZE: PUT under the number of values memoised so far."""
        if self.memo_count != self.memo_next:
            raise self.bad("PUT opcodes with numbers, as before", "MEMOIZE")
        self.put(self.memo_count)

    def get(self, number: int) -> None:
        """GET: what was memoised, if it was a thing that can be shared."""
        value = self.memoised(number)
        if value is None:
            found = f"memo number {number}, which stands for something else, or for nothing yet"
            raise self.bad("a reference to a number array, a number type, a known name or a short text", found)
        self.stack.append(value)

    def memoised(self, number: int) -> object:
        """What was memoised under a number; None if it cannot be shared, or is not finished."""
        place = bisect_left(self.memo_numbers, number)
        if place == len(self.memo_numbers) or self.memo_numbers[place] != number:
            return None
        form = self.memo_forms[place]
        return Array(self.memo_offsets[place], form) if form > 0 else self._shared[-form]

    def _shared_form(self, value: object) -> int:
        """The place of a value that picklers refer to, as a negative form; equal values share one. 0: no such value."""
        key: object = value
        if isinstance(value, Dtype) and value.dtype:
            key = value.dtype.str
        elif isinstance(value, Text):
            content = self.content(value)
            if value.size > 1 and (value.kind == "bytes" or content not in SHARED_TEXTS):
                return 0
            key = (value.kind, value.op == ord("X"), content)
        elif isinstance(value, Latin1) and value.text.size <= 2:  # one byte
            key = (Latin1, self.content(value.text))
        elif not isinstance(value, Name):
            return 0
        place = self._shared_places.setdefault(key, len(self._shared))
        if place == len(self._shared):
            self._shared.append(value)
        return -place


def _same(found: object, expected: object) -> bool:
    """Equal and of the same types, all the way down: False is not 0 here."""
    if isinstance(found, tuple) and isinstance(expected, tuple):
        return len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and found == expected
