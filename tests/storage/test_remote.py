"""Pictures from a tar on a server: the rows of the local tar, fetching little more than their pictures."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import tarfile
import time
import traceback
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from datasets import load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.children import in_child, kill, wait
from support.constants import change_constant
from support.reading import expected_splits, load, raw, raw_length, raw_splits
from support.remote import (
    BLOCK,
    ENDS,
    Origin,
    Published,
    Request,
    articles,
    make_index,
    publish,
    refusal,
    serving,
    shown,
)
from support.sampling import WAYS, crossed, sampled
from support.world import SPLITS, Row, World, make_world

from _newsclippings.cli.commands import main
from _newsclippings.storage import remote as remote_module
from _newsclippings.storage.local import LocalFile
from _newsclippings.storage.remote import RemoteFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar import members as tar_members
from newsclippings import (
    BadTarError,
    ConfigError,
    DataNotFoundError,
    MissingDataError,
    NewsCLIPpings,
    NewsCLIPpingsError,
    RemoteReadError,
)

LARGE = 150_000  # bytes added to each picture, so that neighbours are not fetched with one request


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries and the timeout for silent servers."""
    change_constant(monkeypatch, "PAUSE", 0.001)
    change_constant(monkeypatch, "TIMEOUT", 0.5)


@pytest.fixture
def own(new_world: Callable[..., World], origin: Origin, tmp_path: Path) -> Callable[..., Published]:
    """Publish a private world, which a test may change."""

    def make(name: str = "origin.tar", **how: Any) -> Published:
        return publish(new_world(folder=False, tar=False), origin, tmp_path.name, name, **how)

    return make


@pytest.fixture(scope="module")
def large(server: Origin, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A world of large pictures with different bytes. Shared: never change it."""
    world = make_world(tmp_path_factory.mktemp("large") / "data", folder=False, tar=False)
    rng = random.Random(0)
    world.pictures = {path: data + rng.randbytes(LARGE + len(data)) for path, data in world.pictures.items()}
    return publish(world, server, "large")


@pytest.fixture(scope="module")
def long(server: Origin, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A world with a long split. Shared: never change it."""
    root, pairs = tmp_path_factory.mktemp("long") / "data", {"train": 400, "validation": 5, "test": 6}
    world = make_world(root, folder=False, tar=False, pairs=pairs)
    return publish(world, server, "long")


@pytest.fixture
def index(large: Published, tmp_path: Path) -> str:
    """An index of the tar of large pictures, so that only members need to be fetched."""
    return make_index(large.tar, tmp_path / "large.parquet")


def kept(tmp_path: Path) -> Path:
    """The folder where builds in this process cache what they fetch."""
    return tmp_path / "hf" / "datasets" / "newsclippings"


# Rows


@pytest.mark.parametrize(("data_json", "streaming"), crossed(["first", "middle", "last", "absent"], WAYS))
def test_the_rows_of_the_local_tar(own: Callable[..., Published], data_json: str, streaming: bool) -> None:
    """The URL of a tar gives every row, wherever data.json is in it; without it, captions come from the metadata."""
    remote = own(data_json=data_json)
    captions = "metadata" if data_json == "absent" else "origin"
    assert raw_splits(remote.load(streaming=streaming)) == expected_splits(remote.world, captions=captions)


@pytest.mark.parametrize(
    ("how", "plan"),
    [
        ({"prefix": "./origin/"}, {}),
        ({"prefix": "visual_news/origin/"}, {}),
        ({"prefix": ""}, {}),
        ({"fmt": 1}, {"long_paths": True}),
        ({"fmt": 2, "pax": True}, {"long_paths": True}),
    ],
    ids=["./origin", "visual_news/origin", "no prefix", "GNU long names", "PAX"],
)
def test_archive_formats_of_a_remote_tar(
    new_world: Callable[..., World], origin: Origin, tmp_path: Path, how: dict[str, Any], plan: dict[str, Any]
) -> None:
    """Prefixes, long names and PAX headers of a remote tar are read as in a local one."""
    remote = publish(new_world(folder=False, tar=False, **plan), origin, tmp_path.name, **how)
    assert raw_splits(remote.load()) == expected_splits(remote.world)
    assert raw_splits(remote.load(streaming=True)) == expected_splits(remote.world)


def test_the_builder_takes_a_url(origin: Origin, published: Published) -> None:
    """The builder class takes the URL as `load_dataset` does, and reports the join."""
    builder = NewsCLIPpings(data_dir=str(published.world.root), visual_news=published.url, splits=["test"])
    builder.download_and_prepare()
    expected = published.world.rows(split="test")
    assert raw(builder.as_dataset(split="test")) == expected
    report = builder.join_reports["test"]
    assert (report["rows"], report["written"], report["damage"]) == (len(expected), len(expected), None)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_articles_come_from_the_remote_tar(origin: Origin, published: Published, streaming: bool) -> None:
    """The captions' articles come from the remote tar, too, with and without pictures."""
    rows = published.world.rows(split="test")
    for images in ("bytes", "none"):
        found = raw(published.load(split="test", articles=True, images=images, streaming=streaming))
        assert [row.pop("article") for row in found] == [f"Article {row['id']}.\n" for row in rows]
        assert found == published.world.rows(split="test", images=images)


def test_data_json_beside_the_matches_is_taken_first(own: Callable[..., Published]) -> None:
    """data.json below data_dir is used, and the one in the tar is not fetched."""
    remote = own(data_json="middle")
    (place,) = [place for name, place in remote.places().items() if name == "data.json"]
    record = remote.world.records[remote.world.matches["merged_balanced", "test"][0].id]
    record.caption = "Another caption."
    remote.world.write_data_json()
    found = raw_splits(remote.load(visual_news_index=make_index(remote.tar, Path("x.parquet"))))
    assert found == expected_splits(remote.world)
    asked = [r for r in remote.asked() if r.start < place.stop - BLOCK and r.stop > place.start + BLOCK]
    assert [r for r in asked if r.start >= ENDS and r.stop <= remote.tar.stat().st_size - ENDS] == []


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_picture_missing_in_the_remote_tar(own: Callable[..., Published], streaming: bool) -> None:
    """missing= has the same effect as for a local tar."""
    remote = own()
    remote.world.pictures.pop(remote.world.used_once().image_path)
    remote.world.write_tar(remote.tar)
    with pytest.raises(MissingDataError):
        raw_splits(remote.load(streaming=streaming))
    for missing in ("null", "drop_pair"):
        found = raw_splits(remote.load(missing=missing, streaming=streaming))
        assert found == expected_splits(remote.world, missing=missing)


def test_any_location_that_fsspec_reads(published: Published) -> None:
    """A tar at any other kind of URL gives the same rows."""
    with fsspec.open("memory://tests/origin.tar", "wb") as file:
        file.write(published.tar.read_bytes())
    options: dict[str, Any] = {"visual_news": "memory://tests/origin.tar", "splits": ["test"]}
    assert raw_splits(load(published.world, **options)) == {"test": published.world.rows(split="test")}
    stream = load(published.world, streaming=True, **options)
    assert raw_splits(stream) == {"test": published.world.rows(split="test")}
    fsspec.filesystem("memory").rm("/tests", recursive=True)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_an_unknown_protocol(published: Published, streaming: bool) -> None:
    """For a URL with a protocol that fsspec does not know, the error says so."""
    with pytest.raises(
        ConfigError, match=r"^foo://host/origin\.tar: there is no such protocol\. Use https://, hf://, s3://"
    ):
        load(published.world, visual_news="foo://host/origin.tar", streaming=streaming)


@pytest.mark.parametrize("name", ["my origin.tar", "größe 100%.tar", "a#b?c.tar"])
def test_quoted_urls_are_sent_unchanged(own: Callable[..., Published], name: str) -> None:
    """A quoted URL is sent as it is given."""
    remote = own(name)
    url = remote.origin.address + "/" + quote(remote.tar.relative_to(remote.origin.root).as_posix())
    found = raw(load(remote.world, visual_news=url, split="test"))
    assert found == remote.world.rows(split="test")


@pytest.mark.parametrize(("manner", "streaming"), crossed(["redirect", "no_head", "no_etag"], WAYS))
def test_servers_that_redirect_refuse_head_or_lack_versions(
    origin: Origin, published: Published, manner: str, streaming: bool
) -> None:
    """Servers that redirect, refuse HEAD, or give no version of a file can be read."""
    origin.mode(**{manner: True})
    url = published.url + "?signature=a%2Fb"
    found = raw(load(published.world, visual_news=url, split="test", streaming=streaming))
    assert found == published.world.rows(split="test")


def test_the_command_line(origin: Origin, published: Published, tmp_path: Path) -> None:
    """`info`, `preview` and `build` take the URL; the built folder has every row, and does not mention the server."""
    where = ["--data-dir", str(published.world.root), "--visual-news", published.url + "?signature=secret"]
    said = CliRunner().invoke(main, ["info", *where])
    assert said.exit_code == 0, said.output
    assert published.url in said.output
    where += ["--visual-news-index", make_index(published.tar, tmp_path / "x.parquet")]
    for command in (["preview", "-o", "x.png", "--pairs", "1"], ["build", "out"]):
        done = CliRunner().invoke(main, [*command, *where])
        assert done.exit_code == 0, done.output
    assert raw_splits(load_dataset("./out")) == expected_splits(published.world)
    for file in (path for path in Path("out").rglob("*") if path.is_file()):
        for secret in (b"127.0.0.1", b"secret", str(tmp_path).encode()):
            assert secret not in file.read_bytes(), file


def test_a_renewed_signature_is_the_same_tar(origin: Origin, large: Published, index: str, tmp_path: Path) -> None:
    """With a renewed signature in the URL, nothing is fetched again."""
    for signature in ("1", "2"):
        url = f"{large.url}?signature={signature}"
        rows = load(large.world, visual_news=url, visual_news_index=index, splits=["test"], split="test")
        assert raw(rows) == large.world.rows(split="test")
    assert len(list((kept(tmp_path) / "remote_tars").glob("*.tar"))) == 1
    assert large.times()[large.inner()].max() == 1


@pytest.mark.parametrize("url", ["http://", "https://host:99999/origin.tar", "hf://nope"])
def test_invalid_urls(url: str) -> None:
    """An invalid URL is an error at once, which does not mention ranges or slow servers."""
    with pytest.raises(DataNotFoundError, match="could not be fetched") as error:
        NewsCLIPpings(visual_news=url, splits=["test"])
    assert "range requests" not in str(error.value)
    assert "tried" not in str(error.value)


# Fetched bytes


def test_a_build_fetches_only_what_its_split_needs(origin: Origin, large: Published, index: str) -> None:
    """A build of a split fetches each of its pictures once, and next to nothing else."""
    rows = large.world.rows(split="test")
    assert raw(large.load(splits=["test"], visual_news_index=index)["test"]) == rows
    times, needed, inner = large.times(), large.mask(shown(rows) | {"data.json"}), large.inner()
    assert (times[needed] > 0).all()
    assert times[inner].max() == 1
    assert times[inner].sum() <= 1.1 * needed.sum()
    assert 0 < needed.sum() < 0.4 * len(needed)


def test_neighbours_are_fetched_together(origin: Origin, long: Published, tmp_path: Path) -> None:
    """Small pictures side by side are fetched with few requests."""
    index = make_index(long.tar, tmp_path / "x.parquet")
    rows = long.world.rows()
    assert raw(long.load(split="train", splits=["train"], visual_news_index=index)) == rows
    blocks = long.mask(shown(rows)).reshape(-1, BLOCK).any(axis=1)  # with the padding between members
    runs = np.count_nonzero(np.diff(blocks.astype(int)) == 1)
    assert len(long.asked()) <= runs + 6 < len(shown(rows))
    assert long.times()[long.inner()].max() == 1


def test_articles_are_fetched_only_on_request(origin: Origin, large: Published, index: str) -> None:
    """With articles=True only the captions' articles are fetched; without pictures, no picture."""
    rows = large.world.rows(split="test", images="none")
    found = raw(large.load(split="test", splits=["test"], visual_news_index=index, images="none", articles=True))
    assert [row.pop("article") for row in found] == [f"Article {row['id']}.\n" for row in rows]
    times, inner = large.times(), large.inner()
    assert (times[large.mask(articles(rows))] > 0).all()
    assert times[inner].max() == 1
    assert times[large.mask(large.world.pictures) & inner].sum() < LARGE


def test_no_pictures_and_no_articles_fetch_neither(origin: Origin, large: Published, index: str) -> None:
    """images="none" reads data.json and no other member."""
    found = raw(large.load(split="test", splits=["test"], visual_news_index=index, images="none"))
    assert found == large.world.rows(split="test", images="none")
    times = large.times()
    assert times[large.mask(large.world.pictures) & large.inner()].sum() < LARGE


def test_a_second_build_fetches_only_what_is_new(origin: Origin, large: Published, index: str) -> None:
    """A build of another split or config, or with other options, fetches nothing a second time."""
    first: dict[str, Any] = {"splits": ["test"], "visual_news_index": index}
    large.load(**first)
    before = large.times() > 0
    origin.forget()
    assert raw_splits(large.load(missing="null", metadata=True, **first).select_columns(["id"]))["test"]
    assert large.times()[large.inner()].sum() == 0
    for config, splits in (("scene_resnet_place", ["test"]), ("merged_balanced", ["validation"])):
        origin.forget()
        found = raw_splits(large.load(config, splits=splits, visual_news_index=index))
        assert found == {split: large.world.rows(config, split) for split in splits}
        again = large.times()
        assert (again[before & large.inner()] == 0).all()
        needed = large.mask({path for split in splits for path in shown(large.world.rows(config, split))})
        assert again[large.inner()].sum() <= 1.1 * (needed & ~before).sum()
        before |= again > 0


def test_a_second_load_fetches_no_picture(origin: Origin, published: Published) -> None:
    """The second load maps the tables of the first; it asks the server at most whether the tar is the same."""
    first = published.load()
    origin.forget()
    again = published.load()
    assert [file["filename"] for file in again["test"].cache_files] == [
        file["filename"] for file in first["test"].cache_files
    ]
    assert len(published.asked()) <= 4
    assert published.origin.sent(published.tar) <= 4 * ENDS


def test_a_rebuild_from_scratch_has_the_same_rows(origin: Origin, large: Published, index: str) -> None:
    """force_redownload gives the same rows."""
    for mode in ("reuse_dataset_if_exists", "force_redownload", "reuse_cache_if_exists"):
        found = raw(large.load(split="test", splits=["test"], visual_news_index=index, download_mode=mode))
        assert found == large.world.rows(split="test")


def test_the_cached_copy_is_sparse(origin: Origin, large: Published, index: str, tmp_path: Path) -> None:
    """The cached copy of a tar takes only the disk space of the fetched members."""
    rows = large.world.rows(split="test")
    large.load(splits=["test"], visual_news_index=index)
    room = sum(path.stat().st_blocks * 512 for path in kept(tmp_path).rglob("*") if path.is_file())
    table = sum(path.stat().st_blocks * 512 for path in kept(tmp_path).rglob("*.arrow"))
    assert room - table <= 1.2 * large.mask(shown(rows) | {"data.json"}).sum() + (1 << 20)


def test_fetched_bytes_are_kept_in_the_cache_only(origin: Origin, published: Published, tmp_path: Path) -> None:
    """Fetched bytes are in the cache of `datasets`, below newsclippings; no picture is a separate file."""
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "hf")}
    world = sorted(published.world.root.rglob("*"))
    published.load()
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "hf")} == before
    assert sorted(published.world.root.rglob("*")) == world
    assert list(tmp_path.rglob("*.jpg")) == []


def test_fetched_bytes_are_kept_in_cache_dir(origin: Origin, published: Published, tmp_path: Path) -> None:
    """With cache_dir=, nothing of the tar is in the default cache."""
    picture = published.world.pictures[published.world.rows()[0]["image_path"]]
    published.load(cache_dir=str(tmp_path / "elsewhere"))
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and picture in path.read_bytes()]
    assert len(holding) > 0
    assert all(path.is_relative_to(tmp_path / "elsewhere" / "newsclippings") for path in holding)


# Streams


def test_a_stream_reads_the_pictures_of_its_rows(origin: Origin, long: Published, tmp_path: Path) -> None:
    """Reading a few rows or a shard of a stream fetches their pictures, not those of the whole split."""
    index = make_index(long.tar, tmp_path / "x.parquet")
    stream = long.load(split="train", streaming=True, visual_news_index=index)
    rows, pictures = long.world.rows(), long.mask(long.world.pictures) & long.inner()
    assert long.times()[pictures].sum() == 0
    assert raw(stream.take(2)) == rows[:2]
    assert long.times()[pictures].sum() < 0.25 * long.mask(shown(rows)).sum()
    origin.forget()
    part = raw(stream.shard(8, 5))
    assert part == [row for row in rows if row["index"] in {row["index"] for row in part}]
    sent = long.times()[long.mask(shown(part)) & pictures]
    assert sent.min() == 1
    assert (sent > 1).mean() < 0.05  # a picture of rows in different slices
    assert long.times()[pictures].sum() < 1.1 * long.mask(shown(part)).sum()


def test_a_stream_keeps_no_pictures(origin: Origin, published: Published, tmp_path: Path) -> None:
    """After a complete stream no picture is in the cache."""
    assert raw_splits(published.load(streaming=True)) == expected_splits(published.world)
    pictures = [published.world.pictures[path] for path in sorted(shown(published.world.rows()))][::5]
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert not any(picture in data for picture in pictures), path


def test_a_stream_can_be_sent_to_a_worker(origin: Origin, published: Published) -> None:
    """A stream can be pickled before and after it was read."""
    stream = published.load(split="train", streaming=True)
    rows = published.world.rows()
    assert raw(pickle.loads(pickle.dumps(stream))) == rows
    assert raw(stream) == rows
    assert raw(pickle.loads(pickle.dumps(stream))) == rows


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 warns because this process has threads
def test_a_stream_that_was_read_is_read_in_a_forked_process(origin: Origin, published: Published) -> None:
    """A forked worker, as of torch, can read a stream that its parent has read."""
    stream = published.load(split="train", streaming=True)
    assert raw_length(stream) == len(published.world.rows())
    context = multiprocessing.get_context("fork")
    lengths = context.SimpleQueue()
    process = context.Process(target=lambda: lengths.put(raw(stream) == published.world.rows()))
    process.start()
    process.join(30)
    process.kill()
    assert process.exitcode == 0
    assert lengths.get() is True


def test_the_shards_of_a_stream(origin: Origin, long: Published) -> None:
    """Each shard fetches its own pictures, and together they give the split."""
    stream = long.load(split="train", streaming=True)
    shards = [raw(stream.shard(4, k)) for k in range(4)]
    assert sorted((row for shard in shards for row in shard), key=lambda row: row["index"]) == long.world.rows()


def test_a_stream_can_be_abandoned(origin: Origin, published: Published) -> None:
    """A stream can be abandoned in the middle and started again."""
    stream = published.load(split="train", streaming=True)
    iterator = iter(stream)
    first = next(iterator)["id"]
    del iterator
    assert next(iter(stream))["id"] == first
    assert raw(stream) == published.world.rows()


# Processes


def whole(remote: Published) -> list[Request]:
    """The answers that were sent completely."""
    return [r for r in remote.asked() if r.status == 206 and str(r.range).endswith(f"-{r.stop - 1}")]


def start(remote: Published, rows: dict[str, list[Row]], refusal: str | None = None, **options: Any) -> int:
    """Start a build in a child process, which fails unless it gives these rows, or an error with this text."""

    def check() -> None:
        remote_module.THREADS, tar_members.BATCH = 1, 1  # one after the other, and put away at once
        try:
            found = raw_splits(remote.load(**options))
        except Exception:
            if refusal is None or refusal not in traceback.format_exc():
                raise
        else:
            if found != rows:
                raise ValueError("other rows")

    return in_child(check)


def runs(child: int) -> bool:
    """Whether a child is still running; waits for it if not."""
    return os.waitpid(child, os.WNOHANG) == (0, 0)


def test_num_proc(origin: Origin, large: Published, index: str) -> None:
    """With num_proc=2 no byte of a picture is fetched twice."""
    rows = {"test": large.world.rows(split="test")}
    child = start(large, rows, splits=["test"], num_proc=2, visual_news_index=index)
    assert wait(child) == 0
    assert large.times()[large.inner()].max() == 1, large.asked()


def test_a_killed_build_continues(origin: Origin, large: Published, index: str) -> None:
    """After a kill, what was fetched before is not fetched again."""
    origin.mode(delay=0.1)
    options: dict[str, Any] = {"splits": ["train"], "visual_news_index": index}
    rows = {"train": large.world.rows()}
    child = start(large, rows, **options)

    deadline = time.monotonic() + 60
    needed = large.mask(shown(rows["train"])) & large.inner()
    while (large.times(done := whole(large)) * needed).sum() < 0.3 * needed.sum():
        assert time.monotonic() < deadline
        assert runs(child)
        time.sleep(0.02)
    origin.mode(delay=60)  # no more bytes arrive
    before = len(large.asked())
    while len(large.asked()) == before:  # the next request follows what was stored
        assert time.monotonic() < deadline
        assert runs(child)
        time.sleep(0.02)
    done = whole(large)
    kill(child)
    assert wait(child) == -signal.SIGKILL
    origin.mode()
    origin.forget()
    assert raw_splits(large.load(**options)) == rows
    stored, again = large.times(done) * large.inner(), large.times() * large.inner()
    assert (stored * needed).sum() < needed.sum()
    assert again.max() == 1
    assert (again[stored > 0] == 0).all()


def test_a_forked_process_leaves_the_parents_connections_alone(origin: Origin, published: Published) -> None:
    """What a forked process frees does not make the parent's next request wait, or be sent twice."""
    RemoteFile(published.url).read_at(0, 512)

    def read() -> None:
        RemoteFile(published.url).read_at(512, 512)
        gc.collect()

    assert wait(in_child(read)) == 0
    origin.forget()
    RemoteFile(published.url).read_at(1024, 512)
    assert [request.range for request in published.asked()] == ["bytes=0-0", "bytes=1024-1535"]


def test_two_builds_at_once(origin: Origin, published: Published) -> None:
    """Two processes that build the same rows, or overlapping ones, at the same time both give all rows."""
    rows = expected_splits(published.world)
    children = [start(published, rows, **more) for more in ({}, {"missing": "null"})]
    assert [wait(child) for child in children] == [0, 0]


# Faults of the server

FAULTS: dict[str, dict[str, Any]] = {
    "dropped": {"drop": 3},
    "dropped later": {"drop": 2, "after": 2},
    "unavailable": {"status": [503, 2]},
    "too many requests": {"status": [429, 2]},
    "bad gateway": {"status": [502, 1], "after": 3},
    "hung up": {"hang_up": 4},
    "hung up later": {"hang_up": 4, "after": 4},
    "short answers": {"short": 3},
    "stalled": {"stall": 1},
    "another range": {"another": 2, "after": 3},
    "another range, later": {"another": 3, "after": 9},
}


@pytest.mark.parametrize(("fault", "streaming"), crossed(list(FAULTS), WAYS))
def test_temporary_faults_are_retried(origin: Origin, published: Published, fault: str, streaming: bool) -> None:
    """After dropped connections, server errors and stalls the request is retried, and every row is right."""
    origin.mode(**FAULTS[fault])
    found = raw_splits(published.load(splits=["test", "train"], streaming=streaming))
    assert found == {split: published.world.rows(split=split) for split in ("train", "test")}


def test_an_index_is_fetched_again(origin: Origin, published: Published) -> None:
    """An index at a URL that arrives in part is fetched again."""
    name = "index-of-it.parquet"
    make_index(published.tar, origin.root / name)
    rows = published.world.rows(split="test")
    for fault in ({"drop": 2, "after": 1}, {"status": [503, 3], "after": 1}):
        os.utime(origin.root / name)  # another version, which is not cached yet
        origin.mode(**fault)
        found = published.load(splits=["test"], split="test", visual_news_index=f"{origin.address}/{name}")
        assert raw(found) == rows


def test_a_tar_in_an_archive(published: Published, tmp_path: Path) -> None:
    """A tar stored in a zip file can be read, like everything that fsspec reads by ranges."""
    with zipfile.ZipFile(tmp_path / "o.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.write(published.tar, "origin.tar")
    url = f"zip://origin.tar::file://{tmp_path}/o.zip"
    assert raw(load(published.world, visual_news=url, split="test")) == published.world.rows(split="test")


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_server_that_sends_other_bytes(origin: Origin, published: Published, streaming: bool) -> None:
    """A range other than the requested one never gives a row with wrong bytes."""
    origin.mode(shift=1000, after=2)
    try:
        found = raw_splits(published.load(splits=["test"], streaming=streaming))
    except NewsCLIPpingsError:
        return
    assert found == {"test": published.world.rows(split="test")}


TROUBLE: dict[str, dict[str, Any]] = {"unavailable": {"status": [503, 10_000]}, "dropped": {"drop": 10_000}}


@pytest.mark.parametrize(("fault", "streaming"), crossed(TROUBLE, WAYS))
def test_a_permanent_server_error(
    origin: Origin, published: Published, tmp_path: Path, fault: dict[str, Any], streaming: bool
) -> None:
    """After a few tries the error has the URL, the range and the number of tries."""
    index = make_index(published.tar, tmp_path / "x.parquet")
    stream = published.load(split="test", splits=["test"], visual_news_index=index, streaming=True)
    if streaming:
        next(iter(stream))  # so that everything but the pictures is read before
    origin.mode(**fault)
    with pytest.raises(NewsCLIPpingsError) as caught:
        raw(stream) if streaming else published.load(splits=["test"], visual_news_index=index)
    assert published.url in str(caught.value)


@pytest.mark.parametrize("fault", TROUBLE.values(), ids=TROUBLE)
def test_fetched_pictures_survive_a_failure(
    origin: Origin, large: Published, index: str, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    """Pictures that arrived before the server failed are not fetched again."""
    change_constant(monkeypatch, "THREADS", 1, of="remote")  # so that no other request is active when one fails
    origin.mode(**fault, after=20)
    with pytest.raises(NewsCLIPpingsError, match=r"(?s)127\.0\.0\.1.*bytes? \d.*\d (tries|times|attempts)"):
        large.load(splits=["train"], visual_news_index=index)
    pictures = large.mask(shown(large.world.rows())) & large.inner()
    answered = list(whole(large))
    before = large.times(answered) * pictures
    assert 0 < before.sum() < pictures.sum()
    origin.mode()
    origin.forget()
    assert raw_splits(large.load(splits=["train"], visual_news_index=index)) == {"train": large.world.rows()}
    # An answer that was sent but not read when the connection broke counts as one of them.
    assert (large.times()[before > 0] > 0).sum() <= max(request.stop - request.start for request in answered)


# Errors


def refused(remote: Published, streaming: bool, **options: Any) -> str:
    """Return the message of the error that a load or the first row raises."""
    with pytest.raises(NewsCLIPpingsError) as caught:
        raw_splits(remote.load(streaming=streaming, **options))
    return f"{type(caught.value).__name__}: {caught.value}"


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_missing_remote_tar(origin: Origin, published: Published, streaming: bool) -> None:
    """404 is a DataNotFoundError that names the URL."""
    url = published.url.replace("origin.tar", "nowhere.tar")
    with pytest.raises(DataNotFoundError, match=r"http://127\.0\.0\.1:\d+/published/nowhere\.tar"):
        load(published.world, visual_news=url, streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_no_server(published: Published, tmp_path: Path, origin: Origin, streaming: bool) -> None:
    """A connection that is refused is RemoteReadError, which names the address."""
    with serving(tmp_path) as gone:
        url = gone.url(tmp_path / "origin.tar")
    with pytest.raises(RemoteReadError, match=url):
        load(published.world, visual_news=url, streaming=streaming)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_requires_a_password(origin: Origin, published: Published, status: int) -> None:
    """A server that requires a password is an error at once, with the URL and the status."""
    origin.mode(status=[status, 10_000])
    message = refused(published, False)
    assert published.url in message
    assert str(status) in message
    assert len(published.asked()) <= 3


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_server_without_ranges(own: Callable[..., Published], streaming: bool) -> None:
    """If the server ignores ranges, the error says so, and the whole file is not read."""
    remote = own()
    os.truncate(remote.tar, 256 << 20)  # zeros after the end marker are valid
    remote.origin.mode(whole=True)
    message = refused(remote, streaming)
    assert remote.url in message
    assert "range" in message
    assert remote.origin.sent(remote.tar) < 64 << 20


def test_a_server_that_ignores_ranges_later(origin: Origin, large: Published, index: str) -> None:
    """The error is the same if the server ignores ranges only for the pictures."""
    stream = large.load(split="train", streaming=True, visual_news_index=index)
    next(iter(stream))
    origin.mode(whole=True)
    with pytest.raises(NewsCLIPpingsError, match="range"):
        large.load(splits=["test"], visual_news_index=index)
    with pytest.raises(NewsCLIPpingsError, match="range"):
        raw(stream)


def test_paths_need_a_folder(published: Published) -> None:
    """images="path" with a URL is a ConfigError, because there are no local files."""
    with pytest.raises(ConfigError, match="folder"):
        published.load(images="path")
    with pytest.raises(ConfigError, match="folder"):
        raw_splits(published.load(images="path", streaming=True))


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x1f\x8b" + bytes(5000), "gzip"),
        (b"<!DOCTYPE html><html><body>Please log in</body></html>" * 40, "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "LFS"),
        (b"not a tar at all " * 100, "tar"),
        (b"", "(?i)(empty|0 bytes)"),
    ],
    ids=["gzip", "HTML", "LFS pointer", "text", "empty"],
)
def test_a_url_that_is_no_plain_tar(own: Callable[..., Published], content: bytes, says: str, streaming: bool) -> None:
    """A file that is no plain tar is refused as on disk, with its URL."""
    remote = own()
    remote.tar.write_bytes(content)
    with pytest.raises(BadTarError, match=says) as caught:
        raw_splits(remote.load(streaming=streaming))
    assert remote.url in str(caught.value)


def test_a_truncated_remote_tar(own: Callable[..., Published]) -> None:
    """For a truncated remote tar the error says where; with missing="null" the intact part is used."""
    remote = own(data_json="first")
    places = {name: place for name, place in remote.places().items() if name in remote.world.pictures}
    cut = sorted(places.values(), key=lambda place: place.start)[len(places) * 2 // 3]
    os.truncate(remote.tar, cut.start + 300)
    with pytest.raises(BadTarError, match=rf"byte {cut.start}\b") as caught:
        remote.load()
    assert remote.url in str(caught.value)
    whole = {name for name, place in places.items() if place.stop <= cut.start}
    for streaming in (False, True):
        found = raw_splits(remote.load(missing="null", streaming=streaming))
        assert found == expected_splits(remote.world, pictures=whole)


def test_a_full_disk_is_reported_before_fetching(
    own: Callable[..., Published], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If the pictures do not fit on the disk, the error says so before any is fetched."""
    remote = own()
    index = make_index(remote.tar, tmp_path / "x.parquet")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(NewsCLIPpingsError, match=r"(?i)(disk|free|room|space)"):
        remote.load(visual_news_index=index)
    pictures = remote.mask(remote.world.pictures) & remote.inner()
    assert remote.times()[pictures].sum() == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [("nowhere.tar", "nowhere.tar"), ("published/origin.tar", "range")],
    ids=["404", "no ranges"],
)
def test_errors_on_the_command_line(origin: Origin, published: Published, path: str, says: str) -> None:
    """One line on stderr, no traceback, exit code 1."""
    if says == "range":
        origin.mode(whole=True)
    env = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    args = ["build", "out", "--data-dir", str(published.world.root), "--visual-news", f"{origin.address}/{path}"]
    done = CliRunner(env=env).invoke(main, args)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert says in done.output
    assert "Traceback" not in done.output


# Changes of the tar and of its copy


def _swap(remote: Published) -> None:
    """Swap two pictures of the plan; the tar keeps its size."""
    world = remote.world
    lengths: dict[int, list[str]] = {}
    for path in sorted(shown(world.rows())):
        lengths.setdefault(len(world.pictures[path]), []).append(path)
    first, second = next(paths[:2] for paths in lengths.values() if len(paths) > 1)
    world.pictures[first], world.pictures[second] = world.pictures[second], world.pictures[first]
    size = remote.tar.stat().st_size
    world.write_tar(remote.tar)
    assert remote.tar.stat().st_size == size


def _grow(remote: Published) -> None:
    path = remote.world.used_once().image_path
    remote.world.pictures[path] += bytes(700)
    remote.world.write_tar(remote.tar)


@pytest.mark.parametrize("change", [_swap, _grow], ids=["same size", "another size"])
def test_a_tar_that_is_replaced_gives_new_rows(
    own: Callable[..., Published], change: Callable[[Published], None]
) -> None:
    """When the tar on the server changes, the next load has the new rows, built or streamed."""
    remote = own()
    for path, data in remote.world.pictures.items():  # so that some have the same length
        remote.world.pictures[path] = data.ljust(2048, b"\0")
    remote.world.write_tar(remote.tar)
    before = expected_splits(remote.world)
    assert raw_splits(remote.load()) == before
    change(remote)
    after = expected_splits(remote.world)
    assert after != before
    assert raw_splits(remote.load()) == after
    assert raw_splits(remote.load(streaming=True)) == after


def test_a_tar_that_is_replaced_under_a_stream(own: Callable[..., Published]) -> None:
    """A tar replaced under a stream gives an error or the old rows, never another picture."""
    remote = own()
    stream = remote.load(split="train", streaming=True)
    before = remote.world.rows()
    assert raw(stream) == before
    _grow(remote)
    with suppress(BadTarError):
        assert raw(stream) == before


def test_a_tar_that_is_replaced_during_a_build(large: Published, origin: Origin, tmp_path: Path) -> None:
    """A tar replaced during a build gives an error, or the rows of one version; never a mixture."""
    remote = publish(large.world, origin, tmp_path.name)
    other = publish(large.world, origin, tmp_path.name, "other.tar", data_json="first")
    index = make_index(remote.tar, tmp_path / "x.parquet")
    origin.mode(delay=0.1)
    rows = {"train": large.world.rows()}
    child = start(remote, rows, "newsclippings.errors.Bad", splits=["train"], visual_news_index=index)
    while len(remote.asked()) < 6:
        assert runs(child)
        time.sleep(0.02)
    os.replace(other.tar, remote.tar)
    origin.mode()
    assert wait(child) == 0


@pytest.mark.parametrize(
    "spoil", sampled(["truncated", "zeroed", "a bit", "deleted", "as the tar has it", "other bytes"], 2)
)
def test_a_damaged_copy_is_fetched_again(
    origin: Origin, large: Published, index: str, tmp_path: Path, spoil: str
) -> None:
    """Damage to the cached copy between builds is detected; the damaged part, and no other, is fetched again."""
    options: dict[str, Any] = {"splits": ["test"], "visual_news_index": index}
    large.load(**options)
    rows = large.world.rows(split="test")
    picture = large.world.pictures[rows[0]["image_path"]]
    (copy,) = (kept(tmp_path) / "remote_tars").iterdir()
    at = copy.read_bytes().index(picture)
    with copy.open("r+b") as file:
        file.seek(at - BLOCK)
        if spoil == "deleted":
            copy.unlink()
        elif spoil == "truncated":
            file.truncate(at + 100)
        elif spoil == "a bit":
            file.seek(at + len(picture) // 2)
            file.write(bytes([picture[len(picture) // 2] ^ 4]))
        elif spoil == "as the tar has it":  # files of an earlier version, which are not trusted
            file.write(large.tar.read_bytes()[at - BLOCK : at] + bytes(len(picture)))
        else:
            file.write(bytes(BLOCK + 100) if spoil == "zeroed" else random.Random(1).randbytes(BLOCK + 100))
    for again in ([rows[0]["image_path"]], []):
        origin.forget()
        found = raw_splits(large.load(missing="null" if again else "drop_pair", **options))
        assert found == {"test": rows}
        if spoil not in ("truncated", "deleted"):
            assert large.times()[large.inner() & ~large.mask(again)].sum() < LARGE // 8
            assert (large.times()[large.inner() & large.mask(again)] == 1).all()


def test_a_damaged_copy_without_a_server(
    origin: Origin, large: Published, index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the damaged part cannot be fetched, one error names the URL, and no row has wrong bytes."""
    options: dict[str, Any] = {"splits": ["test"], "visual_news_index": index}
    large.load(**options)
    picture = large.world.pictures[large.world.rows(split="test")[0]["image_path"]]
    (copy,) = (kept(tmp_path) / "remote_tars").iterdir()
    at = copy.read_bytes().index(picture)
    with copy.open("r+b") as file:
        file.seek(at + len(picture) - 1)
        file.write(bytes([picture[-1] ^ 1]))
    read_ranges = remote_module.RemoteFile.read_ranges

    def gone(self: Any, ranges: Any) -> Any:
        if ranges := list(ranges):
            origin.mode(status=[503, 10_000])
        return read_ranges(self, ranges)

    with monkeypatch.context() as patch, refusal(NewsCLIPpingsError) as said:
        patch.setattr(remote_module.RemoteFile, "read_ranges", gone)
        raw_splits(large.load(missing="null", **options))
    assert large.url in said[0]
    origin.mode()
    assert raw_splits(large.load(missing="null", **options)) == {"test": large.world.rows(split="test")}


def test_a_copy_that_is_damaged_while_it_is_read(origin: Origin, large: Published, index: str, tmp_path: Path) -> None:
    """A stream that reads data.json repeatedly always gets what was fetched, whatever happens to the copy."""
    rows = large.world.rows(split="test", images="none")
    stream = large.load(split="test", splits=["test"], visual_news_index=index, images="none", streaming=True)
    assert raw(stream) == rows
    (copy,) = (kept(tmp_path) / "remote_tars").iterdir()
    data = copy.read_bytes().replace(b"caption", b"caPtion").replace(rows[0]["caption"][-8:].encode(), b"otherend")
    copy.write_bytes(data)
    origin.forget()
    assert raw(stream) == rows
    assert large.times()[large.inner()].sum() < 1 << 20
    copy.unlink()
    assert raw(stream) == rows


@pytest.mark.parametrize("what", ["folder", "link", "nothing writable"])
def test_a_place_where_no_copy_can_be_kept(
    origin: Origin, large: Published, index: str, tmp_path: Path, what: str
) -> None:
    """The error names the place; if it is a link, its target is not written to."""
    options: dict[str, Any] = {"splits": ["test"], "visual_news_index": index}
    large.load(**options)
    (copy,) = (kept(tmp_path) / "remote_tars").iterdir()
    copy.unlink()
    if what == "folder":
        copy.mkdir()
    elif what == "link":
        Path("mine").write_text("mine")
        copy.symlink_to(Path("mine").absolute())
    else:
        copy.parent.rmdir()
        copy.parent.write_text("in the way")
    with refusal(ConfigError) as said:
        raw_splits(large.load(missing="null", **options))
    assert "what is fetched of a remote tar cannot be kept there" in said[0]
    assert what != "link" or Path("mine").read_text() == "mine"


# The classes for members


@pytest.mark.parametrize(("piece", "waste"), crossed([512, 1500, 4096, 1 << 20], [0, 1 / 16, 1.0]))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 9000), min_size=1, max_size=14), data=st.data())
def test_any_members_in_any_order_are_fetched_exactly(
    origin: Origin, tmp_path: Path, sizes: list[int], data: st.DataObject, piece: int, waste: float
) -> None:
    """Members in any order, with any gaps, give exactly their bytes; none is fetched twice."""
    tar = origin.root / f"{tmp_path.name}.tar"
    plan = {f"bbc/images/0000/{k:03d}.jpg": random.Random(k).randbytes(size) for k, size in enumerate(sizes)}
    with tarfile.open(tar, "w") as out:
        for name, content in plan.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    chosen = np.array(data.draw(st.permutations(range(len(sizes)))), np.int64)
    chosen = chosen[: data.draw(st.integers(1, len(sizes)))]
    table = tar_index.index_tar(LocalFile(str(tar)))
    members = tar_members.Members.from_index(
        tar_index.keep_index(table, tmp_path / "index.arrow", str(tar)), np.arange(len(sizes))
    )
    copy = tmp_path / "copy.tar"
    copy.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "PIECE", piece, of="remote")
        change_constant(patch, "WASTE", waste)
        change_constant(patch, "NEXT", 2048 if waste else 0)
        origin.forget()
        buffers = [bytearray(sizes[k]) for k in chosen]
        views = [memoryview(buffer) for buffer in buffers]
        tar_members.read_members(remote_module.RemoteFile(origin.url(tar)), members, chosen, views)
        assert [bytes(buffer) for buffer in buffers] == [plan[f"bbc/images/0000/{k:03d}.jpg"] for k in chosen]
        read = Published(World(tmp_path), origin, tar).times()
        for some in (chosen[: len(chosen) // 2], chosen):  # the second call fetches only what is new
            origin.forget()
            tar_members.fetch_members(remote_module.RemoteFile(origin.url(tar)), copy, members.take(some))
    kept, original, fetched = copy.read_bytes(), tar.read_bytes(), Published(World(tmp_path), origin, tar).times()
    assert len(kept) == len(original)
    for k in range(len(sizes)):
        place = slice(int(members.offsets[k]) - BLOCK, int(members.offsets[k]) + sizes[k])
        wanted, before = k in chosen, k in chosen[: len(chosen) // 2]
        body = slice(place.start + BLOCK, place.stop)
        assert kept[body] == (original[body] if wanted else bytes(sizes[k]))
        assert any(kept[place.start : body.start]) == wanted  # a record where the header should be
        assert (read[place] == 1).all() or not wanted
        assert (fetched[place] == 1).all() or not wanted or before
        assert waste or not fetched[place].any() or (wanted and not before)
    assert max(read.max(), fetched.max()) <= 1


def test_ends_of_the_plan(large: Published) -> None:
    """The helpers of these tests compute the right places of members."""
    data = large.tar.read_bytes()
    for path, place in list(large.places().items())[:50]:
        if path in large.world.pictures:
            assert data[place][BLOCK:] == large.world.pictures[path]
    assert set(SPLITS) == set(expected_splits(large.world))
    assert np.count_nonzero(large.inner()) == len(data) - 2 * ENDS


def test_a_request_covers_overlapping_members() -> None:
    """Wherever an index places the members, even overlapping, each is within its requested range."""
    starts, stops = np.array([0, 600, 1200]), np.array([9000, 1100, 1700])
    assert list(tar_members.plan_requests(starts, stops)) == [(0, 9000, 0, 3)]
