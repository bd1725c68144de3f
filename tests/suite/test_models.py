"""Vectors that are made for a benchmark, and the recipes of `newsclippings train` in its table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.command import run
from support.constants import change_constant
from support.encoding import WIDTH, caption_vector, picture_vector
from support.evidence import write_evidence
from support.learnable import write_world
from support.world import World

import newsclippings
from _newsclippings.evaluate import evaluate
from _newsclippings.suite import benchmark
from _newsclippings.suite.evidence_vectors import make_evidence
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

    if row["image"] is None:
        return np.zeros(WIDTH, np.float32)
    return picture_vector(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))


def test_evidence_of_a_folder(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's vectors of CCN's evidence are made once; of what CCN keeps, the nearest of each side is used."""
    pytest.importorskip("sklearn")
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    web = write_evidence(world, tmp_path / "ccn")
    (web.direct("test", 6) / "0.jpg").unlink()
    flags = ["--model", "py:mine:encode", "--data-dir", world.root, "--seeds", 1, "--out", "out"]
    done = run("benchmark", "muse", *flags, "--evidence", web.root, "--format", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [line["method"] for line in found["lines"]] == ["six DT", "six RF", "six MLP"]
    assert any("images have no vector: missing or empty" in note for note in found["notes"])
    assert any("which depends on the label" in note for note in found["notes"])
    folder = Path("out/vectors/py-mine-encode")
    places = {side: str(folder / of) for side, of in (("image", "pictures"), ("text", "captions"))}
    made = {file: file.stat().st_mtime_ns for file in folder.glob("evidence-*/*")}
    evidence, _ = make_evidence(str(web.root), "py:mine:encode", places, folder, str(world.root))
    assert {file: file.stat().st_mtime_ns for file in made} == made
    index, pictures, texts = evidence("merged_balanced", "test")
    assert index.tolist() == [row["index"] for row in world.rows(split="test")]
    for row, picture, text in zip(world.rows(split="test"), pictures, texts, strict=True):
        own = web.rows["test"].get(row["index"])
        vectors = [caption_vector(each) for each in _kept(own, "captions", "caption_keep")]
        assert text == pytest.approx(_nearest(caption_vector(row["caption"]), vectors), abs=1e-6)
        files = [web.root / each for each in _kept(own, "images", "image_keep")]
        vectors = [picture_vector(Image.open(file).convert("RGB")) for file in files if file.exists()]
        assert picture == pytest.approx(_nearest(_decode(row), vectors), abs=1e-6)


def test_evidence_without_exact_matches(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as_if_unlabelled, of what that filter leaves of all rows, the nearest of each side is used."""
    pytest.importorskip("sklearn")
    (tmp_path / "mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    web = write_evidence(world, tmp_path / "ccn")
    flags = ["--model", "py:mine:encode", "--data-dir", world.root, "--seeds", 1, "--out", "out"]
    done = run("benchmark", "muse", *flags, "--evidence", web.root, "--as-if-unlabelled", "--format", "json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [line["method"] for line in found["lines"]] == [f"six {name} unlabelled" for name in ("DT", "RF", "MLP")]
    assert {line["verdict"] for line in found["lines"]} == {
        "not compared: it was published with evidence that CCN's lists keep"
    }
    assert "Evidence is without exact matches in all rows, whatever their label." in found["notes"]
    folder = Path("out/vectors/py-mine-encode")
    places = {side: str(folder / of) for side, of in (("image", "pictures"), ("text", "captions"))}
    more: Any = {"data_dir": str(world.root), "unlabelled": True}
    index, pictures, texts = make_evidence(str(web.root), "py:mine:encode", places, folder, **more)[0](
        "merged_balanced", "test"
    )
    rows = newsclippings.load(split="test", data_dir=str(world.root), evidence=str(web.root)).to_list()
    for row, number, picture, text in zip(rows, index, pictures, texts, strict=True):
        left = newsclippings.as_if_unlabelled(row, web.root)["evidence"] or {"captions": [], "images": []}
        assert row["index"] == number
        vectors = [caption_vector(each) for each in left["captions"]]
        assert text == pytest.approx(_nearest(caption_vector(row["caption"]), vectors), abs=1e-6)
        vectors = [picture_vector(Image.open(web.root / each).convert("RGB")) for each in left["images"]]
        assert picture == pytest.approx(_nearest(_decode(row), vectors), abs=1e-6)


def _kept(own: dict[str, Any] | None, field: str, keep: str) -> list[str]:
    return [] if own is None else [value for value, kept in zip(own[field], own[keep], strict=True) if kept]


def _nearest(query: Any, vectors: list[Any]) -> Any:
    unit = [vector / np.linalg.norm(vector) for vector in vectors]
    return max(unit, key=lambda vector: float(vector @ query)) if unit else np.zeros(WIDTH, np.float32)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("muse --evidence {ccn}", "--evidence needs --model"),
        ("muse --model x --as-if-unlabelled", "--as-if-unlabelled needs --evidence with CCN's folder. Pass both."),
        ("muse --model x --evidence {nowhere}", "has no dataset_items_train.json"),
        ("muse --model x --evidence {ccn} --out {ccn}/out", "is inside a folder of inputs"),
        ("muse --model x --evidence {ccn} --config scene_resnet_place", "--evidence is for merged_balanced"),
        ("probe --model x --evidence {ccn}", "--evidence has no effect on probe"),
    ],
)
def test_wrong_use_of_evidence(world: World, tmp_path: Path, arguments: str, says: str) -> None:
    """Each is one line, before anything is written or loaded."""
    pytest.importorskip("sklearn")
    web = write_evidence(world, tmp_path / "ccn")
    given = arguments.format(ccn=web.root, nowhere=tmp_path / "nowhere").split()
    done = run("benchmark", *given, "--data-dir", world.root)
    assert done.exit_code == 1
    assert says in done.stderr
    assert not Path("benchmark").exists()


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
