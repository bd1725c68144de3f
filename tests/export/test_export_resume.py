"""An export has the same bytes however often its process was killed."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.children import in_child, kill, wait
from support.constants import change_constant
from support.sampling import crossed
from support.world import World

from _newsclippings.export import export
from _newsclippings.export.rows import JoinedRows
from _newsclippings.facts import EXPORT_FORMS
from newsclippings import ConfigError

SIZE = 4  # row numbers of a part


def files_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    change_constant(monkeypatch, "PART", SIZE, "rows")


def run(world: World, form: str, out: Path) -> dict[str, int]:
    return export(out, form, splits=["test", "validation"], data_dir=str(world.root))


def dies_at(monkeypatch: pytest.MonkeyPatch, name: str, after: int, before: bool) -> None:
    """Kill the process before or after it calls a function of `os` for the k-th time."""
    left, call = [after], getattr(os, name)

    def dying(*args: Any, **given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0 and before:
            os._exit(9)
        done = call(*args, **given)
        if left[0] < 0:
            os._exit(9)
        return done

    monkeypatch.setattr(os, name, dying)


@pytest.mark.parametrize(("form", "before"), crossed(EXPORT_FORMS, {"before": True, "after": False}))
def test_killed_at_every_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, before: bool
) -> None:
    """Killed at one of the next files that it renames, again and again, until none is left."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(world, form, whole)

    def killed(at: int) -> None:
        dies_at(monkeypatch, "replace", at, before)
        run(world, form, out)

    deaths = 0
    while wait(in_child(partial(killed, 1 + deaths % 5))) == 9:
        deaths += 1
        assert not (out / "SHA256SUMS").exists() or files_of(out).items() >= files_of(whole).items()
    assert deaths > 2
    run(world, form, out)
    assert files_of(out) == files_of(whole)


def test_killed_while_it_tidies_up(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after SHA256SUMS is there: the next run removes what is left."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(world, "csv", whole)

    def killed() -> None:
        dies_at(monkeypatch, "rmdir", 0, True)
        run(world, "csv", out)

    for _ in range(2):
        assert wait(in_child(killed)) == 9
        assert (out / "SHA256SUMS").exists()
        assert (out / ".parts").exists()
    run(world, "csv", out)
    assert files_of(out) == files_of(whole)
    assert not (out / ".parts").exists()


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.sweep)])
@pytest.mark.parametrize("form", EXPORT_FORMS)
def test_a_signal_at_any_time(world: World, tmp_path: Path, form: str, times: int) -> None:
    """SIGKILL after some milliseconds, wherever the process is."""
    whole, out, rng = tmp_path / "whole", tmp_path / "out", random.Random(form)
    run(world, form, whole)
    for _ in range(times):
        child = in_child(partial(run, world, form, out))
        time.sleep(rng.uniform(0.0, 0.2))
        kill(child)
        os.waitpid(child, 0)
    run(world, form, out)
    assert files_of(out) == files_of(whole)


def test_finished_parts_are_not_read_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill only the rows of unfinished parts are read."""
    out, read = tmp_path / "out", []
    run(world, "webdataset", tmp_path / "whole")  # so that tables of the cache are not written below

    def killed() -> None:
        dies_at(monkeypatch, "replace", 4, True)
        run(world, "webdataset", out)

    assert wait(in_child(killed)) == 9
    finished = len(list((out / ".parts").glob("*.sums")))
    original = JoinedRows.read

    def noting(self: Any, split: str, parts: Any) -> Any:
        read.extend(parts)
        return original(self, split, parts)

    monkeypatch.setattr(JoinedRows, "read", noting)
    rows = run(world, "webdataset", out)
    assert finished == 1
    assert finished + len(read) == sum(-(-count // SIZE) for count in rows.values())


def test_a_picture_that_changed_between_two_runs_is_noticed(world: World, tmp_path: Path) -> None:
    """The plan names the inputs, so that no export is made of two."""
    out = tmp_path / "out"
    run(world, "csv", out)
    (out / "SHA256SUMS").unlink()
    picture = world.origin / world.rows(split="test")[0]["image_path"]
    status = picture.stat()
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    try:
        with pytest.raises(ConfigError, match="has another export: other rows, or an input that changed"):
            run(world, "csv", out)
    finally:
        os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_two_processes_at_a_time(world: World, tmp_path: Path) -> None:
    """The second waits, and finds it complete."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(world, "llava", whole)
    children = [in_child(partial(run, world, "llava", out)) for _ in range(3)]
    assert [wait(child) for child in children] == [0, 0, 0]
    assert files_of(out) == files_of(whole)
