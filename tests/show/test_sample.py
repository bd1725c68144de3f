"""The bundled sample is complete, in the official layout, free to use and deterministic."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import PIL.Image
import pytest
from support.reading import raw_splits

from _newsclippings.facts import CONFIGS, SOURCE_DATASETS
from _newsclippings.show.sample import PAIRS, PHOTOS, write_sample
from _newsclippings.storage.files import write_atomically
from newsclippings import ConfigError


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("sample") / "data")


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_builds_completely_from_folder_and_tar(sample: Path, config: str) -> None:
    """All rows of all splits have a picture that decodes, the same from folder and tar."""
    folder = datasets.load_dataset("newsclippings", config, data_dir=str(sample))
    tar = str(sample / "visual_news" / "origin.tar")
    assert raw_splits(folder) == raw_splits(
        datasets.load_dataset("newsclippings", config, data_dir=str(sample), visual_news=tar)
    )
    for rows in folder.values():
        assert rows["falsified"][:] == [0, 1] * (len(rows) // 2)
        for row in rows:
            assert row["image"].convert("RGB").size == row["image"].size
            assert (row["caption"] == row["image_caption"]) == (row["falsified"] == 0)


def test_merged_balanced_is_balanced(sample: Path) -> None:
    """merged_balanced has equally many pairs of each sub-split, and no id or picture in two splits."""
    splits = datasets.load_dataset("newsclippings", data_dir=str(sample), images="none")
    assert {name: len(rows) for name, rows in splits.items()} == {name: 2 * pairs for name, pairs in PAIRS.items()}
    for rows in splits.values():
        counts = [rows["source_dataset"][:].count(k) for k in range(len(SOURCE_DATASETS))]
        assert counts == [len(rows) // 4] * 4
    ids = [{*rows["id"][:], *rows["image_id"][:]} for rows in splits.values()]
    assert sum(map(len, ids)) == len(set.union(*ids))


def test_metadata_gives_the_same_rows(sample: Path, tmp_path: Path) -> None:
    """Captions from the metadata equal those of data.json."""
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "news_clippings").symlink_to(sample / "news_clippings")
    with_json = datasets.load_dataset("newsclippings", data_dir=str(sample), images="none")
    without = datasets.load_dataset("newsclippings", data_dir=str(alone), images="none")
    assert raw_splits(with_json) == raw_splits(without)


def test_the_sample_is_deterministic(sample: Path, tmp_path: Path) -> None:
    """Two samples have the same bytes; writing one again in place changes nothing."""
    again = write_sample(write_sample(tmp_path / "again"))
    (again / "visual_news" / "mine.txt").write_text("mine")
    write_sample(again)
    (again / "visual_news" / "mine.txt").unlink()  # it still exists
    files = sorted(p.relative_to(sample) for p in sample.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((sample / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_the_tar_holds_the_folder(sample: Path) -> None:
    """origin.tar and origin/ have the same files."""
    with tarfile.open(sample / "visual_news" / "origin.tar") as tar:
        for member in tar:
            data = tar.extractfile(member)
            assert data is not None
            assert data.read() == (sample / "visual_news" / member.name).read_bytes()
        names = {member.name for member in tar}
    folder = sample / "visual_news"
    assert names == {p.relative_to(folder).as_posix() for p in (folder / "origin").rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_other_files_are_not_overwritten(tmp_path: Path, kind: str) -> None:
    """A folder with other files, or a file, is refused and left as it is."""
    place = tmp_path / "mine"
    if kind == "folder":
        place.mkdir()
        (place / "README.md").write_text("mine")
    else:
        place.write_text("mine")
    with pytest.raises(ConfigError, match="exists and is not a sample"):
        write_sample(place)
    assert (place / "README.md" if kind == "folder" else place).read_text() == "mine"


def test_photographs_are_listed_with_licence_and_source() -> None:
    """Every picture is in photos.json and SOURCES.md, and public domain or CC0; together they are below 2 MB."""
    photos = json.loads((PHOTOS / "photos.json").read_text(encoding="utf-8"))
    table = (PHOTOS / "SOURCES.md").read_text(encoding="utf-8")
    assert {photo["file"] for photo in photos} == {p.name for p in PHOTOS.glob("*.jpg")}
    assert len(photos) >= sum(PAIRS.values())
    for photo in photos:
        assert photo["license"] in ("public domain", "CC0-1.0")
        assert all(photo[key] for key in ("caption", "author", "license_source", "origin"))
        assert photo["file"] in table
        with PIL.Image.open(io.BytesIO((PHOTOS / photo["file"]).read_bytes())) as picture:
            assert picture.format == "JPEG"
            assert not picture.getexif()
    assert sum(p.stat().st_size for p in PHOTOS.iterdir()) < 2_000_000
    assert len({photo["caption"] for photo in photos}) == len(photos)


def test_an_interrupted_sample_is_completed(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that was interrupted is completed by the next run, not refused as a foreign folder."""
    from _newsclippings.show import sample as module

    with monkeypatch.context() as patch:
        names: list[Path] = []

        def killed(path: Path) -> Any:
            names.append(path)
            return write_atomically(path) if len(names) < 20 else 1 / 0

        patch.setattr(module, "write_atomically", killed)
        with pytest.raises(ZeroDivisionError):
            write_sample(tmp_path / "it")
    assert sum(path.is_file() for path in (tmp_path / "it").rglob("*")) == 19
    write_sample(tmp_path / "it")
    whole = [path for path in sample.rglob("*") if path.is_file()]
    assert len(whole) == sum(path.is_file() for path in (tmp_path / "it").rglob("*"))
    for path in whole:
        assert (tmp_path / "it" / path.relative_to(sample)).read_bytes() == path.read_bytes()
