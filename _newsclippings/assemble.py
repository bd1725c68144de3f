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
from _newsclippings.errors import BadTarError, ConfigError
from _newsclippings.files import LocalFile, Member, fingerprint, open_stream
from _newsclippings.images import FolderPictures, Pictures, TarPictures
from _newsclippings.join import Int32s, JoinedRows, JoinReport, join, refuse_missing, wanted_ids
from _newsclippings.schema import COLUMNS, SPLITS
from _newsclippings.sources import Sources
from _newsclippings.tar import TarIndex, load_index

logger = logging.getLogger("newsclippings")

IMAGE_COLUMN = list(COLUMNS).index("image")


@dataclass
class Split:
    """One split, joined: everything but the bytes of its pictures is known."""

    rows: JoinedRows
    report: JoinReport
    pictures: Pictures | None
    images: str

    def tables(self, ranges: Iterable[tuple[int, int]], batch: int) -> Iterator[tuple[int, pa.Table]]:
        """Rows of some ranges of the official file, as tables of up to `batch` rows and the number of their first."""
        for start, stop in ranges:
            for row in range(start, stop, batch):
                table, images = self.rows.table(row, min(row + batch, stop))
                if not len(table):
                    continue
                if self.pictures is not None:
                    table = table.add_column(IMAGE_COLUMN, "image", self._image_column(images))
                yield row, table

    def _image_column(self, rows: Int32s) -> pa.StructArray:
        """`{"bytes", "path"}`, one of them null: with both, `datasets` would drop the bytes if there is such a file."""
        if self.images == "path" and isinstance(self.pictures, FolderPictures):
            paths = self.pictures.full_paths(rows)
            fields, absent = [pa.nulls(len(paths), pa.binary()), paths], pc.is_null(paths)
        else:
            data = self.pictures.read(rows) if self.pictures is not None else pa.nulls(len(rows), pa.binary())
            fields, absent = [data, pa.nulls(len(data), pa.string())], pc.is_null(data)
        return pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=absent)


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


class Assembly:
    """The splits of one config, each joined when it is first asked for.

    Args:
        sources: where the inputs are.
        images: `"bytes"`, `"path"` or `"none"`.
        missing: what becomes of a row that lacks something: `"error"`, `"null"` or `"drop_pair"`.
        index_folder: where indexes of tars are kept.
    """

    def __init__(self, sources: Sources, images: str, missing: str, index_folder: Path) -> None:
        self.sources = sources
        self.images = images
        self.missing = missing
        self.index_folder = index_folder
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
        if self.images != "none":
            sources.require_pictures()
        if self.images == "path" and not os.path.isdir(sources.pictures or ""):
            message = f"images='path' needs the extracted folder, found {sources.pictures}. Use images='bytes'."
            raise ConfigError(message)
        matches = {split: read_annotations(place, sources.config) for split, place in sources.matches.items()}
        corpora, captions_from = self._corpora(matches)
        known: dict[int, Pictures] = {}  # splits that share a table of records share its pictures
        joined = {}
        for split, table in matches.items():
            corpus = corpora[split]
            pictures = None
            if self.images != "none":
                if id(corpus) not in known:
                    known[id(corpus)] = self._pictures(corpus)
                pictures = known[id(corpus)]
            present = pictures.present if pictures is not None else None
            rows, report = join(table, corpus, present, self.missing)
            damage = self._index.damage if self._index is not None else None
            report = replace(report, damage=damage, captions_from=captions_from[split])
            joined[split] = Split(rows, report, pictures, self.images)
        reports = {split: one.report for split, one in joined.items()}
        if self.missing == "error" or not all(report.written for report in reports.values()):
            looked_in = f"pictures {sources.pictures}, " if self.images != "none" else ""
            refuse_missing(
                sources.config, reports, f"{looked_in}records {', '.join(sorted({*captions_from.values()}))}"
            )
        return joined

    def _tar_index(self, path: str) -> TarIndex:
        """The index of the tar; its damage is an error if pictures are to come from it."""
        if self._index is None:
            self._index = load_index(path, fingerprint(path), self.index_folder)
        if self._index.damage and self.missing == "error" and self._from_tar():
            message = (
                f"{path}: expected a whole tar, found that {self._index.damage}. Fetch it again (the complete file "
                "has 97,916,641,280 bytes), or use its whole part with missing='null' or missing='drop_pair'."
            )
            raise BadTarError(message)
        return self._index

    def _from_tar(self) -> bool:
        """Whether the pictures come from the tar."""
        return self.images != "none" and self.sources.pictures == self.sources.tar

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
        source = self.sources
        place = self._data_json_in_tar() if source.data_json is None else None
        if source.data_json is None and place is None:
            tables = {
                split: read_corpus(functools.partial(open_stream, file), file, wanted_ids(matches[split]))
                for split, file in source.metadata.items()
            }
            return tables, {split: f"metadata/{SPLITS[split]}.json" for split in source.metadata}
        wanted = wanted_ids(*matches.values())
        if place is None:
            name, file = "data.json", str(source.data_json)
            table = read_corpus(functools.partial(open_stream, file), file, wanted)
        else:
            name = f"data.json in {os.path.basename(str(source.tar))}"
            with LocalFile(str(source.tar)) as tar:
                table = read_corpus(functools.partial(Member, tar, *place), f"{source.tar}: data.json", wanted)
        return dict.fromkeys(matches, table), dict.fromkeys(matches, name)

    def _pictures(self, corpus: pa.Table) -> Pictures:
        column = corpus["image_path"]
        paths = pa.concat_arrays(column.chunks or [pa.array([], pa.string())])
        if os.path.isdir(self.sources.pictures or ""):
            return FolderPictures(str(self.sources.pictures), paths)
        return TarPictures(str(self.sources.pictures), self._tar_index(str(self.sources.pictures)), paths)
