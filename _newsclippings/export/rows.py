"""The rows that are exported: those of joined splits, or of a built folder."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from _newsclippings.config import Request
from _newsclippings.errors import ConfigError, MissingDataError, bad_file
from _newsclippings.facts import COLUMNS, NAME, SOURCE_DATASETS
from _newsclippings.folder import BuiltFolder, ShardEntry, refuse_foreign_content
from _newsclippings.inputs import Inputs, build_id
from _newsclippings.pictures import folders_of, pictures_state
from _newsclippings.rows import JoinedSplit, join_config
from _newsclippings.storage import Place, cache_folder
from _newsclippings.tables import Int64s, int64s
from _newsclippings.text import option

PART = 1000  # row numbers of the official file that a part covers
ROWS_READ = 100  # of a built folder at a time
_INDEXES_READ = 100_000

Row = dict[str, Any]


class Rows(Protocol):
    """The rows of a config.

    Attributes:
        identity: differs if rows differ.
        index: split -> int64 (N,), the row numbers that come out, in ascending order.
        measures: what the column `source_dataset` numbers.
    """

    identity: str
    measures: Sequence[str]
    index: Mapping[str, Int64s]

    def read(self, split: str, parts: Sequence[int]) -> Iterator[Row]:
        """Yield the rows of some parts, in ascending order; a part k has the rows from k * PART on."""

    def count_picture_bytes(self, once: bool) -> int:
        """Return the bytes of all pictures, if each is written once or with every row; 0 if that is unknown."""

    def check_unchanged(self) -> None:
        """Raise an error if an input changed since it was found."""


class JoinedRows:
    """The rows of joined splits; see `Rows`."""

    def __init__(self, request: Request, inputs: Inputs) -> None:
        """Join the splits, and look for all files.

        Raises:
            MissingDataError: rows are incomplete and `missing="error"`.
            NewsCLIPpingsError: an input is missing or damaged.
        """
        joiner, self._splits = join_config(request, cache_folder() / NAME, inputs)
        self._request, self._inputs = request, joiner.inputs
        self.index: Mapping[str, Int64s] = {
            split: np.flatnonzero(joined.rows.keep) for split, joined in self._splits.items()
        }
        damages = sorted({damage for joined in self._splits.values() for damage in joined.damages})
        pictures = pictures_state(*folders_of(*(joined.pictures for joined in self._splits.values())))
        self.measures: Sequence[str] = self._inputs.source_datasets
        of_others = [] if self._inputs.generated is None else self.measures
        self.identity = _digest(build_id(request, self._inputs), pictures, *damages, *of_others)

    def read(self, split: str, parts: Sequence[int]) -> Iterator[Row]:
        """Yield rows; see `Rows`."""
        joined = self._splits[split]
        ranges = [(part * PART, min((part + 1) * PART, len(joined.rows))) for part in parts]
        for _, table in joined.tables(ranges, joined.rows_of_table("arrow"), ahead=True):
            yield from table.to_pylist()

    def count_picture_bytes(self, once: bool) -> int:
        """Count the bytes of pictures; see `Rows`."""
        return sum(_count_picture_bytes(joined, once) for joined in self._splits.values())

    def check_unchanged(self) -> None:
        """Raise an error if an input changed; see `Rows`."""
        self._inputs.check_unchanged(self._inputs.list_read(self._request))


class BuiltRows:
    """The rows of a folder that `newsclippings build` wrote; see `Rows`."""

    def __init__(self, place: Place, config: str, splits: Sequence[str] | None, images: str) -> None:
        """Read the row numbers.

        Raises:
            ConfigError: the folder has no such config, split or pictures.
            BadFileError: it is damaged, or not such a folder.
        """
        self._folder = BuiltFolder.open(place)
        self._place = place / config
        manifest = self._folder.manifests.get(config)
        names = list(manifest.splits) if splits is None and manifest is not None else list(splits or [])
        if manifest is None or not {*names} <= {*manifest.splits}:
            present = ", ".join(
                f"{name}/{split}" for name, each in self._folder.manifests.items() for split in each.splits
            )
            message = f"{place} has no {'/'.join([config, *names])}. It has {present}."
            raise ConfigError(message)
        if images != "none" and not manifest.has_pictures:
            message = (
                f"{self._place} has no pictures in its rows. Pass {option('images', 'none')}, or export from the data "
                f"({option('data_dir')}) or from a folder built with pictures in every row."
            )
            raise ConfigError(message)
        columns = [name for name in COLUMNS if name != "image"]
        self._columns = columns if images == "none" else [*columns, "image.bytes"]
        self.identity = _digest(manifest.sha256, config, images, *names)
        self.measures: Sequence[str] = manifest.features.get("source_dataset", {}).get("names", SOURCE_DATASETS)
        self._shards: dict[str, list[tuple[ShardEntry, Int64s]]] = {}
        for split in names:
            self._shards[split] = [(shard, self._read_index(shard)) for shard in manifest.shards_of(split)]
        nothing = np.empty(0, np.int64)
        self.index: Mapping[str, Int64s] = {
            s: np.concatenate([nothing, *(i for _, i in shards)]) for s, shards in self._shards.items()
        }
        if any((np.diff(index) <= 0).any() for index in self.index.values()):
            raise bad_file(self._place, "rows in the order of their index", "another order")

    def read(self, split: str, parts: Sequence[int]) -> Iterator[Row]:
        """Yield rows; see `Rows`."""
        wanted = {*parts}
        for shard, index in self._shards[split]:
            if not wanted.isdisjoint((index // PART).tolist()):
                for batch in self._read(shard, self._columns, ROWS_READ):
                    yield from (row for row in batch.to_pylist() if row["index"] // PART in wanted)

    def count_picture_bytes(self, once: bool) -> int:
        """Return 0: the sizes of the pictures are not known before they are read."""
        return 0

    def check_unchanged(self) -> None:
        """Do nothing: each file was compared with its manifest when it was opened."""

    def _read_index(self, shard: ShardEntry) -> Int64s:
        batches = [batch.column("index") for batch in self._read(shard, ["index"], _INDEXES_READ)]
        return int64s(pa.chunked_array(batches, pa.int32()).cast(pa.int64()))

    def _read(self, shard: ShardEntry, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        with refuse_foreign_content(self._place):
            yield from self._folder.read_shard(shard, columns, rows)


def check_complete(row: Row, place: object) -> None:
    """Raise `MissingDataError` if a row lacks a caption or a picture, as rows of a built folder may."""
    picture = row["image"]["bytes"] if row.get("image") else None
    lacking = [name for name in ("caption", "image_path") if row[name] is None]
    lacking += ["image"] if "image" in row and picture is None else []
    if lacking:
        message = (
            f"{place}: row {row['index']} has no {lacking[0]}, without which it cannot be exported. Export from a "
            "folder that was built with --missing drop_pair."
        )
        raise MissingDataError(message)


def _count_picture_bytes(joined: JoinedSplit, once: bool) -> int:
    if joined.pictures is None:
        return 0
    records = joined.rows.image_row[joined.rows.keep]
    return int(joined.pictures.sizes[np.unique(records) if once else records].sum())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
