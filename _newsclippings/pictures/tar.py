"""Read files of a tar by their paths, as an Arrow array."""

import numpy as np
import pyarrow as pa

from _newsclippings.encoded import TAIL, is_cut_by_zeros
from _newsclippings.errors import BadTarError
from _newsclippings.pictures.archive import ArchivePictures
from _newsclippings.pictures.folder import Pictures
from _newsclippings.pictures.union import UnionPictures
from _newsclippings.storage import RandomFile, Rows, read_binary_array
from _newsclippings.tables import Int64s
from _newsclippings.tar import Members, TarCopy, TarIndex, read_members
from _newsclippings.text import option


class TarPictures(ArchivePictures):
    """Pictures (or articles) in an uncompressed tar. Each is one positioned read."""

    def __init__(self, file: RandomFile | TarCopy, index: TarIndex, paths: pa.Array) -> None:
        """Nothing is looked for yet.

        Args:
            file: the tar (local or remote), or the sparse copy of a remote one.
            index: its index.
            paths: string (N,), the names of the files in the tar, one per record. They serve only as keys of the index.
        """
        super().__init__(paths)
        self.file = file
        self._index = index

    def members_of(self, rows: Rows) -> Members:
        """Return the members that these rows need, without duplicates."""
        known = rows[rows >= 0]
        return Members.from_index(self._index, np.unique(self._member[known[self.present[known]]]))

    def read(self, rows: Rows) -> pa.Array:
        """Read the encoded bytes of these rows; see `Pictures`.

        Raises:
            BadTarError: the header before a file is not the one that was indexed.
        """
        return read_binary_array(self.file.path, self.paths, rows, self.sizes, self.present, self._read_into)

    def why_absent(self, row: int) -> str | None:
        """Say why a file that is in the tar by name cannot be used, such as a link that leaves the tar; else None."""
        member = int(self._member[row])
        return self._index.why_refused(member) if member >= 0 else None

    def byte_of(self, row: int) -> int:
        """Return the byte of the tar at which the data of a row begin."""
        return int(Members.from_index(self._index, self._member[[row]]).offsets[0])

    def _find(self, names: pa.Array) -> Int64s:
        return self._index.find(names)

    def _sizes_of(self, members: Int64s) -> Int64s:
        return Members.from_index(self._index, members).sizes

    def _read_into(self, rows: Rows, views: list[memoryview]) -> None:
        members = Members.from_index(self._index, self._member[rows])
        read_members(self.file, members, np.arange(len(rows)), views)


def read_whole(pictures: Pictures, rows: Rows, texts: bool = False) -> pa.Array:
    """Read the encoded bytes of some rows, and refuse files of a tar that an interrupted download left incomplete.

    Args:
        pictures: the files.
        rows: int (N,), rows to read; -1 gives null.
        texts: whether the files are articles; a text never ends in zeros.

    Returns:
        binary (N,), as `Pictures.read`.

    Raises:
        BadTarError: a file in a tar ends in zeros where its end should be.
    """
    data = pictures.read(rows)
    if isinstance(pictures, TarPictures | UnionPictures) and len(data):
        offsets = np.frombuffer(data.buffers()[1], np.int32, len(data) + 1, data.offset * 4)
        letters = np.frombuffer(data.buffers()[2] or b"", np.uint8)
        filled = np.flatnonzero(offsets[1:] > offsets[:-1])
        for k in filled[letters[offsets[filled + 1] - 1] == 0].tolist():
            file = letters[offsets[k] : offsets[k + 1]].tobytes()
            if not any(file[-TAIL:]) if texts else is_cut_by_zeros(file):
                row = int(rows[k])
                tar = pictures.source_of(row) if isinstance(pictures, UnionPictures) else pictures
                if not isinstance(tar, TarPictures):
                    continue
                byte = tar.byte_of(row) + len(file.rstrip(b"\0"))
                drop = f"{option('missing', 'null')} or {option('missing', 'drop_pair')}"
                message = (
                    f"{tar.file.path}: {pictures.paths[row].as_py()} is damaged: from byte {byte} of the tar to "
                    "its end it is zeros, as in a download that was broken off. Fetch the tar again (the complete file "
                    f"has 97,916,641,280 bytes), or pass {option('check_images', True)} with {drop} "
                    "to count such a picture as missing."
                )
                raise BadTarError(message)
    return data
