"""Load rows for training, check that pairs are whole, and change rows for controls."""

import hashlib
import logging
from dataclasses import replace
from typing import Any, NamedTuple

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import load_dataset, load_dataset_builder
from torch.utils.data import ConcatDataset, Dataset

from _newsclippings.builder import load, make_name_known
from _newsclippings.facts import DEFAULT_CONFIG, NAME
from _newsclippings.storage import open_stream
from _newsclippings.text import did_you_mean, short_repr
from _newsclippings.train.options import INPUT_FLAGS, OUTLET_RULES, Options

logger = logging.getLogger(NAME)
make_name_known()  # to `load_dataset_builder`, which is called with it below

Row = dict[str, Any]
FACTS = ["index", "id", "image_id", "falsified", "source_dataset", "source"]  # columns for predictions and measures


def load_split(options: Options, split: str, only: list[str] | None = None) -> Any:
    """Load the columns of a split that training needs, with encoded pictures; a `datasets.Dataset`, or a stream.

    Args:
        options: of the training.
        split: name of the split.
        only: load these columns instead, none of which has pictures or vectors.
    """
    kinds = options.columns()
    if options.data == NAME:
        fields = builder_fields(options) | ({"images": "none"} if only else {})
        rows: Any = load(options.config, split, streaming=options.streaming, **fields)
    else:
        try:
            rows = load_dataset(options.data, options.config, split=split, streaming=options.streaming)
        except ValueError as error:
            if split != "validation" or "split" not in str(error):
                raise
            raise ValueError(
                f"{options.data}, {options.config} has no split validation, on which the best checkpoint is chosen. "
                "Build it, too, or pass --eval_strategy no to test the last weights."
            ) from error
    if only:
        return rows.select_columns(only)
    wanted = [*FACTS, *(["image_source"] if options.train_outlets else []), *(kinds or ["caption", "image"])]
    lacking = sorted(set(wanted) - set(rows.column_names or wanted))
    if lacking:
        here = [name for name, kind in (rows.features or {}).items() if find_width(kind)] if kinds else []
        hint = did_you_mean(lacking[0], here)
        do = (
            f"Its columns of vectors: {', '.join(here) or 'none'}."
            if kinds
            else ("(If pictures are stored once, use newsclippings.join_images.)")
        )
        raise ValueError(
            f"{options.data}, {options.config} lacks the columns {', '.join(lacking)}, which training needs.{hint} "
            f"Was it built without them? {do}"
        )
    rows = rows.select_columns(wanted)
    return rows if kinds else rows.cast_column("image", datasets.Image(decode=False))


def find_width(kind: Any) -> int | None:
    """Return the width of a column of vectors, or of lists of vectors, from its type; None if it is of another type."""
    inner, length = getattr(kind, "feature", None), getattr(kind, "length", -1)
    if length == -1:
        inner, length = getattr(inner, "feature", None), getattr(inner, "length", -1)
    return length if length > 0 and isinstance(inner, datasets.Value) and inner.dtype.startswith("float") else None


def find_widths(options: Options, rows: Any) -> dict[str, int]:
    """Return column -> width, of the columns of --features in their order, from the types of the columns.

    Raises:
        ValueError: a column is not of vectors, or the types are not known.
    """
    widths: dict[str, int] = {}
    for name in options.columns():
        if rows.features is None:
            raise ValueError(f"{options.data}: a stream of it does not say its types. Leave out --streaming.")
        width = find_width(rows.features[name])
        if width is None:
            raise ValueError(
                f"--features {name}: expected a column of vectors, that is lists of a fixed length of float16, 32 or "
                f"64, found {short_repr(rows.features[name])}. Name another column, or cast it by cast_column()."
            )
        widths[name] = width
    if options.features and options.products and widths["clip_image"] != widths["clip_text"]:
        raise ValueError(
            f"--products: expected clip_image and clip_text of one width, found {widths['clip_image']:,} and "
            f"{widths['clip_text']:,}. Leave it out."
        )
    return widths


def builder_fields(options: Options) -> dict[str, Any]:
    """Fields of the config for the builder of this package."""
    kinds, own = options.columns(), options.own_vectors()
    fields = {name: getattr(options, name) for name in INPUT_FLAGS}
    fields |= {"images": "none" if kinds else "bytes"}
    fields |= {"embeddings": {name: own.get(name, True) for name in kinds} if own else kinds or None}
    fields |= {"missing": "null" if options.missing == "drop_pair" else "error"}  # incomplete pairs are dropped later
    return fields if kinds else {**fields, "check_images": options.check_images}


def read_shard_sizes(options: Options, split: str) -> list[int] | None:
    """Read the numbers of rows of a split's Parquet files from their footers; None if it has no such files."""
    if options.data == NAME:
        return None
    builder = load_dataset_builder(options.data, options.config)
    files = (getattr(builder.config, "data_files", None) or {}).get(split, [])
    sizes = []
    for file in map(str, files):
        if not file.endswith(".parquet"):
            return None
        with open_stream(file) as stream:
            sizes.append(pq.ParquetFile(stream).metadata.num_rows)
    return sizes or None


def count_rows(options: Options, rows: Any, split: str) -> int:
    """Count the rows of a stream without reading them."""
    known = (rows.info.splits or {}).get(split)
    if known is not None and known.num_examples:
        return int(known.num_examples)
    fields = {name: getattr(options, name) for name in INPUT_FLAGS}
    builder = load_dataset_builder(NAME, options.config, splits=[split], images="none", **fields)
    return int(builder.count_rows(split))


def count_kept_rows(options: Options, split: str, outlets: set[str], shards: int) -> list[int]:
    """Count the rows in each shard of a stream that are of these outlets, without reading pictures.

    Raises:
        ValueError: there are none.
    """
    thin = replace(options, features=None, check_images=False)
    rows = load_split(thin, split, ["index", *OUTLET_RULES[options.outlet_rule]])
    counts = []
    for shard in range(shards):
        count, held = 0, None
        for row in rows.shard(num_shards=shards, index=shard):
            if held is None or not are_twins(held, row):
                held = row
                continue
            count += 2 * all(is_of_outlets(twin, outlets, options.outlet_rule) for twin in (held, row))
            held = None
        counts.append(count)
    if not any(counts):
        raise ValueError(f"{split}: expected pairs of {', '.join(sorted(outlets))} only, found none.")
    return counts


class Control:
    """Change rows: by one of `options.CONTROLS`, so that nothing can be learned from them, or by wrong labels.

    Args:
        name: of the control; None for none.
        salt: of the control's coins.
        mislabel: probability with which a pristine row is called falsified. It is drawn by `salt`, epoch and row, so
            that ranks, workers and resumed runs draw the same.
    """

    def __init__(self, name: str | None, salt: str = "", mislabel: float = 0.0) -> None:
        self.name, self.salt, self.mislabel, self.epoch = name, salt, mislabel, 0

    def needs_twin(self, index: int) -> bool:
        """Check whether `__call__` needs the row before this one."""
        return self.name == "own_pictures" and index % 2 == 1

    def __call__(self, row: Row, twin: Row | None) -> Row:
        """Return the row to train on.

        Args:
            row: of the dataset.
            twin: the row before it, if `needs_twin`; else None.

        Raises:
            ValueError: a twin is needed, and `twin` is another row.
        """
        if self.name == "shuffled_labels":
            coin = _digest(f"{self.salt} {row['id']}")[0] & 1  # the same for twins
            row = {**row, "falsified": row["falsified"] ^ coin}
        elif self.needs_twin(row.get("index", 0)):
            if twin is None or twin["id"] != row["id"]:
                raise ValueError(f"row {row['index']}: expected its twin before it, found id {twin and twin['id']}.")
            row = {**row, "image": twin["image"]}
        if self.mislabel and not row["falsified"]:
            drawn = int.from_bytes(_digest(f"{self.salt} {self.epoch} {row['id']} {row['image_id']}")[:8], "big")
            row = {**row, "falsified": type(row["falsified"])(drawn < self.mislabel * 2**64)}
        return row


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def is_whole(row: Row) -> bool:
    """Check whether a row has its caption and its picture, if it has columns for them."""
    picture = row.get("image", "")
    lacks_picture = picture is None or (isinstance(picture, dict) and picture["bytes"] is None)
    return not lacks_picture and row.get("caption", "") is not None


def are_twins(first: Row, second: Row) -> bool:
    """Check whether two consecutive rows are a pair; without the column `index`, assume that they are."""
    return "index" not in first or bool(first["index"] // 2 == second["index"] // 2)


def are_whole_pairs(rows: Any) -> npt.NDArray[np.bool_]:
    """Find the rows of a `datasets.Dataset` that have a caption and a picture, as have their twins: bool (N,).

    No picture is read.
    """
    indexes = rows.data.column("index").to_numpy()
    whole = np.isin(indexes ^ 1, indexes)  # the twin is in the dataset
    for name in {"caption", "image"} & set(rows.column_names):
        column = rows.data.column(name)
        values = pc.struct_field(column, "bytes") if name == "image" else column
        whole &= values.is_valid().to_numpy()
    return _both_twins(indexes, whole)


def _both_twins(indexes: npt.NDArray[np.int64], rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Keep the rows for which both twins are true: bool (N,)."""
    return ~np.isin(indexes // 2, indexes[~rows] // 2)


def are_of_outlets(rows: Any, outlets: set[str], rule: str = "pair") -> npt.NDArray[np.bool_]:
    """Find the rows whose pairs have captions, and by the rule `pair` also pictures, of these outlets only: bool (N,).

    Args:
        rows: with the columns `index`, `source` and `image_source`.
        outlets: names of outlets.
        rule: one of `options.OUTLET_RULES`.
    """
    inside = np.ones(len(rows), bool)
    for name in OUTLET_RULES[rule]:
        inside &= np.isin(np.asarray(rows.data.column(name)), sorted(outlets))
    return _both_twins(rows.data.column("index").to_numpy(), inside)


def is_of_outlets(row: Row, outlets: set[str], rule: str) -> bool:
    """Check whether a row has its caption, and by the rule `pair` also its picture, from one of these outlets."""
    return all(row[name] in outlets for name in OUTLET_RULES[rule])


def log_dropped_rows(rows: int) -> None:
    """Log how many rows were dropped."""
    if rows:
        why = "they or their twins lack a caption or a picture, or are missing."
        logger.warning("%s rows are left out: %s", f"{rows:,}", why)


class Counts(NamedTuple):
    """Rows of a config in a split.

    Attributes:
        total: all that the dataset has.
        of_outlets: those that --train_outlets leaves.
        whole: those of them that are used; None if incomplete pairs are found only when the rows are read.
    """

    total: int
    of_outlets: int
    whole: int | None


class MapRows(Dataset[Row]):
    """Rows of a config by number; incomplete pairs are left out."""

    def __init__(
        self, rows: Any, outlets: set[str] | None, control: Control, rule: str = "pair", config: str = DEFAULT_CONFIG
    ) -> None:
        self.rows, self.control, self.config = rows, control, config
        wanted, of_outlets = are_whole_pairs(rows), np.ones(len(rows), bool)
        log_dropped_rows(len(rows) - int(wanted.sum()))
        restriction = ""
        if outlets is not None and wanted.any():
            of_outlets = are_of_outlets(rows, outlets, rule)
            restriction = f" of {', '.join(sorted(outlets))} only"
        wanted &= of_outlets
        self.counts = Counts(len(rows), int(of_outlets.sum()), int(wanted.sum()))
        self.places = np.flatnonzero(wanted)
        if not len(self.places):
            raise ValueError(f"{len(rows):,} rows: expected pairs with caption and picture{restriction}, found none.")

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, by which wrong labels are drawn."""
        self.control.epoch = epoch

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> Row:
        place = int(self.places[k])
        row = self.rows[place]
        twin = place and self.control.needs_twin(row["index"])
        return {**self.control(row, self.rows[place - 1] if twin else None), "config": self.config}


class UnionRows(ConcatDataset[Row]):
    """The rows of one or several configs, one config after the other."""

    datasets: list[MapRows]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, by which wrong labels are drawn."""
        for part in self.datasets:
            part.set_epoch(epoch)

    @property
    def counts(self) -> dict[str, Counts]:
        """Config -> the counts of its rows."""
        return {part.config: part.counts for part in self.datasets}
