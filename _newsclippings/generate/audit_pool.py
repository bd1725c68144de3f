"""Among which pictures the one of a match was chosen: the third question of an audit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from _newsclippings.generate.audit_inputs import Bools, Float32s, Float64s, Official, Pairs
from _newsclippings.generate.entities import Entities, make_entities
from _newsclippings.generate.rules import Rule
from _newsclippings.tables import Int32s, Int64s

BLOCKS: Final = (1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000)  # sizes that are always shown
MONTHS: Final = (1, 3, 6, 12, 24)
INSIDE: Final = 0.99  # share of pairs that lie in the true pool
LOCAL: Final = 0.9  # share of the nearest captions that lie in a pool which pairs say nothing about
BEST: Final = 0.98  # share of pictures that are the best ones, if there is no limit of uses
MOST_RANKED: Final = 1_000  # pairs of a source that are compared with all candidates
NEAREST: Final = 10  # captions that are near
_ROUND = (1_000, 500, 100, 50, 25, 10, 5)  # of sizes that pairs cannot tell apart, people choose the roundest
_LEAST_BLOCK, _MOST_BLOCK = 100, 60_000
DAY: Final = 86_400  # seconds
_MONTH = 30 * DAY


@dataclass(frozen=True)
class Around:
    """Among which pictures that of a caption may have been chosen.

    Attributes:
        name: in words.
        codes: int32 (N,), of captions; pictures with the same one are inside; None for a window of time.
        seconds: half of the window.
        same: columns by which the grammar says this; None if it cannot.
    """

    name: str
    codes: Int32s | None
    seconds: int = 0
    same: tuple[str, ...] | None = ()

    def holds(self, official: Official, rows: Any, columns: Any) -> Bools:
        """Return whether pictures are inside for captions."""
        if self.codes is None:
            inside: Bools = np.abs(official.times[columns] - official.times[rows]) <= self.seconds
            return inside
        known: Bools = (self.codes[columns] == self.codes[rows]) & (self.codes[rows] >= 0)
        return known


class PoolFigures(NamedTuple):
    """What pairs say about a pool.

    Attributes:
        pool: its name.
        size: pictures in it, on average.
        inside: share of the official pictures that are inside.
        near: the same of the nearest captions, whatever the rule.
        best: share of pairs whose picture is the best allowed one in the pool.
        free: share of pairs for which nothing free was better: each better picture is used by a caption that it fits
            at least as well.
        rank: median rank of the official picture in the pool.
    """

    pool: str
    size: float
    inside: float
    near: float
    best: float
    free: float
    rank: float


@dataclass(frozen=True)
class Space:
    """A measure.

    Attributes:
        left: vectors of captions.
        right: vectors of candidates.
        known: bool (N,), captions with both.
        slack: by how much a score may differ because of rounding.
    """

    left: Float32s
    right: Float32s
    known: Bools
    slack: float


def find_near(space: Space, captions: Int64s) -> tuple[Int64s, Int64s]:
    """Return pairs of some captions with the nearest ones, whatever the rule."""
    rows = captions[space.known[captions]]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 500)).astype(np.int64))] if len(rows) else rows
    count = min(NEAREST, len(space.right) - 1)
    near = np.empty((len(rows), count), np.int64)
    for at in range(0, len(rows), 64):
        scores = space.left[rows[at : at + 64]] @ space.right.T
        scores[:, ~space.known] = -np.inf
        scores[np.arange(len(scores)), rows[at : at + 64]] = -np.inf
        near[at : at + 64] = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return np.repeat(rows, count), near.ravel()


def list_pools(official: Official, pairs: Pairs) -> list[Around]:
    """List the pools that are compared; the sizes of blocks are those of `BLOCKS`, and the ones that pairs show."""
    count = len(official.ids)
    pools = [Around("the split", np.zeros(count, np.int32))]
    outlet, topic = official.columns["source"], official.columns["topic"]
    both = np.where((outlet >= 0) & (topic >= 0), outlet * (int(topic.max(initial=0)) + 1) + topic, -1)
    pools += [
        Around("the same outlet", outlet, same=("source",)),
        Around("the same topic", topic, same=("topic",)),
        Around("the same outlet and topic", both.astype(np.int32), same=("source", "topic")),
    ]
    pools += [Around(f"within {months} month{'s' * (months > 1)}", None, months * _MONTH) for months in MONTHS]
    by_id = np.empty(count, np.int64)
    by_id[np.argsort(official.ids, kind="stable")] = np.arange(count)
    for name, order in (("the metadata's order", np.arange(count)), ("the order of ids", by_id)):
        if name != "the metadata's order" and np.array_equal(order, np.arange(count)):
            continue
        found = _find_block(order, pairs, count)
        sizes = {*(size for size in BLOCKS if size < count), *([found] if found else [])}
        pools += [
            Around(f"blocks of {size:,} in {name}", (order // size).astype(np.int32), same=None)
            for size in sorted(sizes)
        ]
    return pools


def _find_block(order: Int64s, pairs: Pairs, count: int) -> int | None:
    """Find the size of blocks that pairs do not cross: of those little larger than the smallest, the best."""
    rows, columns = order[pairs.captions], order[pairs.pictures]
    apart = np.sort(np.abs(rows - columns))  # those of one block are less apart than its size
    passing: dict[int, float] = {}
    for size in range(min(_LEAST_BLOCK, count), min(count // 2, _MOST_BLOCK) + 1):
        if passing and size > 1.05 * min(passing):
            break
        if (
            np.searchsorted(apart, size) >= INSIDE * len(apart)
            and (inside := float(np.mean(rows // size == columns // size))) >= INSIDE
        ):
            passing[size] = inside
    best = [size for size, inside in passing.items() if inside == max(passing.values())]
    return max(best, key=lambda size: (sum(size % unit == 0 for unit in _ROUND), -size), default=None)


def rank_pictures(
    official: Official,
    space: Space,
    rule: Rule,
    pairs: Pairs,
    used: Pairs,
    uses: int,
    pools: Sequence[Around],
    near: tuple[Int64s, Int64s],
) -> list[PoolFigures]:
    """Compare the official picture of each pair with all allowed candidates of each pool."""
    entities = make_entities(official.entity_lists)
    allow = _Allowed(official, entities, rule, space.known)
    held = _find_held(len(official.ids), used, uses)
    chosen = np.flatnonzero(space.known[pairs.captions] & space.known[pairs.pictures])
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_RANKED)).astype(np.int64))]
    better = np.zeros((len(pools), len(chosen)), np.int64)
    free = np.zeros((len(pools), len(chosen)), np.int64)
    for at in range(0, len(chosen), 64):
        part = chosen[at : at + 64]
        scores = space.left[pairs.captions[part]] @ space.right.T
        for k, pair in enumerate(part.tolist()):
            caption, least = int(pairs.captions[pair]), pairs.scores[pair] + space.slack
            found = np.flatnonzero(scores[k] > least)
            found = allow.keep(caption, found)
            if rule.cap is not None:
                found = found[scores[k, found] < rule.cap]
            open_ones = scores[k, found] > held[found] + space.slack
            for number, pool in enumerate(pools):
                inside = pool.holds(official, caption, found)
                better[number, at + k], free[number, at + k] = inside.sum(), (inside & open_ones).sum()
    figures = []
    for number, pool in enumerate(pools):
        inside = pool.holds(official, pairs.captions, pairs.pictures)
        ours = inside[chosen]
        figures.append(
            PoolFigures(
                pool.name,
                _mean_size(official, pool, pairs.captions),
                float(inside.mean()),
                float(pool.holds(official, *near).mean()) if len(near[0]) else float("nan"),
                float((ours & (better[number] == 0)).mean()),
                float((ours & (free[number] == 0)).mean()),
                float(np.median(better[number][ours])) + 1 if ours.any() else float("nan"),
            )
        )
    return figures


def choose_pool(pools: Sequence[Around], figures: Sequence[PoolFigures]) -> Around:
    """Return the smallest pool that has all official pictures, though not all near captions; else the split."""
    local = [k for k, each in enumerate(figures) if each.inside >= INSIDE and each.near < LOCAL]
    return pools[min(local, key=lambda k: figures[k].size)] if local else pools[0]


def _mean_size(official: Official, pool: Around, captions: Int64s) -> float:
    if pool.codes is not None:
        counts = np.bincount(pool.codes[pool.codes >= 0], minlength=1)
        codes = pool.codes[captions]
        return float(counts[codes[codes >= 0]].mean()) if (codes >= 0).any() else 0.0
    times = np.sort(official.times[~np.isnan(official.times)])
    ours = official.times[captions]
    ours = ours[~np.isnan(ours)]
    counts = np.searchsorted(times, ours + pool.seconds, "right") - np.searchsorted(times, ours - pool.seconds)
    return float(counts.mean()) if len(ours) else 0.0


class _Allowed:
    """Which candidates a rule allows to a caption, cap and pool aside."""

    def __init__(self, official: Official, entities: Entities, rule: Rule, known: Bools) -> None:
        self._always = known.copy()
        if rule.picture is not None:
            self._always &= official.has_person
        self._mark = np.zeros(len(known), bool)
        self._lists = {}
        for name in ("share", "differ", "without"):
            if getattr(rule, name):
                lists = entities.only(rule.labels(name, entities.known))
                self._lists[name] = (lists, lists.invert())
        if "without" in self._lists:
            self._always &= np.diff(self._lists["without"][0].starts) == 0

    def keep(self, caption: int, candidates: Int64s) -> Int64s:
        """Return the candidates that are allowed."""
        candidates = candidates[self._always[candidates] & (candidates != caption)]
        for name, wanted in (("share", True), ("differ", False)):
            if name in self._lists and len(candidates):
                candidates = candidates[self._meets(name, caption)[candidates] == wanted]
        return candidates

    def _meets(self, name: str, caption: int) -> Bools:
        lists, inverse = self._lists[name]
        values = lists.values[lists.starts[caption] : lists.starts[caption + 1]]
        self._mark[:] = False
        for start, stop in zip(*inverse.find(values), strict=True):
            self._mark[inverse.owners[start:stop]] = True
        return self._mark


def _find_held(count: int, used: Pairs, uses: int) -> Float64s:
    """Return how good a caption must be for each picture: the worst of those that use it, if it is used up."""
    held = np.full(count, -np.inf)
    order = np.lexsort((-used.scores, used.pictures))
    pictures, scores = used.pictures[order], used.scores[order]
    rank = np.arange(len(order)) - np.searchsorted(pictures, pictures)
    last = rank == uses - 1
    held[pictures[last]] = scores[last]
    return held
