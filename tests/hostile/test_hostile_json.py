"""Hostile JSON: each of the three readers refuses every kind of damage, with what was found and where."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.json_readers import BY_ID, MATCH, MATCHES, RECORD, RECORDS, read, refuse

from _newsclippings.matches import read_matches
from newsclippings import BadFileError

GOOD = {"annotations": MATCHES, "data.json": RECORDS, "metadata": BY_ID}


@pytest.mark.parametrize("reader", GOOD)
def test_the_valid_file_is_read(reader: str, tmp_path: Path) -> None:
    """The valid file that the others are made from is read, also after a byte order mark or many blanks."""
    for text in (GOOD[reader], "\ufeff" + GOOD[reader], " \n" * 90 + GOOD[reader], GOOD[reader] + "\r\n\t "):
        assert [row["id"] for row in read(reader, text, tmp_path)] == [1, 2, 3]


WHOLE: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "empty": (lambda good: b"", "found an empty file"),
    "blanks only": (lambda good: " \n" * 900, "found an empty file"),
    "a web page": (lambda good: "\n<!DOCTYPE html><html></html>", "found an HTML page"),
    "a server's XML": (lambda good: '<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML page"),
    "a pointer": (lambda good: "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "gzip": (lambda good: gzip.compress(good.encode()), "found a gzip archive"),
    "zip": (lambda good: b"PK\x03\x04" + bytes(90), "found a zip archive"),
    "UTF-16": (lambda good: good.encode("utf-16"), "UTF-8"),
    "UTF-16 without its mark": (lambda good: good.encode("utf-16-le"), r"found '\\x00"),
    "UTF-32": (lambda good: good.encode("utf-32"), "UTF-8"),
    "zeros": (lambda good: bytes(5000), r"found '\\x00"),
    "cut before the end": (lambda good: good[:-1], r"found the end of the file \(truncated\)"),
    "cut behind a row": (lambda good: good[: good.index("}") + 1], r"\(truncated\)"),
    "cut behind the last row": (lambda good: good[: good.rindex("}", 0, -1) + 1 - ("[{" in good)], r"\(truncated\)"),
    "cut behind a comma": (lambda good: good[: good.rindex(',') + 1], r"\(truncated\)"),
    "cut in a key": (lambda good: good[: good.rindex('"') - 3], r"\(truncated\)"),
    "text behind": (lambda good: good + "x", "found 'x'"),
    "a zero behind": (lambda good: good + "\0", r"found '\\x00'"),
    "itself behind": (lambda good: good + good, r"found '[\[{]"),
    "a bracket behind": (lambda good: good + "]", "found ']'"),
    "nested 100,000 deep": (lambda good: "[" * 100_000, "nested too deeply"),
    "5 million brackets": (lambda good: "[" * 5_000_000, "nested too deeply"),
    "a million tables": (lambda good: '{"1":' * 1_000_000, "nested too deeply"),
    "a deep value": (lambda good: good.replace('"id": 2', '"id": ' + "[" * 10**5 + "]" * 10**5), "nested too deeply"),
    "a deep field": (lambda good: good.replace('"id": 2', '"id": 2, "x": ' + '{"a":' * 10**5 + "1" + "}" * 10**5),
                     "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("what", WHOLE)
@pytest.mark.parametrize("reader", GOOD)
def test_other_files_are_recognised(reader: str, what: str, tmp_path: Path) -> None:
    """For another file in place of JSON, or a part of it, the error says what it is."""
    change, says = WHOLE[what]
    refuse(reader, change(GOOD[reader]), tmp_path, says)


@pytest.mark.parametrize(
    ("text", "of_matches", "of_records"),
    [
        ("null", "an object with a list 'annotations', found None", "a list of records, or a table of them.*found 'n'"),
        ("true", "an object with a list 'annotations', found True", "a list of records, or a table of them.*found 't'"),
        ("5", "an object with a list 'annotations', found 5", "a list of records, or a table of them.*found '5'"),
        ('"x"', "an object with a list 'annotations', found 'x'", "a list of records, or a table of them.*found '\"'"),
        ('{"error": "x"}', "found {'error': 'x'}", r"record 0 .*expected a record \({...}\), found 'x'"),
        ("[[]]", r"found \[\[\]\]", r"record 0 .*expected a record \({...}\), found \[\]"),
        ("[1, 2]", r"found \[1, 2\]", r"record 0 .*expected a record \({...}\), found 1"),
        ('{5: {"id": 5}}', "found '5: ", "record 0 .*expected an id in quotes as key, found 5"),
        ('{"k": {"id": 1}}', "found {'k': {'id': 1}}", "record 0 .*expected the record of id 'k', found that of 1"),
        ('{"1": {"id": 1.0}}', "found {'1'", "record 0 .*expected the record of id '1', found that of 1.0"),
        (f'{{"{"k" * 999_999}": {{}}}}', "found {'k", "record 0 .*the record of id 'kkk.*, found that of None"),
    ],
)  # fmt: skip
def test_json_of_something_else(text: str, of_matches: str, of_records: str, tmp_path: Path) -> None:
    """For valid JSON of another structure, the error says what it is instead."""
    for reader in GOOD:
        found = of_matches if reader == "annotations" else of_records
        with pytest.raises(BadFileError, match=f"{reader}: .*{found}") as error:
            read(reader, text, tmp_path)
        assert len(str(error.value)) < 400


# replacement of `"id": 2` -> what the error says was found
FAULTS = {
    '"id": NaN': "NaN, which is not JSON",
    '"id": Infinity': "Infinity, which is not JSON",
    '"id": 2, "x": -Infinity': "-Infinity, which is not JSON",
    '"id": 2, "id": 2': "the key 'id' more than once in an object",
    '"id": 2, "x": {"y": 1, "y": 2}': "the key 'y' more than once in an object",
    f'"id": {2**63}': "an integer of 19 digits, too large for 64 bits",
    f'"id": {2**70}': "an integer of 22 digits, too large for 64 bits",
    f'"id": -{2**70}': "an integer of 23 digits, too large for 64 bits",
    '"id": ' + "9" * 5000: "an integer of 5000 digits, too large for 64 bits",
    '"id": 02': "'2,",
    '"id": +2': r"'\+2,",
    '"id": 0x2': "'x2,",
    '"id": True': "'True,",
    '"id": undefined': "'undefined,",
    '"id" 2': "'2,",
    '"id": 2 "x": 1': '\'"x": 1,',
    "'id': 2": r"['\"].{0,2}'id",
    '"id": 2 /* two */': r"'/\* two",
    '"i\nd": 2': r"'\\nd",
    '"id": 2, "\\q": 1': r"'\\\\q",
    '"id": 2, "x": "\\u12"': r"'\\\\u12|'u12|'12",
}


@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
@pytest.mark.parametrize("reader", GOOD)
def test_extensions_of_json_are_refused(reader: str, fault: str, tmp_path: Path) -> None:
    """What only Python or JavaScript accept is refused, with the wrong text and its record."""
    text = GOOD[reader].replace('"id": 2', fault)
    if (reader, fault) == ("data.json", '"id": 2, "x": -Infinity'):  # in a field that is not read
        assert [row["id"] for row in read(reader, text, tmp_path)] == [1, 2, 3]
        return
    refuse(reader, text, tmp_path, f"found {FAULTS[fault]}")
    if reader != "annotations":
        with pytest.raises(BadFileError, match=r"record 1 \(near byte \d+\)"):
            read(reader, text, tmp_path)


@pytest.mark.parametrize("reader", GOOD)
def test_bad_bytes_are_named_by_their_place(reader: str, tmp_path: Path) -> None:
    """For invalid UTF-8 or a lone surrogate, the error has the byte."""
    for bad in (b"\xff", b"\xc3(", b"\xed\xa0\x80"):
        data = GOOD[reader].encode().replace(b'"id": 3', b'"id": 3, "x' + bad + b'": 1')
        place = data.index(bad)
        refuse(reader, data, tmp_path, "UTF-8")
        with pytest.raises(BadFileError, match=rf"byte {place}\b.*") as error:
            read(reader, data, tmp_path)
        assert reader == "annotations" or "record 2 " in str(error.value)


@pytest.mark.parametrize("between", ["", ",,", ";", ", null,", ", 5,", ",\0"], ids=ascii)
@pytest.mark.parametrize("reader", GOOD)
def test_rows_without_one_comma_between_them(reader: str, between: str, tmp_path: Path) -> None:
    """Missing or extra commas between rows are refused; no row is lost or invented."""
    text = re.sub(r"}, (?=.{1,8}\b2)", "}" + between.replace("\0", r"\\0") + " ", GOOD[reader], count=1)
    assert text != GOOD[reader]
    with pytest.raises(BadFileError, match=f"{reader}: .*expected .*found "):
        read(reader, text, tmp_path)


@pytest.mark.parametrize("reader", GOOD)
def test_a_comma_before_the_first_row_or_after_the_last(reader: str, tmp_path: Path) -> None:
    """A leading or trailing comma, and wrong brackets, are refused."""
    good, closing = GOOD[reader], {"annotations": "]}", "data.json": "]", "metadata": "}"}[reader]
    for end in (",", ", ", ",\n\n", "}", "]]", "x"):
        with pytest.raises(BadFileError, match=f"{reader}: .*expected .*found "):
            read(reader, good[: -len(closing)] + end + closing, tmp_path)
    with pytest.raises(BadFileError, match=f"{reader}: .*expected .*found ',"):
        read(reader, re.sub(r"[\[{](?=[{\"][^a])", lambda m: m[0] + ",", good, count=1), tmp_path)


ONE = json.dumps(MATCH)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'{{"annotations": [{ONE}], "annotations": []}}', "the key 'annotations' more than once"),
        (f'{{"annotations": [], "annotations": [{ONE}]}}', "the key 'annotations' more than once"),
        (f'{{"x": "annotations", "y": [{ONE}], "annotations": []}}', "at least one match.*an empty list"),
        (f'{{"x": {{"annotations": [{ONE}]}}, "annotations": []}}', "at least one match.*an empty list"),
        (f'{{"x": {{"annotations": [{ONE}]}}, "annotations": [0]}}', "an object, found 0"),
        (f'{{"annotations": [null{ONE}]}}', "'{\"id\": 1, "),  # Arrow crashes at it
        (f'{{"annotations": [null, {ONE}]}}', "an object, found None"),
        (f'{{"annotations": [{ONE}, null]}}', "an object, found None"),
        (f'{{"annotations": [{ONE[:-1]}\0{ONE[1:]}]}}', r"'\\x00\"id"),
        (f'{{"x": NaN, "annotations": [{ONE}]}}', "NaN, which is not JSON"),
        (f'{{"annotations": [{ONE[:-1]}, "x": NaN}}]}}', "NaN, which is not JSON"),
        (f'{{"annotations": [{ONE[:-1]}, "x": 1, "x": 2}}]}}', "the key 'x' more than once"),
        (f'{{"annotations": [{ONE.replace("0.5", str(2**70))}]}}', "an integer of 22 digits"),
        (f'{{"source_datasets": ["\\ud800"], "annotations": [{ONE}]}}', r"source_datasets as a list.*\['\\ud800'\]"),
        (f'{{"source_datasets": {{"0": "scene_resnet_place", "0": "x"}}, "annotations": [{ONE}]}}', "the key '0'"),
        (f'{{"annotations": [[{ONE}]]}}', r"an object, found \[{'id'"),
    ],
)  # fmt: skip
def test_lists_that_are_not_the_matches(text: str, says: str, tmp_path: Path) -> None:
    """Only the list under the top-level key counts, and the fast and the exact reader refuse the same other lists."""
    refuse("annotations", text, tmp_path, says)


WRONG = {"null": None, "text": "2", "float": 2.0, "bool": True, "list": [2], "table": {"id": 2}}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("reader", GOOD)
def test_ids_of_another_type(reader: str, kind: str, tmp_path: Path) -> None:
    """An id must be an integer; the error has the row or record, and the value."""
    value = WRONG[kind]
    text = GOOD[reader].replace('"id": 2', f'"id": {json.dumps(value)}')
    says = {
        "annotations": f"row 1: expected an integer as id, found {re.escape(repr(value))}",
        "data.json": f"record 1: expected an integer id, found {re.escape(repr(value))}",
        "metadata": f"record 1 .*: expected the record of id '2', found that of {re.escape(repr(value)[:60])}",
    }[reader]
    if (reader, kind) == ("metadata", "text"):
        says = "record 1: expected an integer id, found '2'"
    with pytest.raises(BadFileError, match=f"{reader}: {says}"):
        read(reader, text, tmp_path)


@pytest.mark.parametrize("name", ["image_id", "similarity_score", "source_dataset", "falsified"])
@pytest.mark.parametrize("value", ["2", [2], {"x": 2}, 2**70, float("inf"), -0.5], ids=repr)
def test_matches_with_a_value_of_another_type(name: str, value: Any, tmp_path: Path) -> None:
    """Values of a wrong type are refused; 0 and 1 are labels, -0.5 is a score."""
    text = MATCHES.replace(f'"{name}": {json.dumps(MATCH[name])}', f'"{name}": {json.dumps(value)}', 1)
    if (name, value) == ("similarity_score", -0.5):
        assert read("annotations", text, tmp_path)[0][name] == value
        return
    with pytest.raises(BadFileError, match=f"annotations: (row 0: expected .* as {name}, found|expected JSON, found)"):
        read("annotations", text, tmp_path)


@pytest.mark.parametrize("name", ["caption", "image_path", "source", "topic"])
@pytest.mark.parametrize("value", [None, 5, 5.0, True, ["c"], {"c": 1}, "\ud800", "a\udfffb"], ids=ascii)
@pytest.mark.parametrize("reader", ["data.json", "metadata"])
def test_records_with_a_field_that_is_no_text(reader: str, name: str, value: Any, tmp_path: Path) -> None:
    """A field that is no text, or has half a character, is refused with id, field and value."""
    old = '"id": 2, "caption": "c"' if name == "caption" else f'"{name}": {json.dumps(RECORD[name])}'
    new = old[: old.index(f'"{name}"')] + f'"{name}": {json.dumps(value)}'
    text = GOOD[reader].replace(old, new)
    says = f"a string as {name}, found {re.escape(repr(value))}"
    if isinstance(value, str):
        says = f"Unicode text as {name}, found a lone surrogate"
    with pytest.raises(BadFileError, match=rf"record \d \(id \d\): expected {says}\. Fetch"):
        read(reader, text, tmp_path)


def many(reader: str, count: int) -> str:
    """A valid file with many more rows, which are not wanted."""
    more = [(f'"{n}": ' if reader == "metadata" else "") + json.dumps({**RECORD, "id": n}) for n in range(4, 4 + count)]
    return ", ".join([GOOD[reader][:-1], *more]) + GOOD[reader][-1]


@pytest.mark.parametrize("reader", ["data.json", "metadata"])
def test_a_fault_far_from_the_end(reader: str, tmp_path: Path) -> None:
    """A fault far from the end is reported with its record."""
    text = many(reader, 17_000)
    assert len(text) > 5 << 20
    refuse(reader, text.replace('"id": 2', '"id": NaN'), tmp_path, "found NaN, which is not JSON")
    refuse(reader, text.replace('"id": 2', '"id": 2 "x"'), tmp_path, 'found \'"x", "caption')
    assert [row["id"] for row in read(reader, text, tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize("where", ['"id": 2', '"id": 3'])
@pytest.mark.parametrize("reader", ["data.json", "metadata"])
def test_a_record_of_50_megabytes(reader: str, where: str, tmp_path: Path) -> None:
    """A record of 50 MB is refused by its length, without being kept in memory."""
    data = GOOD[reader].replace(where, where + ', "x": "' + "a" * 50_000_000 + '"').encode()
    tracemalloc.start()
    try:
        refuse(reader, data, tmp_path, "a record of at most 4,194,304 characters, found a longer one")
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ["t", "fals", "n", "nul", "", '"x'])
def test_a_file_that_ends_in_a_word(tmp_path: Path, end: str) -> None:
    """For a file truncated within true, false or null, the error says that it is truncated."""
    file = tmp_path / "test.json"
    file.write_text('{"annotations": [{"id": 1, "image_id": 1, "similarity_score": 1, "falsified": ' + end)
    with pytest.raises(BadFileError, match=r"expected JSON, found the end of the file \(truncated\)"):
        read_matches(str(file), "merged_balanced")
