"""Captions that are compared with some pictures, and what an engine does with the scores of both."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from _newsclippings.generate.entities import Lists
from _newsclippings.tables import Int32s, Int64s

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer]

LOWEST: Final = np.float32(-3)  # below all cosines
FORBIDDEN: Final = np.float32(-4)


class Tile(NamedTuple):
    """Captions that are compared with some pictures.

    Attributes:
        at: int64 (R,), where the captions are among those that are searched.
        rows: int64 (R,), the captions.
        columns: the pictures: a range, or int32 (C,) in ascending order.
    """

    at: Int64s
    rows: Int64s
    columns: slice | Int32s

    @property
    def width(self) -> int:
        return self.columns.stop - self.columns.start if isinstance(self.columns, slice) else len(self.columns)

    def name(self, places: Int64s) -> Integers:
        """Return the pictures at some places of the tile."""
        return places + self.columns.start if isinstance(self.columns, slice) else self.columns[places]

    def place(self, pictures: Int64s) -> tuple[Int64s, Int64s]:
        """Return where in the tile pictures are: which of them are there, and their places."""
        if isinstance(self.columns, slice):
            there = (pictures >= self.columns.start) & (pictures < self.columns.stop)
            return np.flatnonzero(there), pictures[there] - self.columns.start
        places = np.minimum(np.searchsorted(self.columns, pictures), len(self.columns) - 1)
        there = self.columns[places] == pictures
        return np.flatnonzero(there), places[there]


Scores = Any  # float32 (rows, columns and perhaps some more, which are forbidden): an array, or a tensor on a device
Step = Callable[[Scores, Tile], None]  # forbids scores


class Engine(NamedTuple):
    """How scores are made, forbidden and chosen: with numpy, or with torch on a device. The choices are the same.

    Attributes:
        compare: make the scores of a tile; the number is how many pictures are wanted.
        forbid_own: forbid each caption its own picture.
        compare_codes: make a step that forbids pairs whose values are not the same (True) or not different (False);
            unknown ones (-1) are neither.
        compare_times: make a step that forbids pairs with less (True) or more (False) seconds between them, and those
            of which it is unknown (NaN).
        forbid_pictures: make a step that forbids some pictures.
        forbid_common: make a step that forbids pairs with an entity in common.
        forbid_above: forbid scores above a number.
        forbid_below: forbid the scores of each picture that are below its number.
        forbid: forbid some pairs, by their rows and places.
        take: return the scores of some rows.
        find_allowed: return which rows have a pair that is not forbidden.
        select: return higher limits, and the places of all scores that are at most a margin below them. No fewer than
            the wanted number of scores are at least the limit.
    """

    compare: Callable[[Tile, int], Scores]
    forbid_own: Step
    compare_codes: Callable[[Int32s, bool], Step]
    compare_times: Callable[[Float64s, int, bool], Step]
    forbid_pictures: Callable[[Bools], Step]
    forbid_common: Callable[[Lists], Step]
    forbid_above: Callable[[Scores, np.float32], None]
    forbid_below: Callable[[Scores, Float32s], None]
    forbid: Callable[[Scores, Int64s, Int64s], None]
    take: Callable[[Scores, Int64s], Scores]
    find_allowed: Callable[[Scores], Bools]
    select: Callable[[Scores, int, Float32s, np.float32], tuple[Float32s, Int64s, Int64s]]
