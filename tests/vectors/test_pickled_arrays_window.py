"""Pickles are read window by window, wherever a window ends, also if the file changes."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.constants import change_constant
from support.pickles import Value, append, dump, mutants, numbers, read, touch, truncate, values
from support.reading import environment

from _newsclippings.vectors.pickled_arrays import PickledArrays
from newsclippings import BadFileError, BadPickleError


@pytest.fixture
def mapping() -> dict[Any, Value]:
    """Entries of most kinds, in runs and single."""
    made: dict[Any, Value] = {70_000 + k: numbers("f4", (70,), k) for k in range(40)}
    made |= {300: None, 301: numbers("f8", (2, 9), 1), 302: numbers("i2", (9, 9), 2)}
    made |= {80_000 + k: numbers("f4", (k % 3, 70), k) for k in range(20)} | {5: numbers("u1", (900,), 3)}
    return made | {90_000 + k: pickle.loads(pickle.dumps(made[70_000 + k])) for k in range(9)}


def told(path: Path) -> object:
    """Return what is read from a file, or the error."""
    try:
        with read(path) as entries:
            return entries.ids.tolist(), entries.offsets.tolist(), repr(values(entries))
    except BadPickleError as error:
        return str(error)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.sweep
def test_a_window_may_end_anywhere(
    tmp_path: Path, mapping: dict[Any, Value], protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any window size a file is read, or refused with the same message, as with one window for all of it."""
    path, sound = tmp_path / "x.pkl", dump(mapping, protocol)
    for k, data in enumerate([*[sound] * 25, *mutants([sound], 40)]):
        path.write_bytes(data)
        whole = told(path)
        with monkeypatch.context() as patch:
            change_constant(patch, "WINDOW", 1500 + 271 * k)
            assert told(path) == whole, k


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "x.pkl"
    path.write_bytes(dump({k: numbers("f4", (16,), k) for k in range(1500)}, 4))
    return path


@pytest.mark.parametrize("change", [append, truncate, touch, Path.write_bytes])
@pytest.mark.parametrize("when", [1, 4, 6])
def test_a_file_that_changes_between_two_windows(
    file: Path, change: Callable[..., object], when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change between two windows is an error that says so; neither the rows nor another error are reported."""
    skip, calls = PickledArrays._skip_known_entries, []

    def changing(reader: PickledArrays) -> bool:
        calls.append(reader._at)
        if len(calls) == when:
            change(file, *([b"x" * 400_000] if change is Path.write_bytes else []))
        return skip(reader)

    monkeypatch.setattr(PickledArrays, "_skip_known_entries", changing)
    change_constant(monkeypatch, "WINDOW", 1 << 14)
    with pytest.raises(BadFileError, match="the file changed while it was read"):
        read(file)
    assert len(calls) >= when


READ = """
import json, sys, time, zlib
from newsclippings import BadFileError, read_embeddings
path, seconds = sys.argv[1], float(sys.argv[2])
found, began = {}, time.monotonic()
while time.monotonic() < began + (seconds if len(found) > 2 else 60):  # a slow machine is seldom quick enough
    try:
        ids, vectors = read_embeddings(path)
        told = str(zlib.crc32(vectors, zlib.crc32(ids)))
    except BadFileError as error:
        told = "changed" if "the file changed while it was read" in str(error) else "refused"
    found[told] = found.get(told, 0) + 1
print(json.dumps(found))
"""


def test_a_file_that_changes_all_the_time(tmp_path: Path) -> None:
    """The reader survives, and gives the right vectors or an error each time."""
    rng, path = random.Random(3), tmp_path / "x.pkl"
    vectors = np.random.default_rng(3).standard_normal((1000, 512), np.float32)
    data = dump(dict(enumerate(vectors)), 4)
    path.write_bytes(data)
    command = [sys.executable, "-c", READ, str(path), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path)) as reader:
        while reader.poll() is None:
            time.sleep(rng.choice((0.001, 0.005, 0.05)))
            os.truncate(path, rng.randrange(len(data)))
            time.sleep(rng.choice((0, 0, 0.002)))
            if rng.random() < 0.5:
                path.write_bytes(data)
            else:
                with path.open("ab") as stream:  # never a hole, so that a file of full length is right
                    stream.write(data[stream.tell() :] + b"x")
                os.truncate(path, len(data))
        assert reader.stdout is not None
        found = reader.stdout.read()
    assert reader.returncode == 0  # below 0: a signal
    right = str(zlib.crc32(vectors.tobytes(), zlib.crc32(np.arange(1000).tobytes())))
    assert set(json.loads(found)) == {right, "changed", "refused"}
