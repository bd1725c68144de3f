"""Where the records that matches refer to come from: data.json, as a file or in the tar, or the authors' metadata."""

import functools
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from _newsclippings.corpus.exact_scan import read_corpus
from _newsclippings.corpus.metadata import read_metadata
from _newsclippings.errors import BadTarError
from _newsclippings.facts import SPLITS
from _newsclippings.inputs import Inputs
from _newsclippings.storage import FileSlice, LocalFile, RandomFile, Stream, lazy_property, local_copy
from _newsclippings.tables import Int64s, as_array, int64s, lookup, unique_ids
from _newsclippings.tar import TarArchive
from _newsclippings.text import without_secrets

logger = logging.getLogger("newsclippings")

Stretch = tuple[RandomFile, int, int]  # a file, or a part of one: what to read, from which byte on, how many bytes


class Corpus:
    """The records of VisualNews that the splits of a config refer to, by id; every call reads its file once."""

    def __init__(
        self, inputs: Inputs, tar: TarArchive | None, tar_is_read: bool, metadata: bool, articles: bool, cache: Path
    ) -> None:
        """Nothing is opened yet.

        Args:
            inputs: where the inputs are.
            tar: origin.tar, in which data.json may be.
            tar_is_read: whether pictures or articles come from it, too.
            metadata: whether metadata are asked for.
            articles: whether paths of articles are asked for.
            cache: folder for copies of remote files.
        """
        self.inputs, self.tar, self.tar_is_read, self.cache = inputs, tar, tar_is_read, cache
        self.with_metadata, self.articles = metadata, articles
        self.passed_over = False  # whether captions come from the metadata because the tar is damaged

    @lazy_property
    def data_json(self) -> Stretch | None:
        """data.json; None where there is none, so that captions come from the metadata."""
        if self.inputs.data_json is not None:
            return _whole_file(self.inputs.data_json)
        try:
            return self.tar.open_member("data.json") if self.tar else None
        except BadTarError as error:
            if self.tar_is_read:
                raise
            logger.warning("Captions are taken from the metadata, because of this: %s", error)
            self.passed_over = True
            return None

    def files(self, split: str) -> list[str]:
        """The inputs that decide what `records` gives for a split, beside its matches."""
        if self.inputs.data_json is not None:
            return [self.inputs.data_json]
        tar = [place for place in (self.inputs.tar, self.inputs.tar_index) if place and self.inputs.tar]
        return [*tar, self.inputs.metadata[split]]

    def records(self, wanted: Mapping[str, Int64s]) -> dict[str, pa.Table]:
        """Split -> the records of some ids.

        Args:
            wanted: split -> ids, sorted and unique.

        Returns:
            Tables sorted by id: the columns of `corpus_schema`, and `metadata` where they come from the metadata and
            those are asked for. The schema's metadata say where they come from (`captions_from`), and what is known of
            the tar's `damage`.
        """
        if self.data_json is None:
            tables = {split: self.metadata(split, ids, self.with_metadata) for split, ids in wanted.items()}
        else:
            table = read_corpus(_opener(self.data_json), self._location(), unique_ids(*wanted.values()), self.articles)
            tables = {split: _some(table, ids) if len(wanted) > 1 else table for split, ids in wanted.items()}
        damage = (self.tar.known_damage if self.tar else None) or ""
        return {
            split: table.replace_schema_metadata({"captions_from": self.name(split), "damage": damage})
            for split, table in tables.items()
        }

    def metadata(self, split: str, wanted: Int64s, with_metadata: bool = True) -> pa.Table:
        """Records out of the metadata of a split, with or without all that these hold."""
        read = read_metadata if with_metadata else read_corpus
        articles = self.articles and self.data_json is None
        copy = local_copy(self.inputs.metadata[split], self.cache / "downloads")
        return read(_opener(_whole_file(copy)), self.inputs.metadata[split], wanted, articles)

    def name(self, split: str) -> str:
        """What the records of a split come from, without its folder."""
        if self.data_json is None:
            return f"metadata/{SPLITS[split]}.json"
        tar = os.path.basename(without_secrets(self.inputs.tar or ""))
        return "data.json" if self.inputs.data_json else f"data.json in {tar}"

    def _location(self) -> str:
        """What errors call data.json."""
        return self.inputs.data_json or f"{without_secrets(self.inputs.tar or '')}: data.json"


def _some(table: pa.Table, ids: Int64s) -> pa.Table:
    """The rows of a table, sorted by id, that have some ids, sorted and unique."""
    rows = lookup(int64s(table["id"]), ids)
    return table.take(as_array(rows[rows >= 0])).combine_chunks()


def _whole_file(path: str) -> Stretch:
    file = LocalFile(path, read_ahead=True)
    return file, 0, file.size


def _opener(stretch: Stretch) -> Callable[[], Stream]:
    return functools.partial(FileSlice, *stretch)
