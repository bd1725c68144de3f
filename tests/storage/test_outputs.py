"""An output is never an input or a file that the command did not write."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from support.command import run
from sweeps.overwriting import Scene, attacks, commands, digests, fails, make_scene

from _newsclippings.show.sample import write_sample
from _newsclippings.storage.files import write_atomically
from _newsclippings.storage.outputs import INFOS, check_not_input
from newsclippings import ConfigError

pytestmark = pytest.mark.sweep

SHARE = 9  # one of so many attacks is tried here; `python -m tests.sweeps.overwriting` tries all


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """All inputs of commands. Shared: nothing may change it."""
    return make_scene(tmp_path_factory.mktemp("outputs") / "scene")


def test_outputs_are_never_inputs(scene: Scene) -> None:
    """An output that is an input or a foreign file, by path, link or hard link, is refused, and no byte changes."""
    before = digests(scene.root)
    wrong = {}
    for k, (name, arguments) in enumerate(attacks(scene)):
        if k % SHARE == 0 and (problem := fails(scene, arguments, before)):
            wrong[name] = problem
    assert wrong == {}


NAMES = {
    "index": "x.parquet",
    "preview": "x.png",
    "preview --html": "x.html",
    "dataset-infos": "x.json",
    "croissant": "x.json",
    "convert-embeddings .npy": "x.npy",
    "convert-embeddings .parquet": "x.parquet",
    "convert-embeddings .safetensors": "x.safetensors",
    "build": "x",
    "sample": "x",
    "stats --plot": "x",
}


@pytest.mark.parametrize("command", sorted(NAMES))
def test_a_command_may_be_given_again(scene: Scene, tmp_path: Path, command: str) -> None:
    """A command replaces its own output with the same bytes; a hard link to the old output keeps its content."""
    pytest.importorskip({"stats --plot": "matplotlib"}.get(command, "numpy"))
    arguments = commands(scene)[command](tmp_path / NAMES[command])
    assert run(*arguments).exit_code == 0
    written = digests(tmp_path)
    assert len(written) > 0
    again = run(*arguments)
    assert (again.exit_code, again.stderr) == (0, "")
    assert digests(tmp_path) == written


@pytest.mark.parametrize("command", sorted(set(NAMES) - {"build", "sample", "stats --plot"}))
def test_what_another_command_wrote_stays(scene: Scene, tmp_path: Path, command: str) -> None:
    """A command does not replace another command's file, even with the same name suffix."""
    ending = Path(NAMES[command]).suffix
    others = {
        name: tmp_path / f"{k}{ending}" for k, name in enumerate(sorted(NAMES)) if Path(NAMES[name]).suffix == ending
    }
    for name, file in others.items():
        assert run(*commands(scene)[name](file)).exit_code == 0
    before = digests(tmp_path)
    for name, file in others.items():
        if name != command:
            done = run(*commands(scene)[command](file))
            assert done.exit_code == 1
            assert "exists and was not written by" in done.stderr
    assert digests(tmp_path) == before


def test_it_is_refused_before_anything_long(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad output is refused before rows, tars or vectors are read."""

    def too_long(*_: Any, **__: Any) -> Any:
        message = "it began"
        raise RuntimeError(message)

    for place in (
        "tar.index_tar",
        "vectors.export.read_pickle",
        "stats.folder_stats",
        "folder.croissant.croissant_text",
        "rows.stream_rows",
    ):
        monkeypatch.setattr(f"_newsclippings.{place}", too_long)
    (tmp_path / "stats.json").write_text("{}")
    for command, name in NAMES.items():
        file = tmp_path / name
        if file.suffix:
            file.write_text("mine")
        done = run(*commands(scene)[command](tmp_path if command == "stats --plot" else file))
        if command not in ("build", "sample"):
            assert done.exit_code == 1, command
            assert "exists and was not written by" in done.stderr, command


def test_a_file_created_during_the_command_is_not_replaced(tmp_path: Path) -> None:
    """The output is checked again just before the file gets its name."""
    file = tmp_path / "infos.json"

    def write() -> None:
        with write_atomically(file, INFOS) as temporary:
            Path(temporary).write_text("new")
            file.write_text("mine")

    with pytest.raises(ConfigError, match="exists and was not written by `newsclippings dataset-infos`"):
        write()
    assert [path.name for path in tmp_path.glob("*.*")] == ["infos.json"]
    assert file.read_text() == "mine"


def test_vectors_of_another_pickle_are_not_replaced(scene: Scene, tmp_path: Path) -> None:
    """A .npy cannot be marked as ours: it is replaced only by equal bytes, and both files or none are written."""
    other = tmp_path / "other.pkl"
    other.write_bytes(pickle.dumps({7: np.ones(4, np.float32)}, 4))
    assert run("convert-embeddings", scene.vectors, tmp_path / "x.npy").exit_code == 0
    (tmp_path / "x.ids.npy").unlink()
    before = digests(tmp_path)
    done = run("convert-embeddings", other, tmp_path / "x.npy")
    assert done.exit_code == 1
    assert "x.npy exists and was not written by `newsclippings convert-embeddings` of this file" in done.stderr
    assert digests(tmp_path) == before
    assert run("convert-embeddings", scene.vectors, tmp_path / "x.npy").exit_code == 0
    assert np.load(tmp_path / "x.ids.npy").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_parts_of_an_index_are_ours(scene: Scene, tmp_path: Path, kind: str) -> None:
    """The folder of parts beside an index, which is removed at the end, must not hold other files."""
    parts, elsewhere = tmp_path / "x.parquet.parts", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.txt").write_text("mine")
    if kind == "link":
        parts.symlink_to(elsewhere)
    else:
        elsewhere.rename(parts)
        if kind == "file":
            (parts / "mine.txt").rename(elsewhere)
            parts.rmdir()
            elsewhere.rename(parts)
    before = digests(tmp_path)
    done = run("index", scene.data / "visual_news/origin.tar", "-o", tmp_path / "x.parquet")
    assert done.exit_code == 1
    assert "x.parquet.parts" in done.stderr
    assert "exists and was not written by `newsclippings index`" in done.stderr
    assert digests(tmp_path) == before


def copy_of_built(scene: Scene, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scene.built, tmp_path / "built"))


@pytest.mark.parametrize("command", ["build", "card", "push"])
@pytest.mark.parametrize("name", ["README.md", "dataset_infos.json", "SHA256SUMS"])
def test_a_card_of_somebody_elses(scene: Scene, tmp_path: Path, command: str, name: str) -> None:
    """A foreign file in place of one of the card's is not replaced, and nothing is uploaded."""
    built = copy_of_built(scene, tmp_path)
    (built / name).write_text(f"{'0' * 64}  mine\n")
    before = digests(built)
    arguments: list[object] = {
        "build": ["build", built, "--data-dir", scene.data, "--split", "train"],
        "card": ["card", built],
        "push": ["push", "me/it", built, "--dry-run", "--with-images", "--i-have-the-rights"],
    }[command]
    done = run(*arguments)
    assert done.exit_code == 1
    assert f"{built / name}" in done.stderr
    assert digests(built) == before


def test_a_foreign_pairs_png_is_not_replaced(scene: Scene, tmp_path: Path) -> None:
    """`build` replaces only its own pairs.png, also the unmarked one of the first version."""
    built = copy_of_built(scene, tmp_path)
    arguments = ["build", built, "--data-dir", scene.data, "--split", "test"]
    marked = (built / "pairs.png").read_bytes()
    with PIL.Image.open(built / "pairs.png") as picture:
        picture.save(built / "pairs.png")
    assert run(*arguments).exit_code == 1
    sums = (built / "SHA256SUMS").read_text().splitlines()
    digest = digests(built)["pairs.png"]
    sums = [f"{digest}  pairs.png" if line.endswith("  pairs.png") else line for line in sums]
    (built / "SHA256SUMS").write_text("\n".join([*sums, ""]))
    assert run(*arguments).exit_code == 0
    assert (built / "pairs.png").read_bytes() == marked


@pytest.mark.parametrize("name", ["notes.tmp", "notes.unfinished", "README.md.notes.tmp", "pairs.png.1-notes.tmp"])
def test_only_real_leftovers_are_removed(scene: Scene, tmp_path: Path, name: str) -> None:
    """Files of a killed build are removed; files with only a similar suffix are not."""
    built = copy_of_built(scene, tmp_path)
    folder = built if name.endswith("notes.tmp") and "." in name[:-9] else built / "merged_balanced"
    (folder / name).write_text("mine")
    run("build", built, "--data-dir", scene.data, "--split", "train")
    assert (folder / name).read_text() == "mine"


def test_hidden_files_move_to_the_new_config(scene: Scene, tmp_path: Path) -> None:
    """Hidden files of a config are kept when the config is written again."""
    built = copy_of_built(scene, tmp_path)
    (built / "merged_balanced" / ".notes").write_text("mine")
    done = run("build", built, "--data-dir", scene.data, "--split", "train")
    assert done.exit_code == 0
    assert (built / "merged_balanced" / ".notes").read_text() == "mine"
    assert list(json.loads((built / "merged_balanced/manifest.json").read_text())["splits"]) == ["train"]


def test_foreign_charts_are_not_replaced(scene: Scene, tmp_path: Path) -> None:
    """A PNG by the name of a chart is neither replaced nor removed."""
    pytest.importorskip("matplotlib")
    for name in ("scores", "pictures"):
        chart = tmp_path / name / f"merged_balanced-{name}.png"
        chart.parent.mkdir()
        PIL.Image.new("L", (3, 3)).save(chart)
        before = digests(tmp_path)
        done = run("stats", scene.built, "--plot", chart.parent)
        assert done.exit_code == 1
        assert f"{chart} exists and was not written by `newsclippings stats`" in done.stderr
        assert digests(tmp_path) == before


@pytest.mark.parametrize("how", ["changed", "link", "folder that is a link"])
def test_a_sample_that_was_changed(tmp_path: Path, how: str) -> None:
    """A changed sample is not overwritten, and neither is the target of a link."""
    sample = write_sample(tmp_path / "sample")
    file = sample / "visual_news" / "origin" / "data.json"
    if how == "changed":
        file.write_text("[]")
    elif how == "link":
        file.rename(tmp_path / "mine.json")
        file.symlink_to(tmp_path / "mine.json")
    else:
        (sample / "visual_news").rename(tmp_path / "mine")
        (sample / "visual_news").symlink_to(tmp_path / "mine")
    before = digests(tmp_path)
    with pytest.raises(ConfigError, match="exists and was not written by `newsclippings sample`"):
        write_sample(sample)
    assert digests(tmp_path) == before


def test_an_input_is_recognised_by_any_name(tmp_path: Path) -> None:
    """Inputs are recognised through links, hard links and dots, even if they do not exist yet."""
    data = tmp_path / "data"
    data.mkdir()
    file = data / "file"
    file.write_text("it")
    os.link(file, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(file)
    (tmp_path / "folder").symlink_to(data)
    inputs = [str(file), str(data / "absent")]
    for name in ("hard", "soft", "folder/file", "data/../data/./file", "data/absent", "folder/absent", "folder", "."):
        with pytest.raises(ConfigError, match=r"is one of the inputs|contains the inputs"):
            check_not_input(tmp_path / name, inputs)
    with pytest.raises(ConfigError, match="is inside a folder of inputs"):
        check_not_input(tmp_path / "folder" / "a" / "b", [str(data)])
    for name in ("other", "data/other", "hard2", "data2"):
        check_not_input(tmp_path / name, inputs)


def test_the_folder_of_an_output_is_a_file(tmp_path: Path) -> None:
    """The error says that the folder of the output is a file."""
    (tmp_path / "file").write_text("mine")
    done = run("dataset-infos", tmp_path / "file" / "infos.json")
    assert done.exit_code == 1
    assert "its folder is a file" in done.stderr
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", ["index", "preview --html", "croissant"])
def test_the_error_calls_an_input_an_input(scene: Scene, command: str) -> None:
    """If the output is an input, the error says so; it does not call it a file of something else."""
    targets = {
        "index": scene.data / "visual_news/origin.tar",
        "preview --html": scene.data / "visual_news/origin/data.json",
        "croissant": next(scene.built.glob("*/*.parquet")),
    }
    done = run(*commands(scene)[command](targets[command]))
    assert done.exit_code == 1
    assert "is one of the inputs" in done.stderr or "is inside a folder of inputs" in done.stderr
