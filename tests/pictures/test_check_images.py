"""`check_images=True` finds pictures that do not decode during the join; `missing` treats them as missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from support.command import run
from support.reading import expected_splits, load, raw_splits
from support.remote import Origin, publish
from support.sampling import WAYS, crossed
from support.world import SPLITS, World

from _newsclippings.pictures import check as image_check
from _newsclippings.pictures.folder import FolderPictures
from newsclippings import MissingDataError, NewsCLIPpings, join_images

LAYOUTS: dict[str, dict[str, bool]] = {"folder": {"tar": False}, "tar": {"folder": False}}


def spoil(world: World, *paths: str, data: bytes = b"<!DOCTYPE html>") -> set[str]:
    """Replace pictures by damaged ones; return those that are left."""
    for path in paths:
        world.pictures[path] = data
    if world.data_json.exists():
        world.write_folder()
    if world.tar.exists():
        world.write_tar()
    return set(world.pictures) - set(paths)


def reused(world: World, split: str = "train") -> str:
    """A picture that several rows show."""
    paths: list[str] = [row["image_path"] for row in world.rows(split=split)]
    return max(paths, key=lambda path: paths.count(path))


def lost(world: World, split: str, broken: str) -> dict[str, int]:
    """The counts that the report must have for a picture that does not decode."""
    outlets = [row["image_source"] for row in world.rows(split=split) if row["image_path"] == broken]
    return {outlet: outlets.count(outlet) for outlet in outlets}


@pytest.mark.parametrize(("layout", "missing", "streaming"), crossed(list(LAYOUTS), ["null", "drop_pair"], WAYS))
def test_rows_with_a_broken_picture(
    new_world: Callable[..., World], layout: str, missing: str, streaming: bool
) -> None:
    """With "null" its rows stay without a picture, with "drop_pair" both twins are dropped; all others decode."""
    world = new_world(**LAYOUTS[layout])
    broken = reused(world)
    whole = spoil(world, broken, data=world.pictures[broken][:-20])
    assert sum(row["image_path"] == broken for row in world.rows()) > 1
    data = load(world, missing=missing, check_images=True, streaming=streaming)
    assert raw_splits(data) == expected_splits(world, missing=missing, pictures=whole)
    decoded = [row["image"] for row in data["train"]]
    assert decoded.count(None) == (sum(lost(world, "train", broken).values()) if missing == "null" else 0)
    assert all(image.size for image in decoded if image is not None)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_error_names_a_broken_picture(new_world: Callable[..., World], layout: str, tmp_path: Path) -> None:
    """missing="error" stops before a row is written, and names the picture as broken, not missing."""
    world = new_world(**LAYOUTS[layout])
    record = world.used_once()
    spoil(world, record.image_path)
    with pytest.raises(MissingDataError) as error:
        load(world, check_images=True)
    assert f"In 1 row the picture does not decode ({record.source} 1)" in str(error.value)
    assert record.image_path in str(error.value)
    assert "is not there" not in str(error.value)
    assert not [path for path in tmp_path.rglob("newsclippings-*") if path.is_file()]
    with pytest.raises(MissingDataError, match="does not decode"):
        raw_splits(load(world, check_images=True, streaming=True))
    assert raw_splits(load(world)) == expected_splits(world)  # without the check, the bytes are used as they are


def test_the_report_counts_broken_and_missing_pictures_separately(new_world: Callable[..., World]) -> None:
    """Missing pictures and pictures that do not decode are counted separately, by outlet."""
    world = new_world(tar=False)
    broken, absent = reused(world), reused(world, "test")
    whole = spoil(world, broken) - {absent}
    (world.origin / absent).unlink()
    builder = NewsCLIPpings(data_dir=str(world.root), missing="null", check_images=True)
    builder.download_and_prepare()
    assert builder.join_reports["train"]["missing"]["undecodable"] == lost(world, "train", broken)
    assert builder.join_reports["train"]["missing"]["picture"] == {}
    assert builder.join_reports["test"]["missing"]["picture"] == lost(world, "test", absent)
    assert builder.join_reports["test"]["missing"]["undecodable"] == {}
    assert any(broken in first for first in builder.join_reports["train"]["first_missing"])
    assert raw_splits(builder.as_dataset()) == expected_splits(world, pictures=whole)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_each_is_decoded_once(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """Rows and splits share pictures; one that is broken is broken in all of them, and a split decodes it once."""
    world = new_world(tar=False)
    broken = reused(world)
    (shown,) = {row["image_id"] for row in world.rows() if row["image_path"] == broken}
    good = next(m.image_id for m in world.matches["merged_balanced", "train"] if m.image_id != shown)
    for row, picture in ((1, shown), (3, good)):
        world.matches["merged_balanced", "validation"][row].image_id = picture
    world.write_annotations()
    whole = spoil(world, broken)
    seen: list[bytes] = []
    inspect_image = image_check.inspect_image

    def noting(data: bytes, decode: bool) -> image_check.Inspection:
        seen.append(data)
        return inspect_image(data, decode)

    monkeypatch.setattr(image_check, "inspect_image", noting)
    data = load(world, missing="null", check_images=True, streaming=streaming)
    assert raw_splits(data) == expected_splits(world, pictures=whole)
    needed = {(split, row["image_path"]) for split in SPLITS for row in world.rows(split=split)}
    if not streaming:
        assert len(seen) == len(needed)
        builder = NewsCLIPpings(data_dir=str(world.root), missing="null", check_images=True)
        builder.download_and_prepare()
        assert len(seen) == len(needed)  # built before
        assert builder.join_reports["validation"]["missing"]["undecodable"] == lost(world, "validation", broken)


def test_checked_and_unchecked_builds_have_separate_caches(new_world: Callable[..., World]) -> None:
    """Checked and unchecked builds have different cache folders."""
    world = new_world(tar=False)
    spoil(world, world.used_once().image_path)
    builders = [NewsCLIPpings(data_dir=str(world.root), missing="null", check_images=c) for c in (False, True)]
    assert builders[0].config_id != builders[1].config_id
    assert [row["image"] for row in raw_splits(load(world, missing="null"))["train"]].count(None) == 0
    checked = raw_splits(load(world, missing="null", check_images=True))
    assert [row["image"] for row in checked["train"]].count(None) == 1


@pytest.mark.parametrize("options", [{"num_proc": 2}, {"images": "path"}, {"images": "none"}], ids=str)
def test_with_other_options(new_world: Callable[..., World], options: dict[str, Any]) -> None:
    """Workers get the result; with images="path" broken pictures are null; without pictures nothing is checked."""
    world = new_world(tar=False)
    whole = spoil(world, reused(world))
    images = options.get("images", "bytes")
    data = load(world, missing="null", check_images=True, **options)
    assert raw_splits(data) == expected_splits(world, pictures=whole, images=images)


@pytest.mark.parametrize("images", ["bytes", "once"])
def test_built_folders(new_world: Callable[..., World], tmp_path: Path, images: str) -> None:
    """`newsclippings build --check-images` leaves out broken pictures, also from the shared pictures."""
    world = new_world(tar=False)
    paths = [row["image_path"] for row in world.rows("scene_resnet_place")]
    broken = max(paths, key=paths.count)
    whole = spoil(world, broken)
    out, options = tmp_path / "out", ["--config", "scene_resnet_place", "--images", images, "--missing", "null"]
    result = run("build", out, "--data-dir", world.root, *options, "--check-images")
    assert result.exit_code == 0, result.output
    rows = datasets.load_dataset(str(out), "scene_resnet_place", split="train")
    if images == "once":
        rows = join_images(rows, datasets.load_dataset(str(out), "images", split="train"))
    expected = world.rows("scene_resnet_place", pictures=whole)
    assert raw_splits({"train": rows})["train"] == expected
    assert any(row["image"] is None for row in expected)
    count = sum(row["image"] is None for row in expected)
    assert f"| undecodable {count} |" in (out / "README.md").read_text()


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_remote_tar(new_world: Callable[..., World], origin: Origin, streaming: bool) -> None:
    """Pictures of a remote tar are checked, too."""
    world = new_world(folder=False, tar=False)
    whole = spoil(world, reused(world))
    published = publish(world, origin, f"check-{streaming}")
    data = load(world, visual_news=published.url, missing="null", check_images=True, streaming=streaming)
    assert raw_splits(data) == expected_splits(world, pictures=whole)


def test_a_check_that_failed_is_repeated(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a temporary read error ended a check, the next check finds every broken picture."""
    world = new_world(tar=False)
    first, second = sorted(world.pictures)[:2]
    spoil(world, first, second)
    pictures = FolderPictures(str(world.origin), pa.array(sorted(world.pictures)))
    check, rows = image_check.DecodeCheck(pictures), np.arange(len(world.pictures), dtype=np.int32)
    pictures.look(rows)
    with monkeypatch.context() as patch:
        patch.setattr(image_check, "inspect_image", fails)
        with pytest.raises(OSError, match="passing"):
            check.check(rows)
    check.check(rows)
    assert np.flatnonzero(check.undecodable).tolist() == [0, 1]


def fails(data: bytes, decode: bool) -> None:
    raise OSError("passing")
