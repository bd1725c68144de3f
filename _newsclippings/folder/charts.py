"""The charts beside the configs of a folder that `newsclippings build` wrote: those that are of what is in it now."""

import json
import re
from pathlib import Path

from _newsclippings.facts import CONFIGS, UNIQUE
from _newsclippings.folder.checksums import LARGEST_BESIDE, sha256_of_small
from _newsclippings.folder.parquet import MANIFEST
from _newsclippings.storage import read_file

FOLDER = "charts"  # in the folder: what `newsclippings stats` writes there, the card shows
NUMBERS = "stats.json"
_CHART = re.compile(rf"{FOLDER}/({'|'.join((*CONFIGS, UNIQUE))})-[a-z-]{{1,40}}\.png")


def digests_of_manifests(folder: Path) -> dict[str, str]:
    """Config -> SHA-256 of its manifest, of the configs in a folder."""
    files = {config: folder / config / MANIFEST for config in (*CONFIGS, UNIQUE)}
    return {config: sha256_of_small(file) for config, file in files.items() if file.is_file()}


def current_charts(folder: Path) -> list[Path]:
    """The numbers and the charts of what is in a folder; empty where none are, or of other rows."""
    numbers = folder / FOLDER / NUMBERS
    try:
        measured = json.loads(read_file(numbers, LARGEST_BESIDE))["manifests"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    if measured != digests_of_manifests(folder):
        return []
    return [
        numbers,
        *(file for config in measured for file in sorted(numbers.parent.glob(f"{config}-*.png")) if _is_ours(file)),
    ]


def is_chart(name: str) -> bool:
    """Whether a name is one of what `newsclippings stats` writes, relative to the folder of the configs."""
    return name == f"{FOLDER}/{NUMBERS}" or _CHART.fullmatch(name) is not None


def _is_ours(file: Path) -> bool:
    return is_chart(f"{FOLDER}/{file.name}") and file.is_file()
