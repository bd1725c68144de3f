"""A tar that was copied, moved, linked or touched keeps its cached index; any other tar has its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support.constants import change_constant
from support.reading import expected_splits, load, raw_splits
from support.world import World
from sweeps.zeros import jpeg, plan

from _newsclippings.storage import stamp
from _newsclippings.storage.local import LocalFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar.archive import cache_name
from _newsclippings.tar.index import TarIndex
from newsclippings import BadFileError

FILES = {f"bbc/images/0000/{k:03d}.jpg": jpeg(30_000 + k) for k in range(12)}  # more than its two ends


def load_index(path: Path, folder: Path) -> TarIndex:
    with LocalFile(str(path)) as file:
        return tar_index.load_index(file, cache_name(stamp(str(path))), folder, lambda: cache_name(stamp(str(path))))


def copied(tar: Path) -> Path:
    return Path(shutil.copy(tar, tar.with_name("copy.tar")))


def moved(tar: Path) -> Path:
    (tar.parent / "folder").mkdir()
    return tar.rename(tar.parent / "folder" / "other name.tar")


def linked(tar: Path) -> Path:
    os.link(tar, tar.with_name("link.tar"))
    return tar


def reached_by_a_link(tar: Path) -> Path:
    tar.with_name("link.tar").symlink_to(tar)
    return tar.with_name("link.tar")


def touched(tar: Path) -> Path:
    os.utime(tar, ns=(1, 1))
    return tar


def with_other_rights(tar: Path) -> Path:
    tar.chmod(0o600)
    return tar


def downloaded_again(tar: Path) -> Path:
    data = tar.read_bytes()
    tar.unlink()
    tar.write_bytes(data)
    return tar


WAYS = [copied, moved, linked, reached_by_a_link, touched, with_other_rights, downloaded_again]


@pytest.mark.parametrize("change", WAYS)
def test_the_index_of_the_same_tar_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Path]
) -> None:
    """A file with the same content is not walked again, and has one cached index."""
    tar, folder = tmp_path / "x.tar", tmp_path / "indexes"
    tar.write_bytes(plan(FILES).data)
    first = load_index(tar, folder).members.to_pylist()
    tar = change(tar)
    monkeypatch.setattr(tar_index, "index_tar", None)
    for _ in range(2):
        assert load_index(tar, folder).members.to_pylist() == first
        assert len(list(folder.iterdir())) == 1


def test_two_copies_share_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies use one index, also in turns, and in a folder that became read-only."""
    tar, folder = tmp_path / "x.tar", tmp_path / "indexes"
    tar.write_bytes(plan(FILES).data)
    first = load_index(tar, folder).members.to_pylist()
    copy = copied(tar)
    monkeypatch.setattr(tar_index, "index_tar", None)
    for path in (copy, tar, copy):
        assert load_index(path, folder).members.to_pylist() == first

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "replace", refuse)
    assert load_index(tar, folder).members.to_pylist() == first


@pytest.mark.parametrize("times", ["kept", "new"])
@pytest.mark.parametrize("renamed", range(2, 10))
def test_another_tar_of_the_same_size_has_its_own_index(tmp_path: Path, renamed: int, times: str) -> None:
    """A tar with the same size, ends and times but another name in the middle is indexed again."""
    tar, folder = tmp_path / "x.tar", tmp_path / "indexes"
    tar.write_bytes(plan(FILES).data)
    load_index(tar, folder)
    names = list(FILES)
    other = {name if k != renamed else name.replace("images", "IMAGES"): FILES[name] for k, name in enumerate(names)}
    status = tar.stat()
    tar.write_bytes(plan(other).data)
    if times == "kept":
        os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load_index(tar, folder).members["name"].to_pylist() == list(other)
    assert load_index(tar, folder).members["name"].to_pylist() == list(other)


def test_the_index_of_a_damaged_tar_is_its_own(tmp_path: Path) -> None:
    """A preallocated download that was completed keeps its size and ends, and is walked again."""
    tar, folder, planned = tmp_path / "x.tar", tmp_path / "indexes", plan(FILES)
    start, stop = 150_000, 200_000
    tar.write_bytes(planned.data[:start] + bytes(stop - start) + planned.data[stop:])
    assert load_index(tar, folder).damage is not None
    tar.write_bytes(planned.data)
    index = load_index(tar, folder)
    assert index.damage is None
    assert index.members["name"].to_pylist() == list(FILES)


def test_a_tar_with_a_hole_does_not_use_the_index_of_the_intact_one(tmp_path: Path) -> None:
    """A copy with a hole does not use the index of the intact tar."""
    tar, folder, planned = tmp_path / "x.tar", tmp_path / "indexes", plan(FILES)
    tar.write_bytes(planned.data)
    assert load_index(tar, folder).damage is None
    copy = tmp_path / "copy.tar"
    copy.write_bytes(planned.data[:150_000] + bytes(50_000) + planned.data[200_000:])
    assert load_index(copy, folder).damage is not None
    assert load_index(tar, folder).damage is None


def test_large_tars_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large tar is identified by its first, last and some other headers; reads of members check the rest."""
    tar, folder = tmp_path / "x.tar", tmp_path / "indexes"
    tar.write_bytes(plan(FILES).data)
    first = load_index(tar, folder).members.to_pylist()
    change_constant(monkeypatch, "SAMPLED", 3)
    read: list[int] = []
    old = LocalFile.read_at

    def count(file: LocalFile, offset: int, length: int) -> bytes:
        if length == 512:
            read.append(offset)
        return old(file, offset, length)

    monkeypatch.setattr(LocalFile, "read_at", count)
    monkeypatch.setattr(tar_index, "index_tar", None)
    assert load_index(touched(tar), folder).members.to_pylist() == first
    assert read == [first[k]["offset"] - 512 for k in (0, 5, 11)]


def test_a_changed_picture_is_read_from_the_tar(new_world: Callable[..., World]) -> None:
    """Pictures that changed at the same places are read from the tar, because an index has only places."""
    world = new_world(folder=False)
    world.write_tar(data_json="first")
    assert raw_splits(load(world)) == expected_splits(world)
    status = world.tar.stat()
    path = world.used_once().image_path
    world.pictures[path] = world.pictures[path][:-6] + b"other!"
    world.write_tar(data_json="first")
    os.utime(world.tar, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert raw_splits(load(world)) == expected_splits(world)


def _two(tmp_path: Path) -> list[Path]:
    """Two tars with different members at the same places."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        names = {path.replace("bbc", folder.name): data for path, data in FILES.items()}
        (folder / "origin.tar").write_bytes(plan(names).data)
    return [folder / "origin.tar" for folder in folders]


def test_an_index_of_another_tar_is_none(tmp_path: Path) -> None:
    """The cached index of one tar, copied over another's, is not used."""
    tars = _two(tmp_path)
    kept = [load_index(tar, tmp_path / "indexes").kept for tar in tars]
    assert kept[0] is not None
    assert kept[1] is not None
    shutil.copyfile(kept[0], kept[1])
    names = load_index(tars[1], tmp_path / "indexes").members["name"].to_pylist()
    assert names == [path.replace("bbc", "b") for path in FILES]


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_an_index_that_is_damaged_while_it_is_open(tmp_path: Path, how: str) -> None:
    """If an open index is damaged, an error says to load again, which works; no name is silently lost."""
    tar = _two(tmp_path)[0]
    index = load_index(tar, tmp_path / "indexes")
    names = pa.array([path.replace("bbc", "a") for path in FILES])
    assert index.find(names).tolist() == list(range(len(FILES)))
    assert index.kept is not None
    if how == "cut":
        os.truncate(index.kept, 1000)
    else:
        index.kept.write_bytes(index.kept.read_bytes().replace(b"images", b"Images"))
    with pytest.raises(BadFileError, match=r"this file of the cache is damaged, or gone\. Load again"):
        index.find(names)
    assert load_index(tar, tmp_path / "indexes").find(names).tolist() == list(range(len(FILES)))
