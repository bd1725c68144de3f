"""Standard streams that are closed, full, or read by nobody."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any


def open_missing_streams() -> None:
    """Open what a process was started without, before any file can get its number.

    Else the first file that is opened is number 1 or 2, and what a library prints goes into it. What is written to a
    standard output that was closed fails, as on a disk that is full; what is written to such a standard error is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = _open_null(reading=number != 2)  # the lowest that is free: this one
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_open_null(reading=True), "w", encoding="utf-8", errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = os.fdopen(_open_null(reading=False), "w", encoding="utf-8", errors="backslashreplace")


class LossyStream:
    """A text stream that goes on where what is printed is lost: hours of work do not end for that.

    Attributes:
        stream: what it writes to.
        failure: why something was lost first; None while nothing was.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """As the stream does."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As the stream does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As the stream does."""
        self._try(self.stream.flush)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            self.failure = self.failure or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def describe_print_error(error: OSError) -> str:
    """What to say where a result did not reach standard output."""
    why = "it is closed" if error.errno == errno.EBADF else error.strerror or type(error).__name__
    return f"The result could not be written to standard output ({why}). What was to be written to files is."


def discard_unprinted() -> None:
    """Throw away what cannot be written: else the interpreter stumbles over it when it ends, with another exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = _open_null(reading=False)
                os.dup2(null, stream.fileno())
                os.close(null)
                stream.flush()


def _open_null(reading: bool) -> int:
    return os.open(os.devnull, os.O_RDONLY if reading else os.O_WRONLY)
