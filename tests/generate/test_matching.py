"""Matches are those that follow from looking at every pair, whatever the blocks, lists and engines."""

from __future__ import annotations

import numpy as np
import pytest
from support.constants import change_constant
from support.matching import World, match_by_hand, random_world

from _newsclippings.generate import Matching, Measure, match


def check(world: World, seed: int) -> Matching:
    """Compare with the oracle, with list lengths and blocks that the seed draws."""
    r = np.random.default_rng(seed)
    measure = Measure(world.query, world.against)
    made = match(
        measure,
        world.pool(),
        world.rule,
        world.uses,
        length=int(r.integers(1, 6)),
        block_bytes=int(r.integers(1, 2000)),
    )
    picture, score, reasons = match_by_hand(world)
    assert made.picture.tolist() == picture
    np.testing.assert_array_equal(made.score, score)
    assert made.reasons() == reasons
    return made


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("first", range(0, 750, 50))
def test_matches_are_those_of_brute_force(first: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 random worlds with random rules, half of them full of equal scores: none differs."""
    change_constant(monkeypatch, "GROUP", 1 + first // 50 % 4, "search")
    change_constant(monkeypatch, "BLOCK_ROWS", 2, "search")
    for seed in range(first, first + 50):
        check(random_world(seed, ties), seed)


@pytest.mark.sweep
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("first", range(10_000, 20_000, 500))
def test_more_worlds(first: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 more worlds."""
    change_constant(monkeypatch, "GROUP", 1 + first // 500 % 4, "search")
    change_constant(monkeypatch, "BLOCK_ROWS", 2, "search")
    for seed in range(first, first + 500):
        check(random_world(seed, ties), seed)
