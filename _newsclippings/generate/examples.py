"""Examples of a generated config: a sheet of a few pairs, and a page of more."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from _newsclippings.generate.quality import Twins
from _newsclippings.generate.records import Records
from _newsclippings.pictures import Pictures
from _newsclippings.show import Rows, draw_sheet, write_page
from _newsclippings.tables import Int64s, as_array

SHEET: Final = "examples.png"
PAGE: Final = "examples.html"
_ON_SHEET = 8  # pairs
_ON_PAGE = 100
_COLUMNS = ("id", "caption", "source", "topic", "image_path")


def draw_examples(
    folder: Path, config: str, split: str, methods: Sequence[str], records: Records, pictures: Pictures, twins: Twins
) -> None:
    """Draw pairs at equal distances in a split, as many of each method if there are enough.

    Args:
        folder: where the files are written.
        config: its name.
        split: which split it is.
        methods: the names of the methods.
        records: the captions.
        pictures: of the records; they are looked for.
        twins: the pairs of the split.
    """
    for most, place in ((_ON_SHEET, folder / SHEET), (_ON_PAGE, folder / PAGE)):
        if place.exists():  # of an interrupted call
            continue
        share = -(-most // len(methods))
        parts = [twins.take(twins.methods == number).spread(share) for number in range(len(methods))]
        turn = np.concatenate([np.arange(len(part.captions)) for part in parts])  # a pair of each method in turn
        every = Twins(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(twins)))
        chosen = every.take(np.argsort(turn, kind="stable")[:most])
        rows = _read_rows(records, pictures, chosen)
        if place.name == SHEET:
            draw_sheet(rows, place, most, measures=methods)
        else:
            write_page([Rows(config, split, rows, measures=methods)], place, most)


def _read_rows(records: Records, pictures: Pictures, twins: Twins) -> list[dict[str, Any]]:
    """Return rows as the dataset has them."""
    said, shown = ({name: _take(records, name, places) for name in _COLUMNS} for places in (twins.said, twins.shown))
    images = pictures.read(twins.shown.astype(np.int32)).to_pylist()
    scores = np.stack([np.ones(len(twins.scores)), twins.scores], axis=1).ravel().tolist()
    return [
        {
            "index": row,
            "id": said["id"][row],
            "image_id": shown["id"][row],
            "caption": said["caption"][row],
            "image": None if image is None else {"bytes": image, "path": shown["image_path"][row]},
            "falsified": row % 2,
            "similarity_score": scores[row],
            "source_dataset": int(twins.methods[row // 2]),
            "source": said["source"][row],
            "topic": said["topic"][row],
            "image_source": shown["source"][row],
            "image_topic": shown["topic"][row],
            "image_caption": shown["caption"][row],
        }
        for row, image in enumerate(images)
    ]


def _take(records: Records, name: str, places: Int64s) -> list[Any]:
    column: list[Any] = records.table[name].take(as_array(places)).to_pylist()
    return column
