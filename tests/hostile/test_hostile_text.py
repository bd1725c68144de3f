"""Foreign text is data: it cannot control or reorder a terminal, or forge a line of output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweeps.hostile_text import HOSTILE, Case, attempt, prepare, problems

from _newsclippings.text import as_message, format_json, one_line

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Case]]:
    """The folder of inputs, and all cases by name."""
    root = tmp_path_factory.mktemp("text") / "root"
    _, cases = prepare(root)
    return root, {case[0]: case for case in cases}


@pytest.mark.parametrize(
    "name",
    [
        "files: the data's folder",
        "files: a built folder",
        "files: what is not there",
        "tar: name of kind 2, 1",
        "tar: byte 257 of a header",
        "index: 'damage'",
        "index: a name",
        "articles",
        "test.json: value annotations/0/id",
    ],
)
def test_a_hostile_text(prepared: tuple[Path, dict[str, Case]], tmp_path: Path, name: str) -> None:
    """All commands run safely with a hostile text in one input (`tests.sweeps.hostile_text` tries every place)."""
    root, cases = prepared
    count, wrong = attempt(root, cases[name], tmp_path)
    assert wrong == []
    assert count > 0


def test_captions_are_shown_in_one_line() -> None:
    """All kinds of blanks become spaces, letters of all languages stay, other characters are escaped."""
    assert one_line("a\xa0b\r\n\u2028c\td") == "a b c d"
    assert one_line("é 中文 \u05d0\u202eb") == "é 中文 \u05d0\\u202eb"
    assert problems(one_line(HOSTILE)) == ""


def test_messages_have_only_our_line_breaks() -> None:
    """Line breaks of messages are kept only before our indentation, and in the traceback of a worker."""
    assert as_message("one\n  two\nthree\r\n") == "one\n  two\\nthree\\r\\n"
    traceback = 'Caught X.\nTraceback (most recent call last):\n  File "x"\nX: y'
    assert as_message(traceback) == traceback


def test_json_files_are_escaped() -> None:
    """JSON output has no control character, and parses to the same value."""
    value = {HOSTILE: [HOSTILE, "é 中文", "\U000e0001"]}
    assert json.loads(format_json(value)) == value
    assert problems(format_json(value)) == ""
    assert "é 中文" in format_json(value)
