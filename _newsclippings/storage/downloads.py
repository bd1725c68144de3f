"""Copies of remote files that are kept: they are compared with checksums, and fetched again where they do not match."""

import hashlib
import os
from pathlib import Path

from _newsclippings.storage.disk import report_cache_errors
from _newsclippings.storage.files import LARGEST, fetch_into, identify, write_atomically
from _newsclippings.storage.network import is_url
from _newsclippings.storage.proofs import is_proved, write_proof
from _newsclippings.text import without_secrets


def cache_folder() -> Path:
    """Where `datasets` keeps what it makes: ours is in a folder of it."""
    caches = os.environ.get("XDG_CACHE_HOME", os.path.join("~", ".cache"))
    home = os.environ.get("HF_HOME", os.path.join(caches, "huggingface"))
    return Path(os.path.expanduser(os.environ.get("HF_DATASETS_CACHE", os.path.join(home, "datasets"))))


def local_copy(location: str, folder: Path, most: int = LARGEST) -> str:
    """A local path of a location: itself, or a copy of a URL, of `most` bytes, that is fetched once and kept."""
    if not is_url(location):
        return location
    key = hashlib.sha256(identify(location).encode()).hexdigest()[:16]
    copy = folder / f"{key}-{without_secrets(location).rpartition('/')[2][-100:]}"
    proof = folder / f"{key}.proof"
    if not is_proved(proof, folder):
        with report_cache_errors(folder):
            with write_atomically(copy) as temporary, open(temporary, "wb") as sink:
                fetch_into(location, sink, most)
            write_proof(proof, folder, [copy.name])
    return str(copy)
