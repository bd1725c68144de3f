"""A big JSON file of records that is asked again and again for a few of them: read through once, then at places."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.corpus.fast_scan import Build, NotPlainError, decode_records, scan
from _newsclippings.storage import LocalFile, Member, RandomFile
from _newsclippings.tables import Int64s, empty_table


@dataclass(frozen=True)
class RecordIndex:
    """Where the records of a file lie.

    Attributes:
        file: the file that they are in.
        row_of: int32, the record of each id up to the largest; -1 where there is none.
        starts: int64 (N,), byte of each record.
        lengths: int32 (N,), in bytes.
    """

    file: RandomFile
    row_of: npt.NDArray[np.int32]
    starts: Int64s
    lengths: npt.NDArray[np.int32]

    def pick(self, wanted: Int64s, schema: pa.Schema, build: Build | None = None) -> pa.Table | None:
        """The records of sorted unique ids, in their order, as `pick_records` gives them; None in any doubt."""
        if not len(wanted):
            return build([]) if build else empty_table(schema)
        if wanted[0] < 0 or wanted[-1] >= len(self.row_of) or (self.row_of[wanted] < 0).any():
            return None  # only the exact way may say that there is no such record
        rows = self.row_of[wanted]
        places = zip(self.starts[rows].tolist(), self.lengths[rows].tolist(), strict=True)
        parts = [self.file.read_at(start, length) for start, length in places]
        if isinstance(self.file, LocalFile):
            self.file.check_unchanged()
        return decode_records(parts, wanted, schema, build)


def index_records(file: RandomFile, offset: int, size: int) -> RecordIndex | None:
    """Find every record of a JSON file.

    Args:
        file: the file, or the one that it is a stretch of.
        offset: byte of that stretch.
        size: its length in bytes.

    Returns:
        None if the file is in a layout that cannot be proven this way, or has an id twice.
    """
    ids, starts, lengths = [], [], []
    try:
        with Member(file, offset, size) as stream:
            for base, begins, numbers, stops, _ in scan(stream):
                ids.append(numbers)
                starts.append(begins + (base + offset))
                lengths.append((stops - begins).astype(np.int32))
    except NotPlainError:
        return None
    id_of = np.concatenate(ids)
    row_of = np.full(int(id_of.max(initial=0)) + 1, -1, np.int32)
    row_of[id_of] = np.arange(len(id_of), dtype=np.int32)
    if (row_of[id_of] != np.arange(len(id_of))).any():
        return None  # an id twice: the exact way says where
    return RecordIndex(file, row_of, np.concatenate(starts), np.concatenate(lengths))
