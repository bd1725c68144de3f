"""newsclippings.load: the asked-for rows, typed by `split` and `streaming`; only the splits it names are built."""

from __future__ import annotations

import logging
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.constants import change_constant
from support.folders import build
from support.reading import expected_splits, raw, raw_splits
from support.remote import Published, serving
from support.world import World

import newsclippings
from newsclippings import ConfigError


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_without_a_split_all_come_by_name(world: World, streaming: bool) -> None:
    """Unset, split gives all three, as a dict of the kind that was asked for."""
    loaded = newsclippings.load(data_dir=str(world.root), streaming=streaming)
    assert type(loaded) is (datasets.IterableDatasetDict if streaming else datasets.DatasetDict)
    assert raw_splits(loaded) == expected_splits(world)


@pytest.mark.parametrize(
    ("split", "built"),
    [
        ("test", ["test"]),
        (datasets.Split.TEST, ["test"]),
        ("test[:10%]", ["test"]),
        ("train[2:4]+test", ["train", "test"]),
        (datasets.ReadInstruction("validation", to=2, unit="abs"), ["validation"]),
        ("all", ["train", "validation", "test"]),
    ],
    ids=str,
)
def test_only_the_named_splits_are_built(new_world: Callable[..., World], split: Any, built: list[str]) -> None:
    """The rows are those of load_dataset; the files of other splits need not exist."""
    world = new_world()
    whole = datasets.load_dataset("newsclippings", "scene_resnet_place", data_dir=str(world.root), split=split)
    for other in {"train", "validation", "test"} - set(built):
        world.annotations("scene_resnet_place", other).write_text("[")
    rows = newsclippings.load("scene_resnet_place", split, data_dir=str(world.root))
    assert type(rows) is datasets.Dataset
    assert raw(rows) == raw(whole)


def test_a_stream_of_two_splits(world: World) -> None:
    """A stream has one split, or several after each other."""
    stream = newsclippings.load("merged_balanced", "test", data_dir=str(world.root), streaming=True)
    assert type(stream) is datasets.IterableDataset
    assert raw(stream) == world.rows(split="test")


def test_options_of_both_kinds_pass(world: World, tmp_path: Path) -> None:
    """Options of the build and of load_dataset go through, and chosen splits come apart."""
    loaded = newsclippings.load(
        images="none", splits=["test"], data_dir=world.root, cache_dir=str(tmp_path / "own"), num_proc=2
    )
    assert [*loaded] == ["test"]
    assert "image" not in loaded["test"].column_names
    assert (tmp_path / "own").is_dir()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"image": "none"}, "There is no option image=. Did you mean 'images'?"),
        ({"num_procs": 2}, "There is no option num_procs=. Did you mean 'num_proc'?"),
        ({"config": "merged_balance"}, "config_name='merged_balance' is not known."),
        (
            {"split": "tests"},
            "split='tests' is not known. Allowed: 'train', 'validation', 'test'. Did you mean 'test'?",
        ),
        ({"split": "val[:3]"}, "split='val' is not known."),
        ({"split": "test[3]"}, "split='test[3]' cannot be read. Examples: "),
        ({"split": ["test"]}, "split=['test'] is a list; expected a text"),
        ({"split": "test", "splits": ["train"]}, "split='test' names what is built, too. Leave splits= out."),
        ({"split": "test[:2]", "streaming": True}, "split='test[:2]': a stream has no slices."),
        ({"revision": "main"}, "revision= would change nothing here."),
    ],
    ids=str,
)
def test_what_does_not_exist_is_an_error(world: World, call: dict[str, Any], message: str) -> None:
    """A misspelt option, config or split is named, with the one that was probably meant."""
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        newsclippings.load(**{"data_dir": str(world.root), **call})


def test_beside_a_built_folder(world: World, tmp_path: Path) -> None:
    """A built folder ./newsclippings is loaded as load_dataset loads it; options of a build are an error there."""
    build(world, tmp_path / "built", "--config", "scene_resnet_place")
    shutil.move(tmp_path / "built", "newsclippings")
    assert raw(newsclippings.load("scene_resnet_place", "test")) == world.rows("scene_resnet_place", "test")
    with pytest.raises(ConfigError, match=r"^images= has no effect: the built folder \./newsclippings"):
        newsclippings.load("scene_resnet_place", "test", images="none")


HINT = "merged_balanced: train, validation, test are all built, and files for them fetched or indexed. If you need one:"


def hints(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if "fetched or indexed" in record.getMessage()]
    caplog.clear()
    return found


def test_a_tar_that_is_indexed_for_all_splits(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """load_dataset says once how to build one split, if it indexes a large tar for three; not if there is an index."""
    caplog.set_level(logging.INFO, "newsclippings")
    how: dict[str, Any] = {"data_dir": str(world.root), "visual_news": str(world.tar)}
    datasets.load_dataset("newsclippings", split="test", **how)  # a small tar: one split takes as long
    assert hints(caplog) == []
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    change_constant(monkeypatch, "LARGE", 1, "joiner")
    newsclippings.load(split="test", **how)
    assert hints(caplog) == []
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    datasets.load_dataset("newsclippings", split="test", **how)
    (hint,) = hints(caplog)
    assert hint.startswith(HINT)
    assert "newsclippings.load('merged_balanced', split=\"test\", ...)" in hint
    datasets.load_dataset("newsclippings", split="test", **how)  # built
    datasets.load_dataset("newsclippings", split="test", missing="null", **how)  # indexed
    datasets.load_dataset("newsclippings", data_dir=str(world.root))  # a folder
    assert hints(caplog) == []


def test_a_remote_zip_that_is_read_for_all_splits(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same for a remote zip, of which nothing is kept."""
    caplog.set_level(logging.INFO, "newsclippings")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path, data in world.pictures.items():
            archive.writestr(path, data)
    with serving(tmp_path) as origin:
        how: dict[str, Any] = {"data_dir": str(world.root), "visual_news": origin.url(tmp_path / "x.zip")}
        newsclippings.load(split="test", **how)
        assert hints(caplog) == []
        datasets.load_dataset("newsclippings", split="test", **how)
        assert len(hints(caplog)) == 1


def test_a_remote_tar_that_is_fetched_for_all_splits(published: Published, caplog: pytest.LogCaptureFixture) -> None:
    """The same for a remote tar, even with an index; not for one split, nor where its pictures are kept."""
    caplog.set_level(logging.INFO, "newsclippings")
    published.load(splits=["test"])
    assert hints(caplog) == []
    shutil.rmtree(datasets.config.HF_DATASETS_CACHE)
    published.load()
    assert len(hints(caplog)) == 1
    published.load(missing="null")
    assert hints(caplog) == []
