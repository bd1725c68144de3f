"""Calls ahead of time and worker processes: results in order, errors in their place, nothing joined twice."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from datasets.exceptions import DatasetGenerationError
from support.reading import answer, environment, expected_splits, jsonable, load, raw_splits, start
from support.world import World

from _newsclippings.corpus import Corpus
from _newsclippings.matches import read_matches
from _newsclippings.rows import joiner
from _newsclippings.rows.joined import JoinedSplit
from _newsclippings.storage.local import LocalFile
from _newsclippings.storage.threads import map_ahead
from newsclippings import BadFileError, MissingDataError, NoSpaceError, RemoteReadError


def test_results_come_in_the_order_of_the_arguments() -> None:
    """Results come in the order of the arguments, even if the first call is slow."""
    later = threading.Event()

    def call(k: int) -> int:
        if k == 0:
            assert later.wait(10), "the second call was not made ahead of the first one's result"
        if k == 1:
            later.set()
        return k * k

    with ThreadPoolExecutor(4) as pool:
        assert list(map_ahead(pool, call, range(50), 4)) == [(k, k * k) for k in range(50)]


def test_arguments_are_taken_only_as_far_ahead_as_asked() -> None:
    """Arguments are taken as results are consumed, so memory does not grow with the work."""
    taken = itertools.count()

    def arguments() -> Iterator[int]:
        for _ in range(100):
            yield next(taken)

    with ThreadPoolExecutor(4) as pool:
        results = map_ahead(pool, str, arguments(), 3)
        assert [next(results) for _ in range(10)] == [(k, str(k)) for k in range(10)]
        assert next(taken) == 12  # 10 results taken, 2 calls ahead
        results.close()  # type: ignore[attr-defined]  # a generator


def test_an_error_comes_in_its_place() -> None:
    """Results before the failing call are given first; at most the calls ahead of it have started."""
    calls = []

    def call(k: int) -> int:
        calls.append(k)
        return 12 // (3 - k)

    with ThreadPoolExecutor(1) as pool:
        results = map_ahead(pool, call, range(1000), 2)
        assert [next(results) for _ in range(3)] == [(0, 4), (1, 6), (2, 12)]
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert max(calls) <= 4


def test_workers_do_not_read_the_inputs_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent has read, its workers map from the cache: each file is read by one process, whatever num_proc."""
    parent = os.getpid()

    def only_in_parent(function: Any) -> Any:
        def call(*args: Any) -> Any:
            assert os.getpid() == parent, "a worker reads an input"
            return function(*args)

        return call

    monkeypatch.setattr(joiner, "read_matches", only_in_parent(read_matches))
    monkeypatch.setattr(Corpus, "read_records", only_in_parent(Corpus.read_records))
    assert raw_splits(load(world, num_proc=2)) == expected_splits(world)


def test_a_forked_worker_opens_the_tar_itself(tmp_path: Path) -> None:
    """Each process opens the tar itself; if the file was replaced, that is an error."""
    path = tmp_path / "x.tar"
    path.write_bytes(b"before")
    file = LocalFile(str(path))

    def in_child(replaced: bool) -> bytes:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                if replaced:
                    (tmp_path / "y").write_bytes(b"after")
                    (tmp_path / "y").rename(path)
                answer = file.read_at(0, 6)
            except BadFileError:
                try:
                    answer = file.read_at(0, 6)
                except BadFileError as error:
                    answer = str(error).encode()
            os.write(write, answer)
            os._exit(0)
        os.waitpid(child, 0)
        return os.read(read, 1000)

    assert in_child(replaced=False) == b"before"
    assert b"the file was replaced while it was read" in in_child(replaced=True)
    assert file.read_at(0, 6) == b"before"


def test_spawned_workers_build_the_same_rows(world: World, tmp_path: Path) -> None:
    """Spawned workers (macOS, Windows) join their own rows, with the same result."""
    code = """
import multiprocess
multiprocess.set_start_method("spawn")
say(raw_splits(load_dataset("newsclippings", "merged_balanced", data_dir=sys.argv[1], splits=["test"], num_proc=2)))
"""
    child = start(code, tmp_path / "nowhere", environment(tmp_path / "hf"), str(world.root))
    assert answer(child) == jsonable({"test": expected_splits(world)["test"]})


def test_two_builders_at_once_keep_their_rows(world: World) -> None:
    """Builds in two threads of one process keep their rows apart."""
    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(load, world, "merged_balanced", images="none")
        theirs = pool.submit(load, world, "scene_resnet_place", images="none")
        rows = raw_splits(ours.result()), raw_splits(theirs.result())
    for got, config in zip(rows, ("merged_balanced", "scene_resnet_place"), strict=True):
        for split, expected in expected_splits(world, config).items():
            assert [row["id"] for row in got[split]] == [row["id"] for row in expected]


MESSAGE = "merged_balanced/train: expected 16 complete rows, found 13.\n  Looked in: here.\n  Complete the files."
# What a worker raises -> what its caller gets: the class, the and the message
RAISED: dict[str, tuple[Exception, type[Exception], str]] = {
    "rows are missing": (MissingDataError(MESSAGE), MissingDataError, MESSAGE),
    "a quota": (NoSpaceError("/data: it is full.", errno.EDQUOT), NoSpaceError, "/data: it is full."),
    "a server": (RemoteReadError("http://h/: no answer."), RemoteReadError, "http://h/: no answer."),
    "the disk": (OSError(errno.ENOSPC, "no"), NoSpaceError, "the disk is full: about"),
    "a defect": (ZeroDivisionError("by 0"), DatasetGenerationError, "An error occurred"),
}


@pytest.mark.parametrize("num_proc", [None, 2])
@pytest.mark.parametrize("what", RAISED)
def test_an_error_of_a_worker_comes_home(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, num_proc: int | None
) -> None:
    """Its class, whole message and number are those that were raised, in another process as in this one."""
    raised, case, says = RAISED[what]

    def tables(*_: object, **__: object) -> Iterator[object]:
        raise raised
        yield

    monkeypatch.setattr(JoinedSplit, "tables", tables)
    with pytest.raises(case) as caught:
        load(world, num_proc=num_proc, cache_dir=str(tmp_path / "cache"))
    assert type(caught.value) is case
    assert str(caught.value) == says or what in ("the disk", "a defect")
    assert says in str(caught.value)
    if isinstance(raised, OSError):
        assert getattr(caught.value, "errno", None) == raised.errno
