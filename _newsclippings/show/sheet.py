"""Draw pairs as one PNG: twins side by side, the pristine row in green, the falsified row in red."""

import contextlib
import functools
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from _newsclippings.errors import BadFileError
from _newsclippings.facts import COLORS, FAINT, INK, LABELS, PAPER, SOURCE_DATASETS
from _newsclippings.pictures import decode_small
from _newsclippings.storage import PREVIEW_PICTURE, SOFTWARE, Maker, Place, write_atomically
from _newsclippings.text import one_line

CELLS: Final = 4  # per line, for two pairs
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


def draw_sheet(
    rows: Iterable[Mapping[str, Any]],
    path: Place,
    pairs: int = 8,
    maker: Maker = PREVIEW_PICTURE,
    measures: Sequence[str] = SOURCE_DATASETS,
) -> int:
    """Draw the first pairs of some rows.

    Args:
        rows: rows of the dataset; twins are consecutive, `image` is encoded (`Image(decode=False)`). In place of a
            picture that is damaged or missing, a note is drawn.
        path: the PNG to write.
        pairs: most pairs to draw.
        maker: the command that draws them; it may overwrite its own earlier pictures.
        measures: what the column `source_dataset` numbers.

    Returns:
        The number of pairs that were drawn.
    """
    drawn = list(islice(rows, 2 * pairs))
    lines, across = -(-len(drawn) // CELLS), min(CELLS, len(drawn))
    size = (across * (CELL + MARGIN) + MARGIN, lines * (PICTURE + TEXT + 2 * MARGIN) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, row in enumerate(drawn):
        left = MARGIN + k % CELLS * (CELL + MARGIN)
        top = MARGIN + k // CELLS * (PICTURE + TEXT + 2 * MARGIN)
        number = row["source_dataset"]
        _draw_row(sheet, draw, row, left, top, "" if number is None else measures[number])
    texts = PngInfo()
    texts.add_text(SOFTWARE, maker.name)
    with write_atomically(path, maker) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=texts)
    return (len(drawn) + 1) // 2


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Mapping[str, Any], left: int, top: int, measure: str
) -> None:
    color = COLORS[row["falsified"]]
    picture = row.get("image")
    draw.rectangle((left, top, left + CELL - 1, top + PICTURE - 1), fill="#f6f8fa", outline=color, width=FRAME)
    small = _make_thumbnail(picture) if picture else "no picture"
    if isinstance(small, str):
        draw.text((left + CELL // 2, top + PICTURE // 2), small, FAINT, _load_font(18), anchor="mm")
    else:
        sheet.paste(small, (left + (CELL - small.width) // 2, top + (PICTURE - small.height) // 2))
    y = top + PICTURE + 4
    draw.text((left, y), LABELS[row["falsified"]].upper(), color, _load_font(15))
    note = " · ".join(filter(None, (row["image_source"], measure, f"{row['similarity_score']:.3f}")))
    draw.text((left + CELL, y + 1), _make_drawable(note), FAINT, _load_font(13), anchor="ra")
    for line in _wrap(_make_drawable(row["caption"] or "(no caption)"), draw):
        y += 21
        draw.text((left, y), line, INK, _load_font(16))


def _make_thumbnail(stored: Mapping[str, Any]) -> Image.Image | str:
    """Decode a picture at the size of its cell; return a note if it does not decode."""
    try:
        small = decode_small(stored, max(CELL, PICTURE))
    except (BadFileError, ValueError):  # damaged, or empty
        return "not decodable"
    small.thumbnail((CELL - 2 * FRAME, PICTURE - 2 * FRAME))
    return small


def _wrap(text: str, draw: ImageDraw.ImageDraw, lines: int = 3) -> list[str]:
    """Wrap a text into lines that fit into a cell, with an ellipsis if it is cut."""
    width = 60
    while width > 10:
        wrapped = textwrap.wrap(text, width, max_lines=lines, placeholder=" ...")
        if all(draw.textlength(line, _load_font(16)) <= CELL for line in wrapped):
            return wrapped
        width -= 2
    return [text[:10]]


@functools.cache
def _load_font(size: int) -> Any:
    """Load a font of this machine with letters of many languages, else Pillow's own, which has ASCII only."""
    for name in FONTS:
        with contextlib.suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def _make_drawable(text: str) -> str:
    """Replace characters that cannot be drawn: Pillow's own font has no accents and typographic quotes.

    Line and paragraph breaks become spaces, since Pillow cannot draw a second paragraph.
    """
    text = one_line(text)
    path = _load_font(16).path  # a stream if it is Pillow's own
    if isinstance(path, str) and Path(path).name in FONTS:
        return text
    text = text.translate({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-", 0xB7: "|"})
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return plain.encode("ascii", "replace").decode()
