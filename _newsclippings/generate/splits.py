"""Which pictures are copies of each other, and splits that share no caption, article or picture."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.generate.search import Measure
from _newsclippings.generate.tiles import Tile
from _newsclippings.pictures import Pictures
from _newsclippings.storage import progress_bar
from _newsclippings.tables import Int32s, Int64s, array_of
from _newsclippings.text import fold_name

COPY: Final = 0.95  # cosine of the vectors of two pictures from which on they count as copies
_ROWS, _COLUMNS = 256, 1 << 16  # pictures that are compared with others at a time
_READ = 64  # pictures that are hashed at a time
_FRACTION: Final = 1 << 64


class CopySearch:
    """Finds pictures that are nearly the same."""

    def __init__(self, measure: Measure) -> None:
        """Search by the vectors of pictures, compared with themselves."""
        self._measure, self._engine = measure, measure.make_engine()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process makes its own engine."""
        return CopySearch, (self._measure,)

    def find(self, rows: Int64s) -> tuple[Int64s, Int64s]:
        """Find the copies of some pictures: the positions of the first, and those of the second, which are after them.

        Args:
            rows: int64 (R,), ascending positions of pictures.
        """
        firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        count, error = len(self._measure.against), self._measure.error
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            for begin in range(int(some[0]), count, _COLUMNS):
                tile = Tile(some, some, slice(begin, min(begin + _COLUMNS, count)))
                scores = self._engine.compare(tile, count + 1)  # more than there are: no limit is raised
                limits = np.full(len(some), COPY, np.float32)
                _, at, places = self._engine.select(scores, count + 1, limits, np.float32(2 * error))
                first, second = some[at], places + begin
                first, second = first[second > first], second[second > first]
                sure = self._measure.score(first, second) >= COPY  # the same for any size of block
                firsts.append(first[sure])
                seconds.append(second[sure])
        return np.concatenate(firsts), np.concatenate(seconds)


def hash_equal_sizes(pictures: Pictures, count: int, most: int | None) -> Int32s | None:
    """Number the contents of pictures: int32 (N,), -1 for those that no other one can be equal to.

    Only files of one size can be equal, so only those are read.

    Args:
        pictures: the pictures of all captions.
        count: how many there are.
        most: bytes to read, at most; None for any number.

    Returns:
        The numbers; None if more would have to be read.
    """
    pictures.look(np.arange(count, dtype=np.int32))
    sizes, inverse, counts = np.unique(pictures.sizes, return_inverse=True, return_counts=True)
    several = np.flatnonzero((counts[inverse] > 1) & (sizes[inverse] > 0) & pictures.present).astype(np.int32)
    if most is not None and int(pictures.sizes[several].sum()) > most:
        return None
    codes = np.full(count, -1, np.int32)
    known: dict[bytes, int] = {}
    for start in progress_bar(iterable=range(0, len(several), _READ), desc="Hashing pictures"):
        rows = several[start : start + _READ]
        for row, data in zip(rows.tolist(), pictures.read(rows).to_pylist(), strict=True):
            if data:
                codes[row] = known.setdefault(hashlib.sha256(data).digest(), len(known))
    return codes


def join_groups(count: int, columns: Sequence[Int32s], pairs: Sequence[tuple[Int64s, Int64s]] = ()) -> Int64s:
    """Return the group of each of `count` items: the smallest position among those that it is connected with.

    Args:
        count: number of items.
        columns: int32 (N,) each; items with the same number are connected; -1 connects with nothing.
        pairs: positions of connected items.
    """
    firsts, seconds = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for codes in columns:
        known = np.flatnonzero(codes >= 0)
        _, first, inverse = np.unique(codes[known], return_index=True, return_inverse=True)
        firsts.append(known[first][inverse])
        seconds.append(known)
    first = np.concatenate([*firsts, *(pair[0] for pair in pairs)])
    second = np.concatenate([*seconds, *(pair[1] for pair in pairs)])
    label = np.arange(count)
    while True:  # the smaller label of two connected items spreads, and then to all that have the larger one
        least = np.minimum(label[first], label[second])
        spread = label.copy()
        for ends in (first, second):
            np.minimum.at(spread, label[ends], least)
        spread = spread[label]
        while not np.array_equal(spread, spread[spread]):
            spread = spread[spread]
        if np.array_equal(spread, label):
            return label
        label = spread


def fold_captions(captions: pa.Array) -> pa.Array:
    """Return the form in which captions are compared: without case, and with single spaces."""
    return array_of([fold_name(text) for text in captions.to_pylist()], pa.string())


def divide(groups: Int64s, ids: Int64s, shares: Mapping[str, float]) -> dict[str, npt.NDArray[np.int64]]:
    """Divide captions into splits, whole groups, by a hash of the smallest id of each group.

    Args:
        groups: int64 (N,), see `join_groups`.
        ids: int64 (N,), the ids of the captions, in ascending order.
        shares: split -> its share.

    Returns:
        Split -> positions of its captions, int64, in ascending order.
    """
    heads = np.unique(groups)
    drawn = [int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8]) for number in ids[heads].tolist()]
    bounds = np.cumsum([*shares.values()])
    bounds[-1] = 1.0
    which = np.searchsorted(bounds, np.array(drawn, np.float64) / _FRACTION, side="right")
    of_caption = np.minimum(which, len(shares) - 1)[np.searchsorted(heads, groups)]
    return {split: np.flatnonzero(of_caption == number) for number, split in enumerate(shares)}
