"""Metadata and articles in the rows: those of the caption's and of the picture's article."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import datasets
import pytest
from support.metadata import in_our_words
from support.reading import load, raw_splits
from support.world import SPLITS, World

from _newsclippings.corpus import metadata, records
from _newsclippings.corpus.metadata import parse_timestamp
from newsclippings import BadFileError, MissingDataError, NewsCLIPpings, UnsafePathError

FILES = {"train": "train", "validation": "val", "test": "test"}
ENTITIES = [{"text": datasets.Value("string"), "label": datasets.Value("string")}]
STRUCT = {
    "title": datasets.Value("string"),
    "timestamp": datasets.Value("timestamp[s, tz=UTC]"),
    "timestamp_text": datasets.Value("string"),
    "image_has_person": datasets.Value("bool"),
    "entities": ENTITIES,
    "linked_entities": [
        {
            "title": datasets.Value("string"),
            "type": datasets.Value("string"),
            "mention": datasets.Value("string"),
            "confidence": datasets.Value("float64"),
        }
    ],
    "article_path": datasets.Value("string"),
    "full_article_path": datasets.Value("string"),
    "title_entities": ENTITIES,
}


def files_of(world: World) -> dict[str, Any]:
    """Read the metadata files of a world."""
    folder = world.root / "news_clippings" / "metadata"
    return {split: json.loads((folder / f"{name}.json").read_bytes()) for split, name in FILES.items()}


@pytest.mark.parametrize("captions", ["data.json", "metadata"])
@pytest.mark.parametrize("streaming", [False, True])
def test_metadata_of_both_articles(new_world: Callable[..., World], captions: str, streaming: bool) -> None:
    """`metadata` has the record of the caption's id, `image_metadata` of the picture's, with every field."""
    world = new_world(tar=False)
    if captions == "metadata":
        (world.origin / "data.json").unlink()
    plan = files_of(world)
    found = load(world, images="none", metadata=True, streaming=streaming)
    for split in SPLITS:
        rows = list(found[split])
        assert len(rows) == len(world.rows("merged_balanced", split))
        for row in rows:
            assert row["metadata"] == in_our_words(plan[split][str(row["id"])])
            assert row["image_metadata"] == in_our_words(plan[split][str(row["image_id"])])
    assert list(found["test"].features)[13:] == ["metadata", "image_metadata"]
    assert found["test"].features["metadata"] == datasets.Features({"x": STRUCT})["x"]


def test_the_file_is_read_once(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """If captions come from the metadata, too, one pass reads both."""
    world = new_world(tar=False)
    (world.origin / "data.json").unlink()
    opened: list[str] = []
    original = records.pick_records

    def counting(open_file: Any, location: str, *args: Any) -> Any:
        opened.append(Path(location).name)
        return original(open_file, location, *args)

    monkeypatch.setattr(metadata, "pick_records", counting)
    load(world, images="none", metadata=True)
    assert sorted(opened) == ["test.json", "train.json", "val.json"]


def test_ids_without_metadata_are_null_and_counted(new_world: Callable[..., World]) -> None:
    """A row without metadata has null, and the report counts rows with metadata."""
    world = new_world(tar=False)
    plan = files_of(world)["test"]
    gone = world.rows("merged_balanced", "test")[0]["id"]
    del plan[str(gone)]
    (world.root / "news_clippings/metadata/test.json").write_text(json.dumps(plan))
    builder = NewsCLIPpings(data_dir=str(world.root), images="none", metadata=True, splits=["test"])
    builder.download_and_prepare()
    rows = list(builder.as_dataset(split="test"))
    assert [row["metadata"] is None for row in rows] == [row["id"] == gone for row in rows]
    assert [row["image_metadata"] is None for row in rows] == [row["image_id"] == gone for row in rows]
    assert builder.join_reports["test"]["coverage"] == {
        "metadata": sum(row["id"] != gone for row in rows),
        "image_metadata": sum(row["image_id"] != gone for row in rows),
    }


def test_a_changed_metadata_file_gives_new_rows(new_world: Callable[..., World]) -> None:
    """With metadata=True, a changed file gives new rows, although captions come from data.json."""
    world = new_world(tar=False)
    load(world, images="none", metadata=True)
    file = world.root / "news_clippings/metadata/test.json"
    plan = files_of(world)["test"]
    row = world.rows("merged_balanced", "test")[0]
    plan[str(row["id"])]["title"] = "another title"
    file.write_text(json.dumps(plan))
    assert load(world, images="none", metadata=True)["test"][0]["metadata"]["title"] == "another title"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2015-12-02T11:33:37Z", datetime(2015, 12, 2, 11, 33, 37, tzinfo=UTC)),
        ("2015-12-02T11:33:37+02:00", datetime(2015, 12, 2, 9, 33, 37, tzinfo=UTC)),
        ("2015-12-02T11:33:37", datetime(2015, 12, 2, 11, 33, 37, tzinfo=UTC)),
        ("2015-12-02T11:33:37.5Z", datetime(2015, 12, 2, 11, 33, 37, tzinfo=UTC)),
        ("20151202T113337Z", datetime(2015, 12, 2, 11, 33, 37, tzinfo=UTC)),
        ("2015-12-02", datetime(2015, 12, 2, tzinfo=UTC)),
        ("1900-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_times_are_utc_and_placeholders_are_none(text: str | None, expected: datetime | None) -> None:
    """ISO-8601 times of any zone become UTC; placeholders and other text become null."""
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("title", 5, "str or null as title, found 5"),
        ("timestamp", 5, "str or null as timestamp, found 5"),
        ("image_has_person", "yes", "bool or null as image_has_person, found 'yes'"),
        ("caption_entities_spacy", [["one"]], "a list of lists of 2 as caption_entities_spacy"),
        ("caption_entities_spacy", "text", "a list of lists of 2"),
        ("caption_entities_rel", [["a", "b", "c", "d"]], "a list of lists of 4 as caption_entities_rel"),
        ("title_entities_spacy", {"a": "b"}, "a list of lists of 2 as title_entities_spacy"),
        ("article_path", ["a"], r"str or null as article_path, found \['a'\]"),
        ("full_article_path", 5, "str or null as full_article_path, found 5"),
        ("caption", None, "a string as caption"),
    ],
)
def test_a_malformed_record_is_named(new_world: Callable[..., World], field: str, value: Any, says: str) -> None:
    """A field of a wrong type is an error with file, id and field."""
    world = new_world(tar=False)
    plan = files_of(world)["test"]
    row = world.rows("merged_balanced", "test")[0]
    plan[str(row["id"])][field] = value
    (world.root / "news_clippings/metadata/test.json").write_text(json.dumps(plan))
    with pytest.raises(BadFileError, match=rf"test\.json.*{row['id']}.*{says}"):
        load(world, images="none", metadata=True)


def article(world: World, number: int) -> str:
    (path,) = world.origin.glob(f"*/articles/{number}.txt")
    return path.read_bytes().decode()


@pytest.mark.parametrize("where", ["folder", "tar"])
@pytest.mark.parametrize("images", ["bytes", "none"])
def test_articles_are_those_of_the_captions(new_world: Callable[..., World], where: str, images: str) -> None:
    """`article` is the text of the caption's article, from folder or tar, with and without pictures."""
    world = new_world()
    texts = {row["id"]: article(world, row["id"]) for s in SPLITS for row in world.rows("merged_balanced", s)}
    kwargs = {"visual_news": str(world.tar)} if where == "tar" else {}
    found = raw_splits(load(world, images=images, articles=True, **kwargs))
    for split in SPLITS:
        assert [row["article"] for row in found[split]] == [texts[row["id"]] for row in found[split]]
        assert [{k: v for k, v in row.items() if k != "article"} for row in found[split]] == world.rows(
            "merged_balanced", split, images=images
        )


@pytest.mark.parametrize("missing", ["error", "null", "drop_pair"])
def test_missing_articles_follow_the_policy(new_world: Callable[..., World], missing: str) -> None:
    """A missing article is an error that names it, a null, or a dropped pair, and counted by the caption's outlet."""
    world = new_world(tar=False)
    row = world.rows("merged_balanced", "test")[2]
    (path,) = world.origin.glob(f"*/articles/{row['id']}.txt")
    path.unlink()
    if missing == "error":
        says = rf"(?s)In 2 rows the article is not there, or empty \({row['source']} 2\).*{path.name}"
        with pytest.raises(MissingDataError, match=says):
            load(world, articles=True)
        return
    builder = NewsCLIPpings(data_dir=str(world.root), articles=True, missing=missing, splits=["test"])
    builder.download_and_prepare()
    rows = list(builder.as_dataset(split="test").select_columns(["index", "id", "article"]))
    without = [r["index"] for r in rows if r["article"] is None]
    assert without == ([2, 3] if missing == "null" else [])
    assert ({2, 3} <= {r["index"] for r in rows}) == (missing == "null")
    assert builder.join_reports["test"]["missing"]["article"] == {row["source"]: 2}


def test_a_changed_article_gives_new_rows(new_world: Callable[..., World]) -> None:
    """An article that changed in the folder gives new rows."""
    world = new_world(tar=False)
    row = world.rows("merged_balanced", "test")[0]
    load(world, images="none", articles=True)
    (path,) = world.origin.glob(f"*/articles/{row['id']}.txt")
    path.write_text("new text")
    assert load(world, images="none", articles=True)["test"][0]["article"] == "new text"


def test_an_article_that_is_no_text_is_named(new_world: Callable[..., World]) -> None:
    """An article that is not UTF-8 is an error that names the file."""
    world = new_world(tar=False)
    row = world.rows("merged_balanced", "test")[0]
    (path,) = world.origin.glob(f"*/articles/{row['id']}.txt")
    path.write_bytes(b"caf\xe9")
    with pytest.raises(BadFileError, match=rf"{path.name}: expected an article in UTF-8"):
        load(world, images="none", articles=True)


def test_hostile_article_paths_are_refused(new_world: Callable[..., World]) -> None:
    """With articles=True, a path that leaves the tree is refused with file and id."""
    world = new_world(tar=False)
    file = world.origin / "data.json"
    records = json.loads(file.read_bytes())
    wanted = world.rows("merged_balanced", "test")[0]["id"]
    for record in records:
        if record["id"] == wanted:
            record["article_path"] = "../../secret.txt"
    file.write_text(json.dumps(records))
    with pytest.raises(UnsafePathError, match=rf"data\.json: record {wanted}: article_path '../../secret\.txt'"):
        load(world, articles=True)
    load(world)


def test_without_visual_news_there_are_no_articles(new_world: Callable[..., World]) -> None:
    """Articles without VisualNews give the error of missing pictures, also with images="none"."""
    world = new_world(tar=False)
    shutil.rmtree(world.root / "visual_news")
    with pytest.raises(FileNotFoundError, match="nor its articles"):
        load(world, images="none", articles=True)
