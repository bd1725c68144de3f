"""Inputs that change while they are read: rows of one version or a clear error, and right rows afterwards."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from changing import CHANGES, CONTENTS, WAYS, make_case, moments, problem


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("what", CONTENTS)
def test_an_input_that_changes(tmp_path: Path, what: str, how: str) -> None:
    """At its first, a middle and its last opening or reading; `python -m tests.soak` tries more."""
    if how == "parquet" and what == "embeddings" and int(pa.__version__.partition(".")[0]) < 26:
        pytest.skip("rows without a vector need pyarrow 26")
    case = make_case(tmp_path / "data", what)
    many = moments(case, tmp_path / "dry", how)
    for change in CHANGES:
        for moment in sorted({1, 2, many // 2, many - 1, many}):
            place = tmp_path / f"{change} {moment}"
            assert problem(case, place, change, moment, how) is None, f"{change} at {moment} of {many}"
