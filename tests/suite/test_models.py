"""Vectors that are made for a benchmark, and the recipes of `newsclippings train` in its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.constants import change_constant
from support.encoding import WIDTH, caption_vector, picture_vector
from support.learnable import write_world
from support.world import World

from _newsclippings.evaluate import evaluate
from _newsclippings.suite import benchmark
from newsclippings import ConfigError

MODULE = """
from support.encoding import caption_vector, picture_vector

def encode(batch):
    return [caption_vector(item) if isinstance(item, str) else picture_vector(item) for item in batch]
"""


def test_vectors_of_a_model_are_made_once(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's vectors of both sides are made below the output, used by name, and kept for the next call."""
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    (line,) = benchmark("clip-cosine", model="py:mine:encode", data_dir=world.root, out="out").lines
    folders = sorted(Path("out/vectors/py-mine-encode").iterdir())
    assert [folder.name for folder in folders] == ["captions", "pictures"]
    rows = world.rows(split="test")
    scores = [json.loads(text)["score"] for text in Path(line["predictions"][0]).read_text().splitlines()]
    expected = []
    for row in rows:
        image = _decode(row)
        text = caption_vector(row["caption"])
        cosine = float(image @ text / np.linalg.norm(image) / np.linalg.norm(text)) if image.any() else 0
        expected.append((1 - cosine) / 2)
    assert scores == pytest.approx(expected, abs=1e-6)
    parts = {file: file.stat().st_mtime_ns for folder in folders for file in folder.iterdir()}
    (again,) = benchmark("clip-cosine", model="py:mine:encode", data_dir=world.root, out="out").lines
    assert (again["value"], again["signature"]) == (line["value"], line["signature"])
    assert {file: file.stat().st_mtime_ns for file in parts} == parts


def _decode(row: dict[str, Any]) -> Any:
    import io

    from PIL import Image

    if row["image"] is None:
        return np.zeros(WIDTH, np.float32)
    return picture_vector(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_recipes_are_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each recipe is trained; the table is what `evaluate` says of its predictions."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from _newsclippings.train import evaluate as report

    change_constant(monkeypatch, "DRAWS", 100)
    monkeypatch.setattr(report, "draw_evaluation", lambda *_: None)
    write_world(tmp_path, learnable=True, pairs={"train": 16, "val": 4, "test": 8})
    quick = ["--from_config", "tiny", "--use_cpu", "--disable_tqdm", "true", "--max_steps", "2", "--eval_steps", "2"]
    result = benchmark(
        "clip-finetune", seeds=2, data_dir=tmp_path, out="out", train_flags=[*quick, "--save_steps", "2"]
    )
    assert [line["method"] for line in result.lines] == ["released", "paper", "strong"]
    for line in result.lines:
        found = evaluate(*line["predictions"], data_dir=tmp_path, threshold=0.5, group=True)
        assert found.group is not None
        assert (line["value"], line["signature"]) == (found.group["accuracy"]["mean"], found.signature)
        assert line["verdict"] == ("not compared: flags change the recipe" if line["published"] else "")
    notes = json.loads(Path("out/clip-finetune/strong/seed-0/classifier.json").read_text())
    assert notes["options"]["recipe"] == "strong"
    with pytest.raises(ConfigError, match="reads pictures and captions"):
        benchmark("clip-finetune", vectors={"image": "x"}, data_dir=tmp_path, out="out")
