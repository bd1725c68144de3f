"""Whether a build fits on the disk, and what to say where it did not."""

import os
import shutil
from collections.abc import Mapping

from _newsclippings.disk import ELSEWHERE, free_at
from _newsclippings.errors import NewsCLIPpingsError, became_full, cause_of, disk_full, is_full
from _newsclippings.shards import bytes_of, bytes_of_pictures
from _newsclippings.split import Split


def check_room(folder: str, splits: Mapping[str, Split]) -> None:
    """Raise `ConfigError` if not even the pictures of some splits fit on the disk of a folder."""
    needed, free = sum(map(bytes_of_pictures, splits.values())), free_at(folder)
    if needed > free:
        raise disk_full(os.path.dirname(folder), needed, free, "the pictures", ELSEWHERE)


def plainly(error: Exception, folder: str | None, splits: Mapping[str, Split]) -> Exception:
    """What went wrong in a build, without what `datasets` and other processes wrap it in.

    Args:
        error: what they raised.
        folder: what was being written, which is removed where the disk is full; None if it is no local folder.
        splits: what was to be written there, as far as it was known.
    """
    cause = cause_of(error) or error
    if folder is None or not is_full(cause):
        return cause if isinstance(cause, NewsCLIPpingsError) else error
    if folder.endswith(".incomplete"):
        shutil.rmtree(folder, ignore_errors=True)  # what is free without it, is what counts
    place = os.path.dirname(folder)
    return became_full(place, sum(map(bytes_of, splits.values())) or None, free_at(place), ELSEWHERE)
