"""Whether a build fits on the disk, and what to raise where it, or anything else, failed."""

import os
import shutil
from collections.abc import Iterator, Mapping

from _newsclippings.errors import NewsCLIPpingsError, NoSpaceError
from _newsclippings.folder import bytes_of, bytes_of_pictures
from _newsclippings.rows import JoinedSplit
from _newsclippings.storage import MOVE_CACHE, check_space, is_full, out_of_space


def check_pictures_fit(folder: str, splits: Mapping[str, JoinedSplit]) -> None:
    """Raise `NoSpaceError` if not even the pictures of some splits fit on the disk of a folder."""
    check_space(os.path.dirname(folder), sum(map(bytes_of_pictures, splits.values())), "the pictures", MOVE_CACHE)


def full_disk(folder: str, splits: Mapping[str, JoinedSplit], error: OSError) -> NoSpaceError:
    """The error of a build that did not fit on the disk.

    Args:
        folder: what was being written, a local folder; it is removed if it is unfinished.
        splits: what was to be written there, as far as it was known.
        error: what the system raised.
    """
    if folder.endswith(".incomplete"):
        shutil.rmtree(folder, ignore_errors=True)  # what is free without it counts
    needed = sum(map(bytes_of, splits.values())) or None
    return out_of_space(os.path.dirname(folder), error, MOVE_CACHE, needed)


def unwrap_worker_error(error: Exception) -> Exception:
    """This package's error, or that of a full disk, that `datasets` wrapped in its own; if neither, that one.

    To be called in the worker already: an error that is sent to another process loses its causes.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, NewsCLIPpingsError):
            return cause
    for cause in chain:
        if isinstance(cause, OSError) and is_full(cause):
            return OSError(cause.errno, cause.strerror)  # whatever class it was: this one can be sent
    return error


def _chain(error: BaseException | None) -> Iterator[Exception]:
    seen: set[int] = set()
    while isinstance(error, Exception) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
