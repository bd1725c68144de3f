"""The true labels of a split, from the official matches or from a built folder, and the groups of its rows."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.config import Request, check_name
from _newsclippings.corpus import Corpus
from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.evaluate.measures import Bools, Floats
from _newsclippings.facts import NAME, ROWS, SOURCE_DATASETS
from _newsclippings.folder import BuiltFolder, refuse_foreign_content
from _newsclippings.generated import is_name
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.storage import Place, cache_folder, is_url, local_copy
from _newsclippings.tables import Int64s, int64s, lookup, unique_ids, values_of

UNKNOWN = "unknown"  # the key of rows without a record or a date
KEPT_IN_FOLDERS = ("index", "id", "image_id", "falsified", "similarity_score", "source_dataset")
BATCH = 10_000  # rows that are read from a built folder at a time

Groups = dict[str, list[str]]


@dataclass(frozen=True)
class Truth:
    """The rows of a split, in the order of their index.

    Attributes:
        config: name of the config.
        split: name of the split.
        index: int64 (N,), sorted and unique; 2k and 2k + 1 are a pair, unless `pairs` says otherwise.
        ids: int64 (N,), of the captions.
        image_ids: int64 (N,), of the pictures.
        falsified: bool (N,).
        similarity: float64 (N,), the value of the measure that made the pair.
        source: int64 (N,), position in `SOURCE_DATASETS`, or among the methods of a generated config; -1 if unknown.
        groups: breakdown -> key of each row.
        left_out: why breakdowns are left out, as one sentence; empty if none is.
        places: the files and folders that were read.
        pairs: int64 (N,), the pair of each row, in a test set with other pairs or none (each row is its own).
        classes: what each row is, if a test set has several kinds of falsified rows; None for two classes.
        absent: rows of the split that are not among these: they are missing, and not measured.
        labels: how `falsified` was changed, as a name; empty if it is that of the split.
    """

    config: str
    split: str
    index: Int64s
    ids: Int64s
    image_ids: Int64s
    falsified: Bools
    similarity: Floats
    source: Int64s
    groups: Groups = field(default_factory=dict)
    left_out: str = ""
    places: Sequence[str | Place] = ()
    pairs: Int64s | None = None
    classes: Sequence[str] | None = None
    absent: int = 0
    labels: str = ""

    @property
    def digest(self) -> str:
        """Twelve digits that identify the matches, wherever and in whatever form they were read."""
        columns = self.index, self.ids, self.image_ids, self.falsified, self.source, self.similarity
        parts = (column.astype("<f8" if column.dtype == float else "<i8").tobytes() for column in columns)
        return hashlib.sha256(b"".join(parts)).hexdigest()[:12]

    def take(self, which: Bools) -> "Truth":
        """Return some of the rows; the others are absent."""
        names = ("index", "ids", "image_ids", "falsified", "similarity", "source")
        columns = {name: getattr(self, name)[which] for name in names}
        groups = {
            name: [key for key, kept in zip(keys, which, strict=True) if kept] for name, keys in self.groups.items()
        }
        columns |= {"pairs": None if self.pairs is None else self.pairs[which]}
        classes = None if self.classes is None else [one for one, kept in zip(self.classes, which, strict=True) if kept]
        return replace(self, **columns, groups=groups, classes=classes, absent=self.absent + int((~which).sum()))

    @property
    def pair(self) -> Int64s:
        """The pair of each row, int64 (N,)."""
        return self.index // 2 if self.pairs is None else self.pairs

    @property
    def has_pairs(self) -> bool:
        """Whether any rows are a pair."""
        return len(np.unique(self.pair)) < len(self.index)

    def units(self, cluster: str) -> Int64s:
        """Return the unit of each row that is resampled, from 0 on: its pair, or its cluster of pairs.

        Args:
            cluster: `"pairs"`, or `"pictures"` for clusters of pairs that are linked by pictures they share.
        """
        pairs = np.unique(self.pair, return_inverse=True)[1]
        if cluster == "pairs":
            return pairs
        pictures = np.unique(self.image_ids, return_inverse=True)[1]
        label = np.arange(pairs.max() + 1)
        while True:  # the smallest number spreads over pictures, and then over the pairs with the same number
            of_picture = np.full(pictures.max() + 1, len(label))
            np.minimum.at(of_picture, pictures, label[pairs])
            spread = label.copy()
            np.minimum.at(spread, pairs, of_picture[pictures])
            np.minimum.at(spread, label, spread.copy())
            spread = spread[spread]
            if np.array_equal(spread, label):
                return np.unique(label, return_inverse=True)[1][pairs]
            label = spread


def load_truth(
    config: str, split: str, data_dir: str | None = None, built: Place | None = None, groups: bool = True
) -> Truth:
    """Load the true labels of a split, and the groups of its rows that files on this machine give.

    Args:
        config: name of the config.
        split: name of the split.
        data_dir: see `Request`.
        built: a folder that `newsclippings build` wrote, to use instead.
        groups: whether to look up the groups in the records and metadata.

    Raises:
        ConfigError: a name is unknown, or the folder does not have the split.
        NewsCLIPpingsError: a file is missing or damaged.
    """
    if built is not None:
        if not is_name(config):  # that of a generated config is in the folder, or not
            check_name(config)
        return _from_folder(BuiltFolder.open(built), config, split)
    request = Request(config, data_dir=data_dir, splits=[split], images="none", metadata=True)
    return _from_matches(request, split, groups)


def make_truth(config: str, split: str, rows: Sequence[Mapping[str, Any]]) -> Truth:
    """Take the true labels from rows of a dataset; rows that the official split has beyond them are absent.

    Args:
        config: name of the config.
        split: name of the split.
        rows: with `index`, `id`, `image_id`, `falsified`, `source_dataset` and `source`, in the order of their index.
    """
    index, ids, image_ids, falsified = (
        np.array([row[name] for row in rows], np.int64) for name in ("index", "id", "image_id", "falsified")
    )
    codes = [row["source_dataset"] for row in rows]
    source = _known_codes(np.array([-1 if code is None else code for code in codes], np.int64), SOURCE_DATASETS)
    groups = {
        "source_dataset": _source_keys(source, SOURCE_DATASETS),
        "outlet": [row["source"] or UNKNOWN for row in rows],
    }
    left_out = "Left out: breakdowns by outlet_pair, topic and year, since the labels are those of the rows loaded."
    absent = max(0, (ROWS[config][split] or 0) - len(rows))
    similarity = np.where(falsified == 1, np.nan, 1.0)  # unknown
    return Truth(
        config, split, index, ids, image_ids, falsified == 1, similarity, source, groups, left_out, absent=absent
    )


def _from_matches(request: Request, split: str, with_groups: bool) -> Truth:
    inputs = find_inputs(request)
    location = inputs.matches[split]
    matches = read_matches(
        local_copy(location, cache_folder() / NAME / "downloads"), request.name, names=inputs.source_datasets
    )
    index = np.arange(len(matches))
    ids, image_ids, source = (
        int64s(matches["id"]),
        int64s(matches["image_id"]),
        _codes(matches["source_dataset"], inputs.source_datasets),
    )
    groups, left_out = _read_groups(inputs, split, ids, image_ids) if with_groups else ({}, "")
    return Truth(
        request.name,
        split,
        index,
        ids,
        image_ids,
        values_of(matches["falsified"]).astype(bool),
        values_of(matches["similarity_score"]),
        source,
        {"source_dataset": _source_keys(source, inputs.source_datasets), **groups},
        left_out,
        inputs.list_places(),
    )


def _from_folder(folder: BuiltFolder, config: str, split: str) -> Truth:
    manifest = folder.manifests.get(config)
    shards = manifest.shards_of(split) if manifest is not None else []
    if manifest is None or not shards:
        present = ", ".join(f"{name}/{part}" for name, each in folder.manifests.items() for part in each.splits)
        message = f"{folder.root} has no {config}/{split}. It has {present}."
        raise ConfigError(message)
    texts, dated = ["source", "image_source", "topic"], "metadata" in manifest.features
    columns = [*KEPT_IN_FOLDERS, *texts, *(["metadata.timestamp"] if dated else [])]
    with refuse_foreign_content(folder.root / config):
        batches = [batch for shard in shards for batch in folder.read_shard(shard, columns, BATCH)]
        read = {name: pa.chunked_array([batch.column(name) for batch in batches]) for name in batches[0].schema.names}
        index = int64s(read["index"].cast(pa.int64()))
        if not (np.diff(index) > 0).all():
            raise bad_file(folder.root / config, "rows in the order of their index", "another order")
        outlet, other, topic = (_texts(read[name].cast(pa.string())) for name in texts)
        groups = _outlet_groups(index, outlet, other, topic)
        if dated:
            groups["year"] = _years(pa.concat_arrays([chunk.field("timestamp") for chunk in read["metadata"].chunks]))
        names = manifest.features["source_dataset"]["names"]
        source = _codes(read["source_dataset"], names)
        return Truth(
            config,
            split,
            index,
            int64s(read["id"]),
            int64s(read["image_id"]),
            int64s(read["falsified"]) == 1,
            values_of(read["similarity_score"]),
            source,
            {"source_dataset": _source_keys(source, names), **groups},
            "" if dated else "Left out: the breakdown by year, which needs a folder built with --metadata.",
            [folder.root],
        )


def _read_groups(inputs: Inputs, split: str, ids: Int64s, image_ids: Int64s) -> tuple[Groups, str]:
    """Look up outlets, topics and years in data.json and the metadata, if they are on this machine."""
    metadata = None if is_url(inputs.metadata[split]) else inputs.metadata[split]
    if inputs.data_json is None and metadata is None:
        missing = "neither data.json of VisualNews nor the metadata of the split is on this machine"
        return {}, f"Left out: breakdowns by outlet, outlet_pair, topic and year, since {missing}."
    corpus = Corpus(inputs, {}, False, metadata is not None, False, cache_folder() / NAME)
    ((_, records),) = corpus.read_records({split: unique_ids(ids, image_ids)})
    known = int64s(records["id"])
    outlets, topics = _texts(records["source"]), _texts(records["topic"])
    captions, pictures = lookup(known, ids), lookup(known, image_ids)
    outlet, other, topic = (
        _take(texts, rows) for texts, rows in ((outlets, captions), (outlets, pictures), (topics, captions))
    )
    groups = _outlet_groups(np.arange(len(ids)), outlet, other, topic)
    if metadata is None:
        return groups, "Left out: the breakdown by year, since the metadata of the split is not on this machine."
    if "metadata" not in records.column_names:
        records = corpus.read_metadata(split, unique_ids(ids))
    dates = records["metadata"].combine_chunks().field("timestamp")
    groups["year"] = _take(_years(dates), lookup(int64s(records["id"]), ids))
    return groups, ""


def _outlet_groups(index: Int64s, outlet: list[str], other: list[str], topic: list[str]) -> Groups:
    """Group rows by the caption's outlet and topic, and pairs by whether all of their outlets are the same."""
    mixed = {row // 2 for row, one, two in zip(index.tolist(), outlet, other, strict=True) if one != two}
    pair = ["mixed" if row // 2 in mixed else "same" for row in index.tolist()]
    return {"outlet": outlet, "outlet_pair": pair, "topic": topic}


def _codes(column: pa.ChunkedArray, names: Sequence[str]) -> Int64s:
    """Return positions in `names`, -1 for others."""
    return _known_codes(values_of(column, -1).astype(np.int64), names)


def _known_codes(codes: Int64s, names: Sequence[str]) -> Int64s:
    return np.where((codes >= 0) & (codes < len(names)), codes, -1)


def _source_keys(codes: Int64s, names: Sequence[str]) -> list[str]:
    return [(*names, UNKNOWN)[code] for code in codes.tolist()]


def _texts(column: pa.ChunkedArray) -> list[str]:
    return [text or UNKNOWN for text in column.to_pylist()]


def _years(dates: pa.Array) -> list[str]:
    seconds = dates.cast(pa.timestamp("s", "UTC")).cast(pa.int64())  # Parquet has milliseconds
    years = values_of(seconds, 0).astype("datetime64[s]").astype("datetime64[Y]").astype(str)
    return [year if known else UNKNOWN for year, known in zip(years.tolist(), values_of(dates.is_valid()), strict=True)]


def _take(texts: Sequence[str], rows: npt.NDArray[np.integer]) -> list[str]:
    return [texts[row] if row >= 0 else UNKNOWN for row in rows.tolist()]


def group_rows(keys: Iterable[str]) -> dict[str, Bools]:
    """Return key -> bool (N,), the rows with this key; sorted by key. Rows with an empty key are in no group."""
    names, codes = np.unique(np.array([*keys], object).astype(str), return_inverse=True)
    return {str(name): codes == k for k, name in enumerate(names) if name}
