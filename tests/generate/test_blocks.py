"""`newsclippings generate` in blocks: the same bytes whoever makes which block, on any device, after any kill."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.children import PATIENCE, in_child, kill, wait
from support.constants import change_constant
from support.generating import make_corpus
from support.reading import environment
from support.sampling import sampled

from _newsclippings.generate import Measure, Pool, Rule
from _newsclippings.generate.blocks import Share, Stage
from _newsclippings.generate.search import Search
from _newsclippings.generate.write import Folder
from newsclippings import ConfigError, MissingDependencyError, generate

PAIRS = 300  # of a block: some captions
RECIPE = """
config = "mine"
splits = {train = 0.7, test = 0.3}

[[method]]
name = "clip_text_image"

[[method]]
name = "unlimited"
query = "clip_image"
against = "clip_image"
uses = "unlimited"
rule = {same = ["topic"]}
"""
Places = dict[str, Any]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """The arguments of `generate`, but the folder."""
    corpus = make_corpus(tmp_path / "corpus")
    vectors = {
        name: corpus.write_vectors(name, tmp_path / name, of)
        for name, of in (("clip_text", "captions"), ("clip_image", "pictures"))
    }
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    return {
        "recipe": recipe,
        "corpus": corpus.table,
        "vectors": vectors,
        "entities": corpus.write_entities(tmp_path / "entities"),
    }


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture
def whole(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of one process with one block; blocks are small after that."""
    generate(tmp_path / "whole", **places)
    change_constant(monkeypatch, "BLOCK_PAIRS", PAIRS)
    change_constant(monkeypatch, "_LOOK", 0.005)
    return read_tree(tmp_path / "whole")


def dies(patch: pytest.MonkeyPatch, at: int) -> None:
    """Kill this process after its n-th finished file."""
    count, replace = itertools.count(), os.replace

    def replaced(*args: Any, **kwargs: Any) -> None:
        replace(*args, **kwargs)
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    patch.setattr(os, "replace", replaced)


def run_rank(out: Path, places: Places, rank: int, patch: pytest.MonkeyPatch | None = None, at: int = 0) -> None:
    if patch is not None:
        dies(patch, at)
    generate(out, **places, rank=rank, world=2)


@pytest.mark.parametrize("files", sampled([5, 1], 2))
def test_small_blocks(
    files: int, places: Places, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many blocks give the same bytes as one, and what a killed process finished is not made again."""
    out = tmp_path / "out"

    def run(at: int) -> None:
        dies(monkeypatch, at)
        generate(out, **places)

    deaths = 0
    while (code := wait(in_child(partial(run, files - 1)))) != 0:  # so many files at a time, to the last
        assert code == -signal.SIGKILL
        deaths += 1
    assert 25 // files < deaths < 60 // files
    assert read_tree(out) == whole


@pytest.mark.parametrize("most", sampled([6, 12], 2))
def test_two_ranks_killed(
    most: int, places: Places, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes at a time; one is killed after some files, or both are, and then the one that waits for it."""
    out, draw, kills, ends = tmp_path / "out", random.Random(5), 0, 0
    for turn in itertools.count():
        victims = [{0}, {1}, {0, 1}][turn % 3]
        runs = [
            partial(run_rank, out, places, rank, monkeypatch if rank in victims else None, draw.randrange(5))
            for rank in range(2)
        ]
        children, codes = [in_child(run) for run in runs], [0, 0]
        left, end = {0, 1}, time.monotonic() + PATIENCE
        while left and time.monotonic() < end:
            for rank in [*left]:
                done, status = os.waitpid(children[rank], os.WNOHANG)
                if done:
                    left.remove(rank)
                    codes[rank] = os.waitstatus_to_exitcode(status)
            if any(codes) and left:
                time.sleep(draw.uniform(0, 0.1))
                kill(children[next(iter(left))])
            time.sleep(0.002)
        assert not left
        assert {*codes} <= {0, -signal.SIGKILL}
        kills += codes.count(-signal.SIGKILL)
        if not any(codes):  # nobody was killed: begin again
            assert read_tree(out) == whole
            ends += 1
            if kills >= most and ends >= most // 6:
                break
            shutil.rmtree(out)


@pytest.mark.parametrize("late", [0, 1])
def test_a_rank_may_begin_later(
    places: Places, whole: dict[str, bytes], late: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Either rank waits for the other one, and both report what was made; torchrun's variables name a rank, too."""
    out = tmp_path / "out"
    first = in_child(partial(run_rank, out, places, 1 - late))
    time.sleep(1)
    monkeypatch.setenv("RANK", str(late))
    monkeypatch.setenv("WORLD_SIZE", "2")
    reports = generate(out, **places)
    assert wait(first) == 0
    assert reports.made
    assert read_tree(out) == whole
    assert not generate(out, **places, rank=late, world=2).made


def test_an_error_ends_all_ranks(places: Places, whole: dict[str, bytes], tmp_path: Path) -> None:
    """If no caption is matched, rank 0 reports it, and rank 1 does not wait for ever; nothing is left that hinders."""
    out, right = tmp_path / "out", places["recipe"].read_text()
    wrong = right.replace('name = "clip_text_image"', 'name = "clip_text_image"\nfloor = 0.999')
    places["recipe"].write_text(wrong.replace('uses = "unlimited"', 'uses = "unlimited"\nfloor = 0.999'))
    with pytest.raises(ConfigError):  # in one process
        generate(tmp_path / "wrong", **places)
    children = [in_child(partial(run_rank, out, places, rank)) for rank in range(2)]
    assert [wait(child) for child in children] == [1, 1]
    places["recipe"].write_text(right)
    generate(out, **places)
    assert read_tree(out) == whole


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 1}, "belong together"),
        ({"rank": 2, "world": 2}, "below the number of processes"),
        ({"engine": "ray", "rank": 0, "world": 2}, "divides the work itself"),
        ({"engine": "spark"}, "engine='spark'"),
    ],
)
def test_wrong_numbers_and_engines(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    """They are refused before anything is read."""
    with pytest.raises(ConfigError, match=message):
        generate(tmp_path / "out", "clip_text_text", **given)


@pytest.mark.skipif(not find_spec("torch"), reason="needs the extra torch")
def test_a_device_makes_the_same_bytes(places: Places, whole: dict[str, bytes], tmp_path: Path) -> None:
    """Torch on a device that is asked for, in place of a GPU."""
    generate(tmp_path / "out", **places, device="cpu")
    assert read_tree(tmp_path / "out") == whole


def test_vectors_are_mapped(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared is in files below rounds/, and not in memory."""
    seen = []
    make = Measure.__init__

    def look(self: Measure, query: Any, against: Any, device: str | None = None) -> None:
        seen.extend([query, against])
        make(self, query, against, device)

    monkeypatch.setattr(Measure, "__init__", look)
    generate(tmp_path / "out", **places)
    assert len(seen) == 10  # of copies, and of two methods and splits
    assert all(isinstance(each, np.memmap) and Path(str(each.filename)).parent.name == "rounds" for each in seen)


def test_costly_rows_are_in_smaller_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks have as many pairs, whatever the rows cost; all rows are in one, in their order."""
    change_constant(monkeypatch, "BLOCK_PAIRS", 100)
    folder, calls = Folder(tmp_path, {"config": "mine", "recipe": ""}), []

    def work(subject: object, rows: Any) -> tuple[Any, ...]:
        calls.append(rows.tolist())
        both = np.stack([rows, 2 * rows], axis=1)
        return both, both / 4

    pairs = np.array([60, 60, 10, 10, 10, 10, 500, 1, 1])
    first, second = Stage(folder, "name", Share()).run(None, work, np.arange(10, 19), pairs)
    assert calls == [[10, 11], [12, 13, 14, 15, 16], [17, 18]]
    assert first.tolist() == [[n, 2 * n] for n in range(10, 19)]
    assert second.tolist() == (first / 4).tolist()
    again = Stage(folder, "name", Share()).run(None, work, np.arange(10, 19), pairs)
    assert [each.tolist() for each in again] == [first.tolist(), second.tolist()]
    assert len(calls) == 3  # read from the files
    Stage(folder, "name", Share()).run(None, work, np.arange(11, 20), pairs)
    assert len(calls) == 6  # other rows


def test_pairs_are_counted() -> None:
    """The cost of a caption is with how many it is compared."""
    vectors, codes = np.eye(4, dtype=np.float32), np.array([0, 1, 0, -1], np.int32)
    pool = Pool(4, columns={"topic": codes})
    search = Search(Measure(vectors, vectors), pool, Rule(same=("topic",)))
    assert search.count_pairs(np.arange(4)).tolist() == [2, 1, 2, 0]
    assert Search(Measure(vectors, vectors), pool, Rule()).count_pairs(np.arange(4)).tolist() == [4] * 4


SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import ray
from _newsclippings.generate import blocks, search
from newsclippings import generate
places = json.loads(sys.argv[1])
mark = Path(sys.argv[2])
blocks.BLOCK_PAIRS = 300
find = search.Search.find

def dying(self, *args, **kwargs):
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return find(self, *args, **kwargs)

search.Search.find = dying
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
made = generate(engine="ray", **places)
print("made", made.made, mark.exists())
"""


@pytest.mark.skipif(not find_spec("ray"), reason="needs the extra ray")
def test_ray_makes_the_same_bytes(places: Places, whole: dict[str, bytes], tmp_path: Path) -> None:
    """On a local cluster of two workers, one of which is killed in its first search."""
    text = json.dumps({"out": tmp_path / "out", **places}, default=str)
    command = [sys.executable, "-c", SCRIPT, text, str(tmp_path / "killed")]
    done = subprocess.run(command, env=environment(tmp_path / "hf"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "made True True" in done.stdout
    assert read_tree(tmp_path / "out") == whole


def test_without_ray_the_extra_is_named(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    monkeypatch.setattr("_newsclippings.embed.ray_pipeline.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'newsclippings\[ray\]'"):
        generate(tmp_path / "out", **places, engine="ray")
    assert not (tmp_path / "out").exists()


TORCHRUN = """
import json, sys
from newsclippings import generate
generate(**json.loads(sys.argv[1]))
"""


@pytest.mark.sweep
@pytest.mark.skipif(not find_spec("torch"), reason="needs the extra torch")
def test_torchrun(places: Places, tmp_path: Path) -> None:
    """Two real ranks, each with one block of each stage at the most."""
    generate(tmp_path / "whole", **places)
    (tmp_path / "rank.py").write_text(TORCHRUN)
    text = json.dumps({"out": tmp_path / "out", **places}, default=str)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(tmp_path / "rank.py"), text]
    done = subprocess.run(command, env=environment(tmp_path / "hf"), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert read_tree(tmp_path / "out") == read_tree(tmp_path / "whole")
