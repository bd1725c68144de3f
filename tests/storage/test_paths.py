"""Names of pictures: every spelling has one normal form, and names that leave the root are refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _newsclippings.storage.paths import BadNameError, normalise_path, normalise_paths

NORMAL = "guardian/images/0540/632.jpg"
DIALECTS = [
    NORMAL,
    f"./{NORMAL}",
    f"origin/{NORMAL}",
    f"./origin/{NORMAL}",
    f"visual_news/origin/{NORMAL}",
    f"./visual_news/origin/{NORMAL}",
    f"visualnews/origin/{NORMAL}",
    f"././{NORMAL}",
    "guardian//images/./0540/632.jpg",
]
HOSTILE = {
    "/etc/passwd": "absolute",
    "/": "absolute",
    "//server/share/x.jpg": "absolute",
    "/./x.jpg": "absolute",
    "/origin/x.jpg": "absolute",
    "~/x.jpg": "absolute",
    "~root/x.jpg": "absolute",
    "C:/x.jpg": "absolute",
    "c:x.jpg": "absolute",
    "Z:": "absolute",
    "..": r"'\.\.'",
    "../x.jpg": r"'\.\.'",
    "../../../../etc/passwd": r"'\.\.'",
    "origin/../x.jpg": r"'\.\.'",
    "visual_news/origin/..": r"'\.\.'",
    "./visual_news/../../x.jpg": r"'\.\.'",
    "guardian//..//..//x.jpg": r"'\.\.'",
    "guardian/images/..": r"'\.\.'",
    "guardian/../../x.jpg": r"'\.\.'",
    "./..": r"'\.\.'",
    "guardian\\images\\x.jpg": "backslash",
    "..\\x.jpg": "backslash",
    "\\\\server\\share\\x.jpg": "backslash",
    "C:\\x.jpg": "backslash",
    "a\0b.jpg": "control character",
    "a\nb.jpg": "control character",
    "a\x7fb.jpg": "control character",
    "a\rb.jpg": "control character",
    "a\x1b[2J.jpg": "control character",
    "a\x85b.jpg": "control character",
    "x.jpg\0": "control character",
    "http://host/x.jpg": "URL",
    "file:///etc/passwd": "URL",
    "zip://a::b": "URL",
    "s3://bucket/x.jpg": "URL",
    "hf://datasets/x/y.jpg": "URL",
    "x.jpg::file": "URL",
    "": "empty",
    ".": "empty",
    "./": "empty",
    "././.": "empty",
    "é" * 2000: "more than 1024",
    "a" * 2000: "more than 1024",
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_have_one_normal_form(name: str) -> None:
    """Every spelling of one picture's name becomes the same key."""
    assert normalise_path(name) == NORMAL
    assert normalise_paths(pa.array([name, None])).to_pylist() == [NORMAL, None]


@pytest.mark.parametrize(
    "name",
    [
        "a..b/c...jpg",
        "bbc/..images/x.jpg",
        "ü/日本.jpg",
        "a b/c,d.jpg",
        "x",
        ".hidden/x.jpg",
        "..x/y",
        "ab:c/d",
        "origin",
    ],
)
def test_odd_but_good_names_stay(name: str) -> None:
    """Names with dots, spaces and other letters are accepted."""
    assert normalise_paths(pa.array([name])).to_pylist() == [normalise_path(name)] == [name]


@pytest.mark.parametrize(("name", "why"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_hostile_names_are_refused_with_the_reason(name: str, why: str) -> None:
    """A name that could leave the root is refused, with its position."""
    with pytest.raises(ValueError, match=why):
        normalise_path(name)
    with pytest.raises(BadNameError, match=why) as error:
        normalise_paths(pa.array([NORMAL, None, name]))
    assert error.value.position == 2


parts = st.sampled_from(
    ["a", "..", ".", "", "origin", "visual_news", "x.jpg", "é", "~", "C:", "\\", "\0", "://", "b..", "-_"]
)


@given(st.lists(parts, max_size=6).map("/".join))
def test_one_by_one_and_all_at_once_agree(name: str) -> None:
    """The fast function for arrays gives the same as the one for single names, and no result leaves the root."""
    try:
        expected = normalise_path(name)
    except ValueError:
        with pytest.raises(BadNameError):
            normalise_paths(pa.array([name]))
        return
    assert normalise_paths(pa.array([name])).to_pylist() == [expected]
    assert not expected.startswith("/")
    assert ".." not in expected.split("/")
