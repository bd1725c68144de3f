"""One split, joined. Its files are looked for, and its tables are made, when they are needed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.facts import COLUMNS, Vectors
from _newsclippings.pictures import DecodeCheck, FolderPictures, Pictures, UnionPictures, read_whole
from _newsclippings.rows.joining import JoinedRows, find_complete_pairs, find_missing, make_report
from _newsclippings.rows.report import JoinReport, log_report, raise_if_incomplete
from _newsclippings.storage import KeptTable, Lock, lazy_property, map_ahead
from _newsclippings.tables import Int32s, Int64s, as_array, int64s, lookup, values_of
from _newsclippings.vectors import Embeddings

IMAGE_COLUMN = list(COLUMNS).index("image")
METADATA_COLUMNS = {"metadata": "id", "image_metadata": "image_id"}  # and what they are looked up by

TABLES_AHEAD = 4  # made in threads while one is written
# Rows of a table. Pictures: small tables are written fastest. Parquet makes a row group of each.
ROWS_OF_PICTURES = 100
ROWS_OF_TEXT = {"arrow": 1_000, "parquet": 10_000}


@dataclass
class JoinedSplit:
    """The joined rows of one split.

    A build looks for the files of all rows before it writes any (`report`); a stream looks for those of each table.

    Attributes:
        config: name of the config.
        split: name of the split.
        rows: its rows.
        images: the option `images`: `"bytes"`, `"path"` or `"none"`.
        missing: the option `missing`.
        pictures: the pictures of `rows.corpus`; None without pictures.
        articles: the articles of `rows.corpus`; None without articles.
        article_column: the column that they are in: `"article"` or `"article_full"`.
        embeddings: column -> vectors by id, in order.
        vectors: column -> what they are.
        metadata: Arrow table sorted by id; None without metadata.
        image_file: whether there is a column with the paths of the pictures' files.
        evidence: Arrow table sorted by index; None without evidence.
        decode_check: decodes each picture that is looked for; None without `check_images`.
        fetch: fetches the pictures of records before they are decoded.
        kept: the kept tables that hold `rows`, `metadata` and `evidence`.
        captions_from: name of the file with the records.
        damage: where and why reading the tar stopped; None if the tar is whole or is not needed.
        searched: the files and folders with records and pictures, as an error names them.
        list_contents: says what each location of pictures has, for the same error.
        logged: whether a warning about incomplete rows was logged.
    """

    config: str
    split: str
    rows: JoinedRows
    images: str
    missing: str
    pictures: Pictures | None = None
    articles: Pictures | None = None
    article_column: str = "article"
    embeddings: dict[str, Embeddings] = field(default_factory=dict)
    vectors: dict[str, Vectors] = field(default_factory=dict)
    metadata: pa.Table | None = None
    image_file: bool = False
    evidence: pa.Table | None = None
    decode_check: DecodeCheck | None = None
    fetch: Callable[[Pictures, Int32s], None] | None = None
    kept: tuple[KeptTable, ...] = ()
    captions_from: str = ""
    damage: str | None = None
    searched: str = ""
    list_contents: Mapping[str, Callable[[], list[str]]] | None = None
    logged: bool = False
    _lock: Lock = field(default_factory=Lock, repr=False)
    _checked: npt.NDArray[np.bool_] = field(init=False, repr=False)  # rows whose files were looked for

    def __post_init__(self) -> None:
        self._checked = np.zeros(len(self.rows), bool)

    @lazy_property
    def report(self) -> JoinReport:
        """The report of all rows. The files of all rows are looked for."""
        self.look()
        self._checked[:] = True
        return self._report(0, len(self.rows))

    def without_pictures(self) -> "JoinedSplit":
        """Return the same rows and report without an image column."""
        other = replace(self, pictures=None, decode_check=None)
        vars(other)["report"], other._checked = self.report, self._checked
        return other

    def look(self, start: int = 0, stop: int | None = None) -> None:
        """Look for the files of rows, and decide which of these rows come out.

        Args:
            start: number of the first row. It must be even, so that twins stay together.
            stop: number after the last row; None for the end of the split.
        """
        stop = len(self.rows) if stop is None else stop
        with self._lock:
            images = self.rows.image_row[start:stop]
            if self.pictures is not None:
                self.pictures.look(images)
                if self.decode_check is not None:
                    if self.fetch is not None:
                        self.fetch(self.pictures, images)
                    self.decode_check.check(images)
            if self.articles is not None:
                self.articles.look(self.rows.caption_row[start:stop])
            if self.missing == "drop_pair":
                incomplete = np.logical_or.reduce([*self._find_missing(start, stop).values()])
                self.rows.keep[start:stop] = find_complete_pairs(
                    self.rows.matches.slice(start, stop - start), incomplete
                )

    def undecodable(self) -> Int64s | None:
        """Return the records (int64) whose pictures do not decode; None without `check_images`."""
        return None if self.decode_check is None else np.flatnonzero(self.decode_check.undecodable)

    @property
    def damages(self) -> list[str]:
        """What of the tars and pictures is known to be damaged, and may be repaired later."""
        records = self.undecodable()
        pictures = [] if records is None or not len(records) else [f"{self.split}: {records.tolist()} do not decode"]
        return [*([self.damage] if self.damage else []), *pictures]

    def tables(
        self, ranges: Iterable[tuple[int, int]], batch: int, ahead: bool = False
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yield the number of the first row and an Arrow table of up to `batch` rows.

        Args:
            ranges: row ranges of the official file. Each starts at an even number.
            batch: rows of a table, an even number.
            ahead: whether the next tables are made in threads, since disks are faster with several readers.

        Raises:
            MissingDataError: a row is incomplete and `missing="error"`, or no row of the split comes out.
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
        """Return the number of rows that a table of a file format should have."""
        return ROWS_OF_TEXT[file_format] if self.pictures is None else ROWS_OF_PICTURES

    def check_parquet(self) -> None:
        """Raise `ConfigError` if `datasets` cannot write the vectors to Parquet: it writes lists of a fixed length."""
        lacking = [kind for kind in self.embeddings if self.report.coverage[kind] < self.report.written]
        if lacking and int(pa.__version__.partition(".")[0]) < 26:
            message = (
                f"Some rows have no vector of {', '.join(lacking)}, and with pyarrow {pa.__version__} `datasets` "
                "cannot write them to Parquet: it needs pyarrow 26. Upgrade it, leave these vectors out, or use "
                "`newsclippings build`, whose files any version writes and reads."
            )
            raise ConfigError(message)

    def _find_missing(self, start: int, stop: int) -> dict[str, npt.NDArray[np.bool_]]:
        return find_missing(
            self.rows,
            start,
            stop,
            pictures=self.pictures.present if self.pictures is not None else None,
            undecodable=self.decode_check.undecodable if self.decode_check is not None else None,
            articles=self.articles.present if self.articles is not None else None,
        )

    def _why_absent(self, kind: str, record: int) -> str | None:
        files = self.articles if kind == "article" else self.pictures
        return files.why_absent(record) if files is not None else None

    def _report(self, start: int, stop: int) -> JoinReport:
        report = make_report(self.rows, start, stop, self._find_missing(start, stop), self._why_absent)
        matches, keep = self.rows.matches.slice(start, stop - start), self.rows.keep[start:stop]
        ids = {key: int64s(matches[key])[keep] for key in METADATA_COLUMNS.values()}
        coverage = {name: vectors.count(ids[self.vectors[name].key]) for name, vectors in self.embeddings.items()}
        if self.metadata is not None:
            known = int64s(self.metadata["id"])
            coverage |= {column: int((lookup(known, ids[key]) >= 0).sum()) for column, key in METADATA_COLUMNS.items()}
        if self.evidence is not None:
            index = np.flatnonzero(keep) + start
            coverage["evidence"] = int((lookup(int64s(self.evidence["index"]), index) >= 0).sum())
        return replace(report, coverage=coverage, damage=self.damage, captions_from=self.captions_from)

    def _check(self, start: int, stop: int) -> None:
        """Look for the files of a table in a stream, and raise or log if they are incomplete.

        Two reports are logged: that of the first incomplete table, and that of the split after its last row.
        """
        self.look(start, stop)
        incomplete = bool(np.logical_or.reduce([*self._find_missing(start, stop).values()]).any())
        if incomplete and (self.missing == "error" or not self.logged):
            report = self._report(start, stop)
            if self.missing == "error":
                raise_if_incomplete(self.config, {self.split: report}, self.searched, self.list_contents)
            self.logged = True
            log_report(self.config, self.split, report)
        self._checked[start:stop] = True
        if self.logged and stop - start < len(self.rows) and self._checked.all():
            log_report(self.config, self.split, self.report)

    def _table(self, rows: tuple[int, int]) -> pa.Table:
        for kept in self.kept:
            kept.check()
        if not self._checked[slice(*rows)].all():  # a build looks at all rows before it writes the first
            self._check(*rows)
        table, images = self.rows.table(*rows)
        if not len(table):
            if not self.rows.keep.any():
                raise_if_incomplete(self.config, {self.split: self.report}, self.searched, self.list_contents)
            return table
        if self.pictures is not None:
            table = table.add_column(IMAGE_COLUMN, "image", self._image_column(images))
        for name, vectors in self.embeddings.items():
            table = table.append_column(name, vectors.take(int64s(table[self.vectors[name].key])))
        if self.metadata is not None:
            for column, key in METADATA_COLUMNS.items():
                places = lookup(int64s(self.metadata["id"]), int64s(table[key]))
                values = self.metadata["metadata"].take(as_array(places, places < 0))
                table = table.append_column(column, values)
        if self.articles is not None:
            records = lookup(int64s(self.rows.corpus["id"]), int64s(table["id"]))
            table = table.append_column(self.article_column, _texts(self.articles, records))
        if self.image_file:
            table = table.append_column("image_file", self._full_paths(images))
        if self.evidence is not None:
            places = lookup(int64s(self.evidence["index"]), values_of(table["index"]).astype(np.int64))
            table = table.append_column("evidence", self.evidence["evidence"].take(as_array(places, places < 0)))
        return table

    def _image_column(self, rows: Int32s) -> pa.StructArray:
        """Return `{"bytes", "path"}`. One of them is null, since `datasets` drops the bytes of a path that exists."""
        if self.images == "path":
            paths = self._full_paths(rows)
            fields, absent = [pa.nulls(len(paths), pa.binary()), paths], pc.is_null(paths)
        else:
            data = read_whole(self.pictures, rows) if self.pictures is not None else pa.nulls(len(rows), pa.binary())
            fields, absent = [data, pa.nulls(len(data), pa.string())], pc.is_null(data)
        return pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=absent)

    def _full_paths(self, rows: Int32s) -> pa.Array:
        """Return the absolute paths (Arrow string) of records' pictures, which the joiner checked to be files."""
        files = self.pictures if isinstance(self.pictures, FolderPictures | UnionPictures) else None
        return files.full_paths(rows) if files is not None else pa.nulls(len(rows), pa.string())


def _texts(articles: Pictures, records: Int32s) -> pa.Array:
    """Read the articles of records as text."""
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
