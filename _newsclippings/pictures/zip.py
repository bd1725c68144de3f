"""Read pictures from a zip by their paths."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.storage import Lock, Rows, ZipArchive, is_remote, limit_threads, map_ahead, read_binary_array

ABSENT = -1
UNKNOWN = -2
REQUESTS = 16  # at a time


class ZipPictures:
    """Pictures (or articles) in a zip. Each is one positioned read, and is compared with its CRC-32."""

    def __init__(self, archive: ZipArchive, paths: pa.Array) -> None:
        """Nothing is looked for yet.

        Args:
            archive: the zip.
            paths: string (N,), the names of the pictures in it, one per record.
        """
        self.paths = paths
        self._archive = archive
        self._member = np.full(len(paths), UNKNOWN, np.int64)
        self._lock = Lock()
        self.sizes: npt.NDArray[np.int64] = np.zeros(len(paths), np.int64)
        self.present = np.zeros(len(paths), bool)

    def look(self, rows: Rows) -> None:
        """Look for the pictures of some rows in the directory; see `Pictures`."""
        with self._lock:
            unique = np.unique(rows[rows >= 0])
            todo = unique[self._member[unique] == UNKNOWN]
            for row in todo.tolist():
                number = self._archive.find(self.paths[row].as_py())
                if number is not None:
                    self.sizes[row] = self._archive.members[number].size
                self._member[row] = ABSENT if number is None else number
            self.present[todo] = self.sizes[todo] > 0

    def why_absent(self, row: int) -> str | None:
        """Return None: a zip lists nothing that cannot be used."""
        return None

    def read(self, rows: Rows) -> pa.Array:
        """Read the encoded bytes of these rows; see `Pictures`.

        Raises:
            BadFileError: a member is damaged, or unpacks to another size than it claims.
        """
        known = rows[rows >= 0]
        for row in np.unique(known[self.present[known]]).tolist():  # before buffers of their sizes are made
            self._archive.check_size(int(self._member[row]))
        path = self._archive.path
        return read_binary_array(path, self.paths, rows, self.sizes, self.present, self._read_into)

    def _read_into(self, rows: Rows, views: list[memoryview]) -> None:
        read, members = self._archive.read, self._member[rows].tolist()
        if not is_remote(self._archive.file):
            for member, view in zip(members, views, strict=True):
                view[:] = read(member)
            return
        with ThreadPoolExecutor(limit_threads(REQUESTS), thread_name_prefix="newsclippings") as pool:
            for view, (_, data) in zip(views, map_ahead(pool, read, members, 2 * REQUESTS), strict=True):
                view[:] = data
