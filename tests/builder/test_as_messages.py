"""as_messages turns rows into chats, whatever holds them, and keeps the bytes of each picture."""

from __future__ import annotations

from typing import Any

import datasets
import pytest
from support.reading import load
from support.world import SPLITS, Row, World

from newsclippings import ConfigError, MissingDataError, as_messages


def encoded(data: Any) -> list[Row]:
    features = data.features.copy()
    features["images"] = datasets.List(datasets.Image(decode=False))
    return list(data.cast(features))


def expected(rows: list[Row], prompt: str) -> list[Row]:
    return [
        {
            "index": row["index"],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "text": None},
                        {"type": "text", "text": prompt.replace("{caption}", row["caption"])},
                    ],
                },
                {
                    "role": "assistant",
                    "content": [{"type": "text", "text": ("pristine", "falsified")[row["falsified"]]}],
                },
            ],
            "images": [row["image"]],
        }
        for row in rows
    ]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("images", ["bytes", "path"])
def test_every_row_becomes_a_chat(world: World, streaming: bool, images: str) -> None:
    """Of one split and of all, built or streamed; the picture is a list of one, as encoded as it was."""
    data = load(world, streaming=streaming, images=images)
    prompt = "{braces} {caption}?"
    chats = as_messages(data, prompt)
    assert type(chats) is type(data)
    for split in SPLITS:
        rows = world.rows(split=split, images=images)
        assert list(chats[split].features) == ["index", "messages", "images"]
        assert encoded(chats[split]) == expected(rows, prompt)
    first = next(iter(as_messages(data["test"])))
    assert first["images"][0].size
    assert f'"{world.rows(split="test")[0]["caption"]}"' in first["messages"][0]["content"][1]["text"]


def test_what_cannot_be_a_chat(world: World) -> None:
    """Each case is named, with what to do."""
    rows = load(world, split="test")
    for data, says in (
        (list(rows), "expected a Dataset, a stream, or a dict of them, found list"),
        (load(world, images="none", split="test"), "the rows have no column image"),
        (rows.remove_columns("caption"), "the rows have no column caption"),
    ):
        with pytest.raises(ConfigError, match=says):
            as_messages(data)
    with pytest.raises(ConfigError, match=r"prompt= 'Is it\?' has no \{caption\}"):
        as_messages(rows, "Is it?")
    empty = rows.map(lambda row: {"image": None if row["index"] == 3 else row["image"]}, features=rows.features)
    with pytest.raises(MissingDataError, match="row 3 has no picture"):
        as_messages(empty)
