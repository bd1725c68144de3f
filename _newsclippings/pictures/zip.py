"""Read pictures from a zip by their paths."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from _newsclippings.pictures.archive import ABSENT, ArchivePictures
from _newsclippings.storage import Rows, ZipArchive, is_remote, limit_threads, map_ahead, read_binary_array
from _newsclippings.tables import Int64s

REQUESTS = 16  # at a time


class ZipPictures(ArchivePictures):
    """Pictures (or articles) in a zip. Each is one positioned read, and is compared with its CRC-32."""

    def __init__(self, archive: ZipArchive, paths: pa.Array) -> None:
        """Nothing is looked for yet.

        Args:
            archive: the zip.
            paths: string (N,), the names of the pictures in it, one per record.
        """
        super().__init__(paths)
        self._archive = archive

    def why_absent(self, row: int) -> str | None:
        """Say why a picture that is in the zip by name cannot be read, such as one that is encrypted; else None."""
        return self._archive.refused.get(self.paths[row].as_py())

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

    def _find(self, names: pa.Array) -> Int64s:
        numbers = [self._archive.find(name) for name in names.to_pylist()]
        return np.array([ABSENT if number is None else number for number in numbers], np.int64)

    def _sizes_of(self, members: Int64s) -> Int64s:
        return np.array([self._archive.members[member].size for member in members.tolist()], np.int64)

    def _read_into(self, rows: Rows, views: list[memoryview]) -> None:
        read, members = self._archive.read, self._member[rows].tolist()
        if not is_remote(self._archive.file):
            for member, view in zip(members, views, strict=True):
                view[:] = read(member)
            return
        with ThreadPoolExecutor(limit_threads(REQUESTS), thread_name_prefix="newsclippings") as pool:
            for view, (_, data) in zip(views, map_ahead(pool, read, members, 2 * REQUESTS), strict=True):
                view[:] = data
