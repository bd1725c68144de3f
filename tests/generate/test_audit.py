"""The audit names measure, rule, pool and use of hidden recipes, each with its figure, and says where nothing fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.hidden import LABELS, NAMES, SOURCES, Hidden, HiddenWorld, invent_world, vary
from support.sampling import sampled

from _newsclippings.generate import Audit, audit, parse_recipe, write_page
from newsclippings import ConfigError, DataNotFoundError

IMAGE, TEXT, PLACES, PERSON = SOURCES
FORMS = ["exact", "casefold", "substring"]
COUNT = 420


def draw(seed: int) -> dict[str, Hidden]:
    """A hidden recipe of each source."""
    rng = np.random.default_rng(seed)
    recipes = {}
    for source in SOURCES:
        pool: Any = ["split", "outlet", "topic", 125, 160][rng.integers(5)]
        share = ("PERSON",) if source == PERSON else ()
        differ = [NAMES, LABELS][rng.integers(2)]
        recipes[source] = Hidden(
            centred=bool(rng.integers(2)),
            differ=tuple(label for label in differ if label not in share),
            share=share,
            pool="split" if share else pool,
            uses=[1, 1, 2, None][rng.integers(4)],
        )
    return recipes


def make_world(root: Path, recipes: dict[str, Hidden], seed: int, merged: bool = True) -> HiddenWorld:
    world = invent_world(COUNT, seed)
    for number, (source, recipe) in enumerate(recipes.items()):
        world.make(source, recipe, seed + number)
    world.write(root, merged)
    return world


def name_pool(pool: str | int) -> str:
    blocks = f"blocks of {pool} in the metadata's order"
    return {"split": "the split", "outlet": "the same outlet", "topic": "the same topic"}.get(str(pool), blocks)


@pytest.mark.parametrize("seed", sampled(range(6), 3))
def test_hidden_recipes_are_found(tmp_path: Path, seed: int) -> None:
    """Measure, rule, pool and use of four random recipes; matching by them gives the same pictures."""
    recipes = draw(seed)
    make_world(tmp_path, recipes, seed)
    report = audit("merged_balanced", "val", tmp_path)
    assert [source.name for source in report.sources] == [*SOURCES]
    for source in report.sources:
        hidden, kinds = recipes[source.name], dict.fromkeys(SOURCES[source.name])
        way = "centred cosine" if hidden.centred else "cosine"
        assert source.measure == f"{way} of {' and '.join(kinds)}"
        assert (source.fits[0].share, source.fits[0].fits, source.fits[1].fits) == (1.0, True, False)
        assert source.pool == name_pool(hidden.pool)
        assert source.same is not None
        assert source.same >= 0.95, (source.name, hidden)
        assert source.rule is not None
        all_labels = {*hidden.differ, *hidden.share} == {*LABELS}
        differ = ["*"] if all_labels else sorted(hidden.differ)
        assert f"differ = {json.dumps(differ)}" in source.rule, (hidden, source.notes)
        assert ('share = ["PERSON"]' in source.rule) == bool(hidden.share)
        figures = {pool.pool: pool for pool in source.pools}
        found = figures[name_pool(hidden.pool)]
        assert found.inside == 1
        assert found.best == 1 if hidden.uses is None else found.free == 1
        assert source.limit == (None if found.best == 1 else hidden.uses)  # pairs cannot tell a limit that none reaches
        shares = {(each.entities, each.form): each.pairs for each in source.sharing}
        if not hidden.share:
            assert shares["names only", "casefold"] == 0
            assert (shares["all labels", "casefold"] > 0) == (not all_labels)
        else:
            assert shares["PERSON", "exact"] == 1
    assert report.reproduced
    assert "may have the paper's name" in write_page(report)


def test_a_recipe_is_written_as_toml(tmp_path: Path) -> None:
    """What the grammar can say is a recipe that reads; blocks and centred vectors are named as what it cannot say."""
    recipes = {IMAGE: Hidden(pool="outlet"), TEXT: Hidden(differ=NAMES, pool="topic", uses=None)}
    make_world(tmp_path, recipes, 3)
    report = audit("merged_balanced", "validation", tmp_path)
    assert report.recipe is not None
    first, second = parse_recipe(report.recipe).methods
    assert (first.name, first.query, first.against, first.uses) == (IMAGE, "clip_text", "clip_image", 1)
    assert (first.rule.differ, first.rule.same) == (("*",), ("source",))
    assert (second.name, second.query, second.against, second.uses) == (TEXT, "clip_text", "clip_text", None)
    assert (second.rule.differ, second.rule.same) == (NAMES, ("topic",))
    make_world(tmp_path / "other", {TEXT: Hidden(centred=True, pool=125)}, 3)
    other = audit("merged_balanced", "validation", tmp_path / "other")
    assert (other.reproduced, other.recipe) == (True, None)
    assert any("centred cosine" in note for note in other.sources[0].notes)
    assert any("blocks of 125" in note for note in other.sources[0].notes)


@pytest.mark.parametrize("seed", sampled(range(3), 3))
def test_a_filter_does_not_hide_the_recipe(tmp_path: Path, seed: int) -> None:
    """Of a set of which a filter kept half, measure, rule and pool are found, and the pictures are the same."""
    pool = ("outlet", "topic", 125)[seed]
    make_world(tmp_path, {TEXT: Hidden(pool=pool, kept=0.5)}, seed, merged=False)
    (source,) = audit(TEXT, "val", tmp_path).sources
    assert (source.measure, source.pool) == ("cosine of clip_text", name_pool(pool))
    assert source.rule is not None
    assert 'differ = ["*"]' in source.rule
    assert source.same == 1


@pytest.mark.parametrize("form", FORMS)
def test_how_names_were_compared(tmp_path: Path, form: str) -> None:
    """Names in capitals, and parts of names: the strictest comparison that no pair breaks is the one."""
    world = invent_world(COUNT, 11)
    vary(world, 1)
    world.make(TEXT, Hidden(form=form), 1)
    world.write(tmp_path)
    (source,) = audit(TEXT, "val", tmp_path).sources
    shares = {each.form: each.pairs for each in source.sharing if each.entities == "all labels"}
    assert [shares[each] == 0 for each in FORMS] == [FORMS.index(each) <= FORMS.index(form) for each in FORMS]
    noted = [note for note in source.notes if "names are compared as" in note]
    assert noted == ([] if form == "casefold" else [f"names are compared as {form}, and the grammar has casefold only"])
    assert (source.recipe is not None) == (form == "casefold")
    assert source.same is not None
    assert (source.same == 1) == (form == "casefold")


def test_where_nothing_fits_it_says_so(tmp_path: Path) -> None:
    """Scores that no measure gives: no rule, no pool, no recipe, no name of the paper; the other source is judged."""
    make_world(tmp_path, {IMAGE: Hidden(pool="topic"), TEXT: Hidden(noise=0.1)}, 4)
    report = audit("merged_balanced", "val", tmp_path)
    fine, broken = report.sources
    assert fine.same == 1
    assert (broken.measure, broken.rule, broken.pool, broken.same, broken.recipe) == (None,) * 5
    assert broken.fits[0].share < 0.1
    assert (report.reproduced, report.recipe) == (False, None)
    page = write_page(report)
    assert f"**{TEXT}**: no measure gives its scores, so no rule can be judged" in page
    assert "No rule or pool can be judged here" in page
    assert "Call it what it is" in page


def test_pictures_by_chance_are_not_called_made_again(tmp_path: Path) -> None:
    """If pictures were changed after matching, scores do not fit or pictures are not the same; no name is given."""
    world = make_world(tmp_path, {TEXT: Hidden()}, 5, merged=False)
    rng = np.random.default_rng(0)
    vectors = world.vectors["clip_text"]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    others = rng.permutation(COUNT)
    world.pairs[TEXT] = [(i, int(others[i]), float(unit[i] @ unit[others[i]])) for i in range(COUNT) if others[i] != i]
    world.write(tmp_path)
    report = audit(TEXT, "val", tmp_path)
    (source,) = report.sources
    assert source.measure == "cosine of clip_text"
    assert source.pool == "the split"
    assert source.same is not None
    assert source.same < 0.1
    assert not report.reproduced
    assert "better pictures were free" in write_page(report)


def test_use_filter_and_probes(tmp_path: Path) -> None:
    """Uses, swaps, and what CLIP prefers equal a plain count; a set whose pictures are few shows in the probe."""
    world = make_world(tmp_path, {TEXT: Hidden(), IMAGE: Hidden(uses=None)}, 6, merged=False)
    text, image = (audit(source, "val", tmp_path) for source in (TEXT, IMAGE))
    (source,) = image.sources
    pairs = {(i, j) for i, j, _ in world.pairs[IMAGE]}
    used = [j for _, j in pairs]
    assert source.uses.most == max(used.count(j) for j in used)
    assert source.uses.swaps == pytest.approx(sum((j, i) in pairs for i, j in pairs) / len(pairs))
    left, right = (world.vectors[kind] for kind in ("clip_text", "clip_image"))
    cosine = (left @ right.T) / np.linalg.norm(left, axis=1)[:, None] / np.linalg.norm(right, axis=1)
    assert image.filters["all"].fooled == pytest.approx(np.mean([cosine[i, j] > cosine[i, i] for i, j in pairs]))
    assert text.sources[0].uses.most == 1
    assert text.probes["caption only"].accuracy == pytest.approx(0.5, abs=0.06)
    assert text.probes["picture only"].accuracy < 0.6


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Vectors that are not there are named, and what needs them is not asked; matches and metadata must be there."""
    make_world(tmp_path, {TEXT: Hidden()}, 7, merged=False)
    folder = tmp_path / "news_clippings"
    for kind in ("clip_image_embeddings", "sbert_embeddings", "places_resnet50"):
        (folder / "embeddings" / kind / f"{kind}_val.pkl").unlink()
    report = audit(TEXT, "val", tmp_path)
    assert report.absent == ["vectors of clip_image", "vectors of sbert", "vectors of places"]
    assert report.sources[0].same == 1
    assert report.filters == {}
    assert "Not there: vectors of clip_image" in write_page(report)
    with pytest.raises(DataNotFoundError, match=r"needs the matches of validation.*newsclippings download"):
        audit("merged_balanced", "val", tmp_path)
    (folder / "metadata" / "val.json").unlink()
    with pytest.raises(DataNotFoundError, match=r"needs the metadata of validation.*--metadata"):
        audit(TEXT, "val", tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'val'"):
        audit(TEXT, "vall", tmp_path)
    with pytest.raises(ConfigError, match="config='mine'"):
        audit("mine", "val", tmp_path)


def test_the_command(tmp_path: Path) -> None:
    """The page, JSON, and the folder of both with the recipe; files of others are not replaced."""
    make_world(tmp_path / "data", {TEXT: Hidden(pool="outlet")}, 8, merged=False)
    command = ["generate", "--audit", "--config", TEXT, "--split", "val", "--data-dir", tmp_path / "data"]
    out = tmp_path / "out"
    done = run(*command, "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"# How {TEXT}/val was made\n")
    assert sorted(file.name for file in out.iterdir()) == ["audit.json", "audit.md", "recipe.toml"]
    kept = json.loads((out / "audit.json").read_text())
    assert kept["sources"][0]["same"] == 1
    assert kept["recipe"] == (out / "recipe.toml").read_text()
    assert (out / "audit.md").read_text().startswith(done.stdout[:200])
    told = run(*command, "--format", "json", "--out", out)
    assert json.loads(told.stdout)["sources"][0]["pool"] == "the same outlet"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "audit.md").write_text("mine")
    refused = run(*command, "--out", tmp_path / "mine")
    assert refused.exit_code == 1
    assert "was not written by `newsclippings generate --audit`" in refused.output


def test_a_report_is_plain_values(tmp_path: Path) -> None:
    """Figures that are not known are null in JSON, and never NaN."""
    make_world(tmp_path, {TEXT: Hidden(noise=0.1)}, 9, merged=False)
    report: Audit = audit(TEXT, "val", tmp_path)
    values = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert values["sources"][0]["sharing"][0]["near"] is None
    assert values["sources"][0]["fits"][0]["way"]
