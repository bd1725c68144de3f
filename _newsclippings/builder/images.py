"""Join rows with their pictures, if a build stored each picture only once (`--images once`)."""

from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.errors import ConfigError, MissingDataError
from _newsclippings.facts import SHARED_PICTURES
from _newsclippings.rows import ROWS_OF_PICTURES
from _newsclippings.tables import Int64s, int64s, lookup
from _newsclippings.text import printable

INTEGERS = ("int8", "int16", "int32", "int64")


def join_images(thin: Any, images: Any) -> Any:
    """Add the image column to rows that were stored without pictures.

    Args:
        thin: a split of a config without an image column: a `datasets.Dataset`, or a stream (`IterableDataset`).
        images: the same split of the config `images`, a `datasets.Dataset`: `image_id`, `image`.

    Returns:
        The rows of `thin`, as a Dataset or a stream, with the column `image` after `caption`. A Dataset is written to
        the cache of `datasets`, in batches; a stream reads each picture when its row is read.

    Raises:
        ConfigError: an argument is something else, such as all splits together, or has other columns; or the columns
            of a stream are unknown, for example after `.map`.
        MissingDataError: a row has no image_id, or one that is not in `images`; for a stream, when the row is read.
    """
    from datasets import Dataset, Features, Image, IterableDataset

    if not (isinstance(thin, Dataset | IterableDataset) and isinstance(images, Dataset)):
        message = (
            "join_images: expected a Dataset or IterableDataset of rows and a Dataset of pictures, found "
            f"{type(thin).__name__} and {type(images).__name__}. Pass one split of each (split='train'), the pictures "
            "loaded without streaming."
        )
        raise ConfigError(message)
    if thin.features is None:
        message = "join_images: expected a stream whose columns are known, found one without. Join before `.map`."
        raise ConfigError(message)
    _check_columns(thin.features, images.features)
    ids = _read_ids(images) if len(images) else np.empty(0, np.int64)
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    pictures = images.select_columns(["image"]).cast_column("image", Image(decode=False)).with_format("arrow")

    def add_images(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        if None in batch["image_id"]:
            message = (
                f"{SHARED_PICTURES}: expected an image_id in each row, found null. Build the folder of the rows again."
            )
            raise MissingDataError(message)
        wanted = np.asarray(batch["image_id"], np.int64)
        places = lookup(in_order, wanted)
        absent = wanted[places < 0]
        if len(absent):
            message = (
                f"{SHARED_PICTURES}: expected a picture for each of {len(wanted)} rows, found none for {len(absent)}, "
                f"the first of image_id {int(absent[0])}. Pass the same split of the config `{SHARED_PICTURES}`, of "
                "the same build."
            )
            raise MissingDataError(message)
        batch["image"] = pictures[order[places].tolist()]["image"].to_pylist()
        return {name: batch[name] for name in columns}

    columns = list(thin.column_names)
    columns.insert(columns.index("caption") + 1 if "caption" in columns else len(columns), "image")
    full = Features({name: thin.features[name] if name != "image" else Image() for name in columns})
    return thin.map(
        add_images, batched=True, batch_size=ROWS_OF_PICTURES, features=full, remove_columns=thin.column_names
    )


def _read_ids(images: Any) -> Int64s:
    column = images.with_format("arrow")[:]["image_id"]
    if column.null_count:
        message = (
            "join_images: expected an image_id for each picture, found null. Pass a split of the config "
            f"`{SHARED_PICTURES}`."
        )
        raise ConfigError(message)
    return int64s(column.cast(pa.int64()))


def _check_columns(thin: Any, images: Any) -> None:
    """Raise `ConfigError` if the features of rows or pictures are not those that `newsclippings build` writes."""
    from datasets import Image

    for what, features in (("rows", thin), ("pictures", images)):
        kind = getattr(features.get("image_id"), "dtype", "none")
        if kind not in INTEGERS:
            message = (
                f"join_images: expected {what} with a column image_id of whole numbers, found {printable(str(kind))}. "
                "Pass a split of a config that `newsclippings build --images once` wrote, and the same one of `images`."
            )
            raise ConfigError(message)
    image = images.get("image")
    if not (isinstance(image, Image) or (isinstance(image, dict) and {*image} == {"bytes", "path"})):
        message = (
            f"join_images: expected pictures with a column image, found {type(image).__name__}. "
            f"Pass a split of the config `{SHARED_PICTURES}`."
        )
        raise ConfigError(message)
