"""From sources to joined rows: read the matches, pick their records, find their pictures, join, report."""

import functools
import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.annotations import read_annotations
from _newsclippings.corpus import read_corpus
from _newsclippings.embeddings import Embeddings, load_embeddings
from _newsclippings.errors import BadTarError, ConfigError, bad_file, old_pyarrow
from _newsclippings.files import LocalFile, Member, fingerprint, is_url, local_copy, open_stream
from _newsclippings.images import FolderPictures, Pictures, TarPictures
from _newsclippings.join import Int32s, JoinedRows, JoinReport, join, lookup, refuse_missing, wanted_ids
from _newsclippings.metadata import read_metadata
from _newsclippings.record_scan import int64s
from _newsclippings.schema import COLUMNS, EMBEDDINGS, SPLITS, VERSION
from _newsclippings.sources import Sources
from _newsclippings.tar import TarIndex, load_index

logger = logging.getLogger("newsclippings")

IMAGE_COLUMN = list(COLUMNS).index("image")
METADATA_COLUMNS = {"metadata": "id", "image_metadata": "image_id"}  # and what they are looked up by

# Parts that a split can be divided into, over processes, ranks and workers: a multiple of 8, up to 8 nodes x 8 devices
# x 4 workers, where there are so many pairs.
PARTS = 256
BYTES_OF_PAIR = 256  # in the JSON, about: no file is read just to count its rows

# Rows of a table. Pictures: small tables are written fastest. Parquet makes a row group of each.
ROWS_OF_PICTURES = 100
ROWS_OF_TEXT = {"arrow": 1_000, "parquet": 10_000}


@dataclass(frozen=True)
class Asked:
    """What a build is asked for: the fields of the config of the same names."""

    images: str
    missing: str
    metadata: bool
    articles: bool


@dataclass
class Split:
    """One split, joined: everything but the bytes of its pictures is known."""

    rows: JoinedRows
    report: JoinReport
    pictures: Pictures | None
    images: str
    embeddings: dict[str, Embeddings]
    metadata: pa.Table | None  # sorted by id
    articles: Pictures | None

    def tables(self, ranges: Iterable[tuple[int, int]], batch: int) -> Iterator[tuple[int, pa.Table]]:
        """Rows of some ranges of the official file, as tables of up to `batch` rows and the number of their first."""
        for start, stop in ranges:
            for row in range(start, stop, batch):
                table, images = self.rows.table(row, min(row + batch, stop))
                if not len(table):
                    continue
                if self.pictures is not None:
                    table = table.add_column(IMAGE_COLUMN, "image", self._image_column(images))
                for kind, vectors in self.embeddings.items():
                    table = table.append_column(kind, vectors.take(int64s(table[EMBEDDINGS[kind].key])))
                if self.metadata is not None:
                    for column, key in METADATA_COLUMNS.items():
                        places = lookup(int64s(self.metadata["id"]), int64s(table[key]))
                        some = self.metadata["metadata"].take(pa.array(places, mask=places < 0))
                        table = table.append_column(column, some)
                if self.articles is not None:
                    records = lookup(int64s(self.rows.corpus["id"]), int64s(table["id"]))
                    table = table.append_column("article", _texts(self.articles, records))
                yield row, table

    def rows_of_table(self, file_format: str) -> int:
        """How many rows a table should have for a file format."""
        return ROWS_OF_TEXT[file_format] if self.pictures is None else ROWS_OF_PICTURES

    def check_parquet(self) -> None:
        """Raise `ConfigError` if this version of pyarrow cannot write the rows to Parquet."""
        lacking = [kind for kind in self.embeddings if self.report.coverage[kind] < self.report.rows]
        if lacking and int(pa.__version__.partition(".")[0]) < 26:
            raise old_pyarrow(pa.__version__, lacking)

    def _image_column(self, rows: Int32s) -> pa.StructArray:
        """`{"bytes", "path"}`, one of them null: with both, `datasets` would drop the bytes if there is such a file."""
        if self.images == "path" and isinstance(self.pictures, FolderPictures):
            paths = self.pictures.full_paths(rows)
            fields, absent = [pa.nulls(len(paths), pa.binary()), paths], pc.is_null(paths)
        else:
            data = self.pictures.read(rows) if self.pictures is not None else pa.nulls(len(rows), pa.binary())
            fields, absent = [data, pa.nulls(len(data), pa.string())], pc.is_null(data)
        return pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=absent)


def _texts(articles: Pictures, records: Int32s) -> pa.Array:
    """The articles of some records as text."""
    data = articles.read(records)
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


def split_parts(joined: Split | None, matches: str) -> list[tuple[int, int]]:
    """The parts `(k, of n)` of a split: as many as make sense for its rows, or for the size of its file of matches."""
    if joined is not None:
        pairs = joined.report.rows // 2
    else:
        pairs = PARTS if is_url(matches) else os.path.getsize(matches) // BYTES_OF_PAIR
    parts = max(8, min(PARTS, pairs // 8 * 8))
    return [(part, parts) for part in range(parts)]


def part_ranges(rows: int, parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Row ranges of some parts `(k, of n)` of a split; neighbouring parts become one range, twins stay together."""
    pairs = (rows + 1) // 2
    ranges: list[tuple[int, int]] = []
    for part, of in parts:
        start, stop = pairs * part // of * 2, min(pairs * (part + 1) // of * 2, rows)
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, stop))
    return ranges


def _made_of(path: str) -> str:
    """What names a file that is made of another and kept: the content of that one, and the version that made it."""
    return f"{fingerprint(path)}-{VERSION}"


class Assembly:
    """Joins the splits of one config.

    Args:
        sources: where the inputs are.
        asked: what is asked for.
        cache: folder for what is dear to make: indexes of tars, converted embeddings.
    """

    def __init__(self, sources: Sources, asked: Asked, cache: Path) -> None:
        self.sources = sources
        self.asked = asked
        self.cache = cache
        self._index: TarIndex | None = None

    def needs_metadata(self) -> bool:
        """Whether the captions come from metadata: there is no data.json, neither as a file nor in the tar."""
        return self.sources.data_json is None and self._data_json_in_tar() is None

    def join(self) -> dict[str, Split]:
        """Join all splits of the sources, reading each file once.

        Raises:
            NewsCLIPpingsError: any of the inputs is not there or malformed, or rows are not complete and
                `missing="error"`. Nothing was written by then.
        """
        sources = self.sources
        if self.asked.images != "none" or self.asked.articles:
            sources.require_pictures()
        if self.asked.images == "path" and not os.path.isdir(sources.pictures or ""):
            message = f"images='path' needs the extracted folder, found {sources.pictures}. Use images='bytes'."
            raise ConfigError(message)
        matches = {split: read_annotations(place, sources.config) for split, place in sources.matches.items()}
        corpora, captions_from = self._corpora(matches)
        metadata = self._metadata(matches, corpora) if self.asked.metadata else {}
        known: dict[tuple[int, str], Pictures] = {}  # splits that share a table of records share its pictures
        joined = {}
        for split, table in matches.items():
            corpus = corpora[split]
            for kind, wanted in (("image_path", self.asked.images != "none"), ("article_path", self.asked.articles)):
                if wanted and (id(corpus), kind) not in known:
                    known[id(corpus), kind] = self._files(corpus, kind)
            pictures, articles = known.get((id(corpus), "image_path")), known.get((id(corpus), "article_path"))
            rows, report = join(
                table,
                corpus,
                pictures.present if pictures else None,
                self.asked.missing,
                articles.present if articles else None,
            )
            damage = self._index.damage if self._index is not None else None
            vectors = {kind: self._embeddings(kind, files[split]) for kind, files in sources.embeddings.items()}
            coverage = {kind: some.count(int64s(table[EMBEDDINGS[kind].key])) for kind, some in vectors.items()}
            if split in metadata:
                known_ids = int64s(metadata[split]["id"])
                for column, key in METADATA_COLUMNS.items():
                    coverage[column] = int((lookup(known_ids, int64s(table[key])) >= 0).sum())
            report = replace(report, damage=damage, captions_from=captions_from[split], coverage=coverage)
            joined[split] = Split(rows, report, pictures, self.asked.images, vectors, metadata.get(split), articles)
        reports = {split: one.report for split, one in joined.items()}
        if self.asked.missing == "error" or not all(report.written for report in reports.values()):
            looked_in = f"pictures {sources.pictures}, " if known else ""
            refuse_missing(
                sources.config, reports, f"{looked_in}records {', '.join(sorted({*captions_from.values()}))}"
            )
        return joined

    def _tar_index(self, path: str) -> TarIndex:
        """The index of the tar; its damage is an error if pictures are to come from it."""
        if self._index is None:
            self._index = load_index(path, _made_of(path), self.cache / "tar_indexes")
        if self._index.damage and self.asked.missing == "error" and self._from_tar():
            message = (
                f"{path}: expected a whole tar, found that {self._index.damage}. Fetch it again (the complete file "
                "has 97,916,641,280 bytes), or use its whole part with missing='null' or missing='drop_pair'."
            )
            raise BadTarError(message)
        return self._index

    def _from_tar(self) -> bool:
        """Whether pictures or articles come from the tar."""
        wanted = self.asked.images != "none" or self.asked.articles
        return wanted and self.sources.pictures == self.sources.tar

    def _data_json_in_tar(self) -> tuple[int, int] | None:
        """Offset and size of data.json in the tar."""
        if self.sources.tar is None:
            return None
        try:
            members = self._tar_index(self.sources.tar).members
        except BadTarError as error:
            if self._from_tar():
                raise
            logger.warning("Captions are taken from the metadata, because of this: %s", error)
            return None
        place = members["name"].index("data.json").as_py()
        return None if place < 0 else (members["offset"][place].as_py(), members["size"][place].as_py())

    def _corpora(self, matches: dict[str, pa.Table]) -> tuple[dict[str, pa.Table], dict[str, str]]:
        """Split -> its records, and the name of the file that they come from."""
        source, articles = self.sources, self.asked.articles
        place = self._data_json_in_tar() if source.data_json is None else None
        if source.data_json is None and place is None:
            read = read_metadata if self.asked.metadata else read_corpus  # read once, for both
            tables = {
                split: read(functools.partial(open_stream, file), file, wanted_ids(matches[split]), articles)
                for split, file in source.metadata.items()
            }
            return tables, {split: f"metadata/{SPLITS[split]}.json" for split in source.metadata}
        wanted = wanted_ids(*matches.values())
        if place is None:
            name, file = "data.json", str(source.data_json)
            table = read_corpus(functools.partial(open_stream, file), file, wanted, articles)
        else:
            name = f"data.json in {os.path.basename(str(source.tar))}"
            with LocalFile(str(source.tar)) as tar:
                opener = functools.partial(Member, tar, *place)
                table = read_corpus(opener, f"{source.tar}: data.json", wanted, articles)
        return dict.fromkeys(matches, table), dict.fromkeys(matches, name)

    def _embeddings(self, kind: str, location: str) -> Embeddings:
        path = local_copy(location, self.cache / "downloads")
        about = EMBEDDINGS[kind]
        return load_embeddings(path, _made_of(path), about.width, about.faces, self.cache / "embeddings")

    def _metadata(self, matches: dict[str, pa.Table], corpora: dict[str, pa.Table]) -> dict[str, pa.Table]:
        """Split -> metadata; those that were read for their captions are not read again."""
        return {
            split: corpora[split]
            if "metadata" in corpora[split].column_names
            else read_metadata(functools.partial(open_stream, file), file, wanted_ids(matches[split]))
            for split, file in self.sources.metadata.items()
        }

    def _files(self, corpus: pa.Table, column: str) -> Pictures:
        """The files that a column of paths names: pictures or articles."""
        paths = pa.concat_arrays([pa.array([], pa.string()), *corpus[column].chunks])
        if os.path.isdir(self.sources.pictures or ""):
            return FolderPictures(str(self.sources.pictures), paths)
        return TarPictures(str(self.sources.pictures), self._tar_index(str(self.sources.pictures)), paths)
