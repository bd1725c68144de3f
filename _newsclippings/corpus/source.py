"""The corpus: the records that matches refer to, from data.json (a file, or in the tar) or the authors' metadata."""

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from _newsclippings.corpus.metadata import read_metadata
from _newsclippings.corpus.own_table import read_own_table
from _newsclippings.corpus.records import SCHEMA, read_corpus
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.facts import SPLITS
from _newsclippings.inputs import Inputs, is_table
from _newsclippings.storage import FileSlice, LocalFile, Stream, ZipArchive, lazy_property, local_copy
from _newsclippings.tables import Int64s, as_array, int64s, lookup, unique_ids
from _newsclippings.tar import TarArchive, describe_damage
from _newsclippings.text import without_secrets

logger = logging.getLogger("newsclippings")

Open = Callable[[], Stream]  # opens a file for reading from its start


class Corpus:
    """The records of VisualNews that the splits of a config refer to, by id. Each call reads its file once.

    Attributes:
        tar_was_skipped: whether captions come from the metadata because the tar is damaged.
    """

    def __init__(
        self,
        inputs: Inputs,
        archives: Mapping[str, TarArchive | ZipArchive],
        needs_archives: bool,
        metadata: bool,
        articles: bool,
        cache: Path,
    ) -> None:
        """Store the arguments; open nothing.

        Args:
            inputs: where the inputs are.
            archives: location -> tar or zip, in which data.json may be.
            needs_archives: whether pictures or articles come from them, so that a damaged one is an error.
            metadata: whether to read metadata.
            articles: whether to read the paths of articles.
            cache: folder for copies of remote files.
        """
        self._inputs, self._archives, self._needs_archives, self._cache = inputs, archives, needs_archives, cache
        self._archive: str | None = None  # the one that has data.json
        self._with_metadata, self._articles = metadata, articles
        self.tar_was_skipped = False

    @lazy_property
    def data_json(self) -> Open | None:
        """Opens data.json; None if there is none, so that captions come from the metadata."""
        if self._inputs.data_json is not None:
            return _open_whole(self._inputs.data_json)
        for place, archive in self._archives.items():
            try:
                opener = _find_in_zip(archive) if isinstance(archive, ZipArchive) else _find_in_tar(archive)
            except BadFileError as error:
                if self._needs_archives:
                    raise
                logger.warning("Captions are taken from the metadata, because the tar is not usable: %s", error)
                self.tar_was_skipped = True
                return None
            if opener is not None:
                self._archive = place
                return opener
        return None

    def list_files(self, split: str) -> list[str]:
        """List the inputs that the records of a split depend on, except its matches."""
        if self._inputs.data_json is not None:
            return [self._inputs.data_json]
        places = [place for source in self._inputs.archives for place in (source.location, source.index) if place]
        return [*places, self._inputs.metadata[split]]

    def read_records(self, wanted: Mapping[str, Int64s]) -> Iterator[tuple[str, pa.Table]]:
        """Read records of several splits, each file once.

        Args:
            wanted: split -> int64 (N,), ids, sorted and unique.

        Yields:
            Split and its table, sorted by id: the columns of `corpus_schema`, and `metadata` if the records come from
            the metadata and these were asked for. The metadata of its schema name the file (`captions_from`) and the
            known damage of the tar (`damage`, or "").
        """
        every: pa.Table | None = None  # records of all splits
        if self.data_json is not None:
            ids = unique_ids(*wanted.values())
            every = self._read_data_json(ids)
        for split, ids in wanted.items():
            table = self.read_metadata(split, ids, self._with_metadata) if every is None else _take(every, ids)
            tars = [archive for archive in self._archives.values() if isinstance(archive, TarArchive)]
            damage = describe_damage(tars) or ""
            yield split, table.replace_schema_metadata({"captions_from": self._name_file(split), "damage": damage})

    def read_all(self) -> pa.Table:
        """Read all records: of data.json, or of the metadata of all splits; sorted by id, as of `read_records`."""
        if self.data_json is not None:
            return self._read_data_json(None)
        tables = [self.read_metadata(split, None, with_metadata=False) for split in self._inputs.metadata]
        every = pa.concat_tables(tables).combine_chunks()
        return every.take(as_array(np.unique(int64s(every["id"]), return_index=True)[1]))

    def _read_data_json(self, wanted: Int64s | None) -> pa.Table:
        """Read records of data.json, or of the table of a user's own corpus."""
        location = self._inputs.data_json
        if location is not None and is_table(location):
            return read_own_table(location, wanted).select(SCHEMA.names)
        if self.data_json is None:
            message = "There is no data.json. Pass visual_news=."
            raise ConfigError(message)
        return read_corpus(self.data_json, self._name_data_json(), wanted, self._articles)

    def read_metadata(self, split: str, wanted: Int64s | None, with_metadata: bool = True) -> pa.Table:
        """Read records of metadata/<split>.json (None: all), with or without a column `metadata`."""
        read = read_metadata if with_metadata else read_corpus
        articles = self._articles and self.data_json is None
        return read(*self._open_metadata(split), wanted, articles)

    def read_metadata_in_order(self, split: str) -> pa.Table:
        """Read all records of metadata/<split>.json with a column `metadata`, in the order of the file."""
        return read_metadata(*self._open_metadata(split), None, as_in_file=True)

    def _open_metadata(self, split: str) -> tuple[Open, str]:
        location = self._inputs.metadata[split]
        return _open_whole(local_copy(location, self._cache / "downloads", access=self._inputs.access)), location

    def _name_data_json(self) -> str:
        """Name data.json in errors."""
        return self._inputs.data_json or f"{without_secrets(self._archive or '')}: data.json"

    def _name_file(self, split: str) -> str:
        """Name the file that the records of a split come from, without its folder."""
        if self.data_json is None:
            return f"metadata/{SPLITS[split]}.json"
        if self._inputs.data_json is not None and is_table(self._inputs.data_json):
            return os.path.basename(self._inputs.data_json)
        tar = os.path.basename(without_secrets(self._archive or ""))
        return "data.json" if self._inputs.data_json else f"data.json in {tar}"


def _take(table: pa.Table, ids: Int64s) -> pa.Table:
    """Take the rows with these ids, sorted and unique, from a table that is sorted by id."""
    known = int64s(table["id"])
    if np.array_equal(known, ids):
        return table
    rows = lookup(known, ids)
    return table.take(as_array(rows[rows >= 0])).combine_chunks()


def _open_whole(path: str) -> Open:
    file = LocalFile(path, read_ahead=True)
    return functools.partial(FileSlice, file, 0, file.size)


def _find_in_tar(tar: TarArchive) -> Open | None:
    name = tar.find_data_json()
    member = tar.open_member(name) if name is not None else None
    return functools.partial(FileSlice, *member) if member is not None else None


def _find_in_zip(archive: ZipArchive) -> Open | None:
    names = [member.name for member in archive.members if f"/{member.name}".endswith("/data.json")]
    number = archive.find(min(names, key=lambda name: (name.count("/"), name), default=None))
    return functools.partial(archive.open, number) if number is not None else None
