"""Obstacles: disks that are too small, folders that nobody may write to, files that may not be read.

A small disk is a real one: a tmpfs, where this process may mount one.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DAC = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what makes root read everything
PAGE = 4096  # bytes; a tmpfs of size 0 has no limit


def _mount(*arguments: object) -> bool:
    try:
        return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount an empty disk of some bytes at a folder for the block; unmount it even if files are still open."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _mount("-t", "tmpfs", "-o", f"size={max(size, PAGE)}", "none", folder):
        message = f"{folder}: no tmpfs can be mounted"
        raise OSError(message)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_room(folder: Path, size: int = 64 << 20) -> None:
    """Make a small disk larger."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only for everybody, also for root."""
    if not may_mount():  # then this process is not root, and permissions are enough
        modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
        for path in reversed(modes):
            path.chmod(modes[path] & ~0o222)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@functools.cache
def may_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder:
        if not _mount("-t", "tmpfs", "-o", f"size={PAGE}", "none", folder):
            return False
        return subprocess.run(["umount", folder], capture_output=True).returncode == 0


def used(folder: Path) -> int:
    """Bytes used on the disk of a folder."""
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextmanager
def as_anybody() -> Iterator[None]:
    """Apply file permissions to this thread even if it runs as root."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()

    def call(name: str) -> None:
        if getattr(libc, name)(header, sets):
            raise OSError(ctypes.get_errno(), name)

    call("capget")
    effective = sets[0]
    sets[0] = effective & ~DAC
    call("capset")
    try:
        yield
    finally:
        sets[0] = effective
        call("capset")
