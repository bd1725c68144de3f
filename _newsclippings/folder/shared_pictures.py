"""Pictures that several configs use, each once: what the config `images` is made of."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from _newsclippings.folder.shards import Rows, Tables, file_sizes, ids_digest
from _newsclippings.pictures import Pictures
from _newsclippings.rows import ROWS_OF_PICTURES, TABLES_AHEAD, JoinedSplit
from _newsclippings.storage import map_ahead
from _newsclippings.tables import as_array, empty_table, int64s, one_chunk, values_of
from _newsclippings.tar import read_whole


class PicturesInUse:
    """Collects which pictures some splits use.

    Attributes:
        table: `image_id` and `image_path` of each, sorted by id.
    """

    def __init__(self) -> None:
        self.table = empty_table(pa.schema([("image_id", pa.int64()), ("image_path", pa.string())]))

    def add(self, split: JoinedSplit) -> None:
        """Add those of the rows of a split that come out; a picture without a record has no path."""
        rows = split.rows
        ids, first = np.unique(int64s(rows.matches["image_id"])[rows.keep], return_index=True)
        records = rows.image_row[rows.keep][first]
        paths = rows.corpus["image_path"].take(as_array(records, records < 0))
        more = pa.table([as_array(ids), paths], self.table.column_names)
        both = pa.concat_tables([self.table, more]).combine_chunks()
        _, first = np.unique(int64s(both["image_id"]), return_index=True)
        self.table = both.take(as_array(first))

    def rows(self, find: Callable[[pa.Array], Pictures]) -> Rows:
        """What is written of them: `image_id`, `image`, `image_path`; image is null where the file is not there.

        Args:
            find: gives the pictures of paths.
        """
        table = self.table
        paths = one_chunk(table["image_path"])
        known = values_of(paths.is_valid())
        record = np.where(known, np.cumsum(known) - 1, -1).astype(np.int32)
        pictures = find(paths.drop_null())

        def make(rows: tuple[int, int]) -> pa.Table:
            data = read_whole(pictures, record[slice(*rows)])
            image = pa.StructArray.from_arrays(
                [data, pa.nulls(len(data), pa.string())], ["bytes", "path"], mask=data.is_null()
            )
            return table.slice(rows[0], rows[1] - rows[0]).add_column(1, "image", image)

        def tables(rows: tuple[int, int]) -> Tables:
            starts = ((k, min(k + ROWS_OF_PICTURES, rows[1])) for k in range(*rows, ROWS_OF_PICTURES))
            with ThreadPoolExecutor(TABLES_AHEAD, thread_name_prefix="newsclippings") as pool:
                for (start, _), made in map_ahead(pool, make, starts, TABLES_AHEAD):
                    yield start, made

        sizes = file_sizes(pictures, record)
        facts = {"rows": len(table), "ids_sha256": ids_digest(int64s(table["image_id"]))}
        return Rows(80 + sizes, 8 + sizes, ROWS_OF_PICTURES, tables, facts)
