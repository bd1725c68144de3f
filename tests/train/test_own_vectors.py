"""Training on columns of vectors of the user's own encoders, of any width, from files and from built folders."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from support.own_vectors import WIDTH, make_vectors, write_folder, write_npy, write_parquet
from support.vectors import make_plan
from support.vectors import write as write_authors
from support.world import World

from _newsclippings.folder.build import build_folder
from _newsclippings.text import options_as_flags
from newsclippings import ConfigError, DataNotFoundError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("matplotlib")

from _newsclippings.train import command as training  # noqa: E402
from _newsclippings.train import evaluate, model  # noqa: E402
from _newsclippings.train.collate import Collator  # noqa: E402
from _newsclippings.train.data import find_widths  # noqa: E402
from _newsclippings.train.flags import parse  # noqa: E402
from _newsclippings.train.options import Options  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

FEATURES = ["--features", "net,faces,text"]
STEPS = ["--max_steps", 2, "--save_steps", 2, "--disable_tqdm", "true"]


@pytest.fixture(autouse=True)
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots."""
    monkeypatch.setattr(evaluate, "draw_evaluation", lambda *_: [])


@pytest.fixture
def columns(world: World, tmp_path: Path) -> dict[str, Any]:
    """Column -> location: vectors of pictures in a folder, lists of them, and vectors of captions two numbers wider."""
    text = {n: np.append(v, [1, 2]) for n, v in make_vectors(world, "id").items()}
    faces = make_vectors(world, several=True)
    return {
        "net": str(write_folder(make_vectors(world), tmp_path)),
        "faces": (str(write_parquet(faces, tmp_path, pa.list_(pa.list_(pa.float32(), WIDTH)))), "pictures"),
        "text": (str(write_npy(text, tmp_path)), "captions"),
    }


@pytest.fixture
def flags(columns: dict[str, Any]) -> list[str]:
    """--embeddings with these columns."""
    places = {name: place if isinstance(place, str) else ":".join(place[::-1]) for name, place in columns.items()}
    return ["--embeddings", *(f"{name}={place}" for name, place in places.items())]


def run(*arguments: object) -> dict[str, Any]:
    return training.main([*map(str, arguments), "--use_cpu"])


def test_trained_evaluated_and_resumed(world: World, columns: dict[str, Any], flags: list[str], tmp_path: Path) -> None:
    """Files, a stream and a built folder give the same run; it is evaluated on either, and resumed."""
    place = ["--data_dir", world.root, *flags]
    found = run(*FEATURES, *place, *STEPS, "--output_dir", "out")
    assert found["rows"]["found"] == len(world.rows(split="test"))
    notes = json.loads(Path("out/classifier.json").read_text())
    assert notes["widths"] == {"net": WIDTH, "faces": WIDTH, "text": WIDTH + 2}
    assert model.load_classifier(Path("out"))[0].head[0].in_features == 3 * WIDTH + 2
    build_folder(tmp_path / "built", ["merged_balanced"], images="none", embeddings=columns, data_dir=str(world.root))
    built = ["--data", tmp_path / "built"]
    for n, ways in enumerate((built, [*place, "--streaming"], [*built, "--streaming"])):
        assert run("--eval_only", "out", *ways, "--output_dir", f"eval{n}")["measures"] == found["measures"]
        assert run(*FEATURES, *ways, *STEPS, "--output_dir", f"out{n}")["rows"] == found["rows"]
    more = [*FEATURES, *place, "--max_steps", 4, "--resume_from_checkpoint", "true", "--disable_tqdm", "true"]
    run(*more, "--output_dir", "out")
    assert json.loads(Path("out/checkpoint-4/trainer_state.json").read_text())["global_step"] == 4


def test_the_numbers_that_the_head_gets(world: World, flags: list[str]) -> None:
    """Each row has its vectors one after the other, each of length one; zeros where there is none."""
    options, _ = parse([*FEATURES, "--data_dir", str(world.root), *flags, "--use_cpu"])
    rows, widths = training.load_rows(options, "test", 0, 0, 1)
    batch = Collator(options, None, widths)([rows[k] for k in range(len(rows))])
    net, faces, text = make_vectors(world), make_vectors(world, several=True), make_vectors(world, "id")
    for row, vector in zip(world.rows(split="test"), batch["vectors"].numpy(), strict=True):
        some = faces.get(row["image_id"], [])
        parts = [
            net.get(row["image_id"], np.zeros(WIDTH)),
            np.mean(some, 0) if len(some) else np.zeros(WIDTH),
            np.append(text[row["id"]], [1, 2]) if row["id"] in text else np.zeros(WIDTH + 2),
        ]
        expected = np.concatenate([part / (np.linalg.norm(part) or 1) for part in parts])
        assert vector == pytest.approx(expected, abs=1e-6)


@pytest.mark.sweep
def test_beside_the_authors_vectors(new_world: Any, tmp_path: Path) -> None:
    """Sets and kinds of the authors need no location beside your own; --products takes their CLIP vectors."""
    world = new_world(tar=False)
    write_authors(world, make_plan(world))
    net = f"net={write_folder(make_vectors(world), tmp_path)}"
    place = ["--data_dir", world.root, "--embeddings", net]
    for names, more, width in (("clip,net", ["--products"], 4 * 512), ("sbert, net", [], 768)):
        out = f"out{width}"
        found = run("--features", names, *more, *place, *STEPS, "--output_dir", out)
        assert model.load_classifier(Path(out))[0].head[0].in_features == width + WIDTH
        assert run("--eval_only", out, *place) == found


def test_a_run_of_an_earlier_version(new_world: Any) -> None:
    """Its notes have no widths: they are those of the authors' vectors, and it is evaluated and resumed as before."""
    world = new_world(tar=False)
    write_authors(world, make_plan(world))
    place = ["--features", "clip", "--data_dir", world.root, "--output_dir", "out", "--disable_tqdm", "true"]
    found = run(*place, "--max_steps", 2, "--save_steps", 2)
    notes = json.loads(Path("out/classifier.json").read_text())
    del notes["widths"], notes["options"]["embeddings"]
    Path("out/classifier.json").write_text(json.dumps(notes, indent=1) + "\n")
    assert run("--eval_only", "out", "--data_dir", world.root) == found
    run(*place, "--max_steps", 4, "--resume_from_checkpoint", "true")


def test_vectors_of_another_width(world: World, flags: list[str], tmp_path: Path) -> None:
    """A run takes vectors of the width that it was trained on: an error names both, and changes nothing."""
    run("--features", "net", "--data_dir", world.root, *flags[:2], *STEPS, "--output_dir", "out")
    before = {file: os.stat(file) for file in Path("out").rglob("*")}
    (tmp_path / "other").mkdir()
    wide = {n: np.append(v, v) for n, v in make_vectors(world).items()}
    place = ["--data_dir", world.root, "--embeddings", f"net=pictures:{write_npy(wide, tmp_path / 'other')}"]
    says = "out: it was trained on vectors net of 5 numbers, and those of the rows have 10. Pass the vectors of the"
    with pytest.raises(ValueError, match=says):
        run("--eval_only", "out", *place)
    with pytest.raises(ValueError, match=says):
        run("--features", "net", *place, "--output_dir", "out", "--max_steps", 4, "--resume_from_checkpoint", "true")
    assert {file: os.stat(file).st_mtime_ns for file in before} == {f: s.st_mtime_ns for f, s in before.items()}
    with pytest.raises(ValueError, match=r"--features net: expected clip, .*--embeddings net=LOCATION"):
        run("--eval_only", "out", "--data_dir", world.root)


def test_columns_that_cannot_be_used(world: World, columns: dict[str, Any], tmp_path: Path) -> None:
    """A column that is not there, or is not of vectors of one width, is an error that names those that are."""
    build_folder(tmp_path / "built", ["merged_balanced"], images="none", embeddings=columns, data_dir=str(world.root))
    for streaming in ([], ["--streaming"]):
        built = ["--data", tmp_path / "built", *STEPS, *streaming]
        with pytest.raises(ValueError, match=r"lacks the columns nett.* Did you mean 'net'\? .*: net, faces, text\."):
            run("--features", "nett", *built)
        with pytest.raises(ValueError, match=r"--features topic: expected a column of vectors, .*Value"):
            run("--features", "net,topic", *built)
    rows = datasets.load_dataset(str(tmp_path / "built"), "merged_balanced", split="test")
    loose = rows.cast_column("net", datasets.List(datasets.Value("float32")))
    with pytest.raises(ValueError, match=r"--features net: expected a column of vectors, that is lists of a fixed le"):
        find_widths(Options(features="net"), loose)
    half = rows.cast_column("net", datasets.List(datasets.Value("float16"), length=WIDTH))
    assert find_widths(Options(features="faces,net"), half) == {"faces": WIDTH, "net": WIDTH}
    renamed = rows.rename_columns({"net": "clip_image", "text": "clip_text"})
    with pytest.raises(ValueError, match="expected clip_image and clip_text of one width, found 5 and 7"):
        find_widths(Options(features="clip", products=True), renamed)


@pytest.mark.parametrize(
    ("place", "kind", "says"),
    [
        ("net={}/v.npy", ConfigError, r"--embeddings net: a file does not say .* net=pictures:"),
        ("net={}/nowhere", DataNotFoundError, "net: .*nowhere does not exist"),
        ("caption=pictures:{}/v.npy", ConfigError, "caption is a column already"),
    ],
)
def test_locations_that_cannot_be_used(world: World, tmp_path: Path, place: str, kind: Any, says: str) -> None:
    """Errors about the files are those of a build, and name the flag."""
    write_npy(make_vectors(world), tmp_path)
    name, place = place.partition("=")[0], place.format(tmp_path)
    arguments = ["--features", name, "--embeddings", place, "--data_dir", str(world.root), "--use_cpu"]
    with options_as_flags("_"), pytest.raises(kind, match=says):
        training.main(arguments)


def test_the_vectors_are_no_output(world: World, flags: list[str], tmp_path: Path) -> None:
    """A run is not written into a folder of vectors."""
    place = re.sub("^net=", "", flags[1])
    with pytest.raises(ConfigError, match="embedded-pictures"):
        run("--features", "net", "--data_dir", world.root, *flags[:2], *STEPS, "--output_dir", place)
