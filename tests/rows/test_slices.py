"""Reading a few rows at a time gives the same as reading all, in any layout and any order."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.constants import change_constant
from support.dialects import DIALECTS, dump
from support.json_records import FAST, LAYOUTS, exactly, make, rows
from support.reading import load, raw, raw_splits
from support.sampling import crossed
from support.world import World

from _newsclippings.corpus import record_index
from _newsclippings.corpus.exact_scan import SCHEMA
from _newsclippings.matches import MatchesInSlices
from _newsclippings.storage.local import LocalFile
from newsclippings import BadFileError, MissingDataError

Row = dict[str, Any]

asked = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=4)
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(rows, asked, st.sampled_from(DIALECTS), st.sampled_from([1, 40, 1 << 20]))
def test_slices_of_the_matches_are_those_of_the_whole(
    tmp_path: Path, plan: list[Row], slices: list[tuple[int, int]], dialect: str, block: int
) -> None:
    """Slices in any order have exactly the planned rows, in any layout, with any block size."""
    file = tmp_path / "train.json"
    file.write_text(dump({"annotations": plan}, dialect))
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "BLOCK", block, of="matches")
        matches = MatchesInSlices(str(file), "merged_balanced")
        assert matches.rows == len(plan)
        for start, stop in slices:
            start, stop = sorted((min(start, len(plan)), min(stop, len(plan))))
            assert matches.table(start, stop).to_pylist() == plan[start:stop]
        assert matches.table().to_pylist() == plan


def test_a_file_of_matches_that_changes_is_an_error(tmp_path: Path) -> None:
    """Rows are counted when the file is opened; if their number is different later, that is an error."""
    row = {"id": 1, "image_id": 1, "similarity_score": 1, "source_dataset": 0, "falsified": False}
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"annotations": [row] * 6}))
    matches = MatchesInSlices(str(file), "merged_balanced")
    assert len(matches.table(0, 2)) == 2
    file.write_text(json.dumps({"annotations": [row] * 4}))
    with pytest.raises(BadFileError, match=r"train\.json: expected 6 rows, as before, found 4"):
        matches.table(2, 4)


@quick
@given(
    st.sets(st.integers(0, 9_999_999), min_size=1, max_size=30),
    st.data(),
    st.sampled_from(sorted(LAYOUTS)),
    st.booleans(),
)
def test_indexed_records_are_those_of_the_plan(
    tmp_path: Path, ids: set[int], data: st.DataObject, layout: str, awkward: bool
) -> None:
    """Records read by the index are exactly those of the plan, or the index declines the layout."""
    order = data.draw(st.permutations(sorted(ids)))
    plan = [make(number, caption=f"{number}" + "}, {" * awkward) for number in order]
    text = LAYOUTS[layout](plan).encode()
    path = tmp_path / "x.tar"
    path.write_bytes(b"before" + text + b"after")
    with LocalFile(str(path)) as file:
        index = record_index.index_records(file, 6, len(text))
        assert index is not None or awkward or layout not in FAST
        wanted = sorted(data.draw(st.sets(st.sampled_from(order))))
        table = index.pick(np.array(wanted, np.int64), SCHEMA) if index else None
        if table is not None:
            assert table.to_pylist() == exactly(plan, wanted)
        assert table is not None or awkward or layout not in FAST


@pytest.mark.parametrize("unknown", [-1, 3, 5, 10**12])
def test_a_missing_record_is_left_to_the_exact_scan(tmp_path: Path, unknown: int) -> None:
    """The index declines an id that it does not find: only a scan of every record can show that it is missing."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps([make(2), make(4)]))
    with LocalFile(str(path)) as file:
        index = record_index.index_records(file, 0, file.size)
        assert index is not None
        assert index.pick(np.array(sorted([4, unknown]), np.int64), SCHEMA) is None
        assert index.pick(np.array([2, 4], np.int64), SCHEMA) is not None


def test_a_repeated_id_is_left_to_the_exact_scan(tmp_path: Path) -> None:
    """The index declines an id that two records have."""
    path = tmp_path / "data.json"
    path.write_text(json.dumps([make(2), make(4), make(2)]))
    with LocalFile(str(path)) as file:
        assert record_index.index_records(file, 0, file.size) is None


@pytest.mark.parametrize(
    ("rows_at_once", "source", "options"),
    crossed(
        [2, 6, 10_000],
        ["data.json", "tar", "metadata"],
        {"plain": {}, "all texts": {"metadata": True, "articles": True}},
    ),
)
def test_streams_are_joined_in_slices(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, rows_at_once: int, source: str, options: Row
) -> None:
    """A stream gives all planned rows, whatever the size of its slices and the file of its records."""
    world = new_world(folder=source == "data.json", tar=True)
    if source == "metadata":
        world.write_tar(data_json="absent")
    change_constant(monkeypatch, "SLICE", rows_at_once)
    built = {split: raw(data) for split, data in load(world, **options).items()}
    assert raw_splits(load(world, streaming=True, **options)) == built
    captions = "metadata" if source == "metadata" else "origin"
    plain = [[{name: row[name] for name in plan} for row, plan in zip(built[split], plans, strict=True)]
             for split, plans in ((s, world.rows(split=s, captions=captions)) for s in built)]  # fmt: skip
    assert plain == [world.rows(split=split, captions=captions) for split in built]


def test_first_row_reads_few_records(
    new_world: Callable[..., World], touched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first row of a stream opens only the pictures of its slice, and no file of another split."""
    world = new_world(tar=False)
    with touched(world.root) as seen:
        next(iter(load(world, streaming=True, split="test", splits=["test"])))
    opened = {path for how, path in seen if how == "open"}
    pictures = {path for path in opened if path.endswith(".jpg")}
    first_slice = {str(world.origin / row["image_path"]) for row in world.rows(split="test")[:2]}
    assert pictures == first_slice
    assert not {path for path in opened if path.endswith(("train.json", "val.json"))}


def test_the_error_names_the_incomplete_slice(new_world: Callable[..., World]) -> None:
    """A stream stops at an incomplete slice, and the error names its rows."""
    world = new_world(tar=False)
    stream = load(world, streaming=True, split="train")
    lost = world.used_once().image_path
    (world.origin / lost).unlink()
    (row,) = (row["index"] for row in world.rows() if row["image_path"] == lost)
    with pytest.raises(MissingDataError) as caught:
        list(stream)
    found = re.match(r"merged_balanced/train, rows (\d+) to (\d+): expected \d+ complete rows", str(caught.value))
    assert found
    assert int(found[1]) <= row <= int(found[2])


def test_an_empty_shard_read_twice_is_not_an_empty_split(
    new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a shard again whose rows are all dropped does not count as a split without rows."""
    change_constant(monkeypatch, "SLICE", 2)
    world = new_world(tar=False)
    for row in world.rows()[:6]:
        (world.origin / row["image_path"]).unlink(missing_ok=True)
    stream = load(world, streaming=True, split="train", missing="drop_pair")
    first, second = (stream.shard(stream.num_shards, n, contiguous=True) for n in (0, 1))
    assert [list(shard) for _ in range(20) for shard in (first, second)] == [[]] * 40
    there = {path for path in world.pictures if (world.origin / path).exists()}
    assert raw(stream) == world.rows(pictures=there, missing="drop_pair") != []
