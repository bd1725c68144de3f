"""Inputs that cannot be read: the error names the file and says what to do; nothing hangs, no row is dropped."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.command import run
from support.obstacles import as_anybody
from support.reading import load, raw_splits
from support.remote import make_index
from support.sampling import crossed
from support.vectors import make_plan, write
from support.world import World

from _newsclippings.storage.files import read_json_text, write_text
from _newsclippings.storage.local import LocalFile
from newsclippings import BadFileError, DataNotFoundError, NewsCLIPpingsError, read_embeddings

NO_BYTES = "/proc/self/mem"  # a plain file that opens, but cannot be read: EIO


def _picture(world: World) -> Path:
    return world.origin / world.used_once(split="test").image_path


def _article(world: World) -> Path:
    record = world.records[world.matches["merged_balanced", "test"][0].id]
    return world.origin / record.source / "articles" / f"{record.id}.txt"


def _vectors(world: World) -> Path:
    write(world, make_plan(world))
    return world.root / "news_clippings/embeddings/clip_text_embeddings/clip_text_embeddings_test.pkl"


def _index(world: World) -> Path:
    return Path(make_index(world.tar, world.root / "index.parquet"))


# Layout of the world, options, the unreadable file, and whether it is one of many.
FILES: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[World], Path]]] = {
    "annotations": ({"tar": False}, {}, lambda world: world.annotations("merged_balanced", "test")),
    "data.json": ({"tar": False}, {}, lambda world: world.data_json),
    "metadata": ({"tar": False, "folder": False}, {"images": "none"}, lambda world: world.metadata("test")),
    "tar": ({"folder": False}, {}, lambda world: world.tar),
    "tar index": ({"folder": False}, {"visual_news_index": "index.parquet"}, _index),
    "embeddings": ({"tar": False}, {"images": "none", "embeddings": ["clip_text"]}, _vectors),
    "picture": ({"tar": False}, {}, _picture),
    "article": ({"tar": False}, {"images": "none", "articles": True}, _article),
}
ONE_OF_MANY = ("picture", "article")


def _arrange(new_world: Callable[..., World], kind: str) -> tuple[World, dict[str, Any], Path]:
    layout, options, place = FILES[kind]
    world = new_world(**layout)
    file = place(world)
    if "visual_news_index" in options:
        options = {"visual_news_index": str(file)}
    return world, {**options, "splits": ["test"]}, file


def _arguments(world: World, options: dict[str, Any]) -> list[str]:
    """Convert options of a load to those of the command line."""
    arguments = ["--data-dir", str(world.root), "--split", "test"]
    for name, value in options.items():
        if name in ("images", "visual_news_index"):
            arguments += ["--" + name.replace("_", "-"), value]
        elif name in ("embeddings", "articles"):
            arguments += ["--" + name, *(value if isinstance(value, list) else [])]
    return arguments


def _refused(world: World, options: dict[str, Any], kind: type[NewsCLIPpingsError]) -> list[str]:
    """Return the errors of a load, a stream and the command line."""
    said = []
    for streaming in (False, True):
        with pytest.raises(kind) as caught:
            raw_splits(load(world, streaming=streaming, **options))
        said.append(str(caught.value))
    done = run("build", "out", *_arguments(world, options))
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.stderr.startswith("Error: ")
    assert not Path("out").exists() or not list(Path("out").rglob("*.parquet"))
    return [*said, done.stderr]


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_may_not_be_read(new_world: Callable[..., World], kind: str) -> None:
    """The error names the file, the reason and what to do; with permission, the rows are right."""
    world, options, file = _arrange(new_world, kind)
    file.chmod(0)
    with as_anybody():
        for said in _refused(world, options, DataNotFoundError):
            assert str(file) in said
            assert "permission denied" in said
            assert "chmod" in said
    file.chmod(0o644)
    if kind in ("annotations", "data.json", "tar", "tar index", "picture"):
        assert raw_splits(load(world, **options))["test"] == world.rows(split="test")


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_without_permission(new_world: Callable[..., World], kind: str) -> None:
    """A file below a folder without permission does not count as missing: no other place is used, no row dropped."""
    world, options, file = _arrange(new_world, kind)
    file.parent.chmod(0)
    try:
        with as_anybody():
            for said in _refused(world, {**options, "missing": "null"}, DataNotFoundError):
                assert str(file.parent) in said
                assert "permission denied" in said
    finally:
        file.parent.chmod(0o755)


@contextmanager
def _in_its_place(file: Path, what: str) -> Iterator[None]:
    kept = file.rename(file.with_name(file.name + ".kept"))  # a tar of another name would be found
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "link to nothing":
        file.symlink_to("nowhere")
    elif what == "unreadable bytes":
        if not os.path.exists(NO_BYTES):
            pytest.skip("no such file on this system")
        file.symlink_to(NO_BYTES)
    yield
    file.rmdir() if what == "folder" else file.unlink()
    kept.rename(file)


@pytest.mark.parametrize(
    ("kind", "what"), crossed(list(FILES), ["folder", "pipe", "link to nothing", "unreadable bytes"])
)
def test_something_else_in_place_of_a_file(new_world: Callable[..., World], kind: str, what: str) -> None:
    """A folder, a pipe (without waiting for it), a dangling link or a failing disk is an error that names the place."""
    world, options, file = _arrange(new_world, kind)
    with _in_its_place(file, what):
        for said in _refused(world, options, NewsCLIPpingsError):
            assert file.name in said
            if what == "unreadable bytes" and kind not in ONE_OF_MANY:
                assert "cannot be read (Input/output error)" in said


@pytest.mark.parametrize("kind", ONE_OF_MANY)
def test_a_read_error_of_one_of_many_files(
    new_world: Callable[..., World], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture or article that the disk cannot read does not count as missing."""
    world, options, file = _arrange(new_world, kind)
    readv = os.readv

    def bad(descriptor: int, buffers: Any) -> int:
        if os.path.samestat(os.fstat(descriptor), os.stat(file)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", bad)
    for said in _refused(world, {**options, "missing": "null"}, DataNotFoundError):
        assert str(file) in said
        assert "cannot be read (Input/output error)" in said


def test_a_broken_mount(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a broken mount, matches are not fetched from the Hub instead, and no picture counts as missing."""
    stat = os.stat

    def broken(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if str(path).startswith(str(world.root)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", broken)
    with pytest.raises(DataNotFoundError, match=r"cannot be read \(Stale file handle\)"):
        load(world, missing="null")


@pytest.mark.parametrize("num_proc", [None, 2])
def test_an_unreadable_picture_in_a_worker(new_world: Callable[..., World], num_proc: int | None) -> None:
    """Worker processes raise the same error of this package."""
    world, _, file = _arrange(new_world, "picture")
    file.chmod(0)
    with as_anybody(), pytest.raises(DataNotFoundError, match=f"{file}.*permission denied"):
        load(world, num_proc=num_proc)


@pytest.mark.parametrize("command", ["index", "convert-embeddings"])
def test_commands_that_take_a_file(tmp_path: Path, command: str) -> None:
    """Commands do not wait for a pipe, and name a file that cannot be read."""
    file, out = tmp_path / "file", tmp_path / "out.parquet"
    file.write_bytes(bytes(2000))
    file.chmod(0)
    with as_anybody():
        done = run(command, file, *(["-o"] if command == "index" else []), out)
    assert done.exit_code in (1, 2)
    assert str(file) in done.stderr
    assert "readable" in done.stderr or "permission denied" in done.stderr
    file.unlink()
    os.mkfifo(file)
    done = run(command, file, *(["-o"] if command == "index" else []), out)
    assert done.exit_code == 1
    assert f"{file}: expected a file, found a pipe" in done.stderr
    assert not out.exists()


@pytest.mark.skipif(not os.path.exists(NO_BYTES), reason="no such file on this system")
def test_readers_name_the_file_of_a_read_error() -> None:
    """Each reader of bytes names the file that the disk cannot read."""
    for read in (
        lambda: read_json_text(NO_BYTES),
        lambda: LocalFile(NO_BYTES).read_at(0, 10),
        lambda: LocalFile(NO_BYTES).skipping_reader()(0, 10),
        lambda: LocalFile(NO_BYTES).read_into(0, memoryview(bytearray(10))),
        lambda: read_embeddings(NO_BYTES),
    ):
        with pytest.raises(DataNotFoundError, match=rf"{NO_BYTES}: .*cannot be read \(Input/output error\)"):
            read()


def test_verify_reports_unreadable_files(new_world: Callable[..., World]) -> None:
    """verify reports unreadable files, and still checks the others."""
    world = new_world(tar=False)
    files = [world.annotations("merged_balanced", "test"), world.data_json]
    for file in files:
        file.chmod(0)
    with as_anybody():
        done = run("verify", "--data-dir", world.root, "--config", "merged_balanced")
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    for file in files:
        assert str(file) in done.output
    assert done.output.count("permission denied") >= 2


@pytest.mark.parametrize("what", ["link", "dangling", "folder", "pipe"])
def test_only_plain_files_are_replaced(tmp_path: Path, what: str) -> None:
    """A link, a folder or a pipe in place of an output is not replaced."""
    place, target = tmp_path / "out.json", tmp_path / "target"
    if what == "link":
        target.write_text("of somebody")
    if what in ("link", "dangling"):
        place.symlink_to(target)
    elif what == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    before = place.lstat()
    with pytest.raises(BadFileError, match="is a link, a folder or a device, not a plain file"):
        write_text(place, "{}")
    assert os.path.samestat(before, place.lstat())
    assert what != "link" or target.read_text() == "of somebody"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
