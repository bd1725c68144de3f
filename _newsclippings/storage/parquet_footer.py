"""Read the footer of a Parquet file without Arrow, whose own accessors abort the process on some damaged footers.

A footer is a struct of Thrift's compact protocol. Its numbers are accepted if they agree with each other and with the
size of the file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.storage.places import PlaceLike, open_place
from _newsclippings.text import printable

DEPTH = 16  # nested structs and lists; Parquet needs eight
LONGEST = 100_000  # elements of a list; a shard of 600,000 rows has 6,000 row groups
_INT32, _INT64, _BINARY, _LIST, _SET, _STRUCT = 5, 6, 8, 9, 10, 12  # types of Thrift
Leaf = tuple[tuple[str, ...], int]
_DICTIONARY = (2, 8)  # numbers of the dictionary encodings


@dataclass(frozen=True)
class Chunk:
    """A column in a row group: its bytes packed and unpacked, and whether its values are in a dictionary."""

    packed: int
    unpacked: int
    coded: bool


@dataclass(frozen=True)
class Footer:
    """The content of a footer.

    Attributes:
        rows: number of rows of the file.
        groups: for each row group, the chunk of each wanted column.
        metadata: keys and values.
    """

    rows: int
    groups: list[dict[str, Chunk]]
    metadata: dict[bytes, bytes]


def read_footer(
    path: PlaceLike, location: str, columns: Sequence[str], most: int, do: str, nested: bool = False
) -> Footer:
    """Read the footer of a Parquet file.

    Args:
        path: the file.
        location: the name of the file for errors.
        columns: the columns that it must have.
        most: the largest footer to read, in bytes.
        do: what to do about a wrong file, for errors.
        nested: whether columns may be lists, with one column of numbers in them.

    Raises:
        BadFileError: it is not a Parquet file, lacks a column, or its footer is damaged.
    """
    try:
        data, end = _read_footer_bytes(path, most)
    except _BadFooterError as error:
        message = f"{location}: {error}. {do}"
        raise BadFileError(message) from None
    try:
        fields = _Thrift(data).struct(0)
        leaves = _leaves(fields[2], nested)
        names = [path[0] for path, _ in leaves]
        if any(name not in names for name in columns):
            found = ", ".join(printable(name[:40]) for name in dict.fromkeys(names[:10])) or "none"
            raise bad_file(location, f"columns {', '.join(columns)}", f"columns {found}", do)
        if any(names.count(name) > 1 for name in columns):
            raise _BadFooterError
        wanted = {names.index(name): name for name in columns}
        groups = [_chunks(group, leaves, wanted, end) for group in _list(fields[4])]
        rows = _count(fields[3])
        if sum(_count(group[3]) for group in fields[4]) != rows or 8 in fields:
            raise _BadFooterError
        metadata = {_bytes(pair[1]): _bytes(pair.get(2, b"")) for pair in _list(fields.get(5, []))}
    except (_BadFooterError, KeyError, IndexError, TypeError, AttributeError, UnicodeDecodeError):
        kind = "Parquet file" if nested else "flat Parquet file"
        message = f"{location}: its footer is damaged, or not that of a {kind} ({', '.join(columns)}). {do}"
        raise BadFileError(message) from None
    return Footer(rows, groups, metadata)


def read_unpacked_sizes(path: PlaceLike, most: int) -> list[list[int]]:
    """Read from the footer of a Parquet file how many bytes its columns take unpacked.

    Args:
        path: the file.
        most: the largest footer to read, in bytes.

    Returns:
        For each row group, the bytes of each column.

    Raises:
        ValueError: it is not a Parquet file, or its footer is damaged; the message names the reason.
    """
    data, _ = _read_footer_bytes(path, most)
    try:
        groups = _list(_Thrift(data).struct(0)[4])
        return [[_count(column[3][6]) for column in _list(group[1])] for group in groups]
    except (_BadFooterError, KeyError, IndexError, TypeError, AttributeError):
        message = "its footer is damaged"
        raise _BadFooterError(message) from None


def _read_footer_bytes(path: PlaceLike, most: int) -> tuple[bytes, int]:
    """Return the bytes of a footer, and the byte of the file where they begin."""
    with open_place(path) as file:
        head, tail = file.read_at(0, 4), file.read_at(max(0, file.size - 8), 8)
        length = int.from_bytes(tail[:4], "little")
        if head != b"PAR1" or tail[4:] != b"PAR1" or not 0 < length <= file.size - 12:
            message = "it is not a Parquet file, or only a part of one"
            raise _BadFooterError(message)
        if length > most:
            message = f"it has a footer of {length:,} bytes, more than {most:,}"
            raise _BadFooterError(message)
        return file.read_at(file.size - 8 - length, length), file.size - 8 - length


class _BadFooterError(ValueError):
    """The bytes are not a footer, or contradict each other."""


def _leaves(schema: Any, nested: bool) -> list[Leaf]:
    """Return the path and the physical type of each column of numbers or texts.

    If `nested`, a schema may have groups, such as lists; else columns have different names.
    """
    elements: Iterator[dict[int, Any]] = iter(_list(schema))
    leaves: list[Leaf] = []

    def walk(above: tuple[str, ...], count: int) -> None:
        if len(above) > DEPTH:
            raise _BadFooterError
        for _ in range(count):
            element = next(elements, None)
            if element is None or element.get(3, 0) not in ((0, 1, 2) if nested else (0, 1)):
                raise _BadFooterError
            path = (*above, _bytes(element[4]).decode())
            if "" in path or (5 in element and not nested):
                raise _BadFooterError
            if 5 in element and _count(element[5]):
                walk(path, element[5])
            else:
                leaves.append((path, _count(element[1])))

    root: dict[int, Any] = next(elements, {})
    walk((), _count(root[5]))
    if next(elements, None) is not None or (not nested and len({path for path, _ in leaves}) < len(leaves)):
        raise _BadFooterError
    return leaves


def _chunks(group: Any, leaves: list[Leaf], wanted: dict[int, str], end: int) -> dict[str, Chunk]:
    """Return the chunks of the wanted columns of a row group, which must end before byte `end` of the file."""
    columns = _list(group[1])
    if len(columns) != len(leaves):
        raise _BadFooterError
    chunks = {}
    for k, name in wanted.items():
        fields = columns[k][3]
        starts = [_count(fields[number]) for number in (9, 11) if number in fields]
        if not fields[5]:  # without values there need be no page, which then begins at 0
            starts = [start for start in starts if start] or [4]
        packed, unpacked = _count(fields[7]), _count(fields[6])
        encodings = _list(fields[2])
        path, kind = leaves[k]
        values = fields[5] if len(path) > 1 else group[3]  # a list has as many as it likes
        agrees = (_list(fields[3]), fields[1], fields[5]) == ([part.encode() for part in path], kind, values)
        elsewhere = {1, 8, 9} & set(columns[k])  # in another file, or encrypted
        if not agrees or elsewhere or min(starts) < 4 or min(starts) + packed > end or 9 not in fields:
            raise _BadFooterError
        coded = 11 in fields or any(encoding in _DICTIONARY for encoding in encodings)
        chunks[name] = Chunk(packed, unpacked, coded)
    return chunks


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise _BadFooterError
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _BadFooterError
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _BadFooterError
    return value


class _Thrift:
    """A reader of Thrift's compact protocol: a struct becomes a dict of field number -> value, a string bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int) -> dict[int, Any]:
        """Read a struct to its end."""
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._zigzag()
            if number in fields:
                raise _BadFooterError
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > DEPTH:
            raise _BadFooterError
        if kind in (4, _INT32, _INT64):
            return self._zigzag()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            if count > min(LONGEST, len(self.data) - self.at):  # each element takes at least a byte
                raise _BadFooterError
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == _STRUCT:
            return self.struct(depth)
        if kind in (1, 2, 3):  # a boolean of a list, or a byte
            return self._byte()
        if kind == 7:
            return self._take(8)
        raise _BadFooterError  # Parquet has no maps

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise _BadFooterError
        self.at += count
        return self.data[self.at - count : self.at]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 63:
                raise _BadFooterError

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
