"""Inputs that are the same to the byte are not built again, wherever they are; a repaired or edited one is."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.constants import change_constant
from support.reading import expected_splits, load, raw_splits
from support.sampling import crossed
from support.world import Row, World

import newsclippings
from _newsclippings.folder.build import build_folder
from _newsclippings.storage import identify, stamp

LAYOUTS = {"a tar": {"folder": False}, "a folder": {"tar": False}}


def input_files(world: World) -> list[Path]:
    return sorted(path for path in world.root.rglob("*") if path.is_file())


def give_rights(world: World) -> World:
    for path in input_files(world):
        path.chmod(0o600)
    return world


def link(world: World) -> World:
    for path in input_files(world):
        os.link(path, path.with_name(path.name + ".backup"))
    return world


def copy_with_times(world: World) -> World:
    place = world.root.with_name("copy")
    shutil.copytree(world.root, place)
    return World(place, world.records, world.pictures, world.matches, world.pools)


def move(world: World) -> World:
    place = world.root.rename(world.root.with_name("moved"))
    return World(place, world.records, world.pictures, world.matches, world.pools)


@pytest.mark.parametrize(
    ("layout", "change"),
    crossed(list(LAYOUTS), {change.__name__: change for change in (give_rights, link, copy_with_times, move)}),
)
def test_touched_inputs_are_not_built_again(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, layout: str, change: Callable[[World], World]
) -> None:
    """Other rights, hard links, and a copy with its times or a move of all inputs use the build that is there."""
    world = new_world(**LAYOUTS[layout])
    expected = expected_splits(world)
    assert raw_splits(load(world)) == expected
    world = change(world)

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(newsclippings, "join_config", refuse)
    assert raw_splits(load(world)) == expected


def test_a_copied_tar_without_its_times_is_not_built_again(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The times of a tar do not matter."""
    world = new_world(folder=False)
    expected = expected_splits(world)
    assert raw_splits(load(world)) == expected
    os.utime(world.tar, (1, 1))
    monkeypatch.setattr(newsclippings, "join_config", None)
    assert raw_splits(load(world)) == expected


def test_pictures_of_another_folder_are_read(new_world: Callable[..., World]) -> None:
    """Another folder of pictures with the same matches and captions gives its own pictures, in turns."""
    one, other = new_world("one", tar=False), new_world("other", tar=False)
    path = other.used_once().image_path
    other.pictures[path] += b"!"
    (other.origin / path).write_bytes(other.pictures[path])
    for world in (one, other, one):
        assert raw_splits(load(world)) == expected_splits(world)


def test_paths_of_another_folder_are_its_own(new_world: Callable[..., World]) -> None:
    """With images="path", a copied folder gives the paths of the copy."""
    world = new_world(tar=False)
    first = raw_splits(load(world, images="path"))
    copy = copy_with_times(world)
    second = raw_splits(load(copy, images="path"))
    assert first["test"][0]["image"]["path"].startswith(str(world.root))
    assert second["test"][0]["image"]["path"].startswith(str(copy.root))


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_repaired_tar_is_built_again(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """A hole that was filled gives its rows, even if no sample of the tar lies in it."""
    world = new_world(folder=False)
    world.write_tar(data_json="first")
    change_constant(monkeypatch, "WHOLE", 0)
    change_constant(monkeypatch, "HEAD", 1024)
    change_constant(monkeypatch, "SAMPLES", 1)
    data, places = world.tar.read_bytes(), [m for m in world.write_tar(data_json="first") if m.name.endswith(".jpg")]
    start = places[len(places) // 2].offset
    world.tar.write_bytes(data[:start] + bytes(512) + data[start + 512 :])
    before = identify(str(world.tar), dated=False)
    damaged = raw_splits(load(world, missing="null", streaming=streaming))
    assert damaged != expected_splits(world)
    world.tar.write_bytes(data)
    assert identify(str(world.tar), dated=False) == before
    assert raw_splits(load(world, missing="null", streaming=streaming)) == expected_splits(world)


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Identify files by their size, and few bytes at their ends and in their middle."""
    change_constant(monkeypatch, "WHOLE", 0)
    change_constant(monkeypatch, "HEAD", 1024)
    change_constant(monkeypatch, "SAMPLES", 1)


def places_of(path: Path) -> dict[str, tuple[int, int]]:
    """Name below `origin` -> the bytes at which its header begins and its data end."""
    with tarfile.open(path) as tar:
        return {m.name.removeprefix("origin/"): (m.offset, m.offset_data + m.size) for m in tar.getmembers()}


def write_pair(world: World, folder: Path) -> list[Path]:
    """Write a tar of the pictures of some outlets, and one of the others; returns both."""
    every, outlets = world.pictures, sorted({path.split("/")[0] for path in world.pictures})[:2]
    for k, name in enumerate(("a.tar", "b.tar")):
        world.pictures = {path: data for path, data in every.items() if (path.split("/")[0] in outlets) == (k == 0)}
        world.write_tar(folder / name, data_json="absent")
    world.pictures = every
    return [folder / "a.tar", folder / "b.tar"]


@pytest.mark.parametrize(("first", "how"), crossed(["whole", "damaged"], ["load", "build"]))
def test_a_repaired_second_tar_is_built_again(
    new_world: Callable[..., World], tmp_path: Path, coarse: None, how: str, first: str
) -> None:
    """Of several tars any may be damaged and repaired, whether the first is whole or not."""
    world = new_world(tar=False)
    tars = write_pair(world, tmp_path)
    places = [places_of(tar) for tar in tars]
    if first == "damaged":
        os.truncate(tars[0], tars[0].stat().st_size // 2)
    readable = [
        name for tar, known in zip(tars, places, strict=True) for name in known if known[name][1] <= tar.stat().st_size
    ]
    expected = expected_splits(world, pictures=readable)
    whole, names = tars[1].read_bytes(), [name for name in places[1] if name.endswith(".jpg")]
    start = places[1][names[len(names) // 3]][0]
    tars[1].write_bytes(whole[:start] + bytes(512) + whole[start + 512 :])
    before = identify(str(tars[1]), dated=False)
    options: dict[str, Any] = {"visual_news": [str(tar) for tar in tars], "missing": "null"}

    def read() -> dict[str, list[Row]]:
        if how == "load":
            return raw_splits(load(world, **options))
        build_folder(tmp_path / "out", ["merged_balanced"], data_dir=str(world.root), **options)
        return raw_splits(datasets.load_dataset("parquet", data_dir=str(tmp_path / "out/merged_balanced")))

    def count(splits: dict[str, list[Row]]) -> int:
        return sum(row["image"] is not None for rows in splits.values() for row in rows)

    assert count(read()) < count(expected)
    tars[1].write_bytes(whole)
    assert identify(str(tars[1]), dated=False) == before
    assert count(read()) == count(expected)


@pytest.mark.parametrize("how", ["load", "build"])
def test_a_repaired_picture_is_built_again(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coarse: None, how: str
) -> None:
    """A picture that ended in zeros and was filled is in its rows; other rights of the tar build nothing again."""
    world = new_world(folder=False)
    world.write_tar(data_json="first")
    path = world.used_once().image_path
    whole, (_, end) = world.tar.read_bytes(), places_of(world.tar)[path]
    half = len(world.pictures[path]) // 2
    world.tar.write_bytes(whole[: end - half] + bytes(half) + whole[end:])
    before = identify(str(world.tar), dated=False)

    def count() -> int:
        if how == "load":
            splits = raw_splits(load(world, missing="null", check_images=True))
        else:
            more: dict[str, Any] = {"data_dir": str(world.root), "missing": "null", "check_images": True}
            build_folder(tmp_path / "out", ["merged_balanced"], **more)
            splits = raw_splits(datasets.load_dataset("parquet", data_dir=str(tmp_path / "out/merged_balanced")))
        return sum(row["image"] is None for rows in splits.values() for row in rows)

    undecodable = count()
    world.tar.chmod(0o600)
    with monkeypatch.context() as patch:
        if how == "load":
            patch.setattr(newsclippings, "join_config", None)
        assert count() == undecodable
    world.tar.write_bytes(whole)
    assert identify(str(world.tar), dated=False) == before
    assert count() == undecodable - 1


def test_what_identifies_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file counts by all bytes; a large one by size, ends, samples and, unless it is a tar, its time."""
    path, copy = tmp_path / "a", tmp_path / "b"
    path.write_bytes(bytes(range(256)) * 40)
    shutil.copy(path, copy)
    os.utime(copy, (1, 1))
    assert identify(str(path)) == identify(str(copy))
    assert stamp(str(path)) != stamp(str(copy))
    for byte in (0, 5000, 10_239):
        data = bytearray(path.read_bytes())
        data[byte] ^= 1
        copy.write_bytes(data)
        assert identify(str(path)) != identify(str(copy))
    change_constant(monkeypatch, "WHOLE", 1000)
    change_constant(monkeypatch, "HEAD", 1000)
    change_constant(monkeypatch, "SAMPLES", 4)
    change_constant(monkeypatch, "SAMPLE", 100)
    shutil.copy2(path, copy)
    assert identify(str(path)) == identify(str(copy))
    os.utime(copy, (1, 1))
    assert identify(str(path)) != identify(str(copy))
    assert identify(str(path), dated=False) == identify(str(copy), dated=False)
    for byte in (0, 999, 1000, 3060, 5120, 9240, 10_239):
        data = bytearray(path.read_bytes())
        data[byte] ^= 1
        copy.write_bytes(data)
        assert identify(str(path), dated=False) != identify(str(copy), dated=False)
