"""The entities of captions as lists of numbers, and which captions have an entity."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import ConfigError
from _newsclippings.tables import Int32s, Int64s, values_of
from _newsclippings.text import fold_name, short_repr


class Lists(NamedTuple):
    """A list of numbers for each caption, one after the other.

    Attributes:
        starts: int64 (N + 1,), where the list of each caption begins, and where the last ends.
        values: int32 (M,), sorted and unique within a list.
    """

    starts: Int64s
    values: Int32s

    def take(self, rows: Int64s) -> tuple[Int64s, Int32s]:
        """Return the lists of some captions: of each value its position in `rows`, and the values."""
        counts = self.starts[rows + 1] - self.starts[rows]
        ends = np.cumsum(counts)
        owners = np.repeat(np.arange(len(rows)), counts)
        return owners, self.values[np.arange(len(owners)) + np.repeat(self.starts[rows] - ends + counts, counts)]

    def invert(self, rows: Int64s | None = None) -> "Inverse":
        """Return which captions have a value: all captions, or some of them, by their position in `rows`."""
        owners, values = self.take(np.arange(len(self.starts) - 1) if rows is None else rows)
        order = np.argsort(values, kind="stable")
        keys, starts = np.unique(values[order], return_index=True)
        return Inverse(keys, np.append(starts, len(values)), owners[order].astype(np.int32))


class Inverse(NamedTuple):
    """The captions that have a value.

    Attributes:
        keys: int32 (K,), the values, sorted.
        starts: int64 (K + 1,), where the captions of each value begin.
        owners: int32 (M,), the captions of one value after the other, each in ascending order.
    """

    keys: Int32s
    starts: Int64s
    owners: Int32s

    def find(self, values: Int32s) -> tuple[Int64s, Int64s]:
        """Return where in `owners` the captions of each value begin and end; both 0 for an unknown value."""
        if not len(self.keys):
            return np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
        places = np.minimum(np.searchsorted(self.keys, values), len(self.keys) - 1)
        known = self.keys[places] == values
        return np.where(known, self.starts[places], 0), np.where(known, self.starts[places + 1], 0)


def lists_of(owners: Int64s, values: Int32s, count: int) -> Lists:
    """Make the lists of `count` captions from pairs of a caption and a value, in any order."""
    order = np.lexsort((values, owners))
    owners, values = owners[order], values[order]
    first = np.ones(len(owners), bool)
    first[1:] = (owners[1:] != owners[:-1]) | (values[1:] != values[:-1])
    return Lists(np.searchsorted(owners[first], np.arange(count + 1)), values[first])


@dataclass(frozen=True)
class Entities:
    """The entities of captions.

    Attributes:
        count: number of captions.
        owners: int64 (M,), the caption of each entity.
        names: int32 (M,), the number of its name.
        labels: int32 (M,), the number of its label.
        known: the labels.
    """

    count: int
    owners: Int64s
    names: Int32s
    labels: Int32s
    known: tuple[str, ...]

    def only(self, labels: Collection[str]) -> Lists:
        """Return the numbers of the names that a caption has with any of these labels."""
        chosen = np.array([label in labels for label in self.known], bool)[self.labels]
        return lists_of(self.owners[chosen], self.names[chosen], self.count)

    def take(self, rows: Int32s) -> "Entities":
        """Return the entities of some captions, each at most once; `rows` are their positions."""
        places = np.full(self.count, -1, np.int64)
        places[rows] = np.arange(len(rows))
        owners = places[self.owners]
        kept = owners >= 0
        return Entities(len(rows), owners[kept], self.names[kept], self.labels[kept], self.known)


def make_entities(column: pa.Array | pa.ChunkedArray, aliases: Mapping[str, str] | None = None) -> Entities:
    """Number the entities of captions.

    Args:
        column: list of struct of text and label (N,), as `entities` in the authors' metadata.
        aliases: another name of an entity -> the name by which it is known.

    Raises:
        ConfigError: a caption has null, or an alias leads to another alias.
    """
    array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        message = f"{array.null_count:,} captions have no list of entities, so no rule can be checked. Leave them out."
        raise ConfigError(message)
    counts = values_of(pc.list_value_length(array)).astype(np.int64)
    flat = array.flatten()
    names, texts = _number(pc.struct_field(flat, "text"))
    labels, known = _number(pc.struct_field(flat, "label"))
    folded = _fold_aliases(aliases or {})
    numbers: dict[str, int] = {}
    which = [numbers.setdefault(folded.get(text, text), len(numbers)) for text in map(fold_name, texts)]
    names = np.array(which, np.int32)[names]
    return Entities(len(array), np.repeat(np.arange(len(array)), counts), names, labels, tuple(known))


def _number(column: pa.Array) -> tuple[Int32s, list[str]]:
    """Return the number of each text, and the texts."""
    if column.null_count:
        message = f"{column.null_count:,} entities have no text or no label. Leave them out."
        raise ConfigError(message)
    encoded: Any = pc.dictionary_encode(column)
    return values_of(encoded.indices).astype(np.int32), encoded.dictionary.to_pylist()


def _fold_aliases(aliases: Mapping[str, str]) -> dict[str, str]:
    folded = {fold_name(alias): fold_name(name) for alias, name in aliases.items()}
    for alias, name in folded.items():
        if folded.get(name, name) != name:
            message = f"aliases: {short_repr(alias)} leads to {short_repr(name)}, which is an alias itself."
            raise ConfigError(f"{message} Name {short_repr(folded[name])} for both.")
    return folded
