"""Files of a folder that are sent elsewhere: plain ones, under plain names, opened without following a link.

A file is opened once, by names that are looked up one after the other from its folder on, and stays open: what is
checked, and what is read to be sent, is that very file, whatever is put in its place.
"""

import os
import re
import stat
from pathlib import Path

from _newsclippings.errors import BadFileError, DataNotFoundError, bad_file
from _newsclippings.storage.disk import changed_file, unreadable_file

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # NONBLOCK: opening a pipe would wait for a writer
OTHERS = 200  # files that the process may have open besides


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
        """A path to open this very file by, for those who take paths only; where there is none, its place."""
        own = f"/proc/self/fd/{self._descriptor}"
        return own if os.path.exists(own) else os.fspath(self.place)

    def read(self, most: int) -> bytes:
        """All of it.

        Raises:
            BadFileError: it has more bytes than `most`.
        """
        data, start = bytearray(), 0
        while block := os.pread(self._descriptor, min(1 << 20, most + 1 - start), start):
            data += block
            start += len(block)
            if start > most:
                raise bad_file(self.place, f"at most {most:,} bytes", f"{self.size:,}", "Is it another file?")
        return bytes(data)

    def check_unchanged(self) -> None:
        """Raise `BadFileError` if it was written to since it was opened, or is no longer what its path leads to."""
        now = os.fstat(self._descriptor)
        if _state(now) != _state(self._status) or _state(os.stat(self.path)) != _state(self._status):
            raise changed_file(self.place)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)


def allow_open_files(count: int) -> None:
    """Let the process have so many more files open, as far as the system lets it."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _state(status: os.stat_result) -> tuple[int, ...]:
    # Times of content can be set to anything; those of the inode cannot
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _open(folder: Path, name: str) -> int:
    """A descriptor of a file in a folder, or in a folder in it.

    Raises:
        BadFileError: it is a link, a pipe, a folder or a device, or behind a link; or the name is no plain one.
        DataNotFoundError: it is not there, or cannot be read.
    """
    place = folder / name
    *parents, last = name.split("/")
    if not all(_NAME.fullmatch(part) for part in (*parents, last)):
        raise bad_file(folder, "plain names of files", ascii(name)[:80])
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # what the user named may be a link
        for part in parents:
            descriptor = _inside(descriptor, part, os.O_DIRECTORY)
        descriptor = _inside(descriptor, last)
    except OSError as error:
        raise _refused(place, folder, parents, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_plain_file(place)
    return descriptor


def _inside(folder: int, name: str, flags: int = 0) -> int:
    """A descriptor of something in an open folder, which is closed."""
    try:
        return os.open(name, _FLAGS | flags, dir_fd=folder)
    finally:
        os.close(folder)


def _refused(place: Path, folder: Path, parents: list[str], error: OSError) -> BadFileError | DataNotFoundError:
    links = [folder.joinpath(*parents[:k]) for k in range(1, len(parents) + 1)]
    if any(link.is_symlink() for link in (*links, place)):
        return _no_plain_file(place)
    return unreadable_file(place, error)


def _no_plain_file(place: Path) -> BadFileError:
    do = "Only such files are sent: put a copy in its place, or remove it."
    return bad_file(place, "a plain file in its folder", "a link, a pipe, a folder or a device", do)
