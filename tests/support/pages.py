"""Run the snippets of pages of the documentation in order, as a reader would.

As a program: `python -m support.pages PAGE...` in a folder with the sample at demo/data.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

FENCE = re.compile(
    r"(?:<!-- (?P<note>[^>]*) -->\n)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
PREPARING = (
    "make ",
    "python3 -m venv ",
    ".venv/bin/",
    "git ",
    "pip ",
    "docker ",
    "source ",
)  # lines that a test cannot run


class Block(NamedTuple):
    """A fenced block of a page, and the comment before it."""

    note: str
    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(match["note"] or "", match["language"], match["code"]) for match in found]


def is_run(block: Block) -> bool:
    """Whether a block is run here: it is unless its note says "not run: REASON" or "needs PACKAGE ..."."""
    if block.note.startswith("not run: "):
        return False
    if block.note.startswith("needs "):
        return all(importlib.util.find_spec(name) for name in block.note.split()[1:])
    return block.language in ("python", "bash")


def commands(code: str) -> list[str]:
    """Return the commands of a block of bash, each in one line, without those that prepare a machine."""
    lines = re.sub(r"\\\n\s*", "", code).splitlines()
    return [line for line in lines if line.strip() and not line.startswith(("#", *PREPARING))]


def run(page: Path) -> None:
    """Run all blocks of a page: those of Python share their variables, commands of this package run in this process."""
    from click.testing import CliRunner

    from _newsclippings.cli.commands import main

    names: dict[str, Any] = {"__name__": "__main__"}
    for block in filter(is_run, blocks(page)):
        if block.note == "in a new process":
            subprocess.run([sys.executable, "-c", block.code], check=True)
        elif block.language == "python":
            exec(compile(block.code, page.name, "exec"), names)
        else:
            for line in commands(block.code):
                words = shlex.split(line, comments=True)
                if words[0] != "newsclippings":
                    subprocess.run(["bash", "-euo", "pipefail", "-c", line], check=True)
                elif (result := CliRunner().invoke(main, words[1:])).exit_code:
                    sys.exit(f"{page.name}: {line}\n{result.output}")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
