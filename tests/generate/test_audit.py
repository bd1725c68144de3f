"""The audit names measure, rule, pool and use of hidden recipes, each with its figure, and says where nothing fits."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.hidden import LABELS, NAMES, SOURCES, Hidden, HiddenWorld, invent_world, unit, vary
from support.sampling import sampled

from _newsclippings.generate import Audit, audit, generate, parse_recipe, write_audit, write_page
from _newsclippings.generate.audit_again import MadeAgain
from _newsclippings.generate.audit_bias import Uses
from _newsclippings.generate.audit_inputs import Pairs
from _newsclippings.generate.audit_measure import Fit
from _newsclippings.generate.audit_page import write_html
from _newsclippings.generate.audit_pool import list_pools
from _newsclippings.generate.audit_report import SourceAudit
from _newsclippings.generate.audit_splits import Crossing
from newsclippings import BadFileError, ConfigError, DataNotFoundError

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
    (folder / "embeddings" / "clip_text_embeddings" / "clip_text_embeddings_val.pkl").unlink()
    assert "its vectors are not there, so no measure was tried" in write_page(audit(TEXT, "val", tmp_path))
    with pytest.raises(DataNotFoundError, match=r"needs the matches of validation.*newsclippings download"):
        audit("merged_balanced", "val", tmp_path)
    (folder / "metadata" / "val.json").unlink()
    with pytest.raises(DataNotFoundError, match=r"needs the metadata of validation.*--metadata"):
        audit(TEXT, "val", tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'val'"):
        audit(TEXT, "vall", tmp_path)
    with pytest.raises(ConfigError, match="config='mine'"):
        audit("mine", "val", tmp_path)


def test_matches_without_falsified_rows_are_refused(tmp_path: Path) -> None:
    """There is nothing to find out from pristine rows, or from those whose records the metadata do not have."""
    make_world(tmp_path, {TEXT: Hidden()}, 7, merged=False)
    place = tmp_path / "news_clippings" / "data" / TEXT / "val.json"
    matches = json.loads(place.read_text())
    matches["annotations"] = [row for row in matches["annotations"] if not row["falsified"]]
    place.write_text(json.dumps(matches))
    with pytest.raises(BadFileError, match="expected falsified rows whose records are in the metadata, found none"):
        audit(TEXT, "val", tmp_path)


def test_the_command(tmp_path: Path) -> None:
    """The page, JSON, and the folder of both with the recipe; files of others are not replaced."""
    make_world(tmp_path / "data", {TEXT: Hidden(pool="outlet")}, 8, merged=False)
    command = ["generate", "--audit", "--config", TEXT, "--split", "val", "--data-dir", tmp_path / "data"]
    out = tmp_path / "out"
    done = run(*command, "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"# How {TEXT}/val was made\n")
    assert sorted(file.name for file in out.iterdir()) == ["audit.html", "audit.json", "audit.md", "recipe.toml"]
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


FILTERS = {
    "floor = 0.6": (TEXT, Hidden(floor=0.6)),
    "closed = true": (IMAGE, Hidden(share=("PERSON",), differ=(*LABELS[:2], *LABELS[3:]), closed=True)),
    'balance = "zero-shot"': (TEXT, Hidden(balanced=True)),
}


@pytest.mark.parametrize("key", FILTERS)
def test_a_filter_is_written_into_the_recipe(tmp_path: Path, key: str) -> None:
    """What a floor, closing or balancing left out is found, and the recipe keeps the same captions."""
    source, hidden = FILTERS[key]
    make_world(tmp_path, {source: hidden}, 3, merged=False)
    report = audit(source, "val", tmp_path)
    (found,) = report.sources
    assert found.left_out is not None
    assert (found.left_out.keys, found.left_out.unexplained, found.left_out.notes) == ([key], 0, [])
    assert found.left_out.left_out >= 5
    assert (found.made_again[0].same, found.made_again[0].captions) == (1, 1)
    assert f"with {key}" in found.made_again[0].way
    assert abs(found.made_again[0].difference) < 1e-6
    assert report.recipe is not None
    assert f"\n{key}\n" in report.recipe
    (method,) = parse_recipe(report.recipe).methods
    assert (method.rule.floor, method.closed, bool(method.balance)) == (hidden.floor, hidden.closed, hidden.balanced)
    assert "is not made again" not in write_page(report)


def test_what_no_key_says_is_a_comment(tmp_path: Path) -> None:
    """Captions that were left out by their length, or by chance, are counted in a comment of the recipe."""
    world = make_world(tmp_path, {TEXT: Hidden(longest=8)}, 3, merged=False)
    report = audit(TEXT, "val", tmp_path)
    left = COUNT - len(world.pairs[TEXT])
    comments = [line for line in (report.recipe or "").splitlines() if line.startswith("# ")]
    assert any(f"official captions have 4 to 8 words; {left} of the {left} captions" in line for line in comments)
    assert any(f"{left} of {COUNT} captions that get a picture have no official pair" in line for line in comments)
    assert comments[0] == "# 100.0% of the official pictures are the same, as found."
    assert parse_recipe(report.recipe or "").methods[0].rule.floor is None
    assert "Which captions were kept is not made again" in write_page(report)


def test_captions_that_took_no_part_are_a_comment(tmp_path: Path) -> None:
    """If pictures are the same only among the captions of the matches, the recipe says that it has no key for it."""
    make_world(tmp_path, {IMAGE: Hidden(longest=8, before=True)}, 3, merged=False)
    report = audit(IMAGE, "val", tmp_path)
    (source,) = report.sources
    assert (source.made_again[0].way, source.same) == ("as found, only captions that are in a file of matches", 1)
    assert "# captions that are in no file of matches took no part, for which the grammar has no key.\n" in (
        report.recipe or ""
    )


def test_the_recipe_makes_what_it_promises(tmp_path: Path) -> None:
    """`generate` with the recipe of an audit gives the captions the same pictures, filter included."""
    data = tmp_path / "data"
    hidden = {IMAGE: Hidden(pool="topic"), TEXT: Hidden(differ=NAMES, pool="outlet", floor=0.6)}
    for number, (split, count) in enumerate((("val", COUNT), ("train", 60), ("test", 60))):
        world = invent_world(count, 3 + number, (512, 28, 32))  # the width of the authors' CLIP
        world.ids = [100_000 * number + each for each in world.ids]
        for source, recipe in hidden.items():
            world.make(source, recipe, 1)
        world.write(data, True, split)
        if split == "val":
            official = {
                source: {world.ids[i]: world.ids[j] for i, j, _ in pairs} for source, pairs in world.pairs.items()
            }
    for source in hidden:
        report = audit(source, "val", data)
        write_audit(report, tmp_path / source)
        generate(tmp_path / "made" / source, tmp_path / source / "recipe.toml", data_dir=data)
        place = tmp_path / "made" / source / "news_clippings" / "data" / "audited" / "val.json"
        made = {row["id"]: row["image_id"] for row in json.loads(place.read_text())["annotations"] if row["falsified"]}
        same = np.mean([made.get(caption) == picture for caption, picture in official[source].items()])
        assert report.sources[0].same == same  # the share that the page states
        assert same >= 0.99
        assert len(made.keys() ^ official[source].keys()) <= 2


def test_shares_equal_a_plain_count(tmp_path: Path) -> None:
    """Shares of pairs with a common entity are those that sets of names give, in each form and for any labels."""
    world = invent_world(COUNT, 12)
    vary(world, 2)
    world.make(TEXT, Hidden(differ=NAMES, form="exact"), 1)
    world.write(tmp_path)
    (source,) = audit(TEXT, "val", tmp_path).sources
    sets = {"all labels": LABELS, "names only": NAMES, "PERSON": ("PERSON",)}
    for each in source.sharing[:9]:
        fold = str if each.form == "exact" else str.casefold
        names = [{fold(text) for text, label in some if label in sets[each.entities]} for some in world.entities]
        common = [
            any(a in b or b in a for a in names[i] for b in names[j])
            if each.form == "substring"
            else names[i] & names[j]
            for i, j, _ in world.pairs[TEXT]
        ]
        assert each.pairs == sum(map(bool, common)) / len(common), each


@pytest.mark.parametrize("size", [125, 160, 217, 400])
def test_the_size_of_blocks_equals_that_of_all_sizes_tried(size: int) -> None:
    """The search for the size of blocks, which looks at few sizes, finds what a look at all of them finds."""
    rng, count = np.random.default_rng(size), 1000
    rows = np.arange(count)
    columns = np.minimum(rows // size * size + rng.integers(0, size, count), count - 1)
    columns[:5] = rng.integers(0, count, 5)
    unknown = np.full(count, -1, np.int32)
    official: Any = SimpleNamespace(ids=rows, columns={"source": unknown, "topic": unknown})
    sizes = range(100, count // 2 + 1)
    inside = {each: float(np.mean(rows // each == columns // each)) for each in sizes}
    first = min(each for each in sizes if inside[each] >= 0.99)
    near = [each for each in sizes if inside[each] >= 0.99 and each <= 1.05 * first]
    best = [each for each in near if inside[each] == max(inside[near_one] for near_one in near)]
    names = {each.name for each in list_pools(official, Pairs(rows, columns, np.zeros(count)))}
    found = names & {f"blocks of {each} in the metadata's order" for each in sizes}
    assert found
    assert found <= {f"blocks of {each} in the metadata's order" for each in best}


def test_what_is_in_two_splits(tmp_path: Path) -> None:
    """Captions, articles and copies of pictures of another split are counted; a split without files is left out."""
    world, other = invent_world(120, 13), invent_world(120, 14)
    other.ids = [each + 100_000 for each in other.ids]
    other.vectors["clip_image"][:9] = 3 * world.vectors["clip_image"][:9]
    for each, split in ((world, "val"), (other, "test")):
        each.make(TEXT, Hidden(), 1)
        each.write(tmp_path, split=split)
    place = tmp_path / "news_clippings" / "metadata" / "test.json"
    records, known = json.loads(place.read_text()), json.loads(place.with_name("val.json").read_text())
    for number in range(4):
        mine = records[str(other.ids[number])]
        mine["full_article_path"] = known[str(world.ids[number])]["full_article_path"]
        mine["caption"] = known[str(world.ids[number % 2])]["caption"].upper()
    place.write_text(json.dumps(records))
    report = audit(TEXT, "val", tmp_path)
    near = unit(world.vectors["clip_image"]) @ unit(other.vectors["clip_image"]).T
    used = [sorted({k for pair in each.pairs[TEXT] for k in pair[:2]}) for each in (world, other)]
    copies = int((near[np.ix_(*used)].max(axis=1) >= 0.95).sum())
    assert copies >= 9 - 2 * (COUNT - len(used[0]))
    assert report.crossings == [Crossing("test", 2, 4, 0, copies)]
    assert f"| test | 2 | 4 | 0 | {copies} |" in write_page(report)
    (tmp_path / "news_clippings" / "embeddings" / "clip_image_embeddings" / "clip_image_embeddings_test.pkl").unlink()
    assert audit(TEXT, "val", tmp_path).crossings[0].copies is None
    place.unlink()
    assert "Not looked at" in write_page(audit(TEXT, "val", tmp_path))


@pytest.mark.parametrize(
    ("shares", "named"), [((1.0, 0.95), True), ((1.0, 0.9499), False), ((1.0, None), False), ((), False)]
)
def test_the_name_of_the_paper(shares: tuple[float | None, ...], named: bool) -> None:
    """A recipe may have the paper's name only from 95 % of the same pictures on, in every source."""
    sources = []
    for number, share in enumerate(shares):
        again = [] if share is None else [MadeAgain("as found", share, 10, 1.0, 0.0)]
        fit = Fit("clip_text", "clip_text", "cosine", 10, 1.0, 0.0, 1.0)
        sources.append(
            SourceAudit(
                f"source_{number}", 10, 10, [fit], Uses(1, 0, 1.0, 1.0), "cosine of clip_text", made_again=again
            )
        )
    report = Audit(TEXT, "val", 10, 0, [], sources, {}, {}, "none", [], 1.0)
    assert report.reproduced == named
    for page in (write_page(report), write_html(report)):
        assert ("may have the paper's name." in html.unescape(page)) == named
        assert ("Call it what it is" in page) == (not named)


class Outline(HTMLParser):
    """Headings, header cells without a scope, tables without a name, and tags, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.wrong: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags[tag] = self.tags.get(tag, 0) + 1
        if tag in ("h1", "h2", "h3"):
            self.levels.append(int(tag[1]))
        if (tag == "th" and values.get("scope") not in ("row", "col")) or (
            tag == "table" and f'id="{values.get("aria-labelledby")}"' not in self.rawdata
        ):
            self.wrong.append(tag)


def test_the_html_page(tmp_path: Path) -> None:
    """It has the verdict first, one tree of headings, named tables and header cells, and needs no other file."""
    make_world(tmp_path, {IMAGE: Hidden(pool="topic"), TEXT: Hidden(noise=0.1)}, 4)
    report = audit("merged_balanced", "val", tmp_path)
    report.sources[0].notes.append("<b>a label</b> of a file")
    page = write_html(report)
    outline = Outline(page)
    assert outline.wrong == []
    assert outline.levels[0] == 1
    assert outline.levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
    assert not {"script", "img", "link", "b"} & {*outline.tags}
    assert page.index("Only in part: the matches of 1 of 2 sources were made again.") < page.index("<h2>")
    assert '<html lang="en">' in page
    assert "&lt;b&gt;a label" in page
    assert len(re.findall("<tr>", page)) == len(re.findall(r"^\|(?!--)", write_page(report), re.MULTILINE))
