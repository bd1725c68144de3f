"""Inputs are found once for each load or build, and each file is looked at only before and after it is used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command import run
from support.reading import load
from support.world import SPLITS, World

from _newsclippings import inputs
from _newsclippings.builder import config
from _newsclippings.folder import build
from _newsclippings.rows import joiner
from _newsclippings.storage import NO_ACCESS, Access, stamp
from _newsclippings.tar import archive

FIND = "find_inputs"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of `find_inputs`, and of `stamp` by the last two parts of the location."""
    counts: Counter[str] = Counter()
    find_inputs = inputs.find_inputs

    def find(*args: Any, **more: Any) -> Any:
        counts[FIND] += 1
        return find_inputs(*args, **more)

    def stamp_counted(location: str, access: Access = NO_ACCESS) -> str:
        counts[os.path.relpath(location, os.path.dirname(os.path.dirname(location)))] += 1
        return stamp(location, access)

    for module in (inputs, config, build, joiner):
        monkeypatch.setattr(module, FIND, find)
    for place in (inputs, archive):
        monkeypatch.setattr(place, "stamp", stamp_counted)
    return counts


LAYOUTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a folder": ({"tar": False}, ["origin/data.json", "visual_news/origin"]),
    "a tar": ({"folder": False}, ["metadata/train.json", "metadata/val.json", "metadata/test.json"]),
}
MATCHES = ["merged_balanced/train.json", "merged_balanced/val.json", "merged_balanced/test.json"]
TAR = "visual_news/origin.tar"


def expected(layout: str, times: int, folder: int, tar: int) -> Counter[str]:
    """Return the counts if each file is stamped `times` times, and the folder or the tar of pictures as given."""
    counts = Counter({FIND: 1, **dict.fromkeys([*MATCHES, *LAYOUTS[layout][1]], times)})
    counts["visual_news/origin" if layout == "a folder" else TAR] = folder if layout == "a folder" else tar
    return counts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_load_finds_its_inputs_once(new_world: Callable[..., World], calls: Counter[str], layout: str) -> None:
    """Each file is stamped before it is read, after it is read into a kept table or index, and after the build."""
    world = new_world(**LAYOUTS[layout][0])
    load(world)
    assert calls == expected(layout, 3, folder=2, tar=4)  # an index and the records are kept of a tar
    calls.clear()
    load(world)
    assert calls == expected(layout, 1, folder=0, tar=1)
    calls.clear()
    stream = load(world, streaming=True)
    assert {split: len(list(stream[split])) for split in SPLITS} == {s: len(world.rows(split=s)) for s in SPLITS}
    assert calls == expected(layout, 1, folder=0, tar=1)
    calls.clear()
    load(world, download_mode="force_redownload")  # from the kept tables
    assert calls == expected(layout, 2, folder=2, tar=2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_command_finds_its_inputs_once(
    new_world: Callable[..., World], calls: Counter[str], tmp_path: Path, layout: str
) -> None:
    """`newsclippings build` does the same; if nothing has to be written, it stamps each file only once."""
    world = new_world(**LAYOUTS[layout][0])
    for out, times, folder, tar in (("first", 3, 2, 4), ("first", 1, 0, 1), ("second", 2, 2, 2)):
        calls.clear()
        assert run("build", tmp_path / out, "--data-dir", world.root).exit_code == 0
        assert calls == expected(layout, times, folder, tar)
