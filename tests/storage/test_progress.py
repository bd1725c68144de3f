"""Progress bars: in notebooks and on terminals, and nowhere else; never a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.reading import environment

BARS = """
import sys, types, warnings
warnings.simplefilter("error")
{before}
from _newsclippings.storage import hide_progress, progress_bar, shows_progress
with progress_bar(total=2, desc="Working") as bar:
    bar.update(2)
    assert shows_progress() is not bar.disable
with hide_progress(), progress_bar(total=2, desc="Hidden") as bar:
    assert bar.disable and not shows_progress()
with progress_bar(True, total=2, desc="Hidden") as bar:
    assert bar.disable
"""
NOTEBOOK = """
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
sys.modules["ipywidgets"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ipywidgets" else find(name, *rest)
"""
TERMINAL = "sys.stderr.isatty = lambda: True"
SHELL = 'sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: None)'


@pytest.mark.parametrize(
    ("before", "shown"),
    [("", False), (SHELL, False), (TERMINAL, True), (NOTEBOOK, True)],
    ids=["piped", "IPython is imported", "terminal", "notebook without ipywidgets"],
)
def test_where_a_bar_is_shown(tmp_path: Path, before: str, shown: bool) -> None:
    """A bar is shown on a terminal and in a notebook, as text without ipywidgets; a pipe gets nothing."""
    env = {name: value for name, value in environment(tmp_path).items() if not name.startswith("TQDM_")}
    done = subprocess.run([sys.executable, "-c", BARS.format(before=before)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert ("Working" in done.stderr) == shown
    assert "Hidden" not in done.stderr
    assert "Warning" not in done.stderr
