"""The best pictures of each caption that a rule allows: exact, in blocks of one product of matrices.

A product in float32 is off by at most `Measure.error`. Whatever that could decide is decided by `Measure.score`, in
float64 and in a fixed order of additions. So the result is the same for any size of block, number of threads or engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from _newsclippings.errors import ConfigError
from _newsclippings.generate.entities import Entities, Inverse, Lists, lists_of
from _newsclippings.generate.rules import Rule, parse_duration
from _newsclippings.generate.tiles import (
    FORBIDDEN,
    LOWEST,
    Bools,
    Engine,
    Float32s,
    Float64s,
    Integers,
    Step,
    Tile,
)
from _newsclippings.tables import Int32s, Int64s
from _newsclippings.text import did_you_mean

BLOCK_BYTES: Final = 64 << 20  # of scores in memory at a time
BLOCK_ROWS: Final = 256  # captions of a block, at the least; with fewer a product takes up to four times as long
# Cells that an approximate search looks into; the larger number where pictures are used up. Of 240,000 invented
# captions (python -m benchmarks.matching), 128 of 1,959 cells give 99.1 % the best picture, and 64 give 97.8 %.
CELLS_PROBED = 128, 512
CELLS_AT_ONCE = 1 << 23  # of all captions that are searched at a time, so that their candidates stay in memory
COMPARED = 32  # scores of which only the largest is compared at first
_COPY_BYTES = 32 << 20  # of vectors that are copied at a time
_PAIR_BYTES = 256 << 10  # of products in float64 at a time; so few stay in the CPU cache
_NORM = 1e-5  # how far the length of a vector may be from 1


def normalise(vectors: npt.NDArray[Any], out: Float32s | None = None) -> Float32s:
    """Scale vectors to length 1.

    Args:
        vectors: float16, float32 or float64 (N, width); may be mapped.
        out: float32 (N, width) to write to, such as a mapped file or `vectors` itself. Unset: memory.

    Raises:
        ConfigError: a vector is zero, or not finite.
    """
    out = np.empty(vectors.shape, np.float32) if out is None else out
    for rows, block in _blocks(vectors):
        lengths: Float64s = np.sqrt(np.einsum("ij,ij->i", block, block))
        _refuse(rows, ~(np.isfinite(lengths) & (lengths > 0)), "is zero or not finite. Leave it out")
        out[rows] = block / lengths[:, None]
    return out


def _blocks(vectors: npt.NDArray[Any]) -> Iterator[tuple[slice, Float64s]]:
    step = max(1, _COPY_BYTES // max(1, 8 * vectors.shape[1]))
    for start in range(0, len(vectors), step):
        yield slice(start, start + step), vectors[start : start + step].astype(np.float64)


def _refuse(rows: slice, wrong: Bools, why: str) -> None:
    if wrong.any():
        message = f"vector {rows.start + int(np.argmax(wrong))} {why}."
        raise ConfigError(message)


class Measure:
    """How well pictures fit captions: the cosines of two kinds of vectors.

    Attributes:
        query: float32 (N, width), of length 1: of the captions, or of their own pictures; may be mapped.
        against: float32 (N, width), likewise: of the pictures, or of their own captions.
        error: the most by which a product in float32 differs from the score, in any order of additions.
    """

    def __init__(self, query: Float32s, against: Float32s, device: str | None = None) -> None:
        """Check the vectors.

        Args:
            query: see above.
            against: see above.
            device: where torch multiplies, such as `cuda`; None: numpy multiplies.

        Raises:
            ConfigError: they have other shapes, or other lengths than 1.
        """
        if query.ndim != 2 or query.shape != against.shape or query.dtype != np.float32 or against.dtype != np.float32:
            found = f"{query.dtype} {query.shape} and {against.dtype} {against.shape}"
            message = f"expected float32 vectors of the same number and width, found {found}. Encode both in one space."
            raise ConfigError(message)
        for vectors in (query,) if query is against else (query, against):
            for rows, block in _blocks(vectors):
                lengths = np.sqrt(np.einsum("ij,ij->i", block, block))
                _refuse(rows, ~(np.abs(lengths - 1) <= _NORM), "has not length 1. Call normalise first")
        self.query, self.against, self.device = query, against, device
        # The textbook bound, width * 2^-24, with some more for lengths, and for thresholds rounded to float32.
        self.error = 1.01 * (query.shape[1] + 4) * 2.0**-24

    def __reduce__(self) -> tuple[Any, ...]:
        """Mapped vectors are opened by their path in another process, and on its own device."""
        sides = [_describe(self.query)]
        sides += [] if self.query is self.against else [_describe(self.against)]
        return _open_measure, (self.device, *sides)

    def make_engine(self) -> Engine:
        """Return what compares captions with pictures: numpy, or torch on the device.

        Raises:
            ConfigError: torch would multiply with less than float32.
        """
        if self.device is None:
            return _make_numpy_engine(self)
        from _newsclippings.generate import torch_tiles

        return torch_tiles.make_engine(self.query, self.against, self.device)

    def multiply(self, rows: Int64s, columns: slice | Int32s, out: Float32s) -> None:
        """Write the products of some captions and pictures to `out`, float32 (rows, columns), with numpy."""
        query = self.query[rows]
        if isinstance(columns, slice):
            np.matmul(query, self.against[columns].T, out=out)
            return
        step = max(1, _COPY_BYTES // (4 * query.shape[1]))
        for start in range(0, len(columns), step):
            part = slice(start, start + step)
            np.matmul(query, self.against[columns[part]].T, out=out[:, part])

    def score(self, rows: Integers, columns: Integers) -> Float64s:
        """Return the score of pairs of a caption and a picture, in float64 and in a fixed order of additions."""
        scores, step = np.empty(len(rows)), max(1, _PAIR_BYTES // (8 * self.query.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            products = self.query[rows[part]].astype(np.float64) * self.against[columns[part]]
            width = products.shape[1]
            while width > 1:  # the second half is added to the first
                half = (width + 1) // 2
                products[:, : width - half] += products[:, half:width]
                width = half
            scores[part] = products[:, 0]
        return scores


def _describe(vectors: Float32s) -> Any:
    """Return the path and the shape of mapped vectors, and others themselves."""
    if isinstance(vectors, np.memmap) and vectors.filename is not None:
        return str(vectors.filename), vectors.shape, vectors.offset
    return vectors


def _open_measure(device: str | None, *sides: Any) -> Measure:
    opened = [
        np.memmap(side[0], np.float32, "r", side[2], side[1]) if isinstance(side, tuple) else side for side in sides
    ]
    return Measure(opened[0], opened[-1], device or find_gpu())


def find_gpu() -> str | None:
    """Return a GPU that torch can use; None if there is none."""
    if find_spec("torch") is None:
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None


@dataclass(frozen=True)
class Pool:
    """Captions with their pictures, in ascending order of their ids: all that rules look at, except for vectors.

    Attributes:
        size: number of captions.
        entities: of the captions.
        columns: name -> number of the value of each caption, int32 (N,); -1 if it is unknown.
        times: float64 (N,), in seconds; NaN if it is unknown.
        flags: name -> bool (N,), such as `has_person` of the pictures.
    """

    size: int
    entities: Entities | None = None
    columns: Mapping[str, Int32s] = field(default_factory=dict)
    times: Float64s | None = None
    flags: Mapping[str, Bools] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {f"columns {name}": len(column) for name, column in self.columns.items()}
        sizes |= {f"flags {name}": len(flags) for name, flags in self.flags.items()}
        sizes |= {} if self.times is None else {"times": len(self.times)}
        sizes |= {} if self.entities is None else {"entities": self.entities.count}
        for name, size in sizes.items():
            if size != self.size:
                message = f"{name}: expected {self.size} captions, found {size}. Pass all of the same captions."
                raise ConfigError(message)

    def column(self, name: str) -> Int32s:
        """Return a column; raise ConfigError if there is none with this name."""
        if name not in self.columns:
            message = f"rule: the corpus has no column {name!r}.{did_you_mean(name, self.columns)}"
            raise ConfigError(f"{message} Columns: {', '.join(self.columns) or 'none'}.")
        return self.columns[name]

    def names(self, rule: Rule, field: str) -> Lists | None:
        """Return the entities that a field of a rule is about; None if it is about none."""
        if not getattr(rule, field):
            return None
        if self.entities is None:
            message = f"rule: {field} needs entities, which the corpus has not. Make them first, or leave it out."
            raise ConfigError(message)
        return self.entities.only(rule.labels(field, self.entities.known))


class Held(NamedTuple):
    """What a picture asks of a caption: more than the worst of those that use it, or the same and a lower number.

    Attributes:
        score: float64 (N,); -inf if the picture may be used by any caption.
        caption: int32 (N,).
    """

    score: Float64s
    caption: Int32s


class Found(NamedTuple):
    """The best pictures of some captions, from the best down, of equal ones the lower number first.

    Attributes:
        pictures: int32 (rows, length); -1 where there is none.
        scores: float64 (rows, length); -inf where there is none.
    """

    pictures: Int32s
    scores: Float64s


class Groups(NamedTuple):
    """Which captions are compared with which pictures.

    Attributes:
        owners: int64 (M,), where a caption is among those that are searched.
        values: int32 (M,), a group with whose pictures it is compared.
        members: the pictures of each group.
    """

    owners: Int64s
    values: Int32s
    members: Inverse


class Near(NamedTuple):
    """Cells of pictures that are near each other.

    Attributes:
        centroids: float32 (K, width), of length 1.
        members: the pictures of each cell.
    """

    centroids: Float32s
    members: Inverse

    def group(self, query: Float32s, count: int) -> Groups:
        """Return the cells that are nearest to some captions.

        Args:
            query: float32 (R, width), the vectors of the captions.
            count: how many cells of each.
        """
        values = find_cells(query, self.centroids, count)
        return Groups(np.repeat(np.arange(len(values)), values.shape[1]), values.ravel(), self.members)


def find_cells(vectors: Float32s, centroids: Float32s, count: int) -> Int32s:
    """Return the cells whose centroids are nearest to each vector, at most `count`: int32 (N, count)."""
    count = min(count, len(centroids))
    cells = np.empty((len(vectors), count), np.int32)
    step = max(1, _COPY_BYTES // (4 * len(centroids)))
    for start in range(0, len(vectors), step):
        part = slice(start, start + step)
        scores = vectors[part] @ centroids.T
        cells[part] = np.argpartition(scores, len(centroids) - count, axis=1)[:, len(centroids) - count :]
    return cells


class Search:
    """Finds the best allowed pictures.

    Attributes:
        rows: int64, the captions that take part.
        pairs: the number of products of vectors so far.
    """

    def __init__(
        self, measure: Measure, pool: Pool, rule: Rule, block_bytes: int = BLOCK_BYTES, near: Near | None = None
    ) -> None:
        """Check that the pool has what the rule needs.

        Args:
            measure: the vectors.
            pool: everything else about captions and pictures.
            rule: which pairs are allowed.
            block_bytes: of scores in memory at a time.
            near: for an approximate search by a rule without `share` and `same`, which only looks into the nearest
                cells: into more of them, and at last at all pictures, for captions that find fewer than are wanted,
                those below the floor included.

        Raises:
            ConfigError: it does not have it.
        """
        if len(measure.query) != pool.size:
            message = f"expected vectors of {pool.size} captions, found {len(measure.query)}. Pass those of the same."
            raise ConfigError(message)
        self._measure, self._pool, self._rule, self._block_bytes = measure, pool, rule, block_bytes
        self.pairs, self._near = 0, near
        self._counts: list[int | None] = [*CELLS_PROBED, None] if near else [None]  # of cells; None: all pictures
        self._engine = measure.make_engine()
        without = pool.names(rule, "without")
        out = np.zeros(pool.size, bool) if without is None else np.diff(without.starts) > 0
        self.rows: Int64s = np.flatnonzero(~out)
        groups = pool.names(rule, "share")
        if groups is None and rule.same:
            codes = pool.column(rule.same[0])
            known = np.flatnonzero(codes >= 0)
            groups = lists_of(known, codes[known], pool.size)
        self._groups = None if groups is None else (groups, groups.invert())
        self._steps = [("pool", self._engine.forbid_own), *self._list_steps(out)]

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process makes its own engine."""
        return Search, (self._measure, self._pool, self._rule, self._block_bytes, self._near)

    def _list_steps(self, out: Bools) -> Iterator[tuple[str, Step]]:
        """Yield the parts of the rule but floor and cap: their names, and what forbids the pairs that disobey."""
        pool, rule, engine = self._pool, self._rule, self._engine
        if rule.share:
            yield "share", lambda scores, tile: None  # captions are only compared with those that share
        for name in rule.same:
            yield "same", engine.compare_codes(pool.column(name), True)
        for name in rule.other:
            yield "other", engine.compare_codes(pool.column(name), False)
        for field_name in ("gap", "within"):
            seconds = parse_duration(field_name, getattr(rule, field_name))
            if seconds is not None:
                if pool.times is None:
                    message = f"rule: {field_name} needs times, which the corpus has not. Leave it out."
                    raise ConfigError(message)
                yield field_name, engine.compare_times(pool.times, seconds, field_name == "gap")
        if rule.picture is not None:
            if rule.picture not in pool.flags:
                message = f"rule: of the corpus it is unknown which picture {rule.picture}. Leave picture out."
                raise ConfigError(message)
            yield "picture", engine.forbid_pictures(~pool.flags[rule.picture])
        if rule.without:
            yield "without", engine.forbid_pictures(out)
        differ = pool.names(rule, "differ")
        if differ is not None:
            yield "differ", engine.forbid_common(differ)

    def find(self, rows: Int64s, length: int, held: Held | None = None) -> Found:
        """Find the best pictures of some captions.

        Args:
            rows: int64 (R,), captions that take part.
            length: how many pictures; fewer are found only if no more are allowed.
            held: leave out pictures that do not take the caption.
        """
        found = Found(np.full((len(rows), length), -1, np.int32), np.full((len(rows), length), -np.inf))
        left = np.arange(len(rows))
        for count in self._counts:
            for some in _split_rows(left, count):
                part = self._find(rows[some], length, held, self._group(rows[some], count))
                found.pictures[some], found.scores[some] = part
            left = left[found.pictures[left, -1] < 0]
        if self._rule.floor is not None:
            low = found.scores < self._rule.floor
            found.pictures[low], found.scores[low] = -1, -np.inf
        return found

    def _find(self, rows: Int64s, length: int, held: Held | None, groups: Groups | None) -> Found:
        found = Found(np.full((len(rows), length), -1, np.int32), np.full((len(rows), length), -np.inf))
        limits = np.full(len(rows), LOWEST)
        for tiles in self._list_tiles(rows, length, groups):
            parts: list[_Pairs] = []
            for tile in tiles:
                scores = self._engine.compare(tile, length)
                self.pairs += len(tile.rows) * tile.width
                for _, forbid in self._steps:
                    forbid(scores, tile)
                parts += self._pick(scores, tile, length, limits, held)
            _keep_best(parts, found)
        return found

    def count_pairs(self, rows: Int64s) -> Int64s:
        """Return with how many pictures each caption is compared, int64 (R,): what its search costs."""
        if self._near is not None:
            return np.full(
                len(rows), self._pool.size * CELLS_PROBED[0] // max(CELLS_PROBED[0], len(self._near.centroids))
            )
        groups = self._group(rows, None)
        if groups is None:
            return np.full(len(rows), self._pool.size)
        owners, values, members = groups
        begins, ends = members.find(values)
        return np.bincount(owners, ends - begins, len(rows)).astype(np.int64)

    def explain(self, rows: Int64s) -> tuple[npt.NDArray[np.int8]]:
        """Return which part of the rule forbids the last picture of each caption: its number in `parts`, int8 (R,)."""
        passed, left = np.empty(len(rows), np.int8), np.arange(len(rows))
        for count in self._counts:
            for some in _split_rows(left, count):
                passed[some] = self._explain(rows[some], self._group(rows[some], count))
            left = left[passed[left] < len(self.parts) - 1]
        return (passed,)

    def _explain(self, rows: Int64s, groups: Groups | None) -> npt.NDArray[np.int8]:
        # Captions of no tile are alone with what they should share: they only pass the first step.
        passed = np.full(len(rows), int(self._groups is not None and self._pool.size > 1), np.int8)
        for tile in (tile for tiles in self._list_tiles(rows, 1, groups) for tile in tiles):
            scores = self._engine.compare(tile, 1)
            for number, (_, forbid) in enumerate(self._steps, 1):
                forbid(scores, tile)
                alive = tile.at[self._engine.find_allowed(scores)]
                passed[alive] = np.maximum(passed[alive], number)
            for pairs in self._pick(scores, tile, 1, np.full(len(rows), LOWEST), None):
                passed[pairs.at] = len(self.parts) - 1
        return passed

    @property
    def parts(self) -> list[str]:
        """The parts of the rule in the order in which they forbid."""
        return [*(name for name, _ in self._steps), "cap", "floor"]

    def _group(self, rows: Int64s, count: int | None) -> Groups | None:
        """Return what captions are compared with, of the nearest cells or of all; None for all pictures."""
        if count is not None and self._near is not None:
            return self._near.group(self._measure.query[rows], count)
        if self._groups is None:
            return None
        lists, members = self._groups
        return Groups(*lists.take(rows), members)

    def _list_tiles(self, rows: Int64s, length: int, groups: Groups | None) -> Iterator[Iterator[Tile]]:
        """Yield all that has to be compared, in parts after which all is known about their captions."""
        if groups is None:
            step = max(1, min(self._pool.size, self._block_bytes // (4 * BLOCK_ROWS)))
            columns = [slice(at, min(at + step, self._pool.size)) for at in range(0, self._pool.size, step)]
            for part in self._split(np.arange(len(rows)), step, length):
                yield (Tile(part, rows[part], some) for some in columns)
        else:
            yield self._list_groups(groups, rows, length)

    def _list_groups(self, groups: Groups, rows: Int64s, length: int) -> Iterator[Tile]:
        """Yield the captions of a group, with all of its pictures."""
        owners, values, members = groups
        order = np.argsort(values, kind="stable")
        keys, firsts = np.unique(values[order], return_index=True)
        begins, ends = (places.tolist() for places in members.find(keys))
        alone = int(self._near is None)  # the only picture of captions that share something is their own
        for at, begin, end in zip(np.split(owners[order], firsts[1:]), begins, ends, strict=False):
            if end - begin > alone:
                for part in self._split(at, end - begin, length):
                    yield Tile(part, rows[part], members.owners[begin:end])

    def _split(self, at: Int64s, width: int, length: int) -> Iterator[Int64s]:
        step = max(1, self._block_bytes // (4 * _pad(width, length)[0]))
        yield from (at[start : start + step] for start in range(0, len(at), step))

    def _pick(self, scores: Any, tile: Tile, length: int, limits: Float32s, held: Held | None) -> "Iterator[_Pairs]":
        """Yield pairs among which are the best of each caption, with all that are as good as the last of them.

        Args:
            scores: of the tile; changed.
            tile: what is compared.
            length: how many pictures are wanted.
            limits: float32, of all captions that are searched; so many pictures are known that score at least this.
                Raised by those of the tile.
            held: see `find`.
        """
        engine, error, cap = self._engine, self._measure.error, self._rule.cap
        if cap is not None:
            engine.forbid_above(scores, np.float32(cap + error))
        if held is not None:
            engine.forbid_below(scores, held.score[tile.columns].astype(np.float32) - np.float32(error))
        left = np.arange(len(tile.rows))
        while len(left):
            every, at = len(left) == len(tile.rows), tile.at[left]
            reached, which, places = engine.select(
                scores if every else engine.take(scores, left), length, limits[at], np.float32(2 * error)
            )
            rows, pictures = tile.rows[left[which]], tile.name(places)
            pairs = _Pairs(at[which], pictures, self._measure.score(rows, pictures))
            wrong = np.zeros(len(which), bool) if cap is None else pairs.scores >= cap
            if held is not None:
                asked = held.score[pictures]
                wrong |= (pairs.scores < asked) | ((pairs.scores == asked) & (held.caption[pictures] < rows))
            # Captions with a wrong pair, which float32 did not show, are looked at again without it.
            engine.forbid(scores, left[which[wrong]], places[wrong])
            right = np.ones(len(left), bool)
            right[which[wrong]] = False
            limits[at[right]] = reached[right]
            kept = right[which]
            yield _Pairs(pairs.at[kept], pairs.pictures[kept], pairs.scores[kept])
            left = left[~right]


def _split_rows(rows: Int64s, count: int | None) -> Iterator[Int64s]:
    """Yield rows, as many at a time as may look into so many cells each; all at once if they look at all pictures."""
    step = max(1, len(rows) if count is None else CELLS_AT_ONCE // count)
    yield from (rows[start : start + step] for start in range(0, len(rows), step))


class _Pairs(NamedTuple):
    """Candidates: where the caption is among those that are searched, the picture, and the score."""

    at: Int64s
    pictures: Integers
    scores: Float64s


def _select(scores: Float32s, length: int, limits: Float32s, margin: np.float32) -> tuple[Float32s, Int64s, Int64s]:
    _, group = _pad(scores.shape[1], length)
    groups = scores.reshape(len(scores), group, -1)  # with a distance between their scores, so that SIMD finds the best
    best = groups.max(axis=1)
    if best.shape[1] >= length:
        limits = np.maximum(limits, np.partition(best, best.shape[1] - length, axis=1)[:, best.shape[1] - length])
    lowest = np.maximum(limits - margin, LOWEST)
    rows, places = np.nonzero(best >= lowest[:, None])
    which, inside = np.nonzero(groups[rows, :, places] >= lowest[rows, None])
    return limits, rows[which], inside * best.shape[1] + places[which]


def _keep_best(parts: list[_Pairs], found: Found) -> None:
    """Write the best candidates of each caption, which may be there several times."""
    at, pictures, scores = (np.concatenate(column) for column in zip(_NO_PAIRS, *parts, strict=True))
    order = np.lexsort((pictures, -scores, at))
    at, pictures, scores = at[order], pictures[order], scores[order]
    new = np.ones(len(at), bool)
    new[1:] = (at[1:] != at[:-1]) | (pictures[1:] != pictures[:-1])
    at, pictures, scores = at[new], pictures[new], scores[new]
    rank = np.arange(len(at)) - np.searchsorted(at, at)
    kept = rank < found.pictures.shape[1]
    found.pictures[at[kept], rank[kept]] = pictures[kept]
    found.scores[at[kept], rank[kept]] = scores[kept]


_NO_PAIRS = _Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def _pad(width: int, length: int) -> tuple[int, int]:
    """Return how wide scores are in memory, and how many of them are a group."""
    group = COMPARED if width >= 4 * length * COMPARED else 1
    return -(-width // group) * group, group


def _make_numpy_engine(measure: Measure) -> Engine:
    buffer = np.empty(0, np.float32)

    def compare(tile: Tile, length: int) -> Float32s:
        nonlocal buffer
        padded, _ = _pad(tile.width, length)
        if len(buffer) < len(tile.rows) * padded:
            buffer = np.empty(len(tile.rows) * padded, np.float32)
        scores = buffer[: len(tile.rows) * padded].reshape(len(tile.rows), padded)
        scores[:, tile.width :] = FORBIDDEN
        measure.multiply(tile.rows, tile.columns, scores[:, : tile.width])
        return scores

    return Engine(
        compare,
        _forbid_own,
        _compare_codes,
        _compare_times,
        _forbid_pictures,
        _forbid_common,
        _forbid_above,
        _forbid_below,
        _forbid,
        lambda scores, rows: scores[rows],
        lambda scores: (scores > LOWEST).any(axis=1),
        _select,
    )


def _forbid(scores: Float32s, rows: Int64s, places: Int64s) -> None:
    scores[rows, places] = FORBIDDEN


def _forbid_above(scores: Float32s, most: np.float32) -> None:
    for row in scores:
        row -= (row > most) * np.float32(8)  # faster than assignment where it is true


def _forbid_below(scores: Float32s, least: Float32s) -> None:
    for row in scores[:, : len(least)]:
        row -= (row < least) * np.float32(8)


def _forbid_own(scores: Float32s, tile: Tile) -> None:
    scores[tile.place(tile.rows)] = FORBIDDEN


def _compare_codes(codes: Int32s, wanted: bool) -> Step:
    def forbid(scores: Float32s, tile: Tile) -> None:
        theirs = codes[tile.columns]
        for row, code in zip(scores[:, : tile.width], codes[tile.rows].tolist(), strict=True):
            np.copyto(row, FORBIDDEN, where=(theirs != code) if wanted else ((theirs == code) | (theirs < 0)))
        scores[codes[tile.rows] < 0] = FORBIDDEN

    return forbid


def _compare_times(times: Float64s, seconds: int, least: bool) -> Step:
    def forbid(scores: Float32s, tile: Tile) -> None:
        theirs = times[tile.columns]
        for row, time in zip(scores[:, : tile.width], times[tile.rows].tolist(), strict=True):
            apart = np.abs(theirs - time)
            np.copyto(row, FORBIDDEN, where=~(apart >= seconds if least else apart <= seconds))

    return forbid


def _forbid_pictures(forbidden: Bools) -> Step:
    def forbid(scores: Float32s, tile: Tile) -> None:
        np.copyto(scores[:, : tile.width], FORBIDDEN, where=forbidden[tile.columns])

    return forbid


def _forbid_common(names: Lists) -> Step:
    ranges: dict[int, Inverse] = {}

    def invert(columns: slice | Int32s) -> Inverse:
        if not isinstance(columns, slice):
            return names.invert(columns.astype(np.int64))
        if columns.start not in ranges:
            ranges[columns.start] = names.invert(np.arange(columns.start, columns.stop))
        return ranges[columns.start]

    def forbid(scores: Float32s, tile: Tile) -> None:
        inverse = invert(tile.columns)
        at, values = names.take(tile.rows)
        begins, ends = inverse.find(values)
        some = ends > begins
        for row, begin, end in zip(at[some].tolist(), begins[some].tolist(), ends[some].tolist(), strict=True):
            scores[row, inverse.owners[begin:end]] = FORBIDDEN

    return forbid
