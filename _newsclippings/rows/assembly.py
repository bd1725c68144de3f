"""From sources to joined rows: read the matches, pick their records, find their pictures, join, report."""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.config import Request
from _newsclippings.corpus import RecordSource
from _newsclippings.errors import ConfigError
from _newsclippings.facts import EMBEDDINGS
from _newsclippings.inputs import Sources, sources_of
from _newsclippings.matches import MatchesInSlices, read_annotations
from _newsclippings.pictures import DecodeCheck, FolderPictures, Pictures
from _newsclippings.rows.joined import METADATA_COLUMNS, Split
from _newsclippings.rows.joining import join, wanted_ids
from _newsclippings.rows.report import refuse_missing
from _newsclippings.storage import Lock, is_url, local_copy
from _newsclippings.tables import Int64s, int64s, lookup, one_chunk
from _newsclippings.tar import TarPictures, TarSource, made_of
from _newsclippings.text import without_secrets
from _newsclippings.vectors import Embeddings, load_embeddings

# Parts that a split can be divided into, over processes, ranks and workers: a multiple of 8, up to 8 nodes x 8 devices
# x 4 workers, where there are so many pairs.
PARTS = 256
BYTES_OF_PAIR = 256  # in the JSON, about: no file is read just to count its rows
SLICE = 16_384  # rows that are joined at once, where not the whole split is: what is in memory


_logger = logging.getLogger("newsclippings")


def join_config(config: Request, cache: Path) -> tuple["Assembly", dict[str, Split]]:
    """Find, fetch and join the splits of a config. Nothing is written, except to the cache.

    Args:
        config: what is asked for.
        cache: folder for indexes of tars, converted embeddings and downloads.

    Returns:
        What joined them, and split -> its rows.

    Raises:
        NewsCLIPpingsError: any of the inputs is not there or malformed, or rows are not complete and
            `missing="error"`.
    """
    sources = sources_of(config)
    if config.images != "none" or config.articles:
        sources.require_pictures()
    matches = {split: local_copy(place, cache / "downloads") for split, place in sources.matches.items()}
    assembly = Assembly(replace(sources, matches=matches, fetched_before=True), config, cache)
    joined = assembly.join()
    assembly.fetch(joined)
    for split, rows in joined.items():
        log_report(config.name, split, rows)
    return assembly, joined


def stream_rows(config: Request, split: str, cache: Path) -> Iterator[dict[str, Any]]:
    """The rows of a split as plain values, from the first on; nothing is read before the first is asked for.

    Raises:
        NewsCLIPpingsError: as `join_config`, of the rows so far.
    """
    sources = sources_of(config)
    assembly = Assembly(sources, config, cache)
    for start, stop in assembly.slices(split, split_parts(None, sources.matches[split])):
        joined = assembly.slice(split, start, stop)
        for _, table in joined.tables([(start, stop)], joined.rows_of_table("arrow")):
            yield from table.to_pylist()


def log_report(config: str, split: str, joined: Split) -> None:
    """Log what became of the rows of a split: a warning if any lacks something."""
    report = joined.report
    complete = report.resolved == report.rows and not report.broken_pairs and not report.damage
    _logger.log(logging.INFO if complete else logging.WARNING, "%s/%s: %s", config, split, report)


def split_parts(joined: Split | None, matches: str) -> list[tuple[int, int]]:
    """The parts `(k, of n)` of a split: as many as make sense for its rows, or for the size of its file of matches."""
    if joined is not None:
        pairs = joined.report.rows // 2
    else:
        pairs = PARTS if is_url(matches) else os.path.getsize(matches) // BYTES_OF_PAIR
    parts = max(8, min(PARTS, pairs // 8 * 8))
    return [(part, parts) for part in range(parts)]


def part_ranges(rows: int, parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Row ranges of some parts `(k, of n)` of a split; neighbouring parts become one range, twins stay together.

    The first parts have a pair more, where there are some left: of every R parts each R-th is then as large as others.
    """
    pairs = (rows + 1) // 2
    ranges: list[tuple[int, int]] = []
    for part, of in parts:
        each, more = divmod(pairs, of)
        first, last = (each * k + min(k, more) for k in (part, part + 1))
        start, stop = min(first * 2, rows), min(last * 2, rows)
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, stop))
    return ranges


class Assembly:
    """Joins the splits of one config: all rows at once, or a slice of them at a time.

    Args:
        sources: where the inputs are.
        config: what is asked for.
        cache: folder for anything expensive to build or download: indexes of tars, converted embeddings, downloads.
    """

    def __init__(self, sources: Sources, config: Request, cache: Path) -> None:
        self.sources = sources
        self.asked = config
        self.cache = cache
        with_files = config.images != "none" or config.articles
        from_tar = self._from_tar = with_files and sources.pictures == sources.tar
        self._tar: TarSource | None = None
        if sources.tar is not None:
            whole = from_tar and config.missing == "error"
            self._tar = TarSource(sources.tar, sources.tar_index, cache, sources.fetched_before, whole)
        self._records = RecordSource(sources, self._tar, from_tar, config.metadata, config.articles, cache)
        self._files_of: dict[str, tuple[pa.Table, Pictures]] = {}  # by column, those of the table of records used last
        self._decode_check: DecodeCheck | None = None  # of the pictures used last
        self._vectors: dict[tuple[str, str], Embeddings] = {}
        self._matches: dict[str, MatchesInSlices] = {}
        self._slices: dict[str, tuple[int, int, Split]] = {}
        self._left_out: dict[str, npt.NDArray[np.bool_]] = {}  # rows of slices of which nothing was left
        self._lock = Lock()

    def join(self) -> dict[str, Split]:
        """Join all splits of the sources, reading each file once.

        Raises:
            NewsCLIPpingsError: any of the inputs is not there or malformed, or rows are not complete and
                `missing="error"`. Nothing was written by then.
        """
        self._check()
        if self._tar is not None and self._from_tar:
            self._tar.index  # noqa: B018 # before anything else is in memory: making one takes a lot
        places = self.sources.matches
        matches = {split: read_annotations(place, self.sources.config) for split, place in places.items()}
        wanted = {split: wanted_ids(table) for split, table in matches.items()}
        corpora = self._records.of_splits(wanted)
        joined = {}
        for split, table in matches.items():
            corpus, metadata = corpora[split], None
            if self.asked.metadata:  # those that were read for their captions are not read again
                has = "metadata" in corpus.column_names
                metadata = corpus if has else self._records.metadata(split, wanted[split])
            joined[split] = self._join(split, table, corpus, metadata)
        self._refuse(joined)
        return joined

    def count_rows(self, split: str) -> int:
        """Rows of the official file."""
        with self._lock:
            return self._matches_of(split).rows

    def slices(self, split: str, parts: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Row ranges of some parts `(k, of n)` of a split, none of them long."""
        rows = self.count_rows(split)
        for start, stop in part_ranges(rows, parts):
            for first in range(start, stop, SLICE):
                yield first, min(first + SLICE, stop)

    def slice(self, split: str, start: int, stop: int) -> Split:
        """Join some rows of a split, an even number first; the result may hold more rows behind them.

        The first slice is joined alone, since somebody waits for its first row. From then on who goes front to back
        gets `SLICE` rows at once.

        Raises:
            NewsCLIPpingsError: as `join`, of these rows.
        """
        with self._lock:  # `datasets` reads several shards of a shuffled stream at once
            return self._slice(split, start, stop)

    def _slice(self, split: str, start: int, stop: int) -> Split:
        first, last, piece = self._slices.get(split, (0, 0, None))
        if piece is not None and first <= start and stop <= last:
            return piece
        self._check()
        matches = self._matches_of(split)
        if piece is not None and first <= start <= last:
            stop = min(max(stop, start + SLICE), matches.rows)
        table = matches.table(start, stop)
        wanted = wanted_ids(table)

        def every() -> Int64s:
            return wanted_ids(matches.table())

        corpus, metadata = self._records.some(split, wanted, every), None
        if self.asked.metadata:
            has = "metadata" in corpus.column_names
            metadata = corpus if has else self._records.some_metadata(split, wanted, every)
        piece = self._join(split, table, corpus, metadata, start)
        self._slices[split] = start, stop, piece
        left_out = self._left_out.setdefault(split, np.zeros(matches.rows, bool))
        left_out[start:stop] = not piece.report.written
        nothing_left = bool(left_out.all())
        if self.asked.missing == "error" or nothing_left:
            self._refuse({split: piece})
        return piece

    def fetch(self, joined: dict[str, Split]) -> None:
        """Fetch what splits need of a remote tar, before their tables are made."""
        if self._tar is None:
            return
        for one in joined.values():
            for files, rows in ((one.pictures, one.rows.image_row), (one.articles, one.rows.caption_row)):
                if isinstance(files, TarPictures):
                    self._tar.fetch(files, rows[one.rows.keep])

    def pictures(self, paths: pa.Array) -> Pictures:
        """The pictures of some paths, fetched if they lie in a remote tar."""
        pictures = self._find_files(paths)
        if isinstance(pictures, TarPictures) and self._tar is not None:
            self._tar.fetch(pictures, np.flatnonzero(pictures.present))
        if self.asked.check_images:
            DecodeCheck(pictures).check(np.flatnonzero(pictures.present).astype(np.int32))
        return pictures

    def _check(self) -> None:
        if self.asked.images != "none" or self.asked.articles:
            self.sources.require_pictures()
        if self.asked.images == "path" and not os.path.isdir(self.sources.pictures or ""):
            message = (
                f"images='path' needs the extracted folder, found {without_secrets(self.sources.pictures or '')}. Use "
                "images='bytes'."
            )
            raise ConfigError(message)

    def _join(
        self, split: str, matches: pa.Table, corpus: pa.Table, metadata: pa.Table | None, first: int | None = None
    ) -> Split:
        """Join all matches of a split, or a slice of them."""
        pictures = self._files(corpus, "image_path") if self.asked.images != "none" else None
        articles = self._files(corpus, "article_path") if self.asked.articles else None
        undecodable = None
        if self.asked.check_images and pictures is not None:
            undecodable = self._undecodable(pictures, matches, corpus)
        rows, report = join(
            matches,
            corpus,
            pictures.present if pictures else None,
            self.asked.missing,
            articles.present if articles else None,
            first or 0,
            undecodable,
        )
        kinds = self.sources.embeddings
        vectors = {kind: self._embeddings(kind, files[split]) for kind, files in kinds.items()}
        ids = {key: int64s(matches[key])[rows.keep] for key in METADATA_COLUMNS.values()}
        coverage = {kind: some.count(ids[EMBEDDINGS[kind].key]) for kind, some in vectors.items()}
        if metadata is not None:
            known = int64s(metadata["id"])
            for column, key in METADATA_COLUMNS.items():
                coverage[column] = int((lookup(known, ids[key]) >= 0).sum())
        report = replace(
            report,
            damage=self._tar.known_damage if self._tar else None,
            captions_from=self._records.name(split),
            coverage=coverage,
            first=first,
        )
        return Split(rows, report, pictures, self.asked.images, vectors, metadata, articles)

    def _undecodable(self, pictures: Pictures, matches: pa.Table, corpus: pa.Table) -> npt.NDArray[np.bool_]:
        """Decode the pictures of some matches; which pictures of the corpus were found not to decode so far."""
        if self._decode_check is None or self._decode_check.pictures is not pictures:
            self._decode_check = DecodeCheck(pictures)
        rows = lookup(int64s(corpus["id"]), int64s(matches["image_id"]))
        if isinstance(pictures, TarPictures) and self._tar is not None and self.sources.fetched_before:
            self._tar.fetch(pictures, rows)
        self._decode_check.check(rows)
        return self._decode_check.undecodable

    def _refuse(self, joined: dict[str, Split]) -> None:
        """Raise if rows are not complete and should be, or if nothing is left of a split."""
        reports = {split: one.report for split, one in joined.items()}
        if self.asked.missing == "error" or not all(report.written for report in reports.values()):
            with_files = any(one.pictures or one.articles for one in joined.values())
            looked_in = f"pictures {without_secrets(self.sources.pictures or '')}, " if with_files else ""
            records = sorted({report.captions_from for report in reports.values()})
            refuse_missing(self.sources.config, reports, f"{looked_in}records {', '.join(records)}")

    def _matches_of(self, split: str) -> MatchesInSlices:
        if split not in self._matches:
            self._matches[split] = MatchesInSlices(self.sources.matches[split], self.sources.config)
        return self._matches[split]

    def _embeddings(self, kind: str, location: str) -> Embeddings:
        if (kind, location) not in self._vectors:
            path = local_copy(location, self.cache / "downloads")
            about, folder = EMBEDDINGS[kind], self.cache / "embeddings"
            self._vectors[kind, location] = load_embeddings(path, made_of(path), about.width, about.faces, folder)
        return self._vectors[kind, location]

    def _files(self, corpus: pa.Table, column: str) -> Pictures:
        """The files that a column of paths names: pictures or articles. Splits that share records share them."""
        known = self._files_of.get(column)
        if known is None or known[0] is not corpus:
            paths = one_chunk(corpus[column])
            found = self._find_files(paths)
            known = self._files_of[column] = corpus, found
        return known[1]

    def _find_files(self, paths: pa.Array) -> Pictures:
        if self._tar is None or os.path.isdir(self.sources.pictures or ""):
            return FolderPictures(str(self.sources.pictures), paths)
        return self._tar.pictures(paths)
