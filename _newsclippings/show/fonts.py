"""Fonts of this machine for text in any script: each character is drawn in the first font that has it."""

import functools
import itertools
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

USUAL_FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
)
ENDINGS: Final = (".ttf", ".otf", ".ttc")
UNKNOWN: Final = "\U0010fffe"  # in no font: every font draws its box for it
BOX: Final = "\N{WHITE SQUARE}"  # for a character that no font has
FONT_FOLDERS: Final = ("/Library/Fonts", "/System/Library/Fonts", "~/Library/Fonts", "~/.fonts")
_STYLES = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed", "emoji")


class Fonts:
    """Fonts of one size.

    Attributes:
        missing: the characters that were asked for and that no font of this machine has.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.missing: set[str] = set()
        self._main = _load(None, size)
        self._place: dict[str, Path | None] = {}  # character -> its font; None for the main one
        self.ascent = int(self._main.getmetrics()[0])

    def split(self, text: str) -> list[tuple[str, Any]]:
        """Divide a text into runs, each with the font that has its characters; those that no font has become boxes."""
        chosen: list[tuple[str, Path | None]] = []
        for character in text:
            if chosen and unicodedata.category(character).startswith("M"):  # belongs to the letter before it
                chosen += [] if chosen[-1][0] == BOX else [(character, chosen[-1][1])]
            else:
                chosen += self._choose(character)
        runs = itertools.groupby(chosen, key=lambda pair: pair[1])
        return [("".join(character for character, _ in run), _load(place, self.size)) for place, run in runs]

    def width(self, text: str) -> float:
        """Width of a text, in pixels."""
        return float(sum(font.getlength(run) for run, font in self.split(text)))

    def draw(self, draw: Any, place: tuple[float, float], text: str, color: str) -> None:
        """Draw a text whose upper left corner is at a place."""
        left, top = place
        for run, font in self.split(text):
            draw.text((left, top + self.ascent), run, color, font, anchor="ls")
            left += font.getlength(run)

    def wrap(self, text: str, width: int, lines: int) -> list[str]:
        """Break a text into lines of at most `width` pixels; an ellipsis marks that it was cut after `lines` lines."""
        found = [""]
        for word in _split_words(text):
            if self.width((found[-1] + word).rstrip()) <= width:
                found[-1] += word
                continue
            if found[-1].strip():
                found.append("")
            word = word.lstrip()
            while word and self.width(word.rstrip()) > width:  # one long word
                count = max(1, next(k for k in range(len(word), 0, -1) if k == 1 or self.width(word[:k]) <= width))
                found[-1], word = word[:count], word[count:]
                found.append("")
            found[-1] = word
        found = [line.rstrip() for line in found if line.strip()]
        if len(found) <= lines:
            return found
        last = found[lines - 1]
        while self.width(f"{last} …") > width:
            last = last.rpartition(" ")[0] or last[:-1]
        return [*found[: lines - 1], f"{last} …"]

    def _choose(self, character: str) -> list[tuple[str, Path | None]]:
        """Choose the font of a character: itself, or what is drawn in its place."""
        if character not in self._place and not self._find(character):
            plain = [c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c)]
            if plain != [character] and all(self._find(c) for c in plain):
                return [(c, self._place[c]) for c in plain]  # such as e for é
            self.missing.add(character)
            return [(BOX if find_font(BOX) is None else "?", None)]
        return [(character, self._place[character])]

    def _find(self, character: str) -> bool:
        if character not in self._place:
            place = find_font(character)
            if place == NOWHERE:
                return False
            self._place[character] = place
        return True


NOWHERE: Final = Path()


@functools.cache
def find_font(character: str) -> Path | None:
    """Find the font of a character. None: the main font has it. `NOWHERE`: no font has it."""
    if character.isspace() or _has(None, character):
        return None
    block = ord(character) >> 8
    known = [place for place in _used.get(block, ()) if _has(place, character)]
    if known:
        return known[0]
    if block in _searched:  # twice in vain would be slow
        return NOWHERE
    for place in list_fonts():
        if _has(place, character):
            _used.setdefault(block, []).append(place)
            return place
    _searched.add(block)
    return NOWHERE


_used: dict[int, list[Path]] = {}  # block of 256 characters -> fonts that have some of them
_searched: set[int] = set()  # blocks of which no font has a character that was asked for


@functools.cache
def list_fonts() -> list[Path]:
    """List the fonts of this machine: plain ones first, those of many scripts before the others."""
    return sorted({place for folder in _font_folders() for place in _walk(folder)}, key=_rank)


def _font_folders() -> Iterator[str]:
    if sys.platform == "win32":
        yield os.path.join(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")
        yield os.path.join(os.environ.get("LOCALAPPDATA", ""), "Microsoft", "Windows", "Fonts")
    home = os.environ.get("XDG_DATA_HOME", os.path.join("~", ".local", "share"))
    shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share")
    yield from (os.path.join(os.path.expanduser(folder), "fonts") for folder in (home, *shared.split(":")) if folder)
    yield from map(os.path.expanduser, FONT_FOLDERS)


def _walk(folder: str) -> Iterator[Path]:
    for path, _, names in os.walk(folder):
        yield from (Path(path, name) for name in names if name.lower().endswith(ENDINGS))


def _rank(place: Path) -> tuple[bool, bool, str]:
    name = place.name.lower()
    return any(style in name for style in _STYLES), not ("cjk" in name or "noto" in name), name


@functools.lru_cache(64)
def _load(place: Path | None, size: int) -> Any:
    """Load a font; None is the main one: a usual one with letters of many languages, else Pillow's own."""
    from PIL import ImageFont

    if place is not None:
        return ImageFont.truetype(place, size)
    for name in USUAL_FONTS:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def _has(place: Path | None, character: str) -> bool:
    """Whether a font has a character: it draws another one than for a character that no font has."""
    try:
        font = _load(place, 16)
        return bytes(font.getmask(character)) not in (b"", bytes(font.getmask(UNKNOWN)))
    except (OSError, ValueError):  # a damaged font, or one of coloured pictures
        return False


def _split_words(text: str) -> Iterator[str]:
    """Divide a text where a line may break: after spaces, and around wide characters, which have none between them."""
    word = ""
    for character in text:
        wide = unicodedata.east_asian_width(character) in "WF"
        if word and (wide or (word[-1].isspace() and not character.isspace())):
            yield word
            word = ""
        word += character
        if wide:
            yield word
            word = ""
    if word:
        yield word
