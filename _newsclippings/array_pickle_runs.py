"""The fast half of `array_pickle`: entries that look just like an earlier one are told by comparing bytes, many at once.

In a big file entries differ in their keys, in their numbers, and in the memo numbers, which count up. What the machine
would make of such an entry follows from what it made of the first one, because all else in it is the same and memo
numbers are never written twice. Where the next entries begin is guessed one by one, from a few bytes; then numpy
compares all of them with their `Pattern`, and from the first one that does not fit the machine goes on.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from mmap import mmap

import numpy as np
import numpy.typing as npt

from _newsclippings.array_pickle_machine import Machine
from _newsclippings.array_pickle_values import LONGEST_SHARED, NONE, SHARED_TEXTS, Array

LONGEST_RUN = 2048  # entries that are compared together
SHORTEST_RUN = 8  # fewer are quicker one by one
MAX_LEARNT = 1000  # patterns ever made, so that a file of nothing alike costs little more than without them
_MEMOIZE, _BINPUT, _LONG_BINPUT, _FRAME = 0x94, ord("q"), ord("r"), 0x95
_CONTINUES = frozenset(b"\x94qrRb")  # opcodes that do more to the value before them
_INTEGERS = b"JMKI\x8a"
_KEYS = {ord("J"): np.dtype("<i4"), ord("M"): np.dtype("<u2"), ord("K"): np.dtype("u1")}
_SHARED_SIZES = frozenset(map(len, SHARED_TEXTS)) | {0, 1}
_WORD = 9  # bytes by which the pattern of an entry is guessed: an opcode and a length

_NOTHING: dict[tuple[int, int], dict[bytes, int]] = {}

Int64s = npt.NDArray[np.int64]


@dataclass(eq=False, frozen=True)
class Pattern:
    """An entry as bytes that stay the same, around its key, its memo numbers, and the numbers of its array.

    Attributes:
        size: bytes of the numbers.
        latin1: whether they stand as text; the last four bytes before it are its length.
        form: of the array, or 0 for None.
        key: place and type of the key.
        expected: all bytes but the numbers; `fixed`: those that stay the same.
        heads, tails: a view of the file with the bytes before and behind the numbers for any place.
        bounds: where behind the numbers a frame may begin: between opcodes, and at the end.
        memos: how many values are memoised.
        counts: the columns of their numbers, if these are written down; `ranks`: the numbers, from 0 on.
        kept: ranks of the values that can be referred to, and their forms (as in the memo).
    """

    size: int
    latin1: bool
    form: int
    key: tuple[int, np.dtype]
    expected: npt.NDArray[np.uint8]
    fixed: npt.NDArray[np.bool_]
    heads: npt.NDArray[np.uint8] = field(repr=False)
    tails: npt.NDArray[np.uint8] = field(repr=False)
    bounds: frozenset[int]
    memos: int
    counts: Int64s
    ranks: Int64s
    kept: tuple[Int64s, npt.NDArray[np.int32]]


class Walk(Machine):
    """The machine, and the short cut past what looks like something earlier."""

    def __init__(self, path: str, data: mmap, patterns: bool) -> None:
        super().__init__(path, data)
        self._learnable = MAX_LEARNT if patterns else 0
        self._patterns: list[Pattern] = []
        # by first opcode: where to look, and what may stand there
        self._table: dict[int, dict[tuple[int, int], dict[bytes, int]]] = {}
        self._trace: list[tuple[int, int]] = []  # the opcodes of the entry that the machine is at
        self._memo = self._kept = 0  # the memo before it
        self._key: tuple[int, np.dtype] | None = None  # its key, if that is an integer of numpy

    def run(self) -> Iterator[None]:
        """Walk the file; comes up for air after every batch of entries."""
        while not self.done:
            if len(self.marks) == 1 == len(self.marks[0]) and self.pos < self.size:
                self._between()
            self.step()
            self._trace.append((self.at, self.pos))
            if not self.marks:
                yield

    def _between(self) -> None:
        """In the dict: take an entry that is finished, and skip those that are known."""
        if len(self.stack) == 1 and isinstance(self.stack[0], int):
            self._key = self.scalar_data
        elif len(self.stack) == 2 and not _goes_on(self.data, self.pos):
            value = self.stack[1]
            if isinstance(value, list):
                if self.data[self.pos] not in _INTEGERS:  # there may be more of it
                    return
            elif value is not None and not (isinstance(value, Array) and value.form):
                return
            self.add(*self.stack)
            self.stack.clear()
            if self._learnable and (value is None or isinstance(value, Array)):
                self._learn(value or Array())
        if not self.stack:
            self._skip()
            self._trace.clear()
            self._memo, self._kept = self.memo_next, len(self.memo_numbers)
            self._key = self.scalar_data = None

    def _skip(self) -> None:
        """Take the entries of known patterns that come next."""
        runs, starts, tails, cuts = self._guess()
        count = len(runs)
        if count < SHORTEST_RUN:
            return
        which, start, tail = np.array(runs), np.array(starts), np.array(tails)
        groups = [(self._patterns[k], np.flatnonzero(which == k)) for k in set(runs)]
        memo = np.zeros(count + 1, np.int64)
        for pattern, mine in groups:
            memo[1 + mine] = pattern.memos
        memo = self.memo_next + np.cumsum(memo)
        good, keys = np.zeros(count, bool), np.empty(count, np.int64)
        for pattern, mine in groups:
            rows = np.concatenate([pattern.heads[start[mine]], pattern.tails[tail[mine]]], axis=1)
            for k, place, _ in cuts:
                if self._patterns[runs[k]] is pattern:  # the frame's own bytes stand in the way
                    rest = pattern.tails[tails[k] + 9, place:]
                    rows[np.searchsorted(mine, k), rows.shape[1] - len(rest) :] = rest
            fits = ((rows == pattern.expected) | ~pattern.fixed).all(1)
            if len(pattern.counts):
                numbers = np.ascontiguousarray(rows[:, pattern.counts]).view("<u4")
                fits &= (numbers == memo[mine, None] + pattern.ranks).all(1)
            elif pattern.memos:
                fits &= self.memo_count == self.memo_next
            good[mine] = fits
            place, dtype = pattern.key
            keys[mine] = np.ascontiguousarray(rows[:, place : place + dtype.itemsize]).view(dtype)[:, 0]
        if good.all():
            count -= _goes_on(self.data, starts[-1])
        else:
            count = int(np.argmin(good))
            self._forget(runs[count])
        self._take(count, groups, start, memo, keys)
        self.pos = starts[count]
        self.end = max([self.end, *(end for k, _, end in cuts if k < count)])

    def _guess(self) -> tuple[list[int], list[int], list[int], list[tuple[int, int, int]]]:
        """What may come next.

        Returns:
            The pattern of each entry; where it starts, and where the last one stops; where what is behind its numbers
            starts; and which entries have a frame in there, at which place, and where that frame ends.
        """
        data, table, patterns = self.data, self._table, self._patterns
        pos, end = self.pos, self.end
        runs, starts, tails = [], [pos], []
        cuts: list[tuple[int, int, int]] = []
        while len(runs) < LONGEST_RUN and pos < end:
            for (first, last), words in table.get(data[pos], _NOTHING).items():
                number = words.get(data[pos + first : pos + last])
                if number is not None:
                    break
            else:
                break
            pattern = patterns[number]
            tail = pos + pattern.heads.shape[1] + pattern.size
            if pattern.latin1:
                begin = tail - pattern.size
                tail = begin + int.from_bytes(data[begin - 4 : begin], "little")
                if tail - begin > 2 * pattern.size or _decoded_size(data[begin:tail]) != pattern.size:
                    break
            stop = tail + pattern.tails.shape[1]
            if stop >= end:
                if end - tail not in pattern.bounds or data[end : end + 1] != b"\x95":
                    break
                begin, stop = end + 9, stop + 9
                frame = begin + int.from_bytes(data[begin - 8 : begin], "little")
                if not stop <= frame <= self.size:
                    break
                cuts.append((len(runs), end - tail, frame))
                end = frame
            runs.append(number)
            tails.append(tail)
            starts.append(stop)
            pos = stop
        return runs, starts, tails, cuts

    def _take(
        self,
        count: int,
        groups: list[tuple[Pattern, Int64s]],
        start: Int64s,
        memo: Int64s,
        keys: Int64s,
    ) -> None:
        """Note the first `count` entries and what of them can be referred to."""
        if not count:
            return
        offsets, forms = np.zeros(count, np.int64), np.zeros(count, np.int32)
        kept = []
        for pattern, mine in groups:
            mine = mine[mine < count]
            forms[mine] = pattern.form
            if pattern.size:
                offsets[mine] = start[mine] + pattern.heads.shape[1]
            ranks, kinds = pattern.kept
            shape = len(mine), len(ranks)
            places = np.where(kinds > 0, offsets[mine, None], 0)
            numbers = memo[mine, None] + ranks
            kept.append((numbers, np.broadcast_to(places, shape), np.broadcast_to(kinds, shape)))
        numbers, places, kinds = (np.concatenate([k[n].reshape(-1) for k in kept]) for n in range(3))
        order = np.argsort(numbers, kind="stable")
        self.memo_numbers.frombytes(numbers[order].tobytes())
        self.memo_offsets.frombytes(places[order].tobytes())
        self.memo_forms.frombytes(kinds[order].tobytes())
        self.ids.frombytes(keys[:count].tobytes())
        self.offsets.frombytes(offsets.tobytes())
        self.forms.frombytes(forms.tobytes())
        self.memo_next, self.memo_count = int(memo[count]), self.memo_count + int(memo[count]) - self.memo_next
        self.quiet = 0
        self.at = int(start[count - 1])
        self.check_room()

    def _learn(self, value: Array) -> None:
        """Make a pattern of the entry that has just ended, if it was written in the usual way."""
        data, trace = self.data, self._trace
        start, stop = trace[0][0], trace[-1][1]
        form = self.form_table[value.form]
        size = form.nbytes if form else 0
        latin1 = form is not None and form.latin1 and size > 0
        begin, end = (value.offset, value.offset + size) if size else (stop, stop)
        if latin1:
            end = begin + int.from_bytes(data[begin - 4 : begin], "little")
        key = (start + 1, _KEYS[data[start]]) if data[start] in _KEYS else self._key
        kept = range(self._kept, len(self.memo_numbers))
        puts = [(at, after) for at, after in trace if data[at] in (_LONG_BINPUT, _MEMOIZE)]
        counts = [(at + 1, after) for at, after in puts if data[at] == _LONG_BINPUT]
        numbers = [int.from_bytes(data[first:last], "little") for first, last in counts]
        if (
            any(data[at] in (_FRAME, _BINPUT) for at, _ in trace)
            # such numbers and keys may be memoised for what they are
            or (size <= LONGEST_SHARED if latin1 and size else size in _SHARED_SIZES and size)
            or key is None
            or (data[start] not in _KEYS and key[1].itemsize in _SHARED_SIZES)
            or key[1].str[1:] == "u8"  # may be too large for a key
            or not start < key[0] < begin
            or (size and not any(at < begin and after == end for at, after in trace))  # another array's
            or (numbers and numbers != list(range(self._memo, self._memo + len(puts))))
            or any(self.memo_forms[k] > 0 and self.memo_forms[k] != value.form for k in kept)
        ):
            return

        def column(at: int) -> int:
            return at - start - (end - begin if at >= end else 0)

        expected = np.frombuffer(data[start:begin] + data[end:stop], np.uint8)
        holes = [(key[0], key[0] + key[1].itemsize), *counts, *([(begin - 4, begin)] if latin1 else [])]
        fixed = np.ones(len(expected), bool)
        for first, last in holes:
            fixed[column(first) : column(last - 1) + 1] = False
        last = begin - start - (4 if latin1 else 0)
        first = max([last - _WORD, *(after - start for _, after in holes if after - start <= last)])
        words = self._table.setdefault(data[start], {}).setdefault((first, last), {})
        word = data[start + first : start + last]
        if first >= last or word in words:
            return
        words[word] = len(self._patterns)
        self._learnable -= 1
        self._patterns.append(
            Pattern(
                size=size,
                latin1=latin1,
                form=value.form,
                key=(key[0] - start, key[1]),
                expected=expected,
                fixed=fixed,
                heads=_windows(data, begin - start),
                tails=_windows(data, stop - end),
                bounds=frozenset(at - end for at in (*(at for at, _ in trace), stop) if at >= end),
                memos=len(puts),
                counts=np.array([column(first) + k for first, _ in counts for k in range(4)], np.int64),
                ranks=np.arange(len(puts)),
                kept=(
                    np.array([self.memo_numbers[k] - self._memo for k in kept], np.int64),
                    np.array([self.memo_forms[k] for k in kept], np.int32),
                ),
            )
        )

    def _forget(self, number: int) -> None:
        """Guess a pattern no more: its bytes at the place to look at stand elsewhere, too."""
        for places in self._table.values():
            for words in places.values():
                for word in [word for word, known in words.items() if known == number]:
                    del words[word]


def _windows(data: mmap, width: int) -> npt.NDArray[np.uint8]:
    """A view of the file, with the next `width` bytes for each of its bytes."""
    return np.ndarray((len(data) - width + 1, width), np.uint8, data, 0, (1, 1))


def _decoded_size(text: bytes) -> int:
    """How many bytes a text stands for, or -1."""
    try:
        return len(text.decode("utf-8").encode("latin-1"))
    except UnicodeError:
        return -1


def _goes_on(data: mmap, pos: int) -> bool:
    """Whether the opcode at `pos`, or behind the start of a frame there, does more to the value before it."""
    if data[pos : pos + 1] == b"\x95":
        pos += 9
    return pos >= len(data) or data[pos] in _CONTINUES
