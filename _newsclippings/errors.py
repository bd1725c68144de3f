"""The errors of this package: one class for each case that a caller can handle.

Messages are written where their facts are known. Every class is made from its message alone, so that errors can be
pickled and returned from a worker process.
"""

import errno
from typing import Any

from _newsclippings.text import as_message


class NewsCLIPpingsError(Exception):
    """Base class of all errors of this package. Their messages have no secrets and no control characters."""

    def __init__(self, *message: object) -> None:
        super().__init__(*(as_message(part) if isinstance(part, str) else part for part in message))


class ConfigError(NewsCLIPpingsError, ValueError):
    """An option has a value that cannot be used, or two options contradict each other."""


class DataNotFoundError(NewsCLIPpingsError, FileNotFoundError):
    """An input does not exist, or access to it is refused. Trying again does not help."""


class RemoteReadError(NewsCLIPpingsError, ConnectionError):
    """A remote input could not be read now: the network or its server failed. Trying again later may help."""


class RemoteWriteError(NewsCLIPpingsError, ConnectionError):
    """A remote output could not be written now, or access was refused. The same call goes on from there."""


class BadFileError(NewsCLIPpingsError, ValueError):
    """An input file exists but does not have the expected content."""


class UnsafePathError(BadFileError):
    """A file names a path that could lead out of the folder of pictures."""


class BadTarError(BadFileError):
    """A tar is damaged or compressed, or holds members that are refused."""


class BadPickleError(BadFileError):
    """A pickle is damaged, or holds anything but a dict of number arrays. Nothing in it is executed."""


class MissingDataError(NewsCLIPpingsError, LookupError):
    """Rows of the official file cannot be completed, and `missing="error"` was asked for."""


class NoSpaceError(NewsCLIPpingsError, OSError):
    """There is not enough disk space, or a quota or a limit on the size or the number of files is reached.

    Attributes:
        errno: ENOSPC, EDQUOT (a quota) or EFBIG (the size of one file).
    """

    def __init__(self, message: object, number: int = errno.ENOSPC) -> None:
        super().__init__(message)
        self.errno = number

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.errno), self.__dict__ or None  # OSError's own method omits the number


class HubError(NewsCLIPpingsError):
    """The Hugging Face Hub refused an upload, or could not be reached for it."""


class MissingDependencyError(NewsCLIPpingsError, ImportError):
    """An optional package is not installed."""


def bad_file(location: object, expected: str, found: str, do: str = "") -> BadFileError:
    """Make the error of a file that has another value than expected."""
    return BadFileError(f"{location}: expected {expected}, found {found}.{' ' + do if do else ''}")
