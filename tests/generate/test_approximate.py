"""`generate --approximate`: looks into few cells, obeys all rules, and says how far it agrees with the exact search."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.constants import change_constant
from support.generating import Corpus, make_corpus, matches_by_hand, splits_by_hand
from support.matching import STEPS, World, dot, match_by_hand, random_world, steps_passed, unit
from support.reading import environment
from support.sampling import sampled

from _newsclippings.generate import Measure, match
from _newsclippings.generate.entities import Lists
from _newsclippings.generate.search import Near, find_cells
from _newsclippings.generate.write import Folder
from newsclippings import ConfigError, Method, MissingDependencyError, Recipe, Rule, generate, verify_generated

Places = dict[str, Any]
needs_faiss = pytest.mark.skipif(not find_spec("faiss"), reason="needs the extra approximate")
LARGE = 10  # captions of a split, from which on a method may be approximate here
ANY = Rule(differ=("*",))
RECIPE = Recipe(
    "mine",
    (
        Method("once", "clip_text", "clip_image", ANY),
        Method("unlimited", "clip_image", "clip_image", ANY, uses=None),
        Method("few", "clip_text", "clip_text", Rule(same=("topic",))),
    ),
    None,
    {"train": 0.7, "test": 0.3},
)


def world_of(seed: int, ties: bool = False) -> World:
    """A random world, by a rule that compares all captions."""
    world = random_world(seed, ties)
    world.rule = replace(world.rule, share=(), same=())
    return world


def cells_of(world: World, seed: int) -> Near:
    """Cells around some directions, without faiss."""
    r = np.random.default_rng(seed)
    centroids = unit(r.standard_normal((int(r.integers(1, 9)), world.query.shape[1])))
    own = find_cells(world.against, centroids, 1).ravel()
    return Near(centroids, Lists(np.arange(len(world) + 1), own).invert())


@pytest.mark.parametrize("seed", sampled(range(120), 4))
def test_all_cells_are_all_pictures(seed: int) -> None:
    """A search that looks into every cell gives the matches of the exact one, and agrees with it for all captions."""
    world = world_of(seed, seed % 2 > 0)
    made = match(Measure(world.query, world.against), world.pool(), world.rule, world.uses, near=cells_of(world, seed))
    picture, score, reasons = match_by_hand(world)
    assert made.picture.tolist() == picture
    np.testing.assert_array_equal(made.score, score)
    assert made.reasons() == reasons
    matched = sum(each >= 0 for each in picture)
    assert made.agreement == ((matched,) * 3 if matched else None)


def first_choices(world: World, near: Near, allowed: list[list[bool]], probed: list[int]) -> list[int]:
    """The best allowed picture of each caption in the nearest cells, of so many as have one."""
    floor, choices = -math.inf if world.rule.floor is None else world.rule.floor, []
    cell = {picture: int(np.argmax(near.centroids @ world.against[picture])) for picture in range(len(world))}
    for caption, query in enumerate(world.query):
        order = np.argsort(-(near.centroids @ query)).tolist()
        some: list[tuple[float, int]] = []
        for count in (*probed, len(order)):
            some = [
                (-dot(query, world.against[picture]), picture)
                for picture in range(len(world))
                if allowed[caption][picture] and cell[picture] in order[:count]
            ]
            if some:
                break
        score, picture = min(some, default=(math.inf, -1))
        choices.append(picture if -score >= floor else -1)
    return choices


@pytest.mark.parametrize("seed", sampled(range(120), 4))
def test_few_cells(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matches obey every rule; the agreement is that of looking at every pair; without a match there is no picture."""
    change_constant(monkeypatch, "CELLS_PROBED", (1, 2))
    change_constant(monkeypatch, "CELLS_AT_ONCE", 7)
    world, n = world_of(seed), len(world_of(seed))
    near, uses = cells_of(world, seed), world.uses
    made = match(Measure(world.query, world.against), world.pool(), world.rule, uses, length=2, near=near)
    passed, picture = steps_passed(world), made.picture.tolist()
    matched = [caption for caption in range(n) if picture[caption] >= 0]
    assert all(passed[caption][picture[caption]] == len(STEPS) for caption in matched)
    assert uses is None or max([0, *map(picture.count, matched and {*picture} - {-1})]) <= uses

    def score(caption: int, other: int) -> float:
        return dot(world.query[caption], world.against[other])

    def takes(other: int, caption: int) -> bool:
        users = sorted((-score(each, other), each) for each in matched if picture[each] == other)
        return uses is None or len(users) < uses or (-score(caption, other), caption) <= users[-1]

    def best(caption: int, *, free: bool) -> int:
        others = [k for k in range(n) if passed[caption][k] == len(STEPS) and (not free or takes(k, caption))]
        return min(((-score(caption, other), other) for other in others), default=(0, -1))[1]

    for caption in {*range(n)} - {*matched} if world.rule.floor is None else ():
        assert best(caption, free=True) == -1
    before_floor = [[steps >= len(STEPS) - 1 for steps in row] for row in passed]
    chosen = first_choices(world, near, before_floor, [1, 2])
    if uses is None:
        assert picture == chosen
    if matched:
        first = sum(chosen[caption] == best(caption, free=False) for caption in matched)
        free = sum(picture[caption] == best(caption, free=True) for caption in matched)
        assert made.agreement == (len(matched), first, free)


def make_places(corpus: Corpus, folder: Path) -> Places:
    vectors = {
        name: corpus.write_vectors(name, folder / name, of)
        for name, of in (("clip_text", "captions"), ("clip_image", "pictures"))
    }
    return {"corpus": corpus.table, "vectors": vectors, "entities": corpus.write_entities(folder / "entities")}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus", 90)


@pytest.fixture
def places(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """The arguments of `generate`, on a machine without a GPU, where few captions are many."""
    change_constant(monkeypatch, "MOST_EXACT", LARGE)
    monkeypatch.setattr("_newsclippings.generate.make.find_gpu", lambda: None)
    return make_places(corpus, tmp_path)


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def read_manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    return manifest


@needs_faiss
def test_all_cells_give_the_same_files(places: Places, tmp_path: Path) -> None:
    """Only the manifest and the card say that it is approximate, of the methods and splits that are."""
    generate(tmp_path / "exact", RECIPE, **places)
    report = generate(tmp_path / "out", RECIPE, approximate=True, **places)
    exact, made = read_tree(tmp_path / "exact"), read_tree(tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest["made_of"].pop("approximate").startswith("faiss 1.")
    for facts in manifest["splits"].values():
        assert "approximate" not in facts["methods"]["few"]
        for name in ("once", "unlimited"):
            said = facts["methods"][name].pop("approximate")
            assert said["captions"] == facts["methods"][name]["filled"]
            assert said["first_choice"] == said["best_free"]
            assert said["best_free"]["value"] == 1 == said["best_free"]["high"]
    card = made.pop("README.md").decode().splitlines(keepends=True)
    mine = [line for line in card if "is that of the exact search" in line]
    assert len(mine) == 4
    assert "".join(line for line in card if line not in mine).encode() == exact.pop("README.md")
    assert manifest.pop("files") != (expected := read_manifest(tmp_path / "exact")).pop("files")
    assert manifest == expected
    del made["manifest.json"], exact["manifest.json"]
    assert made == exact
    assert str(report).count("approximate: the first choice of 100.0 %") == 4


@needs_faiss
def test_the_agreement_is_that_of_every_pair(
    corpus: Corpus, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few cells, the manifest says what looking at every pair says, and `--check` measures the same again."""
    change_constant(monkeypatch, "CELLS_PROBED", (1, 2))
    out = tmp_path / "out"
    generate(out, RECIPE, approximate=True, **places)
    manifest, missed = read_manifest(out), 0
    checked = verify_generated(out, **places)
    splits = splits_by_hand(corpus, RECIPE.splits or {})
    for split, rows in splits.items():
        annotations = json.loads((out / f"news_clippings/data/mine/{split}.json").read_bytes())["annotations"]
        pairs = {(row["id"], row["image_id"]) for row in annotations if row["source_dataset"] == 1 and row["falsified"]}
        best = {(corpus.ids[i], corpus.ids[j]) for i, j, _ in matches_by_hand(corpus, RECIPE.methods[1], rows)}
        said = manifest["splits"][split]["methods"]["unlimited"]["approximate"]
        assert said["captions"] == len(pairs)
        assert said["first_choice"]["value"] == round(len(pairs & best) / len(pairs), 4)
        missed += len(pairs - best)
        for name in ("once", "unlimited"):
            said = manifest["splits"][split]["methods"][name]["approximate"]
            again = f"{split} ({name}): approximate, agreement measured again: {100 * said['best_free']['value']:.1f} %"
            assert again in str(checked)
    assert missed
    status = {name: found.status for name, found in checked.properties.items()}
    assert status == dict.fromkeys(status, "passed") | {"P7": "approximate", "P9": "not promised"}
    assert checked.sound
    assert checked.complete
    assert str(checked).endswith("Sound. Approximate: P7.")
    manifest["made_of"].pop("approximate")  # as if it were exact
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert verify_generated(out, **places).properties["P7"].failed


@needs_faiss
def test_the_same_bytes_again_and_after_an_interruption(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K-means has a seed; an approximate config and an exact one are not mixed in one folder."""
    change_constant(monkeypatch, "CELLS_PROBED", (1, 2))
    change_constant(monkeypatch, "BLOCK_PAIRS", 100)
    generate(tmp_path / "whole", RECIPE, approximate=True, **places)
    keep, left = Folder.keep, [7]

    def stop(self: Folder, name: str, table: Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        keep(self, name, table)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "keep", stop)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path / "out", RECIPE, approximate=True, **places)
    with pytest.raises(ConfigError, match=r"has another config: approximate is faiss .* there, nothing now"):
        generate(tmp_path / "out", RECIPE, **places)
    assert generate(tmp_path / "out", RECIPE, approximate=True, **places).made
    assert read_tree(tmp_path / "out") == read_tree(tmp_path / "whole")
    assert not generate(tmp_path / "out", RECIPE, approximate=True, **places).made


SCRIPT = """
import json, sys
from _newsclippings.generate import blocks, make, near, search
from newsclippings import generate
near.MOST_EXACT, blocks.BLOCK_PAIRS, make.find_gpu = 10, 100, lambda: None
near.CELLS_PROBED = search.CELLS_PROBED = (1, 2)
generate(approximate=True, world=2, rank=int(sys.argv[2]), **json.loads(sys.argv[1]))
"""


@needs_faiss
def test_two_ranks(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks look into the same cells, and give the bytes of one process."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.to_toml())
    change_constant(monkeypatch, "CELLS_PROBED", (1, 2))
    generate(tmp_path / "whole", recipe, approximate=True, **places)
    text = json.dumps({"out": tmp_path / "out", "recipe": recipe, **places}, default=str)
    command = [sys.executable, "-c", SCRIPT, text]
    ranks = [subprocess.Popen([*command, str(rank)], env=environment(tmp_path / "hf")) for rank in range(2)]
    assert [rank.wait(300) for rank in ranks] == [0, 0]
    assert read_tree(tmp_path / "out") == read_tree(tmp_path / "whole")


@needs_faiss
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "ray"}, "approximate= does not go with engine='ray'"),
        ({"device": "cpu"}, "approximate= is for CPUs, and torch compares vectors on cpu"),
        ({"recipe": RECIPE.methods[2]}, "methods with share or same compare few of them. Leave it out"),
        ({"large": 2_000_000}, "compare more than 2,000,000 captions, and a split has 90 at the most. Leave it out"),
        ({"large": 80}, r"compare more than 80 captions, and a split has \d\d at the most"),
    ],
)
def test_where_it_is_not_needed(
    given: dict[str, Any], message: str, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused in a sentence, and nothing is written."""
    change_constant(monkeypatch, "MOST_EXACT", given.pop("large", LARGE))
    with pytest.raises(ConfigError, match=message):
        generate(tmp_path / "out", **{"recipe": RECIPE, **places, **given}, approximate=True)
    assert not (tmp_path / "out").exists()


def test_without_faiss_the_extra_is_named(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    monkeypatch.setattr("_newsclippings.generate.near.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'newsclippings\[approximate\]'"):
        generate(tmp_path / "out", RECIPE, approximate=True, **places)
    assert not (tmp_path / "out").exists()


def test_the_option_is_about_making(tmp_path: Path) -> None:
    """`--check` finds out by itself what is approximate."""
    done = run("generate", "--check", "--approximate", str(tmp_path))
    assert done.exit_code == 2
    assert "--approximate is about making it" in done.output
