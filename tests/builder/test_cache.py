"""The cache is never stale: changed files give new rows, unchanged files are not read again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.children import in_child, wait
from support.reading import expected_splits, load, raw, raw_splits
from support.sampling import crossed
from support.world import World

from newsclippings import BadFileError, NewsCLIPpings


def _other(picture: bytes) -> bytes:
    """A picture of the same length with one byte of the scan changed."""
    change = 1 if picture[-10] not in (0xFE, 0x01) else 2
    return picture[:-10] + bytes([picture[-10] ^ change]) + picture[-9:]


def _change_annotation(world: World) -> Path:
    match = next(m for m in world.matches["merged_balanced", "train"] if m.falsified)
    text = repr(match.score)
    match.score = float(text[:-1] + str(int(text[-1]) % 9 + 1))
    world.write_annotations()
    return world.annotations("merged_balanced", "train")


def _change_caption(world: World) -> Path:
    record = world.records[world.matches["merged_balanced", "test"][0].id]
    n = next(n for n, letter in enumerate(record.caption) if letter.isascii() and letter.isalpha())
    record.caption = record.caption[:n] + ("x" if record.caption[n] != "x" else "y") + record.caption[n + 1 :]
    world.write_data_json()
    return world.data_json


def _change_tar_picture(world: World) -> Path:
    path = world.used_once().image_path
    member = next(m for m in world.write_tar() if m.name == f"origin/{path}")
    world.pictures[path] = _other(world.pictures[path])
    with world.tar.open("r+b") as file:
        file.seek(member.offset_data)
        file.write(world.pictures[path])
    return world.tar


def _swap_tar_pictures(world: World) -> Path:
    first, second = (row["image_path"] for row in world.rows()[:4:3])
    world.pictures[first], world.pictures[second] = world.pictures[second], world.pictures[first]
    world.write_tar()
    return world.tar


def _change_tar_caption(world: World) -> Path:
    _change_caption(world)
    world.data_json.unlink()
    world.write_tar()
    return world.tar


def _change_picture(world: World) -> Path:
    path = world.used_once().image_path
    world.pictures[path] = _other(world.pictures[path])
    with (world.origin / path).open("r+b") as file:
        file.write(world.pictures[path])
    return world.origin / path


def _replace_picture(world: World) -> Path:
    path = world.used_once().image_path
    world.pictures[path] = b"\xff\xd8" + bytes(100) + b"\xff\xd9"
    (world.origin / path).unlink()
    (world.origin / path).write_bytes(world.pictures[path])
    return world.origin / path


def _change_metadata(world: World) -> Path:
    record = world.records[world.matches["merged_balanced", "test"][0].id]
    record.topic = record.topic[::-1]
    world.write_metadata()
    return world.metadata("test")


CHANGES: dict[str, tuple[Callable[[World], Path], dict[str, Any], dict[str, Any]]] = {
    "annotation": (_change_annotation, {}, {}),
    "caption in data.json": (_change_caption, {}, {}),
    "caption in the tar": (_change_tar_caption, {"folder": False}, {}),
    "picture in the tar": (_change_tar_picture, {"folder": False}, {}),
    "pictures swapped in the tar": (_swap_tar_pictures, {"folder": False}, {}),
    "picture in the folder": (_change_picture, {"tar": False}, {}),
    "picture replaced in the folder": (_replace_picture, {"tar": False}, {}),
    "metadata": (_change_metadata, {"folder": False, "tar": False}, {"images": "none"}),
}


@pytest.mark.parametrize(("how", "older"), crossed(list(CHANGES), {"newer": False, "older": True}))
def test_a_changed_file_gives_new_rows(new_world: Callable[..., World], how: str, older: bool) -> None:
    """If an input changed, the next load gives the new rows, even if the file now has an older date."""
    change, layout, options = CHANGES[how]
    world = new_world(**layout)
    if layout.get("folder") is False and "tar" not in layout:
        world.write_tar()
    expect = {**options, "captions": "metadata"} if how == "metadata" else options
    before = expected_splits(world, **expect)
    assert raw_splits(load(world, **options)) == before
    path = change(world)
    if older:
        os.utime(path, (1_500_000_000, 1_500_000_000))
    after = expected_splits(world, **expect)
    assert after != before
    assert raw_splits(load(world, **options)) == after
    assert raw_splits(load(world, streaming=True, **options)) == after


def test_a_direct_builder_sees_the_change_too(new_world: Callable[..., World]) -> None:
    """The builder used directly gives the new rows, too."""
    world = new_world(tar=False)
    for change in (None, _change_annotation, _change_caption, _change_picture):
        if change:
            change(world)
        builder = NewsCLIPpings(config_name="merged_balanced", data_dir=str(world.root))
        builder.download_and_prepare()
        assert raw_splits(builder.as_dataset()) == expected_splits(world)


@pytest.mark.parametrize("then", ["annotation changed", "other options"])
def test_an_output_dir_with_an_older_build(new_world: Callable[..., World], tmp_path: Path, then: str) -> None:
    """Preparing into the folder of an older build gives the new rows, not the old ones."""
    world = new_world(tar=False)
    out, options = str(tmp_path / "out"), {}
    NewsCLIPpings(data_dir=str(world.root)).download_and_prepare(out)
    if then == "annotation changed":
        _change_annotation(world)
    else:
        options = {"images": "none"}
    builder = NewsCLIPpings(data_dir=str(world.root), **options)
    builder.download_and_prepare(out)
    assert raw_splits(builder.as_dataset()) == expected_splits(world, **options)


def test_files_replaced_under_a_stream(new_world: Callable[..., World]) -> None:
    """If the tar is replaced under an open stream, that is an error and never another picture."""
    world = new_world(folder=False)
    stream = load(world, streaming=True, split="train")
    assert raw(stream) == world.rows()
    world.pictures = {path: picture + bytes(600) for path, picture in world.pictures.items()}
    world.write_tar()
    with suppress(BadFileError):  # the right rows are fine, too
        assert raw(stream) == world.rows()


@pytest.mark.parametrize("layout", [{"tar": False}, {"folder": False}], ids=["folder", "tar"])
def test_a_picture_added_later_appears(new_world: Callable[..., World], layout: dict[str, Any]) -> None:
    """A picture that was missing (missing="null") is in the rows of the next load once it exists."""
    world = new_world(**layout)
    path = world.used_once().image_path
    picture = world.pictures.pop(path)
    (world.origin / path).unlink(missing_ok=True)
    if world.tar.exists():
        world.write_tar()
    assert raw_splits(load(world, missing="null")) == expected_splits(world)
    world.pictures[path] = picture
    if world.tar.exists():
        world.write_tar()
    else:
        (world.origin / path).write_bytes(picture)
    assert raw_splits(load(world, missing="null")) == expected_splits(world)


def test_captions_of_a_data_json_added_later_are_used(new_world: Callable[..., World]) -> None:
    """Once data.json exists, captions come from it and no longer from the metadata."""
    world = new_world(folder=False, tar=False)
    expected = expected_splits(world, images="none", captions="metadata")
    assert raw_splits(load(world, images="none")) == expected
    world.write_data_json()
    assert raw_splits(load(world, images="none")) == expected_splits(world, images="none")


def test_options_do_not_share_rows(new_world: Callable[..., World]) -> None:
    """Each set of options has its own cache."""
    world = new_world()
    for images in ("bytes", "none", "path", "bytes"):
        assert raw_splits(load(world, images=images)) == expected_splits(world, images=images)
    world.pictures.pop(world.used_once().image_path)
    (world.origin / world.used_once().image_path).unlink()
    for missing in ("null", "drop_pair", "null"):
        assert raw_splits(load(world, missing=missing)) == expected_splits(world, missing=missing)


@pytest.mark.parametrize("layout", [{"tar": False}, {"folder": False}], ids=["folder", "tar"])
def test_an_unchanged_world_is_not_read_again(
    new_world: Callable[..., World], layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second load parses no input and builds no row: it maps the tables of the first."""
    world = new_world(**layout)
    first = load(world)
    tables = {split: [_identity(file["filename"]) for file in first[split].cache_files] for split in first}

    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("rows are made again")

    for verb in ("_split_generators", "_generate_tables", "_generate_examples"):
        monkeypatch.setattr(NewsCLIPpings, verb, forbidden)
    _forbid_parsing(monkeypatch)
    again = load(world)
    assert {split: [_identity(file["filename"]) for file in again[split].cache_files] for split in again} == tables
    assert raw_splits(again) == expected_splits(world)


def _identity(path: str) -> tuple[str, int, int, int]:
    status = os.stat(path)
    return path, status.st_ino, status.st_size, status.st_mtime_ns


def _forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make json refuse matches and records, but not what `datasets` keeps beside its tables."""
    loads = json.loads

    def guarded(text: str | bytes, *args: Any, **kwargs: Any) -> Any:
        start = text[:4000] if isinstance(text, str) else text[:4000].decode(errors="replace")
        assert not re.search(r'"(annotations"\s*:\s*\[|article_path"\s*:\s*"|image_id"\s*:\s*\d)', start), start
        return loads(text, *args, **kwargs)

    monkeypatch.setattr(json, "loads", guarded)


def test_rewritten_files_give_the_same_rows(new_world: Callable[..., World]) -> None:
    """Files that were written again with the same content give the same rows."""
    world = new_world(tar=False)
    load(world)
    world.write_folder()
    world.write_annotations()
    assert raw_splits(load(world)) == expected_splits(world)


@pytest.mark.parametrize("layout", [{"tar": False}, {"folder": False}], ids=["folder", "tar"])
def test_two_processes_at_once_give_all_rows(new_world: Callable[..., World], layout: dict[str, Any]) -> None:
    """Two processes that build the same rows at the same time both give all rows."""
    world = new_world(**layout)
    rows = expected_splits(world)

    def check() -> None:
        if raw_splits(load(world)) != rows:
            raise ValueError("other rows")

    children = [in_child(check) for _ in range(2)]
    assert [wait(child) for child in children] == [0, 0]
