"""Malicious built folders give one of this package's errors, in 2 GB of address space, and are not uploaded.

A sample of `python -m tests.sweeps.foreign_folders`, which tries every change with every command.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reading import environment
from support.world import World
from sweeps import foreign_folders as foreign

from _newsclippings.folder.build import build_folder

pytestmark = pytest.mark.sweep


@pytest.fixture(scope="module")
def sound(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    build_folder(folder / "sound", [foreign.CONFIG], data_dir=str(world.root), visual_news=str(world.origin))
    (folder / "secret").write_text(foreign.SECRET)
    return folder / "sound"


@pytest.fixture(scope="module")
def commands(sound: Path) -> Iterator[foreign.Commands]:
    running = foreign.Commands(sound.parent)
    yield running
    running.stop()


def test_a_valid_folder_is_accepted(sound: Path, commands: foreign.Commands, tmp_path: Path) -> None:
    """Every command accepts the unchanged folder in the same 2 GB, and `push` uploads all of it."""
    folder = shutil.copytree(sound, tmp_path / "folder")
    files = {file.relative_to(sound).as_posix() for file in sound.rglob("*") if file.is_file()}
    for name in foreign.ALL:
        status, out = commands.run(name, folder)
        assert status == 0, (name, out)
        sent = [line for line in out.splitlines() if line.startswith("SENT ")]
        assert [set(json.loads(line[5:])) for line in sent] == [files] * (name == "push")


def test_manifests(sound: Path, commands: foreign.Commands, tmp_path: Path) -> None:
    """Manifests with missing, wrong, huge, nested or malicious values are refused: a sample of fields and values."""
    todo = list(foreign.manifest_cases(sound))
    random.Random(0).shuffle(todo)
    kinds: dict[str, foreign.Case] = {}
    for case in todo:
        for kind in case.name.split(" = "):
            kinds.setdefault(kind.rsplit(".", 1)[-1], case)
    for case in list(dict.fromkeys(kinds.values()))[:20]:
        assert foreign.try_case(case, sound, tmp_path, commands, ("verify", "preview", "push")) == []


@pytest.mark.parametrize("name", foreign.SHARDS)
def test_shards(sound: Path, commands: foreign.Commands, tmp_path: Path, name: str) -> None:
    """Shards that are bombs, lie, or have other columns, labels or numbers are refused, although the manifest fits."""
    case = foreign.Case(name, foreign.SHARDS[name], () if name in foreign.NO_FAULTS else ("verify",))
    assert foreign.try_case(case, sound, tmp_path, commands, ("verify", "stats", *foreign.SHOWN, "push")) == []


def test_shards_with_changed_bytes(sound: Path, commands: foreign.Commands, tmp_path: Path) -> None:
    """With changed bytes in pages or footers no command ends by a signal or accepts the shard."""
    for case in list(foreign.shard_cases(8))[-8:]:
        assert foreign.try_case(case, sound, tmp_path, commands, ("verify", "stats", *foreign.SHOWN)) == []


def test_files_beside(sound: Path, commands: foreign.Commands, tmp_path: Path) -> None:
    """Pipes, devices, links, terabyte files, checksums of files outside, and YAML bombs in the folder are refused."""
    todo = list(foreign.beside_cases())
    random.Random(0).shuffle(todo)
    for case in todo[:12]:
        assert foreign.try_case(case, sound, tmp_path, commands, ("verify", "stats", "push")) == []


FLIPS = """
import json, os, random, sys
from pathlib import Path
from _newsclippings.folder import BuiltFolder
from _newsclippings.folder.shards import read_shard
from newsclippings import NewsCLIPpingsError
config, out = Path(sys.argv[1]), Path(sys.argv[2])
manifest = BuiltFolder.open(config.parent).manifests[config.name]
shard = manifest.shards_of("test")[0]
data = (config / shard.name).read_bytes()
start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
columns = ["id", "image_id", "falsified", "caption", "source", "image.bytes"]
bits = random.Random(0).sample(range(8 * start, 8 * len(data)), int(sys.argv[3]))
said = {"right": 0, "refused": 0}
for bit in bits:
    spoilt = bytearray(data)
    spoilt[bit // 8] ^= 1 << bit % 8
    out.write_bytes(spoilt)
    try:
        for _ in read_shard(out, shard, manifest.features, columns, 512):
            pass
        said["right"] += 1
    except NewsCLIPpingsError:
        said["refused"] += 1
print(json.dumps(said))
"""


def test_footers_with_a_flipped_bit(sound: Path, tmp_path: Path) -> None:
    """A flipped bit in the footer of a shard never ends the process, although some abort Arrow's column accessors."""
    arguments = [sys.executable, "-c", FLIPS, str(sound / foreign.CONFIG), str(tmp_path / "spoilt.parquet"), "1500"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment(tmp_path / "home"))
    assert done.returncode == 0, done.stderr[-2000:]
    assert sum(json.loads(done.stdout).values()) == 1500
