"""Where inputs are found, what counts as a change, and the error when something else is in their place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pytest
from support.reading import TESTS, expected_splits, load, raw_splits
from support.world import World

import newsclippings
from _newsclippings.config import Request
from _newsclippings.inputs import find_inputs
from _newsclippings.rows.joiner import join_config
from newsclippings import BadFileError, BadTarError, ConfigError, DataNotFoundError, NewsCLIPpings, NewsCLIPpingsConfig


def test_an_explicit_tar_wins_over_the_folder_beside_it(new_world: Callable[..., World]) -> None:
    """With visual_news= a tar, pictures come only from it, even beside an extracted folder (here a partial one)."""
    world = new_world()
    for path in world.pictures:
        (world.origin / path).write_bytes(b"of the folder")
    shutil.rmtree(world.origin / "guardian")
    assert raw_splits(load(world, visual_news=str(world.tar))) == expected_splits(world)


def test_files_that_are_not_read_do_not_count(new_world: Callable[..., World]) -> None:
    """A tar beside a complete folder, and pictures that are not needed, do not change the cache folder."""
    world = new_world()

    def key(**fields: Any) -> str:
        return str(NewsCLIPpings(data_dir=str(world.root), **fields).config_id)

    before, without = key(), key(images="none")
    world.tar.write_bytes(world.tar.read_bytes()[:1000])
    shutil.rmtree(world.origin / "bbc" / "articles")
    assert (key(), key(images="none")) == (before, without)
    assert raw_splits(load(world)) == expected_splits(world)


@pytest.mark.parametrize("size", [7, 4000])
def test_a_broken_tar_that_is_not_needed_is_no_error(new_world: Callable[..., World], size: int) -> None:
    """If pictures come from the folder and captions from the metadata, half a tar is only a warning."""
    world = new_world()
    (world.origin / "data.json").unlink()
    world.tar.write_bytes(world.tar.read_bytes()[:size])
    assert raw_splits(load(world)) == expected_splits(world, captions="metadata")
    assert raw_splits(load(world, images="none")) == expected_splits(world, captions="metadata", images="none")
    shutil.rmtree(world.origin)
    with pytest.raises(BadTarError):
        load(world)


@pytest.mark.parametrize("place", ["visual_news/origin/data.json", "news_clippings/data/merged_balanced/test.json"])
@pytest.mark.parametrize("what", ["folder", "dangling link"])
def test_something_else_in_the_place_of_a_file(new_world: Callable[..., World], place: str, what: str) -> None:
    """A folder or a dangling link where a file belongs is an error; no other file is used instead."""
    world = new_world(tar=False)
    file = world.root / place
    file.unlink()
    if what == "folder":
        file.mkdir()
    else:
        file.symlink_to("nowhere")
    with pytest.raises(
        DataNotFoundError, match=f"{file} is a {'folder' if what == 'folder' else 'broken link'}.*; expected a file"
    ):
        load(world)


def test_a_tar_as_data_dir_is_explained(world: World) -> None:
    """If data_dir is a tar, the error says so and names the right option."""
    with pytest.raises(DataNotFoundError, match=r"is a file\.(?s:.*)visual_news="):
        find_inputs(Request(data_dir=str(world.tar)))


@pytest.mark.parametrize("inside", ["", "visual_news/origin"], ids=["above", "below"])
def test_a_folder_near_the_right_one_as_data_dir(tmp_path: Path, inside: str) -> None:
    """If data_dir is one level off, the error names the folder that has the tree."""
    root = tmp_path / "here" / "data"
    (root / "visual_news" / "origin").mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match=f"Did you mean {root}\\?"):
        find_inputs(Request(data_dir=str(root / inside if inside else root.parent)))


def test_without_anything_the_sample_is_named() -> None:
    """Without data_dir and visual_news, the error names the command that writes something to try."""
    with pytest.raises(DataNotFoundError, match=r"`newsclippings sample demo/data`, then data_dir='demo/data'"):
        find_inputs(Request()).require_pictures()


@pytest.mark.parametrize("explicit", [False, True], ids=["data_dir", "visual_news"])
def test_data_json_beside_the_tar(new_world: Callable[..., World], explicit: bool) -> None:
    """If data.json was extracted beside origin.tar, captions come from it, and the tar need not have it."""
    world = new_world(folder=False, metadata=False)
    world.data_json.parent.mkdir(exist_ok=True)
    world.write_data_json()
    world.data_json.rename(world.tar.with_name("data.json"))
    world.data_json.parent.rmdir()
    request = Request(data_dir=str(world.root), visual_news=str(world.tar) if explicit else None)
    assert find_inputs(request).data_json == str(world.tar.with_name("data.json"))


def test_a_folder_without_pictures_is_an_error(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The error says where pictures were looked for, and what is missing there."""
    (tmp_path / "empty").mkdir()
    world = new_world()
    with pytest.raises(DataNotFoundError, match=f"{tmp_path}/empty: a folder without guardian, bbc"):
        load(world, visual_news=str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"splits": 5}, "splits=5 is not known"),
        ({"splits": []}, r"splits=\[\] is not known"),
        ({"splits": "val"}, "splits='val' is not known. Allowed: 'train', 'validation', 'test'"),
        ({"visual_news": 5}, "visual_news=5 is a int; expected a path"),
        ({"data_dir": 5}, "data_dir=5 is a int; expected a path"),
        ({"visual_news_index": 5}, "visual_news_index=5 is a int; expected a path or a URL"),
        ({"data_dir": "https://host/data"}, "is a URL; expected a local path"),
        ({"visual_news_index": "x.parquet"}, "Pass visual_news= as well"),
        ({"images": None, "missing": "drop"}, "missing='drop' is not known. Allowed: 'error', 'null', 'drop_pair'"),
    ],
)
def test_fields_of_the_wrong_kind_are_named(fields: dict[str, Any], says: str) -> None:
    """An invalid value is an error that names the option and the allowed values."""
    with pytest.raises(ConfigError, match=says):
        NewsCLIPpings(**fields)


@pytest.mark.parametrize("splits", [datasets.Split.TEST, "test", ("test",), ["test", "test"], {"test"}])
def test_splits_accepts_several_forms(splits: Any) -> None:
    """splits= accepts a name, a Split of `datasets`, or several of them."""
    assert NewsCLIPpingsConfig(splits=splits).wanted_splits() == ["test"]


def test_save_infos_leaves_the_package_alone(world: World) -> None:
    """save_infos=True changes no file beside newsclippings.py, as it did in `datasets` 3."""
    folder = TESTS.parent
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    load(world, images="none", save_infos=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


def test_the_variable_wins_over_a_folder_of_parquet(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """NEWSCLIPPINGS_DATA_DIR selects the builder, even beside a folder ./newsclippings."""
    Path("newsclippings").mkdir()
    Path("newsclippings", "README.md").write_text("---\nconfigs: []\n---\n")
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(world.root))
    assert raw_splits(datasets.load_dataset("newsclippings")) == expected_splits(world)


@pytest.mark.parametrize("garbage", [b"", b"ARROW1\0\0", b"x" * 100])
@pytest.mark.parametrize("name", ["inputs.arrow", "join_report.json"])
def test_damaged_files_beside_the_data_are_tolerated(world: World, name: str, garbage: bytes) -> None:
    """If a file beside the built data is damaged, the data are built again, or the report is absent."""
    builder = NewsCLIPpings(data_dir=str(world.root))
    builder.download_and_prepare()
    (Path(builder.cache_dir) / name).write_bytes(garbage)
    if name == "join_report.json":
        assert builder.join_reports == {}
    assert raw_splits(load(world)) == expected_splits(world)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_without_any_record(new_world: Callable[..., World], streaming: bool) -> None:
    """If a split has no record at all, missing="null" gives its rows with nulls."""
    world = new_world(tar=False)
    record = {"id": 1, "caption": "c", "topic": "t", "source": "bbc", "image_path": "x"}
    (world.origin / "data.json").write_text(json.dumps([record]))
    rows = list(load(world, missing="null", streaming=streaming)["test"])
    assert [row["index"] for row in rows] == list(range(len(world.rows("merged_balanced", "test"))))
    assert {(row["caption"], row["image"], row["image_path"]) for row in rows} == {(None, None, None)}


def test_a_file_that_changes_during_the_build(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """If a file changes during the build, the build fails and keeps nothing."""
    world = new_world()
    builder = NewsCLIPpings(data_dir=str(world.root), images="none")

    def change(*args: Any) -> Any:
        joined = join_config(*args)
        os.utime(world.root / "news_clippings/data/merged_balanced/test.json")
        return joined

    monkeypatch.setattr(newsclippings, "join_config", change)
    with pytest.raises(BadFileError, match="changed since the build began"):
        builder.download_and_prepare()
    assert not Path(builder.cache_dir).exists()


def test_remote_output_is_written(world: World) -> None:
    """An output_dir on another file system gets the rows, without the files that only serve reuse."""
    builder = NewsCLIPpings(data_dir=str(world.root), images="none", splits=["test"])
    builder.download_and_prepare("memory://bucket/news", file_format="parquet")
    assert [Path(p).name for p in fsspec.filesystem("memory").glob("/bucket/news/*.parquet")] == [
        "newsclippings-test.parquet"
    ]
