"""Read what was built, in this process or in a child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets

import newsclippings
from support.world import SPLITS, Row, World

TESTS = Path(__file__).parent.parent
PACKAGE = Path(newsclippings.__file__).parent


def load(world: World, config: str | None = "merged_balanced", **kwargs: Any) -> Any:
    """`load_dataset("newsclippings", config, data_dir=...)` on a world."""
    return datasets.load_dataset("newsclippings", config, data_dir=str(world.root), **kwargs)


def raw(data: Any) -> list[Row]:
    """The rows of one split, map-style or streamed, with pictures as stored bytes."""
    if "image" in (data.features or {}):
        data = data.cast_column("image", datasets.Image(decode=False))
    return list(data)


def raw_splits(data: Any) -> dict[str, list[Row]]:
    return {split: raw(data[split]) for split in data}


def expected_splits(world: World, config: str = "merged_balanced", **kwargs: Any) -> dict[str, list[Row]]:
    return {split: world.rows(config, split, **kwargs) for split in SPLITS}


def raw_length(data: Any) -> int:
    """Count streamed rows. Importable, so that a spawned worker can call it."""
    return len(raw(data))


def jsonable(value: Any) -> Any:
    """Rows as a child process returns them: bytes as hex."""
    return json.loads(json.dumps(value, default=lambda data: data.hex()))


def environment(home: Path, **extra: str) -> dict[str, str]:
    """The environment of a child: this package, these helpers, none of the user's caches or settings.

    USE_TORCH=0 because `datasets` imports torch for every stream, which takes longer than all else a child does.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "NEWSCLIPPINGS_", "PYTHON", "XDG_"))}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "HF_UPDATE_DOWNLOAD_COUNTS": "0"}
    quiet |= {"USE_TORCH": "0", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    path = os.pathsep.join([str(PACKAGE), str(TESTS)])
    own = {"HF_HOME": str(home), "XDG_CACHE_HOME": str(home / "xdg"), "PYTHONPATH": path, "PYTHONUTF8": "1"}
    return {**kept, **quiet, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1", **own, **extra}


PRELUDE = """
import json, newsclippings, sys
from datasets import load_dataset
from support.reading import raw, raw_splits
def say(value): print("\\n#" + json.dumps(value, default=lambda data: data.hex()))
"""


def start(code: str, cwd: Path, env: dict[str, str], *args: str) -> subprocess.Popen[str]:
    """Start a child that runs `code` after PRELUDE; `answer` returns what it `say`s."""
    cwd.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", PRELUDE + code, *args]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True, encoding="utf-8")


def answer(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, f"child exited {process.returncode}\n{out}\n{err}"
    return json.loads([line for line in out.splitlines() if line.startswith("#")][-1][1:])
