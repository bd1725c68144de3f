"""Write an HTML page of many pairs: twins side by side, with filters, search and keyboard navigation."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from _newsclippings.errors import BadFileError
from _newsclippings.facts import CONFIGS, LABELS, SOURCE_DATASETS
from _newsclippings.pictures import decode_small
from _newsclippings.show.dates import date_of
from _newsclippings.storage import PREVIEW_PAGE, write_text
from _newsclippings.text import one_line

TEMPLATE: Final = Path(__file__).with_name("page.html")
WIDTH, HEIGHT = 320, 240  # largest thumbnail, in pixels; the page shows it 320 wide, in a frame of 3 : 2
LARGEST: Final = 14_000  # bytes of a thumbnail: 1,000 of them in base64 and a megabyte of text stay below 20 MB
FULL: Final = 1600  # pixels, longest side of a full picture
FULL_QUALITY: Final = 85  # of its JPEG
# Share of the size, and JPEG quality, tried in this order until the file is small enough; the last always is
STEPS: Final = ((1.0, 75), (1.0, 60), (1.0, 45), (0.7, 60), (0.5, 50), (0.2, 50))
COLUMNS: Final = (
    "id",
    "image_id",
    "caption",
    "falsified",
    "source",
    "topic",
    "image_source",
    "image_topic",
    "image_caption",
)


class Rows(NamedTuple):
    """Rows to show, with their config and split."""

    config: str
    split: str
    rows: Iterable[Mapping[str, Any]]  # twins are consecutive, `image` is encoded (`Image(decode=False)`)
    answers: Mapping[int, Sequence[tuple[float | None, bool]]] = {}  # index -> each model's score, and if it is right
    measures: Sequence[str] = SOURCE_DATASETS  # what `source_dataset` numbers


def write_page(
    parts: Iterable[Rows], path: Path, pairs: int = 100, models: Sequence[str] = (), full: bool = False
) -> int:
    """Write a page with the first pairs of some splits. The same rows give the same bytes.

    Args:
        parts: the splits. In place of a picture that is damaged or missing, the page shows a note.
        path: the page to write.
        pairs: most pairs of each split.
        models: names of the models whose answers the rows have.
        full: embed the pictures also at up to 1,600 pixels, which a click shows.

    Returns:
        The number of pairs on the page.
    """
    pictures = Thumbnails(full)
    shown = [pair for part in parts for pair in _make_pairs(part, pairs, pictures)]
    others = [*dict.fromkeys(pair["config"] for pair in shown if pair["config"] not in CONFIGS)]
    data: dict[str, Any] = {"labels": LABELS, "models": [*map(one_line, models)], "pictures": pictures.urls}
    data |= {"full": pictures.full_urls, "pairs": shown}
    name = escape(one_line(", ".join(others))) or "NewsCLIPpings"
    page = _fill_template(json.dumps(data, ensure_ascii=False, separators=(",", ":")), name)
    write_text(path, page, PREVIEW_PAGE)
    return len(shown)


def _fill_template(data: str, name: str) -> str:
    """Insert the data, and the name of what is shown, into the template.

    Every `<` of the data is escaped, so that they cannot end their script element. The page's content security policy
    allows only the script of the template, by its digest, and no other files.
    """
    before, after = TEMPLATE.read_text(encoding="utf-8").split("{{pairs}}")
    before = before.replace("{{name}}", name)
    (script,) = re.findall(r"<script>(.*?)</script>", after, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return before.replace("{{script}}", f"sha256-{digest}") + data.replace("<", "\\u003c") + after


def _make_pairs(part: Rows, pairs: int, pictures: "Thumbnails") -> Iterable[dict[str, Any]]:
    for number, twins in groupby(islice(part.rows, 2 * pairs), key=lambda row: row["index"] // 2):
        rows = list(twins)
        measure = rows[0]["source_dataset"]
        yield {
            "config": part.config,
            "split": part.split,
            "number": number,
            "measure": None if measure is None else part.measures[measure],
            "rows": [
                {name: one_line(row[name]) or None if isinstance(row[name], str) else row[name] for name in COLUMNS}
                | {"date": date_of(row.get("metadata")), "image_date": date_of(row.get("image_metadata"))}
                | {"score": row["similarity_score"], "picture": pictures.place(row["image_id"], row.get("image"))}
                | ({"answers": part.answers.get(row["index"], [])} if part.answers else {})
                for row in rows
            ],
        }


class Thumbnails:
    """Thumbnails; rows that show the same picture share one.

    Attributes:
        urls: `data:` URLs of JPEGs.
        full_urls: the same of the full pictures; empty unless they are asked for.
    """

    def __init__(self, full: bool = False) -> None:
        self.urls: list[str] = []
        self.full_urls: list[str] = []
        self._full = full
        self._places: dict[int, int | str] = {}

    def place(self, image_id: int, stored: Mapping[str, Any] | None) -> int | str:
        """Return the position of a picture in `urls`; a note if there is no picture."""
        if stored is None:
            return "no picture"
        if image_id not in self._places:
            try:
                data = _make_thumbnail(stored)
                full = _make_full(stored) if self._full else None
            except (BadFileError, ValueError):  # damaged, or empty
                self._places[image_id] = "not decodable"
            else:
                self._places[image_id] = len(self.urls)
                self.urls.append(_make_url(data))
                self.full_urls += [_make_url(full)] if full else []
        return self._places[image_id]


def _make_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _make_full(stored: Mapping[str, Any]) -> bytes:
    """Encode a picture as a JPEG of at most 1,600 pixels. The file itself may have a format or metadata of any kind."""
    picture, file = decode_small(stored, FULL), io.BytesIO()
    picture.thumbnail((FULL, FULL))
    picture.save(file, "JPEG", quality=FULL_QUALITY, optimize=True)
    return file.getvalue()


def _make_thumbnail(stored: Mapping[str, Any]) -> bytes:
    """Encode a picture as a JPEG of at most `LARGEST` bytes."""
    whole = decode_small(stored, max(WIDTH, HEIGHT))
    for share, quality in STEPS:
        small = whole.copy()
        small.thumbnail((WIDTH * share, HEIGHT * share))
        file = io.BytesIO()
        small.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= LARGEST:
            break
    return file.getvalue()
