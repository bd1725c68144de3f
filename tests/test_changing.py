"""Inputs that change while they are read: rows of one version or a clear error, and right rows afterwards."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from changing import CHANGES, CONTENTS, WAYS, make_case, moments, problem
from world import World

from _newsclippings.build import build_folder
from newsclippings import BadFileError, NewsCLIPpings


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", CONTENTS)
def test_an_input_that_changes(tmp_path: Path, what: str, how: str) -> None:
    """At its first, a middle and its last opening or reading; `python -m tests.soak` tries more."""
    if how == "parquet" and what == "embeddings" and int(pa.__version__.partition(".")[0]) < 26:
        pytest.skip("rows without a vector need pyarrow 26")
    case = make_case(tmp_path / "data", what)
    many = moments(case, tmp_path / "dry", how)
    for change in CHANGES:
        for moment in sorted({1, many // 2, many} | ({2, many - 1} if how != "parquet" else set())):
            place = tmp_path / f"{change} {moment}"
            assert problem(case, place, change, moment, how) is None, f"{change} at {moment} of {many}"


def test_a_folder_of_parquet_is_of_one_state_of_the_inputs(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file changes after it was read, nothing is put in its place, and nothing is left to go on from."""
    world = new_world(tar=False)
    join = NewsCLIPpings.join

    def change(self: NewsCLIPpings) -> Any:
        joined = join(self)
        os.utime(world.annotations("merged_balanced", "test"))
        return joined

    monkeypatch.setattr(NewsCLIPpings, "join", change)
    with pytest.raises(BadFileError, match="changed since it began"):
        build_folder(tmp_path / "out", ["merged_balanced"], data_dir=str(world.root))
    assert not (tmp_path / "out").exists()
