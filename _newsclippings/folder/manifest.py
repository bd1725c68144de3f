"""What `newsclippings build` wrote into a folder, by the manifests of its configs."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from _newsclippings.errors import NewsCLIPpingsError, bad_file
from _newsclippings.facts import CONFIGS, UNIQUE
from _newsclippings.folder.manifest_rules import AGAIN
from _newsclippings.folder.parquet import MANIFEST, read_manifest

Manifests = dict[str, dict[str, Any]]
# What readers of files raise where those hold something else
ODD = (
    AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, MemoryError, pa.ArrowException
)  # fmt: skip


@contextlib.contextmanager
def as_expected(place: Path) -> Iterator[None]:
    """Tell of files that hold something else than `build` wrote: JSON of another shape, Parquet of other columns."""
    try:
        yield
    except NewsCLIPpingsError:
        raise
    except ODD as error:
        found = f"something else ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        raise bad_file(place, "what `newsclippings build` writes", found, AGAIN) from error


def shows_pictures(built: Manifests) -> bool:
    """Whether any config has pictures in its rows."""
    return any("image" in manifest.get("features", ()) for manifest in built.values())


def manifests(folder: Path) -> Manifests:
    """Config -> its manifest, of a folder that `newsclippings build` wrote.

    Raises:
        BadFileError: the folder has no config with a manifest, or one with a manifest that `build` did not write.
    """
    there = [config for config in (*CONFIGS, UNIQUE) if os.path.lexists(folder / config / MANIFEST)]
    if not there:
        expected = "a folder that `newsclippings build` wrote"
        raise bad_file(folder, expected, "none of the configs with its manifest.json")
    return {config: read_manifest(folder / config) for config in there}


def version(built: Manifests) -> str:
    """The version of the data: of its configs, the latest."""
    return max((str(one["version"]) for one in built.values()), key=lambda text: [*map(int, text.split("."))])


def require_pictures(folder: Path, built: Manifests) -> None:
    """Raise `BadFileError` if pictures of a config should be in the config `images`, and that is not there."""
    thin = [config for config, manifest in built.items() if manifest.get("layout") == "once"]
    if thin and UNIQUE not in built:
        expected = f"the config {UNIQUE}, which has the pictures of {', '.join(thin)}"
        raise bad_file(folder / UNIQUE, expected, "none", "Run the same `newsclippings build` again.")
