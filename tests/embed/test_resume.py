"""A folder of vectors has the same bytes however often its processes were killed, and whoever made which part."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.children import dies_at_rename, in_child, kill, wait
from support.encoding import bytes_of, encoder, read_folder, vectors_of
from support.reading import environment
from support.world import World

from newsclippings import ConfigError, Encoder, embed

SIZE = 3  # ids of a part: 13 parts


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of one process that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    embed(out, encoder(), data_dir=world.root, part_size=SIZE)
    return bytes_of(out)


def dying(after: int) -> Any:
    """An encoder whose process is killed at a batch."""
    left = [after]

    def encode(batch: list[Any]) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return encoder().encode(batch)

    return encoder(encode=encode)


def test_ten_kills(world: World, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the encoder, and before and after a rename, of the plan, a part, README and SHA256SUMS."""
    out = tmp_path / "out"

    def run(rename: int, before: bool) -> None:
        dies_at_rename(monkeypatch, rename, before)
        embed_again(world, out)

    kills = [partial(run, 0, True), *(partial(embed_again, world, out, dying(k)) for k in (0, 2, 1, 3))]
    renames = ((1, False), (2, True), (0, False), (1, True), (0, True))
    kills += [partial(run, rename, before) for rename, before in renames]
    assert [wait(in_child(each)) for each in kills] == [9] * 10
    assert 0 < len(bytes_of(out).keys() & whole.keys()) < len(whole)
    deaths = 0
    while wait(in_child(partial(run, 1, False))) == 9:  # two files at a time, to the last
        deaths += 1
    assert deaths > 1
    assert bytes_of(out) == whole
    assert embed_again(world, out).made == 0


def embed_again(world: World, out: Path, made_by: Encoder | None = None, rank: int = 0, ranks: int = 1) -> Any:
    return embed(out, made_by or encoder(), data_dir=world.root, part_size=SIZE, rank=rank, world=ranks)


def test_two_ranks_killed_ten_times(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Two processes at a time, each killed after a random number of batches, then left alone."""
    rng, out, kills = random.Random(7), tmp_path / "out", 0
    while kills < 10:
        runs = [partial(embed_again, world, out, dying(rng.randrange(2)), rank=rank, ranks=2) for rank in range(2)]
        codes = [wait(child) for child in [in_child(run) for run in runs]]
        assert set(codes) <= {0, 9}
        kills += codes.count(9)
        if not codes.count(9):  # all done: begin again with ten parts less
            for file in [*out.glob("part-0000*"), out / "SHA256SUMS"]:
                file.unlink()
    children = [in_child(partial(embed_again, world, out, rank=rank, ranks=2)) for rank in range(2)]
    assert [wait(child) for child in children] == [0, 0]
    assert bytes_of(out) == whole


def test_a_signal_at_any_time(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """SIGKILL after some milliseconds, wherever the process is."""
    out, rng = tmp_path / "out", random.Random(3)
    for _ in range(10):
        child = in_child(partial(embed_again, world, out))
        time.sleep(rng.uniform(0.0, 0.15))
        kill(child)
        os.waitpid(child, 0)
    embed_again(world, out)
    assert bytes_of(out) == whole


def test_a_rank_makes_every_second_part(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Rank 1 of 2 makes parts 1, 3, ...; the one that finds all parts writes the checksums."""
    out = tmp_path / "out"
    first = embed(out, encoder(), data_dir=world.root, part_size=SIZE, rank=1, world=2)
    assert sorted(file.name for file in out.glob("part-*")) == [f"part-{k:05d}.parquet" for k in range(1, 13, 2)]
    assert (first.made, first.absent, first.complete) == (6, 7, False)
    assert "7 of 13 parts are still to be made by other ranks" in str(first)
    second = embed(out, encoder(), data_dir=world.root, part_size=SIZE, rank=0, world=2)
    assert (second.made, second.absent, second.complete) == (7, 0, True)
    assert bytes_of(out) == whole


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
def test_torchrun_and_srun_name_the_ranks(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    """Their variables say which parts are of this process."""
    monkeypatch.setenv(names[0], "2")
    monkeypatch.setenv(names[1], "3")
    assert embed(tmp_path / "out", encoder(), data_dir=world.root, part_size=SIZE).made == 4
    monkeypatch.setenv(names[0], "3")
    with pytest.raises(ConfigError, match=f"{names[0]}=3 {names[1]}=3: expected a rank"):
        embed(tmp_path / "out", encoder(), data_dir=world.root, part_size=SIZE)


def test_what_is_damaged_is_made_again(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """A flipped byte in a finished folder, a truncated or a foreign part in an unfinished one."""
    out = tmp_path / "out"
    embed_again(world, out)
    part = out / "part-00003.parquet"
    data = bytearray(part.read_bytes())
    data[100] ^= 1
    part.write_bytes(data)
    assert embed_again(world, out).made == 1
    assert bytes_of(out) == whole
    for name in ("README.md", "SHA256SUMS"):
        (out / name).unlink()
        assert embed_again(world, out).made == 0
        assert bytes_of(out) == whole
    (out / "SHA256SUMS").unlink()
    part.write_bytes(data[: len(data) // 2])
    (out / "part-00005.parquet").write_bytes(whole["part-00004.parquet"])
    assert embed_again(world, out).made == 2
    assert bytes_of(out) == whole


def test_a_part_of_another_plan_is_refused(world: World, tmp_path: Path) -> None:
    """A part with the right ids that another encoder made is named."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    embed(mine, encoder(), data_dir=world.root, part_size=SIZE)
    embed(other, encoder(facts={"model": "other"}), data_dir=world.root, part_size=SIZE)
    (mine / "SHA256SUMS").unlink()
    (mine / "part-00002.parquet").write_bytes((other / "part-00002.parquet").read_bytes())
    with pytest.raises(ConfigError, match=r"part-00002\.parquet is a part of another plan"):
        embed_again(world, mine)


TORCHRUN = """
import sys
from support.encoding import encoder
from newsclippings import embed
embed(sys.argv[1], encoder(), data_dir=sys.argv[2], part_size=3)
"""


@pytest.mark.sweep
@pytest.mark.skipif(not find_spec("torch"), reason="torchrun is a part of torch")
def test_torchrun(world: World, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Two real ranks."""
    (tmp_path / "rank.py").write_text(TORCHRUN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(tmp_path / "rank.py")]
    env = environment(tmp_path / "hf")
    done = subprocess.run([*command, str(tmp_path / "out"), str(world.root)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "out") == whole
    assert list(read_folder(tmp_path / "out")) == list(vectors_of(world))
