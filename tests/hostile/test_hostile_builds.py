"""With a hostile file among the inputs, a build, a stream and `verify` name file and fault; nothing is built."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import hostile_pickles
from support.reading import load, raw_splits
from support.vectors import make_plan
from support.vectors import write as write_embeddings
from support.world import World

import newsclippings
from newsclippings import NewsCLIPpingsError


def of_record(world: World, old: str, new: str) -> Callable[[str], str]:
    """Return a change of a wanted record."""
    wanted = world.rows()[3]["image_id"]

    def change(text: str) -> str:
        begin = text.index(f'"id": {wanted},')
        at = text.index(old, begin)
        return text[:at] + new + text[at + len(old) :]

    return change


def _deep(text: str) -> str:
    return "[" * 100_000


def swap(old: str, new: str) -> Callable[[World], Callable[[str], str]]:
    return lambda world: lambda text: text.replace(old, new, 1)


def record(old: str, new: str) -> Callable[[World], Callable[[str], str]]:
    return lambda world: of_record(world, old, new)


# name -> (file, change, part of the message)
CASES: dict[str, tuple[str, Callable[[World], Callable[[str], str]], str]] = {
    "null before a row": ("matches", swap("[{", "[null{"), 'expected JSON, found \'{"id"'),
    "no comma": ("matches", swap("}, {", "} {"), 'expected JSON, found \'{"id"'),
    "NaN": ("matches", swap('"image_id": ', '"image_id": NaN, "x": '), "found NaN, which is not JSON"),
    "a label in quotes": ("matches", swap("true", '"true"'), "row 1: expected true, false, 0 or 1"),
    "another list": ("matches", swap("]}", '], "annotations": []}'), "the key 'annotations' more than once"),
    "deep": ("matches", lambda world: _deep, "nested too deeply"),
    "deep records": ("data.json", lambda world: _deep, "nested too deeply"),
    "an id of 2^70": ("data.json", record('"id": ', f'"id": {2**70}, "x": '), "an integer of 22 digits"),
    "a caption of no text": ("data.json", record('"caption": "', '"caption": 5, "x": "'), "a string as caption"),
    "half a character": ("data.json", record('"caption": "', '"caption": "\\ud800'), "a lone surrogate"),
    "a record twice": ("data.json", lambda world: lambda text: text[:-1] + ", " + text[1:], "each id once"),
    "half a character in a title": ("metadata", record('"title": ', '"title": "\\udc00", "x": '), "a lone surrogate"),
    "a deep field": ("metadata", record('"title"', '"x": ' + "[" * 10**5 + "]" * 10**5 + ', "title"'), "too deeply"),
    "a confidence of 1e999": ("metadata", record("0.9918", "1e999"), "finite numbers"),
    "no entities but 0": ("metadata", record('[["Celtic"', '0, "x": [["Celtic"'), "a list of lists of 2"),
}


@pytest.mark.parametrize("what", CASES)
def test_json(new_world: Callable[..., World], tmp_path: Path, what: str) -> None:
    """Builds and streams refuse the file by name, and verify lists only this file."""
    world = new_world(tar=False)
    kind, change, says = CASES[what]
    with_metadata = kind == "metadata"
    place = {"matches": world.annotations("merged_balanced", "train"), "data.json": world.data_json}
    file = place.get(kind, world.metadata("train"))
    file.write_text(change(world)(file.read_text()))
    for streaming in (False, True):
        with pytest.raises(NewsCLIPpingsError, match=rf"{re.escape(str(file))}.*{says}"):
            raw_splits(load(world, images="none", metadata=with_metadata, streaming=streaming))
    assert not [path for path in tmp_path.rglob("*.arrow") if path.name.startswith("newsclippings")]
    if not with_metadata:  # verify reads the metadata if captions come from them
        report = newsclippings.verify(str(world.root), configs=["merged_balanced"])
        assert list(report.invalid) == [str(file)]
        assert re.search(says, report.invalid[str(file)])


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_pickles(new_world: Callable[..., World], tmp_path: Path, streaming: bool) -> None:
    """A pickle that would run a command is refused with file and byte, and the command does not run."""
    world = new_world(tar=False)
    write_embeddings(world, make_plan(world))
    canary = tmp_path / "canary"
    file = next(world.root.glob("news_clippings/embeddings/sbert*/*train.pkl"))
    file.write_bytes(hostile_pickles.call_pickles(str(canary))["os.system by REDUCE"])
    with pytest.raises(NewsCLIPpingsError, match=r"sbert_embeddings_train\.pkl: byte \d+.*found the name .*system"):
        raw_splits(load(world, images="none", embeddings="sbert", streaming=streaming))
    assert not canary.exists()
    report = newsclippings.verify(str(world.root), configs=["merged_balanced"], embeddings=True)
    assert [Path(place).name for place in report.invalid] == [file.name]
    assert not canary.exists()
