"""Full disks and read-only folders give a clear error, and correct results once the obstacle is gone."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import datasets
import pytest
from click.testing import Result
from datasets import load_dataset
from support.command import run
from support.constants import change_constant
from support.obstacles import as_anybody, make_room, may_mount, read_only, small_disk, used
from support.reading import expected_splits, load, raw_splits
from support.remote import Origin, Published, make_index
from support.sampling import sampled
from support.vectors import make_plan, same, write
from support.world import SPLITS, World

from newsclippings import ConfigError, NewsCLIPpings, NoSpaceError, verify_built

SAYS_FULL = r"the disk is full: (about [\d,]+ bytes are needed, )?[\d,]+ bytes are free|not enough disk space: [\d,]+ b"
mounts = pytest.mark.skipif(not may_mount(), reason="a small disk has to be mounted, by root")


def in_a_line(done: Result, says: str) -> None:
    """Assert that the command failed with exit code 1 and one line that matches."""
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert re.match(f"Error: .*({says})", done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


# Full disks


def sizes(build: Callable[[Path], object], place: Path, steps: int = 4) -> Iterator[Path]:
    """Yield disks of growing size, up to what the build needs."""
    with small_disk(place, 64 << 20):
        build(place)
        needed = used(place)
    for k in range(1, steps + 1):
        with small_disk(place, needed * k // steps):
            yield place


@contextmanager
def perhaps_full(disk: Path) -> Iterator[list[str]]:
    """If the disk becomes full in the block, the error must say so, with the place and what to do; yields it."""
    said: list[str] = []
    try:
        yield said
    except NoSpaceError as error:
        said.append(str(error))
    for text in said:
        assert re.search(SAYS_FULL, text), text
        assert str(disk) in text
        assert "free some space" in text


@mounts
@pytest.mark.parametrize(
    "options", sampled([{}, {"num_proc": 2}, {"images": "none"}], 2), ids=["alone", "by two", "texts"]
)
def test_a_full_disk_of_the_cache(world: World, tmp_path: Path, options: dict[str, Any]) -> None:
    """The error says that the disk is full, and needed and free bytes; on a larger disk the rows are right."""
    images = options.get("images", "bytes")
    for disk in sizes(lambda place: load(world, cache_dir=str(place), **options), tmp_path / "disk"):
        with perhaps_full(disk):
            load(world, cache_dir=str(disk), **options)
        assert list(disk.rglob("*.incomplete")) == []
        make_room(disk)
        assert raw_splits(load(world, cache_dir=str(disk), **options)) == expected_splits(world, images=images)


def test_pictures_that_do_not_fit_are_reported_before_writing(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error comes before any picture is written."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    needed = sum(len(row["image"]["bytes"]) for split in SPLITS for row in world.rows(split=split))
    with pytest.raises(
        NoSpaceError, match=f"{needed:,} bytes are needed for the pictures, and 1,000 are free"
    ) as error:
        load(world)
    assert 'copy no pictures (streaming=True, or images="path" if they are extracted)' in str(error.value)
    assert raw_splits(load(world, images="path")) == expected_splits(world, images="path")


@mounts
def test_a_full_disk_of_a_built_folder(world: World, tmp_path: Path) -> None:
    """The error is one line, and on a larger disk the folder is right."""
    where = ["--data-dir", world.root]
    for disk in sizes(lambda place: run("build", place / "out", *where), tmp_path / "disk"):
        done = run("build", disk / "out", *where)
        if done.exit_code:
            in_a_line(done, SAYS_FULL)
        make_room(disk)
        assert run("build", disk / "out", *where).exit_code == 0
        assert [p for p in disk.rglob("*") if p.suffix in (".tmp", ".unfinished", ".building")] == []
        cache = str(tmp_path / f"cache-{disk.stat().st_ino}-{used(disk)}")
        assert raw_splits(load_dataset(str(disk / "out"), cache_dir=cache)) == expected_splits(world)
        shutil.rmtree(cache)


@mounts
@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_full_disk_while_vectors_and_an_index_are_cached(
    new_world: Callable[..., World], tmp_path: Path, streaming: bool
) -> None:
    """Cached vectors and indexes are complete or absent, in builds and in streams."""
    world = new_world(folder=False)
    plan = make_plan(world)
    write(world, plan)
    options: dict[str, Any] = {"embeddings": ["clip_text"], "splits": ["train"], "streaming": streaming}

    def rows(place: Path) -> list[Any]:
        return list(load(world, cache_dir=str(place), **options)["train"])

    for disk in sizes(rows, tmp_path / "disk"):
        with perhaps_full(disk):
            rows(disk)
        make_room(disk)
        found = rows(disk)
        assert [row["id"] for row in found] == [row["id"] for row in world.rows()]
        assert all(same(row["clip_text"], plan["clip_text"]["train"].get(row["id"])) for row in found)


@mounts
def test_a_full_disk_while_a_remote_tar_is_cached(origin: Origin, published: Published, tmp_path: Path) -> None:
    """A picture of a remote tar that was written in part is fetched again, and never appears in a row."""
    index = make_index(published.tar, tmp_path / "x.parquet")
    options: dict[str, Any] = {"splits": ["train"], "visual_news_index": index}
    told = 0
    for disk in sizes(lambda place: published.load(cache_dir=str(place), **options), tmp_path / "disk", 8):
        with perhaps_full(disk) as said:
            published.load(cache_dir=str(disk), **options)
        told += len(said)
        make_room(disk)
        found = raw_splits(published.load(cache_dir=str(disk), **options))
        assert found == {"train": published.world.rows()}
    assert told > 1


def test_writes_that_are_cut_short(
    origin: Origin, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the system writes only half of the bytes, the rest is written, too."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[: max(1, len(data) // 2)], at))
    found = raw_splits(published.load(splits=["train"]))
    assert found == {"train": published.world.rows()}


def test_data_that_did_not_reach_the_disk(
    origin: Origin, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed fsync, bytes that were lost do not count as fetched."""
    fsync = os.fsync
    failed: list[int] = []

    def once(descriptor: int) -> None:
        if not failed and os.readlink(f"/proc/self/fd/{descriptor}").endswith(".tar"):
            failed.append(descriptor)
            os.truncate(descriptor, 0)  # all bytes are lost
            os.truncate(descriptor, published.tar.stat().st_size)
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", once)
    change_constant(monkeypatch, "BATCH", 1, of="members")
    index = make_index(published.tar, tmp_path / "x.parquet")
    options: dict[str, Any] = {"splits": ["train"], "visual_news_index": index}
    with pytest.raises(NoSpaceError, match=SAYS_FULL):
        published.load(**options)
    assert failed
    assert raw_splits(published.load(**options)) == {"train": published.world.rows()}


# Read-only folders


@pytest.mark.parametrize("command", ["verify", "index"])
def test_a_tar_is_indexed_without_a_writable_cache(
    new_world: Callable[..., World], tmp_path: Path, command: str
) -> None:
    """With a read-only cache `verify` and `index` still succeed; they only cannot cache the index."""
    world = new_world(folder=False)
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    cache.mkdir(parents=True)
    arguments = ["--data-dir", world.root] if command == "verify" else [world.tar, "-o", tmp_path / "index.parquet"]
    with as_anybody(), read_only(cache):
        assert run(command, *arguments).exit_code == 0
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("built", [False, True], ids=["empty", "built"])
def test_a_read_only_cache(world: World, tmp_path: Path, built: bool) -> None:
    """A read-only cache is an error, because `datasets` locks it; the error names it and the alternatives."""
    cache = tmp_path / "cache"
    cache.mkdir()
    if built:
        load(world, cache_dir=str(cache))
    before = sorted(cache.rglob("*"))
    with as_anybody(), read_only(cache):
        for streaming in (False, True):
            with pytest.raises(ConfigError, match=f"{cache}: the cache folder cannot be written to") as caught:
                load(world, cache_dir=str(cache), streaming=streaming)
            for way in ("cache_dir=", "HF_DATASETS_CACHE", "newsclippings build", "save_to_disk"):
                assert way in str(caught.value)
    assert sorted(cache.rglob("*")) == before


def test_a_read_only_default_cache(world: World, tmp_path: Path) -> None:
    """The default cache gives the same error; commands that do not need it succeed."""
    cache = Path(datasets.config.HF_DATASETS_CACHE)
    cache.mkdir(parents=True)
    with as_anybody(), read_only(cache):
        with pytest.raises(ConfigError, match=f"{cache}: the cache folder cannot be written to"):
            NewsCLIPpings(data_dir=str(world.root))
        for command in (["build", tmp_path / "out"], ["preview", "-o", tmp_path / "x.png"]):
            done = run(*command, "--data-dir", world.root)
            assert done.exit_code == 0, done.output
    assert verify_built(tmp_path / "out").sound


@pytest.mark.parametrize("how", ["parquet", "parquet stream", "save_to_disk"])
def test_built_folders_can_be_read_on_a_read_only_medium(world: World, tmp_path: Path, how: str) -> None:
    """Folders of `build` and of save_to_disk() can be read on a read-only medium."""
    medium = tmp_path / "medium"
    if how == "save_to_disk":
        load(world).save_to_disk(str(medium))
    else:
        assert run("build", medium, "--data-dir", world.root).exit_code == 0
    with as_anybody(), read_only(medium):
        if how == "save_to_disk":
            found = datasets.load_from_disk(str(medium))
        else:
            found = load_dataset(str(medium), streaming=how == "parquet stream")
        assert raw_splits(found) == expected_splits(world)
        if how != "save_to_disk":
            assert run("verify", "--built", medium).exit_code == 0
            assert run("stats", medium).exit_code == 0


def test_read_only_outputs(world: World, tmp_path: Path) -> None:
    """For a read-only output every command prints one line that names the place."""
    built, out = tmp_path / "built", tmp_path / "out"
    where = ["--data-dir", world.root]
    assert run("build", built, *where).exit_code == 0
    (out / "there").mkdir(parents=True)
    pickled = tmp_path / "vectors.pkl"
    shutil.copy(_vectors(world, tmp_path), pickled)
    commands: list[list[object]] = [
        ["build", out / "new", *where],
        ["build", out / "there", *where],
        ["build", built, *where, "--images", "none"],
        ["card", built],
        ["croissant", built],
        ["croissant", built, "-o", out / "croissant.json"],
        ["preview", *where, "-o", out / "pairs.png"],
        ["preview", *where, "--html", out / "pairs.html"],
        ["preview", *where, "--html", out / "new" / "pairs.html"],
        ["index", world.tar, "-o", out / "index.parquet"],
        ["convert-embeddings", pickled, out / "vectors.npy"],
        ["convert-embeddings", pickled, out / "vectors.parquet"],
        ["dataset-infos", out / "infos.json"],
        ["sample", out / "sample"],
    ]
    with suppress(ImportError):
        import matplotlib  # noqa: F401

        commands.append(["stats", built, "--plot", out / "charts"])
    with as_anybody(), read_only(out), read_only(built):
        for command in commands:
            place = out if any(str(part).startswith(str(out)) for part in command) else built
            in_a_line(run(*command), f"'?{place}")
    assert [path for path in out.rglob("*") if path.is_file()] == []


def _vectors(world: World, tmp_path: Path) -> Path:
    """Write a pickle of vectors, and return its path."""
    other = World(tmp_path / "vectors", world.records, world.pictures, world.matches)
    write(other, make_plan(world))
    return other.root / "news_clippings/embeddings/clip_text_embeddings/clip_text_embeddings_test.pkl"
