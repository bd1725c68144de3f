"""Built folders behind fsspec: the same bytes as local ones, also after a kill; nothing is trusted unread."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.command import run
from support.folders import TWO, build, content
from support.reading import environment
from support.world import World

from _newsclippings.folder import build_folder, writer
from _newsclippings.folder.shards import write_shard
from _newsclippings.storage import RemotePath, find_place
from newsclippings import BadFileError, ConfigError, MissingDependencyError, RemoteWriteError, verify_built

CHANGES = ("put", "copy_from", "unlink", "remove_folder")  # what a build does to a remote folder
OLDER = [*TWO, "--split", "validation", "--split", "test"]
NEWER = [*TWO, "--images", "once", "--split", "test"]


class Killed(BaseException):
    """Ends a build at once, as a signal does."""


@pytest.fixture
def memory() -> Iterator[Any]:
    """An empty file system in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def remote_content(system: Any, folder: str) -> dict[str, str]:
    """Every file below a remote folder, with the SHA-256 of its bytes."""
    system.invalidate_cache()
    root = system._strip_protocol(folder)
    return {path.removeprefix(f"{root}/"): hashlib.sha256(system.cat_file(path)).hexdigest()
            for path in system.find(root)}  # fmt: skip


@pytest.fixture(scope="module")
def local(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The content of the local folder that `NEWER` gives."""
    out = tmp_path_factory.mktemp("local") / "it"
    build(world, out, *NEWER)
    return content(out)


@pytest.mark.usefixtures("small_charts")
def test_every_command_of_a_built_folder(world: World, tmp_path: Path, memory: Any) -> None:
    """build, stats, croissant, card and verify do the same to memory:// as to a local folder."""
    here, there = tmp_path / "it", "memory://bucket/deep/it"
    for out in (here, there):
        for arguments in (
            ["build", out, "--data-dir", world.root, "--split", "test"],
            ["stats", out, "--plot", f"{out}/charts"],
            ["croissant", out],
            ["card", out, "--check"],
            ["verify", "--built", out],
            ["stats", out],
        ):
            done = run(*arguments)
            assert done.exit_code == 0, (arguments, done.output, done.exception)
    assert remote_content(memory, there) == content(here)
    assert sum(name.endswith(".png") for name in content(here)) > 5
    printed = [run("stats", out, "--format", "json").stdout for out in (here, there)]
    assert json.loads(printed[0]) == json.loads(printed[1])


def test_a_built_folder_is_not_written_again(
    world: World, memory: Any, local: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same build again uploads no Parquet file; a damaged or a foreign one is noticed."""
    build(world, "memory://bucket/it", *NEWER)
    put: list[str] = []
    monkeypatch.setattr(writer, "write_shard", lambda file, *_: put.append(file))
    build(world, "memory://bucket/it/", *NEWER)
    assert put == []
    assert remote_content(memory, "memory://bucket/it") == local
    memory.pipe_file("/bucket/it/merged_balanced/notes.txt", b"mine")
    done = run("build", "memory://bucket/it", "--data-dir", world.root, *NEWER)
    assert (done.exit_code, memory.cat_file("/bucket/it/merged_balanced/notes.txt")) == (1, b"mine")
    assert "expected a new folder, or one that `newsclippings build` wrote, found" in done.stderr


@pytest.mark.parametrize(
    ("older", "images", "configs"),
    [
        (False, "none", ["merged_balanced"]),
        (True, "none", ["merged_balanced"]),
        pytest.param(False, "once", ["merged_balanced", "scene_resnet_place"], marks=pytest.mark.sweep),
        pytest.param(True, "once", ["merged_balanced", "scene_resnet_place"], marks=pytest.mark.sweep),
    ],
    ids=["new", "older", "new shared", "older shared"],
)
def test_killed_before_any_change(
    world: World,
    memory: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    older: bool,
    images: str,
    configs: list[str],
) -> None:
    """Killed before any upload, copy or removal, the next build gives the bytes of a local one."""
    url, point, calls = "memory://bucket/it", 0, 0

    def step(function: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == point:
                raise Killed
            return function(*args, **kwargs)

        return counted

    for name in CHANGES:
        monkeypatch.setattr(RemotePath, name, step(getattr(RemotePath, name)))
    fields: dict[str, Any] = {"data_dir": str(world.root), "splits": ["test"], "images": images}
    build_folder(tmp_path / "it", configs, **fields)
    if older:
        build_folder(url, configs, data_dir=str(world.root), splits=["validation", "test"])
    before = {name: memory.cat_file(name) for name in memory.find("/bucket")}
    while True:
        memory.store.clear()
        memory.pipe(before)
        calls, point = 0, point + 1
        try:
            build_folder(url, configs, **fields)
        except Killed:
            pass
        else:
            break
        calls = point  # no further kill
        build_folder(url, configs, **fields)
        assert remote_content(memory, url) == content(tmp_path / "it"), point
        assert verify_built(url).sound
    assert point > 9


def test_a_different_build_after_a_kill(
    world: World, memory: Any, local: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill while a config was replaced, another build takes nothing of it."""
    url, copy = "memory://bucket/it", RemotePath.copy_from
    build(world, url, *NEWER)
    with monkeypatch.context() as patch:
        patch.setattr(RemotePath, "copy_from", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            build_folder(url, ["merged_balanced", "scene_resnet_place"], data_dir=str(world.root))
    assert RemotePath.copy_from is copy
    assert not verify_built(url).sound
    build(world, url, *NEWER)
    assert remote_content(memory, url) == local


def test_an_upload_that_is_not_whole(
    world: World, memory: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of a file, which a killed upload left, is written again; a whole file that changed since is refused."""
    url, put = "memory://bucket/it", RemotePath.put
    fields: dict[str, Any] = {"data_dir": str(world.root), "images": "none"}

    def cut(self: RemotePath, file: str) -> None:
        put(self, file)
        if self.name.startswith("validation"):
            memory.pipe_file(self.url.removeprefix("memory:/"), Path(file).read_bytes()[:-9])
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RemotePath, "put", cut)
        with pytest.raises(Killed):
            build_folder(url, ["merged_balanced"], **fields)
    before = {name: memory.cat_file(name) for name in memory.find("/bucket")}
    build_folder(url, ["merged_balanced"], **fields)
    build_folder(tmp_path / "it", ["merged_balanced"], **fields)
    assert remote_content(memory, url) == content(tmp_path / "it")
    memory.store.clear()
    memory.pipe(before)
    name = next(name for name in before if name.endswith("train-00000-of-00001.parquet"))
    memory.pipe_file(name, before[name][:-9] + b"x" + before[name][-8:])
    with pytest.raises(BadFileError, match="its content changed"):
        build_folder(url, ["merged_balanced"], **fields)


def test_a_changed_byte_is_found(world: World, memory: Any) -> None:
    """verify --built reads all bytes of a remote folder: a flipped one, and a missing file, are named."""
    url = "memory://bucket/it"
    build(world, url, *NEWER)
    shard = "/bucket/it/images/test-00000-of-00001.parquet"
    data = bytearray(memory.cat_file(shard))
    data[len(data) // 2] ^= 1
    memory.pipe_file(shard, bytes(data))
    memory.rm_file("/bucket/it/README.md")
    done = run("verify", "--built", url)
    assert done.exit_code == 1
    assert f"{url}/images/test-00000-of-00001.parquet: its content changed" in done.stdout
    assert f"{url}/README.md does not exist" in done.stdout


@pytest.mark.parametrize("out", ["memory://data", "memory://data/visual_news", "memory:///data/visual_news/origin.tar",
                                 "memory://data//visual_news/./origin.tar/x"])  # fmt: skip
def test_a_remote_output_over_an_input_is_refused(world: World, memory: Any, out: str) -> None:
    """An output that is a remote input, contains one or is in one is refused, however it is spelt."""
    tar = "memory://data/visual_news/origin.tar"
    memory.pipe_file(tar, world.tar.read_bytes())
    done = run("build", out, "--data-dir", world.root, "--visual-news", tar, "--split", "test")
    assert done.exit_code == 1, done.output
    assert "Nothing was changed" in done.stderr
    if out != "memory://data":
        assert run("index", tar, "-o", out).exit_code == 1
    assert memory.find("/data") == ["/data/visual_news/origin.tar"]


def test_a_local_output_over_a_file_url_is_refused(world: World) -> None:
    """An index is not written over a tar that is named by file://."""
    before = world.tar.read_bytes()
    done = run("index", f"file://{world.tar}", "-o", world.tar)
    assert (done.exit_code, world.tar.read_bytes() == before) == (1, True)
    assert "is one of the inputs" in done.stderr


def test_an_index_in_a_bucket(world: World, memory: Any, tmp_path: Path) -> None:
    """An index is written there, replaced, and never in the place of another file."""
    for _ in range(2):
        done = run("index", world.tar, "-o", "memory://bucket/i.parquet")
        assert done.exit_code == 0, done.output
    assert run("index", world.tar, "-o", tmp_path / "i.parquet").exit_code == 0
    assert memory.cat_file("/bucket/i.parquet") == (tmp_path / "i.parquet").read_bytes()
    memory.pipe_file("/bucket/i.parquet", b"mine")
    done = run("index", world.tar, "-o", "memory://bucket/i.parquet")
    assert "exists and was not written by `newsclippings index`" in done.stderr
    assert memory.cat_file("/bucket/i.parquet") == b"mine"


def test_file_urls_are_local_paths(world: World, tmp_path: Path) -> None:
    """file:// names the local path."""
    build(world, f"file://{tmp_path}/a b", "--split", "test")
    build(world, tmp_path / "c" / "a b", "--split", "test")
    assert content(tmp_path / "a b") == content(tmp_path / "c" / "a b")
    assert run("verify", "--built", f"file://{tmp_path}/a b").exit_code == 0


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("memory://", "names? no folder|none in it"),
        ("simplecache::memory://a/b", "a chain of several"),
        ("hf://datasets/me/it", "newsclippings push"),
        ("https://host.invalid/it", "nothing is written to https://"),
        ("nosuch://a/b", "there is no such protocol"),
    ],
)
def test_urls_that_are_no_output(world: World, url: str, why: str) -> None:
    """A URL that cannot be written to is refused before anything is read."""
    with pytest.raises(ConfigError, match=why):
        build_folder(url, ["merged_balanced"], data_dir=str(world.root))


def test_a_missing_client_names_the_extra(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without s3fs or gcsfs, the error says how to install them."""
    for url, client in (("s3://bucket/it", "s3fs"), ("gs://bucket/it", "gcsfs")):
        monkeypatch.setitem(sys.modules, client, None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url[:2], raising=False)
        with pytest.raises(MissingDependencyError, match=r"pip install 'newsclippings\[cloud\]'"):
            build_folder(url, ["merged_balanced"], data_dir=str(world.root))


def test_secrets_of_an_output(world: World, memory: Any) -> None:
    """A password in the URL of an output is neither printed nor written."""
    url = "memory://user:hunter2hunter2@bucket/it"
    done = run("build", url, "--data-dir", world.root, *NEWER)
    assert done.exit_code == 0, done.output
    assert "hunter2" not in done.output
    assert "hunter2" not in repr(find_place(url)) + str(find_place(url))
    assert not [name for name in memory.find("/") if b"hunter2" in memory.cat_file(name)]


# A real S3 server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server on the loopback."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system of S3, with a bucket, configured as users do: by the environment."""
    s3fs = pytest.importorskip("s3fs")
    settings = {"AWS_ENDPOINT_URL": server, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "secretsecret",
                "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()


KILLED = """
import os, signal, sys
import newsclippings
from _newsclippings.cli.commands import main
from _newsclippings.storage import RemotePath
put, left = RemotePath.put, 4

def kill(self, file):
    global left
    left -= 1
    put(self, file)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

RemotePath.put = kill
main(["build", "s3://bucket/it", *sys.argv[1:]], standalone_mode=False)
"""


def test_a_killed_build_to_s3(world: World, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed build to S3 goes on where it was, and gives the bytes of a local build; a flipped one is found."""
    build(world, tmp_path / "it")
    here, url = content(tmp_path / "it"), "s3://bucket/it"
    where = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "NO_PROXY"))}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, "--data-dir", str(world.root)],
        capture_output=True, text=True, env={**environment(tmp_path / "hf"), **where},
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert [name.partition("/")[0] for name in remote_content(bucket, url)] == [".building"] * 4
    written: list[str] = []
    with monkeypatch.context() as patch:

        def write(file: str, *rest: Any) -> None:
            written.append(file)
            write_shard(file, *rest)

        patch.setattr(writer, "write_shard", write)
        build(world, url)
    assert remote_content(bucket, url) == here
    assert len(written) == 1
    assert verify_built(url).sound
    shard = "bucket/it/merged_balanced/test-00000-of-00001.parquet"
    data = bytearray(bucket.cat_file(shard))
    data[len(data) // 2] ^= 1
    bucket.pipe_file(shard, bytes(data))
    assert list(verify_built(url).invalid) == [f"s3://{shard}"]


def test_a_refused_upload(world: World, bucket: Any) -> None:
    """A bucket that does not exist is an error, and is not made; no key is in the message."""
    with pytest.raises(RemoteWriteError, match=r"s3://other/it.* could not be written") as caught:
        build_folder("s3://other/it", ["merged_balanced"], data_dir=str(world.root), splits=["test"])
    assert "secretsecret" not in str(caught.value)
    assert not bucket.exists("other")
