"""Vectors of the user's own encoder: files of all kinds become columns, joined by id, and wrong ones are errors."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.constants import change_constant
from support.own_vectors import KINDS, WIDTH, Rows, make_vectors, write_folder, write_npy, write_parquet
from support.reading import load, raw
from support.remote import Origin
from support.world import SPLITS, World

import newsclippings
from _newsclippings.vectors import files
from newsclippings import BadFileError, ConfigError, DataNotFoundError, read_embeddings, read_faces


def right(rows: Any, vectors: Rows, column: str = "mine", key: str = "image_id") -> bool:
    """Whether each row has the planned vector, or null; some of both."""
    expected = [None if (v := vectors.get(row[key])) is None else v.tolist() for row in rows]
    assert None in expected or len(expected) < 16
    return [row[column] for row in rows] == expected


@pytest.fixture(scope="module")
def vectors(world: World) -> Rows:
    return make_vectors(world)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_all_kinds_are_joined(world: World, vectors: Rows, tmp_path: Path, kind: str) -> None:
    """Each row has the vector of its picture, null where there is none: built, streamed, and read by itself."""
    path = KINDS[kind](vectors, tmp_path)
    where: Any = str(path) if kind == "folder" else (str(path), "pictures")
    built = load(world, images="none", embeddings={"mine": where})
    stream = load(world, images="none", embeddings={"mine": where}, streaming=True)
    feature = datasets.Sequence(datasets.Value("float32"), length=WIDTH)
    for split in SPLITS:
        assert built[split].features["mine"] == stream[split].features["mine"] == feature
        assert right(list(built[split]), vectors)
        assert list(stream[split]) == list(built[split])
    ids, numbers = read_embeddings(path)
    assert numbers.dtype == np.float32
    order = sorted(vectors) if kind == "folder" else [*vectors]
    assert ids.tolist() == order
    assert np.array_equal(numbers, np.stack([vectors[n] for n in order]))


def test_captions_and_pictures_and_the_order_of_columns(world: World, vectors: Rows, tmp_path: Path) -> None:
    """Columns come in the order of the dict; captions are joined by id."""
    captions = make_vectors(world, "id")
    place = {
        "of_text": (write_npy(captions, tmp_path), "captions"),
        "of_picture": write_folder(vectors, tmp_path),
    }
    rows = load(world, images="none", embeddings=place, split="train")
    assert rows.column_names[-2:] == ["of_text", "of_picture"]
    assert right(rows, captions, "of_text", "id")
    assert right(rows, vectors, "of_picture")


@pytest.mark.parametrize("kind", ["npy float16", "parquet float16", "folder"])
def test_float16_stays_if_asked(world: World, vectors: Rows, tmp_path: Path, kind: str) -> None:
    """vector_dtype="float16" keeps what is stored so; it is refused if nothing is."""
    path = KINDS[kind](vectors, tmp_path)
    where: Any = str(path) if kind == "folder" else (str(path), "pictures")
    if kind == "folder":
        with pytest.raises(ConfigError, match="None of your own vectors are stored as float16"):
            load(world, images="none", embeddings={"mine": where}, vector_dtype="float16")
        return
    rows = load(world, images="none", embeddings={"mine": where}, vector_dtype="float16", split="test")
    assert rows.features["mine"] == datasets.Sequence(datasets.Value("float16"), length=WIDTH)
    assert right(rows, vectors)
    with pytest.raises(ConfigError, match="vector_dtype='float16' would change nothing"):
        load(world, images="none", vector_dtype="float16")


@pytest.mark.parametrize("kind", ["parquet", "arrow", "npy"])
def test_lists_of_vectors(world: World, tmp_path: Path, kind: str) -> None:
    """Any number of vectors of an id are a list of them, which may be empty."""
    vectors = make_vectors(world, several=True)
    nested = pa.list_(pa.list_(pa.float32()))
    if kind == "npy":
        vectors = {n: np.stack([np.full(WIDTH, n % 8, np.float32)] * 2) for n in vectors}
        path = write_npy(vectors, tmp_path)
    elif kind == "arrow":
        table = pa.table({"id": [*vectors], "vector": pa.array([v.tolist() for v in vectors.values()], nested)})
        path = tmp_path / "v.arrow"
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
    else:
        path = write_parquet(vectors, tmp_path, nested)
    rows = load(world, images="none", embeddings={"mine": (path, "pictures")}, split="train")
    assert rows.features["mine"] == datasets.Sequence(datasets.Sequence(datasets.Value("float32"), length=WIDTH))
    assert right(rows, vectors)
    ids, starts, numbers = read_faces(path)
    assert [numbers[a:b].tolist() for a, b in itertools.pairwise(starts)] == [vectors[n].tolist() for n in ids.tolist()]
    with pytest.raises(BadFileError, match="Use read_faces"):
        read_embeddings(path)


def test_small_batches_give_the_same_vectors(vectors: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many vectors are read at a time."""
    change_constant(monkeypatch, "BATCH_BYTES", 4 * WIDTH * 3)
    for kind, write in KINDS.items():
        folder = tmp_path / kind
        folder.mkdir()
        ids, numbers = read_embeddings(write(vectors, folder))
        assert {n: v.tolist() for n, v in zip(ids.tolist(), numbers, strict=True)} == {
            n: v.tolist() for n, v in vectors.items()
        }


def test_a_pickle_of_ones_own(world: World, vectors: Rows, tmp_path: Path) -> None:
    """A pickle like the authors', of another width, is a file of vectors, too. It is not unpickled."""
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(vectors))
    rows = load(world, images="none", embeddings={"mine": (tmp_path / "v.pkl", "pictures")}, split="train")
    assert right(rows, vectors)


def test_bfloat16(tmp_path: Path) -> None:
    """Tensors of bfloat16 become float32."""
    numbers = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
    data = np.array([5, 6], "<i8").tobytes() + (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    head = json.dumps(
        {
            "ids": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
            "vectors": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [16, 24]},
        }
    ).encode()
    (tmp_path / "v.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + data)
    ids, found = read_embeddings(tmp_path / "v.safetensors")
    assert (ids.tolist(), found.tolist()) == ([5, 6], numbers.tolist())


@pytest.mark.parametrize("length", [128, 640, 1152])
def test_safetensors_whose_first_byte_is_that_of_a_pickle(world: World, tmp_path: Path, length: int) -> None:
    """A head of 128 bytes, as that of two tensors often is, makes a file that begins like a pickle."""
    ids, numbers = np.array([5, 6]), np.ones((2, 3), np.float32)
    tensors = {
        "ids": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "vectors": {"dtype": "F32", "shape": [2, 3], "data_offsets": [16, 40]},
    }
    head = json.dumps(tensors, separators=(",", ":")).encode().ljust(length)
    path = tmp_path / "v.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + head + ids.tobytes() + numbers.tobytes())
    found = read_embeddings(path)
    assert (found[0].tolist(), found[1].tolist()) == (ids.tolist(), numbers.tolist())
    with pytest.raises(BadFileError, match="has no vector for any picture"):
        load(world, images="none", embeddings={"mine": (path, "pictures")})


@pytest.mark.skipif(int(pa.__version__.partition(".")[0]) < 26, reason="Arrow reads no null lists of a fixed length")
def test_null_vectors_are_absent(world: World, vectors: Rows, tmp_path: Path) -> None:
    """An id with a null vector has none; the report counts those that are there."""
    gone = next(iter(vectors))
    lists = [None if n == gone else v.tolist() for n, v in vectors.items()]
    table = pa.table({"id": [*vectors], "vector": pa.array(lists, pa.list_(pa.float32(), WIDTH))})
    pq.write_table(table, tmp_path / "v.parquet")
    builder = newsclippings.NewsCLIPpings(
        data_dir=str(world.root), images="none", embeddings={"mine": (str(tmp_path / "v.parquet"), "pictures")}
    )
    builder.download_and_prepare()
    rest = {n: v for n, v in vectors.items() if n != gone}
    for split in SPLITS:
        rows = builder.as_dataset(split=split)
        assert right(rows, rest)
        assert builder.join_reports[split]["coverage"] == {"mine": sum(row["mine"] is not None for row in rows)}


@pytest.mark.parametrize("kind", ["parquet", "npy", "safetensors", "folder"])
def test_vectors_at_a_url(world: World, vectors: Rows, origin: Origin, tmp_path: Path, kind: str) -> None:
    """Remote files are fetched once and kept; of a folder, every part is compared with SHA256SUMS."""
    place = origin.root / f"remote-{kind}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    many = {n + 10**9: np.full(WIDTH, n % 64, np.float32) for n in range(20_000)}
    path = write_folder(many | vectors, place, part=9_000) if kind == "folder" else KINDS[kind](many | vectors, place)
    data = path / "part-00001.parquet" if kind == "folder" else path
    where: Any = origin.url(path) if kind == "folder" else (origin.url(path), "pictures")
    for images, times in (("none", (1, 2)), ("bytes", (0, 0.7))):  # then from the cache
        before = sum(request.sent for request in origin.gets(data))
        assert right(load(world, images=images, embeddings={"mine": where}, split="test"), vectors)
        sent = sum(request.sent for request in origin.gets(data)) - before
        assert times[0] <= sent / data.stat().st_size <= times[1]


def test_a_changed_file_is_read_again(world: World, vectors: Rows, tmp_path: Path) -> None:
    """The cache follows the content, and the side: nothing older is used."""
    place = {"mine": (write_npy(vectors, tmp_path), "pictures")}
    load(world, images="none", embeddings=place, split="test")
    other = {n: v + 1 for n, v in vectors.items()}
    write_npy(other, tmp_path)
    assert right(load(world, images="none", embeddings=place, split="test"), other)
    as_captions = load(world, images="none", embeddings={"mine": (tmp_path / "v.npy", "captions")}, split="test")
    assert right(as_captions, other, key="id")


@pytest.mark.parametrize("damage", ["part", "ids", "incomplete", "newer", "plan", "width", "sums", "unlisted"])
def test_damaged_folders(world: World, vectors: Rows, tmp_path: Path, damage: str) -> None:
    """A part that was changed, lost or made for another plan is an error that names it."""
    changes: dict[str, Any] = {"newer": {"format": 2}, "width": {"width": 4}}.get(damage, {})
    folder = write_folder(vectors, tmp_path, **changes)
    message = {
        "part": "part-00001.parquet: expected the content that SHA256SUMS names",
        "ids": "expected the .* ids of its plan.json",
        "incomplete": r"has \d+ of its \d+ parts; the first that is missing is part-00002.parquet",
        "newer": "made by a newer version",
        "plan": "expected the plan of a folder of vectors",
        "width": "a vector of 4 numbers, found 5",
        "sums": "SHA256SUMS: expected a list of SHA-256 sums",
        "unlisted": "part-00001.parquet: expected the content that SHA256SUMS names",
    }[damage]
    sums = folder / "SHA256SUMS"
    if damage == "sums":
        sums.write_text("<html>")
    if damage == "unlisted":
        sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "00001" not in line))
    if damage == "part":
        with (folder / "part-00001.parquet").open("r+b") as file:
            file.seek(200)
            file.write(b"\x01")
    if damage == "ids":
        shutil.copy(folder / "part-00001.parquet", folder / "part-00000.parquet")
        (folder / "SHA256SUMS").unlink()
    if damage == "incomplete":
        (folder / "part-00002.parquet").unlink()
    if damage == "plan":
        (folder / "plan.json").write_text('{"format": 1, "of": "sounds"}')
    with pytest.raises((BadFileError, DataNotFoundError), match=message):
        load(world, images="none", embeddings={"mine": str(folder)}, split="test")


def change(vectors: Rows, how: Callable[[Rows], None]) -> Rows:
    copy = {n: v.copy() for n, v in vectors.items()}
    how(copy)
    return copy


def test_wrong_content(world: World, vectors: Rows, tmp_path: Path) -> None:
    """NaN, other widths, ids twice, no ids, and columns that are missing are errors that name the id or the column."""
    ids = [*vectors]

    def refused(path: Path, message: str) -> None:
        with pytest.raises((BadFileError, DataNotFoundError), match=message):
            load(world, images="none", embeddings={"mine": (path, "pictures")}, split="test")

    def spoil(rows: Rows) -> None:
        rows[ids[4]][2] = np.nan

    refused(write_npy(change(vectors, spoil), tmp_path), f"id {ids[4]}: expected finite float32 numbers, found NaN")
    refused(write_parquet(change(vectors, spoil), tmp_path), f"id {ids[4]}: expected finite")
    np.save(tmp_path / "v.ids.npy", np.array(ids[:-1]))
    write = np.save
    write(tmp_path / "v.npy", np.stack([*vectors.values()]))
    refused(tmp_path / "v.npy", f"expected as many vectors as there are ids .{len(ids) - 1}., found {len(ids)}")
    (tmp_path / "v.ids.npy").unlink()
    refused(tmp_path / "v.npy", "v.ids.npy does not exist: the ids .int64. of the vectors")
    write(tmp_path / "v.npy", np.arange(4))
    refused(tmp_path / "v.npy", "expected vectors of float16, float32 or float64, found int64")
    write(tmp_path / "o.npy", np.array([{}], object), allow_pickle=True)
    refused(tmp_path / "o.npy", "found object")

    def table(**columns: Any) -> Path:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        return tmp_path / "t.parquet"

    lists = [v.tolist() for v in vectors.values()]
    refused(table(id=[ids[0], *ids[:-1]], vector=lists), f"id {ids[0]}: expected each id once, found it more than once")
    refused(table(id=ids, vector=[*lists[:-1], [1.0]]), f"id {ids[-1]}: expected a vector of 5 numbers, found 1")
    refused(table(id=ids, vector=[*lists[:-1], [1.0, None, 1.0, 1.0, 1.0]]), "a vector with a null in it")
    refused(table(id=[None, *ids[1:]], vector=lists), "expected an id in each row")
    refused(table(id=list(map(str, ids)), vector=lists), "expected ids that are integers, found string")
    refused(table(id=ids, vector=ids), "expected vectors: lists of floats, .* found int64")
    refused(table(ids=ids, vector=lists), "expected columns id, vector, found columns ids, vector")
    write(tmp_path / "v.npy", np.zeros((0, 5), np.float32))
    write(tmp_path / "v.ids.npy", np.zeros(0, np.int64))
    refused(tmp_path / "v.npy", "expected vectors by id, found none")
    (tmp_path / "x.parquet").write_bytes(b"<html>not found</html>")
    refused(tmp_path / "x.parquet", "expected a file of vectors, found")
    refused(tmp_path / "nowhere.npy", "does not exist")


def test_wrong_options(world: World, vectors: Rows, tmp_path: Path) -> None:
    """A side that is not said or contradicted, names that are taken, and kinds that do not exist."""
    path, folder = write_npy(vectors, tmp_path), write_folder(vectors, tmp_path)

    def refused(message: str, **embeddings: Any) -> None:
        with pytest.raises(ConfigError, match=message):
            load(world, images="none", embeddings=embeddings)

    refused("does not say whether its ids are of pictures or of captions", mine=path)
    refused("has vectors of pictures, not of captions", mine=(folder, "captions"))
    refused("caption is a column already", caption=(path, "pictures"))
    refused("metadata is a column already", metadata=(path, "pictures"))
    refused("sbert is one of the authors' kinds: pass True", sbert=(path, "captions"))
    refused("'sbret' is True, but is not a kind of the authors. Did you mean 'sbert'", sbret=True)
    refused("'mine' is 3; expected the folder", mine=3)
    refused("expected the folder", mine=(path, "sounds"))
    refused("'a b' cannot name a column", **{"a b": (path, "pictures")})


def test_vectors_of_no_row(world: World, vectors: Rows, tmp_path: Path) -> None:
    """Vectors of other ids only are an error, since something is mixed up."""
    path = write_npy({n + 10**9: v for n, v in vectors.items()}, tmp_path)
    with pytest.raises(BadFileError, match=r"has no vector for any picture of these rows. Are its ids of captions\?"):
        load(world, images="none", embeddings={"mine": (path, "pictures")})


def test_hostile_files(vectors: Rows, tmp_path: Path) -> None:
    """Whatever byte of a file is changed, the vectors are read as they were, or there is an error of this package."""
    rng = np.random.default_rng(3)
    for kind, write in KINDS.items():
        if kind == "folder":
            continue
        folder = tmp_path / kind
        folder.mkdir()
        path = write(vectors, folder)
        whole = path.read_bytes()
        for trial in range(60):
            data = bytearray(whole)
            at = int(rng.integers(len(data)))
            if trial % 3 == 0:
                data = data[:at]
            else:
                data[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(data)
            try:
                ids, numbers = read_embeddings(path)
            except newsclippings.NewsCLIPpingsError:
                continue
            assert len(ids) == len(numbers)


def test_several_columns_of_a_built_folder(world: World, vectors: Rows, tmp_path: Path) -> None:
    """A built folder names the columns in its card and manifest, and is read by `datasets` alone."""
    from click.testing import CliRunner

    from _newsclippings.cli import main

    captions = make_vectors(world, "id")
    args = ["build", str(tmp_path / "out"), "--data-dir", str(world.root), "--images", "none"]
    args += ["--embeddings", f"of_text=captions:{write_npy(captions, tmp_path)}"]
    args += ["--embeddings", f"net={write_folder(vectors, tmp_path)}"]
    for _ in range(2):
        result = CliRunner().invoke(main, args)
        assert result.exit_code == 0, result.output
    rows = datasets.load_dataset(str(tmp_path / "out"), "merged_balanced", split="train")
    assert right(rows, captions, "of_text", "id")
    assert right(rows, vectors, "net")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| `net` | float32 (5,) | Vector of the picture by me/net-5. |" in card
    assert "| `of_text` | float32 (5,) | Vector of the caption. |" in card
    assert newsclippings.verify_built(tmp_path / "out").sound
    assert CliRunner().invoke(main, ["croissant", str(tmp_path / "out")]).exit_code == 0
    assert raw(rows) == raw(load(world, images="none", embeddings={
        "of_text": (tmp_path / "v.npy", "captions"), "net": tmp_path / "embedded-pictures",
    }, split="train"))  # fmt: skip
    result = CliRunner().invoke(main, [*args[:-1], "net=x", "--embeddings", "net=y"])
    assert (result.exit_code, "net is there twice" in result.output) == (2, True)


def test_the_forms_in_errors_are_those_that_are_read() -> None:
    """The sentence about what is expected names every kind."""
    assert all(word in files._FORMS for word in (".parquet", ".arrow", ".npy", ".safetensors", "pickle", "folder"))
