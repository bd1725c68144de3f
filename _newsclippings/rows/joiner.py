"""Open the inputs of a config, and join its splits."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.config import Request
from _newsclippings.corpus import Corpus, check_records, with_full_articles
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.evidence import read_evidence
from _newsclippings.facts import FULL, VERSION
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.pictures import DecodeCheck, FolderPictures, Pictures, PictureSources, TarPictures, read_whole
from _newsclippings.rows.joined import JoinedSplit
from _newsclippings.rows.joining import join, wanted_ids
from _newsclippings.rows.report import log_report, raise_if_incomplete
from _newsclippings.storage import (
    KeptTable,
    Lock,
    ZipArchive,
    has_local_copy,
    is_url,
    keep_tables,
    local_copy,
    unreadable_file,
)
from _newsclippings.tables import Int32s, Int64s, one_chunk
from _newsclippings.tar import TarArchive, describe_damage
from _newsclippings.text import option, without_secrets
from _newsclippings.vectors import Embeddings, VectorFiles, load_embeddings

Read = Callable[[list[str]], Iterable[tuple[str, pa.Table | KeptTable]]]

# Parts that a split can be divided into, over processes, ranks and workers: a multiple of 8, up to 8 nodes x 8 devices
# x 4 workers, where there are so many pairs.
PARTS = 256
ARTICLES_ROOTS = ("articles/", "visual_news/articles/", "")  # folders in which articles.tar may have its files
LARGE = 1 << 30  # bytes of a local tar from which on indexing it takes a while
BYTES_OF_PAIR = 256  # in the JSON, about: no file is read just to count its rows


def join_config(
    config: Request, cache: Path, inputs: Inputs | None = None, on_fetch: Callable[[], None] | None = None
) -> tuple["Joiner", dict[str, JoinedSplit]]:
    """Join the splits of a config, look for all of their files, and fetch them. Only the cache is written to.

    Args:
        config: the options.
        cache: cache folder for anything expensive to build or download.
        inputs: the inputs of the config; found if None.
        on_fetch: see `Joiner`.

    Returns:
        The joiner, and split -> joined rows.

    Raises:
        NewsCLIPpingsError: an input is not there or malformed, or rows are not complete and `missing="error"`.
    """
    inputs = find_inputs(config) if inputs is None else inputs
    inputs.require_visual_news(config)
    joiner = Joiner(replace(inputs, prefetch=True), config, cache, on_fetch)
    joined = joiner.splits()
    joiner.check(joined)
    for split, rows in joined.items():
        log_report(config.name, split, rows.report)
    return joiner, joined


def stream_rows(
    config: Request, inputs: Inputs, split: str, cache: Path, pairs: Iterable[int] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split as plain values. Nothing is read before the first row is asked for.

    Args:
        config: the options.
        inputs: the inputs of the config.
        split: name of the split.
        cache: see `join_config`.
        pairs: numbers of the pairs to read. None: all.

    Raises:
        NewsCLIPpingsError: as `join_config`.
    """
    joined = Joiner(inputs, config, cache).splits([split])[split]
    ranges = [(0, len(joined.rows))] if pairs is None else [(2 * pair, 2 * pair + 2) for pair in pairs]
    for _, table in joined.tables(ranges, joined.rows_of_table("arrow")):
        yield from table.to_pylist()


def split_parts(rows: int | None, matches: str) -> list[tuple[int, int]]:
    """Divide a split into parts `(k, n)`: `k` of `n`.

    Args:
        rows: rows of the split; estimated from the size of its file of matches if None.
        matches: location of that file.

    Raises:
        DataNotFoundError: the file has vanished since it was found.
    """
    if rows is None:
        try:
            rows = 2 * PARTS if is_url(matches) else 2 * os.path.getsize(matches) // BYTES_OF_PAIR
        except OSError as error:
            raise unreadable_file(matches, error) from error
    pairs = rows // 2
    parts = max(8, min(PARTS, pairs // 8 * 8))
    return [(part, parts) for part in range(parts)]


def part_ranges(rows: int, parts: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the row ranges of parts `(k, n)`. Twins stay together, and neighbouring parts become one range.

    The first parts have one pair more if pairs do not divide evenly, so that every R-th part adds up to the same size.
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


class Joiner:
    """Joins the splits of one config. Its inputs are opened when they are needed.

    A split is always joined whole, from its matches and the records that these refer to. One process of a machine reads
    these tables and keeps them in the cache; all others map them.
    """

    def __init__(
        self, inputs: Inputs, config: Request, cache: Path, on_fetch: Callable[[], None] | None = None
    ) -> None:
        """Nothing is opened yet.

        Args:
            inputs: the inputs of the config.
            config: the options.
            cache: cache folder for anything expensive to build or download: these tables, indexes of tars, converted
                embeddings, downloads.
            on_fetch: called once before the first file is fetched or a large tar is indexed; not if all of that is
                kept.
        """
        self.inputs, self.config, self.cache, self._on_fetch = inputs, config, cache, on_fetch
        from_archives = [source for source in inputs.sources if source.kind != "folder"] if config.needs_origin else []
        self._needs_archives = bool(from_archives)
        # Of several sources, another may have what is missing in a damaged tar
        whole = config.missing == "error" and len(from_archives) == len(inputs.sources) == 1
        self._sources = PictureSources(inputs, cache, inputs.prefetch, whole)
        self._articles_tar: TarArchive | None = None  # of the original articles
        if inputs.full_articles is not None and not os.path.isdir(inputs.full_articles):
            whole, known = config.missing == "error", (inputs.identity, inputs.stamp, inputs.access)
            self._articles_tar = TarArchive(inputs.full_articles, None, cache, False, whole, *known)
        self._corpus = Corpus(
            inputs, self._sources.archives, self._needs_archives, config.needs_metadata, config.articles is True, cache
        )
        self._vectors: dict[tuple[str, ...], Embeddings] = {}
        self._matches: dict[str, KeptTable] = {}
        self._lock = Lock()

    def count_rows(self, split: str) -> int:
        """Return the number of rows of the official file."""
        with self._lock:
            return len(self._read_matches([split])[split].table)

    def splits(
        self, names: Iterable[str] | None = None, undecodable: Mapping[str, Int64s | None] | None = None
    ) -> dict[str, JoinedSplit]:
        """Join splits without looking for their pictures and articles.

        Args:
            names: names of the splits; None for all.
            undecodable: split -> records whose pictures do not decode, if another process decoded all of them.

        Raises:
            NewsCLIPpingsError: an input is not there or malformed.
        """
        names = [*self.inputs.matches] if names is None else [*names]
        with self._lock:
            self._check_options()
            if self._needs_archives:
                for archive in self._sources.archives.values():
                    self._announce_unless(_is_at_hand(archive))
                for tar in self._sources.tars:
                    tar.index  # noqa: B018 # before anything else is in memory: making one takes a lot
            matches = self._read_matches(names)
            records = self._keep("records", names, self._read_records)
            metadata: dict[str, KeptTable] = {}
            if self.config.needs_metadata:
                metadata = {split: kept for split, kept in records.items() if "metadata" in kept.table.column_names}
                rest = [split for split in names if split not in metadata]
                metadata |= self._keep("metadata", rest, self._read_metadata)
            evidence = self._keep("evidence", names, self._read_evidence) if self.inputs.evidence else {}
            return {
                split: self._join(
                    split, matches[split], records[split], metadata.get(split), evidence.get(split), undecodable or {}
                )
                for split in names
            }

    def check(self, joined: Mapping[str, JoinedSplit]) -> None:
        """Look for the files of all rows of splits, and fetch those that are in a remote tar.

        Raises:
            MissingDataError: rows are incomplete and `missing="error"`, or no row of a split comes out.
        """
        reports = {split: rows.report for split, rows in joined.items()}
        if self.config.missing == "error" or not all(report.written for report in reports.values()):
            raise_if_incomplete(
                self.config.name,
                reports,
                self._describe_places(records=", ".join(sorted({report.captions_from for report in reports.values()}))),
                self._list_contents(),
            )
        for name, own in self.inputs.own_vectors.items():
            if not any(rows.report.coverage[name] for rows in joined.values()):
                raise _no_vectors(name, own, self.inputs.vectors[name].key)
        for rows in joined.values():
            articles = rows.articles if self.config.articles is True else None  # the original ones are local
            for files, records in ((rows.pictures, rows.rows.image_row), (articles, rows.rows.caption_row)):
                if files is not None:
                    self._fetch(files, records[rows.rows.keep])

    def pictures(self, paths: pa.Array) -> Pictures:
        """Look for the pictures of paths, and fetch those that are in a remote tar."""
        pictures, rows = self._open_files(paths), np.arange(len(paths), dtype=np.int32)
        pictures.look(rows)
        self._fetch(pictures, rows)
        if self.config.check_images:
            DecodeCheck(pictures).check(rows)
        return pictures

    def read_pictures(self, paths: pa.Array) -> pa.Array:
        """Read the encoded pictures (Arrow binary) of paths in the normal form; null for those that are missing."""
        return read_whole(self.pictures(paths), np.arange(len(paths), dtype=np.int32))

    def _announce_unless(self, kept: bool) -> None:
        """Call `on_fetch`, the first time that something is not kept."""
        if self._on_fetch is not None and not kept:
            self._on_fetch()
            self._on_fetch = None

    def _check_options(self) -> None:
        self.inputs.require_visual_news(self.config)
        others = [source.location for source in self.inputs.sources if source.kind != "folder"]
        if self.config.images == "path" and others:
            message = (
                f"{option('images', 'path')} needs the extracted folder, found "
                f"{without_secrets(others[0])}. Use {option('images', 'bytes')}."
            )
            raise ConfigError(message)

    def _read_matches(self, names: list[str]) -> dict[str, KeptTable]:
        def read(todo: list[str]) -> Iterator[tuple[str, pa.Table]]:
            for split in todo:
                yield split, self._read_match_file(split)

        todo = [split for split in names if split not in self._matches]
        self._matches |= self._keep("matches", todo, read)
        return {split: self._matches[split] for split in names}

    def _read_match_file(self, split: str) -> pa.Table:
        inputs = self.inputs
        return read_matches(inputs.matches[split], inputs.config, inputs.access, inputs.source_datasets)

    def _wanted(self, names: list[str]) -> dict[str, Int64s]:
        return {split: wanted_ids(self._matches[split].table) for split in names}

    def _read_records(self, names: list[str]) -> Iterator[tuple[str, pa.Table | KeptTable]]:
        for split, table in self._corpus.read_records(self._wanted(names)):
            # Not kept, so that the next process logs that the tar was skipped, or notices that it was repaired
            damaged = self._corpus.tar_was_skipped or bool(table.schema.metadata[b"damage"])
            check_records(self.inputs, split, table)
            yield split, KeptTable(table) if damaged else table

    def _read_metadata(self, names: list[str]) -> Iterator[tuple[str, pa.Table]]:
        for split, ids in self._wanted(names).items():
            yield split, self._corpus.read_metadata(split, ids)

    def _read_evidence(self, names: list[str]) -> Iterator[tuple[str, pa.Table]]:
        for split in names:
            yield split, read_evidence(self.inputs.evidence[split], len(self._matches[split].table))

    def _keep(self, what: str, names: list[str], read: Read) -> dict[str, KeptTable]:
        """Open the tables of splits in the cache; read and keep those that are not there.

        Args:
            what: `"matches"`, `"records"`, `"metadata"` or `"evidence"`.
            names: names of the splits.
            read: reads the tables of splits.

        Raises:
            BadFileError: an input changed while it was read.
        """
        files = {split: self._files_of(what, split) for split in names}
        with_metadata = what == "records" and self.config.needs_metadata and self.inputs.data_json is None
        with_articles = what in ("records", "metadata") and self.config.articles is True
        made_of: list[Any] = [VERSION, what, self.inputs.config, with_articles, with_metadata]
        if self.inputs.generated is not None:  # what decides the numbers of its measures, and is compared with records
            facts = self.inputs.generated
            made_of += [facts.source_datasets, {split: each.records_sha256 for split, each in facts.splits.items()}]
        keys = {}
        for split, places in files.items():
            key_files = dict.fromkeys([self.inputs.matches[split], *places])
            keys[split] = _digest([*made_of, *map(self.inputs.identity, key_files)])

        def make(todo: list[str]) -> Iterator[tuple[str, pa.Table | KeptTable]]:
            self._announce_unless(not any(is_url(place) for split in todo for place in files[split]))
            checked: set[str] = set()
            for split, table in read(todo):
                self.inputs.check_unchanged(place for place in files[split] if place not in checked)
                checked.update(files[split])
                yield split, table

        return keep_tables(self.cache / "tables", keys, make)

    def _files_of(self, what: str, split: str) -> list[str]:
        """List the files from which a table is read."""
        if what == "records":
            return self._corpus.list_files(split)
        if what == "evidence":
            return [self.inputs.evidence[split]]
        return [self.inputs.matches[split] if what == "matches" else self.inputs.metadata[split]]

    def _join(
        self,
        split: str,
        matches: KeptTable,
        records: KeptTable,
        metadata: KeptTable | None,
        evidence: KeptTable | None,
        undecodable: Mapping[str, Int64s | None],
    ) -> JoinedSplit:
        corpus, facts = records.table, records.table.schema.metadata
        captions_from, damage = (facts[name].decode() for name in (b"captions_from", b"damage"))
        if self.config.articles == FULL and metadata is not None:
            corpus = with_full_articles(corpus, metadata.table, self.inputs.metadata[split])
        pictures = self._open_files(one_chunk(corpus["image_path"])) if self.config.images != "none" else None
        articles = self._open_articles(one_chunk(corpus["article_path"])) if self.config.articles else None
        check = self.config.check_images and pictures is not None
        tars = [*self._sources.tars, *([self._articles_tar] if self._articles_tar is not None else [])]
        return JoinedSplit(
            config=self.inputs.config,
            split=split,
            rows=join(matches.table, corpus),
            images=self.config.images,
            missing=self.config.missing,
            pictures=pictures,
            articles=articles,
            article_column="article_full" if self.config.articles == FULL else "article",
            embeddings={name: self._open_vectors(name, split) for name in self.inputs.vectors},
            vectors=self.inputs.vectors,
            metadata=metadata.table if metadata and self.config.metadata else None,
            image_file=self.config.image_file,
            evidence=evidence.table if evidence else None,
            decode_check=DecodeCheck(pictures, undecodable.get(split)) if check and pictures else None,
            fetch=self._fetch,
            kept=tuple(table for table in (matches, records, metadata, evidence) if table is not None),
            captions_from=captions_from,
            damage=describe_damage(tars) or damage or None,
            searched=self._describe_places(captions_from),
            list_contents=self._list_contents(),
        )

    def describe_locations(self) -> list[str]:
        """Say of each location of pictures which names it has, five of them, and how many."""
        return self._sources.describe()

    def _list_contents(self) -> dict[str, Callable[[], list[str]]]:
        """Return, by the kind of what is missing, what says what the locations have; original articles have others."""
        kinds = ["picture"] if self.config.articles == FULL else ["picture", "article"]
        return dict.fromkeys(kinds, self._sources.describe)

    def _describe_places(self, records: str) -> str:
        """Name the places where pictures and records are looked for."""
        pictures = f"pictures {self.inputs.places}, " if self.config.needs_origin else ""
        articles = f"original articles {self.inputs.full_articles}, " if self.config.articles == FULL else ""
        return f"{pictures}{articles}records {records}"

    def _open_vectors(self, name: str, split: str) -> Embeddings:
        own = self.inputs.own_vectors.get(name)
        places = own.files if own is not None else (self.inputs.embeddings[name][split],)
        if (name, *places) not in self._vectors:
            downloads, about, access = self.cache / "downloads", self.inputs.vectors[name], self.inputs.access
            self._announce_unless(all(has_local_copy(place, downloads, access) for place in places))
            check = functools.partial(self.inputs.check_unchanged, places)
            if own is not None:
                vectors = own.load(self.inputs.identity, self.cache, check, access)
            else:
                path = local_copy(places[0], downloads, access=access)
                key = f"{self.inputs.identity(path)}-{VERSION}"
                check = functools.partial(self.inputs.check_unchanged, [path])
                vectors = load_embeddings(path, key, about.width, about.several, self.cache / "embeddings", check)
            self._vectors[name, *places] = vectors
        return self._vectors[name, *places]

    def _open_files(self, paths: pa.Array) -> Pictures:
        return self._sources.open(paths)

    def _open_articles(self, paths: pa.Array) -> Pictures:
        """Open the articles of records, whose paths are relative to `origin`, or to the folder of the original ones."""
        if self.config.articles is True:
            return self._open_files(paths)
        if self._articles_tar is None:
            return FolderPictures(str(self.inputs.full_articles), paths, links_root=self.inputs.links_root)
        index = self._articles_tar.index
        names = [pc.replace_substring_regex(paths, "^", folder, max_replacements=1) for folder in ARTICLES_ROOTS]
        best = max(names, key=lambda these: int((index.find(these) >= 0).sum()))
        return TarPictures(self._articles_tar.source, index, best)

    def _fetch(self, files: Pictures, rows: Int32s) -> None:
        """Fetch files of some records, which were looked for, if they are in a remote tar and are to be kept."""
        if self.inputs.prefetch:
            self._sources.fetch(files, rows)


def _no_vectors(name: str, own: VectorFiles, key: str) -> BadFileError:
    of, other = ("pictures", "captions") if key == "image_id" else ("captions", "pictures")
    place = without_secrets(own.location)
    do = (
        f"Are its ids of {other}? Then pass ({place!r}, {other!r})."
        if own.plan is None
        else "Embed those of this config."
    )
    return BadFileError(f"{name}: {place} has no vector for any {of[:-1]} of these rows. {do}")


def _is_at_hand(archive: TarArchive | ZipArchive) -> bool:
    """Whether an archive can be read without waiting: it is local, and small or indexed; or it is kept."""
    if is_url(archive.location):
        return isinstance(archive, TarArchive) and archive.is_known
    return isinstance(archive, ZipArchive) or archive.is_known or archive.file.size < LARGE


def _digest(values: list[Any]) -> str:
    """Name a kept file after the values that decide its content."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]
