"""Copies of remote files that are kept: they are compared with checksums, and fetched again where they do not match."""

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from _newsclippings.disk import cache_told
from _newsclippings.errors import bad_file, without_secrets
from _newsclippings.files import LARGEST, fetch_into, fingerprint, hub_digests, write_atomically
from _newsclippings.network import is_url
from _newsclippings.proofs import file_sum, is_proved, write_proof


def local_copy(location: str, folder: Path, most: int = LARGEST) -> str:
    """A local path of a location: itself, or a copy of a URL, of `most` bytes, that is fetched once and kept."""
    if not is_url(location):
        return location
    key = hashlib.sha256(fingerprint(location).encode()).hexdigest()[:16]
    copy = folder / f"{key}-{without_secrets(location).rpartition('/')[2][-100:]}"
    proof = folder / f"{key}.proof"
    if not is_proved(proof, folder):
        with cache_told(folder):
            with write_atomically(copy) as temporary, open(temporary, "wb") as sink:
                fetch_into(location, sink, most)
            write_proof(proof, folder, [copy.name])
    return str(copy)


def proved_download(fetch: Callable[[str], str], location: str, folder: Path) -> str:
    """A local path of a URL that another library fetches, and keeps where it likes.

    The Hub's client names a file by its SHA-256, or by git's SHA-1, so that even what was damaged before is found.

    Args:
        fetch: URL -> path of a copy; fetches it if it is not there.
        location: the URL.
        folder: where proofs are kept.

    Raises:
        BadFileError: what was fetched is not what the Hub has, although it was fetched again.
    """
    refused = None
    for _ in range(2):
        path = fetch(location)
        file = Path(os.path.realpath(path))
        proof = folder / f"{hashlib.sha256(os.fsencode(file)).hexdigest()[:16]}.proof"
        if is_proved(proof, file.parent):
            return path
        right, checksum = _is_what_its_name_says(file), file_sum(file)
        if right is None:  # there is no digest to compare with: only with what it was when it was seen first
            right = refused is not None or not proof.exists()
        elif not right and len(file.name) == 40:  # mirrors have names of their own for what they give again and again
            right = checksum == refused
        if right:
            write_proof(proof, file.parent, [file.name])
            return path
        refused = checksum
        for damaged in (file, Path(path), proof):
            damaged.unlink(missing_ok=True)
    do = "It was damaged on its way: load again, or put a copy of the file below data_dir."
    raise bad_file(location, f"a file of the digest {file.name}", "another", do)


def _is_what_its_name_says(file: Path) -> bool | None:
    """Whether a file has the digest that is its name; None if its name is none."""
    return file.name in hub_digests(file) if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", file.name) else None
