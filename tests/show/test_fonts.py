"""Text in pictures: every script for which this machine has a font, and one line about the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFont
from support.constants import change_constant

from _newsclippings.show import draw_sheet, fonts
from _newsclippings.show.fonts import BOX, Fonts

WORDS = "東京"


def forget() -> None:
    for cached in (fonts.find_font, fonts.list_fonts, fonts._load):
        cached.cache_clear()
    fonts._used.clear()
    fonts._searched.clear()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine whose only fonts, besides its usual one, are in this folder."""
    (tmp_path / "fonts" / "deep").mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "none"))
    change_constant(monkeypatch, "FONT_FOLDERS", ())
    forget()
    yield tmp_path / "fonts" / "deep"
    forget()


def write_font(file: Path, characters: str) -> None:
    """A font in which each of the characters is a rectangle."""
    builder_of = pytest.importorskip("fontTools.fontBuilder")
    pen_of = pytest.importorskip("fontTools.pens.ttGlyphPen")
    names = [".notdef", *(f"u{ord(c):x}" for c in characters)]
    builder = builder_of.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    glyphs = {}
    for k, name in enumerate(names):
        pen = pen_of.TTGlyphPen(None)
        corners = [(100, 0), (100, 100 * k + 100), (900, 100 * k + 100), (900, 0)]
        pen.moveTo(corners[0])
        for corner in corners[1:]:
            pen.lineTo(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Test", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(file)


def test_a_font_that_has_the_characters(folder: Path) -> None:
    """Each character is drawn in the first font that has it; damaged fonts are passed over."""
    (folder / "a.ttf").write_bytes(b"no font")
    write_font(folder / "b.ttf", WORDS[0])
    write_font(folder / "c.otf", WORDS)
    found = Fonts(16)
    runs = found.split(f"In {WORDS}, now")
    assert [text for text, _ in runs] == ["In ", WORDS[0], WORDS[1], ", now"]
    assert [Path(font.path).name for _, font in runs[1:3]] == ["b.ttf", "c.otf"]
    assert found.missing == set()


def test_no_font_has_it(folder: Path) -> None:
    """A character that no font has becomes a box, and is known to be missing."""
    found = Fonts(16)
    text = "".join(text for text, _ in found.split(f"In {WORDS} and e\u0301"))
    assert text in (f"In {BOX}{BOX} and e\u0301", "In ?? and e\u0301")
    assert found.missing == {*WORDS}


def test_only_pillows_own_font(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a machine has no font at all, letters with accents can be read."""
    change_constant(monkeypatch, "USUAL_FONTS", ())
    forget()
    found = Fonts(16)
    text = "".join(text for text, _ in found.split("Fédèle’s “Békés” – ő"))
    assert text.isascii() or all(fonts._has(None, c) or c in f"{BOX} " for c in text)
    assert "F" in text
    assert "s" in text


@pytest.mark.parametrize(
    "text", ["a few words that go on and on", "東京で行われた記者会見で首相は説明した", "A" * 200, ""]
)
@pytest.mark.parametrize("width", [40, 100, 300])
def test_wrapping(text: str, width: int) -> None:
    """Lines fit, have all of the text in order, or end with an ellipsis; long words and wide characters break."""
    some = Fonts(16)
    whole = some.wrap(text, width, 1000)
    assert "".join(whole).replace(" ", "") == text.replace(" ", "")
    assert all(some.width(line) <= width for line in whole)
    cut = some.wrap(text, width, 2)
    assert len(cut) == min(2, len(whole))
    assert all(some.width(line) <= width for line in cut)
    assert (cut != whole) == bool(cut and cut[-1].endswith("…"))


def row(index: int, **fields: Any) -> dict[str, Any]:
    return {
        **{"index": index, "falsified": index % 2, "similarity_score": 0.5, "source_dataset": None, "image": None},
        **{"caption": "A caption", "image_caption": "Another", "source": None, "topic": None, "image_source": None},
        **fields,
    }


def test_one_line_about_missing_fonts(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A picture with boxes is announced in one line that says what to do; one without is not."""
    with caplog.at_level(logging.WARNING, "newsclippings"):
        draw_sheet([row(k) for k in range(4)], tmp_path / "a.png")
        assert caplog.messages == []
        draw_sheet([row(k, caption=f"In {WORDS}") for k in range(4)], tmp_path / "b.png")
    (message,) = caplog.messages
    assert message.startswith(f"{tmp_path}/b.png: 2 characters are drawn as boxes, since no font")
    assert "Install one" in message


def test_a_font_of_the_machine() -> None:
    """Letters with accents and other European scripts need no further font, if the machine has a usual one."""
    if not isinstance(fonts._load(None, 16).path, str):
        pytest.skip("this machine has no usual font")
    some = Fonts(16)
    assert len(some.split("Fédèle’s “Békés” – naïve, Жизнь, Ελλάδα")) == 1
    assert isinstance(some.split("x")[0][1], ImageFont.FreeTypeFont)
