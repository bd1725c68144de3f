"""Files that others read, so that they can hold nothing but their content: checksums of them are kept beside.

A proof is a kept file that names files of one folder, with their sizes, checksums, and what the system said of them
when they were compared last.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xxhash

from _newsclippings.errors import ConfigError
from _newsclippings.storage.disk import report_full_disk
from _newsclippings.storage.kept import DamagedError, open_kept, write_kept

ALWAYS = 256 << 20  # bytes that are compared at each look; larger files only if the system says that they were touched
_BLOCK = 1 << 20

# Proof -> names and states that were found right by this process: those need not be compared again.
_PROVED: dict[Path, dict[str, str]] = {}


def write_proof(proof: Path, folder: Path, names: Iterable[str]) -> None:
    """Keep the checksums of some files of a folder."""
    _write(proof, {name: [*sum_file(folder / name), _state(folder / name)] for name in names})


def is_proved(proof: Path, folder: Path, only: str | None = None) -> bool:
    """Whether the files that a proof names are there, and hold what they held when it was written.

    All are compared, the smallest first, up to `ALWAYS` bytes together. A larger one is compared if its times are not
    those of the last look: it was written to, or copied.

    Args:
        proof: the proof; without it, or if it is damaged, nothing is proved.
        folder: where the files are.
        only: the one file that matters.
    """
    try:
        known = _read(proof)
        states = {name: _state(folder / name) for name in known}
    except (OSError, ValueError, DamagedError):
        _PROVED.pop(proof, None)
        return False
    if any(size != int(states[name].split()[0]) for name, (size, *_) in known.items()):
        return False  # at once: it may have terabytes
    if only is not None:
        return only in known and sum_file(folder / only) == tuple(known[only][:2])
    if _PROVED.get(proof) == states:
        return True
    read, changed = 0, False
    for name, (size, checksum, state) in sorted(known.items(), key=lambda item: item[1][0]):
        read += size
        changed |= state != states[name]
        if (read <= ALWAYS or state != states[name]) and sum_file(folder / name) != (size, checksum):
            return False
        known[name][2] = states[name]
    if changed:  # by somebody who copied or touched them: compared only once
        with contextlib.suppress(OSError, ConfigError):  # the disk is full, or read-only
            _write(proof, known)
    _PROVED[proof] = states
    return True


def _read(proof: Path) -> dict[str, list[Any]]:
    file = open_kept(proof, proof.name)
    if file is None:
        raise DamagedError(proof)
    file.check()
    known: dict[str, list[Any]] = json.loads(file.content.to_pybytes())
    return known


def _write(proof: Path, known: dict[str, list[Any]]) -> None:
    with report_full_disk(proof.parent), write_kept(proof, proof.name) as temporary:
        Path(temporary).write_bytes(json.dumps(known).encode())


def _state(path: Path) -> str:
    """What the system says of a file that is another after anything was written to it."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        message = f"{path} is no file"
        raise OSError(message)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def sum_file(path: Path) -> tuple[int, int]:
    """Size and checksum of a file; (-1, 0) if it cannot be read."""
    hashed, size, block = xxhash.xxh3_64(), 0, memoryview(bytearray(_BLOCK))
    try:
        with open(path, "rb", buffering=0) as file:
            while count := file.readinto(block):
                hashed.update(block[:count])
                size += count
    except OSError:
        return -1, 0
    return size, hashed.intdigest()
