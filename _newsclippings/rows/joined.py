"""Rows of one split, joined: everything but the bytes of their pictures is known, and tables are made on demand."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.facts import COLUMNS, EMBEDDINGS
from _newsclippings.pictures import FolderPictures, Pictures
from _newsclippings.rows.joining import JoinedRows
from _newsclippings.rows.report import JoinReport
from _newsclippings.storage import map_ahead
from _newsclippings.tables import Int32s, as_array, int64s, lookup
from _newsclippings.tar import read_whole
from _newsclippings.vectors import Embeddings

IMAGE_COLUMN = list(COLUMNS).index("image")
METADATA_COLUMNS = {"metadata": "id", "image_metadata": "image_id"}  # and what they are looked up by

TABLES_AHEAD = 4  # made in threads while one is written
# Rows of a table. Pictures: small tables are written fastest. Parquet makes a row group of each.
ROWS_OF_PICTURES = 100
ROWS_OF_TEXT = {"arrow": 1_000, "parquet": 10_000}


@dataclass
class Split:
    """Some or all rows of a split."""

    rows: JoinedRows
    report: JoinReport
    pictures: Pictures | None
    images: str
    embeddings: dict[str, Embeddings]
    metadata: pa.Table | None  # sorted by id
    articles: Pictures | None

    def tables(
        self, ranges: Iterable[tuple[int, int]], batch: int, ahead: bool = False
    ) -> Iterator[tuple[int, pa.Table]]:
        """Rows of some ranges of the official file, as tables of up to `batch` rows and the number of their first.

        With `ahead` the next ones are made in threads while one is written: disks like several readers.
        """
        starts = ((row, min(row + batch, stop)) for start, stop in ranges for row in range(start, stop, batch))
        with ThreadPoolExecutor(TABLES_AHEAD, thread_name_prefix="newsclippings") as pool:  # starts threads on demand
            made = (
                map_ahead(pool, self._table, starts, TABLES_AHEAD) if ahead else ((s, self._table(s)) for s in starts)
            )
            for (row, _), table in made:
                if len(table):
                    yield row, table

    def rows_of_table(self, file_format: str) -> int:
        """How many rows a table should have for a file format."""
        return ROWS_OF_TEXT[file_format] if self.pictures is None else ROWS_OF_PICTURES

    def check_parquet(self) -> None:
        """Raise `ConfigError` if `datasets`, which knows lists of a fixed length only, cannot write it to Parquet."""
        lacking = [kind for kind in self.embeddings if self.report.coverage[kind] < self.report.written]
        if lacking and int(pa.__version__.partition(".")[0]) < 26:
            message = (
                f"Some rows have no vector of {', '.join(lacking)}, and with pyarrow {pa.__version__} `datasets` "
                "cannot write them to Parquet: it needs pyarrow 26. Upgrade it, leave these vectors out, or use "
                "`newsclippings build`, whose files any version writes and reads."
            )
            raise ConfigError(message)

    def _table(self, rows: tuple[int, int]) -> pa.Table:
        table, images = self.rows.table(*rows)
        if not len(table):
            return table
        if self.pictures is not None:
            table = table.add_column(IMAGE_COLUMN, "image", self._image_column(images))
        for kind, vectors in self.embeddings.items():
            table = table.append_column(kind, vectors.take(int64s(table[EMBEDDINGS[kind].key])))
        if self.metadata is not None:
            for column, key in METADATA_COLUMNS.items():
                places = lookup(int64s(self.metadata["id"]), int64s(table[key]))
                some = self.metadata["metadata"].take(as_array(places, places < 0))
                table = table.append_column(column, some)
        if self.articles is not None:
            records = lookup(int64s(self.rows.corpus["id"]), int64s(table["id"]))
            table = table.append_column("article", _texts(self.articles, records))
        return table

    def _image_column(self, rows: Int32s) -> pa.StructArray:
        """`{"bytes", "path"}`, one of them null: with both, `datasets` would drop the bytes if there is such a file."""
        if self.images == "path" and isinstance(self.pictures, FolderPictures):
            paths = self.pictures.full_paths(rows)
            fields, absent = [pa.nulls(len(paths), pa.binary()), paths], pc.is_null(paths)
        else:
            data = read_whole(self.pictures, rows) if self.pictures is not None else pa.nulls(len(rows), pa.binary())
            fields, absent = [data, pa.nulls(len(data), pa.string())], pc.is_null(data)
        return pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=absent)


def _texts(articles: Pictures, records: Int32s) -> pa.Array:
    """The articles of some records as text."""
    data = read_whole(articles, records, texts=True)
    try:
        return data.cast(pa.string())
    except pa.ArrowInvalid:
        for record, text in zip(records.tolist(), data.to_pylist(), strict=True):
            try:
                (text or b"").decode()
            except UnicodeDecodeError as error:
                path = articles.paths[record].as_py()
                raise bad_file(path, "an article in UTF-8", str(error), "Leave articles out, or mend it.") from None
        raise
