"""Cached tables, vectors and downloads with any damage give the right rows or one of this package's errors."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.constants import change_constant
from support.reading import expected_splits, load, raw_splits
from support.remote import Origin
from support.vectors import make_plan, vector, write
from support.world import World
from sweeps.damaging import KINDS, sweep

from _newsclippings.storage import kept
from _newsclippings.storage.kept import is_proved, local_copy, write_proof
from _newsclippings.vectors import embeddings
from _newsclippings.vectors.embeddings import load_embeddings
from newsclippings import BadFileError, ConfigError, NewsCLIPpings, NoSpaceError

pytestmark = pytest.mark.sweep


@pytest.mark.parametrize("kind", KINDS)
def test_damage_of_a_cache_changes_no_row(new_world: Callable[..., World], tmp_path: Path, kind: str) -> None:
    """A sample of `python -m tests.sweeps.damaging`: right rows, or an error and then right rows."""
    world = new_world()
    write(world, make_plan(world))
    outcomes, wrong = sweep(kind, world, tmp_path / "sweep", rounds=4)
    assert wrong == []
    assert sum(outcomes.values()) == 4


@pytest.mark.parametrize("memory", [False, True])
def test_a_table_cut_between_batches_is_built_again(world: World, memory: bool) -> None:
    """A valid table with half of its rows is built again, and the report counts all rows."""
    builder = NewsCLIPpings(data_dir=str(world.root), images="none")
    builder.download_and_prepare()
    (file,) = Path(builder.cache_dir).glob("*-train.arrow")
    table = pa.ipc.open_stream(file.read_bytes()).read_all()
    with pa.ipc.new_stream(str(file), table.schema) as writer:
        writer.write_table(table.slice(0, len(table) // 2))
    rows = load(world, images="none", keep_in_memory=memory)
    assert raw_splits(rows) == expected_splits(world, images="none")
    assert builder.join_reports["train"]["written"] == len(rows["train"]) == len(table)


def test_a_builder_alone_opens_no_damaged_table(world: World) -> None:
    """`as_dataset` without a build names the damaged table and what to do, which then works."""
    builder = NewsCLIPpings(data_dir=str(world.root), images="none")
    builder.download_and_prepare()
    (file,) = Path(builder.cache_dir).glob("*-test.arrow")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadFileError, match=r"this file of the cache is damaged, or gone\. Load again"):
        builder.as_dataset()
    builder.download_and_prepare()
    assert raw_splits(builder.as_dataset()) == expected_splits(world, images="none")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"splits": null}', '{"features": 5}'])
def test_a_damaged_dataset_info_is_replaced(world: World, content: str) -> None:
    """With an empty, truncated or unrelated dataset_info.json the builder still works, and a load replaces it."""
    builder = NewsCLIPpings(data_dir=str(world.root), images="none")
    builder.download_and_prepare()
    info = Path(builder.cache_dir, "dataset_info.json")
    right = json.loads(info.read_bytes())["splits"]
    info.write_text(content)
    assert raw_splits(load(world, images="none")) == expected_splits(world, images="none")
    counts = {name: split["num_examples"] for name, split in json.loads(info.read_bytes())["splits"].items()}
    assert counts == {name: split["num_examples"] for name, split in right.items()}


def test_rows_are_compared_with_the_report(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build with another number of rows than its report is an error."""
    tables = NewsCLIPpings._generate_tables

    def fewer(self: NewsCLIPpings, *args: object, **kwargs: object) -> object:
        for row, table in tables(self, *args, **kwargs):  # type: ignore[arg-type]
            yield row, table.slice(1)

    monkeypatch.setattr(NewsCLIPpings, "_generate_tables", fewer)
    with pytest.raises(BadFileError, match="one of the input files changed since the build began"):
        load(world, images="none")


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of files that are read to be compared."""
    read: list[str] = []
    original = kept.sum_file

    def counting(path: Path) -> tuple[int, int]:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(kept, "sum_file", counting)
    return read


def test_large_files_are_compared_if_their_times_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is compared only if it was written to or copied; otherwise unchanged times are enough."""
    folder, proof = tmp_path / "folder", tmp_path / "folder" / "proof"
    folder.mkdir()
    (folder / "small").write_bytes(b"s" * 10)
    (folder / "large").write_bytes(b"l" * 100)
    write_proof(proof, folder, ["small", "large"])
    change_constant(monkeypatch, "ALWAYS", 50)
    read = _counted(monkeypatch)
    assert is_proved(proof, folder)
    assert read == ["small"]
    assert is_proved(proof, folder)
    assert read == ["small"]
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert is_proved(copy / "proof", copy)
    assert read == ["small", "small", "large"]
    vars(kept)["_PROVED"].clear()  # as in a new process
    assert is_proved(copy / "proof", copy)
    assert read == ["small", "small", "large", "small"]
    times = os.stat(folder / "large")
    with (folder / "large").open("r+b") as file:
        file.write(b"L")
    os.utime(folder / "large", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not is_proved(proof, folder)


@pytest.mark.parametrize("how", ["gone", "a folder", "longer", "other proof"])
def test_missing_or_other_files_are_not_proved(tmp_path: Path, how: str) -> None:
    """A file that is missing, longer or no file is not proved, nor one with a damaged proof."""
    file, proof = tmp_path / "file", tmp_path / "proof"
    file.write_bytes(b"content")
    write_proof(proof, tmp_path, ["file"])
    assert is_proved(proof, tmp_path)
    if how == "longer":
        file.write_bytes(b"content ")
    elif how == "other proof":
        proof.write_bytes(proof.read_bytes().replace(b"file", b"fils"))
    else:
        file.unlink()
    if how == "a folder":
        file.mkdir()
    assert not is_proved(proof, tmp_path)


@pytest.fixture
def pickled(tmp_path: Path) -> tuple[Path, dict[int, np.ndarray]]:
    """A pickle of 300 vectors, some 600 kB, and its content."""
    vectors = {(n * 37) % 301: vector("clip_text", n) for n in range(1, 301)}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(vectors, 4))
    return tmp_path / "x.pkl", vectors


def test_vectors_damaged_while_they_are_used(tmp_path: Path, pickled: tuple[Path, dict[int, np.ndarray]]) -> None:
    """Each vector is compared when it is first used; a damaged one is converted again at once."""
    path, vectors = pickled
    kept = load_embeddings(str(path), "key", 512, False, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    with file.open("r+b") as damaged:
        damaged.seek(len(whole) // 2)
        damaged.write(b"damage")
    ids = np.array(sorted(vectors))
    assert kept.take(ids).to_pylist() == [vectors[n].tolist() for n in ids.tolist()]
    assert file.read_bytes() == whole


@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
@pytest.mark.parametrize("faces", [False, True])
def test_vectors_damaged_after_they_were_compared(tmp_path: Path, how: str, faces: bool) -> None:
    """If an open file changes after the comparison, no other vector is read, and truncation gives no bus error."""
    vectors = {
        n: np.stack([vector("clip_text", n), vector("clip_text", n + 1)][: 2 if faces else 1]) for n in range(50)
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(vectors, 4))
    kept = load_embeddings(str(tmp_path / "x.pkl"), "key", 512, faces, tmp_path / "kept")
    ids = np.arange(50)
    right = [v.tolist() if faces else v[0].tolist() for v in vectors.values()]
    assert kept.take(ids).to_pylist() == right
    (file,) = (tmp_path / "kept").iterdir()
    content = file.read_bytes()
    if how == "flip":
        with file.open("r+b") as damaged:
            for at in range(0, len(content), 999):
                damaged.seek(at)
                damaged.write(bytes([content[at] ^ 8]))
    else:
        os.truncate(file, {"cut": 5000, "empty": 0}[how])
    assert kept.take(ids).to_pylist() == right
    assert file.read_bytes() == content


def test_vectors_of_another_file(tmp_path: Path) -> None:
    """Valid vectors of another split, copied over the right ones, are converted again."""
    for split, number in (("a", 5), ("b", 7)):
        (tmp_path / f"{split}.pkl").write_bytes(pickle.dumps({1: vector("clip_text", number)}, 4))
        load_embeddings(str(tmp_path / f"{split}.pkl"), split, 512, False, tmp_path / "kept")
    shutil.copyfile(tmp_path / "kept" / "a.vectors", tmp_path / "kept" / "b.vectors")
    kept = load_embeddings(str(tmp_path / "b.pkl"), "b", 512, False, tmp_path / "kept")
    assert kept.take(np.array([1])).to_pylist() == [vector("clip_text", 7).tolist()]


IN_THE_WAY = r"it is a folder, and should be a file\. .*: remove it, and run it again"


@pytest.mark.parametrize("place", ["dataset_info.json", "lock"])
def test_a_folder_in_place_of_a_cached_table(world: World, place: str) -> None:
    """A folder in place of a cached table is not removed; the error names it and says what to do."""
    builder = NewsCLIPpings(data_dir=str(world.root), images="none")
    builder.download_and_prepare()
    folder = Path(f"{builder.cache_dir}_builder.lock" if place == "lock" else f"{builder.cache_dir}/{place}")
    folder.unlink(missing_ok=True)
    (folder / "precious").mkdir(parents=True)
    with pytest.raises(ConfigError, match=IN_THE_WAY):
        load(world, images="none")
    assert (folder / "precious").is_dir()


def test_a_folder_in_place_of_cached_vectors(tmp_path: Path) -> None:
    """A folder in place of converted vectors is not removed; the error names it and says what to do."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({1: vector("clip_text", 5)}, 4))
    (tmp_path / "kept" / "key.vectors" / "precious").mkdir(parents=True)
    with pytest.raises(ConfigError, match=IN_THE_WAY):
        load_embeddings(str(tmp_path / "x.pkl"), "key", 512, False, tmp_path / "kept")
    assert (tmp_path / "kept" / "key.vectors" / "precious").is_dir()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOSPC])
def test_a_cache_that_refuses_writes(
    tmp_path: Path, origin: Origin, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If the cache refuses writes, vectors and copies are an error with what to do; a proof still holds."""
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({1: vector("clip_text", 5)}, 4))
    (origin.root / "unwritten.json").write_text("content")
    (tmp_path / "file").write_text("content")
    write_proof(tmp_path / "proof", tmp_path, ["file"])
    os.utime(tmp_path / "file", (1, 1))

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), "/place")

    monkeypatch.setattr(os, "replace", refuse)
    kind = NoSpaceError if number == errno.ENOSPC else ConfigError
    with pytest.raises(kind, match="cache_dir= or HF_DATASETS_CACHE"):
        load_embeddings(str(tmp_path / "x.pkl"), "key", 512, False, tmp_path / "kept")
    with pytest.raises(kind, match="cache_dir= or HF_DATASETS_CACHE"):
        local_copy(origin.url(origin.root / "unwritten.json"), tmp_path / "copies")
    assert is_proved(tmp_path / "proof", tmp_path)


def test_a_file_that_grew_by_terabytes_is_not_read(tmp_path: Path) -> None:
    """A file that grew by terabytes is recognised by its size, without reading it."""
    file, proof = tmp_path / "file", tmp_path / "proof"
    file.write_bytes(b"content")
    write_proof(proof, tmp_path, ["file"])
    os.truncate(file, 1 << 41)
    assert not is_proved(proof, tmp_path)
    assert not is_proved(proof, tmp_path, "file")


def test_the_proof_of_another_copy_proves_nothing(origin: Origin, tmp_path: Path) -> None:
    """A proof copied from another file of the same server proves nothing."""
    files = [origin.root / f"proof-{name}.json" for name in "ab"]
    copies = []
    for file in files:
        file.write_text(f"content of {file.name}")
        copies.append(Path(local_copy(origin.url(file), tmp_path / "copies")))
    proofs_of = [copy.with_name(f"{copy.name[:16]}.proof") for copy in copies]
    shutil.copyfile(proofs_of[0], proofs_of[1])
    copies[1].write_text("damaged")
    assert Path(local_copy(origin.url(files[1]), tmp_path / "copies")).read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("then", ["gone", "another"])
def test_damaged_vectors_that_cannot_be_converted_again(
    tmp_path: Path, pickled: tuple[Path, dict[int, np.ndarray]], then: str
) -> None:
    """If the pickle is missing or changed, damaged vectors are an error, and are not used again."""
    path, vectors = pickled
    kept = load_embeddings(str(path), "key", 512, False, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    with file.open("r+b") as damaged:
        damaged.seek(200_000)
        damaged.write(b"damage")
    path.unlink()
    if then == "another":
        path.write_bytes(pickle.dumps({5: vectors[5]}, 4))
    with pytest.raises((BadFileError, FileNotFoundError)) as caught:
        kept.take(np.array(sorted(vectors)))
    assert type(caught.value).__module__ == "_newsclippings.errors"
    path.write_bytes(pickle.dumps(vectors, 4))
    again = load_embeddings(str(path), "key" if then == "gone" else "other", 512, False, tmp_path / "kept")
    assert again.take(np.array([5])).to_pylist() == [vectors[5].tolist()]


def test_only_the_vectors_that_are_used_are_compared(
    tmp_path: Path, pickled: tuple[Path, dict[int, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damage of vectors that no row uses has no effect."""
    path, vectors = pickled
    load_embeddings(str(path), "key", 512, False, tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    with file.open("r+b") as damaged:
        damaged.seek(250 * 2048)
        damaged.write(b"damage")
    monkeypatch.setattr(embeddings, "PickledArrays", None)
    kept = load_embeddings(str(path), "key", 512, False, tmp_path / "kept")
    first = list(vectors)[:30]
    assert kept.take(np.array([*first, 999])).to_pylist() == [*(vectors[n].tolist() for n in first), None]


@pytest.mark.parametrize("damaged", ["copy", "proof", "cut", "gone"])
def test_a_copy_of_a_url_is_fetched_again_when_it_is_damaged(origin: Origin, tmp_path: Path, damaged: str) -> None:
    """A copy is fetched once, and again after damage to it or its checksum."""
    file = origin.root / f"copy-{damaged}.json"
    file.write_bytes(bytes(range(256)) * 300)
    for _ in range(2):
        path = Path(local_copy(origin.url(file), tmp_path / "copies"))
        assert path.read_bytes() == file.read_bytes()
    assert sum(request.sent > 1 for request in origin.gets(file)) == 1  # the others ask for the size
    (proof,) = (tmp_path / "copies").glob("*.proof")
    target = proof if damaged == "proof" else path
    content = target.read_bytes()
    if damaged == "gone":
        target.unlink()
    elif damaged == "cut":
        target.write_bytes(content[:-100])
    else:
        target.write_bytes(content[:9] + bytes([content[9] ^ 4]) + content[10:])
    assert local_copy(origin.url(file), tmp_path / "copies") == str(path)
    assert path.read_bytes() == file.read_bytes()
    assert sum(request.sent > 1 for request in origin.gets(file)) == 2
