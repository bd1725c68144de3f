"""The fast half of `array_pickle`: many entries that look just like an earlier one are taken at once.

In a big file entries differ in their keys, in their numbers, and in the memo numbers, which count up. What the machine
would make of such an entry follows from what it made of the first one, because all else in it is the same and memo
numbers are never written twice. Where the next entries begin is guessed one by one, from a few bytes; then numpy
compares all of them with their `Pattern`, and from the first one that does not fit the machine goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO

import numpy as np
import numpy.typing as npt

from _newsclippings.vectors.array_pickle_machine import Machine
from _newsclippings.vectors.array_pickle_values import LONGEST_SHARED, SHARED_TEXTS, Array, latin1_bytes
from _newsclippings.vectors.array_pickle_window import WINDOW

LONGEST_RUN = 2048  # entries that are compared together
SHORTEST_RUN = 8  # fewer are quicker one by one
LARGE = 1 << 18  # bytes of an entry; larger ones are quicker one by one than read through
MAX_LEARNT = 1000  # patterns ever made, so that a file of nothing alike costs little more than without them
_WORD = 9  # bytes by which the pattern of an entry is guessed: an opcode and a length
_MEMOIZE, _BINPUT, _LONG_BINPUT, _FRAME = 0x94, ord("q"), ord("r"), 0x95
_CONTINUES = frozenset(b"\x94qrRb")  # opcodes that do more to the value before them
_INTEGERS = b"JMKI\x8a"
_KEYS: dict[int, np.dtype] = {ord("J"): np.dtype("<i4"), ord("M"): np.dtype("<u2"), ord("K"): np.dtype("u1")}
_SHARED_SIZES = frozenset(map(len, SHARED_TEXTS)) | {0, 1}

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


@dataclass(eq=False, frozen=True)
class Pattern:
    """An entry as bytes: those before and behind the numbers of its array, with the key and memo numbers among them.

    Attributes:
        front: how many bytes stand before the numbers, `size` of the numbers, `back` behind them.
        latin1: whether the numbers stand as text, and the four bytes before it are its length.
        form: of the array, or 0 for None.
        expected, fixed: the bytes, and whether they stay the same.
        key, dtype: where the key is, and its type.
        counts: where the memo numbers are that are written down; `memos`: how many values get one.
        ranks, kinds: which of them can be referred to, and their forms as in the memo.
        bounds: where behind the numbers a frame may begin: between opcodes.
        words, word: the bytes by which it is guessed, among others at that place.
    """

    front: int
    size: int
    back: int
    latin1: bool
    form: int
    expected: Bytes
    fixed: npt.NDArray[np.bool_]
    key: int
    dtype: np.dtype
    counts: Int64s
    memos: int
    ranks: Int64s
    kinds: Int64s
    bounds: frozenset[int]
    words: dict[bytes, int]
    word: bytes


class Walk(Machine):
    """The machine, and the short cut past what looks like something earlier."""

    def __init__(self, path: str, file: FileIO, size: int, patterns: bool) -> None:
        super().__init__(path, file, size)
        self._most = MAX_LEARNT if patterns else 0
        self._patterns: list[Pattern] = []
        # by the first opcode of an entry: where to look, and the patterns by what stands there
        self._table: dict[int, dict[tuple[int, int], dict[bytes, int]]] = {op: {} for op in range(256)}
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
        elif len(self.stack) == 2 and not self._goes_on(self.pos):
            value = self.stack[1]
            if isinstance(value, list):
                if self.part(self.pos, self.pos + 1) not in _INTEGERS:  # there may be more of it
                    return
            elif value is not None and not (isinstance(value, Array) and value.form):
                return
            self.add(*self.stack)
            self.stack.clear()
            if not isinstance(value, list) and len(self._patterns) < self._most:
                self._learn(value or Array())
        if not self.stack:
            self._skip()
            self._trace.clear()
            self._memo, self._kept = self.memo_next, len(self.memo_numbers)
            self._key = self.scalar_data = None

    def _goes_on(self, pos: int) -> bool:
        """Whether the opcode at a place, or behind the start of a frame there, does more to the value before it."""
        next_ones = self.part(pos, pos + 10)
        opcode = next_ones[9:] if next_ones[:1] == b"\x95" else next_ones[:1]
        return not opcode or opcode[0] in _CONTINUES

    def _skip(self) -> None:
        """Take the entries of known patterns that come next."""
        if not self._patterns or self.pos - self._trace[0][0] > LARGE:
            return
        if self.base + len(self.data) < min(self.pos + WINDOW // 4, self.size):
            self.refill(WINDOW)
        base = self.base
        runs, places, tails, cuts = self._guess()
        count = len(runs)
        if count < SHORTEST_RUN:
            return
        which, start, tail = np.array(runs), np.array(places), np.array(tails)
        groups = [(self._patterns[k], np.flatnonzero(which == k)) for k in set(runs)]
        memo = np.zeros(count + 1, np.int64)
        for pattern, mine in groups:
            memo[mine + 1] = pattern.memos
        memo = self.memo_next + np.cumsum(memo)
        fits = np.zeros(count, bool)
        keys, offsets, forms = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int32)
        for pattern, mine in groups:
            heads, backs = _windows(self.data, pattern.front), _windows(self.data, pattern.back)
            rows = np.concatenate([heads[start[mine]], backs[tail[mine]]], axis=1)
            for k, place, _ in cuts:
                if self._patterns[runs[k]] is pattern:  # the bytes of a frame stand in the way
                    rows[np.searchsorted(mine, k), pattern.front + place :] = backs[tails[k] + 9, place:]
            good = ((rows == pattern.expected) | ~pattern.fixed).all(1)
            if len(pattern.counts):
                numbers = np.ascontiguousarray(rows[:, pattern.counts]).view("<u4")
                good &= (numbers == memo[mine, None] + np.arange(pattern.memos)).all(1)
            elif pattern.memos:
                good &= self.memo_count == self.memo_next  # or the machine would refuse MEMOIZE
            fits[mine] = good
            key = np.ascontiguousarray(rows[:, pattern.key : pattern.key + pattern.dtype.itemsize])
            keys[mine] = key.view(pattern.dtype)[:, 0]
            offsets[mine] = base + start[mine] + pattern.front if pattern.size else 0
            forms[mine] = pattern.form
        if not fits.all():
            count = int(np.argmin(fits))
            wrong = self._patterns[runs[count]]
            wrong.words.pop(wrong.word, None)  # a bad guide
        elif self._goes_on(base + places[-1]):
            count -= 1
        shared = []
        for pattern, mine in groups:
            own = mine[mine < count, None]
            rows = np.zeros((3, len(own), len(pattern.ranks)), np.int64)
            rows[0], rows[1], rows[2] = memo[own] + pattern.ranks, (pattern.kinds > 0) * offsets[own], pattern.kinds
            shared.append(rows.reshape(3, -1))
        found = np.concatenate(shared, axis=1)
        found = found[:, np.argsort(found[0])]
        self.ids.frombytes(keys[:count].tobytes())
        self.offsets.frombytes(offsets[:count].tobytes())
        self.forms.frombytes(forms[:count].tobytes())
        self.memo_numbers.frombytes(found[0].tobytes())
        self.memo_offsets.frombytes(found[1].tobytes())
        self.memo_forms.frombytes(found[2].astype(np.int32).tobytes())
        self.memo_count += int(memo[count]) - self.memo_next
        self.memo_next = int(memo[count])
        self.at, self.pos = self.pos, base + places[count]
        self.end = max([self.end, *(base + end for k, _, end in cuts if k < count)])
        self.check_room()

    def _guess(self) -> tuple[list[int], list[int], list[int], list[tuple[int, int, int]]]:
        """What may come next, as far as the window goes; places are counted from where it begins.

        Returns:
            The pattern of each entry; where it starts, and where the last one stops; where what is behind its numbers
            starts; and which entries have a frame behind their numbers, at which place, and where that frame ends.
        """
        data, table, patterns = self.data, self._table, self._patterns
        pos, end, size = self.pos - self.base, self.end - self.base, self.size - self.base
        stop = min(end, len(data))
        runs: list[int] = []
        starts, tails = [pos], []
        cuts: list[tuple[int, int, int]] = []
        while len(runs) < LONGEST_RUN and pos < stop:
            for (first, last), words in table[data[pos]].items():
                number = words.get(data[pos + first : pos + last])
                if number is not None:
                    break
            else:
                break
            pattern = patterns[number]
            tail = begin = pos + pattern.front
            if not pattern.latin1:
                tail += pattern.size
            else:
                tail += int.from_bytes(data[begin - 4 : begin], "little")
                if tail - begin > 2 * pattern.size or len(latin1_bytes(data[begin:tail]) or b"") != pattern.size:
                    break
            pos = tail + pattern.back
            if pos >= stop:
                frame = end + 9 + int.from_bytes(data[end + 1 : end + 9], "little")
                pos += 9
                if (
                    pos >= len(data)
                    or end - tail not in pattern.bounds
                    or data[end] != _FRAME
                    or not pos <= frame <= size
                ):
                    break
                cuts.append((len(runs), end - tail, frame))
                end, stop = frame, min(frame, len(data))
            runs.append(number)
            tails.append(tail)
            starts.append(pos)
        return runs, starts, tails, cuts

    def _learn(self, value: Array) -> None:
        """Make a pattern of the entry that has just ended, if it was written in the usual way."""
        trace = self._trace
        start, stop = trace[0][0], trace[-1][1]
        form = self.form_table[value.form]
        size = form.nbytes if form else 0
        latin1 = form is not None and form.latin1 and size > 0
        begin, end = (value.offset, value.offset + size) if size else (stop, stop)
        small = size <= LONGEST_SHARED if latin1 else size in _SHARED_SIZES
        if begin < start or (size and small):
            return  # another array's numbers; those that may be memoised for what they are
        front = self.part(start, begin)
        if latin1:
            end = begin + int.from_bytes(front[-4:], "little")
        row = front + self.part(end, stop)

        def column(at: int) -> int:
            return at - start - (end - begin if at >= end else 0)

        key = (start + 1, _KEYS[row[0]]) if row[0] in _KEYS else self._key
        if key is None or not start < key[0] < begin or key[1].str[1:] == "u8":
            return  # integers that may be too large for a key
        if row[0] not in _KEYS and key[1].itemsize in _SHARED_SIZES:
            return
        puts = [at for at, _ in trace if row[column(at)] in (_LONG_BINPUT, _MEMOIZE)]
        counts = [at + 1 for at in puts if row[column(at)] == _LONG_BINPUT]
        numbers = [int.from_bytes(row[column(at) : column(at + 4)], "little") for at in counts]
        if (numbers and numbers != list(range(self._memo, self._memo + len(puts)))) or any(
            row[column(at)] in (_FRAME, _BINPUT) for at, _ in trace
        ):
            return
        kinds = self.memo_forms[self._kept :]
        if any(found > 0 and found != value.form for found in kinds):
            return
        expected = np.frombuffer(row, np.uint8)
        fixed = np.ones(len(expected), bool)
        holes = [(key[0], key[1].itemsize), *((at, 4) for at in counts), *([(begin - 4, 4)] if latin1 else [])]
        for at, width in holes:
            fixed[column(at) : column(at) + width] = False
        last = begin - start - (4 if latin1 else 0)
        first = max([last - _WORD, *(at - start + width for at, width in holes if at - start < last)])
        words = self._table[row[0]].setdefault((first, last), {})
        word = row[first:last]
        if first >= last or word in words:
            return
        words[word] = len(self._patterns)
        self._patterns.append(
            Pattern(
                front=begin - start,
                size=size,
                back=stop - end,
                latin1=latin1,
                form=value.form,
                expected=expected,
                fixed=fixed,
                key=key[0] - start,
                dtype=key[1],
                counts=np.array([column(at) + k for at in counts for k in range(4)], np.int64),
                memos=len(puts),
                ranks=np.array(self.memo_numbers[self._kept :], np.int64) - self._memo,
                kinds=np.array(kinds, np.int64),
                bounds=frozenset(at - end for at in (*(at for at, _ in trace), stop) if at >= end),
                words=words,
                word=word,
            )
        )


def _windows(data: bytes, width: int) -> Bytes:
    """A view of some bytes, with the next `width` ones for each of them."""
    windows: Bytes = np.ndarray((len(data) - width + 1, width), np.uint8, data, 0, (1, 1))
    return windows
