"""Standard streams that are closed, full, or no longer read."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any


def open_missing_streams() -> None:
    """Open the standard streams that the process was started without, before another file can get their numbers.

    Otherwise the first file to be opened would be number 1 or 2, and receive what libraries print. Writing to a closed
    standard output fails, as on a full disk; what is written to a closed standard error is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = _open_null(reading=number != 2)  # gets the lowest free number, which is usually this one
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_open_null(reading=True), "w", encoding="utf-8", errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = os.fdopen(_open_null(reading=False), "w", encoding="utf-8", errors="backslashreplace")


class LossyStream:
    """A text stream that ignores failures to write, so that they do not end hours of work.

    Attributes:
        stream: where it writes to.
        failure: the first failure; None if there was none.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, or lose it."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write lines, or lose them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream if that is possible."""
        self._try(self.stream.flush)

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            self.failure = self.failure or error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def describe_print_error(error: OSError) -> str:
    """Write the message for a result that could not be printed."""
    why = "it is closed" if error.errno == errno.EBADF else error.strerror or type(error).__name__
    return f"The result could not be written to standard output ({why}). Files were written completely."


def discard_unprinted() -> None:
    """Discard buffered output that cannot be written, since the interpreter would fail at exit, with its own code."""
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
