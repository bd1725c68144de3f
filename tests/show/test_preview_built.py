"""`newsclippings preview --built`: pairs of a built folder, with its own pictures, or shared ones, or none."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from support.command import run
from support.world import World

from _newsclippings.folder import BuiltFolder, list_pairs, stream_built_rows

TWO = ("merged_balanced", "scene_resnet_place")


def build(out: Path, world: World, *options: object, configs: tuple[str, ...] = TWO) -> Path:
    named = [f"--config={config}" for config in configs]
    result = run("build", out, "--data-dir", world.root, *named, *options)
    assert result.exit_code == 0, result.output
    return out


def data_of(page: Path) -> dict[str, Any]:
    text = page.read_text(encoding="utf-8").split('id="data">')[1]
    found: dict[str, Any] = json.loads(re.split("</script", text)[0])
    return found


def preview(page: Path, *args: object) -> dict[str, Any]:
    result = run("preview", "--html", page, *args)
    assert result.exit_code == 0, result.output
    return data_of(page)


@pytest.mark.parametrize("images", ["bytes", "once"])
def test_the_same_page_as_of_the_inputs(world: World, tmp_path: Path, images: str) -> None:
    """The page of a built folder is that of its inputs, wherever its pictures are."""
    built = build(tmp_path / "built", world, "--images", images, "--metadata")
    options = [f"--config={config}" for config in TWO] + ["--split=train", "--split=test"]
    ours = preview(tmp_path / "a.html", "--data-dir", world.root, "--metadata", *options)
    assert preview(tmp_path / "b.html", "--built", built, *options) == ours
    assert any(row["date"] for pair in ours["pairs"] for row in pair["rows"])
    assert preview(tmp_path / "c.html", "--built", built, "--config=all", *options[-2:]) == ours


def test_a_folder_without_pictures_and_its_default_config(world: World, tmp_path: Path) -> None:
    """A folder without pictures shows none; without --config its default one is shown."""
    built = build(tmp_path / "built", world, "--images", "none", configs=TWO[1:])
    data = preview(tmp_path / "a.html", "--built", built)
    assert {pair["config"] for pair in data["pairs"]} == {TWO[1]}
    assert {row["picture"] for pair in data["pairs"] for row in pair["rows"]} == {"no picture"}
    result = run("preview", "--built", built, "-o", tmp_path / "a.png")
    assert result.exit_code == 0, result.output
    with PIL.Image.open(tmp_path / "a.png") as sheet:
        assert sheet.format == "PNG"


def test_a_sample_and_answers(world: World, tmp_path: Path) -> None:
    """--seed chooses the same pairs as of the inputs, and --predictions work with both."""
    built = build(tmp_path / "built", world)
    file = tmp_path / "a.jsonl"
    rows = range(len(world.rows(split="test")))
    file.write_text("".join(f'{{"index": {k}, "score": {(k * 7 % 10) / 10}}}\n' for k in rows))
    for options in (
        ["--seed", 4, "--pairs", 3],
        ["--predictions", file],
        ["--predictions", file, "--seed=1", "--pairs=2"],
    ):
        ours = preview(tmp_path / "a.html", "--data-dir", world.root, *options)
        assert preview(tmp_path / "b.html", "--built", built, *options) == ours
        assert 0 < len(ours["pairs"]) <= (3 if "--pairs" in f"{options}" else 6)


def test_dropped_pairs(world: World, tmp_path: Path, new_world: Any) -> None:
    """Numbers of pairs are those of the official file, also where pairs were dropped."""
    other = new_world(tar=False)
    wanted = other.rows(split="test")[2]["image_path"]
    (other.origin / wanted).unlink()
    built = build(tmp_path / "built", other, "--missing", "drop_pair", configs=TWO[:1])
    folder = BuiltFolder.open(built)
    pairs = list_pairs(folder, TWO[0], "test").tolist()
    assert 1 not in pairs
    chosen = pairs[-2:]
    rows = [*stream_built_rows(folder, TWO[0], "test", chosen)]
    assert [row["index"] for row in rows] == [index for pair in chosen for index in (2 * pair, 2 * pair + 1)]
    assert [row["index"] // 2 for row in stream_built_rows(folder, TWO[0], "test")][::2] == pairs


def test_only_the_row_groups_that_are_needed(world: World, tmp_path: Path) -> None:
    """Some rows of a file with several row groups are those of all rows at these places."""
    built = build(tmp_path / "built", world, configs=TWO[:1])
    folder = BuiltFolder.open(built)
    (shard,) = folder.manifests[TWO[0]].shards_of("train")
    whole = [row for batch in folder.read_shard(shard, ["index", "id"], 7) for row in batch.to_pylist()]
    for wanted in ([], [0], [3, 4, len(whole) - 1], [*range(len(whole))]):
        batches = folder.read_shard(shard, ["index", "id"], 7, np.array(wanted, np.int64))
        assert [row for batch in batches for row in batch.to_pylist()] == [whole[k] for k in wanted]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--built", "built", "--config", "scene_resnet_place"], 1, "has no config scene_resnet_place. It has merged"),
        (["--built", "built", "--split", "train"], 1, "has no split train. It has test"),
        (["--built", "nowhere"], 1, "a folder that `newsclippings build` wrote"),
        (["--built", "built", "--metadata"], 2, "--built is a built folder and --metadata is about inputs"),
        (["--built", "built", "-o", "built/pairs.png"], 1, "is inside a folder of inputs"),
    ],
)
def test_what_is_not_there(world: World, args: list[str], code: int, says: str) -> None:
    """A missing config, split or folder is one line; the folder stays as it is."""
    build(Path("built"), world, "--split", "test", "--images", "none", configs=TWO[:1])
    result = run("preview", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
