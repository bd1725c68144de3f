"""The package writes only where it was asked to, and opens no connection when offline."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reading import PACKAGE
from support.sampling import sampled
from support.world import World

WORK = """
import json, socket, sys
tried = []
connect = socket.socket.connect
def guarded(self, address, *rest):
    if self.family == socket.AF_UNIX:  # of multiprocess
        return connect(self, address)
    tried.append(address)
    raise OSError(f"no network: {address}")
socket.socket.connect = socket.socket.connect_ex = guarded
def nobody(host, *rest, **named):
    tried.append(host)
    raise OSError(f"no network: {host}")
socket.getaddrinfo = nobody

import newsclippings
from datasets import load_dataset
from _newsclippings.cli.commands import main
data, tar, out = sys.argv[1:4]
load_dataset("newsclippings", "scene_resnet_place", data_dir=data, num_proc=2)
for options in ({}, {"visual_news": tar}, {"images": "none"}, {"images": "path"}):
    for streaming in (False, True):
        rows = load_dataset("newsclippings", "merged_balanced", data_dir=data, streaming=streaming, **options)
        assert sum(1 for _ in rows["train"]) == 24
for command in (["build", out + "/built"], ["preview", "-o", out + "/pairs.png"]):
    main([*command, "--data-dir", data], standalone_mode=False)
main(["index", tar, "-o", out + "/index.parquet"], standalone_mode=False)
main(["info", "--data-dir", data], standalone_mode=False)
print(json.dumps(tried))
"""


def content(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a short path, because the paths of sockets in it are limited."""
    with tempfile.TemporaryDirectory(prefix="nc-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("offline", sampled(["1", "0"], 2))
def test_local_work_writes_only_to_the_cache_and_stays_offline(
    world: World, tmp_path: Path, short_folder: Path, offline: str
) -> None:
    """With local inputs, files are written only to the cache and the named outputs, and no connection is opened.

    No connection is promised with HF_HUB_OFFLINE=1 only: without it `datasets` may ask the Hub for a script of this
    name, and continues without an answer.
    """
    before = content(world.root)
    folders = {name: tmp_path / name for name in ("home", "hf", "out", "cwd_of_child")}
    for folder in folders.values():
        folder.mkdir()
    folders["temporary"] = short_folder
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "NEWSCLIPPINGS_"))}
    env |= {
        "HOME": str(folders["home"]),
        "TMPDIR": str(folders["temporary"]),
        "HF_HOME": str(folders["hf"]),
        "HF_HUB_OFFLINE": offline,
        "PYTHONPATH": str(PACKAGE),
        "PYTHONDONTWRITEBYTECODE": "1",
        "USE_TORCH": "0",  # which `datasets` imports for each stream
    }
    command = [sys.executable, "-c", WORK, str(world.root), str(world.tar), str(folders["out"])]
    done = subprocess.run(command, cwd=folders["cwd_of_child"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    if offline == "1":
        assert done.stdout.splitlines()[-1] == "[]"
    assert content(world.root) == before
    assert content(folders["home"]) == {}
    assert content(folders["temporary"]) == {}
    assert content(folders["cwd_of_child"]) == {}
    assert {path.split("/")[0] for path in content(folders["hf"])} <= {"datasets", "modules"}
    assert {path.split("/")[0] for path in content(folders["out"])} == {"built", "pairs.png", "index.parquet"}
