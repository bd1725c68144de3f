"""Read rows of a built folder as plain values: all of a split, or some pairs without the rest of its files."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.facts import COLUMNS, LABELS, SHARED_PICTURES, SOURCE_DATASETS
from _newsclippings.folder.built_folder import BuiltFolder, refuse_foreign_content
from _newsclippings.folder.manifest import AGAIN, ShardEntry
from _newsclippings.storage import Place
from _newsclippings.tables import Int64s, values_of
from _newsclippings.text import short_repr

BATCH: Final = 100  # rows
TEXTS: Final = [name for name, (kind, _) in COLUMNS.items() if kind == "string"]
DATES: Final = ("metadata", "image_metadata")


def list_pairs(folder: BuiltFolder, config: str, split: str) -> Int64s:
    """List the pairs of a split by their numbers in the official file (int64); dropped ones are not there.

    Raises:
        ConfigError: the folder does not have the split.
        BadFileError: a file differs from its manifest.
    """
    return np.unique(_read_column(folder, config, split, "index") // 2)


def stream_built_rows(
    folder: BuiltFolder, config: str, split: str, pairs: Iterable[int] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows as plain values, with null for columns that the folder does not have.

    Dates are in `metadata` and `image_metadata`, of which nothing else is read.

    Args:
        folder: the folder.
        config: name of the config.
        split: name of the split.
        pairs: numbers of the pairs to read. None: all.

    Raises:
        ConfigError, BadFileError: as `list_pairs`.
    """
    if config == SHARED_PICTURES:
        message = f"{folder.root / config} has pictures without captions. Pass the folder of another config."
        raise ConfigError(message)
    features = folder.manifests[config].features if config in folder.manifests else {}
    measures = len(features.get("source_dataset", {}).get("names", SOURCE_DATASETS))
    columns = [name for name in COLUMNS if name in features and name != "image"]
    columns += ["image.bytes"] if "image" in features else []
    columns += [f"{name}.timestamp" for name in DATES if name in features]
    wanted = None
    if pairs is not None:
        wanted = np.flatnonzero(np.isin(_read_column(folder, config, split, "index") // 2, np.array([*pairs])))
    shared = _SharedPictures(folder, split) if config in folder.sharing_configs else None
    for shard, numbers in _divide(_shards(folder, config, split), wanted):
        with refuse_foreign_content(folder.root / shard.path):
            for batch in folder.read_shard(shard, columns, BATCH, numbers):
                rows = [_check_row(folder.root / shard.path, row, measures) for row in batch.to_pylist()]
                pictures = shared.read({row["image_id"] for row in rows}) if shared else {}
                for row in rows:  # a path could name any picture of this machine
                    data = pictures.get(row["image_id"]) if shared else (row["image"] or {}).get("bytes")
                    yield {**row, "image": data and {"bytes": data, "path": None}}


def _check_row(file: Place, row: dict[str, Any], measures: int) -> dict[str, Any]:
    """Fill up a row with nulls, and raise `BadFileError` if `build` would not have written it."""
    row = dict.fromkeys(COLUMNS) | row
    score = row["similarity_score"]
    sound = {name: isinstance(row[name], int) for name in ("index", "id", "image_id")}
    sound |= {name: row[name] is None or isinstance(row[name], str) for name in TEXTS}
    sound["falsified"] = row["falsified"] in range(len(LABELS))
    sound["source_dataset"] = row["source_dataset"] in (None, *range(measures))
    sound["similarity_score"] = isinstance(score, float) and math.isfinite(score)
    for name, good in sound.items():
        if not good:
            raise bad_file(file, f"{name} as `newsclippings build` writes it", short_repr(row[name]), AGAIN)
    return row


class _SharedPictures:
    """The pictures of a split in the config of shared pictures."""

    def __init__(self, folder: BuiltFolder, split: str) -> None:
        folder.require_shared_pictures()
        self._folder, self._split = folder, split
        self._ids = _read_column(folder, SHARED_PICTURES, split, "image_id")

    def read(self, image_ids: Iterable[int]) -> Mapping[int, bytes]:
        wanted = np.flatnonzero(np.isin(self._ids, np.array([*image_ids])))
        found: dict[int, bytes] = {}
        for shard, numbers in _divide(_shards(self._folder, SHARED_PICTURES, self._split), wanted):
            for batch in self._folder.read_shard(shard, ["image_id", "image.bytes"], BATCH, numbers):
                found |= {row["image_id"]: (row["image"] or {}).get("bytes") for row in batch.to_pylist()}
        return found


def _read_column(folder: BuiltFolder, config: str, split: str, name: str) -> Int64s:
    parts = [np.empty(0, np.int64)]
    for shard in _shards(folder, config, split):
        with refuse_foreign_content(folder.root / shard.path):
            for batch in folder.read_shard(shard, [name], 1 << 16):
                parts.append(values_of(batch.column(0), -1).astype(np.int64))
    return np.concatenate(parts)


def _divide(shards: list[ShardEntry], wanted: Int64s | None) -> Iterator[tuple[ShardEntry, Int64s | None]]:
    """Yield each file with the numbers of its wanted rows, in order; None for all."""
    start = 0
    for shard in shards:
        inside = None if wanted is None else wanted[(wanted >= start) & (wanted < start + shard.rows)] - start
        start += shard.rows
        if inside is None or len(inside):
            yield shard, inside


def _shards(folder: BuiltFolder, config: str, split: str) -> list[ShardEntry]:
    manifest = folder.manifests.get(config)
    if manifest is None:
        message = f"{folder.root} has no config {config}. It has {', '.join(folder.manifests)}: choose one of them."
        raise ConfigError(message)
    if split not in manifest.splits:
        message = f"{folder.root / config} has no split {split}. It has {', '.join(manifest.splits)}: choose one."
        raise ConfigError(message)
    return manifest.shards_of(split)
