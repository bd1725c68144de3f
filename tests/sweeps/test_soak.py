"""A short run of the soak, and a check that it can fail."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.reading import PACKAGE

FAILS = """
import sys
sys.argv = ["soak", "--kills", "1", "--only", "killed"]
from tests.sweeps import soak
rows = soak.World.rows
soak.World.rows = lambda *args, **kwargs: rows(*args, **kwargs)[:-1]
soak.main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run([sys.executable, *arguments], cwd=PACKAGE, capture_output=True, text=True, env=env)


@pytest.mark.sweep
def test_a_short_soak() -> None:
    """Builds that were killed, concurrent or out of disk space never make a later load wrong."""
    done = run("-m", "tests.sweeps.soak", "--kills", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("|")[1:4] for line in done.stdout.splitlines()[2:]]
    assert [name.strip() for name, _, _ in rows] == [
        "killed, folder",
        "killed, tar",
        "killed, num_proc=2",
        "killed, parquet",
        "four at once, six others",
        "disk full, folder",
        "disk full, tar",
        "disk full, num_proc=2",
        "disk full, parquet",
        "disk full, vectors",
        "disk full, remote tar",
        "an input changed",
    ]
    assert {wrong.strip() for _, _, wrong in rows} == {"0"}


@pytest.mark.sweep
def test_wrong_rows_end_the_soak() -> None:
    """If the plan lacks one row, every round counts as wrong, and the exit code is 1."""
    done = run("-c", FAILS)
    assert done.returncode == 1
    assert "| killed, folder | 1 | 1 |" in done.stdout
