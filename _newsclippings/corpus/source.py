"""The corpus: the records that matches refer to, from data.json (a file, or in the tar) or the authors' metadata."""

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from _newsclippings.corpus.metadata import read_metadata
from _newsclippings.corpus.records import read_corpus
from _newsclippings.errors import BadTarError
from _newsclippings.facts import SPLITS
from _newsclippings.inputs import Inputs
from _newsclippings.storage import FileSlice, LocalFile, RandomFile, Stream, lazy_property, local_copy
from _newsclippings.tables import Int64s, as_array, int64s, lookup, unique_ids
from _newsclippings.tar import TarArchive
from _newsclippings.text import without_secrets

logger = logging.getLogger("newsclippings")

Section = tuple[RandomFile, int, int]  # part of a file: the file, the first byte, and the number of bytes


class Corpus:
    """The records of VisualNews that the splits of a config refer to, by id. Each call reads its file once.

    Attributes:
        tar_was_skipped: whether captions come from the metadata because the tar is damaged.
    """

    def __init__(
        self, inputs: Inputs, tar: TarArchive | None, needs_tar: bool, metadata: bool, articles: bool, cache: Path
    ) -> None:
        """Store the arguments; open nothing.

        Args:
            inputs: where the inputs are.
            tar: origin.tar, in which data.json may be.
            needs_tar: whether pictures or articles come from the tar, so that a damaged one is an error.
            metadata: whether to read metadata.
            articles: whether to read the paths of articles.
            cache: folder for copies of remote files.
        """
        self._inputs, self._tar, self._needs_tar, self._cache = inputs, tar, needs_tar, cache
        self._with_metadata, self._articles = metadata, articles
        self.tar_was_skipped = False

    @lazy_property
    def data_json(self) -> Section | None:
        """data.json; None if there is none, so that captions come from the metadata."""
        if self._inputs.data_json is not None:
            return _open_whole(self._inputs.data_json)
        try:
            return self._tar.open_member("data.json") if self._tar else None
        except BadTarError as error:
            if self._needs_tar:
                raise
            logger.warning("Captions are taken from the metadata, because the tar is not usable: %s", error)
            self.tar_was_skipped = True
            return None

    def list_files(self, split: str) -> list[str]:
        """List the inputs that the records of a split depend on, except its matches."""
        if self._inputs.data_json is not None:
            return [self._inputs.data_json]
        tar = [place for place in (self._inputs.tar, self._inputs.tar_index) if place and self._inputs.tar]
        return [*tar, self._inputs.metadata[split]]

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
            location = self._inputs.data_json or f"{without_secrets(self._inputs.tar or '')}: data.json"
            every = read_corpus(_opener(self.data_json), location, unique_ids(*wanted.values()), self._articles)
        for split, ids in wanted.items():
            table = self.read_metadata(split, ids, self._with_metadata) if every is None else _take(every, ids)
            damage = (self._tar.known_damage if self._tar else None) or ""
            yield split, table.replace_schema_metadata({"captions_from": self._name_file(split), "damage": damage})

    def read_metadata(self, split: str, wanted: Int64s, with_metadata: bool = True) -> pa.Table:
        """Read records of metadata/<split>.json, with or without a column `metadata`."""
        read = read_metadata if with_metadata else read_corpus
        articles = self._articles and self.data_json is None
        location = self._inputs.metadata[split]
        copy = local_copy(location, self._cache / "downloads", access=self._inputs.access)
        return read(_opener(_open_whole(copy)), location, wanted, articles)

    def _name_file(self, split: str) -> str:
        """Name the file that the records of a split come from, without its folder."""
        if self.data_json is None:
            return f"metadata/{SPLITS[split]}.json"
        tar = os.path.basename(without_secrets(self._inputs.tar or ""))
        return "data.json" if self._inputs.data_json else f"data.json in {tar}"


def _take(table: pa.Table, ids: Int64s) -> pa.Table:
    """Take the rows with these ids, sorted and unique, from a table that is sorted by id."""
    known = int64s(table["id"])
    if np.array_equal(known, ids):
        return table
    rows = lookup(known, ids)
    return table.take(as_array(rows[rows >= 0])).combine_chunks()


def _open_whole(path: str) -> Section:
    file = LocalFile(path, read_ahead=True)
    return file, 0, file.size


def _opener(section: Section) -> Callable[[], Stream]:
    return functools.partial(FileSlice, *section)
