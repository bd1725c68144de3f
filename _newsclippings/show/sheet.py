"""Draw pairs as one PNG: twins side by side, the pristine row in green, the falsified row in red."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, Final

from _newsclippings.errors import BadFileError
from _newsclippings.facts import COLORS, FAINT, INK, LABELS, NAME, PAPER, SOURCE_DATASETS
from _newsclippings.pictures import decode_small
from _newsclippings.show.dates import date_of
from _newsclippings.show.fonts import Fonts
from _newsclippings.storage import PREVIEW_PICTURE, SOFTWARE, Maker, Place, write_atomically
from _newsclippings.text import one_line

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

ACROSS: Final = 2  # pairs per line
CELL: Final = 420  # pixels, width of a picture's cell
PICTURE: Final = 280  # pixels, height of a picture
GAP: Final = 10  # between twins
PAD: Final = 16  # around a pair, inside its card
MARGIN: Final = 16  # between pairs
FRAME: Final = 6
TOP: Final = 96  # height of the text above the pictures
BOTTOM: Final = 80  # height of the text below them
WIDTH: Final = 2 * CELL + GAP + 2 * PAD  # of a pair's card
HEIGHT: Final = TOP + PICTURE + BOTTOM + 2 * PAD
GROUND, EDGE, WELL = "#eef0f3", "#d5d9de", "#f6f8fa"
_OWN = "the picture\u2019s own caption"
SIZES: Final = {"caption": 19, "label": 15, "note": 14}  # of letters, in pixels

logger = logging.getLogger(NAME)


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
    from PIL import Image, ImageDraw, PngImagePlugin

    cards = [[*twins] for _, twins in groupby(islice(rows, 2 * pairs), key=lambda row: row["index"] // 2)]
    lines, across = -(-len(cards) // ACROSS), min(ACROSS, len(cards))
    sheet = Image.new("RGB", (across * (WIDTH + MARGIN) + MARGIN, lines * (HEIGHT + MARGIN) + MARGIN), GROUND)
    drawing = _Drawing(sheet, ImageDraw.Draw(sheet), measures)
    for k, twins in enumerate(cards):
        drawing.draw_pair(twins, MARGIN + k % ACROSS * (WIDTH + MARGIN), MARGIN + k // ACROSS * (HEIGHT + MARGIN))
    if missing := drawing.missing:
        log = logger.warning if maker is PREVIEW_PICTURE else logger.info  # a build draws one for its card, unasked
        shown = "".join(sorted(missing)[:10])
        log(
            "%s: %d characters are drawn as boxes, since no font of this machine has them (%s). Install one that does, "
            "such as Noto Sans of that script, or write an HTML page.",
            path,
            len(missing),
            shown,
        )
    texts = PngImagePlugin.PngInfo()
    texts.add_text(SOFTWARE, maker.name)
    with write_atomically(path, maker) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=texts)
    return len(cards)


class _Drawing:
    """A sheet that is being drawn."""

    def __init__(self, sheet: "Image.Image", draw: "ImageDraw.ImageDraw", measures: Sequence[str]) -> None:
        self.sheet, self.pen, self.measures = sheet, draw, measures
        self.fonts = {name: Fonts(size) for name, size in SIZES.items()}

    @property
    def missing(self) -> set[str]:
        """The characters that no font has."""
        return set().union(*(fonts.missing for fonts in self.fonts.values()))

    def draw_pair(self, twins: Sequence[Mapping[str, Any]], left: int, top: int) -> None:
        """Draw twins side by side below the caption that they share."""
        first = twins[0]
        self.pen.rounded_rectangle((left, top, left + WIDTH - 1, top + HEIGHT - 1), 10, PAPER, EDGE)
        left, top = left + PAD, top + PAD
        measure = None if first["source_dataset"] is None else self.measures[first["source_dataset"]]
        facts = (first.get("source"), first.get("topic"), date_of(first.get("metadata")), measure)
        head = _join(f"Pair {first['index'] // 2}", *facts)
        self._write("note", left, top - 3, [head], FAINT)
        self._write("caption", left, top + 20, self._wrap("caption", first["caption"] or "(no caption)", WIDTH, 3), INK)
        for k, row in enumerate(twins):
            self._draw_row(row, first, left + k * (CELL + GAP), top + TOP)

    def _draw_row(self, row: Mapping[str, Any], first: Mapping[str, Any], left: int, top: int) -> None:
        color, label = COLORS[row["falsified"]], LABELS[row["falsified"]].upper()
        self.pen.rectangle((left, top, left + CELL - 1, top + PICTURE - 1), fill=WELL, outline=color, width=FRAME)
        small = _make_thumbnail(row.get("image"))
        if isinstance(small, str):
            half = self.fonts["note"].width(small) / 2
            self._write("note", left + CELL // 2 - half, top + PICTURE // 2 - 9, [small], FAINT)
        else:
            self.sheet.paste(small, (left + (CELL - small.width) // 2, top + (PICTURE - small.height) // 2))
        top += PICTURE + 5
        self._write("label", left, top, [label], color)
        note = _join(row.get("image_source"), f"score {row['similarity_score']:.3f}")
        self._write("note", left + CELL - self.fonts["note"].width(note), top + 1, [note], FAINT)
        caption = row.get("image_caption")
        if row["caption"] != first["caption"]:
            own = f"Shown with: {row['caption'] or '(no caption)'}"
        elif caption is not None and caption == row["caption"]:
            own = f"This is {_OWN}."
        else:
            own = f"{_OWN.capitalize()}: {caption or '(unknown)'}"
        self._write("note", left, top + 21, self._wrap("note", own, CELL, 3), INK if caption else FAINT)

    def _wrap(self, name: str, text: str, width: int, lines: int) -> list[str]:
        width -= 2 * PAD if width == WIDTH else 0
        return self.fonts[name].wrap(one_line(text), width, lines)

    def _write(self, name: str, left: float, top: float, lines: Iterable[str], color: str) -> None:
        fonts = self.fonts[name]
        for k, line in enumerate(lines):
            fonts.draw(self.pen, (left, top + k * round(1.22 * fonts.size)), line, color)


def _join(*parts: str | None) -> str:
    return " · ".join(one_line(part) for part in parts if part)


def _make_thumbnail(stored: Mapping[str, Any] | None) -> "Image.Image | str":
    """Decode a picture at the size of its cell; return a note if there is none, or it does not decode."""
    if not stored:
        return "no picture"
    try:
        small = decode_small(stored, max(CELL, PICTURE))
    except (BadFileError, ValueError):  # damaged, or empty
        return "not decodable"
    small.thumbnail((CELL - 2 * FRAME, PICTURE - 2 * FRAME))
    return small
