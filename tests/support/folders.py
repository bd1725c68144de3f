"""Make folders with `newsclippings build`, and read what is in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from support.command import run
from support.world import CONFIGS, World

ALL = [argument for config in CONFIGS for argument in ("--config", config)]
TWO = ["--config", "merged_balanced", "--config", "scene_resnet_place"]


def build(world: World, out: Path | str, *args: object) -> dict[str, Any]:
    result = run("build", out, "--data-dir", world.root, "--format", "json", *args)
    assert result.exit_code == 0, result.output
    reports: dict[str, Any] = json.loads(result.stdout)["reports"]
    return reports


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the SHA-256 of its bytes."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found
