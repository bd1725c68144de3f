"""Join rows that have no pictures with those of VisualNews, or of the config `images` (`--images once`)."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.builder.visual_news import VisualNews
from _newsclippings.config import bad_value
from _newsclippings.errors import ConfigError, MissingDataError
from _newsclippings.facts import SHARED_PICTURES
from _newsclippings.rows import ROWS_OF_PICTURES
from _newsclippings.tables import Int64s, int64s, lookup
from _newsclippings.text import printable

Read = Callable[[list[Any]], list[dict[str, Any] | None]]
INTEGERS = ("int8", "int16", "int32", "int64")


def join_images(
    thin: Any,
    images: Any = None,
    *,
    visual_news: Any = None,
    data_dir: Any = None,
    visual_news_index: Any = None,
    missing: str = "error",
    num_proc: int | None = None,
    links: str = "refuse",
    links_root: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    token: str | bool | None = None,
) -> Any:
    """Add the image column to rows that were stored without pictures.

    The pictures are those of your own VisualNews, or, if a build stored each picture only once, those of its config
    `images`.

    Args:
        thin: rows without an image column: a `datasets.Dataset`, a stream (`IterableDataset`), or, with VisualNews, all
            splits together (`DatasetDict`, `IterableDatasetDict`).
        images: the same split of the config `images`, a `datasets.Dataset`: `image_id`, `image`. Unset: the pictures
            are looked up in VisualNews by the column `image_path`.
        visual_news: VisualNews, as in a build.
        data_dir: the folder in which it is searched, as in a build.
        visual_news_index: an index of its tar, as in a build.
        missing: what to do if VisualNews lacks a picture: `"error"` or `"null"`. A Dataset is checked before the first
            row is written, and a stream row by row.
        num_proc: number of processes that write a Dataset.
        links: what to do with symbolic links that leave a folder of pictures, as in a build.
        links_root: the folder below which `links="follow"` lets them lead, as in a build.
        storage_options: options of fsspec for URLs that are passed here, as of `load_dataset`.
        token: of the Hub, as of `load_dataset`.

    Returns:
        The rows of `thin`, of the same kind, with the column `image` after `caption`. A Dataset is written to the cache
        of `datasets`, in batches; a stream reads each picture when its row is read.

    Raises:
        ConfigError: an argument is something else, or has other columns; or the columns of a stream are unknown, for
            example after `.map`; or pictures are given twice.
        DataNotFoundError: VisualNews is not there.
        MissingDataError: a row has no picture in `images`, or none in VisualNews and `missing="error"`; for a stream,
            when the row is read.
        BadFileError: an image_path is not a path below VisualNews.
    """
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

    places = {
        "visual_news": visual_news,
        "data_dir": data_dir,
        "visual_news_index": visual_news_index,
        "links_root": links_root,
        "storage_options": storage_options,
        "token": token,
    }
    if missing not in ("error", "null"):
        raise bad_value("missing", missing, ("error", "null"))
    if images is not None:
        given = [name for name, place in places.items() if place is not None]
        given += [name for name, usual in (("missing", missing == "error"), ("links", links == "refuse")) if not usual]
        if given:
            message = f"join_images: {given[0]}= is for pictures of VisualNews. Pass it, or `images`."
            raise ConfigError(message)
        if not (isinstance(thin, Dataset | IterableDataset) and isinstance(images, Dataset)):
            message = (
                "join_images: expected a Dataset or IterableDataset of rows and a Dataset of pictures, found "
                f"{type(thin).__name__} and {type(images).__name__}. Pass one split of each (split='train'), the "
                "pictures loaded without streaming."
            )
            raise ConfigError(message)
        _check_thin(thin)
        _check_columns(thin.features, images.features)
        return _map(thin, "image_id", _SharedPictures(images).read, num_proc)
    if isinstance(thin, DatasetDict | IterableDatasetDict):
        how: dict[str, Any] = {**places, "links": links, "missing": missing, "num_proc": num_proc}
        return type(thin)({split: join_images(rows, **how) for split, rows in thin.items()})
    if not isinstance(thin, Dataset | IterableDataset):
        message = f"join_images: expected a Dataset, a stream, or a dict of them, found {type(thin).__name__}."
        raise ConfigError(message)
    _check_thin(thin)
    if getattr(thin.features.get("image_path"), "dtype", None) not in ("string", "large_string"):
        message = "join_images: expected rows with a column image_path of texts, found none. Keep that column."
        raise ConfigError(message)
    whole = isinstance(thin, Dataset)
    pictures, fingerprint = VisualNews(whole, missing, links=links, **places), None
    if whole:
        fingerprint = pictures.look(list(thin.select_columns(["image_path"]).with_format(None)["image_path"]))
    return _map(thin, "image_path", pictures.read, num_proc, fingerprint)


def _check_thin(thin: Any) -> None:
    """Raise `ConfigError` if the columns of rows are unknown, or there are pictures among them."""
    if thin.features is None:
        message = "join_images: expected a stream whose columns are known, found one without. Join before `.map`."
        raise ConfigError(message)
    if "image" in thin.features:
        message = "join_images: these rows have a column image already. Use them as they are, or remove the column."
        raise ConfigError(message)


def _map(thin: Any, key: str, read: Read, num_proc: int | None, state: str | None = None) -> Any:
    """Add the column `image`, batch by batch.

    Args:
        thin: the rows.
        key: the column by which pictures are found.
        read: reads the pictures of a batch of keys.
        num_proc: number of processes; of no use for a stream.
        state: changes when the pictures do; unset: `datasets` derives it from `read`.

    Raises:
        ConfigError: `num_proc` is given for a stream.
    """
    from datasets import Features, Image, IterableDataset

    columns = list(thin.column_names)
    columns.insert(columns.index("caption") + 1 if "caption" in columns else len(columns), "image")
    full = Features({name: thin.features[name] if name != "image" else Image() for name in columns})
    how: dict[str, Any] = {}
    whole = not isinstance(thin, IterableDataset)
    if whole:
        how |= {"num_proc": num_proc, "features": full}
        if state is not None:
            how["new_fingerprint"] = hashlib.sha256(f"{thin._fingerprint} {state}".encode()).hexdigest()[:32]
    elif num_proc is not None:
        message = "join_images: num_proc= is for a Dataset. The workers of a DataLoader read a stream in parallel."
        raise ConfigError(message)
    joined = thin.map(
        _AddImages(key, read, columns),
        batched=True,
        batch_size=ROWS_OF_PICTURES,
        remove_columns=thin.column_names,
        **how,
    )
    return joined if whole else joined.cast(full)  # with `features=`, `map` would leave the pictures undecoded


@dataclass(frozen=True)
class _AddImages:
    """Adds the column `image` to a batch."""

    key: str
    read: Read
    columns: list[str]

    def __call__(self, batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        batch["image"] = self.read(list(batch[self.key]))
        return {name: batch[name] for name in self.columns}


class _SharedPictures:
    """Finds pictures by `image_id` in a split of the config `images`."""

    def __init__(self, images: Any) -> None:
        from datasets import Image

        ids = _read_ids(images) if len(images) else np.empty(0, np.int64)
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._pictures = images.select_columns(["image"]).cast_column("image", Image(decode=False))

    def read(self, ids: list[int | None]) -> list[dict[str, Any] | None]:
        """Read the pictures of some rows; None for those that are null in `images`."""
        if None in ids:
            message = (
                f"{SHARED_PICTURES}: expected an image_id in each row, found null. Build the folder of the rows again."
            )
            raise MissingDataError(message)
        wanted = np.asarray(ids, np.int64)
        places = lookup(self._ids, wanted)
        absent = wanted[places < 0]
        if len(absent):
            message = (
                f"{SHARED_PICTURES}: expected a picture for each of {len(wanted)} rows, found none for {len(absent)}, "
                f"the first of image_id {int(absent[0])}. Pass the same split of the config `{SHARED_PICTURES}`, of "
                "the same build."
            )
            raise MissingDataError(message)
        column = self._pictures.with_format("arrow")[self._order[places].tolist()]["image"]
        return list(column.to_pylist())


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
