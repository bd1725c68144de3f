"""`newsclippings build` writes a correct, complete folder of Parquet files, even after it was killed."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.children import in_child, wait
from support.command import run
from support.constants import change_constant
from support.folders import ALL, TWO, build, content, manifest
from support.reading import environment, expected_splits, raw, raw_splits
from support.vectors import make_plan
from support.vectors import write as write_embeddings
from support.world import CONFIGS, SPLITS, World

from _newsclippings.facts import VERSION
from _newsclippings.folder import BuiltFolder, shards, stale_files, write_card, write_thin, writer
from _newsclippings.folder.writer import ConfigContent, lock_folder
from _newsclippings.hub.plan import plan_upload
from newsclippings import ConfigError, MissingDataError, join_images, verify_built

BESIDE = {"README.md", "dataset_infos.json", "SHA256SUMS"}


@pytest.fixture
def many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limit, so that a split of eight rows gets eight files."""
    change_constant(monkeypatch, "FEWEST", 1)


# Content of the folder


def test_a_folder_that_loads_by_name(world: World, tmp_path: Path) -> None:
    """The folder has Parquet files, card, infos and manifests; every row loads by the folder's name."""
    out = tmp_path / "cwd" / "newsclippings"
    result = run("build", out, *TWO, "--data-dir", world.root)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == f"{out}/merged_balanced: train: 24 of 24 rows"
    assert {p.name for p in out.iterdir()} == {*BESIDE, "pairs.png", "merged_balanced", "scene_resnet_place"}
    names = {f"{split}-00000-of-00001.parquet" for split in SPLITS}
    assert {p.name for p in (out / "merged_balanced").iterdir()} == {*names, "manifest.json"}
    for config in ("merged_balanced", "scene_resnet_place"):
        loaded = datasets.load_dataset("newsclippings", config)  # ./newsclippings
        assert raw_splits(loaded) == expected_splits(world, config)
    assert raw_splits(datasets.load_dataset(str(out))) == expected_splits(world, "merged_balanced")  # the default
    tables = [pq.read_table(p) for p in sorted((out / "merged_balanced").glob("test-*.parquet"))]
    captions = [caption for table in tables for caption in table["caption"].to_pylist()]
    assert captions == [row["caption"] for row in world.rows("merged_balanced", "test")]


@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_many_files(world: World, tmp_path: Path, streaming: bool) -> None:
    """Large splits have eight files, with all rows in order and twins in the same file."""
    build(world, tmp_path / "out")
    files = sorted((tmp_path / "out" / "merged_balanced").glob("train-*-of-00008.parquet"))
    assert len(files) == 8
    indices = [pq.read_table(file, columns=["index"])["index"].to_pylist() for file in files]
    assert [k for some in indices for k in some] == list(range(24))
    assert all(len(some) % 2 == 0 for some in indices)
    loaded = datasets.load_dataset(str(tmp_path / "out"), streaming=streaming)
    assert raw_splits(loaded) == expected_splits(world)
    if streaming:
        assert loaded["train"].num_shards == 8


@pytest.mark.parametrize("library", ["pandas", "polars", "duckdb"])
def test_other_libraries_read_it(world: World, tmp_path: Path, library: str) -> None:
    """Libraries other than `datasets` read rows, captions and the bytes of pictures."""
    module = pytest.importorskip(library)
    build(world, tmp_path / "out")
    files = str(tmp_path / "out" / "merged_balanced" / "test-*.parquet")
    one = files.replace("*", "00000-of-00001")
    if library == "duckdb":
        rows = module.sql(f"select caption, image.bytes from read_parquet('{files}') order by index").fetchall()
    elif library == "polars":
        frame = module.read_parquet(files)
        rows = list(zip(frame["caption"], frame["image"].struct.field("bytes"), strict=True))
    else:
        frame = module.read_parquet(one)
        rows = [(caption, image["bytes"]) for caption, image in zip(frame["caption"], frame["image"], strict=True)]
    assert rows == [(row["caption"], row["image"]["bytes"]) for row in world.rows(split="test")]


def test_with_everything(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Embeddings, metadata and articles are in the Parquet files, and load from there."""
    world = new_world(tar=False)
    write_embeddings(world, make_plan(world))
    options = ["--embeddings", "all", "--metadata", "--articles", "--images", "none"]
    build(world, tmp_path / "out", *options)
    built = datasets.load_dataset(str(tmp_path / "out"))
    direct = datasets.load_dataset(
        "newsclippings", data_dir=str(world.root), images="none", embeddings="all", metadata=True, articles=True
    )
    assert built["test"].features == direct["test"].features
    for split in SPLITS:
        assert built[split].with_format("arrow")[:].equals(direct[split].with_format("arrow")[:])
    assert "Rows without a vector have null there" in (tmp_path / "out" / "README.md").read_text()
    assert b'"List"' not in pq.read_schema(next((tmp_path / "out").rglob("test-*.parquet"))).metadata[b"huggingface"]


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_vectors_that_some_rows_lack(new_world: Callable[..., World], tmp_path: Path, streaming: bool) -> None:
    """Vectors with nulls are written and read by every version of pyarrow; the features keep the length."""
    world, out = new_world(tar=False), tmp_path / "out"
    plan = make_plan(world)
    write_embeddings(world, plan)
    options = ["--embeddings", "sbert", "--embeddings", "facenet", "--images", "none"]
    reports = build(world, out, *options)["merged_balanced"]
    assert verify_built(out).sound
    assert run("stats", out).exit_code == 0
    loaded = datasets.load_dataset(str(out), streaming=streaming)
    for split in SPLITS:
        assert loaded[split].features["sbert"].length == 768
        rows = list(loaded[split])
        assert [row["index"] for row in rows] == [row["index"] for row in world.rows(split=split)]
        found = [row["sbert"] for row in rows]
        vectors = [plan["sbert"][split].get(row["id"]) for row in rows]
        assert found == [None if vector is None else vector.tolist() for vector in vectors]
        assert 0 < found.count(None) == len(rows) - reports[split]["coverage"]["sbert"]
        faces = [plan["facenet"][split].get(row["image_id"]) for row in rows]
        assert [row["facenet"] for row in rows] == [None if some is None else some.tolist() for some in faces]
        file = next((out / "merged_balanced").glob(f"{split}-*.parquet"))
        assert pq.read_schema(file).field("sbert").type == pa.list_(pa.float32())


def test_vectors_that_no_row_lacks(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Vectors without nulls are stored as lists of a fixed length."""
    world, out = new_world(tar=False), tmp_path / "out"
    plan = make_plan(world)
    for split in SPLITS:
        one = next(iter(plan["sbert"][split].values()))
        plan["sbert"][split] = {row["id"]: one.copy() for row in world.rows(split=split)}
    write_embeddings(world, plan)
    build(world, out, "--embeddings", "sbert", "--images", "none")
    for file in (out / "merged_balanced").glob("*.parquet"):
        assert pq.read_schema(file).field("sbert").type == pa.list_(pa.float32(), 768)
    loaded = datasets.load_dataset(str(out))
    assert [row["sbert"] for row in loaded["test"]] == [one.tolist()] * len(world.rows(split="test"))


def test_no_path_of_this_machine_is_in_the_folder(world: World, tmp_path: Path) -> None:
    """No file of the folder has a path of this machine."""
    build(world, tmp_path / "out", *TWO, "--images", "once")
    for file in (p for p in (tmp_path / "out").rglob("*") if p.is_file()):
        assert str(world.root).encode() not in file.read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()


def test_parquet_as_the_hub_wants_it(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files have small row groups, a page index, uncompressed pictures, compressed texts, content-defined chunks."""
    change_constant(monkeypatch, "ROWS_OF_PICTURES", 10, of="joined")
    build(world, tmp_path / "out")
    file = pq.ParquetFile(tmp_path / "out" / "merged_balanced" / "train-00000-of-00001.parquet")
    about = file.metadata
    assert [about.row_group(k).num_rows for k in range(about.num_row_groups)] == [10, 10, 4]
    columns = {about.row_group(0).column(k).path_in_schema: about.row_group(0).column(k) for k in range(15)}
    assert all(column.has_offset_index for column in columns.values())
    assert columns["image.bytes"].compression == "UNCOMPRESSED"
    assert not any("DICT" in encoding for encoding in columns["image.bytes"].encodings)
    assert columns["caption"].compression == "ZSTD"
    assert columns["caption"].has_column_index
    chunked = about.metadata.get(b"content_defined_chunking")
    if int(pa.__version__.partition(".")[0]) >= 21:
        assert json.loads(chunked) == {"min_chunk_size": 262144, "max_chunk_size": 1048576, "norm_level": 0}


def test_row_groups_of_large_pictures_are_small(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row group has as many rows as fit into the limit, and at least one."""
    size = sum(len(row["image"]["bytes"]) for row in world.rows(split="test")) // 4
    change_constant(monkeypatch, "MAX_GROUP", size)
    build(world, tmp_path / "out", "--split", "test")
    about = pq.read_metadata(tmp_path / "out" / "merged_balanced" / "test-00000-of-00001.parquet")
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    assert len(groups) >= 4
    assert sum(group.num_rows for group in groups) == len(world.rows(split="test"))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=200), st.integers(1, 300), st.sampled_from([1, 4, 100]))
def test_a_plan_of_files(sizes: list[int], largest: int, fewest: int) -> None:
    """A plan has all rows once and in order, twins together, one or a multiple of eight files, none too large."""
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "MAX_SHARD", largest)
        change_constant(patch, "FEWEST", fewest)
        ranges = shards.plan_shards(np.array(sizes, np.int64))
    assert [k for start, stop in ranges for k in range(start, stop)] == list(range(len(sizes)))
    assert all(start % 2 == 0 for start, stop in ranges if stop > start)
    assert len(ranges) == 1 or len(ranges) % 8 == 0
    assert len(ranges) >= 8 or len(sizes) < 8 * fewest
    assert all(sum(sizes[start:stop]) <= largest or stop - start <= 2 for start, stop in ranges) or 2 * len(
        ranges
    ) >= len(sizes)


def test_the_manifest_describes_the_files(world: World, tmp_path: Path) -> None:
    """The manifest has rows, sizes and digests of files, digests of ids, counts of labels, and the join report."""
    reports = build(world, tmp_path / "out", "--split", "test", "--split", "train")
    folder = tmp_path / "out" / "merged_balanced"
    found = manifest(folder)
    assert found["splits"].keys() == {"train", "test"}
    for name, about in found["files"].items():
        data = (folder / name).read_bytes()
        assert (about["bytes"], about["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert about["rows"] == pq.read_metadata(folder / name).num_rows
    for split, about in found["splits"].items():
        rows = world.rows(split=split)
        ids = b"".join(row[key].to_bytes(8, "little", signed=True) for row in rows for key in ("id", "image_id"))
        assert about["ids_sha256"] == hashlib.sha256(ids).hexdigest()
        assert (about["rows"], about["pristine"], about["falsified"]) == (len(rows), len(rows) // 2, len(rows) // 2)
        assert about["report"] == reports["merged_balanced"][split]


# Building again


def test_another_build_replaces_a_config_and_keeps_the_others(world: World, tmp_path: Path) -> None:
    """A second build of a config replaces it; the card still has the other config."""
    out = tmp_path / "out"
    build(world, out, "--config", "merged_balanced")
    build(world, out, "--config", "person_sbert_text_text")
    reports = build(world, out, "--split", "test", "--images", "none")
    assert reports["merged_balanced"].keys() == {"test"}
    assert datasets.get_dataset_config_names(str(out)) == ["merged_balanced", "person_sbert_text_text"]
    again = datasets.load_dataset(str(out), "merged_balanced")
    assert list(again) == ["test"]
    assert raw_splits(again)["test"] == world.rows("merged_balanced", "test", images="none")
    other = datasets.load_dataset(str(out), "person_sbert_text_text")
    assert raw_splits(other) == expected_splits(world, "person_sbert_text_text")


@pytest.mark.parametrize("layout", ["bytes", "once", "none"])
def test_the_same_build_again_writes_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """Building again from the same inputs writes no Parquet file and changes no byte."""
    build(world, tmp_path / "out", *TWO, "--images", layout)
    before = content(tmp_path / "out")

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(writer, "write_shard", never)
    build(world, tmp_path / "out", *TWO, "--images", layout)
    assert content(tmp_path / "out") == before


def test_a_folder_is_opened_once(world: World, tmp_path: Path) -> None:
    """Each command reads a manifest once and hands it on; `push` reads it again, to check the bytes that it sends."""
    opened: list[tuple[str, bool]] = []
    active = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and active[0] and str(arguments[0]).endswith("manifest.json"):
            path, builtin = str(arguments[0]), arguments[1] is not None
            if not builtin and opened[-1:] == [(path, True)]:
                opened.pop()  # the builtin `open` has called its opener
            opened.append((path, builtin))

    def count(*arguments: object) -> int:
        opened.clear()
        assert run(*arguments).exit_code == 0
        return len(opened)

    sys.addaudithook(note)  # for the life of the process
    out, two = tmp_path / "out", [*TWO, "--images", "once", "--data-dir", world.root]
    for absent in (tmp_path / "manifest.json", tmp_path / "no" / "manifest.json"):
        with pytest.raises(FileNotFoundError):
            absent.read_bytes()
    assert len(opened) == 2
    assert count("build", out, *two) == 0  # of a new folder, what was written is known
    assert count("build", out, *two) == 3
    assert count("build", out, "--config", "person_sbert_text_text", "--data-dir", world.root) == 3
    push = ["push", "me/it", out, "--dry-run", "--with-images", "--i-have-the-rights"]
    counts = [count(*command) for command in (["stats", out], ["card", out], ["card", out, "--check"], push)]
    assert counts == [4, 4, 4, 8]
    assert count("verify", "--built", out) == 4
    assert count("croissant", out) == 4
    active[0] = False


def test_a_changed_picture_is_written(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A changed picture is written, although the files of the build are complete."""
    world = new_world(tar=False)
    build(world, tmp_path / "out")
    record = world.used_once()
    world.pictures[record.image_path] = b"\xff\xd8 another picture \xff\xd9"
    (world.origin / record.image_path).write_bytes(world.pictures[record.image_path])
    build(world, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "merged_balanced" / "train-00000-of-00001.parquet").to_pylist()
    assert [row["image"]["bytes"] for row in rows] == [row["image"]["bytes"] for row in world.rows()]


def test_a_damaged_file_is_written_again(world: World, tmp_path: Path) -> None:
    """A file whose size differs from the manifest's is written again."""
    build(world, tmp_path / "out")
    before = content(tmp_path / "out")
    file = tmp_path / "out" / "merged_balanced" / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    build(world, tmp_path / "out")
    assert content(tmp_path / "out") == before


CRASH = """
import hashlib, os, shutil, sys
from pathlib import Path
import newsclippings
from _newsclippings.folder import writer
from _newsclippings.cli.commands import main
out, data_dir, start = map(Path, sys.argv[1:4])

def content():
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}

def in_child(point):  # the exit code of a build that is killed before one of the steps that matter
    calls = 0
    def step(function):
        def counted(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == point:
                os._exit(9)
            return function(*args, **kwargs)
        return counted
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.fsync, os.rename, os.replace, os.mkdir = map(step, (os.fsync, os.rename, os.replace, os.mkdir))
    writer.write_shard, shutil.rmtree = step(writer.write_shard), step(shutil.rmtree)
    try:
        main(["build", str(out), "--data-dir", str(data_dir), "--split", "test", "--images", "once",
              "--config", "merged_balanced", "--config", "scene_resnet_place"], standalone_mode=False)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)

def prepare():
    shutil.rmtree(out, ignore_errors=True)
    if start.exists():
        shutil.copytree(start, out)

prepare()
assert in_child(0) == 0
whole = content()
point = 0
while True:
    point += 1
    prepare()
    code = in_child(point)
    assert code in (0, 9), (point, code)
    if code == 0:
        break
    assert in_child(0) == 0, point
    assert content() == whole, (point, set(content().items()) ^ set(whole.items()))
print(point - 1)
"""


@pytest.mark.parametrize("new", [True, False], ids=["new folder", "over an older build"])
@pytest.mark.sweep
def test_killed_at_any_step(world: World, tmp_path: Path, new: bool) -> None:
    """Killed before any write, flush, rename or removal, the next build gives the same bytes."""
    if not new:
        build(world, tmp_path / "older", *TWO, "--split", "validation", "--split", "test")
    command = [sys.executable, "-c", CRASH, str(tmp_path / "out"), str(world.root), str(tmp_path / "older")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 20
    assert raw(datasets.load_dataset(str(tmp_path / "out"), split="test")) == world.rows(split="test")


def test_a_full_disk_is_reported_before_writing(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes to write, exact for pictures, are compared with the free disk before anything is written."""
    pictures = sum(len(row["image"]["bytes"]) for row in world.rows(split="test"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=pictures))
    result = run("build", tmp_path / "out", "--data-dir", world.root, "--split", "test")
    assert result.exit_code == 1
    match = re.search(r"([\d,]+) bytes are needed for what has to be written, and ([\d,]+) are free\.", result.stderr)
    assert match
    needed, free = (int(number.replace(",", "")) for number in match.groups())
    assert free == pictures < needed < pictures + 4096 * len(world.rows(split="test"))
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize("layout", ["bytes", "once"])
def test_a_disk_with_space_for_one_config_of_two(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """The needed disk space counts all requested configs before any is written, except complete ones."""
    usage, options = shutil.disk_usage(tmp_path), ["--data-dir", world.root, "--images", layout]

    def refused(free: int, *configs: str) -> tuple[int, str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        result = run("build", tmp_path / "out", *configs, *options)
        found = re.search(r"([\d,]+) bytes are needed for .*, and [\d,]+ are free\. (.*): free some", result.stderr)
        assert found
        assert not (tmp_path / "out").exists()
        return int(found[1].replace(",", "")), found[2]

    one, done = refused(0, *TWO[:2])
    assert done == "Of merged_balanced nothing was written, others stay"
    both, done = refused(one, *TWO)
    assert both > one
    assert done == "Nothing was written"
    assert run("build", tmp_path / "out", *TWO[:2], *options).exit_code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=both - one))
    assert run("build", tmp_path / "out", *TWO, *options).exit_code == 0


def test_reports_are_logged_once(
    new_world: Callable[..., World], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each report is logged once: every config is joined once, before any is written."""
    world = new_world(tar=False)
    (world.origin / world.used_once().image_path).unlink()
    build(world, tmp_path / "out", *TWO, "--missing", "null")
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == len(set(logged)) > 0


def test_the_end_of_a_build_says_what_load_dataset_copies(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last line of the log has the size of the Arrow files that load_dataset writes, and how to avoid them."""
    end = re.compile(r"take about ([\d,]+) bytes there\. Pass streaming=True to read them in place\.$")
    said = []
    for _ in range(2):  # also if nothing was new
        build(world, tmp_path / "out", *TWO)
        said += end.findall(caplog.messages[-1])
    assert len(said) == 2
    loaded = [datasets.load_dataset(str(tmp_path / "out"), config) for config in TWO[1::2]]
    files = [file["filename"] for splits in loaded for rows in splits.values() for file in rows.cache_files]
    assert 0.7 < int(said[0].replace(",", "")) / sum(Path(file).stat().st_size for file in files) < 1.3
    caplog.clear()
    assert run("build", tmp_path / "out", *TWO, "--data-dir", world.root, "-q").stderr == ""
    assert caplog.messages == []


def test_the_needed_disk_space_counts_compressed_texts(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is large enough for the compressed texts is accepted."""
    build(world, tmp_path / "first", "--images", "none", "--articles", *ALL)
    manifests = [manifest(file.parent) for file in tmp_path.rglob("manifest.json")]
    plain = sum(split["plain_bytes"] for one in manifests for split in one["splits"].values())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=plain // 5))
    build(world, tmp_path / "second", "--images", "none", "--articles", *ALL)


def test_two_builds_at_once_in_one_folder(world: World, tmp_path: Path) -> None:
    """The second build waits for the first, and reports the same."""

    def build_and_report(place: Path) -> None:
        result = run("build", tmp_path / "out", "--data-dir", world.root)
        place.write_text(result.stdout)
        sys.exit(result.exit_code)

    places = [tmp_path / "first.txt", tmp_path / "second.txt"]
    both = [in_child(partial(build_and_report, place)) for place in places]
    assert [wait(child) for child in both] == [0, 0]
    outputs = [place.read_text() for place in places]
    assert outputs[0] == outputs[1] != ""
    assert raw_splits(datasets.load_dataset(str(tmp_path / "out"))) == expected_splits(world)


FOREIGN = [
    "README.md",
    "dataset_infos.json",
    "pairs.png",
    "croissant.json",
    "merged_balanced/notes.txt",
    "merged_balanced/train.json",
    "merged_balanced/mine.parquet",
    "merged_balanced",
    "newsclippings.py",
]


@pytest.mark.parametrize("name", FOREIGN)
def test_it_never_replaces_what_it_did_not_write(world: World, tmp_path: Path, name: str) -> None:
    """A folder with other files is refused before anything is written, and every file stays as it is."""
    out = tmp_path / "out"
    file = out / name
    file.parent.mkdir(parents=True)
    file.write_text("---\nmine: true\n---\nmine")
    result = run("build", out, "--data-dir", world.root)
    assert result.exit_code == 1
    assert f"found {file}" in result.stderr
    assert [p for p in out.rglob("*") if p.is_file()] == [file]
    assert file.read_text().endswith("mine")


@pytest.mark.parametrize("name", ["merged_balanced", "images"])
def test_a_config_that_is_a_link_is_refused(world: World, tmp_path: Path, name: str) -> None:
    """A config folder that is a symbolic link is refused before anything is written."""
    out = tmp_path / "out"
    build(world, out, "--config", "scene_resnet_place", "--images", "once")
    (out / "images" if name == "images" else out / "scene_resnet_place").rename(tmp_path / "elsewhere")
    (out / name).symlink_to(tmp_path / "elsewhere")
    before = content(out)
    result = run("build", out, "--data-dir", world.root, "--images", "none")
    assert result.exit_code == 1
    assert f"{out / name}: expected a file or a folder, which can be replaced, found a symbolic link." in result.stderr
    assert content(out) == before
    assert not (out / ".building").exists()


def test_the_card_of_the_current_folder_has_its_name(world: World) -> None:
    """`build .` works, and the card's snippet uses the folder's name."""
    assert run("build", ".", "--data-dir", world.root, "--images", "none").exit_code == 0
    assert 'load_dataset("cwd", "merged_balanced")' in Path("README.md").read_text()


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "größe"])
def test_a_folder_of_any_name(world: World, tmp_path: Path, name: str) -> None:
    """The card's snippet has the folder's name as a valid Python literal."""
    out = tmp_path / name
    build(world, out, "--images", "none")
    card = (out / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"^dataset = load_dataset\((.*), \"merged_balanced\"\)$", card, re.M)
    assert shown
    assert ast.literal_eval(shown[1]) == name
    assert stale_files(BuiltFolder.open(out), []) == []


def test_a_folder_name_that_is_not_utf8_is_refused(world: World, tmp_path: Path) -> None:
    """A folder name that is not UTF-8 is refused, because Arrow cannot write there."""
    result = run("build", tmp_path / b"x\xff".decode(errors="surrogateescape"), "--data-dir", world.root)
    assert result.exit_code == 1
    assert "expected a name in UTF-8, found bytes that are not UTF-8. Choose another." in result.stderr
    assert not list(tmp_path.glob("x*"))


def test_a_config_that_fails_stops_the_others(new_world: Callable[..., World], tmp_path: Path) -> None:
    """All configs are joined before any is written, so that a fault of the second leaves nothing of the first."""
    world = new_world(tar=False)
    (world.root / "news_clippings/data/scene_resnet_place/test.json").write_text("{}")
    for images in ("bytes", "none"):
        result = run("build", tmp_path / "out", *TWO, "--data-dir", world.root, "--images", images)
        assert result.exit_code == 1
        assert "scene_resnet_place/test.json" in result.stderr
        assert not (tmp_path / "out").exists()


# `--images once`: shared pictures


def test_each_picture_is_stored_once(world: World, tmp_path: Path) -> None:
    """With `--images once`, merged_balanced keeps its pictures; a config `images` has each of the others once."""
    out = tmp_path / "out"
    build(world, out, *ALL, "--images", "once")
    thin = [config for config in CONFIGS if config != "merged_balanced"]
    for config in thin:
        loaded = raw_splits(datasets.load_dataset(str(out), config))
        assert loaded == {split: world.rows(config, split, images="none") for split in SPLITS}
    assert raw_splits(datasets.load_dataset(str(out))) == expected_splits(world)
    for split in SPLITS:
        used = {row["image_id"]: row for config in thin for row in world.rows(config, split)}
        expected = [
            {"image_id": k, "image": used[k]["image"], "image_path": used[k]["image_path"]} for k in sorted(used)
        ]
        assert raw(datasets.load_dataset(str(out), "images", split=split)) == expected
    stored = Counter(
        row["bytes"] for file in out.glob("images/test-*.parquet") for row in pq.read_table(file)["image"].to_pylist()
    )
    assert set(stored.values()) == {1}


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_join_images_restores_the_full_rows(world: World, tmp_path: Path, streaming: bool) -> None:
    """join_images gives the rows with pictures, with the columns in their usual order."""
    out = tmp_path / "out"
    build(world, out, *TWO, "--images", "once")
    thin = datasets.load_dataset(str(out), "scene_resnet_place", split="train", streaming=streaming)
    images = datasets.load_dataset(str(out), "images", split="train")
    full = join_images(thin, images.shuffle(seed=1))
    assert raw(full) == world.rows("scene_resnet_place", "train")
    direct = datasets.load_dataset("newsclippings", "scene_resnet_place", data_dir=str(world.root), split="train")
    assert full.features == direct.features
    assert list(next(iter(full))) == list(next(iter(direct)))


def test_join_images_of_another_split_is_an_error(world: World, tmp_path: Path) -> None:
    """join_images with another split's pictures is an error; no row silently loses its picture."""
    out = tmp_path / "out"
    build(world, out, *TWO, "--images", "once")
    thin = datasets.load_dataset(str(out), "scene_resnet_place", split="train")
    others = datasets.load_dataset(str(out), "images", split="test")
    for images in (others, others.select([])):
        with pytest.raises(
            MissingDataError, match=r"images: expected a picture for each of 28 rows, found none for 28"
        ):
            join_images(thin, images)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_join_images_of_other_columns_is_an_error(streaming: bool) -> None:
    """join_images refuses ids that are absent, null or no integers; any width of integer is accepted."""
    pictures = [{"bytes": bytes([k]), "path": None} for k in (1, 2)]
    image = datasets.Features({"image_id": datasets.Value("int64"), "image": datasets.Image(decode=False)})

    def joined(thin: dict[str, Any], images: dict[str, Any], kinds: Any = image) -> Any:
        rows = datasets.Dataset.from_dict({"caption": ["a", "b"], **thin})
        rows = rows.to_iterable_dataset() if streaming else rows
        full = join_images(rows, datasets.Dataset.from_dict(images, kinds))
        return [row["image"] for row in full.cast_column("image", datasets.Image(decode=False))]

    good = {"image_id": [7, 8], "image": pictures}
    assert joined({"image_id": [8, 7]}, good) == pictures[::-1]
    narrow = datasets.Features({**image, "image_id": datasets.Value("int32")})
    assert joined({"image_id": [8, 7]}, good, narrow) == pictures[::-1]
    for ids in ({}, {"image_id": [7.5, 8.5]}, {"image_id": ["7", "x"]}, {"image_id": [[7], [8]]}):
        with pytest.raises(ConfigError, match=r"^join_images: expected rows with a column image_id of whole numbers"):
            joined(ids, good)
    with pytest.raises(MissingDataError, match="found null"):
        joined({"image_id": [7, None]}, good)
    with pytest.raises(ConfigError, match="expected an image_id for each picture, found null"):
        joined({"image_id": [7, 8]}, {**good, "image_id": [7, None]})
    for odd in ({"image": pictures}, {"image_id": ["7", "8"], "image": pictures}, {"image_id": [7, 8]},
                {"image_id": [7, 8], "image": [1, 2]}, {"image_id": [7, 8], "image": ["/etc/passwd"] * 2}):  # fmt: skip
        with pytest.raises(ConfigError, match=r"^join_images: expected pictures with a column image"):
            joined({"image_id": [7, 8]}, odd, None)


def test_join_images_of_all_splits_is_an_error(world: World, tmp_path: Path) -> None:
    """join_images refuses all splits at once, and streamed pictures, with one line that says what it expects."""
    out = tmp_path / "out"
    build(world, out, *TWO, "--images", "once")
    thin, images = (datasets.load_dataset(str(out), config) for config in ("scene_resnet_place", "images"))
    stream = datasets.load_dataset(str(out), "images", split="train", streaming=True)
    for pair in ((thin, images), (thin["train"], images), (thin, images["train"]), (thin["train"], stream)):
        with pytest.raises(ConfigError, match=r"join_images: expected .* found \w+ and \w+\. Pass one split of each"):
            join_images(*pair)


def test_pictures_that_are_missing_stay_null(new_world: Callable[..., World], tmp_path: Path) -> None:
    """With --missing null a missing picture is null in the config of pictures and in the joined rows."""
    world = new_world(tar=False)
    lost = world.used_once("scene_resnet_place").image_path
    (world.origin / lost).unlink()
    out = tmp_path / "out"
    build(world, out, "--config", "scene_resnet_place", "--images", "once", "--missing", "null")
    thin = datasets.load_dataset(str(out), "scene_resnet_place", split="train")
    full = raw(join_images(thin, datasets.load_dataset(str(out), "images", split="train")))
    assert full == world.rows("scene_resnet_place", pictures=set(world.pictures) - {lost})
    assert sum(row["image"] is None for row in full) == 1


def test_shared_pictures_cover_configs_of_earlier_builds(world: World, tmp_path: Path) -> None:
    """The config of pictures has the pictures of every config that needs it, or `build` refuses to write it."""
    out = tmp_path / "out"
    build(world, out, "--config", "scene_resnet_place", "--images", "once")
    before = content(out)
    person = ["--config", "person_sbert_text_text", "--images", "once"]
    result = run("build", out, "--data-dir", world.root, *person)
    assert result.exit_code == 1
    assert "the config images serves scene_resnet_place, too" in result.stderr
    assert content(out) == before
    build(world, out, *person, "--config", "scene_resnet_place")
    images = datasets.load_dataset(str(out), "images", split="test")
    for config in ("scene_resnet_place", "person_sbert_text_text"):
        thin = datasets.load_dataset(str(out), config, split="test")
        assert raw(join_images(thin, images)) == world.rows(config, "test")


def test_shared_pictures_are_removed_with_the_last_config_that_needs_them(world: World, tmp_path: Path) -> None:
    """Built again with pictures in the rows, the folder has no config of pictures, and the card does not mention it."""
    out = tmp_path / "out"
    build(world, out, *TWO, "--images", "once")
    build(world, out, *TWO)
    assert not (out / "images").exists()
    assert "join_images" not in card(out)[1]
    assert raw_splits(datasets.load_dataset(str(out), "scene_resnet_place")) == expected_splits(
        world, "scene_resnet_place"
    )
    assert run("card", out, "--check").exit_code == 0


def test_a_build_killed_before_the_shared_pictures_is_noticed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A config whose shared pictures were not written is known by its manifest, and the next build must include it."""
    out = tmp_path / "out"
    first = ["--config", "scene_resnet_place", "--config", "semantics_clip_text_text", "--images", "once"]

    def killed(folder: BuiltFolder, content: ConfigContent) -> BuiltFolder:
        if content.config == "images":
            raise OSError("killed")
        return writer.write_config(folder, content)

    with monkeypatch.context() as patch:
        patch.setattr("_newsclippings.folder.build.write_config", killed)
        assert run("build", out, "--data-dir", world.root, *first).exit_code == 1
    result = run("build", out, "--data-dir", world.root, "--config", "scene_resnet_place", "--images", "once")
    assert result.exit_code == 1
    assert "serves semantics_clip_text_text, too" in result.stderr
    build(world, out, *first)
    for config in ("scene_resnet_place", "semantics_clip_text_text"):
        thin, images = (datasets.load_dataset(str(out), name, split="test") for name in (config, "images"))
        assert raw(join_images(thin, images)) == world.rows(config, "test")


def test_pictures_in_a_folder_of_the_users_are_refused(world: World, tmp_path: Path) -> None:
    """A folder `images` with the user's files is not replaced."""
    out = tmp_path / "out"
    (out / "images").mkdir(parents=True)
    (out / "images" / "mine.parquet").write_bytes(b"mine")
    result = run("build", out, "--data-dir", world.root, "--config", "scene_resnet_place", "--images", "once")
    assert result.exit_code == 1
    assert f"found {out}/images/mine.parquet" in result.stderr
    assert [p for p in out.rglob("*") if p.is_file()] == [out / "images" / "mine.parquet"]


def test_rows_without_a_record_stay_when_pictures_are_stored_once(
    new_world: Callable[..., World], tmp_path: Path
) -> None:
    """An image_id without a record has a null picture in the config of pictures, and join_images accepts it."""
    world = new_world(tar=False)
    lost = world.used_once("scene_resnet_place")
    del world.records[lost.id]
    world.write_data_json()
    out = tmp_path / "out"
    build(world, out, "--config", "scene_resnet_place", "--images", "once", "--missing", "null")
    thin, images = (datasets.load_dataset(str(out), name, split="train") for name in ("scene_resnet_place", "images"))
    assert raw(join_images(thin, images)) == world.rows("scene_resnet_place")


def test_a_new_folder_that_cannot_be_made_is_named(world: World) -> None:
    """If the folder cannot be created, the error gives the reason; cleaning up does not hide it."""
    result = run("build", "/proc/no/such", "--data-dir", world.root)
    assert result.exit_code == 1
    assert "/proc/no" in result.stderr


def test_errors_name_the_options_of_the_command_line(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Errors of the command name the option --missing null, not missing='null'."""
    world = new_world(tar=False)
    (world.origin / world.used_once().image_path).unlink()
    told = run("build", tmp_path / "out", "--data-dir", world.root).stderr
    assert "or pass --missing null (keep the rows, with nulls) or --missing drop_pair (leave out both" in told
    shutil.rmtree(world.origin)
    told = run("build", tmp_path / "out", "--data-dir", world.root).stderr
    assert "Then pass --visual-news /path/to/origin.tar (or" in told
    assert "Without pictures: --images none builds" in told


def test_a_missing_input_leaves_no_folder(world: World, tmp_path: Path) -> None:
    """A missing input is an error, and the folder that was locked for the build is removed."""
    result = run("build", tmp_path / "out", "--data-dir", world.root, "--visual-news", "nowhere.tar")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "nowhere.tar" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_build_that_waited_for_a_removed_folder_creates_it_again(tmp_path: Path) -> None:
    """A build that waited for the lock of a folder that was then removed locks a new folder, exclusively."""
    with lock_folder(tmp_path / "out"):
        waiting = subprocess.Popen(
            [sys.executable, "-c", LOCK, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        (tmp_path / "out").rmdir()
    assert waiting.communicate()[0] == "alone\n"
    assert (tmp_path / "out").is_dir()


LOCK = """
import sys
from pathlib import Path
from _newsclippings.folder.writer import lock_folder
print("waiting", flush=True)
with lock_folder(Path(sys.argv[1])):
    print("alone" if Path(sys.argv[1]).is_dir() else "nowhere", flush=True)
"""


def test_an_older_config_is_restored_after_a_kill(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill between two renames, a next build that fails for lack of disk space restores the older config."""
    out = tmp_path / "out"
    build(world, out)
    before = content(out)
    (out / ".building").mkdir()
    (out / "merged_balanced").rename(out / ".building" / "merged_balanced-old")
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
        assert run("build", out, "--data-dir", world.root, "--images", "none").exit_code == 1
    assert content(out) == before


# The card


def card(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_the_card_says_what_was_counted(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The card has configs, features and sizes in YAML, and counts, report and snippet in text."""
    world = new_world(tar=False)
    lost = world.used_once().image_path
    (world.origin / lost).unlink()
    out = tmp_path / "cwd" / "newsclippings"
    build(world, out, *TWO, "--missing", "drop_pair")
    head, text = card(out)
    assert [config["config_name"] for config in head["configs"]] == ["merged_balanced", "scene_resnet_place"]
    assert head["configs"][0]["default"] is True
    assert head["license"] == "other"
    assert head["size_categories"] == ["n<1K"]
    infos = {info["config_name"]: info for info in head["dataset_info"]}
    rows = {
        split: len(world.rows(split=split, pictures=set(world.pictures) - {lost}, missing="drop_pair"))
        for split in SPLITS
    }
    assert {split["name"]: split["num_examples"] for split in infos["merged_balanced"]["splits"]} == rows
    assert rows["train"] == 22
    assert re.search(r"\| `merged_balanced` \| train \| 22 \| 11 \| 11 \|", text)
    assert "| `merged_balanced` | train | 24 | 22 | 23 | picture 1 | - |" in text
    assert "Where a row lacked something, both twins were left out (`--missing drop_pair`); pairs: 3." in text
    assert "](https://github.com/g-luo/news_clippings) ([paper](https://arxiv.org/abs/2104.05893))" in text
    assert "captions and pictures of [VisualNews](https://github.com/FuxiaoLiu/VisualNews-Repository)" in text
    assert not re.search(r" $", text, re.M)
    assert "![Pairs of merged_balanced" in text
    assert (out / "pairs.png").stat().st_size > 1000
    assert "`similarity_score == 1`" in text
    snippet = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", f"{snippet}\nprint(dataset['train'].num_rows)"],
        cwd=out.parent, capture_output=True, text=True, env=environment(tmp_path / "hf"),
    )  # fmt: skip
    assert done.stdout.strip() == "22", done.stderr


@pytest.mark.parametrize("missing", ["error", "null"])
def test_the_card_says_what_happened_to_incomplete_rows(
    new_world: Callable[..., World], tmp_path: Path, missing: str
) -> None:
    """The card says whether rows with nulls were kept, or that all rows are complete."""
    world = new_world(tar=False)
    if missing == "null":
        (world.origin / world.used_once().image_path).unlink()
    build(world, tmp_path / "out", "--missing", missing)
    kept = "Rows that lack something were kept, with nulls (`--missing null`); rows: 1."
    assert (kept if missing == "null" else "No row lacks a record or a file that was asked for.") in card(
        tmp_path / "out"
    )[1]


def test_the_card_of_vectors(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The card has the stored types of vectors, and mentions nulls only if there are any."""
    world = new_world(tar=False)
    plan = make_plan(world)
    test = [row["id"] for row in world.rows(split="test")]
    plan["sbert"]["test"] = {n: plan["sbert"]["train"][min(plan["sbert"]["train"])].copy() for n in test[2:]}
    write_embeddings(world, plan)
    (world.origin / next(row["image_path"] for row in world.rows(split="test")[4:])).unlink()
    options = ["--embeddings", "sbert", "--embeddings", "facenet", "--missing", "drop_pair", "--split", "test"]
    build(world, tmp_path / "out", *options)
    text = card(tmp_path / "out")[1]
    assert "| `facenet` | list of float32 (512,) |" in text
    assert "| `sbert` | float32 (768,) |" in text
    rows = pq.read_table(next((tmp_path / "out" / "merged_balanced").glob("test-*.parquet")))
    lacking = [kind for kind in ("facenet", "sbert") if rows[kind].null_count]
    assert lacking
    assert f"Rows without a vector have null there ({', '.join(f'`{kind}`' for kind in lacking)})" in text


def test_the_card_of_vectors_that_the_first_version_wrote(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The card of files of the first version keeps its note on pyarrow until the files are written again."""
    world, out = new_world(tar=False), tmp_path / "out"
    write_embeddings(world, make_plan(world))
    build(world, out, "--images", "none", "--embeddings", "sbert")
    readme, sums = out / "README.md", out / "SHA256SUMS"
    new = readme.read_text(encoding="utf-8")
    first = new.replace("null there (`sbert`).", "null there (`sbert`), which needs pyarrow 26 or later to be read.")
    assert first != new
    before, after = (hashlib.sha256(one.encode()).hexdigest() for one in (new, first))
    readme.write_text(first, encoding="utf-8")
    sums.write_text(sums.read_text().replace(before, after))
    assert verify_built(out).sound
    assert run("card", out, "--name", "me/other").exit_code == 0
    assert readme.read_text(encoding="utf-8") == first.replace('load_dataset("out"', 'load_dataset("me/other"')
    assert run("card", out, "--name", "out").exit_code == 0
    build(world, out, "--images", "none", "--embeddings", "sbert")
    assert readme.read_text(encoding="utf-8") == new


def test_the_card_of_thin_configs_shows_the_join(world: World, tmp_path: Path) -> None:
    """The card of configs with shared pictures has a second snippet, for join_images, and it runs."""
    out = tmp_path / "cwd" / "newsclippings"
    build(world, out, *TWO, "--images", "once")
    text = card(out)[1]
    assert "To load it no other package is needed" in text
    assert "That needs the package newsclippings, by which this was built" in text
    assert "Not so the config `images`: it has each `image_id` once a split" in text
    snippet = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = f"import newsclippings\n{snippet[0]}{snippet[1]}\nprint(full.num_rows, full[0]['image'].size)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=out.parent, capture_output=True, text=True, env=environment(tmp_path / "hf")
    )
    assert done.stdout.split()[0] == str(len(world.rows("scene_resnet_place"))), done.stderr


def test_infos_and_card_agree(world: World, tmp_path: Path) -> None:
    """dataset_infos.json has the configs, columns and counts of the card's YAML, and `datasets` reads it."""
    from datasets.info import DatasetInfosDict

    build(world, tmp_path / "out", *TWO, "--images", "once")
    head = DatasetInfosDict.from_directory(str(tmp_path / "out"))
    (tmp_path / "json").mkdir()
    shutil.copy(tmp_path / "out" / "dataset_infos.json", tmp_path / "json")
    infos = DatasetInfosDict.from_directory(str(tmp_path / "json"))
    assert infos.keys() == head.keys() == {"merged_balanced", "scene_resnet_place", "images"}
    for config, info in infos.items():
        assert info.features == head[config].features
        assert {s: i.num_examples for s, i in info.splits.items()} == {
            s: i.num_examples for s, i in head[config].splits.items()
        }
        assert info.download_size == sum(f.stat().st_size for f in (tmp_path / "out" / config).glob("*.parquet"))


def test_card_check(world: World, tmp_path: Path) -> None:
    """`card --check` detects an edited card; `card` writes it again."""
    out = tmp_path / "out"
    build(world, out)
    before = content(out)
    assert run("card", out, "--check").exit_code == 0
    for name in sorted(BESIDE):
        (out / name).write_text((out / name).read_text().replace("24", "25"))
        result = run("card", out, "--check")
        assert result.exit_code == 1
        assert f"{out / name} is not what" in result.stderr
        assert run("card", out).exit_code == 0
        assert content(out) == before
    (tmp_path / "empty").mkdir()
    result = run("card", tmp_path / "empty")
    assert result.exit_code == 1
    assert "expected a folder that `newsclippings build` wrote" in result.stderr


def test_the_version_is_that_of_the_data(world: World, tmp_path: Path) -> None:
    """A folder of an earlier version keeps its version, and its card still counts as up to date."""
    out = tmp_path / "out"
    build(world, out, *TWO)
    for config, version in {"merged_balanced": "0.9.10", "scene_resnet_place": "0.9.9"}.items():
        manifest = out / config / "manifest.json"
        manifest.write_text(manifest.read_text().replace(f'"version": "{VERSION}"', f'"version": "{version}"'))
    assert run("card", out).exit_code == 0
    assert "Built by newsclippings 0.9.10, which" in (out / "README.md").read_text(encoding="utf-8")
    assert verify_built(out).sound
    assert plan_upload(BuiltFolder.open(out), "me/it", with_images=True, have_the_rights=True).version == "0.9.10"


def test_a_card_that_another_version_of_datasets_wrote(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Versions of `datasets` write list types differently in YAML; the card counts as up to date in both forms."""
    world, out = new_world(), tmp_path / "out"
    build(world, out, "--images", "none", "--metadata")
    readme, sums = out / "README.md", out / "SHA256SUMS"
    text = readme.read_text(encoding="utf-8")
    theirs = text.replace("sequence:", "list:") if "sequence:" in text else text.replace("list:", "sequence:")
    assert theirs != text
    before, after = (hashlib.sha256(one.encode()).hexdigest() for one in (text, theirs))
    readme.write_text(theirs, encoding="utf-8")
    sums.write_text(sums.read_text().replace(before, after))
    assert verify_built(out).sound
    assert run("card", out, "--check").exit_code == 0
    assert run("card", out).exit_code == 0
    assert readme.read_text(encoding="utf-8") == theirs


def test_hidden_files_are_ignored(world: World, tmp_path: Path) -> None:
    """A hidden file in a config is ignored by `build` and `verify`."""
    out = tmp_path / "out"
    build(world, out)
    before = content(out)
    for folder in (out, out / "merged_balanced"):
        (folder / ".DS_Store").write_bytes(b"finder")
    build(world, out)
    assert verify_built(out).sound
    assert {name: data for name, data in content(out).items() if not name.endswith(".DS_Store")} == before


def test_a_damaged_config_stops_the_card_with_one_line(world: World, tmp_path: Path) -> None:
    """If the config for the card's example pairs cannot be read, one line says so and what to do."""
    out = tmp_path / "out"
    build(world, out)
    shard = next((out / "merged_balanced").glob("test-*.parquet"))
    shard.write_bytes(shard.read_bytes()[:500])
    result = run("build", out, "--data-dir", world.root, "--config", "scene_resnet_place")
    assert result.exit_code == 1
    assert f"Error: {shard}: cannot be read as Parquet that `newsclippings build` wrote" in result.stderr


def test_beside_a_config_with_a_foreign_manifest(world: World, tmp_path: Path) -> None:
    """The card would have to describe it: the build is refused before anything is written."""
    out = tmp_path / "out"
    build(world, out, *TWO, "--split", "test")
    edited = out / "scene_resnet_place" / "manifest.json"
    edited.write_text(edited.read_text().replace('"splits"', '"parts"'))
    before = content(out)
    result = run("build", out, "--data-dir", world.root, "--split", "train")
    assert result.exit_code == 1
    assert f"{edited}: expected what `newsclippings build` writes, found something else (no field 'splits')" in (
        result.stderr
    )
    assert content(out) == before


def test_columns_taken_out_of_a_folder(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A folder without its pictures and articles has the other columns of every row, vectors with nulls among them."""
    world, out, thin = new_world(tar=False), tmp_path / "out", tmp_path / "thin"
    write_embeddings(world, make_plan(world))
    options = ["--embeddings", "sbert", "--embeddings", "facenet", "--metadata"]
    build(world, out, *options, "--articles")
    build(world, tmp_path / "direct", *options, "--images", "none")
    before = content(out)
    thin.mkdir()
    write_card(write_thin(BuiltFolder.open(out), ["image", "article"], thin))
    assert content(out) == before
    assert verify_built(thin).sound
    found, direct = (datasets.load_dataset(str(folder)) for folder in (thin, tmp_path / "direct"))
    assert found["test"].features == direct["test"].features
    for split in SPLITS:
        assert found[split].to_dict() == direct[split].to_dict()
