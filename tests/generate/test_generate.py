"""`newsclippings generate`: a corpus becomes a config that every command takes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from support.children import in_child, wait
from support.generating import Corpus, make_corpus, rows_by_hand
from support.matching import dot, random_rule, unit
from support.sampling import sampled, some_of
from support.world import World

from newsclippings import ConfigError, DataNotFoundError, Method, Recipe, Rule, generate, verify, verify_generated

Places = dict[str, Any]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "corpus")


@pytest.fixture
def places(corpus: Corpus, tmp_path: Path) -> Places:
    """The arguments of `generate` for the corpus."""
    vectors = {
        name: corpus.write_vectors(name, tmp_path / name, of)
        for name, of in (("clip_text", "captions"), ("clip_image", "pictures"))
    }
    return {"corpus": corpus.table, "vectors": vectors, "entities": corpus.write_entities(tmp_path / "entities")}


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def read_rows(out: Path, split: str, config: str = "mine") -> list[dict[str, Any]]:
    name = {"validation": "val"}.get(split, split)
    content = json.loads((out / f"news_clippings/data/{config}/{name}.json").read_bytes())
    rows: list[dict[str, Any]] = content["annotations"]
    return rows


def test_from_a_table_to_rows(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    """One method: the official tree, which `load_dataset` and `verify` take."""
    out = tmp_path / "out"
    report = generate(out, "clip_text_image", **places)
    assert report.made
    assert sorted(read_tree(out)) == [
        "README.md",
        "examples.html",
        "examples.png",
        "manifest.json",
        "news_clippings/data/mine/test.json",
        "news_clippings/data/mine/train.json",
        "news_clippings/data/mine/val.json",
        "recipe.toml",
    ]
    checked = verify(out, corpus.table, configs="mine")
    assert checked.sound, str(checked)
    ds = datasets.load_dataset("newsclippings", "mine", data_dir=str(out), visual_news=str(corpus.table))
    by_id = {row["id"]: row for row in corpus.rows}
    for split in ("train", "validation", "test"):
        rows = read_rows(out, split)
        assert report.splits[split]["rows"] == len(rows) == len(ds[split])
        assert ds[split].features["source_dataset"].names == ["clip_text_image"]
        for planned, row in zip(rows, ds[split].cast_column("image", datasets.Image(decode=False)), strict=True):
            text, picture = by_id[planned["id"]], by_id[planned["image_id"]]
            assert row["caption"] == text["caption"]
            assert row["image"]["bytes"] == corpus.pictures[picture["image_path"]]
            assert row["falsified"] == planned["falsified"]
            assert row["source"] == text["outlet"]
            assert row["similarity_score"] == planned["similarity_score"]


def test_the_name_of_an_official_config_is_refused(places: Places, tmp_path: Path) -> None:
    """A generated config cannot be taken for one of the five."""
    with pytest.raises(ConfigError, match="is an official config"):
        generate(tmp_path / "out", "clip_text_text", config="merged_balanced", **places)


@pytest.mark.parametrize("seed", sampled(range(24), 3))
def test_a_recipe_gives_what_every_pair_gives(seed: int, tmp_path: Path) -> None:
    """Whole recipes of random rules on random corpora equal a naive implementation: splits, pairs, scores, order."""
    r = np.random.default_rng(seed)
    corpus = make_corpus(tmp_path / "corpus", int(r.integers(30, 70)), seed)
    near = dot(*unit(corpus.vectors["clip_text"][:2]))
    methods = []
    for k in range(int(r.integers(1, 4))):
        query, against = (["clip_text", "clip_image"][n] for n in r.integers(2, size=2))
        uses = (1, 1, 2, None)[r.integers(4)]
        rule = random_rule(r, near)
        rule = replace(rule, other=(*rule.other, "section")) if r.random() < 0.3 else rule
        methods.append(Method(f"m{k}", query, against, rule, uses, closed=uses == 1 and bool(r.random() < 0.3)))
    recipe = Recipe("mine", tuple(methods), None, {"train": 0.7, "test": 0.3} if seed % 2 else None)
    expected = rows_by_hand(corpus, recipe, recipe.splits or {"train": 0.8, "validation": 0.1, "test": 0.1})
    vectors = {
        name: corpus.write_vectors(name, tmp_path / name, of)
        for name, of in (("clip_text", "captions"), ("clip_image", "pictures"))
    }
    arguments: Places = {"corpus": corpus.table, "vectors": vectors, "entities": corpus.write_entities(tmp_path / "e")}
    if not all(expected.values()):
        with pytest.raises(ConfigError, match="is matched"):
            generate(tmp_path / "out", recipe, **arguments)
        return
    report = generate(tmp_path / "out", recipe, **arguments)
    for split, rows in expected.items():
        assert read_rows(tmp_path / "out", split) == rows
        assert report.splits[split]["rows"] == len(rows)


RECIPE = """
config = "mine"
merge = "balanced"
splits = {train = 0.6, test = 0.4}

[[method]]
name = "clip_text_image"

[[method]]
name = "by_section"
query = "clip_image"
against = "clip_image"
closed = true
rule = {other = ["section"]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    return file


def at_changes(patch: pytest.MonkeyPatch, act: Callable[[int, bool], object]) -> None:
    """Call `act` before and after each change of a name: a finished file, or one that is removed.

    Args:
        act: it gets the number of the change, and whether it is still to come.
    """
    count = itertools.count()

    def change(real: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **kwargs: Any) -> Any:
            if "/out" not in str(args[0]):
                return real(*args, **kwargs)
            number = next(count)
            act(number, True)
            real(*args, **kwargs)
            return act(number, False)

        return changed

    for name in ("replace", "unlink", "rmdir"):
        patch.setattr(os, name, change(getattr(os, name)))


@pytest.mark.parametrize("most", sampled([4, 1000], 2), ids=["some", "all"])
def test_killed_at_any_write(most: int, places: Places, recipe: Path, tmp_path: Path) -> None:
    """After SIGKILL before or after any file is finished or removed, the same call gives the same bytes."""
    out, changes = tmp_path / "out", dict[bool, list[int]]({True: [], False: []})
    with pytest.MonkeyPatch.context() as patch:
        at_changes(patch, lambda number, before: changes[before].append(number))
        generate(out, recipe, **places)
    whole, count = read_tree(out), len(changes[True])
    assert count > 20

    def run(at: int, when: bool) -> None:
        def act(number: int, before: bool) -> None:
            if (number, before) == (at, when):
                os.kill(os.getpid(), signal.SIGKILL)

        at_changes(pytest.MonkeyPatch(), act)
        generate(out, recipe, **places)

    for when in (True, False):
        for at in some_of(changes[when], most, seed=when):
            shutil.rmtree(out)
            assert wait(in_child(partial(run, at, when))) == -signal.SIGKILL
            generate(out, recipe, **places)
            assert read_tree(out) == whole, (at, when)
    shutil.rmtree(out)
    deaths = 0
    while wait(in_child(partial(run, count // most, False))) != 0:  # so many files at a time
        deaths += 1
        assert deaths <= count
    assert deaths > min(most, 10) // 2
    assert read_tree(out) == whole


def test_the_same_again_makes_nothing(places: Places, recipe: Path, tmp_path: Path) -> None:
    """A finished folder is left as it is; a damaged file of it is made again."""
    out = tmp_path / "out"
    assert generate(out, recipe, **places).made
    whole, before = read_tree(out), {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    again = generate(out, recipe, **places)
    assert not again.made
    assert "it was there already" in str(again)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    for name in ("news_clippings/data/mine/test.json", "README.md", "recipe.toml"):
        (out / name).write_bytes(b"{}")
        generate(out, recipe, **places)
        assert read_tree(out) == whole


def other_vectors(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    corpus.vectors["clip_text"][3] += 1
    places["vectors"]["clip_text"] = corpus.write_vectors("clip_text", tmp_path / "other", "captions")


def other_entities(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    corpus.entities[3].append(("名古屋", "GPE"))
    places["entities"] = corpus.write_entities(tmp_path / "other")


def other_corpus(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    del places
    corpus.rows[3]["caption"] = "別の写真"
    corpus.write()


def other_pictures(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    del places
    corpus.pictures[corpus.rows[5]["image_path"]] = corpus.pictures[corpus.rows[4]["image_path"]]
    corpus.write()


def other_recipe(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    del corpus, places
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("closed = true", "cap = 0.9"))


OTHERS = {
    "vectors clip_text sha256 is [0-9a-f]{57}... there, [0-9a-f]{57}... now": other_vectors,
    "entities sha256 is": other_entities,
    "corpus sha256 is": other_corpus,
    "pictures sha256 is": other_pictures,
    r"recipe method \w+ closed is True there, nothing now; recipe method \w+ cap is nothing there, 0.9": other_recipe,
}


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("message", OTHERS)
def test_another_config_in_the_folder_is_refused(
    message: str, interrupted: bool, corpus: Corpus, places: Places, recipe: Path, tmp_path: Path
) -> None:
    """A folder that was made, or begun, of something else is left as it is; what differs is named, with both values."""
    out = tmp_path / "out"
    generate(out, recipe, **places)
    if interrupted:
        made_of = json.loads((out / "manifest.json").read_bytes())["made_of"]
        (out / "rounds").mkdir()
        (out / "rounds" / "plan.json").write_text(json.dumps(made_of))
        (out / "manifest.json").unlink()
    before = read_tree(out)
    OTHERS[message](corpus, places, tmp_path)
    with pytest.raises(ConfigError, match=f"has another config: .*{message}"):
        generate(out, recipe, **places)
    assert read_tree(out) == before


def test_what_is_no_corpus_is_refused(places: Places, recipe: Path, tmp_path: Path, world: World) -> None:
    """A folder without data.json, another file and two corpora are errors, and nothing is written."""
    for wrong in (tmp_path / "entities", tmp_path / "absent", recipe, world.tar):
        with pytest.raises(DataNotFoundError, match=r"expected a folder with data\.json in the form of VisualNews, or"):
            generate(tmp_path / "out", recipe, **{**places, "corpus": wrong})
    with pytest.raises(DataNotFoundError, match="is not a file"):
        generate(tmp_path / "out", recipe, **{**places, "corpus": tmp_path / "absent.csv"})
    with pytest.raises(ConfigError, match="both name the corpus"):
        generate(tmp_path / "out", recipe, **places, visual_news=world.origin)
    with pytest.raises(ConfigError, match="needs entities"):
        generate(tmp_path / "out", recipe, **{**places, "entities": None})
    with pytest.raises(ConfigError, match="needs vectors 'clip_txt'"):
        generate(tmp_path / "out", [Method("m", "clip_txt", "clip_text")], **places)
    vectors = {"clip_txt": places["vectors"]["clip_text"]}
    with pytest.raises(ConfigError, match=r"needs the vectors 'clip_txt'\. Did you mean 'clip_text'"):
        generate(tmp_path / "out", "clip_text_text", **{**places, "vectors": vectors})
    assert not (tmp_path / "out").exists()


def test_vectors_of_visual_news_are_not_those_of_another_corpus(
    places: Places, tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of a corpus of one's own mean other captions, so the authors' vectors below data_dir are not taken."""
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(world.root))
    with pytest.raises(ConfigError, match="method person needs vectors 'sbert', which are not given") as found:
        generate(tmp_path / "out", "person", **places)
    assert "newsclippings embed" in str(found.value)
    with pytest.raises(ConfigError, match="vectors='sbert' is of VisualNews, and this corpus is another"):
        generate(tmp_path / "out", "person", **{**places, "vectors": {"sbert": True}})
    assert not (tmp_path / "out").exists()


def test_errors_name_the_method(places: Places, tmp_path: Path) -> None:
    """A column, a label and vectors that a method cannot have; the number of a picture's copies is no column."""
    for rule, message in (
        (Rule(same=("sektion",)), "method second: the corpus has no column 'sektion'. Did you mean 'section'?"),
        (Rule(other=("picture_copies",)), "method second: the corpus has no column 'picture_copies'."),
        (Rule(differ=("PERSN",)), "method second: rule: differ has the label 'PERSN'"),
    ):
        methods = [Method("first", "clip_text", "clip_text"), Method("second", "clip_text", "clip_text", rule)]
        with pytest.raises(ConfigError) as found:
            generate(tmp_path / "out", methods, **places)
        assert message in str(found.value)
    assert not (tmp_path / "out").exists()


def test_a_caption_without_a_text_is_left_out(corpus: Corpus, places: Places, tmp_path: Path) -> None:
    """Nothing can be said of it and a picture; it is counted, and the check agrees. The outlet has two names."""
    for k, text in ((5, ""), (6, " \n\u3000")):
        corpus.rows[k]["caption"] = text
    corpus.write()
    rule = Rule(same=("outlet",), other=("source",))
    with pytest.raises(ConfigError, match="is matched"):
        generate(tmp_path / "none", Recipe("mine", [Method("m", "clip_text", "clip_text", rule)]), **places)
    method = Method("m", "clip_text", "clip_text", Rule(same=("outlet",)), uses=2)
    report = generate(tmp_path / "out", Recipe("mine", [method], splits={"train": 1.0}), **places)
    assert report.splits["train"]["methods"]["m"]["left_out"] == {"no caption": 2}
    used = {row[key] for row in read_rows(tmp_path / "out", "train") for key in ("id", "image_id")}
    assert not used & {corpus.ids[5], corpus.ids[6]}
    found = verify_generated(tmp_path / "out", **places)
    assert (found.sound, found.complete) == (True, True), str(found)


def test_a_recipe_of_windows(corpus: Corpus, places: Places, recipe: Path, tmp_path: Path) -> None:
    """A mark of the byte order at its beginning is no part of it."""
    recipe.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes())
    assert generate(tmp_path / "out", recipe, **places).made


def test_merging_with_a_method_without_matches(places: Places, tmp_path: Path) -> None:
    """As many matches of each method are none if one has none; the error names that method, and nothing is left."""
    methods = [Method("all", "clip_text", "clip_text"), Method("none", "clip_text", "clip_text", Rule(floor=1))]
    message = r"train: merge='balanced' .* there are none of some \(none: \d+ whose scores are all below the floor\)"
    with pytest.raises(ConfigError, match=message):
        generate(tmp_path / "out", Recipe("mine", methods, merge="balanced"), **places)
    assert not (tmp_path / "out").exists()


def test_no_input_is_written_over(corpus: Corpus, places: Places, recipe: Path, tmp_path: Path) -> None:
    """A folder with inputs, or with files of something else, is no output."""
    before = read_tree(tmp_path)
    for out in (corpus.root, places["entities"], places["vectors"]["clip_text"], tmp_path, corpus.root / "new"):
        with pytest.raises(ConfigError, match="inputs"):
            generate(out, recipe, **places)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt exists and was not written by `newsclippings generate`"):
        generate(foreign, recipe, **places)
    (foreign / "notes.txt").unlink()
    assert {name: data for name, data in read_tree(tmp_path).items() if not name.startswith("hf/")} == before
