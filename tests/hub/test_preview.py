"""`newsclippings preview --built hf://...` shows a repository that `push` filled, and reads only what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.folders import build
from support.publishing import REPO, Hub, checked, used
from support.world import World

COMMAND = "import os\nos.chdir(sys.argv.pop(1))\nfrom _newsclippings.cli import main\nmain(sys.argv[1:])"


@pytest.fixture
def hub(running_hub: Hub) -> Iterator[Hub]:
    yield from used(running_hub)


def test_a_repository(world: World, hub: Hub, tmp_path: Path) -> None:
    """The page of a repository is that of the folder that was pushed; nothing is written beside it."""
    folder = tmp_path / "built"
    build(world, folder)
    hub.push(folder, "--with-images", "--i-have-the-rights")
    pages, cwd = [], tmp_path / "cwd"
    for k, place in enumerate((str(folder), f"hf://datasets/{REPO}")):
        args = ["preview", "--built", place, "--html", f"{k}.html", "--split", "test", "--format", "json"]
        done = checked(hub.run(COMMAND, str(cwd), *args), 0)
        assert json.loads(done.out) == {"file": f"{k}.html", "pairs": 6}
        text = (cwd / f"{k}.html").read_text(encoding="utf-8").split('id="data">')[1]
        pages.append(json.loads(re.split("</script", text)[0]))
    assert pages[0] == pages[1]
    assert {isinstance(row["picture"], int) for pair in pages[1]["pairs"] for row in pair["rows"]} == {True}
    assert {path.name for path in cwd.iterdir()} == {"0.html", "1.html"}


def test_a_repository_that_is_not_there(hub: Hub) -> None:
    """One line says so."""
    done = checked(hub.run(COMMAND, ".", "preview", "--built", "hf://datasets/me/none", "--html", "x.html"), 1)
    assert done.err.count("\n") == 1
    assert "hf://datasets/me/none" in done.err
