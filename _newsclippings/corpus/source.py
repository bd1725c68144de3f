"""Where the records that matches speak of come from: data.json, as a file or in the tar, or the authors' metadata."""

import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from _newsclippings.corpus.exact_scan import corpus_schema, read_corpus, with_normal_paths
from _newsclippings.corpus.metadata import metadata_build, read_metadata
from _newsclippings.corpus.record_index import RecordIndex, index_records
from _newsclippings.errors import BadTarError
from _newsclippings.facts import SPLITS
from _newsclippings.inputs import Sources
from _newsclippings.storage import LocalFile, Member, RandomFile, Stream, computed_once, local_copy
from _newsclippings.tables import Int64s
from _newsclippings.tar import TarSource
from _newsclippings.text import without_secrets

logger = logging.getLogger("newsclippings")

Stretch = tuple[RandomFile, int, int]  # a file, or a part of one: what to read, from which byte on, how many bytes


class RecordSource:
    """The records of a config: for whole splits, or a few at a time."""

    def __init__(
        self, sources: Sources, tar: TarSource | None, tar_is_read: bool, metadata: bool, articles: bool, cache: Path
    ) -> None:
        """Nothing is opened yet.

        Args:
            sources: where the inputs are.
            tar: origin.tar, which data.json may lie in.
            tar_is_read: whether pictures or articles come from it, too.
            metadata: whether metadata are asked for.
            articles: whether paths of articles are asked for.
            cache: folder for copies of remote files.
        """
        self.sources, self.tar, self.tar_is_read, self.cache = sources, tar, tar_is_read, cache
        self.with_metadata, self.articles = metadata, articles
        self._indexes: dict[str, RecordIndex | None] = {}
        self._whole: dict[tuple[str, bool], pa.Table] = {}

    @computed_once
    def data_json(self) -> Stretch | None:
        """data.json; None where there is none, so that captions come from the metadata."""
        if self.sources.data_json is not None:
            return _whole_file(self.sources.data_json)
        try:
            return self.tar.stretch("data.json") if self.tar else None
        except BadTarError as error:
            if self.tar_is_read:
                raise
            logger.warning("Captions are taken from the metadata, because of this: %s", error)
            return None

    def name(self, split: str) -> str:
        """What the records of a split come from, without its folder."""
        if self.data_json is None:
            return f"metadata/{SPLITS[split]}.json"
        tar = os.path.basename(without_secrets(self.sources.tar or ""))
        return "data.json" if self.sources.data_json else f"data.json in {tar}"

    def of_splits(self, wanted: dict[str, Int64s]) -> dict[str, pa.Table]:
        """Split -> its records (of all splits, where they come from one file), each file read once."""
        if self.data_json is not None:
            every = np.unique(np.concatenate(list(wanted.values())))
            table = read_corpus(_opener(self.data_json), self._location(None), every, self.articles)
            return dict.fromkeys(wanted, table)
        return {split: self.metadata(split, ids, self.with_metadata) for split, ids in wanted.items()}

    def metadata(self, split: str, wanted: Int64s, with_metadata: bool = True) -> pa.Table:
        """Records out of the metadata, with or without all that these hold."""
        read = read_metadata if with_metadata else read_corpus
        articles = self.articles and self.data_json is None
        return read(_opener(self._metadata_file(split)), self._location(split), wanted, articles)

    def some(self, split: str, wanted: Int64s, every: Callable[[], Int64s]) -> pa.Table:
        """A few records of a split; all of them where the file cannot be read at places.

        Args:
            split: name of the split.
            wanted: ids, sorted and unique.
            every: gives all ids that will be wanted of the split.
        """
        if self.data_json is None:
            return self.some_metadata(split, wanted, every, self.with_metadata)
        if (split, False) not in self._whole:
            table = self._pick(None, wanted, False)
            if table is not None:
                return table
            self._whole[split, False] = self.of_splits({split: every()})[split]
        return self._whole[split, False]

    def some_metadata(
        self, split: str, wanted: Int64s, every: Callable[[], Int64s], with_metadata: bool = True
    ) -> pa.Table:
        """A few records out of the metadata; see `some`."""
        if (split, True) not in self._whole:
            table = self._pick(split, wanted, with_metadata)
            if table is not None:
                return table
            self._whole[split, True] = self.metadata(split, every(), with_metadata)
        return self._whole[split, True]

    def _pick(self, split: str | None, wanted: Int64s, with_metadata: bool) -> pa.Table | None:
        """A few records out of data.json, or out of the metadata of a split; None in any doubt."""
        location = self._location(split)
        if location not in self._indexes:
            stretch = self._metadata_file(split) if split else self.data_json
            self._indexes[location] = index_records(*stretch) if stretch else None
        index = self._indexes[location]
        schema = corpus_schema(self.articles and (split is None or self.data_json is None))
        if index is None:
            return None
        table = index.pick(wanted, schema, metadata_build(schema) if with_metadata else None)
        return None if table is None else with_normal_paths(table, location)

    def _location(self, split: str | None) -> str:
        """What to call data.json, or the metadata of a split, in errors."""
        if split is not None:
            return self.sources.metadata[split]
        return self.sources.data_json or f"{without_secrets(self.sources.tar or '')}: data.json"

    def _metadata_file(self, split: str) -> Stretch:
        return _whole_file(local_copy(self.sources.metadata[split], self.cache / "downloads"))


def _whole_file(path: str) -> Stretch:
    file = LocalFile(path, read_ahead=True)
    return file, 0, file.size


def _opener(stretch: Stretch) -> Callable[[], Stream]:
    return functools.partial(Member, *stretch)
