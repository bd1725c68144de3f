"""What reading pictures from a tar and from a zip has in common: each name is looked up once, in a list of members."""

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.storage import Lock, Rows
from _newsclippings.tables import Int64s, as_array

ABSENT = -1
UNKNOWN = -2  # the member of a file that was not looked for yet


class ArchivePictures(ABC):
    """Pictures (or articles) in an archive; see `Pictures`."""

    def __init__(self, paths: pa.Array) -> None:
        """Nothing is looked for yet.

        Args:
            paths: string (N,), the names of the files in the archive, one per record.
        """
        self.paths = paths
        self._member = np.full(len(paths), UNKNOWN, np.int64)
        self._lock = Lock()
        self.sizes: npt.NDArray[np.int64] = np.zeros(len(paths), np.int64)
        self.present = np.zeros(len(paths), bool)

    def look(self, rows: Rows) -> None:
        """Look for the pictures of some rows in the list of members; see `Pictures`."""
        with self._lock:
            unique = np.unique(rows[rows >= 0])
            todo = unique[self._member[unique] == UNKNOWN]
            if not len(todo):
                return
            member = self._find(self.paths.take(as_array(todo)))
            known = member != ABSENT
            self.sizes[todo[known]] = self._sizes_of(member[known])
            self.present[todo] = self.sizes[todo] > 0
            self._member[todo] = member  # last, since the process may fork before

    @abstractmethod
    def _find(self, names: pa.Array) -> Int64s:
        """Return the number of the member with each name; `ABSENT` where there is none."""

    @abstractmethod
    def _sizes_of(self, members: Int64s) -> Int64s:
        """Return the sizes of members in bytes."""
