"""Pictures from the tar or the folder: valid archives are read to the byte, bad paths are refused."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from support.reading import expected_splits, load, raw, raw_splits
from support.sampling import crossed
from support.world import World

from newsclippings import DataNotFoundError, UnsafePathError


@pytest.fixture
def tar_world(new_world: Callable[..., World]) -> World:
    """A world with pictures in origin.tar only, and data.json first."""
    world = new_world(folder=False)
    world.write_tar(data_json="first")
    return world


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("data_json", ["first", "middle", "last", "absent"])
def test_tar_only(new_world: Callable[..., World], data_json: str, streaming: bool) -> None:
    """origin.tar alone is enough, wherever data.json is in it; without data.json the metadata are used."""
    world = new_world(folder=False)
    world.write_tar(data_json=data_json)
    captions = "metadata" if data_json == "absent" else "origin"
    assert raw_splits(load(world, streaming=streaming)) == expected_splits(world, captions=captions)


def test_tar_is_never_extracted(tar_world: World, tmp_path: Path) -> None:
    """A build writes no picture as a file, and nothing below data_dir."""
    before = sorted(tar_world.root.rglob("*"))
    load(tar_world)
    assert sorted(tar_world.root.rglob("*")) == before
    assert list(tmp_path.rglob("*.jpg")) == []


@pytest.mark.parametrize("prefix", ["origin/", "./origin/", "visual_news/origin/", "./", "", "./visual_news/origin/"])
def test_member_prefixes(new_world: Callable[..., World], prefix: str) -> None:
    """The archive may start at origin, above it or inside it."""
    world = new_world(folder=False)
    world.write_tar(prefix=prefix)
    assert raw_splits(load(world)) == expected_splits(world)


@pytest.mark.parametrize(
    "fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT], ids=["GNU", "PAX", "ustar"]
)
@pytest.mark.parametrize("long_paths", [False, True], ids=["short", "long"])
def test_archive_formats(new_world: Callable[..., World], fmt: int, long_paths: bool) -> None:
    """GNU, PAX and ustar archives are read, also with names that are too long for a plain header."""
    if fmt == tarfile.USTAR_FORMAT and long_paths:
        pytest.skip("ustar has no place for such names")
    world = new_world(folder=False, long_paths=long_paths)
    world.write_tar(fmt=fmt, pax=fmt == tarfile.PAX_FORMAT)
    assert raw_splits(load(world)) == expected_splits(world)


def test_two_worlds_folder_wins_and_visual_news_wins_over_all(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The folder wins over the tar beside it; visual_news= wins over both, in each of its forms."""
    world, other = new_world(), new_world("other")
    for path, picture in other.pictures.items():
        other.pictures[path] = picture[:-2] + b"\x00" + picture[-2:]
    other.write_folder()
    other.write_tar()
    shutil.copy(other.tar, world.tar)
    assert raw_splits(load(world)) == expected_splits(world)
    renamed = tmp_path / "big-disk.tar"
    shutil.copy(other.tar, renamed)
    for location in (other.origin, other.origin.parent, other.tar, renamed):
        data = load(world, visual_news=str(location), split="test")
        assert raw(data) == other.rows(split="test"), location
        stream = load(world, visual_news=str(location), split="test", streaming=True)
        assert raw(stream) == other.rows(split="test"), location


def test_a_folder_with_data_json_only_leaves_the_pictures_to_the_tar(new_world: Callable[..., World]) -> None:
    """origin/ with data.json but no outlet folder does not hide the tar beside it."""
    world = new_world(folder=False)
    world.write_tar(data_json="absent")
    world.write_data_json()
    assert raw_splits(load(world)) == expected_splits(world)


def test_visual_news_that_does_not_exist(world: World, tmp_path: Path) -> None:
    """A visual_news= that does not exist is an error with its path, whatever is below data_dir."""
    with pytest.raises(DataNotFoundError, match=r"nowhere\.tar"):
        load(world, visual_news=str(tmp_path / "nowhere.tar"))


# Paths that leave the root

HOSTILE = {
    "/etc/passwd": "it is absolute",
    "../../secret.jpg": r"it has '\.\.'",
    "./guardian/../../secret.jpg": r"it has '\.\.'",
    "./guardian/images/0001/..": r"it has '\.\.'",
    "./guardian/images/\u0000.jpg": "it has a control character",
    "guardian\\images\\1.jpg": "it has a backslash",
    "..\\secret.jpg": "it has a backslash",
    "C:/secret.jpg": "it is absolute",
    "http://example.org/1.jpg": "it is a URL",
    "file:///etc/passwd": "it is a URL",
    "zip://a.jpg::http://example.org/1.zip": "it is a URL",
    "": "it is empty",
    "./": "it is empty",
}


@pytest.mark.parametrize(
    ("path", "kind", "missing"), crossed({ascii(path): path for path in HOSTILE}, ["folder", "tar"], ["error", "null"])
)
def test_a_record_with_a_hostile_path(new_world: Callable[..., World], path: str, kind: str, missing: str) -> None:
    """A record whose image_path is absolute, leaves the root or is a URL is refused with file and id."""
    world = new_world(folder=kind == "folder", tar=kind == "tar", metadata=False)
    record = world.used_once()
    record.image_path = path
    text = [
        {**r, "image_path": r["image_path"][2:] if r["id"] == record.id else r["image_path"]} for r in _corpus(world)
    ]
    if kind == "folder":
        world.data_json.write_text(json.dumps(text))
    else:
        world.write_tar(text=json.dumps(text).encode())
    with pytest.raises(
        UnsafePathError, match=rf"data\.json: record {record.id}: image_path .* was refused: {HOSTILE[path]}\."
    ):
        load(world, missing=missing, split="train")


def _corpus(world: World) -> list[dict[str, Any]]:
    return list(json.loads(world.data_json_bytes()))


@pytest.mark.parametrize("odd", ["./{}", ".//{}", "././{}", "{}"])
def test_unusual_paths_are_normalised(new_world: Callable[..., World], odd: str) -> None:
    """Harmless dots and doubled slashes are accepted, and image_path is normalised."""
    world = new_world(tar=False)
    text = [{**r, "image_path": odd.format(r["image_path"][2:])} for r in _corpus(world)]
    world.data_json.write_text(json.dumps(text))
    assert raw_splits(load(world)) == expected_splits(world)


@pytest.mark.parametrize("images", ["bytes", "path"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_symlink_that_leaves_the_folder(
    new_world: Callable[..., World], tmp_path: Path, what: str, images: str
) -> None:
    """A link below origin that leads outside is refused, for a picture or a folder above it."""
    world = new_world(tar=False)
    picture = world.origin / world.used_once().image_path
    moved = picture if what == "file" else picture.parent
    outside = tmp_path / "outside"
    shutil.move(moved, outside)
    moved.symlink_to(outside)
    with pytest.raises(UnsafePathError, match=picture.name if what == "file" else picture.parent.name):
        load(world, images=images)


def test_links_that_stay_inside_and_a_linked_root(new_world: Callable[..., World], tmp_path: Path) -> None:
    """origin may be a link, for example to a larger disk, and links inside it may point inside it."""
    world = new_world(tar=False)
    picture = world.origin / world.used_once().image_path
    picture.rename(picture.with_name("real.bin"))
    picture.symlink_to("real.bin")
    assert raw_splits(load(world)) == expected_splits(world)
    shutil.move(world.origin, tmp_path / "big-disk")
    world.origin.symlink_to(tmp_path / "big-disk")
    assert raw_splits(load(world)) == expected_splits(world)
    linked = tmp_path / "linked"
    linked.symlink_to(world.root)
    assert raw(load_dataset("newsclippings", data_dir=str(linked), split="test")) == world.rows(split="test")
