"""The picture of pairs: twins are grouped below the caption that they share, each with its picture's own caption."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.world import World

from _newsclippings.folder import BuiltFolder, build_folder, stream_built_rows
from _newsclippings.show import draw_sheet, sheet
from _newsclippings.show.fonts import Fonts


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float, str]]:
    """The texts that are drawn, with their places."""
    found: list[tuple[float, float, str]] = []

    def draw(_: Any, __: Any, place: tuple[float, float], text: str, ___: str) -> None:
        found.append((*place, text))

    monkeypatch.setattr(Fonts, "draw", draw)
    return found


def row(index: int, **fields: Any) -> dict[str, Any]:
    texts = {"caption": f"Caption {index // 2}", "image_caption": f"Own caption of {index}", "source": "bbc"}
    facts = {"topic": "world", "image_source": "guardian", "source_dataset": 1, "similarity_score": 0.25, "image": None}
    return {"index": index, "falsified": index % 2, **texts, **facts, **fields}


def test_what_is_drawn(tmp_path: Path, texts: list[tuple[float, float, str]]) -> None:
    """The caption once for both twins; below each, its label, score and own caption; the date in the head."""
    dated = {"metadata": {"timestamp": datetime(2014, 3, 1, tzinfo=UTC)}}
    rows = [row(0, image_caption="Caption 0", **dated), row(1, **dated), row(4), row(5)]
    assert draw_sheet(rows, tmp_path / "x.png") == 2
    drawn = [text for _, _, text in texts]
    assert drawn[:2] == ["Pair 0 · bbc · world · 2014-03-01 · semantics_clip_text_text", "Caption 0"]
    assert drawn.count("Caption 0") == drawn.count("Caption 2") == 1
    for text in ("This is the picture\u2019s own caption.", "The picture\u2019s own caption: Own caption of 1"):
        assert text in drawn
    assert drawn.count("guardian · score 0.250") == 4
    assert drawn.count("PRISTINE") == drawn.count("FALSIFIED") == 2
    lefts = [left for left, _, text in texts if text in ("PRISTINE", "FALSIFIED")]
    assert [b - a for a, b in itertools.pairwise(lefts)] == [
        sheet.CELL + sheet.GAP, sheet.WIDTH + sheet.MARGIN - sheet.CELL - sheet.GAP, sheet.CELL + sheet.GAP,
    ]  # fmt: skip


def test_a_row_without_its_twin(tmp_path: Path, texts: list[tuple[float, float, str]]) -> None:
    """A row alone has a card of its own, and so has each row where twins are apart."""
    assert draw_sheet([row(1), row(2), row(7)], tmp_path / "x.png") == 3
    assert [text for _, _, text in texts if text.startswith("Pair ")] == [
        f"Pair {k} · bbc · world · semantics_clip_text_text" for k in (0, 1, 3)
    ]
    with Image.open(tmp_path / "x.png") as drawn:
        cards = (2 * (sheet.WIDTH + sheet.MARGIN) + sheet.MARGIN, 2 * (sheet.HEIGHT + sheet.MARGIN) + sheet.MARGIN)
        assert drawn.size == cards


def test_the_card_of_a_folder_has_them_too(world: World, tmp_path: Path, texts: list[tuple[float, float, str]]) -> None:
    """`build` draws pairs.png in the same way."""
    build_folder(tmp_path / "out", ["merged_balanced"], data_dir=str(world.root), splits=["test"])
    built = BuiltFolder.open(tmp_path / "out")
    rows = [*stream_built_rows(built, "merged_balanced", "test")]
    heads = [text for _, _, text in texts if text.startswith("Pair ")]
    assert heads[0].startswith(f"Pair 0 · {rows[0]['source']} · {rows[0]['topic']} · ")
    assert sum(text.startswith("This is the picture") for _, _, text in texts) >= len(heads)
