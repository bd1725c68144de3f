"""Whether a build fits on the disk, and what to say where it or anything else went wrong."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping

from _newsclippings import errors
from _newsclippings.errors import NewsCLIPpingsError, became_full, disk_full, is_full
from _newsclippings.folder import bytes_of, bytes_of_pictures
from _newsclippings.rows import JoinedSplit
from _newsclippings.storage import ELSEWHERE, free_at


def check_room(folder: str, splits: Mapping[str, JoinedSplit]) -> None:
    """Raise `ConfigError` if not even the pictures of some splits fit on the disk of a folder."""
    needed, free = sum(map(bytes_of_pictures, splits.values())), free_at(folder)
    if needed > free:
        raise disk_full(os.path.dirname(folder), needed, free, "the pictures", ELSEWHERE)


def plainly(error: Exception, folder: str | None, splits: Mapping[str, JoinedSplit]) -> Exception:
    """What went wrong in a build, without what `datasets` and other processes wrap it in.

    Args:
        error: what they raised.
        folder: what was being written, which is removed where the disk is full; None if it is no local folder.
        splits: what was to be written there, as far as it was known.
    """
    cause = _cause_of(error) or error
    if folder is None or not is_full(cause):
        return cause if isinstance(cause, NewsCLIPpingsError) else error
    if folder.endswith(".incomplete"):
        shutil.rmtree(folder, ignore_errors=True)  # what is free without it, is what counts
    place = os.path.dirname(folder)
    return became_full(place, sum(map(bytes_of, splits.values())) or None, free_at(place), ELSEWHERE, cause)


# In a traceback that is text: up to the next traceback, or to the quotes that `multiprocess` puts around it.
_OURS_IN_TEXT = r'^_newsclippings\.errors\.(\w+): (.+?)(?=\n\n(?:The above|During) |\n?"""\Z|\n*\Z)'


def _cause_of(error: BaseException) -> NewsCLIPpingsError | OSError | None:
    """This package's error, or the disk's, that `datasets` or another process wrapped; None if there is neither."""
    chain = list(_chain(error))
    found: list[NewsCLIPpingsError | OSError] = [one for one in chain if isinstance(one, NewsCLIPpingsError)]
    found += [one for one in chain if isinstance(one, OSError) and one not in found]
    for text in [str(one) for one in chain if type(one).__name__ == "RemoteTraceback"]:  # of a worker: text only
        for name, message in re.findall(_OURS_IN_TEXT, text, re.DOTALL | re.MULTILINE):
            found.append(getattr(errors, name)(message))
        for number, message in re.findall(r"^OSError: \[Errno (\d+)\] (.+)$", text, re.MULTILINE):
            found.append(OSError(int(number), message))
    return found[0] if found else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
