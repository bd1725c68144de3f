"""Errors of a build: a disk that is too small, and errors that `datasets` wrapped in its own."""

import os
import shutil
from collections.abc import Iterator, Mapping

from _newsclippings.errors import NewsCLIPpingsError, NoSpaceError
from _newsclippings.folder import bytes_of, bytes_of_pictures
from _newsclippings.rows import JoinedSplit
from _newsclippings.storage import MOVE_CACHE, check_space, is_full, out_of_space

COPY_NONE = f'copy no pictures (streaming=True, or images="path" if they are extracted), {MOVE_CACHE}'


def check_space_for_pictures(folder: str, splits: Mapping[str, JoinedSplit]) -> None:
    """Raise `NoSpaceError` if the pictures of these splits do not fit on the disk of a folder."""
    check_space(os.path.dirname(folder), sum(map(bytes_of_pictures, splits.values())), "the pictures", COPY_NONE)


def full_disk_error(folder: str, splits: Mapping[str, JoinedSplit], error: OSError) -> NoSpaceError:
    """Make the error for a build that did not fit on the disk, and remove the unfinished folder.

    Args:
        folder: the local folder that was being written.
        splits: the splits that were to be written there, as far as they are known.
        error: the error of the system.
    """
    if folder.endswith(".incomplete"):
        shutil.rmtree(folder, ignore_errors=True)  # so that its space counts as free
    needed = sum(map(bytes_of, splits.values())) or None
    else_do = COPY_NONE if any(map(bytes_of_pictures, splits.values())) else MOVE_CACHE
    return out_of_space(os.path.dirname(folder), error, else_do, needed)


def unwrap_worker_error(error: Exception) -> Exception:
    """Return the error of this package, or of a full disk, that `datasets` wrapped in its own; else the given error.

    Call it in the worker: an error that is sent to another process loses its causes.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, NewsCLIPpingsError):
            return cause
    for cause in chain:
        if isinstance(cause, OSError) and is_full(cause):
            return OSError(
                cause.errno, cause.strerror
            )  # an OSError can be sent to another process, whatever class this was
    return error


def _chain(error: BaseException | None) -> Iterator[Exception]:
    seen: set[int] = set()
    while isinstance(error, Exception) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
