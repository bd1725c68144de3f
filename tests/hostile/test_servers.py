"""Servers that lie about size, ranges or identity of a tar: no row is wrong, and nothing hangs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from datasets import load_dataset
from support.constants import change_constant
from support.reading import raw_splits
from support.remote import Origin, Published, make_index, publish
from support.sampling import WAYS, crossed
from support.world import World

from _newsclippings.cli.commands import main
from _newsclippings.storage.remote import RemoteFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar import segments as tar_segments
from newsclippings import BadFileError, BadTarError, NewsCLIPpingsError

SPLITS = ("test", "train")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries and the timeout for silent servers."""
    change_constant(monkeypatch, "PAUSE", 0.001)
    change_constant(monkeypatch, "TIMEOUT", 0.5)


def right_or_refused(remote: Published, **options: Any) -> str | None:
    """Return the error of a load; an empty text if the rows are right."""
    try:
        found = raw_splits(remote.load(splits=SPLITS, **options))
    except NewsCLIPpingsError as error:
        return str(error)
    assert found == {split: remote.world.rows(split=split) for split in ("train", "test")}
    return None


LIES: dict[str, dict[str, Any]] = {
    "no such range, some times": {"refuse": 3},
    "no such range, later": {"refuse": 3, "after": 6},
    "no such range, ever": {"refuse": 100_000},
    "larger than it is": {"larger": 4096},
    "much larger than it is": {"larger": 1 << 30},
    "more than asked for": {"more": 5},
    "more than asked for, later": {"more": 5, "after": 6},
    "another ETag each time": {"etags": True},
    "silent after a while": {"stall": 100_000, "after": 6},
    "other bytes after a while": {"shift": 100_000, "after": 6},
}


@pytest.mark.parametrize(("lie", "streaming"), crossed(list(LIES), WAYS))
def test_servers_that_lie(origin: Origin, published: Published, lie: str, streaming: bool) -> None:
    """A lying server gives an error with the URL, or right rows; once it is honest, right rows.

    An index of wrong bytes costs one more error, after which it is discarded.
    """
    origin.mode(**LIES[lie])
    said = right_or_refused(published, streaming=streaming)
    assert said is None or published.url in said
    assert said is None or lie != "another ETag each time"  # servers that share a name have ETags of their own
    origin.mode()
    said = right_or_refused(published, streaming=streaming)
    assert said is None or (lie == "other bytes after a while" and "thrown away" in said)
    assert right_or_refused(published, streaming=streaming) is None


@pytest.mark.parametrize(
    ("content", "streaming", "when"), crossed(["page", "other tar", "nothing"], WAYS, ["at once", "later"])
)
def test_a_redirect_to_something_else(
    new_world: Callable[..., World], origin: Origin, published: Published, content: str, streaming: bool, when: str
) -> None:
    """A redirect to a login page or another tar gives an error, or right rows if everything was fetched before."""
    index = make_index(published.tar, Path("x.parquet").absolute())
    other = origin.root / "other" / f"{content}.bin"
    other.parent.mkdir(exist_ok=True)
    if content == "other tar":
        publish(new_world(folder=False, tar=False, seed=7), origin, "other", other.name)
    else:
        other.write_bytes(b"<!DOCTYPE html><html>Please log in</html>" * 900 if content == "page" else b"")
    place = f"other/{other.name}"
    origin.mode(**({"other": place} if when == "at once" else {"other_later": [place, 4]}))
    said = right_or_refused(published, streaming=streaming, visual_news_index=index)
    assert (said is not None and published.url in said) or (said is None and when == "later")
    origin.mode()
    assert right_or_refused(published, streaming=streaming, visual_news_index=index) is None


def _same_but_for_pixels(world: World) -> None:
    world.pictures = {path: data[:-9] + bytes(9) for path, data in world.pictures.items()}


@pytest.mark.parametrize("command", ["load", "build"])
def test_a_tar_that_changes_and_changes_back(
    new_world: Callable[..., World], origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Bytes of another tar with equal headers are not cached as those of the first."""
    remote = publish(new_world(folder=False, tar=False), origin, tmp_path.name)
    index = make_index(remote.tar, tmp_path / "x.parquet")
    other = new_world("other", folder=False, tar=False)
    _same_but_for_pixels(other)
    other.write_tar(origin.root / tmp_path.name / "new.tar")
    old, new = remote.tar.with_name("old.tar"), remote.tar.with_name("new.tar")
    read_ranges, calls = RemoteFile.read_ranges, [0]

    def swapped(self: RemoteFile, ranges: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:  # requests for pictures, after data.json
            remote.tar.rename(old)
            new.rename(remote.tar)
        return read_ranges(self, ranges)

    options: dict[str, Any] = {"splits": ["train"], "visual_news_index": index}
    with monkeypatch.context() as patch:
        patch.setattr(RemoteFile, "read_ranges", swapped)
        if command == "load":
            with pytest.raises(BadFileError):
                remote.load(**options)
        else:
            where = ["--data-dir", str(remote.world.root), "--visual-news", remote.url, "--visual-news-index", index]
            assert CliRunner().invoke(main, ["build", "out", "--split", "train", *where]).exit_code == 1
    assert old.exists()
    os.replace(old, remote.tar)  # the first file again, with its ETag
    assert raw_splits(remote.load(**options)) == {"train": remote.world.rows()}


@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
@pytest.mark.parametrize("command", [False, True], ids=["load", "index"])
def test_a_tar_that_is_replaced_while_it_is_indexed(
    new_world: Callable[..., World],
    origin: Origin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    remote: bool,
    command: bool,
) -> None:
    """The index of one tar is never cached or written as that of another."""
    served = publish(new_world(folder=False, tar=False), origin, tmp_path.name)
    world, place = served.world, served.url if remote else str(served.tar)
    old_rows = world.rows(split="test")
    path = world.used_once(split="test").image_path
    world.pictures[path] += bytes(700)
    new = served.tar.with_name("new.tar")
    world.write_tar(new)
    walk_headers = tar_segments.walk_headers

    def replaced(*args: Any) -> Any:
        found = walk_headers(*args)
        if new.exists():
            new.replace(served.tar)
        return found

    monkeypatch.setattr(tar_index, "walk_headers", replaced)
    if command:
        done = CliRunner().invoke(main, ["index", place, "-o", "x.parquet"])
        assert done.exit_code == 1
        assert "the tar changed while it was read" in done.output
        assert list(Path().iterdir()) == []
        assert CliRunner().invoke(main, ["index", place, "-o", "x.parquet"]).exit_code == 0
        return
    options: dict[str, Any] = {"data_dir": str(world.root), "visual_news": place, "splits": ["test"]}
    with pytest.raises(BadTarError, match="the tar changed while it was read"):
        load_dataset("newsclippings", "merged_balanced", **options)
    found = raw_splits(load_dataset("newsclippings", "merged_balanced", **options))["test"]
    assert found == world.rows(split="test") != old_rows
