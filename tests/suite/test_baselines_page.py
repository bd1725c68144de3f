"""docs/baselines.md: its commands and snippets run, and the baseline that it adds works on the learnable world."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from support.colours import write_colours
from support.command import run
from support.constants import change_constant
from support.reading import PACKAGE

import newsclippings
from _newsclippings.show.sample import write_sample
from _newsclippings.suite import BASELINES, benchmark

pytest.importorskip("sklearn")
PAGE = (PACKAGE / "docs" / "baselines.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- (.*?) -->\n)?```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def test_the_commands_and_snippets_run() -> None:
    """The page's snippets and commands run in order, in a folder with the sample at demo/data."""
    write_sample(Path("demo/data"))
    names: dict[str, Any] = {"newsclippings": newsclippings}
    ran = []
    for note, language, code in BLOCKS:
        if language == "python" and "sklearn" not in code:
            exec(code, names)
        elif language == "bash" and not note:
            for line in code.strip().splitlines():
                words = shlex.split(line, comments=True)
                done = run(*words[1:])
                assert done.exit_code == 0, done.output
                ran.append(words[1])
    assert ran == ["benchmark", "evaluate", "leaderboard"]


def test_commands_that_are_not_run_are_understood() -> None:
    """The other commands name baselines and options that exist."""
    lines = [line for note, language, code in BLOCKS if language == "bash" and note for line in code.splitlines()]
    for line in lines:
        words = shlex.split(line, comments=True)
        assert words[1] == "evaluate" or words[2] in BASELINES, line
        known = run(words[1], "--help").stdout
        assert all(word in known for word in words if word.startswith("--")), line


def test_the_baseline_that_the_page_adds_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's module is a whole baseline: it solves the learnable world, and is judged like the others."""
    change_constant(monkeypatch, "DRAWS", 200, of="intervals")
    (code,) = [code for _, language, code in BLOCKS if language == "python" and "sklearn" in code]
    names: dict[str, Any] = {}
    with monkeypatch.context() as without:  # the package is imported without the extra, too
        without.setitem(sys.modules, "sklearn", None)
        without.setitem(sys.modules, "sklearn.linear_model", None)
        exec(code, names)
    monkeypatch.setitem(BASELINES, "ridge", names["RIDGE"])
    places = write_colours(tmp_path, learnable=True, pairs={"train": 160, "val": 80, "test": 80})
    (line,) = benchmark("ridge", vectors=places, data_dir=tmp_path, out="out").lines
    assert line["value"] > 0.97
    assert line["verdict"].startswith("not compared: it was published on 7,264 rows")
