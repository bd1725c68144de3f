"""Which caption gets which picture: each the best, each picture a limited number of times, closed sets, balance."""

import functools
from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from _newsclippings.errors import ConfigError
from _newsclippings.generate.agreement import Agreement
from _newsclippings.generate.blocks import Run, run_here
from _newsclippings.generate.rules import Rule
from _newsclippings.generate.search import BLOCK_BYTES, Found, Held, Measure, Near, Pool, Search
from _newsclippings.generate.tiles import Bools, Float64s
from _newsclippings.tables import Int32s, Int64s

LENGTH: Final = 16  # pictures of a caption that are found at a time
JUDGED: Final = 1000  # captions of which an approximate search is compared with the exact one
LATER: Final = 2  # times as many in later searches, whose captions lose more pictures to others
MATCHED: Final = ""
# Why a caption has no picture: the part of the rule that forbade the last one, or what came after.
REASONS: Final = (
    MATCHED, "pool", "share", "same", "other", "gap", "within", "picture", "without", "differ", "cap", "floor",
    "used_up", "closed", "balance",
)  # fmt: skip


@dataclass(frozen=True)
class Matching:
    """The picture of each caption.

    Attributes:
        picture: int32 (N,), the position of the picture's own caption; -1 if there is none.
        score: float64 (N,); NaN if there is no picture.
        reason: int8 (N,), the position in `REASONS` of why there is no picture; 0 if there is one.
        products: how many captions were compared, in all rounds together.
        pairs: how many products of two vectors that took in this process.
        rounds: how often captions without a picture were searched.
        agreement: of an approximate search; None if it was exact, or if no caption has a picture.
    """

    picture: Int32s
    score: Float64s
    reason: npt.NDArray[np.int8]
    products: int
    pairs: int
    rounds: int
    agreement: Agreement | None = None

    def reasons(self) -> list[str]:
        """Return why each caption has no picture; "" if it has one."""
        return [REASONS[reason] for reason in self.reason.tolist()]

    def counts(self) -> dict[str, int]:
        """Count the captions without a picture by reason."""
        return dict(Counter(reason for reason in self.reasons() if reason != MATCHED))

    def keep(self, kept: Bools, reason: str) -> "Matching":
        """Return the same without the pictures of captions that are not kept, for a reason."""
        lost = ~kept & (self.picture >= 0)
        return replace(
            self,
            picture=np.where(lost, np.int32(-1), self.picture),
            score=np.where(lost, np.nan, self.score),
            reason=np.where(lost, np.int8(REASONS.index(reason)), self.reason),
        )


def match(
    measure: Measure,
    pool: Pool,
    rule: Rule,
    uses: int | None = 1,
    length: int = LENGTH,
    block_bytes: int = BLOCK_BYTES,
    run: Run = run_here,
    near: Near | None = None,
) -> Matching:
    """Give each caption the best picture that the rule allows.

    With limited use the result is the one stable matching: no caption and picture would both rather have each other,
    where the higher score is better, then the lower caption, then the lower picture. It is the same as that of taking
    all pairs from the best down. Captions propose to their pictures from the best down, a picture keeps the best of
    those who proposed, and the others go on. The order of proposals does not matter.

    Args:
        measure: the vectors.
        pool: everything else about captions and pictures.
        rule: which pairs are allowed.
        uses: how often a picture may be used; None: without limit.
        length: pictures of a caption that are found at a time. It changes only how long this takes.
        block_bytes: of scores in memory at a time. It changes only how long this takes.
        run: does the searches, such as in several processes.
        near: see `Search`. With limited use the matching is then stable as far as pictures were looked at. A caption
            without a picture has none that is free for it, or, with a floor, none in the nearest cells.

    Raises:
        ConfigError: the pool does not have what the rule needs.
    """
    search, held = Search(measure, pool, rule, block_bytes, near), None
    if uses is None:
        found = _find(run, search, search.rows, 1)
        picture, score = np.full(pool.size, -1, np.int32), np.full(pool.size, -np.inf)
        picture[search.rows], score[search.rows] = found.pictures[:, 0], found.scores[:, 0]
        candidates, products, rounds = picture >= 0, len(search.rows), 1
    else:
        proposals = _Proposals(pool.size, uses, min(length, max(1, pool.size)))
        products = rounds = 0
        free = search.rows
        while len(free):
            products, rounds = products + len(free), rounds + 1
            free = proposals.run(run, search, free)
        picture, score, candidates = proposals.picture, proposals.score, proposals.candidates
        held = proposals.held
    reason = np.full(pool.size, REASONS.index("used_up"), np.int8)
    reason[picture >= 0] = REASONS.index(MATCHED)
    reason[np.setdiff1d(np.arange(pool.size), search.rows)] = REASONS.index("without")
    alone = search.rows[~candidates[search.rows]]
    (part,) = run(search, Search.explain, alone, search.count_pairs(alone))
    reason[alone] = np.array([REASONS.index(name) for name in search.parts], np.int8)[part]
    score = np.where(picture >= 0, score, np.nan)
    made = Matching(picture, score, reason, products, search.pairs, rounds)
    if near is None or not (picture >= 0).any():
        return made
    return replace(made, agreement=_compare(run, search, Search(measure, pool, rule, block_bytes), made, held))


def _compare(run: Run, search: Search, exact: Search, made: Matching, held: Held | None) -> Agreement:
    """Search exactly for some captions with a picture; `held` is what pictures ask in the end."""
    captions = np.flatnonzero(made.picture >= 0)
    drawn = np.random.default_rng(0).choice(captions, min(JUDGED, len(captions)), replace=False)
    mine, best, free = (
        _find(run, each, drawn, 1, asked).pictures[:, 0]
        for each, asked in ((search, None), (exact, None), (exact, held))
    )
    return Agreement(len(drawn), int((mine == best).sum()), int((made.picture[drawn] == free).sum()))


def _find(run: Run, search: Search, rows: Int64s, length: int, held: Held | None = None) -> Found:
    work = functools.partial(Search.find, length=length, held=held)
    return Found(*run(search, work, rows, search.count_pairs(rows)))


class _Proposals:
    """The state of deferred acceptance.

    Attributes:
        picture: int32 (N,), the picture that each caption has now; -1 for none.
        score: float64 (N,), its score.
        pictures: int32 (M,), the pictures that captions propose to, one list of all searches after the other, and
            `scores`; see `Found`.
        next: int64 (N,), the place in `pictures` that each caption proposes to next; its list ends before `end`.
        candidates: bool (N,), whether any picture is allowed to the caption.
        holders: int32 (N, uses), the captions that use each picture, the best first; -1 for none.
    """

    def __init__(self, count: int, uses: int, length: int) -> None:
        self.picture = np.full(count, -1, np.int32)
        self.score = np.full(count, -np.inf)
        self.length = length
        self.pictures, self.scores = np.empty(0, np.int32), np.empty(0)
        self.holders = np.full((count, uses), -1, np.int32)
        self.candidates = np.zeros(count, bool)
        self.next, self.end = np.zeros(count, np.int64), np.zeros(count, np.int64)

    @property
    def held(self) -> Held | None:
        """What pictures ask of captions now; None if none is used up."""
        last = self.holders[:, -1]
        return Held(np.where(last >= 0, self.score[last], -np.inf), last) if (last >= 0).any() else None

    def run(self, run: Run, search: Search, free: Int64s) -> Int64s:
        """Search for captions without a picture and let them propose; return those whose list is used up."""
        held = self.held
        length = self.length if held is None else min(len(self.picture), LATER * self.length)
        found = _find(run, search, free, length, held)
        self.next[free] = len(self.pictures) + length * np.arange(len(free))
        self.end[free] = self.next[free] + length
        self.pictures = np.concatenate([self.pictures, found.pictures.ravel()])
        self.scores = np.concatenate([self.scores, found.scores.ravel()])
        self.candidates[free] |= found.pictures[:, 0] >= 0
        used_up = []
        while len(free):
            ended = self.next[free] == self.end[free]
            used_up.append(free[ended])
            free = free[~ended]
            places = self.next[free]
            self.next[free] += 1
            pictures, scores = self.pictures[places], self.scores[places]
            some = pictures >= 0  # nothing more is allowed to the others
            free = self._propose(free[some], pictures[some], scores[some])
        return np.sort(np.concatenate([np.empty(0, np.int64), *used_up]))

    def _propose(self, captions: Int64s, pictures: Int32s, scores: Float64s) -> Int64s:
        """Let captions propose, each to one picture; return those that have none afterwards, former users included."""
        former = self.holders[np.unique(pictures)].ravel()
        former = former[former >= 0]
        captions = np.concatenate([captions, former])
        pictures = np.concatenate([pictures, self.picture[former]])
        scores = np.concatenate([scores, self.score[former]])
        order = np.lexsort((captions, -scores, pictures))
        captions, pictures, scores = captions[order], pictures[order], scores[order]
        rank = np.arange(len(order)) - np.searchsorted(pictures, pictures)
        kept = rank < self.holders.shape[1]
        self.holders[pictures[kept], rank[kept]] = captions[kept]
        self.picture[captions[kept]], self.score[captions[kept]] = pictures[kept], scores[kept]
        self.picture[captions[~kept]], self.score[captions[~kept]] = -1, -np.inf
        return captions[~kept]


def close(matching: Matching) -> Matching:
    """Keep only captions whose own picture is used by a caption that is kept: the largest such set.

    Then each picture of the set is once with its own caption and once with another, so that a picture, seen alone,
    does not show the label.

    Raises:
        ConfigError: a picture is used by several captions.
    """
    kept = matching.picture >= 0
    captions = np.flatnonzero(kept)
    users = np.full(len(kept), -1, np.int64)
    users[matching.picture[captions]] = captions
    if (users >= 0).sum() < len(captions):
        message = "a picture is used by several captions, so no closed set follows. Match with uses=1."
        raise ConfigError(message)
    lost: Int64s = np.flatnonzero(~kept)
    while len(lost):  # their pictures are no true pictures here, so the captions that use them are lost too
        lost = users[lost]
        lost = lost[lost >= 0]
        kept[lost] = False
    return matching.keep(kept, "closed")


def find_margins(matching: Matching, measure: Measure) -> Float64s:
    """Return how much more a model of captions and pictures likes a match than the caption with its own picture.

    Args:
        matching: the matches.
        measure: of captions against pictures.

    Returns:
        float64 (N,); NaN for captions without a picture.
    """
    margins = np.full(len(matching.picture), np.nan)
    captions = np.flatnonzero(matching.picture >= 0)
    true = measure.score(captions, captions)
    margins[captions] = measure.score(captions, matching.picture[captions]) - true
    return margins


def balance(matching: Matching, margins: Float64s) -> Matching:
    """Keep swaps (two captions with each other's picture), so many that half of the margins are positive.

    A model that made the margins then picks the true picture for exactly half of the captions. Only whole swaps are
    kept or not, because choosing captions by themselves would let a picture, seen alone, show the label.

    Args:
        matching: the matches.
        margins: float64 (N,), see `find_margins`.
    """
    picture, every = matching.picture, np.arange(len(matching.picture))
    first = np.flatnonzero((picture > every) & (picture[picture] == every))
    second = picture[first].astype(np.int64)
    wins = np.sign(margins[first]) + np.sign(margins[second])
    sizes = np.abs(margins[first] + margins[second])
    chosen = [np.flatnonzero(wins == 0)]
    for size in (1, 2):
        for mine, other in ((size, -size), (-size, size)):
            swaps = np.flatnonzero(wins == mine)
            swaps = swaps[np.argsort(sizes[swaps], kind="stable")]
            chosen.append(swaps[_spread(len(swaps), min(len(swaps), int((wins == other).sum())))])
    kept = np.zeros(len(picture), bool)
    kept[first[np.concatenate(chosen)]] = kept[second[np.concatenate(chosen)]] = True
    return matching.keep(kept, "balance")


def _spread(count: int, wanted: int) -> Int64s:
    """Return `wanted` of `count` positions, at equal distances."""
    return (np.arange(wanted) * count + count // 2) // max(1, wanted)
