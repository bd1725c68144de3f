"""Files of a tar by their paths, as one Arrow array."""

import numpy as np
import pyarrow as pa

from _newsclippings.errors import BadTarError
from _newsclippings.pictures import TAIL, Pictures, is_cut_by_zeros
from _newsclippings.storage import RandomFile, Rows, read_binary
from _newsclippings.tar.index import TarIndex
from _newsclippings.tar.members import Members, TarCopy, read_members


class TarPictures:
    """Pictures as members of an uncompressed tar, each one positioned read."""

    def __init__(self, file: RandomFile | TarCopy, index: TarIndex, paths: pa.Array) -> None:
        """Find the pictures in the index.

        Args:
            file: the tar: local, the sparse copy of a remote one, or remote itself.
            index: its index.
            paths: image paths in the normal form, one per record; each is only a key of the index.
        """
        self.file = file
        self.paths = paths
        found = index.find(paths)
        there = found >= 0
        self._place = np.where(there, np.cumsum(there) - 1, -1)  # of each record among the members
        self.members = Members.of(index, found[there])
        self.sizes = np.append(self.members.sizes, 0)[self._place]
        self.present = self.sizes > 0

    def members_of(self, rows: Rows) -> Members:
        """The members that some rows need, each once."""
        there = rows[rows >= 0]
        return self.members.some(np.unique(self._place[there[self.present[there]]]))

    def read(self, rows: Rows) -> pa.Array:
        """Encoded bytes of some rows; see `Pictures`.

        Raises:
            BadTarError: the header in front of a picture is not the one that was indexed.
        """
        return read_binary(self.file.path, self.paths, rows, self.sizes, self.present, self._read_some)

    def byte_of(self, row: int) -> int:
        """The byte of the tar at which the data of a file begin."""
        return int(self.members.offsets[self._place[row]])

    def _read_some(self, rows: Rows, views: list[memoryview]) -> None:
        read_members(self.file, self.members, self._place[rows], views)


def read_whole(pictures: Pictures, rows: Rows, texts: bool = False) -> pa.Array:
    """Encoded bytes of some rows, see `Pictures`; none that a download left half empty in a tar.

    Args:
        pictures: where they are.
        rows: which of them.
        texts: whether they are articles: no text ends in zeros.

    Raises:
        BadTarError: a file in a tar ends in zeros where its end should be.
    """
    data = pictures.read(rows)
    if isinstance(pictures, TarPictures) and len(data):
        offsets = np.frombuffer(data.buffers()[1], np.int32, len(data) + 1, data.offset * 4)
        letters = np.frombuffer(data.buffers()[2] or b"", np.uint8)
        filled = np.flatnonzero(offsets[1:] > offsets[:-1])
        for k in filled[letters[offsets[filled + 1] - 1] == 0].tolist():
            file = letters[offsets[k] : offsets[k + 1]].tobytes()
            if not any(file[-TAIL:]) if texts else is_cut_by_zeros(file):
                row = int(rows[k])
                byte = pictures.byte_of(row) + len(file.rstrip(b"\0"))
                message = (
                    f"{pictures.file.path}: {pictures.paths[row].as_py()} is damaged: from byte {byte} of the tar to "
                    "its end it is zeros, as in a download that was broken off. Fetch the tar again (the complete file "
                    "has 97,916,641,280 bytes), or pass check_images=True with missing='null' or missing='drop_pair' "
                    "to count such a picture as missing."
                )
                raise BadTarError(message)
    return data
