"""Builds and streams take one route: tables that are read by one process and kept, and files by range of rows."""

import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.children import in_child, wait
from support.reading import load, raw, raw_splits
from support.sampling import crossed
from support.world import World

from _newsclippings.matches import read_matches
from _newsclippings.rows import joiner
from _newsclippings.storage.kept import KeptTable, keep_tables
from _newsclippings.storage.local import LocalFile
from newsclippings import BadFileError, MissingDataError, NewsCLIPpings

Row = dict[str, Any]


@pytest.mark.parametrize(
    ("source", "options"),
    crossed(["data.json", "tar", "metadata"], {"plain": {}, "all texts": {"metadata": True, "articles": True}}),
)
def test_streams_have_the_rows_of_a_build(new_world: Callable[..., World], source: str, options: Row) -> None:
    """A stream has all rows of the plan, from whatever file the records come, before a build and after it."""
    world = new_world(folder=source == "data.json", tar=True)
    if source == "metadata":
        world.write_tar(data_json="absent")
    streamed = raw_splits(load(world, streaming=True, **options))
    built = {split: raw(data) for split, data in load(world, **options).items()}
    assert streamed == raw_splits(load(world, streaming=True, **options)) == built
    captions = "metadata" if source == "metadata" else "origin"
    plain = [[{name: row[name] for name in plan} for row, plan in zip(built[split], plans, strict=True)]
             for split, plans in ((s, world.rows(split=s, captions=captions)) for s in built)]  # fmt: skip
    assert plain == [world.rows(split=split, captions=captions) for split in built]


def test_the_first_row_opens_few_files(new_world: Callable[..., World], touched: Any) -> None:
    """The first row of a stream opens no picture but those of its table, and no file of another split."""
    world = new_world(tar=False)
    with touched(world.root) as seen:
        next(iter(load(world, streaming=True, split="test", splits=["test"])))
    opened = {path for how, path in seen if how == "open"}
    pictures = {path for path in opened if path.endswith(".jpg")}
    first_table = {str(world.origin / row["image_path"]) for row in world.rows(split="test")[:2]}
    assert pictures == first_table
    assert not {path for path in opened if path.endswith(("train.json", "val.json"))}


def test_the_rows_with_something_missing_are_named(new_world: Callable[..., World]) -> None:
    """A stream stops at the table that is not complete, each time that it is read, and the error names its rows."""
    world = new_world(tar=False)
    stream = load(world, streaming=True, split="train")
    lost = world.used_once().image_path
    picture = (world.origin / lost).read_bytes()
    (world.origin / lost).unlink()
    (row,) = (row["index"] for row in world.rows() if row["image_path"] == lost)
    for _ in range(2):
        with pytest.raises(MissingDataError) as caught:
            list(stream)
    found = re.match(r"merged_balanced/train, rows (\d+) to (\d+): expected \d+ complete rows", str(caught.value))
    assert found
    assert int(found[1]) <= row <= int(found[2])
    assert "`newsclippings verify` checks all of them" in str(caught.value)
    (world.origin / lost).write_bytes(picture)
    assert raw(stream) == world.rows()


def test_shards_of_which_nothing_is_left_may_be_read_again(new_world: Callable[..., World]) -> None:
    """Reading the same rows over and over, none of which come out, does not make the whole split an empty one."""
    world = new_world(tar=False)
    for row in world.rows()[:6]:
        (world.origin / row["image_path"]).unlink(missing_ok=True)
    stream = load(world, streaming=True, split="train", missing="drop_pair")
    first, second = (stream.shard(stream.num_shards, n, contiguous=True) for n in (0, 1))
    assert [list(shard) for _ in range(20) for shard in (first, second)] == [[]] * 40
    there = {path for path in world.pictures if (world.origin / path).exists()}
    assert raw(stream) == world.rows(pictures=there, missing="drop_pair") != []


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the times that a file of matches is read, and the bytes that are read of a file of records, by name."""
    counter: Counter[str] = Counter()
    read_into = LocalFile.read_into

    def count_matches(location: str, *more: Any) -> pa.Table:
        counter[os.path.basename(location)] += 1
        return read_matches(location, *more)

    def count_bytes(file: LocalFile, offset: int, *buffers: memoryview) -> None:
        if file.path.endswith(".json"):
            counter[os.path.basename(file.path)] += sum(map(len, buffers))
        read_into(file, offset, *buffers)

    monkeypatch.setattr(joiner, "read_matches", count_matches)
    monkeypatch.setattr(LocalFile, "read_into", count_bytes)
    return counter


def kept_files(world: World) -> list[Path]:
    """The tables that are kept of a world."""
    return sorted(
        Path(NewsCLIPpings(data_dir=str(world.root)).cache_dir).parents[2].glob("newsclippings/tables/*.arrow")
    )


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "build"])
def test_what_is_kept_is_not_read_again(new_world: Callable[..., World], read: Counter[str], streaming: bool) -> None:
    """Matches and records are read when rows are first needed, and by no later stream or build of the same files."""
    world = new_world(tar=False)
    first = raw_splits(load(world, streaming=streaming, metadata=True))
    assert set(read) == {"train.json", "val.json", "test.json", "data.json"}
    read.clear()
    assert raw_splits(load(world, streaming=True, metadata=True)) == first
    assert raw_splits(load(world, missing="null", metadata=True)) == first
    assert read == {}


def test_all_splits_of_a_build_are_read_at_once(new_world: Callable[..., World], read: Counter[str]) -> None:
    """A build reads data.json for all splits together, as often as a stream for one, and each file of matches once."""
    world = new_world(tar=False)
    raw(load(world, images="none", streaming=True, split="test", splits=["test"]))
    for path in kept_files(world):
        path.unlink()
    passes = read.pop("data.json")
    read.clear()
    load(world)
    assert read == {"train.json": 1, "val.json": 1, "test.json": 1, "data.json": passes}


def test_a_file_that_changed_is_read_again(new_world: Callable[..., World], read: Counter[str]) -> None:
    """What is kept of a file is not used for another that has its name."""
    world = new_world(tar=False)
    load(world, images="none")
    read.clear()
    for record in world.records.values():
        record.caption += " (corrected)"
    world.write_data_json()
    rows = raw(load(world, images="none", streaming=True)["test"])
    assert rows == world.rows(split="test", images="none")
    assert all(row["caption"].endswith(" (corrected)") for row in rows)
    assert set(read) == {"data.json"}


@pytest.mark.parametrize("damage", ["a flipped bit", "cut", "another table", "not a file"])
def test_a_damaged_table_is_made_again(new_world: Callable[..., World], damage: str) -> None:
    """A kept table that is not what was written is never used: it is made again, and is right then."""
    world = new_world(tar=False)
    right = raw_splits(load(world, images="none", streaming=True))
    tables = kept_files(world)
    assert len(tables) == 6  # matches and records of three splits
    contents = [path.read_bytes() for path in tables]
    for k, path in enumerate(tables):
        if damage == "a flipped bit":
            middle = contents[k].index(b"ARROW1") + len(contents[k]) // 3
            path.write_bytes(contents[k][:middle] + bytes([contents[k][middle] ^ 1]) + contents[k][middle + 1 :])
        elif damage == "cut":
            path.write_bytes(contents[k][:-700])
        elif damage == "another table":
            path.write_bytes(contents[k - 1])
        else:
            path.unlink()
            path.mkdir()
    assert raw_splits(load(world, images="none", streaming=True)) == right
    if damage != "not a file":
        assert [path.read_bytes() for path in tables] == contents


def test_a_table_that_is_damaged_while_it_is_used(new_world: Callable[..., World]) -> None:
    """Damage of a mapped table between two rows of a stream is an error, and the next load makes it again."""
    world = new_world(tar=False)
    stream = iter(load(world, images="none", streaming=True, split="train"))
    next(stream)
    for path in kept_files(world):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    with pytest.raises(BadFileError, match=r"(?s)tables/.*Load again"):
        list(stream)
    assert raw(load(world, images="none", streaming=True, split="train")) == world.rows(images="none")


def test_a_cache_that_cannot_be_written(
    new_world: Callable[..., World], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Without a place for its tables a stream works from memory, and one line a table says so."""
    world = new_world(tar=False)
    cache = tmp_path / "cache"
    (cache / "newsclippings").mkdir(parents=True)
    (cache / "newsclippings" / "tables").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        stream = load(world, images="none", streaming=True, split="test", cache_dir=str(cache))
        assert raw(stream) == world.rows(split="test", images="none")
    lines = [record.getMessage() for record in caplog.records if "tables" in record.getMessage()]
    assert len(lines) == 2  # matches and records
    assert all("cannot be written" in line and line.count("\n") == 0 for line in lines)


def test_one_process_makes_a_table_and_others_wait(tmp_path: Path) -> None:
    """Of several processes that need the same tables at once, one makes them; all get the same."""

    def make(names: Iterable[str]) -> list[tuple[str, pa.Table]]:
        time.sleep(0.5)
        return [(name, pa.table({"made by": [os.getpid()]})) for name in names]

    def keep(order: str) -> None:
        tables = keep_tables(tmp_path / "tables", {name: f"key-{name}" for name in order}, make)
        makers = {name: table.table["made by"][0].as_py() for name, table in tables.items()}
        (tmp_path / order).write_text(json.dumps(makers))

    orders = ("ab", "ba", "b")
    children = [in_child(partial(keep, order)) for order in orders]
    assert [wait(child) for child in children] == [0, 0, 0]
    answers = [json.loads((tmp_path / order).read_text()) for order in orders]
    makers = {maker for made in answers for maker in made.values()}
    assert makers <= set(children)
    assert len({made["b"] for made in answers}) == len({made["a"] for made in answers[:2]}) == 1


def test_tables_that_are_not_to_be_kept(tmp_path: Path) -> None:
    """What is made as a `KeptTable` stays in memory; other tables are mapped, with their schema's metadata."""
    plain = pa.table({"x": [1, 2]}).replace_schema_metadata({"from": "here"})
    tables = keep_tables(tmp_path, {"a": "key-a", "b": "key-b"}, lambda names: [("a", plain), ("b", KeptTable(plain))])
    assert [path.name for path in sorted(tmp_path.glob("*.arrow"))] == ["key-a.arrow"]
    assert tables["a"].file is not None
    assert tables["b"].file is None
    for table in tables.values():
        table.check()
        assert table.table.equals(plain, check_metadata=True)
