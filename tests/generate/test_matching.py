"""Matches are those that follow from looking at every pair, whatever the blocks, lists and engines."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from support.constants import change_constant
from support.matching import STEPS, World, make_pool, match_by_hand, medium_world, random_world, steps_passed, unit

from _newsclippings.generate import (
    REASONS,
    Matching,
    Measure,
    Pool,
    Rule,
    balance,
    close,
    find_margins,
    match,
    normalise,
)
from _newsclippings.generate.search import Search
from newsclippings import ConfigError

DIFFER = Rule(differ=("*",))
RULES = {
    "differ": DIFFER,
    "cap": Rule(differ=("*",), cap=0.6, other=("article",)),
    "share": Rule(share=("PERSON", "ORG"), differ=("*",), picture="has_person", cap=0.9),
    "same": Rule(same=("topic",), within="200d", differ=("GPE",), floor=0.1),
}


def check(world: World, seed: int) -> None:
    """Compare with the oracle, with a list length and a block size that the seed draws."""
    r = np.random.default_rng(seed)
    measure = Measure(world.query, world.against)
    length, block = int(r.integers(1, 6)), int(r.choice([100, 1000, 1 << 20]))
    made = match(measure, world.pool(), world.rule, world.uses, length=length, block_bytes=block)
    picture, score, reasons = match_by_hand(world)
    assert made.picture.tolist() == picture
    np.testing.assert_array_equal(made.score, score)
    assert made.reasons() == reasons


def small_blocks(monkeypatch: pytest.MonkeyPatch, group: int) -> None:
    change_constant(monkeypatch, "COMPARED", group, "search")
    change_constant(monkeypatch, "BLOCK_ROWS", 2, "search")


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("first", range(0, 750, 50))
def test_matches_are_those_of_brute_force(first: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 random worlds with random rules, half of them full of equal scores: pictures, scores and reasons."""
    small_blocks(monkeypatch, 1 + first // 50 % 4)
    for seed in range(first, first + 50):
        check(random_world(seed, ties), seed)


@pytest.mark.sweep
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("first", range(10_000, 20_000, 500))
def test_more_worlds(first: int, ties: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 more worlds."""
    small_blocks(monkeypatch, 1 + first // 500 % 4)
    for seed in range(first, first + 500):
        check(random_world(seed, ties), seed)


def test_the_worlds_have_every_reason() -> None:
    """The random worlds leave captions without a picture for every reason that a rule can give."""
    seen = set(itertools.chain.from_iterable(match_by_hand(random_world(seed, seed % 2 > 0))[2] for seed in range(200)))
    assert seen == {"", *STEPS, "used_up"} <= {*REASONS}


@pytest.fixture(scope="module", params=["text-text", "text-image"])
def medium(request: pytest.FixtureRequest) -> tuple[Measure, Pool]:
    text, image, pool = medium_world(request.param)
    return Measure(text, image), pool


def same(first: Matching, second: Matching) -> bool:
    """Whether two matchings have the same bytes."""
    return all(
        getattr(first, name).tobytes() == getattr(second, name).tobytes() for name in ("picture", "score", "reason")
    )


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("uses", [1, None])
def test_matches_depend_on_no_size(
    medium: tuple[Measure, Pool], name: str, uses: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other blocks, lists, groups and mapped vectors give the same bytes: P8 of generated sets."""
    measure, pool = medium
    whole = match(measure, pool, RULES[name], uses)
    assert whole.rounds >= 1
    assert whole.products >= np.count_nonzero(whole.picture >= 0)
    for path, vectors in (("q.npy", measure.query), ("a.npy", measure.against)):
        np.save(tmp_path / path, vectors)
    mapped = Measure(np.load(tmp_path / "q.npy", mmap_mode="r"), np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert same(whole, match(mapped, pool, RULES[name], uses, length=3, block_bytes=97 * 4 * 256))
    small_blocks(monkeypatch, 4)
    assert same(whole, match(measure, pool, RULES[name], uses, length=40, block_bytes=1 << 16))


def test_ranks_find_what_one_process_finds(medium: tuple[Measure, Pool]) -> None:
    """A search of some captions finds the same as a search of all: ranks can share the captions out."""
    measure, pool = medium
    search = Search(measure, pool, DIFFER)
    whole = search.find(search.rows, 5)
    for rank in range(3):
        part = search.find(search.rows[rank::3], 5)
        np.testing.assert_array_equal(part.pictures, whole.pictures[rank::3])
        np.testing.assert_array_equal(part.scores, whole.scores[rank::3])


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_torch_finds_what_numpy_finds(medium: tuple[Measure, Pool]) -> None:
    """With products of torch the matches have the same bytes."""
    measure, pool = medium
    for rule in RULES.values():
        assert same(match(measure, pool, rule), match(Measure(measure.query, measure.against, "cpu"), pool, rule))


@pytest.mark.parametrize("uses", [1, 2])
def test_matches_are_stable_and_obey(medium: tuple[Measure, Pool], uses: int) -> None:
    """Used `uses` times at most, never one's own, nothing in common (P2, P4), and nobody would rather swap (P7)."""
    measure, pool = medium
    made = match(measure, pool, DIFFER, uses)
    captions = np.flatnonzero(made.picture >= 0)
    pictures = made.picture[captions]
    assert pool.entities
    names: list[set[int]] = [set() for _ in range(pool.size)]
    for owner, name in zip(pool.entities.owners.tolist(), pool.entities.names.tolist(), strict=True):
        names[owner].add(name)
    count = np.bincount(pictures, minlength=pool.size)
    assert count.max() <= uses
    assert all(i != j and not names[i] & names[j] for i, j in zip(captions.tolist(), pictures.tolist(), strict=True))
    scores = measure.query.astype(float) @ measure.against.astype(float).T
    np.testing.assert_allclose(made.score[captions], scores[captions, pictures], atol=1e-12)
    worst = np.full(pool.size, np.inf)
    np.minimum.at(worst, pictures, made.score[captions])
    worst[count < uses] = -np.inf
    mine = np.where(made.picture >= 0, made.score, -np.inf)
    for i, j in zip(*np.nonzero((scores > mine[:, None] + 1e-12) & (scores > worst + 1e-12)), strict=True):
        assert i == j or names[i] & names[j]


def test_one_measure_on_both_sides_gives_swaps() -> None:
    """Text against text, each picture used by one caption: A has B's picture and B has A's."""
    text, _, pool = medium_world("text-text")
    made = match(Measure(text, text), pool, Rule(differ=("*",)))
    captions = np.flatnonzero(made.picture >= 0)
    assert len(captions) > 2500
    swapped = made.picture[made.picture[captions]] == captions
    assert swapped.mean() > 0.98  # ties are broken by caption before picture, which may leave a few chains


def test_float64_decides_what_float32_cannot() -> None:
    """Of two pictures whose scores differ by less than float32 shows, the better one is taken, though it is later."""
    r = np.random.default_rng(0)
    query, against = unit(r.standard_normal((3, 512))), unit(r.standard_normal((3, 512)))
    against[1] = unit(query[:1] + 0.1 * against[1:2])
    against[2] = against[1]
    place = int(np.argmax(np.abs(query[0])))
    against[2, place] = np.nextafter(against[1, place], np.float32(2) * np.sign(query[0, place]))
    made = match(Measure(query, against), make_pool([[]] * 3, [0] * 3, [0] * 3, [0] * 3, [True] * 3), Rule(), None)
    assert made.picture[0] == 2
    against[2] = against[1]
    made = match(Measure(query, against), make_pool([[]] * 3, [0] * 3, [0] * 3, [0] * 3, [True] * 3), Rule(), None)
    assert made.picture[0] == 1


def test_only_captions_that_share_are_compared(medium: tuple[Measure, Pool]) -> None:
    """A person rule compares the captions of one person with each other, and no others."""
    measure, pool = medium
    rule = Rule(share=("PERSON",), differ=("*",))
    assert pool.entities
    sizes = np.diff(pool.entities.only(["PERSON"]).invert().starts)
    made = match(measure, pool, rule, None)
    alone = np.flatnonzero(made.picture < 0)
    assert made.pairs <= 2 * (sizes[sizes > 1] ** 2).sum() < pool.size**2 / 2
    assert set(made.counts()) <= {"share", "differ"}
    assert len(alone) == sum(made.counts().values())
    found = Search(measure, pool, rule).find(np.arange(pool.size), 6)
    assert all(len({*row} - {-1}) == np.count_nonzero(np.array(row) >= 0) for row in found.pictures.tolist())


@pytest.mark.parametrize("seed", range(40))
def test_closed_sets_are_the_largest(seed: int) -> None:
    """A caption is kept if and only if it is in some set whose pictures are the set's own."""
    world = random_world(seed, seed % 2 > 0)
    made = match(Measure(world.query, world.against), world.pool(), world.rule)
    kept = close(made)
    expected = set()
    for caption in range(len(world)):
        path = [caption]
        while made.picture[path[-1]] >= 0 and made.picture[path[-1]] not in path:
            path.append(int(made.picture[path[-1]]))
        if made.picture[path[-1]] == caption:
            expected.add(caption)
    assert set(np.flatnonzero(kept.picture >= 0).tolist()) == expected
    assert sorted(kept.picture[kept.picture >= 0].tolist()) == sorted(expected)
    assert kept.counts().get("closed", 0) == (made.picture >= 0).sum() - len(expected)


def test_several_uses_close_nothing() -> None:
    """A picture that is used by several captions is in no closed set."""
    made = Matching(np.array([2, 2, 0], np.int32), np.ones(3), np.zeros(3, np.int8), 3, 9, 1)
    with pytest.raises(ConfigError, match="Match with uses=1"):
        close(made)


def test_balance_keeps_whole_swaps_of_both_kinds() -> None:
    """Half of the margins that are left are positive; both captions of a swap stay or go; the rest has the reason."""
    text, image, pool = medium_world("text-text")
    image = unit(text + 0.9 * np.random.default_rng(1).standard_normal(text.shape) / 7)
    made = match(Measure(text, text), pool, DIFFER)
    margins = find_margins(made, Measure(text, image))
    some = np.flatnonzero(made.picture >= 0)[::97]
    both = [np.einsum("ij,ij->i", text[some], image[to]) for to in (made.picture[some], some)]
    np.testing.assert_allclose(margins[some], both[0] - both[1], atol=1e-6)
    kept = balance(made, margins)
    captions = np.flatnonzero(kept.picture >= 0)
    assert len(captions) > 300
    assert (kept.picture[kept.picture[captions]] == captions).all()
    assert (margins[captions] > 0).sum() == (margins[captions] < 0).sum()
    assert kept.counts()["balance"] == (made.picture >= 0).sum() - len(captions)
    assert same(close(kept), kept)


@pytest.mark.parametrize("seed", range(20))
def test_balance_leaves_out_no_more_than_it_must(seed: int) -> None:
    """Of random margins it keeps as many swaps as any choice of whole swaps could."""
    r = np.random.default_rng(seed)
    picture = np.arange(24, dtype=np.int32) ^ 1
    picture[20:] = [21, 22, 23, 20]  # a cycle, which is no swap
    margins = np.where(r.random(24) < 0.1, 0.0, r.standard_normal(24) - 0.3)
    kept = balance(Matching(picture, np.ones(24), np.zeros(24, np.int8), 24, 576, 1), margins).picture >= 0
    wins = [int(np.sign(margins[i]) + np.sign(margins[i + 1])) for i in range(0, 20, 2)]
    most = sum(min(wins.count(size), wins.count(-size)) * 2 for size in (1, 2)) + wins.count(0)
    assert kept.sum() == 2 * most
    assert np.sign(margins[kept]).sum() == 0
    assert not kept[20:].any()


def test_the_rule_holds_for_all_pairs_left(medium: tuple[Measure, Pool]) -> None:
    """The oracle's steps are all passed by the matches of small worlds with every rule at once."""
    for seed in range(100, 130):
        world = random_world(seed, True)
        made = match(Measure(world.query, world.against), world.pool(), world.rule, world.uses)
        passed = steps_passed(world)
        assert all(passed[i][j] == len(STEPS) for i, j in enumerate(made.picture.tolist()) if j >= 0)


def test_vectors_are_checked() -> None:
    """Vectors of another length, width, type or number are refused, with what to do."""
    good = np.eye(4, dtype=np.float32)
    with pytest.raises(ConfigError, match="vector 2 has not length 1"):
        Measure(good, good * np.array([[1], [1], [2], [1]], np.float32))
    with pytest.raises(ConfigError, match="Encode both in one space"):
        Measure(good, good[:, :3])
    with pytest.raises(ConfigError, match="float64"):
        Measure(good.astype(np.float64), good)
    with pytest.raises(ConfigError, match="vector 1 is zero or not finite"):
        normalise(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(ConfigError, match="vector 0 is zero or not finite"):
        normalise(np.array([[np.nan, 0]]))
    with pytest.raises(ConfigError, match="expected vectors of 3 captions, found 4"):
        match(Measure(good, good), Pool(3), Rule())
    half = normalise(np.array([[3.0, 4.0]], np.float16))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, [[0.6, 0.8]], atol=1e-7)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule(differ=("*",)), "differ needs entities"),
        (Rule(same=("topik",)), "no column 'topik'. Did you mean 'topic'"),
        (Rule(gap="2d"), "gap needs times"),
        (Rule(picture="has_person"), "unknown which picture has_person"),
    ],
)
def test_a_pool_without_what_a_rule_needs(rule: Rule, message: str) -> None:
    """The error names what the corpus does not have."""
    vectors, topics = np.eye(2, dtype=np.float32), np.zeros(2, np.int32)
    with pytest.raises(ConfigError, match=message):
        match(Measure(vectors, vectors), Pool(2, columns={"topic": topics}), rule)


def test_a_pool_has_one_size() -> None:
    """Columns of other captions are refused."""
    with pytest.raises(ConfigError, match="times: expected 2 captions, found 3"):
        Pool(2, times=np.zeros(3))
