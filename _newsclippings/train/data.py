"""Rows for training: where they come from, what is taken from them for controls, and rows by number."""

import hashlib
import logging
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import load_dataset, load_dataset_builder
from torch.utils.data import Dataset

from _newsclippings.builder import make_name_known
from _newsclippings.facts import NAME
from _newsclippings.storage import open_stream
from _newsclippings.train.options import FEATURES, Options

logger = logging.getLogger(__name__)
make_name_known()  # to `load_dataset`, which below is asked for it

Row = dict[str, Any]
FACTS = ["index", "id", "image_id", "falsified", "source_dataset", "source"]  # of a row, for predictions and measures


def load_split(options: Options, split: str) -> Any:
    """A split with the columns that training needs, pictures encoded; a `datasets.Dataset`, or a stream."""
    kinds = FEATURES[options.features] if options.features else []
    fields = builder_fields(options, split)
    rows = load_dataset(options.data, options.config, split=split, streaming=options.streaming, **fields)
    wanted = [*FACTS, *(["image_source"] if options.train_outlets else []), *(kinds or ["caption", "image"])]
    lacking = set(wanted) - set(rows.column_names or wanted)
    if lacking:
        raise ValueError(
            f"{options.data}, {options.config}: expected the columns {', '.join(wanted)}, found none called "
            f"{', '.join(sorted(lacking))}. Was it built without? (Pictures stored once: newsclippings.join_images.)"
        )
    rows = rows.select_columns(wanted)
    return rows if kinds else rows.cast_column("image", datasets.Image(decode=False))


def builder_fields(options: Options, split: str) -> dict[str, Any]:
    """What the builder of this package is told."""
    if options.data != "newsclippings":
        return {}
    kinds = FEATURES[options.features] if options.features else []
    fields = {name: getattr(options, name) for name in ("data_dir", "visual_news", "visual_news_index")}
    fields |= {"images": "none" if kinds else "bytes", "embeddings": kinds or None, "splits": [split]}
    fields |= {"missing": "null" if options.missing == "drop_pair" else "error"}  # such pairs are left out here
    return fields if kinds else {**fields, "check_images": options.check_images}


def shard_sizes(options: Options, split: str) -> list[int] | None:
    """Rows of each Parquet file of a split, by its footer; None where the rows come from no such files."""
    builder = load_dataset_builder(options.data, options.config, **builder_fields(options, split))
    files = (getattr(builder.config, "data_files", None) or {}).get(split, [])
    sizes = []
    for file in map(str, files):
        if not file.endswith(".parquet"):
            return None
        with open_stream(file) as stream:
            sizes.append(pq.ParquetFile(stream).metadata.num_rows)
    return sizes or None


def count_rows(options: Options, rows: Any, split: str) -> int:
    """How many rows a stream has, without reading them."""
    known = (rows.info.splits or {}).get(split)
    if known is not None and known.num_examples:
        return int(known.num_examples)
    fields = {name: getattr(options, name) for name in ("data_dir", "visual_news", "visual_news_index")}
    builder = load_dataset_builder(NAME, options.config, splits=[split], images="none", **fields)
    return int(builder.count_rows(split))


class Control:
    """Takes from rows what could be learned, by one of `options.CONTROLS`, or leaves them as they are (None)."""

    def __init__(self, name: str | None, salt: str = "") -> None:
        self.name, self.salt = name, salt

    def needs_twin(self, index: int) -> bool:
        """Whether the row before that one is needed."""
        return self.name == "own_pictures" and index % 2 == 1

    def __call__(self, row: Row, twin: Row | None) -> Row:
        """The row as it is to be learned from.

        Raises:
            ValueError: the row before is not its twin, and would have to be.
        """
        if self.name == "shuffled_labels":
            coin = hashlib.sha256(f"{self.salt} {row['id']}".encode()).digest()[0] & 1  # the same for twins
            return {**row, "falsified": row["falsified"] ^ coin}
        if self.name == "own_pictures" and self.needs_twin(row["index"]):
            if twin is None or twin["id"] != row["id"]:
                raise ValueError(f"row {row['index']}: expected its twin before it, found id {twin and twin['id']}.")
            return {**row, "image": twin["image"], "image_id": twin["image_id"]}
        return row


def is_whole(row: Row) -> bool:
    """Whether caption and picture are there, as far as they were asked for."""
    picture = row.get("image", "")
    bare = picture is None or (isinstance(picture, dict) and picture["bytes"] is None)
    return not bare and row.get("caption", "") is not None


def are_twins(first: Row, second: Row) -> bool:
    """Whether two rows that stand after each other are a pair; without the column `index`, they are."""
    return "index" not in first or bool(first["index"] // 2 == second["index"] // 2)


def whole_pairs(rows: Any) -> npt.NDArray[np.bool_]:
    """Of each row of a `datasets.Dataset`, whether it and its twin have caption and picture. No picture is read."""
    indexes = rows.data.column("index").to_numpy()
    whole = np.isin(indexes ^ 1, indexes)  # its twin is there
    for name in {"caption", "image"} & set(rows.column_names):
        column = rows.data.column(name)
        values = pc.struct_field(column, "bytes") if name == "image" else column
        whole &= values.is_valid().to_numpy()
    return _both(indexes, whole)


def _both(indexes: npt.NDArray[np.int64], rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Of which rows that holds for both twins."""
    return ~np.isin(indexes // 2, indexes[~rows] // 2)


def of_outlets(rows: Any, outlets: set[str]) -> npt.NDArray[np.bool_]:
    """Of each row, whether captions and pictures of its pair are of some outlets, and of no others."""
    inside = np.ones(len(rows), bool)
    for name in ("source", "image_source"):
        inside &= np.isin(np.asarray(rows.data.column(name)), sorted(outlets))
    return _both(rows.data.column("index").to_numpy(), inside)


def tell_of_missing(rows: int) -> None:
    """Log how many rows were left out."""
    if rows:
        logger.warning(
            "%s rows are left out: they or their twins lack a caption or a picture, or are not there.", f"{rows:,}"
        )


class MapRows(Dataset[Row]):
    """Rows by number, in whole pairs."""

    def __init__(self, rows: Any, outlets: set[str] | None, control: Control) -> None:
        self.rows, self.control = rows, control
        wanted = whole_pairs(rows)
        tell_of_missing(len(rows) - int(wanted.sum()))
        of_whom = ""
        if outlets is not None and wanted.any():
            wanted &= of_outlets(rows, outlets)
            of_whom = f" of {', '.join(sorted(outlets))} only"
        self.places = np.flatnonzero(wanted)
        if not len(self.places):
            raise ValueError(f"{len(rows):,} rows: expected pairs with caption and picture{of_whom}, found none.")

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> Row:
        place = int(self.places[k])
        row = self.rows[place]
        twin = place and self.control.needs_twin(row["index"])
        return self.control(row, self.rows[place - 1] if twin else None)
