"""The notebooks run, and what is shown in them is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.notebooks import NOTEBOOKS, execute
from support.reading import TESTS

pytest.importorskip("nbclient", reason="make docs installs it")
pytest.importorskip("ipykernel", reason="make docs installs it")


def list_kinds(outputs: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What kinds of results a cell has; logs and progress bars differ each time."""
    return [(each["output_type"], *sorted(each.get("data", ()))) for each in outputs if each.get("name") != "stderr"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each notebook runs from top to bottom in an empty folder, and gives the kinds of results that it shows."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS.parent))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    shown = json.loads(path.read_text(encoding="utf-8"))
    made = execute(path, tmp_path)
    for before, after in zip(shown["cells"], made.cells, strict=True):
        if before["cell_type"] == "code":
            shown_kinds, made_kinds = list_kinds(before["outputs"]), list_kinds(after.outputs)
            assert shown_kinds == made_kinds, f"run `python -m tests.support.notebooks`: {''.join(before['source'])}"
