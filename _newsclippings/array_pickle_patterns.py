"""The fast half of `array_pickle`: keys and arrays that look just like an earlier one are told by comparing bytes.

In a big file they differ in their numbers and in the memo numbers, which count up. What the machine would make of such
a stretch follows from what it made of the first one, because all else in it is the same and memo numbers are never
written twice.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from mmap import mmap
from operator import itemgetter
from typing import Any

from _newsclippings.array_pickle_ops import Machine
from _newsclippings.array_pickle_values import LONGEST_SHARED, MAX_LIST, MAX_MEMO, NONE, SHARED_TEXTS, Array

MAX_PATTERNS = 16
MAX_LEARNT = 1000  # patterns ever made, so that a file of nothing alike costs little more than without them
_MEMOIZE, _BINPUT, _LONG_BINPUT, _FRAME, _NONE = 0x94, ord("q"), ord("r"), 0x95, ord("N")
_CONTINUES = bytes([_MEMOIZE, _BINPUT, _LONG_BINPUT]) + b"Rb"  # opcodes that do more to the value before them
_KEYS = {ord("J"): struct.Struct("<xi"), ord("M"): struct.Struct("<xH"), ord("K"): struct.Struct("<xB")}
_GETS = {ord("h"): struct.Struct("<xB"), ord("j"): struct.Struct("<xI")}
_MAY_CONTINUE = frozenset(_CONTINUES) | {_FRAME}
_INTEGERS = b"JMKI\x8a"
_SHARED_SIZES = frozenset(map(len, SHARED_TEXTS)) | {0, 1}

Fields = tuple[Any, ...]


def _goes_on(data: mmap, pos: int) -> bool:
    """Whether the opcode at `pos`, or behind the start of a frame there, does more to the value before it."""
    if data[pos] == _FRAME:
        pos += 9
    return pos >= len(data) or data[pos] in _CONTINUES


@dataclass(frozen=True)
class Pattern:
    """A key or an array as bytes: texts that stay the same and memo numbers that count up, around its numbers.

    Attributes:
        head, tail: the fields before and after the numbers if these are text (the last one before is its size); else
            all fields, and none.
        texts: picks the texts out of the fields, which must be equal to `expected`.
        counts: picks the memo numbers out of the fields, if they are written down.
        start: of the numbers in these bytes; offset: in the file, if they are not among these bytes (another array has
            them too, or there are none), else -1.
        latin1: how many bytes the text must decode to, or 0.
        memos: how many values are memoised; `kept` are ranks and forms of those that can be referred to.
        form: of the array, or 0.
        key: how to read the key, or None.
    """

    head: struct.Struct
    tail: struct.Struct
    texts: Callable[[Fields], Fields]
    expected: Fields
    counts: Callable[[Fields], Fields] | None
    start: int
    offset: int
    latin1: int
    memos: int
    kept: tuple[tuple[int, int], ...]
    form: int
    key: struct.Struct | None

    def match(self, data: mmap, start: int, end: int, memo: int) -> tuple[int, int] | None:
        """Where the numbers begin and where it all ends, if these bytes stand at `start`."""
        stop = start + self.head.size
        if stop > end:
            return None
        fields: Fields = self.head.unpack_from(data, start)
        if self.latin1:
            size, tail = fields[-1], stop + fields[-1]
            stop = tail + self.tail.size
            if size > 2 * self.latin1 or stop > end:
                return None
            fields += self.tail.unpack_from(data, tail)
        if self.texts(fields) != self.expected or stop == len(data):
            return None
        if self.counts and self.counts(fields) != tuple(range(memo, memo + self.memos)):
            return None
        if data[stop] in _MAY_CONTINUE and _goes_on(data, stop):
            return None
        if self.latin1:
            try:
                if len(data[start + self.start : tail].decode("utf-8").encode("latin-1")) != self.latin1:
                    return None
            except UnicodeError:
                return None
        return start + self.start if self.offset < 0 else self.offset, stop


def _pick(places: list[int]) -> Callable[[Fields], Fields]:
    """Picks fields, always as a tuple."""
    return itemgetter(*places) if len(places) > 1 else lambda fields: (fields[places[0]],)


class Walk(Machine):
    """The machine, and the short cut past what looks like something earlier."""

    def __init__(self, path: str, data: mmap, patterns: bool) -> None:
        super().__init__(path, data)
        self._short_cuts, self._learnable = patterns, MAX_LEARNT
        self._arrays: list[Pattern] = []  # the last used first
        self._keys: list[Pattern] = []
        # of the key or value that the machine is at: its opcodes, the depth and height of the stack and the memo before
        self._trace: list[tuple[int, int]] = []
        self._place = (0, 0)
        self._memo = self._kept = 0

    def run(self) -> Iterator[None]:
        """Walk the file; comes up for air after every batch of entries."""
        while not self.done:
            if self.marks and self.pos < self.size:
                if len(self.marks) == 1 == len(self.marks[0]):
                    self._in_dict()
                elif self.marks[-1] and isinstance(self.marks[-1][-1], list):
                    self._in_list()
            self.step()
            self._trace.append((self.at, self.pos))
            if not self.marks:
                yield

    def _in_dict(self) -> None:
        """Between the entries of the dict, or within one: take a finished one and skip what is known."""
        stack = self.stack
        if len(stack) == 1:
            if type(stack[0]) is not int or _goes_on(self.data, self.pos):
                return
            if self._place == (1, 0) and len(self._trace) > 1:
                self._learn_key()
        elif len(stack) == 2:
            value = stack[1]
            if isinstance(value, list):
                if self.data[self.pos] not in _INTEGERS:  # there may be more of it
                    return
            elif not self._finished(value):
                return
            elif self._place == (1, 1):
                self._learn_array(value)
            self.add(*stack)
            stack.clear()
        elif stack:
            return
        if self._short_cuts:
            self._skip_entries()
        self._begin()

    def _in_list(self) -> None:
        """Between the arrays of a list, or within one."""
        depth, height = self._place
        if depth == len(self.marks) and len(self.stack) > height:
            if len(self.stack) > height + 1 or not self._finished(self.stack[-1]):
                return
            self._learn_array(self.stack[-1])
        while self._short_cuts and len(self.stack) <= MAX_LIST and (found := self._known_array(self.pos)):
            offset, form, self.pos = found
            self.stack.append(Array(offset, form))
        self._begin()

    def _finished(self, value: object) -> bool:
        return (value is None or (isinstance(value, Array) and value.form > 0)) and not _goes_on(self.data, self.pos)

    def _begin(self) -> None:
        self._trace.clear()
        self._place = len(self.marks), len(self.stack)
        self._memo, self._kept = self.memo_next, len(self.memo_numbers)

    def _skip_entries(self) -> None:
        """Take entries of known patterns; the key of the first one may be on the stack."""
        data = self.data
        key = self.stack.pop() if self.stack else self._known_key()
        while key is not None:
            start = self.pos
            if start + 1 < self.end and data[start] == _NONE and not _goes_on(data, start + 1):
                self.pos += 1
                self.enter(key, 0, NONE)
            elif found := self._known_array(start):
                offset, form, self.pos = found
                self.enter(key, offset, form)
            else:
                self.stack.append(key)
                return
            key = self._known_key()

    def _known_key(self) -> object:
        """The key at this place, if it is a small integer or has a known pattern; the machine is then after it."""
        start = self.pos
        integer = _KEYS.get(self.data[start]) if start + 5 < self.end else None
        if integer is not None:
            self.pos += integer.size
            return integer.unpack_from(self.data, start)[0]
        if self._keys and (found := self._match(self._keys, start)):
            pattern, offset, self.pos = found
            return pattern.key.unpack_from(self.data, offset)[0] if pattern.key else None
        return None

    def _known_array(self, start: int) -> tuple[int, int, int] | None:
        """Data, form and end of the array at `start`, if it has a known pattern or refers to another."""
        if found := self._match(self._arrays, start):
            pattern, offset, stop = found
            return offset, pattern.form, stop
        reference = _GETS.get(self.data[start])
        if reference is None or start + reference.size >= self.end:
            return None
        array = self.memoised(reference.unpack_from(self.data, start)[0])
        stop = start + reference.size
        return None if not isinstance(array, Array) or _goes_on(self.data, stop) else (array.offset, array.form, stop)

    def _match(self, patterns: list[Pattern], start: int) -> tuple[Pattern, int, int] | None:
        """The pattern of what begins at `start`, where its numbers begin and where it ends; takes its memo numbers."""
        for k, pattern in enumerate(patterns):
            found = pattern.match(self.data, start, self.end, self.memo_next)
            if found is None or (pattern.counts is None and self.memo_count != self.memo_next):
                continue
            self.at = start
            for rank, form in pattern.kept:
                self.memo_numbers.append(self.memo_next + rank)
                self.memo_offsets.append(found[0] if form > 0 else 0)
                self.memo_forms.append(form)
            if len(self.memo_numbers) > MAX_MEMO:
                raise self.bad(f"at most {MAX_MEMO} memoised values", "more")
            self.memo_next += pattern.memos
            self.memo_count += pattern.memos
            if k:
                patterns.insert(0, patterns.pop(k))
            return pattern, *found
        return None

    def _learn_array(self, value: object) -> None:
        form = self.form_table[value.form] if isinstance(value, Array) else None
        if form is None or not isinstance(value, Array) or len(self._trace) < 2:  # a reference is quick to read
            return
        size = int.from_bytes(self.data[value.offset - 4 : value.offset], "little") if form.latin1 else form.nbytes
        self._learn(self._arrays, value.offset, size, form.nbytes if form.latin1 else 0, value.form)

    def _learn_key(self) -> None:
        if self.scalar_data is None:
            return
        offset, dtype = self.scalar_data
        letter = "bhiq"[dtype.itemsize.bit_length() - 1]
        order = "<" if dtype.newbyteorder("<") == dtype else ">"
        key = struct.Struct(order + (letter.upper() if dtype.kind == "u" else letter))
        self._learn(self._keys, offset, dtype.itemsize, 0, 0, key)

    def _learn(
        self, patterns: list[Pattern], offset: int, size: int, latin1: int, form: int, key: struct.Struct | None = None
    ) -> None:
        """Make a pattern of what has just ended, if it was written in the usual way, with numbers at `offset`."""
        halves = self._halves(offset, size) if self._short_cuts and self._learnable else None
        new = range(self._kept, len(self.memo_numbers))
        kept = [(self.memo_numbers[k] - self._memo, self.memo_forms[k]) for k in new]
        if halves is None or any(number > 0 and number != form for _, number in kept):
            return
        head, tail = halves
        if tail and (latin1 <= LONGEST_SHARED if latin1 else size in _SHARED_SIZES):
            return  # such numbers may be memoised for what they are
        if not tail and (size or key):
            return  # a reference to another array
        fields: list[bytes | None] = [*head, *tail]  # None: a memo number
        layout = ["I" if field is None else f"{len(field)}s" for field in fields]
        before = "<" + "".join(layout[: len(head)])
        after = "".join(layout[len(head) :])
        if latin1 and tail:
            fields[len(head) - 1] = (fields[len(head) - 1] or b"")[:-4]
            before = "<" + "".join(layout[: len(head) - 1]) + f"{len(fields[len(head) - 1] or b'')}sI"
            fields.insert(len(head), None)
        texts = _pick([k for k, field in enumerate(fields) if field is not None])
        counts = [k for k, field in enumerate(fields) if field is None and not (latin1 and tail and k == len(head))]
        fixed = before if latin1 and tail else f"{before}{size if tail else 0}x{after}"
        pattern = Pattern(
            head=struct.Struct(fixed),
            tail=struct.Struct("<" + after),
            texts=texts,
            expected=texts(tuple(fields)),
            counts=_pick(counts) if counts else None,
            start=struct.calcsize(before),
            offset=-1 if tail else offset,
            latin1=latin1 if tail else 0,
            memos=self.memo_next - self._memo,
            kept=tuple(kept),
            form=form,
            key=key,
        )
        self._learnable -= 1
        patterns.insert(0, pattern)
        del patterns[MAX_PATTERNS:]

    def _halves(self, offset: int, size: int) -> tuple[list[bytes | None], list[bytes | None]] | None:
        """The opcodes just executed as texts and memo numbers (None), before and after the numbers if they are there.

        None if they have frames or small memo numbers in them, or memo numbers that do not count up.
        """
        halves: tuple[list[bytes | None], list[bytes | None]] = [b""], []
        now, memo, cuts = halves[0], self._memo, 0
        for start, stop in self._trace:
            op = self.data[start]
            if op == _LONG_BINPUT and int.from_bytes(self.data[start + 1 : stop], "little") == memo:
                now[-1] = (now[-1] or b"") + b"r"
                now += [None, b""]
                cuts += 1
            elif op in (_FRAME, _BINPUT, _LONG_BINPUT):
                return None
            elif size and start < offset and stop == offset + size and not halves[1]:
                now[-1] = (now[-1] or b"") + self.data[start:offset]
                now = halves[1]
                now.append(b"")
            else:
                now[-1] = (now[-1] or b"") + self.data[start:stop]
            memo += op in (_LONG_BINPUT, _MEMOIZE)
        return halves if cuts in (0, self.memo_next - self._memo) else None
