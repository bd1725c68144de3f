"""The card of a generated config: how hard it is, and what gives its labels away, on corpora where that is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.generating import Corpus, make_corpus
from support.matching import dot, unit

from _newsclippings.generate.quality import judge
from newsclippings import Method, Recipe, generate

WIDTH = 16
SHARES = {"train": 0.7, "test": 0.3}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """300 captions with random vectors."""
    corpus = make_corpus(tmp_path / "corpus", 300, 2)
    r = np.random.default_rng(2)
    for name in ("clip_text", "clip_image"):
        corpus.vectors[name] = r.standard_normal((300, WIDTH)).astype(np.float32)
    return corpus


def make(corpus: Corpus, *methods: Method, shares: dict[str, float] | None = None) -> tuple[dict[str, Any], str, Path]:
    """Generate a config, and return its quality, its card and its folder."""
    folder = corpus.root.parent
    vectors = {
        name: corpus.write_vectors(name, folder / name, "captions" if name.endswith("text") else "pictures")
        for name in corpus.vectors
    }
    entities = corpus.write_entities(folder / "entities")
    recipe = Recipe("mine", methods, None, shares or SHARES)
    out = folder / "out"
    generate(out, recipe, corpus=corpus.table, vectors=vectors, entities=entities)
    quality: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())["quality"]
    return quality, (out / "README.md").read_text(), out


def plant_hubs(corpus: Corpus, name: str, hubs: list[int]) -> None:
    """Make all captions look for pictures in one direction, in which those of a few captions are."""
    direction = np.zeros(WIDTH, np.float32)
    direction[0] = 6
    corpus.vectors["clip_text"] += direction
    corpus.vectors[name][hubs] += direction


def test_hubs_give_the_label_away(corpus: Corpus) -> None:
    """Without a limit of uses a few pictures serve all captions, and a probe of the picture alone finds the label."""
    plant_hubs(corpus, "clip_image", [*range(0, 300, 10)])
    quality, card, _ = make(corpus, Method("hubs", "clip_text", "clip_image", uses=None))
    probe = quality["probes"]["picture only, clip_image"]
    assert probe["accuracy"]["value"] > 0.85
    assert judge(probe["accuracy"]) == "**not at chance**"
    assert quality["probes"]["caption only, clip_text"]["accuracy"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert quality["known_pictures"]["accuracy"] > 0.85
    assert quality["uses"]["hubs"]["most_uses"] > 3
    line = next(line for line in card.splitlines() if "picture only, `clip_image`" in line)
    assert line.endswith("| **not at chance** |")
    assert "No other model was given" in card


def test_closed_sets_give_nothing_away(corpus: Corpus) -> None:
    """A closed set is at 50 % by construction for whatever sees one side."""
    plant_hubs(corpus, "clip_image", [*range(0, 300, 10)])
    quality, card, _ = make(corpus, Method("closed", "clip_text", "clip_text", closed=True))
    assert quality["picture_alone_is_fair"]
    assert {found["accuracy"]["value"] for found in quality["probes"].values()} == {0.5}
    fair = {name: found["accuracy"]["value"] for name, found in quality["priors"].items() if "same" not in name}
    assert fair == dict.fromkeys(fair, 0.5)
    assert quality["known_pictures"]["accuracy"] == 0.5
    assert quality["uses"]["closed"]["most_uses"] == 1
    assert "picture only, `clip_image` | 50.0 |" in card
    assert card.count("at chance, by construction") >= 4


def test_a_length_gives_the_label_away(corpus: Corpus) -> None:
    """Pictures of short captions serve all captions: the length of the picture's own caption shows the label."""
    short = [*range(0, 300, 7)]
    for k, row in enumerate(corpus.rows):
        row["caption"] = f"{k} short" if k in short else f"{k} a caption that has many more words than the others have"
    corpus.write()
    plant_hubs(corpus, "clip_image", short)
    quality, card, _ = make(corpus, Method("hubs", "clip_text", "clip_image", uses=None))
    prior = quality["priors"]["length of the picture's own caption"]["accuracy"]
    assert prior["value"] > 0.85
    assert f"| length of the picture's own caption | {100 * prior['value']:.1f} |" in card
    assert quality["priors"]["outlet of the picture"]["accuracy"]["low"] < 0.6


def test_zero_shot_of_both_models(corpus: Corpus) -> None:
    """The model that made the pairs, and another one, which is always right; the first is measured pair by pair."""
    corpus.vectors["other_text"] = corpus.vectors["other_image"] = np.eye(300, dtype=np.float32)
    quality, card, out = make(corpus, Method("near", "clip_text", "clip_image"))
    found = quality["zero_shot"]
    assert {name: each["made_it"] for name, each in found.items()} == {"clip": True, "other": False}
    assert found["other"]["pair_accuracy"]["value"] == found["other"]["auc"]["value"] == 1
    rows = json.loads((out / "news_clippings/data/mine/test.json").read_bytes())["annotations"]
    text, image = (unit(corpus.vectors[name]) for name in ("clip_text", "clip_image"))
    at = {number: k for k, number in enumerate(corpus.ids)}
    scores = [dot(text[at[row["id"]]], image[at[row["image_id"]]]) for row in rows]
    won = sum(true > false for true, false in zip(scores[::2], scores[1::2], strict=True))
    assert found["clip"]["pair_accuracy"]["value"] == pytest.approx(won / len(rows) * 2, abs=1e-4)
    area = np.mean([(true > false) for true in scores[::2] for false in scores[1::2]])
    assert found["clip"]["auc"]["value"] == pytest.approx(float(area), abs=1e-4)
    assert "| zero-shot `other`, which of two pictures | 100.0 | " in card
    assert "| another model |" in card
    assert "No other model was given" not in card


def test_examples(corpus: Corpus) -> None:
    """A sheet and a page are drawn where there are pictures, with pairs of each method."""
    _, card, out = make(corpus, Method("one", "clip_text", "clip_image"), Method("two", "clip_text", "clip_text"))
    with Image.open(out / "examples.png") as image:
        assert image.size[0] > 1000
    page = (out / "examples.html").read_text()
    assert page.count('"measure":"one"') == page.count('"measure":"two"') == 50
    assert page.count('"falsified":0') == page.count('"falsified":1') == 100  # numbers of labels
    assert "<h1>Pairs of mine</h1>" in page
    assert "<title>Pairs of mine</title>" in page
    assert '"topic":null' in page  # the page says that it is unknown, and offers no empty choice
    assert '"topic":""' not in page
    assert "![Examples](examples.png)" in card
    assert "leave these two files out where you may not publish them" in card


def test_of_one_split(corpus: Corpus) -> None:
    """Nothing is learned from the split that is measured."""
    quality, card, _ = make(corpus, Method("one", "clip_text", "clip_image"), shares={"train": 1.0})
    assert quality["probes"] == quality["priors"] == {}
    assert quality["zero_shot"]["clip"]["pairs"] == quality["pairs"]
    assert "There is no other split to learn from" in card


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.481, 0.519, "at chance"),
        (0.4, 0.6, "too few pairs to tell"),
        (0.51, 0.55, "**not at chance**"),
        (0.3, 0.4, "**not at chance**"),
    ],
)
def test_words_of_intervals(low: float, high: float, words: str) -> None:
    """An interval is inside of 48 to 52 %, or without 50 %, or too wide to tell."""
    assert judge({"value": (low + high) / 2, "low": low, "high": high}) == words
    assert judge({"value": 0.5, "low": low, "high": high}, fair=True) == "at chance, by construction"
