"""Merge the matches of several methods: as many of each, and each caption in one method only."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from _newsclippings.generate.assign import Matching
from _newsclippings.generate.rules import Method
from _newsclippings.generate.splits import join_groups
from _newsclippings.tables import Int64s

Bools = npt.NDArray[np.bool_]


class Candidates(NamedTuple):
    """The matches of one method.

    Attributes:
        ids: int64 (N,), of the captions, in ascending order.
        units: int64 (N,); captions with the same number are kept together or not at all.
    """

    ids: Int64s
    units: Int64s


def make_units(method: Method, matching: Matching, margins: npt.NDArray[np.float64] | None) -> Int64s:
    """Return which captions have to stay together so that a part of the matches has the properties of all of them.

    In a closed set a picture is as often true as false if the captions of a cycle stay together. A balanced set stays
    balanced if a swap that a model gets right goes with one that it gets wrong.

    Args:
        method: the method.
        matching: its matches.
        margins: see `find_margins`; of a balanced method.

    Returns:
        int64 (N,), a number for each caption that is matched; -1 for the others.
    """
    captions = np.flatnonzero(matching.picture >= 0)
    units = np.full(len(matching.picture), -1, np.int64)
    units[captions] = captions
    if method.closed or method.balance is not None:
        cycles = join_groups(len(units), [], [(captions, matching.picture[captions].astype(np.int64))])
        units[captions] = cycles[captions]
    if margins is not None:
        first = np.unique(units[captions])
        second = matching.picture[first].astype(np.int64)
        wins = np.sign(margins[first]) + np.sign(margins[second])
        for size in (1, 2):
            lost, won = first[wins == -size], first[wins == size]
            partner = dict(zip(lost.tolist(), won.tolist(), strict=True))
            for caption in captions.tolist():
                units[caption] = partner.get(int(units[caption]), units[caption])
    return units


def choose_balanced(methods: Sequence[Candidates]) -> list[Bools]:
    """Choose as many matches of each method, so that no caption is in two methods.

    The method that has the fewest so far takes its next unit, those that fewer matches of other methods need first, and
    of these by a hash of the id. It ends when the method with the fewest has no more.

    Args:
        methods: the matches of each method.

    Returns:
        For each method bool (N,), the matches that are chosen.
    """
    every = np.unique(np.concatenate([np.empty(0, np.int64), *(each.ids for each in methods)]))
    places = [np.searchsorted(every, each.ids) for each in methods]
    # A caption is in demand by each method in proportion to how few it has
    demand = np.zeros(len(every))
    for at in places:
        demand[at] += 1 / len(at) if len(at) else 0
    queues = [_order_units(each, at, demand) for each, at in zip(methods, places, strict=True)]
    taken: list[list[Int64s]] = [[] for _ in methods]
    counts, used = [0] * len(methods), np.zeros(len(every), bool)
    while True:
        fewest = counts.index(min(counts))
        unit = next((rows for rows in queues[fewest] if not used[places[fewest][rows]].any()), None)
        if unit is None:
            break
        used[places[fewest][unit]] = True
        taken[fewest].append(unit)
        counts[fewest] += len(unit)
    chosen = _cut(taken, min(counts))
    masks = []
    for each, units in zip(methods, chosen, strict=True):
        mask = np.zeros(len(each.ids), bool)
        mask[np.concatenate([np.empty(0, np.int64), *units])] = True
        masks.append(mask)
    return masks


def _order_units(method: Candidates, places: Int64s, demand: npt.NDArray[np.float64]) -> Iterator[Int64s]:
    order = np.argsort(method.units, kind="stable")
    starts = np.unique(method.units[order], return_index=True)[1]
    units = np.split(order, starts[1:]) if len(order) else []
    own = 1 / max(1, len(places))

    def key(rows: Int64s) -> tuple[float, bytes]:
        others = round(float((demand[places[rows]] - own).mean()) / own, 9)
        return others, hashlib.sha256(str(int(method.ids[rows[0]])).encode()).digest()

    return iter(sorted(units, key=key))


def _cut(taken: list[list[Int64s]], count: int) -> list[list[Int64s]]:
    """Return of each method the units that add up to the same number of matches, the largest there is."""
    while count:
        chosen = [_fill(units, count) for units in taken]
        if all(chosen):
            return [units or [] for units in chosen]
        count -= 1
    return [[] for _ in taken]


def _fill(units: list[Int64s], count: int) -> list[Int64s] | None:
    """Return units with `count` matches together, large ones first; None if they do not add up to that."""
    chosen = []
    for unit in sorted(units, key=len, reverse=True):
        if len(unit) <= count:
            chosen.append(unit)
            count -= len(unit)
    return chosen if not count else None
