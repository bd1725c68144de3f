"""File systems without common features, quotas, limits, unusual times and unusual names."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pickle
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command import run
from support.obstacles import may_mount, small_disk
from support.reading import environment, expected_splits, load, raw_splits
from support.remote import Origin, Published, make_index
from support.world import World

import newsclippings
from _newsclippings.errors import ConfigError
from _newsclippings.storage import space
from _newsclippings.storage.space import describe_os_error, out_of_space
from newsclippings import NoSpaceError, verify_built

pytestmark = pytest.mark.sweep

LACKING = ["EINVAL", "ENOSYS", "ENOTSUP", "EBADF", "ENOTTY", "ENOLCK"]


def refusing(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, number: int, folders: bool | None = None) -> None:
    """Let a system call fail; `folders` restricts it to folders (True) or files (False)."""
    real = getattr(module, name)

    def call(descriptor: int, *arguments: Any) -> Any:
        if folders is None or os.path.isdir(f"/proc/self/fd/{descriptor}") == folders:
            raise OSError(number, os.strerror(number))
        return real(descriptor, *arguments)

    monkeypatch.setattr(module, name, call)


@pytest.mark.parametrize("name", LACKING)
@pytest.mark.parametrize("call", ["fsync of folders", "fsync of files", "flock", "posix_fadvise"])
def test_a_folder_is_built_without_optional_calls(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, name: str
) -> None:
    """A missing call that only makes a build safer or faster is no error, and the folder is right."""
    module: Any = fcntl if call == "flock" else os
    folders = {"fsync of folders": True, "fsync of files": False, "flock": True}.get(call)
    with monkeypatch.context() as patch:
        refusing(patch, module, call.partition(" ")[0], getattr(errno, name), folders)
        done = run("build", tmp_path / "out", "--data-dir", world.root, "--images", "none", "--split", "test")
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1), done.output
    assert verify_built(tmp_path / "out").sound


@pytest.mark.parametrize("folders", [True, False], ids=["of folders", "of files"])
def test_a_disk_that_fails_is_an_error(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: bool
) -> None:
    """A failed fsync is an error."""
    with monkeypatch.context() as patch:
        refusing(patch, os, "fsync", errno.EIO, folders)
        done = run("build", tmp_path / "out", "--data-dir", world.root, "--images", "none", "--split", "test")
    assert done.exit_code == 1
    assert "the disk or its network failed (Input/output error)" in done.stderr


@pytest.mark.parametrize("name", ["EINVAL", "EPERM", "ENOTSUP"])
def test_a_cached_copy_without_ftruncate(
    origin: Origin, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """If ftruncate cannot extend a file, its last byte is written instead."""
    refusing(monkeypatch, os, "ftruncate", getattr(errno, name))
    index = make_index(published.tar, tmp_path / "x.parquet")
    found = raw_splits(published.load(splits=["train"], visual_news_index=index))
    assert found == {"train": published.world.rows()}


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "EINVAL"])
def test_a_cache_without_locks(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A cache on a file system without locks is an error that says what to do, because `datasets` needs locks."""
    number = getattr(errno, name)

    def locked(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.BaseFileLock.acquire", locked)
    with pytest.raises(ConfigError, match=r"the file system of the cache has no locks.*cache_dir="):
        load(world, cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "ENOSYS"])
@pytest.mark.parametrize("kind", ["old filelock", "new filelock"])
def test_a_file_system_without_locks(world: World, tmp_path: Path, kind: str, name: str) -> None:
    """Old versions of `filelock` wait for ever or raise NotImplementedError; the error is the same."""
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_LOCKS)
    arguments = [kind, name, str(world.root), str(tmp_path / "cache")]
    command = [sys.executable, "-W", "ignore", str(script), *arguments]
    env = environment(tmp_path / "hf", PYTHONPATH=str(Path(newsclippings.__file__).parent))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    if done.stdout != "built\n":
        assert re.search(r"ConfigError .*the file system of the cache has no locks.*cache_dir=", done.stdout)
    assert (done.stdout == "built\n") <= ((kind, name) == ("new filelock", "ENOSYS"))


WITHOUT_LOCKS = """
import errno, fcntl, os, sys, time
import filelock
kind, name, root, cache = sys.argv[1:]

def flock(*_):
    raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

def acquire(lock, *_, **__):
    try:
        fcntl.flock(0, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise NotImplementedError("FileSystem does not appear to support flock") from error
        time.sleep(1000)

import newsclippings
fcntl.flock = flock
if kind == "old filelock":
    filelock.BaseFileLock.acquire = acquire
try:
    newsclippings.NewsCLIPpings(data_dir=root, cache_dir=cache, images="none", splits=["test"]).download_and_prepare()
except Exception as error:
    print(type(error).__name__, error)
else:
    print("built")
"""


@pytest.mark.parametrize("name", ["ENOSYS", "EOPNOTSUPP"])
def test_pictures_are_read_without_preadv(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without preadv, as in some sandboxes, pictures are read with another call."""
    refusing(monkeypatch, os, "preadv", getattr(errno, name))
    assert raw_splits(load(world, visual_news=str(world.tar))) == expected_splits(world)


def test_a_system_without_limits_and_locks(tmp_path: Path) -> None:
    """The package can be imported on a system without the modules for limits and locks."""
    script = "import sys; sys.modules['resource'] = sys.modules['fcntl'] = None; import newsclippings"
    env = environment(tmp_path / "hf", PYTHONPATH=str(Path(newsclippings.__file__).parent))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")


# Quotas and limits


def test_what_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error distinguishes a full disk, a used-up quota and a limit on file sizes."""

    def said(number: int) -> str:
        error = out_of_space(tmp_path, OSError(number, os.strerror(number)), "go elsewhere", 5000)
        assert isinstance(error, NoSpaceError)
        assert error.errno == number
        return str(error)

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    assert "the disk is full: about 5,000 bytes are needed, 1,000,000,000 bytes are free" in said(errno.ENOSPC)
    needed = "about 5,000 bytes are needed, although 1,000,000,000 bytes of the disk are free"
    assert f"your quota is used up: {needed}" in said(errno.EDQUOT)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200_000, 200_000))
    assert "a file became too large: the limit is 200,000 bytes" in said(errno.EFBIG)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert "a file became too large: the file system allows no larger ones" in said(errno.EFBIG)
    for number in (errno.EDQUOT, errno.EFBIG):
        assert "the disk is full" not in said(number)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_limit_on_the_size_of_files(world: World, tmp_path: Path, processes: int) -> None:
    """The error names the limit on file sizes, also if workers write."""
    most = 20_000 // processes
    code = f"""
import datasets, newsclippings
datasets.load_dataset("newsclippings", data_dir={str(world.root)!r}, num_proc={processes})
"""
    for command in (
        ["-m", "newsclippings", "build", "out", "--data-dir", str(world.root), "--split", "train"],
        ["-c", code],
    ):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *command],
            capture_output=True,
            text=True,
            env=environment(tmp_path / "hf", PYTHONDONTWRITEBYTECODE="1"),
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
        )
        assert done.returncode == 1
        assert f"a file became too large: the limit is {most:,} bytes" in done.stderr
        assert "the disk is full" not in done.stderr
    assert not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.skipif(not may_mount(), reason="a small disk has to be mounted, by root")
def test_a_disk_for_few_files(world: World, tmp_path: Path) -> None:
    """If no more files can be created, the error says so, and does not ask for more bytes."""
    with small_disk(tmp_path / "disk", 64 << 20) as place:
        subprocess.run(["mount", "-o", "remount,nr_inodes=4", str(place)], check=True)
        done = run("build", place / "out", "--data-dir", world.root, "--split", "test")
        assert done.exit_code == 1
        assert "the disk is full: it can hold no more files, although" in done.stderr


# Times


@pytest.mark.parametrize("seconds", [-(2**31), -1, 0, 2**33, 9_223_372_036, 9_223_372_037, 99_999_999_999])
def test_pictures_of_any_time(new_world: Callable[..., World], seconds: int) -> None:
    """File times outside of int64 nanoseconds change no row, and a changed time is noticed."""
    world = new_world(tar=False)
    for path in world.origin.rglob("*.jpg"):
        os.utime(path, (seconds, seconds))
    assert raw_splits(load(world)) == expected_splits(world)
    changed = world.used_once().image_path
    (world.origin / changed).write_bytes(world.pictures[changed][:-1] + b"\0\xff\xd9")
    os.utime(world.origin / changed, (seconds, seconds))
    world.pictures[changed] = (world.origin / changed).read_bytes()
    assert raw_splits(load(world)) == expected_splits(world)


# Names


@pytest.mark.parametrize("name", ["run:1", "s3:x", "a%20b", "file:x", "~", "-x", "~nobody"])
def test_names_that_look_like_something_else(world: World, name: str) -> None:
    """Relative names that look like something else work as outputs and inputs."""
    Path("in:1").symlink_to(world.root)
    pickled = Path("v:1.pkl")
    pickled.write_bytes(pickle.dumps({7: np.ones(4, np.float32)}, 4))
    where = ["--data-dir", "in:1", "--split", "test"]
    for arguments in (
        ["build", "--images", "bytes", *where, "--", name],
        ["stats", "--", name],
        ["card", "--", name],
        ["croissant", f"--out={name}.json", "--", name],
        ["verify", f"--built={name}"],
        ["index", "in:1/visual_news/origin.tar", f"--out={name}.parquet"],
        ["preview", "--data-dir", "in:1", "--visual-news", "in:1/visual_news/origin.tar", "--visual-news-index",
         f"{name}.parquet", f"--out={name}.png"],
        ["preview", *where, f"--html={name}.html"],
        ["convert-embeddings", "--", "v:1.pkl", f"{name}-v.parquet"],
        ["dataset-infos", "--", f"{name}-infos.json"],
        ["sample", "--", f"{name}-sample"],
    ):  # fmt: skip
        done = run(*arguments)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
    assert verify_built(Path(name)).sound
    assert json.loads(Path(f"{name}-infos.json").read_text())
    shutil.rmtree(name)


@pytest.mark.parametrize("place", ["s3://bucket/x", "hf://datasets/me/it", "file:///tmp/x", "https://host.invalid/x"])
def test_a_url_as_output_is_refused(world: World, place: str) -> None:
    """A URL as output is refused; no folder of that name is created."""
    for arguments in (["sample", place], ["dataset-infos", place], ["preview", "--data-dir", world.root, "-o", place]):
        done = run(*arguments)
        assert done.exit_code == 2
        assert "is a URL; expected a local path" in done.stderr
    assert list(Path().iterdir()) == []


# Errors of the system


@pytest.mark.parametrize("number", sorted(space._CASES), ids=lambda number: errno.errorcode[number])
def test_every_system_error_becomes_a_sentence(tmp_path: Path, number: int) -> None:
    """The error says where, what is wrong and what to do, without a bare number."""
    path = str(tmp_path / "a\nb")
    said = describe_os_error(OSError(number, os.strerror(number), path))
    assert said.startswith(f"{tmp_path}/a\\nb: ")
    assert os.strerror(number) in said
    assert "Errno" not in said
    assert "\n" not in said


def test_refusals_of_commands(world: World, tmp_path: Path) -> None:
    """Real system errors become one line: too long names, files in place of folders, circular links."""
    (tmp_path / "file").write_text("it")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    refused: dict[str, list[object]] = {
        "the name is too long for the file system": ["dataset-infos", tmp_path / ("x" * 300)],
        "and should be a folder|its folder is a file": ["dataset-infos", tmp_path / "file" / "x"],
        "links lead to each other in a circle": ["dataset-infos", tmp_path / "circle" / "x"],
        "something is there|should be a folder": [
            "build",
            tmp_path / "file" / "x",
            "--data-dir",
            world.root,
        ],
    }
    for said, arguments in refused.items():
        done = run(*arguments)
        assert done.exit_code == 1, arguments
        assert any(words in done.stderr for words in said.split("|")), done.stderr
        assert "Errno" not in done.stderr
        assert done.stderr.count("\n") == 1
    done = run("build", tmp_path / "circle", "--data-dir", world.root)
    assert done.exit_code in (1, 2)
    assert "Errno" not in done.stderr
