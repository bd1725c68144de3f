"""Picking records from a large JSON file: the fast and the exact scan agree, and neither is misled."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.constants import change_constant
from support.json_records import FAST, LAYOUTS, Record, exactly, make

from _newsclippings.corpus import exact_scan, fast_scan
from _newsclippings.corpus.records import SCHEMA, pick_records
from newsclippings import BadFileError


def pick(text: str | bytes, wanted: list[int]) -> list[Record]:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    table = pick_records(lambda: io.BytesIO(data), "x.json", np.array(sorted(wanted), np.int64), SCHEMA)
    rows: list[Record] = table.to_pylist()
    return rows


captions = st.lists(st.sampled_from(["a", " ", '"', "\\", "{", "}", "[", ", ", ": ", "é", "\u2028", '{"id": 7', "😀"]))


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(captions.map("".join), min_size=1, max_size=40),
    layout=st.sampled_from(sorted(LAYOUTS)),
    block=st.sampled_from([600, 1024, 1 << 20]),
    data=st.data(),
)
def test_every_layout_gives_the_same_records(texts: list[str], layout: str, block: int, data: st.DataObject) -> None:
    """For any layout, block size and captions, exactly the wanted records are found, sorted by id."""
    ids = data.draw(st.lists(st.integers(0, 3000), min_size=len(texts), max_size=len(texts), unique=True))
    rows = [make(number, text) for number, text in zip(ids, texts, strict=True)]
    wanted = data.draw(st.lists(st.sampled_from([*ids, 3001, 10**12]), unique=True))
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "BLOCK", block, of="fast_scan")
        assert pick(LAYOUTS[layout](rows), wanted) == exactly(rows, wanted)


@pytest.mark.parametrize("layout", FAST)
def test_usual_layouts_take_the_fast_scan(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files in the layouts of json.dump are read without decoding every record."""
    monkeypatch.setattr(exact_scan, "walk_records", None)
    rows = [make(n, 'a { b "quoted" \\ word, { and é}') for n in range(1, 60_000, 7)]  # several blocks
    wanted = [rows[k]["id"] for k in (0, 1, 500, len(rows) - 1)]
    assert pick(LAYOUTS[layout](rows), wanted) == exactly(rows, wanted)


@pytest.mark.parametrize("number", [0, 9, 10, 9_999_999, 10_000_000, 123_456_789, 2**53 + 1, 2**63 - 1, -5])
def test_ids_of_any_size(number: int) -> None:
    """Ids are compared completely, with any number of digits."""
    rows = [make(12), make(number), make(34)]
    assert pick(json.dumps(rows), [number, 1]) == exactly(rows, [number])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "an empty file"),
        ("  ", "an empty file"),
        ("null", "a list of records"),
        ("[]", "expected records, found none"),
        ("{}", "expected records, found none"),
        ("<!DOCTYPE html><html>", "an HTML page"),
        ("version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (json.dumps([make(1), make(2)])[:-1], "record 2.*truncated"),
        (json.dumps([make(1), make(2)])[:-30], "record 1.*truncated"),
        (json.dumps({"1": make(1), "2": make(2)})[:-1], "record 2.*truncated"),
        (json.dumps([make(1)]) + "]", "the end of the file, found ']'"),
        ("[" * 100_000, "nested too deeply"),
        ('{"2": ' + json.dumps(make(1)) + "}", "the record of id '2', found that of 1"),
        ("[5]", r"expected a record"),
        (json.dumps([make(1), make(1)]), "each id once"),
        (json.dumps([make(1)]).replace('"id": 1', '"id": "1"'), "an integer id"),
        (json.dumps([make(1)]).replace('"id": 1', '"id": 1.0'), "an integer id"),
        (json.dumps([make(1)]).replace('"id": 1', '"id": true'), "an integer id"),
        (json.dumps([make(1)]).replace('"id": 1', '"id": 1, "id": 1'), "more than once in an object"),
        (json.dumps([make(1)]).replace('"c"', "NaN"), "NaN"),
        (json.dumps([make(1)]).replace('"c"', "1e999999, 0"), "record 0"),
        (json.dumps([make(1)]).replace('"c"', "null"), "a string as caption, found None"),
        (json.dumps([make(1)]).replace('"caption"', '"text"'), "a string as caption, found no such key"),
        (json.dumps([make(1)]).replace('"c"', '"\\ud800"'), "a lone surrogate"),
        (json.dumps([make(1)]).replace('"c"', '"\ud800"'), "UTF-8"),
        (json.dumps([make(1)]).replace('"c"', '"a\nb"'), "control character"),
        (json.dumps([make(1)]).replace('"c"', "9" * 5000), "too large for 64 bits"),
    ],
)
def test_a_malformed_file_is_named_with_record_and_byte(text: str, says: str) -> None:
    """Each fault is one error that names the file, the record and the byte."""
    with pytest.raises(BadFileError, match=f"(?s)x.json.*{says}"):
        pick(text, [1, 2])


def test_a_fault_after_the_wanted_records_is_found() -> None:
    """A truncated file is an error even if it has all wanted records."""
    with pytest.raises(BadFileError, match="truncated"):
        pick(json.dumps([make(1), make(2), make(3)])[:-9], [1])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 12))
def test_damaged_bytes_never_raise_anything_else(noise: bytes, at: int, cut: int) -> None:
    """A damaged file gives the right records or BadFileError; never another exception or a wrong record."""
    rows = [make(n, f"caption {n}") for n in (5, 6, 7)]
    good = json.dumps(rows).encode()
    text = good[:at] + noise + good[at + cut :]
    try:
        found = pick(text, [5, 6, 7])
    except BadFileError:
        return
    assert found == exactly(json.loads(text), [5, 6, 7])


def test_a_record_larger_than_a_block_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that is longer than the window is read."""
    change_constant(monkeypatch, "BLOCK", 512, of="fast_scan")
    rows = [make(1, "x" * 5000), make(2), make(3, "y" * 700)]
    assert pick(json.dumps(rows), [1, 3]) == exactly(rows, [1, 3])


def test_memory_is_bounded_by_the_block_size() -> None:
    """Reading two records of a 40 MB stream never requests more than a block at a time."""

    class Counting(io.BytesIO):
        largest = 0

        def readinto(self, buffer: Any) -> int:
            Counting.largest = max(Counting.largest, len(buffer))
            return super().readinto(buffer)

    row = json.dumps(make(8, "c" * 100))
    text = ("[" + json.dumps(make(1)) + (", " + row) * 1000 + ", " + json.dumps(make(2)) + "]").encode()
    table = pick_records(lambda: Counting(text), "x.json", np.array([1, 2], np.int64), SCHEMA)
    assert isinstance(table, pa.Table)
    assert table["id"].to_pylist() == [1, 2]
    assert Counting.largest <= fast_scan.BLOCK
