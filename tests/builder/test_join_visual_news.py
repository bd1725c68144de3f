"""join_images with the user's VisualNews: rows without pictures become the rows of a build with pictures."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.folders import build
from support.reading import expected_splits, raw, raw_splits
from support.remote import Published
from support.sampling import WAYS, crossed
from support.world import World

from newsclippings import BadFileError, ConfigError, DataNotFoundError, MissingDataError, UnsafePathError, join_images

CONFIG = "scene_resnet_place"


@pytest.fixture(scope="module")
def thin_folder(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built folder without pictures."""
    out = tmp_path_factory.mktemp("thin") / "out"
    build(world, out, "--config", CONFIG, "--images", "none")
    return out


@pytest.fixture
def load(thin_folder: Path) -> Callable[..., Any]:
    def load_thin(split: str | None = "train", **how: Any) -> Any:
        return datasets.load_dataset(str(thin_folder), CONFIG, split=split, **how)

    return load_thin


@pytest.mark.parametrize(("place", "streaming"), crossed(["folder", "tar", "data_dir"], WAYS))
def test_all_splits_get_their_pictures(world: World, load: Callable[..., Any], place: str, streaming: bool) -> None:
    """All splits together, loaded or streamed, from a folder, a tar or below data_dir, equal those of a build."""
    thin = load(None, streaming=streaming)
    places: dict[str, dict[str, Any]] = {
        "folder": {"visual_news": world.origin},
        "tar": {"visual_news": str(world.tar)},
        "data_dir": {"data_dir": str(world.root)},
    }
    full = join_images(thin, **places[place])
    assert type(full) is type(thin)
    assert raw_splits(full) == expected_splits(world, CONFIG)
    direct = datasets.load_dataset("newsclippings", CONFIG, data_dir=str(world.root))
    assert full["test"].features == direct["test"].features
    first, expected = next(iter(full["test"])), direct["test"][0]
    assert {name: type(value) for name, value in first.items()} == {
        name: type(value) for name, value in expected.items()
    }
    assert first["image"].tobytes() == expected["image"].tobytes()


def test_links_of_a_store(new_world: Callable[..., World], load: Callable[..., Any], tmp_path: Path) -> None:
    """What the error of a link recommends works here, too; options of a build are checked as there."""
    world, store = new_world(tar=False), tmp_path / "store"
    shutil.copytree(world.origin, store)
    for path in world.pictures:
        (world.origin / path).unlink()
        (world.origin / path).symlink_to(store / path)
    with pytest.raises(UnsafePathError, match=re.escape(f"links='follow' with links_root={str(store)!r}")):
        join_images(load("test"), data_dir=str(world.root))
    for streaming in (False, True):
        thin = load("test", streaming=streaming)
        full = join_images(thin, data_dir=str(world.root), links="follow", links_root=store)
        assert raw(full) == world.rows(CONFIG, "test")
    with pytest.raises(ConfigError, match="storage_options= is for pictures of VisualNews"):
        join_images(load("test"), load("test"), storage_options={"anon": True})
    token: Any = 3
    with pytest.raises(ConfigError, match="token= is int"):
        join_images(load("test"), data_dir=str(world.root), token=token)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_only_the_needed_bytes_of_a_remote_tar(published: Published, load: Callable[..., Any], streaming: bool) -> None:
    """From a remote tar, only headers and the needed pictures are fetched; those of a Dataset are kept."""
    full = join_images(load("test", streaming=streaming), visual_news=published.url)
    assert raw(full) == published.world.rows(CONFIG, "test")
    needed = {row["image_path"] for row in published.world.rows(CONFIG, "test")}
    fetched = published.times() > 0
    others = published.mask(set(published.world.pictures) - needed) & ~published.mask(needed)
    assert fetched[published.mask(needed)].all()
    if not streaming:
        published.origin.forget()
        assert raw(join_images(load("test").select(range(4)), visual_news=published.url)) == raw(full)[:4]
        again = published.times()[published.inner()]  # the ends identify the tar
        assert again.sum() < others.sum()


def test_in_processes_and_workers(world: World, load: Callable[..., Any]) -> None:
    """num_proc writes the same rows, and the workers of a DataLoader read each row of a stream once."""
    torch = pytest.importorskip("torch")
    assert raw(join_images(load(), visual_news=str(world.tar), num_proc=2)) == world.rows(CONFIG)
    stream = join_images(load().to_iterable_dataset(num_shards=4), visual_news=str(world.tar))
    stream = stream.cast_column("image", datasets.Image(decode=False))
    for context, workers in (("fork", 2), ("spawn", 1)):  # a spawned one imports torch
        loader = torch.utils.data.DataLoader(
            stream, batch_size=None, num_workers=workers, multiprocessing_context=context
        )
        pictures = {row["index"]: row["image"] for row in loader}
        assert pictures == {row["index"]: row["image"] for row in world.rows(CONFIG)}


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_missing_pictures(
    new_world: Callable[..., World], load: Callable[..., Any], streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A picture that is not there is an error that names it, or null, with one line that counts it."""
    world = new_world(tar=False)
    lost = world.used_once(CONFIG).image_path
    (world.origin / lost).unlink()
    with pytest.raises(MissingDataError, match=rf"found none for 1 \(\w+ 1\)\. First: {lost}\. Looked in ") as caught:
        list(join_images(load(streaming=streaming), data_dir=str(world.root)))
    assert f"\n    {world.origin} has " in str(caught.value)
    with caplog.at_level(logging.WARNING, "newsclippings"):
        full = join_images(load(streaming=streaming), data_dir=str(world.root), missing="null")
        assert raw(full) == world.rows(CONFIG, pictures=set(world.pictures) - {lost})
    assert sum("These rows have null." in message for message in caplog.messages) == 1


def test_pictures_that_were_put_there_later(new_world: Callable[..., World], load: Callable[..., Any]) -> None:
    """The cache of `datasets` does not give old rows after a picture was added."""
    world = new_world(tar=False)
    lost = world.origin / world.used_once(CONFIG).image_path
    shutil.move(lost, world.root / "aside")
    before = join_images(load(), data_dir=str(world.root), missing="null")
    shutil.move(world.root / "aside", lost)
    assert raw(before) != raw(join_images(load(), data_dir=str(world.root))) == world.rows(CONFIG)


@pytest.mark.parametrize(
    ("path", "streaming"),
    crossed(["/etc/passwd", "../../etc/passwd", "bbc/../../x", "https://host/x.jpg", "a\\b"], WAYS),
)
def test_hostile_paths_are_refused(world: World, path: str, streaming: bool) -> None:
    """A path from a stranger's folder never leaves VisualNews."""
    rows: Any = datasets.Dataset.from_dict({"image_path": [path]})
    rows = rows.to_iterable_dataset() if streaming else rows
    with pytest.raises(BadFileError, match="is not a path of VisualNews"):
        list(join_images(rows, data_dir=str(world.root)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": datasets.Dataset.from_dict({})}, "visual_news= is for pictures of VisualNews."),
        ({"missing": "drop_pair"}, "missing='drop_pair' is not known. Allowed: 'error', 'null'."),
        ({"thin": [1]}, "join_images: expected a Dataset, a stream, or a dict of them, found list."),
        ({"thin": datasets.Dataset.from_dict({"a": [1]})}, "expected rows with a column image_path of texts"),
        ({"thin": datasets.Dataset.from_dict({"image": ["x"]})}, "these rows have a column image already"),
    ],
)
def test_odd_arguments(world: World, load: Callable[..., Any], change: dict[str, Any], message: str) -> None:
    """Each argument that cannot be meant is an error in one line."""
    call = {"thin": load(), "visual_news": str(world.tar), **change}
    with pytest.raises(ConfigError, match=re.escape(message)):
        join_images(**call)
    with pytest.raises(ConfigError, match="num_proc= is for a Dataset"):
        join_images(load(streaming=True), visual_news=str(world.tar), num_proc=2)


def test_without_visual_news(load: Callable[..., Any]) -> None:
    """Without any place, the error says where VisualNews is searched and how to get it."""
    with pytest.raises(DataNotFoundError, match="The pictures of VisualNews were not found"):
        join_images(load())
