"""Missing files and records: stop before writing, keep the row with a null, or drop the pair; and count them."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from support.reading import expected_splits, load, raw, raw_splits
from support.sampling import WAYS, crossed
from support.world import OUTLETS, Row, World

from newsclippings import DataNotFoundError, MissingDataError, NewsCLIPpings

NONE: dict[str, dict[str, int]] = {"caption": {}, "picture_record": {}, "picture": {}}


def _lose(world: World, what: str) -> tuple[dict[str, dict[str, int]], str]:
    """Remove something that train needs; return the counts of the report and a name that the error must have."""
    record = world.used_once()
    if what == "picture":
        del world.pictures[record.image_path]
        (world.origin / record.image_path).unlink(missing_ok=True)
        counts, name = {**NONE, "picture": {record.source: 1}}, record.image_path
    elif what == "picture record":
        del world.records[record.id]
        counts, name = {**NONE, "picture_record": {"unknown": 1}}, str(record.id)
    else:  # a record whose picture no row shows
        matches = world.matches["merged_balanced", "train"]
        shown = [m.image_id for m in matches if m.falsified]
        id = next(m.id for m in matches if m.id not in shown)
        del world.records[id]
        counts, name = {**NONE, "caption": {"unknown": 2}, "picture_record": {"unknown": 1}}, str(id)
    _rewrite(world)
    return counts, name


def _rewrite(world: World) -> None:
    if world.data_json.exists():
        world.write_data_json()
    if world.tar.exists():
        world.write_tar()
    world.write_metadata()


LOSSES = ["picture", "picture record", "caption"]
LAYOUTS = {"folder": {"tar": False}, "tar": {"folder": False}}


def _written(folder: Path) -> list[Path]:
    """The files of rows that a build left behind, complete or not."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name.startswith("newsclippings-")]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", LOSSES)
def test_error_stops_before_writing(new_world: Callable[..., World], tmp_path: Path, what: str, layout: str) -> None:
    """missing="error" counts what is missing by outlet, and leaves no file behind."""
    world = new_world(**LAYOUTS[layout])
    counts, name = _lose(world, what)
    builder = NewsCLIPpings(data_dir=str(world.root), cache_dir=str(tmp_path / "cache"))
    with pytest.raises(MissingDataError) as error:
        builder.download_and_prepare()
    message = str(error.value)
    assert name in message
    assert all(outlet in message for by_outlet in counts.values() for outlet in by_outlet)
    assert "train" in message
    assert _written(tmp_path) == []
    with pytest.raises(MissingDataError):
        load(world)
    assert _written(tmp_path) == []


@pytest.mark.parametrize("what", LOSSES)
def test_error_in_streaming(new_world: Callable[..., World], what: str) -> None:
    """A stream stops before it gives an incomplete row."""
    world = new_world(tar=False)
    _lose(world, what)
    with pytest.raises(MissingDataError):
        raw_splits(load(world, streaming=True))


@pytest.mark.parametrize(
    ("what", "layout", "missing", "streaming"), crossed(list(LOSSES), list(LAYOUTS), ["null", "drop_pair"], WAYS)
)
def test_rows_with_something_missing(
    new_world: Callable[..., World], what: str, layout: str, missing: str, streaming: bool
) -> None:
    """With "null" every row stays, with "drop_pair" both twins are dropped; the other rows keep their index."""
    world = new_world(**LAYOUTS[layout])
    _lose(world, what)
    rows = raw_splits(load(world, missing=missing, streaming=streaming))
    assert rows == expected_splits(world, missing=missing)
    assert len(rows["train"]) == (24 if missing == "null" else 22)


@pytest.mark.parametrize("what", ["picture record", "caption"])
@pytest.mark.parametrize("missing", ["null", "drop_pair"])
def test_ids_missing_without_visual_news(new_world: Callable[..., World], what: str, missing: str) -> None:
    """An id that the metadata lack is treated in the same way when rows are built from the metadata alone."""
    world = new_world(folder=False, tar=False)
    _lose(world, what)
    expected = expected_splits(world, missing=missing, images="none", captions="metadata")
    assert raw_splits(load(world, missing=missing, images="none")) == expected
    with pytest.raises(MissingDataError):
        load(world, images="none")


def test_images_none_ignores_missing_pictures(new_world: Callable[..., World]) -> None:
    """With images="none" a missing picture is not reported."""
    world = new_world(tar=False)
    _lose(world, "picture")
    assert raw_splits(load(world, images="none")) == expected_splits(world, images="none")


@pytest.mark.parametrize("missing", ["null", "drop_pair"])
@pytest.mark.parametrize("what", LOSSES)
def test_the_report(new_world: Callable[..., World], tmp_path: Path, what: str, missing: str) -> None:
    """The join report beside the data counts rows, dropped pairs and what is missing."""
    world = new_world(tar=False)
    counts, name = _lose(world, what)
    builder = NewsCLIPpings(data_dir=str(world.root), missing=missing)
    builder.download_and_prepare(str(tmp_path / "out"))
    report = builder.join_reports["train"]
    assert _nonempty(report["missing"]) == _nonempty(counts)
    assert report["rows"] == 24
    assert report["written"] == (24 if missing == "null" else 22)
    assert report["dropped_pairs"] == (0 if missing == "null" else 1)
    assert report["damage"] is None
    assert 1 <= len(report["first_missing"]) <= 5
    assert any(name in first for first in report["first_missing"])
    assert json.loads((tmp_path / "out" / "join_report.json").read_text()) == builder.join_reports


def _nonempty(missing: Row) -> Row:
    return {kind: outlets for kind, outlets in missing.items() if outlets}


@pytest.mark.parametrize("num_proc", [None, 2])
def test_the_report_of_complete_inputs(world: World, num_proc: int | None) -> None:
    """If nothing is missing the report says so; it is beside the data that load_dataset cached."""
    data = load(world, num_proc=num_proc)
    folder = Path(data["train"].cache_files[0]["filename"]).parent
    reports = json.loads((folder / "join_report.json").read_text())
    assert list(reports) == ["train", "validation", "test"]
    for split, report in reports.items():
        rows = len(world.rows(split=split))
        assert (report["rows"], report["written"], report["dropped_pairs"]) == (rows, rows, 0)
        assert (_nonempty(report["missing"]), report["first_missing"], report["damage"]) == ({}, [], None)


def _keep_only_bbc(world: World) -> None:
    world.pictures = {path: data for path, data in world.pictures.items() if path.startswith("bbc/")}
    if world.tar.exists():
        world.write_tar()
    for outlet in OUTLETS[1:]:
        shutil.rmtree(world.origin / outlet, ignore_errors=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_bbc_suggests_a_truncated_download(new_world: Callable[..., World], layout: str) -> None:
    """If only bbc's pictures exist, the error names outlets, the likely cause and some pictures."""
    world = new_world(**LAYOUTS[layout])
    lost = [row["image_path"] for row in world.rows() if not row["image_path"].startswith("bbc/")]
    _keep_only_bbc(world)
    with pytest.raises(MissingDataError, match=r"(?i)truncated|incomplete") as error:
        load(world)
    assert all(outlet in str(error.value) for outlet in OUTLETS)
    assert 1 <= sum(path in str(error.value) for path in set(lost)) <= 5


@pytest.mark.parametrize("missing", ["null", "drop_pair"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_bbc_alone_are_built(new_world: Callable[..., World], layout: str, missing: str) -> None:
    """Rows are built from bbc alone, and the report counts the rows without a picture by outlet."""
    pairs = {"train": 16, "validation": 12, "test": 12}
    world = new_world(**LAYOUTS[layout], pairs=pairs, seed=3)  # in each split, at least one pair has only bbc pictures
    _keep_only_bbc(world)
    assert raw_splits(load(world, missing=missing)) == expected_splits(world, missing=missing)
    builder = NewsCLIPpings(data_dir=str(world.root), missing=missing)
    builder.download_and_prepare()
    for split, report in builder.join_reports.items():
        lost = [row["image_source"] for row in world.rows(split=split) if row["image"] is None]
        assert _nonempty(report["missing"]) == {"picture": {outlet: lost.count(outlet) for outlet in set(lost)}}
        assert report["written"] == len(world.rows(split=split, missing=missing))
        assert report["dropped_pairs"] * 2 == report["rows"] - report["written"]


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_split_without_any_row_left_is_an_error(new_world: Callable[..., World], streaming: bool) -> None:
    """If dropping pairs would leave no row of a split, that is an error, not an empty split."""
    world = new_world(tar=False)
    for row in world.rows(split="validation"):
        (world.origin / row["image_path"]).unlink(missing_ok=True)
    with pytest.raises(MissingDataError, match="validation"):
        raw_splits(load(world, missing="drop_pair", streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("missing", ["error", "null", "drop_pair"])
def test_no_visual_news(new_world: Callable[..., World], missing: str, streaming: bool, tmp_path: Path) -> None:
    """Without VisualNews the error shows the expected tree, what was found, where to get it, and two alternatives."""
    world = new_world(folder=False, tar=False)
    with pytest.raises(DataNotFoundError) as error:
        load(world, missing=missing, streaming=streaming)
    message = str(error.value)
    for part in (
        str(world.root),
        "visual_news",
        "origin.tar",
        "data.json",
        "visual_news=",
        "images=",
        "none",
        "http",
    ):
        assert part in message, part
    assert _written(tmp_path) == []


def test_no_visual_news_at_the_place_named(world: World, tmp_path: Path) -> None:
    """A visual_news= folder without VisualNews is an error that names it, even if data_dir has VisualNews."""
    (tmp_path / "wrong").mkdir()
    with pytest.raises(DataNotFoundError, match="wrong"):
        load(world, visual_news=str(tmp_path / "wrong"))


@pytest.mark.parametrize("options", [{}, {"images": "none"}], ids=["pictures", "no pictures"])
def test_nothing_at_all_offline(options: dict[str, Any]) -> None:
    """Offline and without any local file, the error says how to set the folder."""
    with pytest.raises(DataNotFoundError, match="data_dir"):
        load_dataset("newsclippings", "merged_balanced", **options)


def test_a_stream_logs_dropped_rows_once(new_world: Callable[..., World], caplog: pytest.LogCaptureFixture) -> None:
    """Dropped rows are logged once per group of rows that is joined together, not once per shard."""
    world = new_world(tar=False)
    _lose(world, "picture")
    with caplog.at_level("WARNING"):
        stream = load(world, missing="null", streaming=True, split="train")
        rows = raw(stream)
    told = [record.getMessage() for record in caplog.records if "merged_balanced/train: " in record.getMessage()]
    counted = [int(match[1]) for text in told if (match := re.search(r"(\d+) of \d+ rows", text))]
    assert 1 <= len(told) <= 2
    assert sum(counted) <= len(rows) == 24


def test_the_error_says_what_dropping_leaves(new_world: Callable[..., World]) -> None:
    """The error counts the rows that `drop_pair` would leave; if it leaves none, the error says that instead."""
    world = new_world(tar=False)
    _lose(world, "picture")
    with pytest.raises(MissingDataError) as error:
        load(world, split="train")
    left = load(world, split="train", missing="drop_pair")
    says = f"missing='drop_pair' would leave {len(left)} of 24 rows, half of them pristine."
    assert says in str(error.value)
    assert sum(left["falsified"]) == len(left) // 2 == 11
    for row in world.rows(split="test"):
        if row["falsified"]:  # pictures of pristine rows, too, but not all: no pair is whole
            (world.origin / row["image_path"]).unlink(missing_ok=True)
    with pytest.raises(MissingDataError, match="drop_pair' would leave nothing of test"):
        load(world, split="test")


def test_incomplete_rows_are_logged_at_each_load(new_world: Callable[..., World]) -> None:
    """Rows that a process finds in the cache are reported, too: it may not have built them."""
    world = new_world(tar=False)
    _lose(world, "picture")
    logger, lines = logging.getLogger("newsclippings"), list[str]()
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        for _ in range(2):
            load(world, split="train", missing="drop_pair")
            (line,) = [line for line in lines if line.startswith("merged_balanced/train: 22 of 24 rows")]
            assert "1 pairs dropped" in line
            lines.clear()
    finally:
        logger.removeHandler(handler)


def test_the_error_has_separate_lines_for_each_split(new_world: Callable[..., World]) -> None:
    """If several splits are incomplete, the error has real line breaks, not escaped ones."""
    world = new_world(tar=False)
    for path in world.pictures:
        (world.origin / path).unlink()
    with pytest.raises(MissingDataError) as error:
        load(world)
    lines = str(error.value).split("\n")
    for split, rows in (("train", 24), ("validation", 10), ("test", 12)):
        assert f"merged_balanced/{split}: expected {rows} complete rows, found 0." in [line.strip() for line in lines]
    assert "\\n" not in str(error.value)
