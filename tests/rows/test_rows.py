"""The content of a row: columns, types, order and values, whatever the layout of the files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import PIL.Image
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, Image, Value
from support.reading import expected_splits, load, raw, raw_splits
from support.sampling import crossed
from support.world import CONFIGS, DIALECTS, SOURCES, SPLITS, World

from newsclippings import BadFileError, ConfigError, NewsCLIPpings

FEATURES = Features(
    {
        "index": Value("int32"),
        "id": Value("int64"),
        "image_id": Value("int64"),
        "caption": Value("string"),
        "image": Image(),
        "image_path": Value("string"),
        "falsified": ClassLabel(names=["pristine", "falsified"]),
        "similarity_score": Value("float64"),
        "source_dataset": ClassLabel(names=list(SOURCES)),
        "source": Value("string"),
        "topic": Value("string"),
        "image_source": Value("string"),
        "image_topic": Value("string"),
        "image_caption": Value("string"),
    }
)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("images", ["bytes", "path", "none"])
def test_columns_types_and_order(world: World, images: str, streaming: bool) -> None:
    """The features are exactly the documented columns in that order; images="none" leaves out one."""
    features = Features({k: v for k, v in FEATURES.items() if images != "none" or k != "image"})
    data = load(world, images=images, streaming=streaming, split="test")
    assert data.features == features
    assert data.column_names == list(features)
    assert list(next(iter(data))) == list(features)


def test_pictures_decode(world: World) -> None:
    """`row["image"]` is the decoded picture, also if a .jpg holds a GIF."""
    for row, expected in zip(load(world, split="train"), world.rows(), strict=True):
        picture = PIL.Image.open(io.BytesIO(expected["image"]["bytes"]))
        assert (row["image"].size, row["image"].mode) == (picture.size, picture.mode)
        assert row["image"].tobytes() == picture.tobytes()


@pytest.mark.parametrize("config", CONFIGS)
def test_rows_match_the_official_lookup(world: World, config: str) -> None:
    """The official README's loop gives the same caption, picture and label for every row of every split."""
    corpus = {record["id"]: record for record in json.loads(world.data_json.read_text())}
    for split, name in SPLITS.items():
        file = world.root / "news_clippings" / "data" / config / f"{name}.json"
        rows = raw(load(world, config, split=split))
        annotations = json.loads(file.read_text())["annotations"]
        assert len(rows) == len(annotations)
        for row, annotation in zip(rows, annotations, strict=True):
            picture = world.origin / corpus[annotation["image_id"]]["image_path"]
            assert row["caption"] == corpus[annotation["id"]]["caption"]
            assert row["image"] == {"bytes": picture.read_bytes(), "path": None}
            assert row["falsified"] == annotation["falsified"]


@pytest.mark.parametrize("images", ["bytes", "path", "none"])
@pytest.mark.parametrize("config", CONFIGS)
def test_generate_examples_gives_the_rows_of_the_tables(world: World, config: str, images: str) -> None:
    """_generate_examples yields the rows that _generate_tables writes, each with a unique key."""
    builder = NewsCLIPpings(config_name=config, data_dir=str(world.root), images=images)
    assert isinstance(builder, datasets.GeneratorBasedBuilder)
    manager = datasets.DownloadManager(dataset_name="newsclippings")
    for generator in builder._split_generators(manager):
        examples = list(builder._generate_examples(**generator.gen_kwargs))
        tables = [table for _, table in builder._generate_tables(**generator.gen_kwargs)]
        encoded = [builder.info.features.encode_example(example) for _, example in examples]
        rows = [row for table in tables for row in table.to_pylist()]
        expected = world.rows(config, str(generator.name), images=images)
        assert rows == expected
        assert encoded == expected
        assert [list(row) for row in encoded] == [list(row) for row in expected]
        assert len({key for key, _ in examples}) == len(expected)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_images_path_refers_to_the_folder(world: World, streaming: bool) -> None:
    """images="path" copies nothing: the row names the file in the folder tree, and it decodes."""
    data = load(world, images="path", split="test", streaming=streaming)
    assert raw(data) == world.rows(split="test", images="path")
    for row in data:
        with row["image"] as picture:
            assert picture.size[0] >= 8


@pytest.mark.parametrize("streaming", [False, True])
def test_image_file_names_the_file_of_each_row(world: World, streaming: bool) -> None:
    """image_file=True adds a last column with the absolute path of each picture."""
    data = load(world, images="path", image_file=True, split="test", streaming=streaming)
    assert list(data.features)[-1] == "image_file"
    assert raw(data) == [
        {**row, "image_file": str(world.origin / row["image_path"])} for row in world.rows(split="test", images="path")
    ]


def test_image_file_is_null_without_a_picture(new_world: Callable[..., World]) -> None:
    """A row whose picture is missing has no path."""
    world = new_world(tar=False)
    path = world.used_once().image_path
    (world.origin / path).unlink()
    rows = load(world, images="path", image_file=True, missing="null", split="train")
    assert [row["image_path"] for row in raw(rows) if row["image_file"] is None] == [path]


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_images_path_needs_the_folder(new_world: Callable[..., World], streaming: bool) -> None:
    """images="path" with only a tar is an error that says that a folder is needed."""
    with pytest.raises(ConfigError, match=r"(?s)path.*(folder|tar)"):
        raw_splits(load(new_world(folder=False), images="path", streaming=streaming))


def test_images_none_needs_no_pictures(new_world: Callable[..., World]) -> None:
    """Without VisualNews, images="none" builds every config from the matches and the metadata."""
    world = new_world(folder=False, tar=False)
    for config in CONFIGS:
        expected = expected_splits(world, config, images="none", captions="metadata")
        assert raw_splits(load(world, config, images="none")) == expected
        assert raw_splits(load(world, config, images="none", streaming=True)) == expected


def test_images_none_prefers_the_original_captions(world: World) -> None:
    """If VisualNews exists, its captions are used, not those of the metadata, which lack punctuation."""
    assert raw_splits(load(world, images="none")) == expected_splits(world, images="none")


def test_metadata_is_not_needed_beside_visual_news(new_world: Callable[..., World]) -> None:
    """data.json alone is enough for captions."""
    world = new_world(metadata=False)
    assert raw_splits(load(world)) == expected_splits(world)


def test_metadata_replaces_a_missing_data_json(new_world: Callable[..., World]) -> None:
    """Without data.json, captions come from the metadata."""
    world = new_world(tar=False)
    world.data_json.unlink()
    assert raw_splits(load(world)) == expected_splits(world, captions="metadata")


@pytest.mark.parametrize(
    ("dialect", "file"), crossed(list(DIALECTS), ["data.json", "data.json in the tar", "metadata", "annotations"])
)
def test_json_in_any_layout(new_world: Callable[..., World], dialect: str, file: str) -> None:
    """Spacing, key order, indentation, extra keys and escapes of a JSON file change nothing."""
    world = new_world(folder=False, tar=False)
    captions, images = "origin", "none"
    if file == "data.json":
        world.write_data_json(dialect)
    elif file == "data.json in the tar":
        world.write_tar(dialect=dialect)
        images = "bytes"
    else:
        captions = "metadata"
        world.write_metadata(dialect if file == "metadata" else "official")
        world.write_annotations(dialect=dialect if file == "annotations" else "official")
    assert raw_splits(load(world, images=images)) == expected_splits(world, images=images, captions=captions)


@pytest.mark.parametrize(
    "written",
    [
        {"source_datasets": "list"},
        {"source_datasets": "absent"},
        {"source_datasets": "renumbered"},
        {"label": int},
        {"score": float},
        {"source_datasets": "list", "label": int, "score": float, "dialect": "reversed"},
    ],
    ids=lambda written: " ".join(f"{k}={getattr(v, '__name__', v)}" for k, v in written.items()),
)
def test_dialects_of_the_matches(new_world: Callable[..., World], written: dict[str, Any]) -> None:
    """source_datasets as a list, renumbered or absent, labels as 0/1, scores as 1.0 give the same rows."""
    world = new_world(tar=False)
    world.write_annotations(**written)
    assert raw_splits(load(world)) == expected_splits(world)


@pytest.mark.parametrize("source_datasets", ["dict", "absent"])
def test_merged_balanced_without_source_dataset(new_world: Callable[..., World], source_datasets: str) -> None:
    """If merged_balanced lacks source_dataset, that column is null."""
    world = new_world(tar=False)
    world.write_annotations(source_dataset=False, source_datasets=source_datasets)
    expected = [{**row, "source_dataset": None} for row in world.rows()]
    assert raw(load(world, split="train")) == expected


@pytest.mark.parametrize("config", SOURCES)
def test_source_dataset_of_a_sub_config(new_world: Callable[..., World], config: str) -> None:
    """In the four sub-configs source_dataset is the config's name, whether or not the file has it."""
    world = new_world(tar=False)
    own = SOURCES.index(config)
    assert {row["source_dataset"] for row in raw(load(world, config, split="train"))} == {own}
    world.write_annotations(config, source_dataset=True)
    assert raw_splits(load(world, config)) == expected_splits(world, config)


# Files that happen to be in the current folder


def _decoys(world: World, folder: Path) -> None:
    for path in world.pictures:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"a private key")


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("folder", [False, True], ids=["tar", "folder"])
def test_a_local_file_at_image_path_never_reaches_the_rows(
    new_world: Callable[..., World], folder: bool, streaming: bool, tmp_path: Path
) -> None:
    """A file at image_path in the current directory is never used as the picture, nor published."""
    world = new_world(folder=folder, tar=not folder)
    lost = world.used_once().image_path
    picture = world.pictures.pop(lost)
    _decoys(world, Path.cwd())
    (Path.cwd() / lost).parent.mkdir(parents=True, exist_ok=True)
    (Path.cwd() / lost).write_bytes(b"a private key")
    if folder:
        (world.origin / lost).unlink()
    else:
        world.write_tar()
    data = load(world, missing="null", split="train", streaming=streaming)
    assert raw(data) == world.rows()
    assert picture not in [row["image"] and row["image"]["bytes"] for row in raw(data)]
    if not streaming:
        data.to_parquet(str(tmp_path / "published.parquet"))
        assert pq.read_table(tmp_path / "published.parquet").to_pylist() == world.rows()
        assert b"a private key" not in (tmp_path / "published.parquet").read_bytes()


# Invalid files


def _damage(rows: list[Any], kind: str) -> list[Any]:
    row = rows[3]
    if kind in ("id", "image_id", "similarity_score", "falsified"):
        rows[3] = {key: value for key, value in row.items() if key != kind}
    elif kind == "id is text":
        row["id"] = str(row["id"])
    elif kind == "score is text":
        row["similarity_score"] = "0.5"
    elif kind == "falsified is 2":
        row["falsified"] = 2
    elif kind == "row is a list":
        rows[3] = list(row.values())
    elif kind == "id of 70 bits":
        row["id"] = 2**70
    return rows


@pytest.mark.parametrize(
    "kind",
    [
        "id",
        "image_id",
        "similarity_score",
        "falsified",
        "id is text",
        "score is text",
        "falsified is 2",
        "row is a list",
        "id of 70 bits",
    ],
)
def test_a_bad_match_is_refused(new_world: Callable[..., World], kind: str) -> None:
    """A match without a required key, or with a value of the wrong type, is an error that names the file."""
    world = new_world(tar=False)
    path = world.annotations("merged_balanced", "train")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": _damage(content["annotations"], kind)}))
    with pytest.raises(BadFileError, match=r"train\.json"):
        load(world)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html></html>", b"[]", b"{}", b"\xff\xfe{}", b"half"])
def test_a_file_of_something_else_is_refused(new_world: Callable[..., World], content: bytes) -> None:
    """An empty, truncated or unrelated file of matches is an error that names the file."""
    world = new_world(tar=False)
    path = world.annotations("merged_balanced", "train")
    path.write_bytes(path.read_bytes()[:900] if content == b"half" else content)
    with pytest.raises(BadFileError, match=r"train\.json"):
        load(world)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html></html>", b"{}", b"half", b"caption", b"twice"])
def test_a_broken_corpus_is_refused(new_world: Callable[..., World], content: bytes) -> None:
    """An empty, truncated or unrelated data.json, a caption that is no text, or a repeated id is an error."""
    world = new_world(tar=False)
    whole = world.data_json.read_bytes()
    records = json.loads(whole)
    wanted = next(r for r in records if r["id"] == world.matches["merged_balanced", "train"][0].id)
    if content == b"half":
        content = whole[: len(whole) // 2]
    elif content == b"twice":
        content = json.dumps([*records, {**wanted, "caption": "another"}]).encode()
    elif content == b"caption":
        wanted["caption"] = 7
        content = json.dumps(records).encode()
    world.data_json.write_bytes(content)
    with pytest.raises(BadFileError, match=r"data\.json"):
        load(world)
