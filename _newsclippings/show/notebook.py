"""Show pairs in a notebook: twins side by side, below the caption that they share."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby, islice
from numbers import Integral
from pathlib import Path
from typing import Any, Final

from _newsclippings.errors import ConfigError
from _newsclippings.facts import COLORS, COLUMNS, LABELS, SOURCE_DATASETS
from _newsclippings.show.dates import date_of
from _newsclippings.show.page import Thumbnails
from _newsclippings.show.sheet import draw_sheet
from _newsclippings.tables import iterate_rows
from _newsclippings.text import one_line, printable, short_repr

NEEDED: Final = ("index", "caption", "falsified")
# Colours of the notebook, but for the labels: it may be light or dark
_PAIR: Final = "border:1px solid #8886;border-radius:8px;padding:12px;margin:0 0 12px;max-width:700px"
_TWINS: Final = "display:flex;flex-wrap:wrap;gap:12px"
_TWIN: Final = "flex:1 1 260px;max-width:340px;margin:0;font-size:13px;line-height:1.4"
_FRAME: Final = "border:3px solid {};border-radius:6px;min-height:60px;display:flex;justify-content:center"
_IMAGE: Final = "max-width:100%;height:auto;margin:0;display:block"
_FAINT: Final = "opacity:.7;font-size:12px"


@dataclass(frozen=True)
class Pairs:
    """Some pairs. A notebook draws them; elsewhere `save` does.

    Attributes:
        rows: the rows, with an encoded picture or None.
        measures: what the column `source_dataset` numbers.
    """

    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    measures: Sequence[str] = SOURCE_DATASETS

    def __len__(self) -> int:
        """The number of pairs."""
        return len({row["index"] // 2 for row in self.rows})

    def __repr__(self) -> str:
        return f"<{len(self)} pair{'s' * (len(self) != 1)}: a notebook shows them, and .save('pairs.png') draws them>"

    def save(self, path: str | Path) -> Path:
        """Draw the pairs as a PNG.

        Raises:
            ConfigError: another program wrote the file, or its name has another ending than .png.
        """
        path = Path(path).expanduser()
        if path.suffix not in ("", ".png"):
            raise ConfigError(f"{printable(str(path))}: the picture is a PNG, so its name must end in .png. Rename it.")
        draw_sheet(self.rows, path, len(self.rows), measures=self.measures)
        return path

    def _repr_html_(self) -> str:
        pictures = Thumbnails()
        pairs = groupby(self.rows, key=lambda row: row["index"] // 2)
        return "".join(_format_pair(number, [*twins], pictures, self.measures) for number, twins in pairs)


def show(dataset: Any, n: int = 8) -> Pairs:
    """Show the first pairs of rows in a notebook: twins side by side, with each picture's own caption.

    Args:
        dataset: one split of the dataset, of any origin (`load`, `load_dataset`, a built folder, a stream), or rows of
            it: one (`ds[0]`), some (`ds[:4]`), an iterable of them, or a data frame. Rows need `index`, `caption` and
            `falsified`; `image` may be decoded or not.
        n: how many pairs. Twins that do not follow each other, as after a shuffle, are shown alone.

    Returns:
        The pairs. A notebook draws them; `save(path)` writes them as a PNG.

    Raises:
        ConfigError: these are not rows of one split, or n is no positive number.
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        message = f"n={short_repr(n)}: expected a number of pairs, 1 or more. Correct it."
        raise ConfigError(message)
    if isinstance(dataset, Mapping) and not {*NEEDED} & {*dataset}:
        names = ", ".join(map(str, dataset))
        raise ConfigError(f"expected the rows of one split, found splits: {names}. Pass one, such as ds['test'].")
    is_table = any(hasattr(dataset, name) for name in ("__iter__", "to_pylist"))
    if isinstance(dataset, str | bytes | Path) or not is_table:
        raise ConfigError(
            f"expected a dataset or rows, found {short_repr(dataset)}. Load it first: "
            'newsclippings.show(newsclippings.load(split="test")). `newsclippings preview --built` shows a folder.'
        )
    if callable(formatted := getattr(dataset, "with_format", None)):
        dataset = formatted(None)  # plain values, whatever format is set
    features = getattr(dataset, "features", None)
    source = features.get("source_dataset") if isinstance(features, Mapping) else None  # a column has features, too
    measures = getattr(source, "names", SOURCE_DATASETS)  # others in a generated config
    pairs = groupby((_check_row(row) for row in iterate_rows(dataset)), key=lambda row: row["index"] // 2)
    return Pairs([row for _, twins in islice(pairs, n) for row in twins], measures)


def _check_row(row: Any) -> dict[str, Any]:
    """Fill up a row, and encode its picture."""
    is_row = isinstance(row, Mapping) and all(name in row for name in NEEDED)
    if not is_row or not isinstance(row["index"], Integral):
        found = f"the columns {', '.join(map(str, row))}" if isinstance(row, Mapping) else short_repr(row)
        raise ConfigError(
            f"expected rows with {', '.join(NEEDED)}, found {found[:300]}. Pass whole rows of newsclippings."
        )
    picture = row.get("image")
    if hasattr(picture, "save"):  # decoded by `datasets`
        picture = {"bytes": _encode(picture), "path": None}
    known = {name: value for name, value in row.items() if value is not None and not _is_nan(value)}
    return {**dict.fromkeys(COLUMNS), "similarity_score": float("nan"), **known, "image": picture}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value  # null in a data frame


def _encode(picture: Any) -> bytes:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def _format_pair(number: int, twins: Sequence[Mapping[str, Any]], pictures: Thumbnails, measures: Sequence[str]) -> str:
    first = twins[0]
    measure = first["source_dataset"]
    facts = [f"Pair {number}", first["source"], first["topic"], date_of(first.get("metadata"))]
    facts.append(None if measure is None else measures[measure])
    cells = "".join(_format_row(row, pictures) for row in twins)
    caption = _text(first["caption"] or "(no caption)")
    return (
        f'<section style="{_PAIR}"><div style="{_FAINT}">{_join(facts)}</div>'
        f'<p dir="auto" style="font-size:16px;margin:4px 0 10px"><b>{caption}</b></p>'
        f'<div style="{_TWINS}">{cells}</div></section>'
    )


def _format_row(row: Mapping[str, Any], pictures: Thumbnails) -> str:
    place = pictures.place(row["image_id"] if row["image_id"] is not None else -1 - row["index"], row["image"])
    caption = row["image_caption"]
    alt = _text(caption or "Picture, caption unknown")
    picture = (
        f'<img src="{pictures.urls[place]}" alt="{alt}" style="{_IMAGE}">'
        if isinstance(place, int)
        else f'<em style="align-self:center">{place}</em>'
    )
    own = caption is not None and caption == row["caption"]
    text = "This is the picture’s own caption." if own else f"The picture’s own caption: {caption or '(unknown)'}"  # noqa: RUF001
    score = row["similarity_score"]
    facts = [row["image_source"], row["image_topic"], date_of(row.get("image_metadata"))]
    facts.append(f"score {score:.3f}" if score == score else None)
    color, label = COLORS[row["falsified"]], LABELS[row["falsified"]]
    return (
        f'<figure aria-label="{label}" style="{_TWIN}"><div style="{_FRAME.format(color)}">{picture}</div>'
        f'<figcaption><b style="color:{color}">{label}</b> '
        f'<span style="{_FAINT}">{_join(facts)}</span><br><span dir="auto">{_text(text)}</span></figcaption></figure>'
    )


def _join(parts: Iterable[str | None]) -> str:
    return " · ".join(_text(part) for part in parts if part)


def _text(text: str) -> str:
    return escape(one_line(text))
