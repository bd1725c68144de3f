"""Open files that are uploaded: plain files with plain names, without following a link.

A file is opened once, folder by folder, and stays open, so the file that was checked is the one that is uploaded, even
if another is put in its place.
"""

import os
import re
import stat
from pathlib import Path

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.storage.space import changed_file, unreadable_file

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: opening a pipe would wait for a writer
OTHERS = 200  # further files that the process may have open


class PlainFile:
    """A plain file of a folder, open until `close`.

    Attributes:
        place: its path, for errors.
        size: in bytes.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.place = folder / name
        self._descriptor = _open(folder, name)
        self._status = os.fstat(self._descriptor)
        self.size = self._status.st_size

    @property
    def path(self) -> str:
        """A path that opens this very file, for libraries that take only paths; its place if there is none."""
        own = f"/proc/self/fd/{self._descriptor}"
        return own if os.path.exists(own) else os.fspath(self.place)

    def read(self, most: int) -> bytes:
        """Read the whole file.

        Raises:
            BadFileError: it has more than `most` bytes.
        """
        data, start = bytearray(), 0
        while block := os.pread(self._descriptor, min(1 << 20, most + 1 - start), start):
            data += block
            start += len(block)
            if start > most:
                raise bad_file(self.place, f"at most {most:,} bytes", f"{self.size:,}", "Is it another file?")
        return bytes(data)

    def check_unchanged(self) -> None:
        """Raise `BadFileError` if it was written to since it was opened, or its path now leads to another file."""
        now = os.fstat(self._descriptor)
        if _state(now) != _state(self._status) or _state(os.stat(self.path)) != _state(self._status):
            raise changed_file(self.place)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def allow_open_files(count: int) -> None:
    """Allow the process to open this many further files, as far as the system's limit permits."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _state(status: os.stat_result) -> tuple[int, ...]:
    # Anyone can set the time of modification, but not the time of the last change (ctime).
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open(folder: Path, name: str) -> int:
    """Open a file below a folder and return its descriptor.

    Raises:
        BadFileError: it is a link, a pipe, a folder or a device, or reached through a link; or its name is not plain.
        DataNotFoundError: it does not exist, or cannot be read.
    """
    place = folder / name
    *parents, last = name.split("/")
    if not all(_NAME.fullmatch(part) for part in (*parents, last)):
        raise bad_file(folder, "plain names of files", ascii(name)[:80])
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # the user's folder may be a link
        for part in parents:
            descriptor = _open_inside(descriptor, part, os.O_DIRECTORY)
        descriptor = _open_inside(descriptor, last)
    except OSError as error:
        links = [folder.joinpath(*parents[:k]) for k in range(1, len(parents) + 1)]
        is_link = any(link.is_symlink() for link in (*links, place))
        raise (_no_plain_file(place) if is_link else unreadable_file(place, error)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_plain_file(place)
    return descriptor


def _open_inside(folder: int, name: str, flags: int = 0) -> int:
    """Open something in an open folder; close the folder."""
    try:
        return os.open(name, _FLAGS | flags, dir_fd=folder)
    finally:
        os.close(folder)


def _no_plain_file(place: Path) -> BadFileError:
    what = "is a link, a pipe, a folder or a device, or behind a link"
    return BadFileError(f"{place} {what}. Only plain files are uploaded: put a copy in its place, or remove it.")
