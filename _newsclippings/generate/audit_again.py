"""Match again by the recipe that was found, and find out which matches were left out."""

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from _newsclippings.generate.assign import Matching, balance, close, find_margins, match
from _newsclippings.generate.audit_bias import is_swap
from _newsclippings.generate.audit_inputs import Bools, Official, Pairs
from _newsclippings.generate.audit_measure import CLOSE, COSINE, change_vectors
from _newsclippings.generate.audit_pool import DAY, Around, Space
from _newsclippings.generate.entities import make_entities
from _newsclippings.generate.rules import BALANCES, Rule
from _newsclippings.generate.search import Measure, Pool, normalise
from _newsclippings.tables import Int64s, as_array

FEW: Final = 0.005  # share of the matches that may be missing without a reason
ALIKE: Final = 0.95  # share of what a filter keeps that the official file has, if it is the filter
_CHANCE: Final = 1e-4  # that so many were left out without a rule
_DIGITS: Final = 6  # of a floor, at most


class MadeAgain(NamedTuple):
    """What matching by the found recipe gives.

    Attributes:
        way: in words.
        same: share of the official pairs that get the same picture.
        matched: how many captions get a picture.
        captions: share of the captions with a picture here or in the official file that have one in both; NaN if the
            file with all matches of the source is not there.
        difference: mean of the scores minus that of the official ones.
    """

    way: str
    same: float
    matched: int
    captions: float
    difference: float


class Remade(NamedTuple):
    """Matches that were made again.

    Attributes:
        members: int64 (M,), positions of the captions that took part, in ascending order of their ids.
        matching: their matches, as positions among the members.
    """

    members: Int64s
    matching: Matching

    @property
    def filled(self) -> Bools:
        """Which members have a picture, bool (M,)."""
        filled: Bools = self.matching.picture >= 0
        return filled


def make_again(official: Official, space: Space, rule: Rule, pool: Around, uses: int | None, only: Bools) -> Remade:
    """Match captions by a recipe.

    Args:
        official: the files.
        space: the measure.
        rule: without the pool.
        pool: among which pictures.
        uses: how often a picture may be used.
        only: bool (N,), captions that take part.
    """
    members = np.flatnonzero(space.known & only)
    members = members[np.argsort(official.ids[members], kind="stable")]
    left = normalise(space.left[members])
    right = left if space.left is space.right else normalise(space.right[members])
    columns = {"pool": pool.codes[members]} if pool.codes is not None and pool.codes.any() else {}
    if pool.codes is None:
        rule = Rule(**{**vars(rule), "within": f"{pool.seconds // DAY}d"})
    elif columns:
        rule = Rule(**{**vars(rule), "same": ("pool",)})
    entities = make_entities(official.entity_lists.take(as_array(members)))
    flags, times = {"has_person": official.has_person[members]}, official.times[members]
    made = match(Measure(left, right), Pool(len(members), entities, columns, times, flags), rule, uses)
    return Remade(members, made)


def compare_again(official: Official, remade: Remade, pairs: Pairs, used: Pairs | None, way: str) -> MadeAgain:
    """Compare with the official pairs; `used` are all matches of the source, None if they are not there."""
    picture, score = np.full(len(official.ids), -1, np.int64), np.full(len(official.ids), np.nan)
    got = np.flatnonzero(remade.filled)
    picture[remade.members[got]] = remade.members[remade.matching.picture[got]]
    score[remade.members[got]] = remade.matching.score[got]
    captions = float("nan")
    if used is not None:
        both = np.isin(np.flatnonzero(picture >= 0), used.captions).sum()
        captions = float(both / max(1, len(got) + len(np.unique(used.captions)) - both))
    again = picture[pairs.captions] >= 0
    difference = float((score[pairs.captions] - pairs.scores)[again].mean()) if again.any() else float("nan")
    same = float((picture[pairs.captions] == pairs.pictures).mean())
    return MadeAgain(way, same, len(got), captions, difference)


@dataclass
class FoundFilter:
    """Which of the matches were left out.

    Attributes:
        made: how many captions get a picture if they are matched again.
        left_out: how many of these have no official pair.
        unexplained: how many of these the keys below do not leave out.
        floor: scores are at least this, as the grammar has it.
        closed: as the grammar has it.
        balance: as the grammar has it.
        notes: what the grammar cannot say.
    """

    made: int
    left_out: int
    unexplained: int = 0
    floor: float | None = None
    closed: bool = False
    balance: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The keys of a method in TOML."""
        keys = [] if self.floor is None else [f"floor = {self.floor}"]
        keys += ["closed = true"] if self.closed else []
        return keys if self.balance is None else [*keys, f'balance = "{self.balance}"']


def find_filter(official: Official, remade: Remade, used: Pairs, uses: int | None) -> tuple[FoundFilter, Remade]:
    """Find the keys of a recipe that leave out what is not in the official file; return the matches without it, too.

    Args:
        official: the files.
        remade: matches that are made again, whose pictures are those of the official ones.
        used: all official matches of the source.
        uses: how often a picture may be used.
    """
    matching, there = remade.matching, np.isin(remade.members, used.captions)
    kept = remade.filled
    found = FoundFilter(int(kept.sum()), int((kept & ~there).sum()))
    share = found.left_out / max(1, found.made)

    def is_certain(count: int) -> bool:
        """Whether so many captions are not all left out by chance."""
        return count > 0 and share**count < _CHANCE

    lowest = float(used.scores.min())
    below = kept & ~there & (matching.score < lowest - CLOSE)
    if is_certain(int(below.sum())):
        found.floor = _round_up(float(matching.score[below].max()), lowest)
        matching = matching.keep(matching.score >= found.floor, "floor")
    if uses == 1:
        closed = close(matching)
        lost = (matching.picture >= 0) & (closed.picture < 0)
        if is_certain(int(lost.sum())) and (lost & there).sum() <= FEW * there.sum():
            found.closed, matching = True, closed
        swapped = is_swap(used, len(official.ids)).mean() >= 1 - FEW
        vectors = change_vectors(official, "clip_text", "clip_image", COSINE) if swapped and share > FEW else None
        if vectors is not None and (vectors[2][0] & vectors[2][1])[remade.members].all():
            captions, pictures = (normalise(side[remade.members]) for side in vectors[:2])
            balanced = balance(matching, find_margins(matching, Measure(captions, pictures)))
            left = balanced.picture >= 0
            few = (kept & there & ~left).sum() <= FEW * there.sum()
            if few and (left & there).sum() >= ALIKE * left.sum():
                found.balance, matching = BALANCES[0], balanced
    out = (matching.picture >= 0) & ~there
    found.unexplained = int(out.sum())
    if found.unexplained > FEW * found.made:
        found.notes += _describe_left_out(official, remade, out, there & kept)
    return found, Remade(remade.members, matching)


def _round_up(above: float, most: float) -> float:
    """Return the roundest number above one and not above the other."""
    for digits in range(1, _DIGITS):
        rounded: float = math.floor(above * 10**digits + 1) / 10**digits
        if above < rounded <= most:
            return rounded
    return most


def _describe_left_out(official: Official, remade: Remade, out: Bools, there: Bools) -> list[str]:
    """Say what captions have in common that were left out, if that has no word in the grammar."""
    count, whole, notes = int(out.sum()), int((out | there).sum()), []
    share = count / max(1, whole)
    words = [caption.split() for caption in official.captions]
    for what, each in (("words", words), ("entities", official.entities)):
        sizes = np.array([len(each[member]) for member in remade.members.tolist()])
        low, high = sizes[there].min(), sizes[there].max()
        others = int((out & ((sizes < low) | (sizes > high))).sum())
        if others and share**others < _CHANCE:
            notes.append(
                f"official captions have {low} to {high} {what}; {others:,} of the {count:,} captions that were left "
                "out have other numbers of them, for which the grammar has no key"
            )
    notes.append(
        f"{count:,} of {whole:,} captions that get a picture have no official pair ({share:.1%}); no key of the "
        "grammar leaves out just these"
    )
    return notes
