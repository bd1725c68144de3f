"""What a disk refuses: room, the right to write, or to say what is on it. It is told in words of ours."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _newsclippings.errors import (
    NewsCLIPpingsError,
    became_full,
    in_the_way,
    is_full,
    no_locks,
    not_writable,
    printable,
    unreadable,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ELSEWHERE = "point cache_dir= or HF_DATASETS_CACHE to a larger disk"
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


# What is wrong, and what to do, by the system's number.
_WORDS = {
    errno.EEXIST: ("something is there already", "Remove it, or choose another name"),
    errno.ENOENT: ("there is no such file or folder", "Correct the path"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Choose a shorter one"),
    errno.ENOTDIR: ("something on the way to it is a file, and should be a folder", "Choose another name"),
    errno.EISDIR: ("a folder is there, and should be a file", "Choose another name"),
    errno.ENOTEMPTY: ("the folder there is not empty", "Remove it, or choose another name"),
    errno.EROFS: ("the disk is read-only", "Choose a place on another"),
    errno.EACCES: ("you may not do that there", "Give yourself the right to (chmod), or choose another place"),
    errno.EPERM: ("you may not do that there", "Give yourself the right to (chmod), or choose another place"),
    errno.ELOOP: ("links lead to each other in a circle", "Remove them, or choose another name"),
    errno.EMFILE: ("too many files are open", "Allow more (ulimit -n 4096), or use fewer workers"),
    errno.ENFILE: ("too many files are open on this machine", "Close other programs, or run it again later"),
    errno.ENOMEM: ("there is not enough memory", "Close other programs, or use a larger machine"),
    errno.EIO: ("the disk, or the network that it is on, failed", "Check it, and run it again"),
    errno.ESTALE: ("the server of that disk has lost it", "Mount it again, and run it again"),
    errno.ENXIO: ("a pipe or a device is there", "Choose another name"),
    errno.EBUSY: ("another program holds it", "Run it again when it is free"),
    errno.ETXTBSY: ("another program runs it", "Choose another name"),
    errno.ENOLCK: ("there are no locks on that file system", "Choose a place on another"),
    errno.EINVAL: ("the file system there cannot do that", "Choose a place on another, or another name"),
    errno.EILSEQ: ("the file system there cannot have such a name", "Choose another name"),
}
# With these a file system says that it has no such thing: of what only makes work safer or faster, that is no error.
_LACKING = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOTTY, errno.ENOLCK}


def in_our_words(error: OSError | MemoryError) -> str:
    """What the system refused, in a sentence: where, what is wrong, and what to do."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs, or use a larger machine."
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    place = " -> ".join(map(printable, names)) or "A file"
    if is_full(error):
        folder = os.path.dirname(os.path.abspath(names[-1])) if names else os.getcwd()
        return str(became_full(folder, None, free_at(folder), "choose a larger disk", error))
    if error.errno not in _WORDS:
        return f"{place}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    what, do = _WORDS[error.errno]
    return f"{place}: {what} ({error.strerror}). {do}."


def is_lacking(error: OSError) -> bool:
    """Whether an error says that a file system does not have what was asked of it."""
    return error.errno in _LACKING


@contextlib.contextmanager
def if_there_is() -> Iterator[None]:
    """Go on where a file system does not have what is asked of it."""
    try:
        yield
    except OSError as error:
        if not is_lacking(error):
            raise


def flush(descriptor: int) -> None:
    """Wait until a file or a folder is on the disk, where the file system can say that."""
    with if_there_is():
        os.fsync(descriptor)


def extend(descriptor: int, size: int) -> None:
    """Make a file larger, by a hole where the file system has such."""
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        if not is_lacking(error) and error.errno != errno.EPERM:
            raise
        os.pwrite(descriptor, b"\0", size - 1)


def flush_folder(folder: str | Path) -> None:
    """As `flush`; not every folder that may be written to may be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def free_at(folder: str | Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    place = Path(folder).absolute()
    return shutil.disk_usage(next(one for one in (place, *place.parents) if one.exists())).free


@contextlib.contextmanager
def full_disk_told(folder: str | Path, else_do: str = ELSEWHERE) -> Iterator[None]:
    """Raise `ConfigError` where there is no room for what is written to a folder, or something else in its place."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError):
            raise
        if error.errno in _IN_THE_WAY and error.filename is not None:
            raise in_the_way(error.filename, _WORDS[error.errno][0]) from error
        if not is_full(error):
            raise
        raise became_full(folder, None, free_at(folder), else_do, error) from error


@contextlib.contextmanager
def cache_told(folder: str | Path) -> Iterator[None]:
    """Say of which cache a lock could not be taken, and what to do, where `datasets` only names the lock.

    A lock is tried first: where there is none, older versions of `filelock` wait for ever, or know no better error.
    """
    try:
        with full_disk_told(folder):
            _try_lock(folder)
            yield
    except NotImplementedError as error:
        if "flock" not in str(error):
            raise
        raise no_locks(folder, OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))) from error
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError):
            raise
        if is_lacking(error) and error.filename is None:
            raise no_locks(folder, error) from error
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise not_writable(folder, error) from error


def _try_lock(folder: str | Path) -> None:
    """Raise `OSError` where a file in a folder cannot be locked, but for the lack that `filelock` itself notices."""
    if fcntl is None or "://" in str(folder):
        return
    place = Path(folder).absolute()
    place = next(one for one in (place, *place.parents) if one.is_dir())
    try:
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 # the write itself reports what stops this
    except OSError:
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise


def check_known(place: str) -> None:
    """Raise `DataNotFoundError` if the system does not say whether there is something: then there may be."""
    try:
        with contextlib.suppress(ValueError):  # a name that no file can have
            os.stat(place)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise unreadable(place, error) from error
