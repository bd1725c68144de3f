"""Look at pairs: one PNG with twins side by side, the pristine row in green, the falsified one in red."""

import contextlib
import functools
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from _newsclippings.errors import BadFileError
from _newsclippings.facts import COLORS, FAINT, INK, LABELS, PAPER, SOURCE_DATASETS
from _newsclippings.pictures import decode_small
from _newsclippings.storage import PREVIEW_PICTURE, SOFTWARE, Maker, write_atomically
from _newsclippings.text import one_line

CELLS: Final = 4  # across: two pairs
CELL: Final = 420  # pixels, width of a picture's cell
PICTURE: Final = 280  # pixels, height of a picture
TEXT: Final = 104  # pixels, height of the text below it
MARGIN: Final = 14
FRAME: Final = 6
FONTS: Final = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "LiberationSans-Regular.ttf",
    "Arial Unicode.ttf",
    "Arial.ttf",
)


def contact_sheet(rows: Iterable[Mapping[str, Any]], path: Path, pairs: int = 8, maker: Maker = PREVIEW_PICTURE) -> int:
    """Draw the first pairs of some rows.

    Args:
        rows: rows of the dataset, twins after each other, `image` as it is stored (`Image(decode=False)`): one damaged
            picture does not stop the others.
        path: the PNG to write.
        pairs: how many pairs at most.
        maker: what draws them, and may replace what it drew before.

    Returns:
        How many pairs were drawn.
    """
    drawn = list(islice(rows, 2 * pairs))
    lines, across = -(-len(drawn) // CELLS), min(CELLS, len(drawn))
    size = (across * (CELL + MARGIN) + MARGIN, lines * (PICTURE + TEXT + 2 * MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, row in enumerate(drawn):
        left = MARGIN + k % CELLS * (CELL + MARGIN)
        top = MARGIN + k // CELLS * (PICTURE + TEXT + 2 * MARGIN)
        _draw_row(sheet, draw, row, left, top)
    about = PngInfo()
    about.add_text(SOFTWARE, maker.name)
    with write_atomically(path, maker) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=about)
    return (len(drawn) + 1) // 2


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Mapping[str, Any], left: int, top: int) -> None:
    color = COLORS[row["falsified"]]
    picture = row.get("image")
    draw.rectangle((left, top, left + CELL - 1, top + PICTURE - 1), fill="#f6f8fa", outline=color, width=FRAME)
    small = _thumbnail(picture) if picture else "no picture"
    if isinstance(small, str):
        draw.text((left + CELL // 2, top + PICTURE // 2), small, FAINT, _font(18), anchor="mm")
    else:
        sheet.paste(small, (left + (CELL - small.width) // 2, top + (PICTURE - small.height) // 2))
    y = top + PICTURE + 4
    draw.text((left, y), LABELS[row["falsified"]].upper(), color, _font(15))
    measure = "" if row["source_dataset"] is None else SOURCE_DATASETS[row["source_dataset"]]
    note = " · ".join(filter(None, (row["image_source"], measure, f"{row['similarity_score']:.3f}")))
    draw.text((left + CELL, y + 1), _drawable(note), FAINT, _font(13), anchor="ra")
    for line in _wrapped(_drawable(row["caption"] or "(no caption)"), draw):
        y += 21
        draw.text((left, y), line, INK, _font(16))


def _thumbnail(stored: Mapping[str, Any]) -> Image.Image | str:
    """A picture small enough for its cell, or why there is none."""
    try:
        small = decode_small(stored, max(CELL, PICTURE))
    except (BadFileError, ValueError):  # damaged, or empty
        return "not decodable"
    small.thumbnail((CELL - 2 * FRAME, PICTURE - 2 * FRAME))
    return small


def _wrapped(text: str, draw: ImageDraw.ImageDraw, lines: int = 3) -> list[str]:
    """The text in lines that fit the cell; an ellipsis where it is cut."""
    width = 60
    while width > 10:
        found = textwrap.wrap(text, width, max_lines=lines, placeholder=" ...")
        if all(draw.textlength(line, _font(16)) <= CELL for line in found):
            return found
        width -= 2
    return [text[:10]]


@functools.cache
def _font(size: int) -> Any:
    """A font of this machine with letters of many languages, else Pillow's own, which has ASCII only."""
    for name in FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _drawable(text: str) -> str:
    """The text in letters that the font has: accents and typographic quotes become plain where it is Pillow's own.

    What ends a line or a paragraph becomes a space: Pillow's layout of text fails at a second paragraph.
    """
    text = one_line(text)
    path = _font(16).path  # a stream where it is Pillow's own
    if isinstance(path, str) and Path(path).name in FONTS:
        return text
    text = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0xB7: "|"})
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()
