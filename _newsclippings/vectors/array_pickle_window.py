"""The bytes of a pickle from front to back, through a window that moves along; others are read when they are asked for.

The file is read, never mapped: where a mapped file is cut off meanwhile, looking at it ends the process (SIGBUS).
"""

import os
from array import array
from io import FileIO

from _newsclippings.errors import BadPickleError, bad_pickle, changed_file, unreadable

MAX_NAME = 256  # bytes, longer than any name or text that matters
AHEAD = 4 * MAX_NAME  # bytes that one opcode looks at, at most: two names
STEP = 1 << 14  # bytes that are read together for single opcodes
WINDOW = 5 << 20  # likewise for runs of entries: two of a thousand vectors of 512, which stay in the cache meanwhile


class Window:
    """Where the reader is in the file, and the bytes that come next.

    Attributes:
        path, size: of the file.
        pos, at: the next byte; the first byte of the current opcode.
        end, framed: end of the frame, or of the file.
        ids: of the entries so far, for errors.
        data, base: the bytes that are held, and where they begin in the file.
    """

    def __init__(self, path: str, file: FileIO, size: int) -> None:
        self.path, self.size, self._file = path, size, file
        self.pos = self.at = 2
        self.end, self.framed = size, False
        self.ids = array("q")
        self.data, self.base = b"", 0
        self.held = -1  # an opcode that begins here is in `data` as far as it is looked at, as is each one before it

    def bad(self, expected: str, found: str, do: str = "") -> BadPickleError:
        """The error for what the current opcode does."""
        after = f" after id {self.ids[-1]} (entry {len(self.ids)})" if self.ids else ""
        return bad_pickle(self.path, self.at, after, expected, found, do)

    def refill(self, length: int) -> None:
        """Hold so many bytes from the next one on, or all that are left."""
        self.data = b""  # there is never more than one
        self.base, stop = self.pos, min(self.pos + length, self.size)
        self.data = read_at(self.path, self._file, self.base, stop - self.base)
        self.held = stop if stop == self.size else stop - AHEAD

    def part(self, start: int, stop: int) -> bytes:
        """Bytes from anywhere; fewer at the end of the file."""
        stop = min(stop, self.size)
        if self.base <= start and stop <= self.base + len(self.data):
            return self.data[start - self.base : stop - self.base]
        return read_at(self.path, self._file, start, stop - start)

    def take(self, size: int) -> int:
        """Where the next `size` bytes begin, which must lie in the frame or file."""
        start = self.pos
        if size > self.end - start:
            where = "frame" if self.framed else "file"
            found = f"{self.end - start} before the end of the {where} (truncated, or a false length)"
            raise self.bad(f"{size} bytes", found)
        self.pos = start + size
        return start

    def number(self, width: int, signed: bool = False) -> int:
        """The next `width` bytes as a little-endian number."""
        start = self.take(width) - self.base
        return int.from_bytes(self.data[start : start + width], "little", signed=signed)

    def line(self, longest: int = MAX_NAME) -> bytes:
        """Bytes up to the next newline, without it."""
        start = self.pos - self.base
        stop = self.data.find(b"\n", start, min(self.end - self.base, start + longest + 1))
        if stop < 0:
            raise self.bad(f"a line of at most {longest} bytes", "none (truncated, or a false name)")
        self.pos = self.base + stop + 1
        return self.data[start:stop]


def read_at(path: str, file: FileIO, offset: int, size: int) -> bytes:
    """Bytes of an open file, all of them.

    Raises:
        BadFileError: the file ends before.
        DataNotFoundError: it cannot be read.
    """
    try:
        data = os.pread(file.fileno(), size, offset)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) != size:
        raise changed_file(path)
    return data
