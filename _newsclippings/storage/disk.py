"""Disk errors (full, read-only, unreadable, without locks), re-raised as this package's errors."""

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


def describe_os_error(error: OSError | MemoryError) -> str:
    """What the system refused, in a sentence: where, what is wrong, and what to do."""
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs, or use a larger machine."
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    place = " -> ".join(map(printable, names)) or "A file"
    if is_full(error):
        folder = os.path.dirname(os.path.abspath(names[-1])) if names else os.getcwd()
        return str(out_of_space(folder, error, "choose a larger disk"))
    if error.errno not in _WORDS:
        return f"{place}: {error.strerror or ' '.join(str(error).split()) or type(error).__name__}."
    what, do = _WORDS[error.errno]
    return f"{place}: {what} ({error.strerror}). {do}."


def unreadable_file(path: object, cause: OSError) -> DataNotFoundError:
    """The error of a local file or folder that cannot be read."""
    why = cause.strerror or type(cause).__name__
    if cause.errno in (errno.EACCES, errno.EPERM):
        what = "permission denied. Make it, and the folders around it, readable (chmod), or copy it elsewhere."
    elif cause.errno in (errno.ENOENT, errno.ENOTDIR):
        what = "there is no such file. Correct the path, or put the file there."
    else:
        what = f"it cannot be read ({why}). Check the disk or the network that it is on, or copy it elsewhere."
    return DataNotFoundError(f"{path}: {what}")


def changed_file(path: object) -> BadFileError:
    """The error of a local file that was written to while it was read."""
    return BadFileError(f"{path}: the file changed while it was read. Load again when nothing writes to it.")


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk, a quota, or a limit on the size of files is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_space(folder: str | Path, needed: int, what: str, else_do: str, done: str = "Nothing was written") -> None:
    """Raise `NoSpaceError` if fewer bytes are free where a folder is, or would be, than are needed.

    Args:
        folder: where to write.
        needed: bytes.
        what: what needs them.
        else_do: what to do, other than to free some.
        done: what was done up to now.
    """
    free = free_bytes(folder)
    if needed > free:
        message = (
            f"{folder}: not enough disk space: {needed:,} bytes are needed for {what}, and {free:,} are free. {done}: "
            f"free some space, {else_do}, or ask for fewer splits."
        )
        raise NoSpaceError(message)


def out_of_space(folder: str | Path, cause: OSError, else_do: str, needed: int | None = None) -> NoSpaceError:
    """The error of a write that did not fit: on the disk, in a quota, in one file, or as one more file.

    Args:
        folder: where it was written.
        cause: what the system raised; see `is_full`.
        else_do: what to do, other than to free some space.
        needed: bytes that the whole takes, if that is known.
    """
    free, number = free_bytes(folder), cause.errno or errno.ENOSPC
    wanted = "" if needed is None else f"about {needed:,} bytes are needed, "
    what, do = f"the disk is full: {wanted}{free:,} bytes are free", "free some space"
    if number == errno.EDQUOT:
        what = f"your quota is used up: {wanted}although {free:,} bytes of the disk are free"
        do = "remove files of yours"
    elif number == errno.EFBIG:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
        limit = "its file system allows no larger ones" if most < 0 else f"the limit is {most:,} bytes"
        what, do = f"a file became too large: {limit}", "allow larger ones (ulimit -f)"
    elif _has_no_free_inode(folder):
        what = f"the disk is full: it can hold no more files, although {free:,} bytes are free"
        do = "remove some files"
    message = f"{folder}: {what}. Nothing unfinished was kept: {do}, {else_do}, or ask for fewer splits."
    return NoSpaceError(message, number)


def _has_no_free_inode(folder: str | Path) -> bool:
    """Whether the file system of a folder has no place for one more file, however small."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return bool(status.f_files) and not status.f_favail


def is_unsupported(error: OSError) -> bool:
    """Whether an error says that a file system does not have what was asked of it."""
    return error.errno in _LACKING


@contextlib.contextmanager
def ignore_unsupported() -> Iterator[None]:
    """Go on where a file system does not have what is asked of it."""
    try:
        yield
    except OSError as error:
        if not is_unsupported(error):
            raise


def flush(descriptor: int) -> None:
    """Wait until a file or a folder is on the disk, where the file system can say that."""
    with ignore_unsupported():
        os.fsync(descriptor)


def reserve_bytes(descriptor: int, size: int) -> None:
    """Make a file larger, by a hole where the file system has such."""
    try:
        os.ftruncate(descriptor, size)
    except OSError as error:
        if not is_unsupported(error) and error.errno != errno.EPERM:
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


def free_bytes(folder: str | Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    place = Path(folder).absolute()
    return shutil.disk_usage(next(one for one in (place, *place.parents) if one.exists())).free


@contextlib.contextmanager
def report_full_disk(folder: str | Path, else_do: str = MOVE_CACHE) -> Iterator[None]:
    """Turn errors of writing to a folder into this package's.

    Args:
        folder: where the block writes.
        else_do: what to do about a full disk, other than to free some space.

    Raises:
        NoSpaceError: the disk, a quota, or a limit on the size of files is used up.
        ConfigError: something else is where a file is to be.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError):
            raise
        if error.errno in _IN_THE_WAY and error.filename is not None:
            message = (
                f"{error.filename}: {_WORDS[error.errno][0]}. Nothing was changed there: remove it, and run it again."
            )
            raise ConfigError(message) from error
        if not is_full(error):
            raise
        raise out_of_space(folder, error, else_do) from error


@contextlib.contextmanager
def report_cache_errors(folder: str | Path) -> Iterator[None]:
    """As `report_full_disk`; and name the cache, and what to do, where `datasets` names only a lock in it.

    A lock is tried first: on a file system without locks, old versions of `filelock` wait forever.

    Raises:
        NoSpaceError: as `report_full_disk`.
        ConfigError: no lock can be taken in the cache; or something else is where a file is to be.
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
            "even to read. Point cache_dir= or HF_DATASETS_CACHE to a folder of your own. To read data from a place "
            "that is read-only, put a folder of `newsclippings build` or of save_to_disk() there."
        )
        raise ConfigError(message) from error


def _no_locks(folder: str | Path, cause: OSError) -> ConfigError:
    return ConfigError(
        f"{folder}: the file system of the cache has no locks ({cause.strerror}), and `datasets` takes a lock there "
        "even to read. Point cache_dir= or HF_DATASETS_CACHE to a folder on another disk."
    )


def _try_lock(folder: str | Path) -> None:
    """Raise `OSError` where a file in a folder cannot be locked, but not for ENOSYS, which `filelock` handles."""
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


def check_accessible(place: str) -> None:
    """Raise `DataNotFoundError` if the system does not say whether there is something: then there may be."""
    try:
        with contextlib.suppress(ValueError):  # a name that no file can have
            os.stat(place)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise unreadable_file(place, error) from error
