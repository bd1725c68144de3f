"""Rows and their pictures, which were stored apart, together again."""

from typing import Any

import numpy as np

from _newsclippings.arrow import int64s
from _newsclippings.errors import ConfigError, not_among
from _newsclippings.join import lookup
from _newsclippings.schema import UNIQUE
from _newsclippings.split import ROWS_OF_PICTURES


def join_images(thin: Any, images: Any) -> Any:
    """Give rows without pictures their pictures back.

    Args:
        thin: a split of a config without an image column: a `datasets.Dataset`, or a stream (`IterableDataset`).
        images: the same split of the config `images`, a `datasets.Dataset`: `image_id`, `image`.

    Returns:
        The rows of `thin`, of its kind, with the column `image` in its place, behind `caption`. A Dataset is written to
        the cache of `datasets`, some rows at a time; a stream reads each picture as its row is asked for.

    Raises:
        ConfigError: one of them is something else, such as all splits together; or a stream whose columns are not
            known; `.map` forgets them.
        MissingDataError: a row has an image_id that `images` does not have; for a stream, when the row is reached.
    """
    from datasets import Dataset, Features, Image, IterableDataset

    if not (isinstance(thin, Dataset | IterableDataset) and isinstance(images, Dataset)):
        message = (
            "join_images: expected a Dataset or IterableDataset of rows and a Dataset of pictures, found "
            f"{type(thin).__name__} and {type(images).__name__}. Pass one split of each (split='train'), the pictures "
            "loaded without streaming."
        )
        raise ConfigError(message)
    ids = int64s(images.with_format("arrow")[:]["image_id"]) if len(images) else np.empty(0, np.int64)
    order = np.argsort(ids, kind="stable")
    in_order = ids[order]
    pictures = images.select_columns(["image"]).cast_column("image", Image(decode=False)).with_format("arrow")

    def add(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        wanted = np.asarray(batch["image_id"], np.int64)
        places = lookup(in_order, wanted)
        absent = wanted[places < 0]
        if len(absent):
            raise not_among(UNIQUE, absent.tolist(), len(wanted))
        batch["image"] = pictures[order[places].tolist()]["image"].to_pylist()
        return {name: batch[name] for name in columns}

    if thin.features is None:
        message = "join_images: expected a stream whose columns are known, found one without. Join before `.map`."
        raise ConfigError(message)
    columns = list(thin.column_names)
    columns.insert(columns.index("caption") + 1 if "caption" in columns else len(columns), "image")
    full = Features({name: thin.features[name] if name != "image" else Image() for name in columns})
    return thin.map(add, batched=True, batch_size=ROWS_OF_PICTURES, features=full, remove_columns=thin.column_names)
