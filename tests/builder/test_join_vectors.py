"""join_vectors: columns of vectors are added to rows that are loaded, and equal those of a build."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from support.own_vectors import Rows, make_vectors, write_folder, write_npy, write_parquet
from support.reading import load, raw
from support.sampling import WAYS, crossed
from support.world import SPLITS, World

from newsclippings import BadFileError, ConfigError, join_vectors


@pytest.fixture(scope="module")
def place(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Vectors of pictures in a folder, and of captions in a file."""
    folder = tmp_path_factory.mktemp("vectors")
    captions = write_npy(make_vectors(world, "id"), folder, np.float16)
    return {"net": write_folder(make_vectors(world), folder), "text": (captions, "captions")}


@pytest.mark.parametrize(("dtype", "streaming"), crossed(["float32", "float16"], WAYS))
def test_the_rows_equal_those_of_a_build(world: World, place: dict[str, Any], streaming: bool, dtype: str) -> None:
    """All splits, with pictures: the same columns, types and values as if they had been built with the vectors."""
    images = "none" if streaming else "bytes"
    plain = load(world, streaming=streaming, images=images)
    joined = join_vectors(plain, place, vector_dtype=dtype)
    built = load(world, images=images, embeddings=place, vector_dtype=dtype)
    assert type(joined) is type(plain)
    for split in SPLITS:
        assert joined[split].features == built[split].features
        assert raw(joined[split]) == raw(built[split])


def test_rows_that_were_changed(world: World, place: dict[str, Any]) -> None:
    """Filtered, shuffled and formatted rows keep their order, their format and their own vectors."""
    built = load(world, images="none", embeddings=place, split="train")
    some = load(world, images="none", split="train").shuffle(seed=1).select(range(3, 20))
    joined = join_vectors(some, place)
    by_index = {row["index"]: row for row in built}
    assert list(joined) == [by_index[n] for n in some["index"]]
    numbers = join_vectors(some.with_format("numpy"), place)
    assert isinstance(numbers[0]["caption"], str)
    assert numbers.format["type"] == "numpy"
    assert {*join_vectors(some.with_format("numpy", ["id", "image_id"]), place)[0]} == {"id", "image_id", *place}


def test_the_vectors_of_shuffled_rows_are_not_copied(world: World, place: dict[str, Any]) -> None:
    """`datasets` writes shuffled rows again to add columns to them; the columns of vectors stay mapped."""
    joined = join_vectors(load(world, images="none", split="train").shuffle(seed=1), place)
    copies = [file["filename"] for file in joined.cache_files if Path(file["filename"]).name.startswith("cache-")]
    assert len(copies) == 1


def test_the_columns_are_mapped_from_the_cache(world: World, place: dict[str, Any]) -> None:
    """Nothing is held in memory: the columns are a file of the cache, pickled by its name, and written once."""
    rows = load(world, images="none", split="train")
    first, again = join_vectors(rows, place), join_vectors(rows, place)
    files = {file["filename"] for file in first.cache_files}
    assert len(files) == 3
    assert files == {file["filename"] for file in again.cache_files}
    assert len(pickle.dumps(first)) < 100_000
    assert list(pickle.loads(pickle.dumps(first))) == list(first)
    expected = list(first)
    damaged = next(Path(name) for name in files if "joined" in name)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-400] + b"\xff" * 400)
    assert list(join_vectors(rows, place)) == expected
    assert damaged.read_bytes() == content


def test_pictures_of_a_stream_stay_as_they_are(world: World, place: dict[str, Any]) -> None:
    """A stream with pictures yields them decoded, and their bytes as found if they are not to be decoded."""
    plain = load(world, split="test", streaming=True)
    joined = join_vectors(plain, place)
    assert [row["image"].size for row in joined] == [row["image"].size for row in plain]
    joined = join_vectors(plain.cast_column("image", datasets.Image(decode=False)), place)
    expected = raw(load(world, split="test", embeddings=place))
    assert [row["image"]["bytes"] for row in joined] == [row["image"]["bytes"] for row in expected]


def test_a_stream_is_read_by_workers(world: World, place: dict[str, Any]) -> None:
    """A stream with vectors can be sent to other processes."""
    stream = join_vectors(load(world, images="none", split="train", streaming=True), place)
    expected = list(stream)
    assert list(pickle.loads(pickle.dumps(stream))) == expected


@pytest.mark.parametrize("kind", ["arrow", "numpy", "torch", None])
def test_a_stream_keeps_its_format(world: World, place: dict[str, Any], kind: str | None) -> None:
    """Vectors of a stream are Arrow until they are numbers of the wanted kind, of which `datasets` makes one tensor."""
    if kind == "torch":
        pytest.importorskip("torch")
    stream = load(world, images="none", split="train", streaming=True)
    expected = load(world, images="none", split="train", embeddings=place).with_format(kind)[:2]["net"]
    joined = join_vectors(stream.with_format(kind), place)
    found = [row["net"] for row in joined.take(2)]
    if kind == "arrow":
        assert found[0].to_pylist() == expected.slice(0, 1).to_pylist()
    else:
        assert type(found[0]) is type(expected[0])
        assert [list(map(float, vector)) for vector in found] == [list(map(float, vector)) for vector in expected]
    assert joined.features["net"] == datasets.Sequence(datasets.Value("float32"), length=5)


def test_rows_without_an_id_are_named(world: World, place: dict[str, Any]) -> None:
    """Mapped or streamed, a null where an id should be is an error."""
    rows = load(world, images="none", split="test")
    lost = rows.map(lambda row: {"image_id": None}, features=rows.features)
    for some in (lost, lost.to_iterable_dataset()):
        with pytest.raises(ConfigError, match="expected an image_id in each row, found null"):
            list(join_vectors(some, place))


def test_wrong_arguments(world: World, place: dict[str, Any], tmp_path: Path) -> None:
    """Names that are taken, kinds of the authors, rows without ids, and vectors of other rows."""
    rows = load(world, images="none", split="test")

    def refused(message: str, dataset: Any, embeddings: Any, error: type[Exception] = ConfigError) -> None:
        with pytest.raises(error, match=message):
            join_vectors(dataset, embeddings)

    refused("expected a dict of the column's name", rows, [])
    refused("clip_text is of the authors. Load the rows with embeddings=", rows, {"clip_text": True})
    refused("the rows have a column net already", join_vectors(rows, {"net": place["net"]}), {"net": place["net"]})
    refused("expected rows with a column image_id .int64., found none", rows.remove_columns("image_id"), place)
    refused("expected a Dataset, a stream", list(rows), place)
    refused("Join before `.map`", datasets.IterableDataset.from_generator(lambda: iter([{"id": 1}])), place)
    other: Rows = {10**9: np.ones(5, np.float32)}
    refused(
        "has no vector for any of the rows", rows, {"net": (write_parquet(other, tmp_path), "pictures")}, BadFileError
    )
