"""`newsclippings generate`: a corpus becomes a config that every command takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from support.generating import Corpus, make_corpus, rows_by_hand
from support.matching import dot, random_rule, unit

from newsclippings import ConfigError, Method, Recipe, generate, verify

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


@pytest.mark.parametrize("seed", range(24))
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
