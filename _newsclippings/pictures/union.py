"""Pictures of several locations: each comes from the first that has it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.pictures.folder import FolderPictures, Pictures
from _newsclippings.storage import Lock, Rows
from _newsclippings.tables import array_of, as_array, values_of

NONE = -1


class UnionPictures:
    """Pictures of several sources, tried in their order; see `Pictures`."""

    def __init__(self, sources: Sequence[Pictures], paths: pa.Array) -> None:
        """Nothing is looked for yet.

        Args:
            sources: pictures of the same records.
            paths: string (N,), the paths in the normal form.
        """
        self.sources, self.paths = sources, paths
        self.present = np.zeros(len(paths), bool)
        self.sizes: npt.NDArray[np.int64] = np.zeros(len(paths), np.int64)
        self._source = np.full(len(paths), NONE, np.int16)
        self._lock = Lock()

    def look(self, rows: Rows) -> None:
        """Look for the pictures of some rows; those that a source has are not looked for in later ones."""
        with self._lock:
            unique = np.unique(rows[rows >= 0])
            todo = unique[~self.present[unique]]
            for number, source in enumerate(self.sources):
                if not len(todo):
                    return
                source.look(todo)
                here = todo[source.present[todo]]
                self.sizes[here] = source.sizes[here]
                self._source[here] = number
                self.present[here] = True
                todo = todo[~source.present[todo]]

    def source_of(self, row: int) -> Pictures | None:
        """Return the source that a row comes from; None if none has it."""
        return self.sources[self._source[row]] if self._source[row] != NONE else None

    def rows_of(self, source: Pictures, rows: Rows) -> Rows:
        """Return the rows that come from a source, and -1 in the place of others."""
        number = next(k for k, each in enumerate(self.sources) if each is source)
        used = rows >= 0
        used[used] = self._source[rows[used]] == number
        return np.where(used, rows, -1).astype(rows.dtype)

    def why_absent(self, row: int) -> str | None:
        """Say why a file that a source has by name cannot be used; else None."""
        return next((why for source in self.sources if (why := source.why_absent(row)) is not None), None)

    def read(self, rows: Rows) -> pa.Array:
        """Read the encoded bytes of some rows; see `Pictures`."""
        parts = [source.read(self.rows_of(source, rows)) for source in self.sources]
        return _merge(parts, pa.binary())

    def full_paths(self, rows: Rows) -> pa.Array:
        """Return the absolute paths (Arrow string) of some rows in folders; null for all others."""
        folders = [source for source in self.sources if isinstance(source, FolderPictures)]
        return _merge([folder.full_paths(self.rows_of(folder, rows)) for folder in folders], pa.string())


def folders_of(*pictures: Pictures | None) -> list[FolderPictures]:
    """List the folders among sources of pictures, each once."""
    several = [each for one in pictures for each in (one.sources if isinstance(one, UnionPictures) else [one])]
    return [*{id(each): each for each in several if isinstance(each, FolderPictures)}.values()]


def _merge(parts: list[pa.Array], kind: pa.DataType) -> pa.Array:
    """Take of each value the one that is not null."""
    filled = [part for part in parts if part.null_count < len(part)]
    if len(filled) <= 1:
        return filled[0] if filled else array_of([None] * len(parts[0]), kind)
    which = np.full(len(parts[0]), NONE, np.int64)
    for number, part in enumerate(filled):
        which[values_of(part.is_valid()).astype(bool)] = number
    starts = np.cumsum([0, *map(len, filled)])[:-1]
    places = starts[which] + np.arange(len(which))
    return pa.concat_arrays(filled).take(as_array(places, which == NONE))
