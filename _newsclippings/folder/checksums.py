"""SHA256SUMS of a folder that `newsclippings build` wrote: `sha256sum --check SHA256SUMS` needs no package at all."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.folder.manifest_rules import AGAIN
from _newsclippings.folder.parquet import MANIFEST
from _newsclippings.storage import read_file

SUMS = "SHA256SUMS"
LARGEST_BESIDE = 32 << 20  # bytes of a file beside the shards, this one among them
_LINE = re.compile(r"[0-9a-f]{64}  ")


def other_content(file: object, expected: str, found: str, do: str = AGAIN) -> BadFileError:
    """The error of a file of a built folder with another SHA-256 than was written down."""
    return BadFileError(f"{file}: its content changed: expected the SHA-256 {expected}, found {found}. {do}")


def sums_text(folder: Path, built: Mapping[str, Any], texts: Mapping[str, str], others: Iterable[Path]) -> str:
    """What the file says: a line per file, by name. Shards are as their manifests say, and not read again.

    Args:
        folder: the folder.
        built: config -> its manifest.
        texts: name -> text of files that are written together with this one.
        others: files to read.
    """
    sums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
    for config, manifest in built.items():
        sums |= {f"{config}/{name}": about["sha256"] for name, about in manifest["files"].items()}
        sums[f"{config}/{MANIFEST}"] = sha256_of_small(folder / config / MANIFEST)
    sums |= {file.relative_to(folder).as_posix(): sha256_of_small(file) for file in others}
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def sha256_of_small(file: Path) -> str:
    """SHA-256 of a file that is none of the shards.

    Raises:
        BadFileError: it is larger than those are.
    """
    return hashlib.sha256(read_file(file, LARGEST_BESIDE)).hexdigest()


def read_sums(folder: Path) -> dict[str, str]:
    """Name -> SHA-256, as the file says; empty where there is none.

    Raises:
        BadFileError: it is no such file.
    """
    try:
        lines = read_file(folder / SUMS, LARGEST_BESIDE).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    if odd := [line for line in lines if not _LINE.match(line)]:
        raise bad_file(folder / SUMS, "lines of a SHA-256 and a name", repr(odd[0])[:80], "Build the folder again.")
    return {line[66:]: line[:64] for line in lines}
