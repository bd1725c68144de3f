"""Embeddings in the rows: each row has its own vectors, for any valid file, and nothing is unpickled."""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from support.constants import change_constant
from support.reading import TESTS, load, raw, raw_splits
from support.vectors import Vectors, make_plan, same, vector, write
from support.world import SPLITS, World

from _newsclippings.facts import EMBEDDINGS
from _newsclippings.vectors import embeddings
from newsclippings import BadFileError, BadPickleError, ConfigError, NewsCLIPpings, read_embeddings, read_faces

WAYS: dict[str, Callable[[Any], Any]] = {
    "float32": lambda v: v,
    "float16": lambda v: v.astype(np.float16),
    "float64": lambda v: v.astype(np.float64),
    "big endian": lambda v: v.astype(">f4"),
    "(1, d)": lambda v: v.reshape(-1, v.shape[-1]),
    "part of a larger array": lambda v: np.concatenate([v, v], axis=-1)[..., : v.shape[-1]],
}


@pytest.mark.parametrize("way", WAYS)
def test_every_row_has_its_own_vectors(new_world: Callable[..., World], way: str) -> None:
    """Image kinds are joined by image_id and text kinds by id, with null where the file has no vector."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write(world, plan, WAYS[way], protocol=2 + list(WAYS).index(way) % 4)
    dataset = load(world, images="none", embeddings="all")
    stream = load(world, images="none", embeddings="all", streaming=True)
    for split in SPLITS:
        rows = list(dataset[split])
        assert rows == list(stream[split])
        for row in rows:
            for kind, about in EMBEDDINGS.items():
                assert same(row[kind], plan[kind][split].get(row[about.key])), (kind, row["index"])


@pytest.mark.parametrize(
    ("asked", "columns"),
    [
        (["sbert", "clip_image"], ["clip_image", "sbert"]),
        ("places", ["places"]),
        ("all", ["clip_image", "clip_text", "sbert", "places", "facenet"]),
        ([], []),
        (None, []),
    ],
)
def test_the_order_of_columns_is_fixed(new_world: Callable[..., World], asked: Any, columns: list[str]) -> None:
    """Kinds in any order give the same columns, after the others, as fixed-size lists of float32."""
    world = new_world(tar=False)
    write(world, make_plan(world))
    features = load(world, images="none", embeddings=asked, split="test").features
    assert list(features)[13:] == columns
    for kind in columns:
        one = datasets.Sequence(datasets.Value("float32"), length=EMBEDDINGS[kind].width)
        assert features[kind] == (datasets.Sequence(one) if EMBEDDINGS[kind].several else one)


def test_pictures_and_vectors_together(new_world: Callable[..., World]) -> None:
    """Embeddings change no other column; two processes write the same rows."""
    world = new_world(tar=False)
    write(world, make_plan(world))
    plain = raw_splits(load(world))
    for num_proc in (None, 2):
        both = load(world, embeddings=["clip_text"], num_proc=num_proc)
        assert {s: [{k: v for k, v in row.items() if k != "clip_text"} for row in raw(both[s])] for s in both} == plain


def test_the_report_counts_coverage(new_world: Callable[..., World]) -> None:
    """The report counts the rows with a vector by kind."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write(world, plan)
    builder = NewsCLIPpings(data_dir=str(world.root), images="none", embeddings=["facenet", "sbert"])
    builder.download_and_prepare()
    for split, report in builder.join_reports.items():
        rows = world.rows("merged_balanced", split)
        assert report["coverage"] == {
            kind: sum(plan[kind][split].get(row[EMBEDDINGS[kind].key]) is not None for row in rows)
            for kind in ("sbert", "facenet")
        }


@pytest.mark.parametrize("missing", ["null", "drop_pair"])
def test_the_report_counts_vectors_of_written_rows_only(new_world: Callable[..., World], missing: str) -> None:
    """Dropped rows do not count for vectors and metadata."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write(world, plan)
    lost = world.used_once().image_path
    (world.origin / lost).unlink()
    builder = NewsCLIPpings(data_dir=str(world.root), embeddings=["sbert"], metadata=True, missing=missing)
    builder.download_and_prepare()
    report, rows = builder.join_reports["train"], builder.as_dataset(split="train").with_format("arrow")[:]
    assert report["written"] == len(rows) == (22 if missing == "drop_pair" else 24)
    assert report["coverage"] == {name: len(rows) - rows[name].null_count for name in report["coverage"]}
    assert report["coverage"].keys() == {"sbert", "metadata", "image_metadata"}


def test_the_short_names_are_found_too(new_world: Callable[..., World]) -> None:
    """Files named embeddings/<kind>/<split>.pkl, as in the authors' README, are found."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write(world, {"clip_text": plan["clip_text"]}, short=True)
    rows = load(world, images="none", embeddings="clip_text", split="test")
    assert all(same(row["clip_text"], plan["clip_text"]["test"].get(row["id"])) for row in rows)


def test_a_file_is_converted_once(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """Another config uses the converted vectors; a changed pickle is converted again."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write(world, plan)
    load(world, images="none", embeddings="clip_text")
    with monkeypatch.context() as patch:
        patch.setattr(embeddings, "PickledArrays", None)
        load(world, embeddings="clip_text", splits=["test"])
    plan["clip_text"]["test"] = {n: v + 1 for n, v in plan["clip_text"]["test"].items()}
    write(world, {"clip_text": plan["clip_text"]})
    rows = load(world, images="none", embeddings="clip_text", split="test")
    assert all(same(row["clip_text"], plan["clip_text"]["test"].get(row["id"])) for row in rows)


def test_vectors_of_many_batches(new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    """If a file is converted in many pieces, each row still has its own vectors."""
    change_constant(monkeypatch, "BATCH_BYTES", 4 * 512 * 3)
    world = new_world(tar=False)
    plan = make_plan(world)
    write(world, plan)
    rows = load(world, images="none", embeddings=["clip_image", "facenet"], split="train")
    for row in rows:
        assert same(row["clip_image"], plan["clip_image"]["train"].get(row["image_id"]))
        assert same(row["facenet"], plan["facenet"]["train"].get(row["image_id"]))


@pytest.mark.parametrize("batch", [1, 4 * 512 * 3, 1 << 25])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_ids_in_any_order(tmp_path: Path, batch: int, protocol: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with unsorted ids and arrays of several types is converted and read."""
    change_constant(monkeypatch, "BATCH_BYTES", batch)
    change_constant(monkeypatch, "READ_BYTES", batch)
    vectors: Vectors = {(n * 37) % 101 * 1000: vector("clip_text", n) for n in range(60)}
    some = {n: v.astype(np.float16) if n % 3000 == 0 else v for n, v in vectors.items()}
    some |= {5: some[37_000].copy(), 10**7: some[74_000].copy()}
    vectors |= {5: vectors[37_000], 10**7: vectors[74_000]}
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(some, protocol))
    ids, matrix = read_embeddings(path)
    assert ids.tolist() == list(vectors)
    assert np.array_equal(matrix, list(vectors.values()))
    kept = embeddings.load_embeddings(str(path), "key", 512, False, tmp_path / "kept")
    assert kept.ids.tolist() == sorted(vectors)
    asked = [10**7, 4, 5, 0, 37_000, 5, 99_999_999]
    assert kept.take(np.array(asked)).to_pylist() == [None if n not in vectors else vectors[n].tolist() for n in asked]
    faces: Vectors = {n: np.stack([v] * (n % 4)) if n % 4 else None for n, v in enumerate(vectors.values(), 1)}
    faces = {n: faces[n] for n in sorted(faces, key=lambda n: n * 29 % 61)}
    path.write_bytes(pickle.dumps(faces, protocol))
    _, starts, matrix = read_faces(path)
    for k, several in enumerate(faces.values()):
        assert np.array_equal(matrix[starts[k] : starts[k + 1]], np.zeros((0, 512)) if several is None else several)
    kept = embeddings.load_embeddings(str(path), "faces", 512, True, tmp_path / "kept")
    found = kept.take(np.array(list(faces))).to_pylist()
    assert found == [None if several is None else several.tolist() for several in faces.values()]


class Canary:
    """An object that creates a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "hostile", [Canary(), {7: Canary()}, [1], {"7": np.zeros(512)}, {7: "text"}, {7: np.array([None])}]
)
def test_other_pickles_are_refused(new_world: Callable[..., World], hostile: Any) -> None:
    """A pickle that is no dict of arrays is refused with file and byte, and nothing in it is executed."""
    world = new_world(tar=False)
    write(world, make_plan(world))
    folder = world.root / "news_clippings/embeddings/clip_text_embeddings"
    (folder / "clip_text_embeddings_test.pkl").write_bytes(pickle.dumps(hostile))
    with pytest.raises(BadPickleError, match=r"clip_text_embeddings_test\.pkl: byte \d+"):
        load(world, images="none", embeddings="clip_text")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros(511, np.float32), r"id 77: expected vectors of 512 numbers, found shape \(511,\)"),
        (np.zeros((2, 512), np.float32), "id 77: expected one vector, found 2 vectors"),
        (np.zeros((1, 1, 512), np.float32), r".*found shape \(1, 1, 512\)"),
        (np.full(512, math.nan, np.float32), "id 77: expected finite float32 numbers, found NaN or infinity"),
        (np.full(512, math.inf, np.float16), "id 77: expected finite float32 numbers"),
        (np.full(512, 1e300), "id 77: expected finite float32 numbers"),
    ],
)
def test_an_invalid_vector_is_named_with_its_id(tmp_path: Path, bad: Any, says: str) -> None:
    """A vector of another width, several for one id, NaN and infinity are errors with file and id."""
    path = tmp_path / "x.pkl"
    good = {5: np.ones(512, np.float32), 9: np.ones(512, np.float32)}
    path.write_bytes(pickle.dumps({**good, 77: bad}))
    with pytest.raises(BadFileError, match=f"x.pkl: {says}"):
        read_embeddings(path)
    with pytest.raises(BadFileError, match=f"x.pkl: {says}"):
        embeddings.load_embeddings(str(path), "key", 512, False, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_public_readers(tmp_path: Path, protocol: int) -> None:
    """The readers return ids and one matrix in file order, and for faces the start of each id's faces."""
    path = tmp_path / "x.pkl"
    vectors = {n: vector("clip_text", n) for n in (9, 3, 2**40)}
    path.write_bytes(pickle.dumps(vectors, protocol=protocol))
    ids, matrix = read_embeddings(path)
    assert (str(ids.dtype), str(matrix.dtype)) == ("int64", "float32")
    assert ids.tolist() == [9, 3, 2**40]
    assert np.array_equal(matrix, np.stack(list(vectors.values())))
    faces: Vectors = {9: None, 3: np.stack([vector("facenet", k) for k in range(3)]), 4: np.zeros((0, 512), np.float32)}
    faces[5] = np.stack([vector("facenet", 1), vector("facenet", 2)])
    path.write_bytes(pickle.dumps(faces, protocol=protocol))
    ids, starts, matrix = read_faces(path)
    assert ids.tolist() == [9, 3, 4, 5]
    assert starts.tolist() == [0, 0, 3, 3, 5]
    assert np.array_equal(matrix[:3], faces[3])
    assert np.array_equal(matrix[4], vector("facenet", 2))


def test_the_test_files_are_pickles_of_numpy() -> None:
    """The files of these tests are pickles of numpy arrays, which pickle itself reads."""
    names = [arg for op, arg, _ in pickletools.genops(pickle.dumps({1: np.zeros(3)}, 3)) if op.name == "GLOBAL"]
    assert any("_reconstruct" in str(name) for name in names)


@pytest.mark.parametrize("kinds", [["clip"], True, 5], ids=str)
def test_an_unknown_kind_is_refused(kinds: Any) -> None:
    """The error names the option and lists the kinds."""
    with pytest.raises(
        ConfigError, match=r"embeddings=.*'clip_image', 'clip_text', 'sbert', 'places', 'facenet', 'all'"
    ):
        NewsCLIPpings(embeddings=kinds)


def test_batches_are_tensors(new_world: Callable[..., World]) -> None:
    """With torch, a batch of rows is one float32 tensor for each kind; the example trains on them."""
    torch = pytest.importorskip("torch")
    world = new_world(tar=False)
    plan = make_plan(world)
    for kind in ("clip_image", "clip_text"):
        for split in SPLITS:
            ids = {row[EMBEDDINGS[kind].key] for row in world.rows("merged_balanced", split)}
            plan[kind][split] = {n: vector(kind, n) for n in sorted(ids)}
    write(world, plan)
    rows = load(world, images="none", embeddings=["clip_image", "clip_text"]).with_format("torch")["train"]
    batch = rows[:5]["clip_text"]
    assert (batch.shape, batch.dtype) == ((5, 512), torch.float32)
    assert np.array_equal(batch[3], plan["clip_text"]["train"][int(rows[3]["id"])])
    probe = runpy.run_path(str(TESTS.parent / "examples" / "probe.py"))
    assert 0 <= probe["main"](str(world.root), epochs=1) <= 1


@pytest.mark.parametrize("read", [read_embeddings, read_faces])
def test_a_small_file_does_not_unpack_to_gigabytes(tmp_path: Path, read: Callable[[str], Any]) -> None:
    """An array that many ids share is refused, because it would fill the memory."""
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(dict.fromkeys(range(100_000), np.ones(4096, np.float32)), 4))
    with pytest.raises(BadPickleError, match=r"bomb\.pkl: byte .* found one that several ids share"):
        read(str(path))
