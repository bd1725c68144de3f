"""JSON files with one or two changed tokens give what Python's decoder reads, or one of our errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from support.json_readers import BY_ID, MATCHES, RECORDS, read
from support.metadata import in_words
from support.mutants import for_all, mutants

from _newsclippings.corpus.records import SCHEMA
from _newsclippings.storage.paths import normalise_path
from newsclippings import NewsCLIPpingsError

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|[a-z]+|\s+|.', re.DOTALL)
ODD_TOKENS = [
    *("null", "true", "false", "0", "1", "-1", "-0", "2", "3", "1.0", "1e0", "01", "1e999", str(2**63), str(2**70)),
    *("NaN", "-Infinity", '""', '"1"', '"id"', '"\\ud800"', '"\\u0069d"', '"é"', '"annotations"', '"source_datasets"'),
    *("[]", "{}", "[", "]", "{", "}", ",", ":", " ", "\n", "\r", "\t", "\x0c", "\0", "\ufeff", "}, {", '{"id": 1}'),
    *("},", "}}", "]]", '"x": 1,', '"x": [{"id": 2}],', '"id": 1,', '"annotations": [],'),
]
ways = st.sampled_from(["put", "drop", "swap", "again", "before"])
changes = st.lists(st.tuples(ways, st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=3)
LAYOUTS: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}]


def mutant(good: str, made: list[tuple[str, int, int]]) -> str:
    tokens = TOKEN.findall(good)
    for how, one, two in made:
        at, other = one % max(1, len(tokens)), two % max(1, len(tokens))
        if how == "put":
            tokens[at : at + 1] = [ODD_TOKENS[two % len(ODD_TOKENS)]]
        elif how == "before":
            tokens[at:at] = [ODD_TOKENS[two % len(ODD_TOKENS)]]
        elif how == "drop":
            tokens[at : at + 1 + two % 3] = []
        elif how == "again":
            tokens[at:at] = tokens[other : other + 40]
        elif tokens:
            tokens[at], tokens[other] = tokens[other], tokens[at]
    return "".join(tokens)


def plain(text: str) -> Any:
    """Return what Python's decoder reads from a text."""
    return json.loads(text.removeprefix("\ufeff"))


@mutants(400)
def test_mutants_of_matches(tmp_path: Path, examples: int) -> None:
    """A mutant of the matches gives all rows that Python's decoder reads, or one of our errors."""

    def check(layout: dict[str, Any], made: list[tuple[str, int, int]]) -> None:
        names = {"0": "semantics_clip_text_image", "1": "semantics_clip_text_text", "2": "scene_resnet_place"}
        names |= {"3": "person_sbert_text_text"}
        text = mutant(json.dumps({"source_datasets": names, **json.loads(MATCHES)}, **layout), made)
        try:
            rows = read("annotations", text, tmp_path)
        except NewsCLIPpingsError:
            rows = []
        if rows:
            content = plain(text)
            known = content.get("source_datasets") or names
            assert len(rows) == len(content["annotations"])
            for row, expected in zip(rows, content["annotations"], strict=True):
                for name in ("id", "image_id", "similarity_score", "falsified"):
                    assert row[name] == expected[name]
                assert type(expected["id"]) is type(expected["image_id"]) is int
                if (code := expected.get("source_dataset")) is not None:
                    name = known[code if isinstance(known, list) else str(code)]
                    assert list(names.values())[row["source_dataset"]] == name

    for_all(check, examples, st.sampled_from(LAYOUTS), changes)


@mutants(500)
def test_mutants_of_records(tmp_path: Path, examples: int) -> None:
    """A mutant of the records, in both layouts and readers, gives every wanted record, or one of our errors."""

    def check(reader: str, by_id: bool, layout: dict[str, Any], made: list[tuple[str, int, int]]) -> None:
        text = mutant(json.dumps(json.loads(BY_ID if by_id else RECORDS), **layout), made)
        try:
            rows = read(reader, text, tmp_path)
        except NewsCLIPpingsError:
            return
        try:
            content = plain(text)
        except ValueError:  # in a record that is not wanted, and so not decoded
            assert set(re.findall(r'{\s*"id"\s*:\s*([^\s,}]+)', text)) - {"1", "2", "3"}
            return
        records = list(content.values()) if isinstance(content, dict) else content
        kept = sorted((r for r in records if r["id"] in (1, 2, 3)), key=lambda r: int(r["id"]))
        assert all(type(record["id"]) is int for record in kept)
        expected = []
        for record in kept:
            row = {name: record[name] for name in SCHEMA.names}
            row["image_path"] = normalise_path(row["image_path"])
            if reader == "metadata":
                row["metadata"] = in_words(record)
            expected.append(row)
        assert rows == expected

    for_all(
        check, examples, st.sampled_from(["data.json", "metadata"]), st.booleans(), st.sampled_from(LAYOUTS), changes
    )
