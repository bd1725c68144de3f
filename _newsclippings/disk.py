"""What a disk refuses: room, the right to write, or to say what is on it. It is told in words of ours."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from _newsclippings.errors import NewsCLIPpingsError, became_full, is_full, not_writable, unreadable

ELSEWHERE = "point cache_dir= or HF_DATASETS_CACHE to a larger disk"
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def free_at(folder: str | Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    place = Path(folder).absolute()
    return shutil.disk_usage(next(one for one in (place, *place.parents) if one.exists())).free


@contextlib.contextmanager
def full_disk_told(folder: str | Path, else_do: str = ELSEWHERE) -> Iterator[None]:
    """Raise `ConfigError` where the system says that there is no room for what is written to a folder."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError) or not is_full(error):
            raise
        raise became_full(folder, None, free_at(folder), else_do) from error


@contextlib.contextmanager
def cache_told(folder: str | Path) -> Iterator[None]:
    """Say of which cache a lock could not be taken, and what to do, where `datasets` only names the lock."""
    try:
        with full_disk_told(folder):
            yield
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError) or error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise not_writable(folder, error) from error


def check_known(place: str) -> None:
    """Raise `DataNotFoundError` if the system does not say whether there is something: then there may be."""
    try:
        with contextlib.suppress(ValueError):  # a name that no file can have
            os.stat(place)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise unreadable(place, error) from error
