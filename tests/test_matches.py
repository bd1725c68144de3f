"""Reading the matches: the fast and the exact reader agree, and an error names the row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dialects import DIALECTS, dump
from support.json_records import rows

from _newsclippings.matches import SCHEMA, read_matches
from newsclippings import BadFileError

Row = dict[str, Any]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.sampled_from([None, 1, 4]), st.sampled_from([None, (",", ":")]))
def test_values_are_read_exactly(tmp_path: Path, plan: list[Row], indent: int | None, separators: Any) -> None:
    """Any numbers in any layout are read exactly, in the order of the file."""
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"annotations": plan}, indent=indent, separators=separators))
    assert read_matches(str(file), "merged_balanced").to_pylist() == plan


def test_the_official_layout_takes_the_fast_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the authors' layout is not decoded row by row."""
    monkeypatch.setattr("_newsclippings.matches._read_exact", None)
    row = {"id": 620701, "image_id": 1179991, "similarity_score": 0.847127, "source_dataset": 2, "falsified": True}
    names = {"0": "semantics_clip_text_image", "1": "semantics_clip_text_text"}
    names |= {"2": "scene_resnet_place", "3": "person_sbert_text_text"}
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"source_datasets": names, "annotations": [row] * 3}))
    table = read_matches(str(file), "merged_balanced")
    assert table.schema == SCHEMA
    assert table.to_pylist() == [row] * 3


GOOD = {"id": 1, "image_id": 2, "similarity_score": 0.5, "source_dataset": 0, "falsified": True}


def changed(**fields: Any) -> str:
    row = {name: value for name, value in {**GOOD, **fields}.items() if value is not ...}
    return json.dumps({"annotations": [GOOD, row]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty file"),
        ("<html>", "an HTML page"),
        ("version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (changed()[:-3], "expected JSON"),
        ("[]", "an object with a list 'annotations'"),
        ("{}", "an object with a list 'annotations'"),
        ('{"annotations": {}}', "an object with a list 'annotations'"),
        ('{"annotations": []}', "at least one match"),
        ('{"annotations": [5]}', "row 0: expected an object, found 5"),
        (changed(id=...), "row 1: expected the keys.*no id"),
        (changed(id="1"), "row 1: expected an integer as id, found '1'"),
        (changed(id=1.5), "row 1: expected an integer as id, found 1.5"),
        (changed(id=True), "row 1: expected an integer as id, found True"),
        (changed(image_id=None), "row 1: expected an integer as image_id, found None"),
        (changed(image_id=2**63), "too large for 64 bits"),
        (changed(similarity_score="0.5"), "row 1: expected a finite number"),
        (changed(similarity_score=True), "row 1: expected a finite number"),
        (changed(similarity_score=float("nan")), "NaN"),
        (changed(similarity_score=0.5).replace("0.5", "1e999"), "row 0: expected a finite number"),
        (changed(falsified=2), "row 1: expected true, false, 0 or 1 as falsified, found 2"),
        (changed(falsified="false"), "row 1: expected true, false, 0 or 1 as falsified"),
        (changed(falsified=None), "row 1: expected true, false, 0 or 1 as falsified"),
        (changed(source_dataset=4), "source_dataset from 0 to 3, found 4"),
        (changed(source_dataset=-1), "source_dataset from 0 to 3, found -1"),
        (changed(source_dataset="0"), "row 1: expected an integer as source_dataset"),
        (changed().replace('"id": 1', '"id": 1, "id": 1', 1), "more than once in an object"),
        ('{"source_datasets": ["x"], ' + changed()[1:], r"source_datasets as a list.*\['x'\]"),
        ('{"source_datasets": {"1": "scene_resnet_place"}, ' + changed()[1:], "source_datasets as a list"),
        (
            '{"source_datasets": ["scene_resnet_place", "scene_resnet_place"], ' + changed()[1:],
            "source_datasets as a list",
        ),
        ('{"source_datasets": 5, ' + changed()[1:], "source_datasets as a list.*found 5"),
    ],
)
def test_a_malformed_file_is_named_with_its_row(tmp_path: Path, text: str, says: str) -> None:
    """Each fault is one error that names the file, the row, what was expected and what was found."""
    file = tmp_path / "val.json"
    file.write_text(text)
    with pytest.raises(BadFileError, match=f"(?s)val.json.*{says}"):
        read_matches(str(file), "merged_balanced")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=12), st.integers(0, 200), st.integers(0, 12))
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, noise: bytes, at: int, cut: int) -> None:
    """A damaged file gives what a strict JSON decoder reads, or BadFileError."""
    good = changed().encode()
    file = tmp_path / "val.json"
    text = good[:at] + noise + good[at + cut :]
    file.write_bytes(text)
    try:
        found = read_matches(str(file), "merged_balanced").to_pylist()
    except BadFileError:
        return
    plan = json.loads(text)["annotations"]
    assert [row["id"] for row in found] == [row["id"] for row in plan]
    assert [row["image_id"] for row in found] == [row["image_id"] for row in plan]
    assert [row["falsified"] for row in found] == [bool(row["falsified"]) for row in plan]
    assert [row["similarity_score"] for row in found] == [row["similarity_score"] for row in plan]


RECORD: Row = {"id": 7, "caption": 'He said {"id": "id"} and [left], }{ ', "topic": "law_crime"}
CARRIED: dict[str, Row] = {
    "a caption": {"caption": RECORD["caption"]},
    "a record": {"visual_news": RECORD},
    "two records": {"caption_record": RECORD, "image_record": {**RECORD, "more": {"id": 8}}},
    "records in a list": {"records": [RECORD, RECORD], "entities": [["Ada", "PERSON"]]},
    "braces that pair": {"caption": "}{", "words": "id"},
    "a caption that ends like a row": {"caption": "}, {"},
}


@pytest.mark.parametrize("first", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("carried", CARRIED)
def test_rows_that_carry_their_record(tmp_path: Path, carried: str, dialect: str, first: bool) -> None:
    """Whatever else rows hold, each has its own numbers, and as many rows as the list has."""
    plan = [{**GOOD, "id": number, "falsified": number % 2 == 1} for number in range(10)]
    more = CARRIED[carried]
    file = tmp_path / "train.json"
    file.write_text(dump({"annotations": [{**more, **row} if first else {**row, **more} for row in plan]}, dialect))
    assert read_matches(str(file), "merged_balanced").to_pylist() == plan


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"id": "39136", "image_id": "-7"}, {"id": 39136, "image_id": -7}),
        ({"id": 39136.0, "source_dataset": 2.0}, {"id": 39136, "source_dataset": 2}),
        ({"falsified": "False", "source_dataset": "3"}, {"falsified": False, "source_dataset": 3}),
        ({"falsified": "true"}, {"falsified": True}),
    ],
)
def test_columns_of_text_or_floats_are_converted(tmp_path: Path, fields: Row, row: Row) -> None:
    """Numbers as text or floats, and booleans as words, as a CSV file leaves them, are converted in every row."""
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"annotations": [{**GOOD, **fields}] * 3}))
    assert read_matches(str(file), "merged_balanced").to_pylist() == [{**GOOD, **row}] * 3


@pytest.mark.parametrize("value", ["1x", "1_0", "9" * 19, 1e17, 1.5, "", "true"])
def test_columns_of_other_values_are_refused(tmp_path: Path, value: Any) -> None:
    """Text and floats that are no integers, in every row, are an error that names the first row."""
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"annotations": [{**GOOD, "id": value}] * 3}))
    with pytest.raises(BadFileError, match="row 0: expected an integer as id, found "):
        read_matches(str(file), "merged_balanced")
