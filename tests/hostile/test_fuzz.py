"""Inputs that fuzzing found no longer crash a reader, and valid files are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweeps import fuzz


@pytest.mark.parametrize("target", sorted(fuzz.TARGETS))
def test_seeds_and_findings(target: str, tmp_path: Path) -> None:
    """Valid files, truncated files, and inputs that once crashed a reader give rows or one of our errors."""
    found = [file.read_bytes() for file in sorted((fuzz.FINDINGS / target).glob("*"))]
    for data in [*fuzz.seeds(target), *found]:
        fuzz.read(target, data, tmp_path / "input")
        step = max(1, len(data) // 40)
        for end in range(0, len(data), step):
            fuzz.read(target, data[:end], tmp_path / "input")
