"""Merging: as many matches of each method, no caption in two, and what belongs together stays together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from support.matching import unit

from _newsclippings.generate import Matching, Method, balance, find_margins
from _newsclippings.generate.merge import Candidates, choose_balanced, make_units
from _newsclippings.generate.search import Measure


def most(methods: list[set[int]]) -> int:
    """How many of each there can be at most, by Hall's theorem, if captions are chosen one by one."""
    subsets = itertools.chain.from_iterable(
        itertools.combinations(methods, size) for size in range(1, len(methods) + 1)
    )
    return min(len(set().union(*some)) // len(some) for some in subsets)


@pytest.mark.parametrize("seed", range(60))
def test_equal_parts(seed: int) -> None:
    """Each method has as many, no caption is in two, and nearly as many as there can be are chosen."""
    r = np.random.default_rng(seed)
    count = int(r.integers(1, 5))
    sets = [{*r.choice(60, int(r.integers(1, 50)), replace=False).tolist()} for _ in range(count)]
    if seed % 3 == 0:
        sets[0] = {*sorted(sets[-1])[: 1 + len(sets[-1]) // 3]}  # a small method whose captions others have, too
    methods = [Candidates(np.array(sorted(ids)), np.arange(len(ids))) for ids in sets]
    chosen = choose_balanced(methods)
    taken = [each.ids[mask].tolist() for each, mask in zip(methods, chosen, strict=True)]
    sizes = {len(each) for each in taken}
    assert len(sizes) == 1
    assert len({*itertools.chain(*taken)}) == count * sizes.pop()
    assert most(sets) - len(taken[0]) in (0, 1)
    again = choose_balanced(methods)
    assert all(np.array_equal(one, two) for one, two in zip(chosen, again, strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_units_are_whole(seed: int) -> None:
    """Of a closed method whole cycles are chosen, of a balanced one as many wins as losses."""
    r = np.random.default_rng(seed)
    n = 40
    text, image = (unit(r.standard_normal((n, 5))) for _ in range(2))
    swaps = r.permutation(n).reshape(-1, 2)
    picture = np.empty(n, np.int32)
    picture[swaps[:, 0]], picture[swaps[:, 1]] = swaps[:, 1], swaps[:, 0]
    empty = np.zeros(n, np.int8)
    whole = Matching(picture, np.zeros(n), empty, 0, 0, 1)
    margins = find_margins(whole, Measure(text, image))
    balanced = balance(whole, margins)
    cycle = np.roll(np.arange(n, dtype=np.int32), 1)
    cycle[:7], cycle[7:12] = np.roll(np.arange(7), 1), np.roll(np.arange(7, 12), 1)
    cycle[12:] = np.roll(np.arange(12, n), 1)
    matchings = [
        (Method("a", "x", "y", balance="zero-shot"), balanced, margins),
        (Method("b", "x", "y", closed=True), Matching(cycle, np.zeros(n), empty, 0, 0, 1), None),
        (Method("c", "x", "y"), whole, None),
    ]
    candidates, at = [], []
    for number, (method, matching, of) in enumerate(matchings):
        captions = np.flatnonzero(matching.picture >= 0)
        at.append(captions)
        candidates.append(Candidates(captions + 100 * (number == 1), make_units(method, matching, of)[captions]))
    chosen = [captions[mask] for captions, mask in zip(at, choose_balanced(candidates), strict=True)]
    assert len({len(each) for each in chosen}) == 1
    assert {*balanced.picture[chosen[0]].tolist()} == {*chosen[0].tolist()}
    assert (margins[chosen[0]] > 0).sum() * 2 == len(chosen[0])
    assert {*cycle[chosen[1]].tolist()} == {*chosen[1].tolist()}
