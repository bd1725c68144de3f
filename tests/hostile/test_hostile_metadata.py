"""Metadata that are valid JSON with wrong content: the error has id, field and value."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.json_readers import BY_ID, RECORD, read, refuse
from support.metadata import in_words

from newsclippings import BadFileError

ODD = {
    "title": [5, True, ["x"], {}],
    "timestamp": [5, False, 2015.5, []],
    "image_has_person": [0, 1, "true", []],
    "caption_entities_spacy": [False, 0, "", {}, "x", [5], [[]], [["a"]], [["a", "b", "c"]], [["a", None]], [{}]],
    "caption_entities_rel": [False, 0, "", {}, [["a", "b", "c"]], [["a", "b", "c", "1"]], [["a", "b", "c", True]],
                             [["a", "b", None, 1]]],
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_metadata_of_another_shape(name: str, tmp_path: Path) -> None:
    """A field of another type, even empty or zero, is refused with id and value; null means unknown."""
    for value in ODD[name]:
        text = json.dumps({str(n): {**RECORD, "id": n, **({name: value} if n == 2 else {})} for n in (1, 2, 3)})
        refuse("metadata", text, tmp_path, f" as {name}, found {re.escape(repr(value))}")
        with pytest.raises(BadFileError, match="metadata: id 2: expected"):
            read("metadata", text, tmp_path)
    for empty in ({name: None}, {}):
        record = {key: value for key, value in RECORD.items() if key != name} | empty
        (row,) = read("metadata", json.dumps({"1": record}), tmp_path)
        assert row["metadata"] == in_words(record)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"title": null', '"title": "\\ud800"', "expected Unicode text in the metadata, found a lone surrogate"),
        ("2015-12", "\\udc00", "expected Unicode text in the metadata, found a lone surrogate"),
        ("Celtic", "\\ud800", "expected Unicode text in the metadata, found a lone surrogate"),
        ("Anthony_Stokes", "\\ud800", "expected Unicode text in the metadata, found a lone surrogate"),
        ("0.9918", "1e999", "expected finite numbers in caption_entities_rel, found inf"),
    ],
)
def test_metadata_that_no_table_can_hold(old: str, new: str, says: str, tmp_path: Path) -> None:
    """Values that a table cannot hold are refused, with the id and what was found."""
    head, _, tail = BY_ID.rpartition(old)
    with pytest.raises(BadFileError, match=f"metadata: id 3: {says}. Fetch the file again."):
        read("metadata", head + new + tail, tmp_path)
    assert len(read("metadata", BY_ID.replace("0.9918", str(2**63 - 1)), tmp_path)) == 3
