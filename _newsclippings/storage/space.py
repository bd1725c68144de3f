"""Disk space, and errors of the disk (full, read-only, unreadable, without locks) as this package's errors."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError, NewsCLIPpingsError, NoSpaceError
from _newsclippings.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

MOVE_CACHE = "point cache_dir= or HF_DATASETS_CACHE to a larger disk"
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY)
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


# Number of a system error -> what is wrong, and what to do.
_CASES = {
    errno.EEXIST: ("it exists already", "Remove it, or choose another name"),
    errno.ENOENT: ("there is no such file or folder", "Correct the path"),
    errno.ENAMETOOLONG: ("the name is too long for the file system", "Choose a shorter one"),
    errno.ENOTDIR: ("part of its path is a file, and should be a folder", "Choose another name"),
    errno.EISDIR: ("it is a folder, and should be a file", "Choose another name"),
    errno.ENOTEMPTY: ("the folder is not empty", "Remove it, or choose another name"),
    errno.EROFS: ("the disk is read-only", "Choose a folder on another disk"),
    errno.EACCES: ("access is refused", "Change the permissions (chmod), or choose another folder"),
    errno.EPERM: ("the operation is refused", "Change the permissions (chmod), or choose another folder"),
    errno.ELOOP: ("symbolic links lead to each other in a circle", "Remove them, or choose another name"),
    errno.EMFILE: ("too many files are open", "Allow more (ulimit -n 4096), or use fewer workers"),
    errno.ENFILE: ("too many files are open on this machine", "Close other programs, or run it again later"),
    errno.ENOMEM: ("there is not enough memory", "Close other programs, or use a larger machine"),
    errno.EIO: ("the disk or its network failed", "Check it, and run it again"),
    errno.ESTALE: ("the file server lost the file", "Mount the disk again, and run it again"),
    errno.ENXIO: ("it is a pipe or a device", "Choose another name"),
    errno.EBUSY: ("another program uses it", "Run it again when it is free"),
    errno.ETXTBSY: ("another program runs it", "Choose another name"),
    errno.ENOLCK: ("the file system has no locks", "Choose a folder on another disk"),
    errno.EINVAL: ("the file system does not support this", "Choose a folder on another disk, or another name"),
    errno.EILSEQ: ("the file system does not allow this name", "Choose another name"),
}
# A file system that lacks a function answers with one of these; no error if it only makes work safer or faster.
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOTTY, errno.ENOLCK}


def describe_os_error(error: OSError | MemoryError) -> str:
    """Write a sentence on a system error: the file, what is wrong, and what to do."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs, or use a larger machine."
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    place = " -> ".join(map(printable, names)) or "A file"
    if is_full(error):
        folder = os.path.dirname(os.path.abspath(names[-1])) if names else os.getcwd()
        return str(out_of_space(folder, error, "choose a larger disk"))
    if error.errno not in _CASES:
        return f"{place}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    what, do = _CASES[error.errno]
    return f"{place}: {what} ({error.strerror}). {do}."


def unreadable_file(path: object, cause: OSError) -> DataNotFoundError:
    """Make the error of a local file or folder that cannot be read."""
    why = cause.strerror or type(cause).__name__
    if cause.errno in (errno.EACCES, errno.EPERM):
        what = "permission denied. Make it, and the folders around it, readable (chmod), or copy it elsewhere."
    elif cause.errno in (errno.ENOENT, errno.ENOTDIR):
        what = "there is no such file. Correct the path, or put the file there."
    else:
        what = f"it cannot be read ({why}). Check its disk or network, or copy it elsewhere."
    return DataNotFoundError(f"{path}: {what}")


def changed_file(path: object) -> BadFileError:
    """Make the error of a local file that was written to while it was read."""
    return BadFileError(f"{path}: the file changed while it was read. Load again when nothing writes to it.")


def is_full(error: BaseException) -> bool:
    """Check whether an error means that the disk, a quota, or a limit on the size of files is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_space(folder: str | Path, needed: int, what: str, else_do: str, done: str = "Nothing was written") -> None:
    """Raise `NoSpaceError` if the disk of a folder, which need not exist, has fewer bytes free than needed.

    Args:
        folder: where to write.
        needed: bytes.
        what: what needs them.
        else_do: what else to do than to free some space.
        done: what has been written so far.
    """
    free = free_bytes(folder)
    if needed > free:
        message = (
            f"{folder}: not enough disk space: {needed:,} bytes are needed for {what}, and {free:,} are free. {done}: "
            f"free some space, {else_do}, or ask for less."
        )
        raise NoSpaceError(message)


def out_of_space(folder: str | Path, cause: OSError, else_do: str, needed: int | None = None) -> NoSpaceError:
    """Make the error of a write that exceeded the disk, a quota, or a limit on the size or the number of files.

    Args:
        folder: where it was written.
        cause: what the system raised; see `is_full`.
        else_do: what else to do than to free some space.
        needed: bytes that everything takes together, if known.
    """
    free, number = free_bytes(folder), cause.errno or errno.ENOSPC
    wanted = "" if needed is None else f"about {needed:,} bytes are needed, "
    what, do = f"the disk is full: {wanted}{free:,} bytes are free", "free some space"
    if number == errno.EDQUOT:
        what = f"your quota is used up: {wanted}although {free:,} bytes of the disk are free"
        do = "remove some of your files"
    elif number == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
        limit = "the file system allows no larger ones" if most < 0 else f"the limit is {most:,} bytes"
        what, do = f"a file became too large: {limit}", "allow larger ones (ulimit -f)"
    elif _has_no_free_inode(folder):
        what = f"the disk is full: it can hold no more files, although {free:,} bytes are free"
        do = "remove some files"
    message = f"{folder}: {what}. Nothing unfinished was kept: {do}, {else_do}, or ask for less."
    return NoSpaceError(message, number)


def _has_no_free_inode(folder: str | Path) -> bool:
    """Check whether the file system of a folder cannot hold another file, however small."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return bool(status.f_files) and not status.f_favail


def is_unsupported(error: OSError) -> bool:
    """Check whether an error means that the file system does not support a function."""
    return error.errno in _UNSUPPORTED


@contextlib.contextmanager
def ignore_unsupported() -> Iterator[None]:
    """Ignore that the file system does not support what the block does."""
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def flush(descriptor: int) -> None:
    """Wait until a file or a folder is on the disk, if the file system supports that."""
    with ignore_unsupported():
        os.fsync(descriptor)


def reserve_bytes(descriptor: int, size: int) -> None:
    """Make a file larger, by a hole if the file system supports holes."""
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        if not is_unsupported(error) and error.errno != errno.EPERM:
            raise
        os.pwrite(descriptor, b"\0", size - 1)


def flush_folder(folder: str | Path) -> None:
    """Flush a folder as `flush` does, unless it can be written to but not opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(folder: str | Path) -> int:
    """Return the free bytes of the disk of a folder, which need not exist."""
    place = Path(folder).absolute()
    return shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free


@contextlib.contextmanager
def report_full_disk(folder: str | Path, else_do: str = MOVE_CACHE) -> Iterator[None]:
    """Raise this package's errors in place of the system's if the block cannot write to a folder.

    Args:
        folder: where the block writes.
        else_do: what else to do about a full disk than to free some space.

    Raises:
        NoSpaceError: the disk, a quota, or a limit on the size of files is used up.
        ConfigError: something else is at the path of a file.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError):
            raise
        if error.errno in _IN_THE_WAY and error.filename is not None:
            message = (
                f"{error.filename}: {_CASES[error.errno][0]}. Nothing was changed there: remove it, and run it again."
            )
            raise ConfigError(message) from error
        if not is_full(error):
            raise
        raise out_of_space(folder, error, else_do) from error


@contextlib.contextmanager
def report_cache_errors(folder: str | Path) -> Iterator[None]:
    """Raise this package's errors if the block cannot write to the cache, where `datasets` names only a lock file.

    A lock is tried first: on a file system without locks, old versions of `filelock` wait forever.

    Raises:
        NoSpaceError: see `report_full_disk`.
        ConfigError: the cache cannot be written to or locked, or something else is at the path of a file.
    """
    try:
        with report_full_disk(folder):
            _try_lock(folder)
            yield
    except NotImplementedError as error:
        cause = error.__cause__  # old versions of `filelock` wrap ENOSYS
        if not (isinstance(cause, OSError) and cause.errno == errno.ENOSYS):
            raise
        raise _no_locks(folder, cause) from error
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError):
            raise
        if is_unsupported(error) and error.filename is None:
            raise _no_locks(folder, error) from error
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        message = (
            f"{folder}: the cache folder cannot be written to ({error.strerror}), and `datasets` takes a lock there "
            "even to read. Point cache_dir= or HF_DATASETS_CACHE to a folder of your own. To read data from a "
            "read-only disk, put a folder of `newsclippings build` or of save_to_disk() there."
        )
        raise ConfigError(message) from error


def _no_locks(folder: str | Path, cause: OSError) -> ConfigError:
    return ConfigError(
        f"{folder}: the file system of the cache has no locks ({cause.strerror}), and `datasets` takes a lock there "
        "even to read. Point cache_dir= or HF_DATASETS_CACHE to a folder on another disk."
    )


def _try_lock(folder: str | Path) -> None:
    """Raise `OSError` if a file in a folder cannot be locked, except for ENOSYS, which `filelock` handles."""
    if fcntl is None or "://" in str(folder):
        return
    place = Path(folder).absolute()
    place = next(path for path in (place, *place.parents) if path.is_dir())
    try:
        file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115 # if it fails, the later write reports why
    except OSError:
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise


def check_accessible(place: str) -> None:
    """Raise `DataNotFoundError` if the system does not report whether a path exists, since it may."""
    try:
        with contextlib.suppress(ValueError):  # a name that no file can have
            os.stat(place)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise unreadable_file(place, error) from error
