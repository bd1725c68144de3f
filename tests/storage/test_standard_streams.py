"""Standard streams that are closed, full or broken pipes: exit code 1, one line, and complete files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.reading import environment
from support.world import World

from newsclippings import verify_built

pytestmark = pytest.mark.sweep

NEWSCLIPPINGS = [sys.executable, "-W", "ignore", "-m", "newsclippings"]
NOT_PRINTED = "Error: The result could not be written to standard output"
COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "info": ["info"],
    "dataset-infos": ["dataset-infos", "infos.json"],
    "sample": ["sample", "sample"],
}


def shell(arguments: list[str], streams: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with streams redirected by a shell."""
    script = f'exec "$@" {streams}'
    command = ["sh", "-c", script, "sh", *NEWSCLIPPINGS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "hf"), cwd=tmp_path)


@pytest.mark.parametrize("streams", [">&-", "> /dev/full"])
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_result_that_cannot_be_printed(tmp_path: Path, command: str, streams: str) -> None:
    """If the result cannot be printed, the exit code is 1, stderr has one line, and output files are complete."""
    done = shell(COMMANDS[command], streams, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(NOT_PRINTED)
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "infos.json").exists() == (command == "dataset-infos")
    assert (tmp_path / "sample" / "SOURCES.md").exists() == (command == "sample")


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2> /dev/full", "> /dev/full 2> /dev/full"])
def test_closed_streams_do_not_end_up_in_files(world: World, tmp_path: Path, streams: str) -> None:
    """With closed or full streams `build` writes a sound folder, and prints into none of its files."""
    out = tmp_path / "out"
    done = shell(["build", str(out), "--data-dir", str(world.root), "--split", "test"], streams, tmp_path)
    assert done.returncode == (1 if streams.startswith((">", "<")) else 0)
    assert done.stderr == ""
    assert verify_built(out).sound


@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full"])
def test_an_error_that_cannot_be_printed(tmp_path: Path, streams: str) -> None:
    """If the error cannot be printed, the exit code still shows it."""
    done = shell(["preview", "--data-dir", "nowhere"], streams, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("arguments", [["--nope"], ["nope"], ["index"], ["preview", "--pairs", "0"]])
@pytest.mark.parametrize("streams", ["2>&-", "2> /dev/full", "> /dev/full 2> /dev/full"])
def test_a_mistake_in_the_command_line_that_cannot_be_printed(
    tmp_path: Path, streams: str, arguments: list[str]
) -> None:
    """A usage error that cannot be printed still has the exit code of usage errors."""
    assert shell(arguments, streams, tmp_path).returncode == 2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_broken_pipe(tmp_path: Path, stream: str) -> None:
    """A broken pipe ends the command silently, with exit code 1."""
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["info"] if stream == "stdout" else ["preview", "--data-dir", "nowhere"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    done = subprocess.run([*NEWSCLIPPINGS, *arguments], env=environment(tmp_path / "hf"), **pipes)
    os.close(writing)
    assert done.returncode == 1
    assert not done.stdout
    assert not done.stderr
