"""Web evidence of merged_balanced, as the authors of CCN give it out: what searches for each caption and picture found.

The folder has `dataset_items_{train,val,test}.json`: the number of a row in the official file -> the folders of its two
searches. The *inverse* search (pages with the row's picture) has a folder for each row. The *direct* search (pictures
for the row's caption) has one for each pair, since twins have the same caption. In these folders are:

    inverse_annotation.json    entities and best_guess_lbl of the picture, and the pages
    captions_info              titles and captions of the pages, and their domains; absent if there are none
    captions_to_keep_idx       positions of the captions that are not the row's own caption
    metadata_of_features       file and domain of each picture that the direct search found
    imgs_to_keep_idx           positions of the pictures that are not the pair's own picture

Both lists of positions leave out exact matches of pristine rows only: they depend on the label. The layout is described
in `curated_dataset` of https://github.com/S-Abdelnabi/OoC-multi-modal-fc.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from _newsclippings.errors import DataNotFoundError, UnsafePathError, bad_file
from _newsclippings.facts import DEFAULT_CONFIG, EVIDENCE, SPLITS
from _newsclippings.storage import DECODER, describe_json_error, has_surrogates, identify, read_file
from _newsclippings.tables import array_of, arrow_schema
from _newsclippings.text import option, short_repr

STRUCT: Final = arrow_schema({"evidence": EVIDENCE}).field("evidence").type
SCHEMA: Final = pa.schema([("index", pa.int64()), ("evidence", STRUCT)])
FILES: Final = {
    "inv_path": ("inverse_annotation.json", "captions_info", "captions_to_keep_idx"),
    "direct_path": ("metadata_of_features", "imgs_to_keep_idx"),
}
MOST: Final = 64 << 20  # bytes of a list of items; that of train has 71,072
MOST_OF_ROW: Final = 8 << 20  # bytes of a file of a row
_DO = "Fetch the evidence again."
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Item:
    """The folders of one row, absolute, and relative to the folder of the evidence; None if a search has none."""

    inverse: str | None
    direct: str | None
    shown: str


def find_evidence(folder: str, splits: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """Find the lists of items of some splits.

    Args:
        folder: the folder that the authors of CCN give out, or one that has it as `queries_dataset`.
        splits: names of splits.

    Returns:
        Split -> its list of items.

    Raises:
        DataNotFoundError: there is none.
    """
    names = {split: f"dataset_items_{SPLITS[split]}.json" for split in splits}
    root = evidence_folder(folder)
    lacking = next((name for name in names.values() if not os.path.isfile(os.path.join(root, name))), None)
    if lacking is not None:
        message = (
            f"{option('evidence', folder)} has no {lacking}. Pass the folder that the authors of CCN give out on "
            "request: it has dataset_items_{train,val,test}.json."
        )
        raise DataNotFoundError(message)
    return {split: os.path.join(root, name) for split, name in names.items()}


def evidence_folder(folder: str) -> str:
    """Return the folder that the paths of `images` are relative to: this one, or its `queries_dataset`."""
    inner = os.path.join(folder, "queries_dataset")
    names = [f"dataset_items_{name}.json" for name in SPLITS.values()]
    has = any(os.path.isfile(os.path.join(folder, name)) for name in names)
    return inner if not has and os.path.isdir(inner) else folder


def identify_evidence(items: str) -> str:
    """Identify the evidence of a split: by its list of items, and by size and time of the files of each row."""
    digest = hashlib.sha256(identify(items).encode())
    for _, item in _read_items(items, None):
        for folder, names in ((item.inverse, FILES["inv_path"]), (item.direct, FILES["direct_path"])):
            for name in names if folder is not None else ():
                try:
                    status = os.stat(f"{folder}/{name}")
                    digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
                except OSError:
                    digest.update(b"-\n")
    return digest.hexdigest()


def read_evidence(items: str, rows: int) -> pa.Table:
    """Read the evidence of a split.

    Args:
        items: the list of items; see `find_evidence`.
        rows: rows of the split.

    Returns:
        Table of `SCHEMA`, sorted by index, without the rows that have no evidence.

    Raises:
        BadFileError: a file has other content than the authors' files.
        UnsafePathError: a path leads out of the folder.
        DataNotFoundError: a file cannot be read.
    """
    found = dict(_read_items(items, rows))
    index = [row for row in sorted(found) if found[row].inverse is not None or found[row].direct is not None]
    values = [_read_row(row, found[row]) for row in index]
    return pa.Table.from_arrays([array_of(index, pa.int64()), array_of(values, STRUCT)], schema=SCHEMA)


def _read_items(items: str, rows: int | None) -> Iterator[tuple[int, Item]]:
    """Yield the number of each listed row, and its folders as far as they exist."""
    listed, folders = _read_json(items, MOST), _Folders(items)
    for key, value in listed.items():
        if not _NUMBER.fullmatch(key) or (rows is not None and int(key) >= rows):
            expected = "the numbers of rows" if rows is None else f"numbers of the {rows:,} rows of {DEFAULT_CONFIG}"
            raise bad_file(items, expected, repr(key[:20]), "Is it the list of another split?")
        if not isinstance(value, dict):
            raise bad_file(f"{items}: {key}", "an object", short_repr(value), _DO)
        places: list[tuple[str, str] | None] = []
        for name in FILES:
            path = value.get(name)
            if path is None:
                places.append(None)
                continue
            if not isinstance(path, str):
                raise bad_file(f"{items}: {key}: {name}", "a path", short_repr(path), _DO)
            places.append(folders.find(path))
        inverse, direct = places
        yield int(key), Item(inverse and inverse[0], direct and direct[0], direct[1] if direct else "")


class _Folders:
    """Finds the folders of rows below the folder of the evidence, and asks the disk as little as it can."""

    def __init__(self, items: str) -> None:
        self._items, self._base = items, os.path.realpath(os.path.dirname(items))
        self._known: dict[str, tuple[str, str] | None] = {}
        self._parents: dict[str, str] = {}

    def find(self, path: str) -> tuple[str, str] | None:
        """Return a folder, absolute and relative to that of the evidence; None if it does not exist.

        Raises:
            UnsafePathError: the path, or a link on the way, could lead out.
        """
        if path not in self._known:
            self._known[path] = self._find(path)
        return self._known[path]

    def _find(self, path: str) -> tuple[str, str] | None:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith(("/", "~")) or ".." in parts or not parts or "\\" in path or not path.isprintable():
            message = f"{self._items}: {short_repr(path)} is no plain path below the folder. {_DO}"
            raise UnsafePathError(message)
        above = "/".join(parts[:-1])
        if above not in self._parents:  # some copies have the searches below the name of the config
            places = [os.path.join(self._base, *root, *parts[:-1]) for root in ((), (DEFAULT_CONFIG,))]
            found = next((place for place in places if os.path.isdir(os.path.join(place, parts[-1]))), None)
            if found is None:
                return None
            self._parents[above] = self._check(found)
        parent = self._parents[above]
        place = f"{parent}/{parts[-1]}"
        try:
            mode = os.lstat(place).st_mode
        except OSError:
            return None
        if stat.S_ISLNK(mode):
            place = self._check(place)
        elif not stat.S_ISDIR(mode):
            return None
        return place, place[len(self._base) + 1 :]

    def _check(self, place: str) -> str:
        """Return where a folder really is, if that is below the folder of the evidence."""
        real = os.path.realpath(place)
        if f"{real}/".startswith(f"{self._base.rstrip(os.sep)}/"):
            return real
        message = f"{place} is a link that leads out of {self._base}. Replace it by the folder."
        raise UnsafePathError(message)


def _read_row(row: int, item: Item) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(EVIDENCE)
    if item.inverse is not None:
        found |= _read_inverse(item.inverse)
    if item.direct is not None:
        found |= _read_direct(item.direct, item.shown, row % 2 == 1)
    return found


def _read_inverse(folder: str) -> dict[str, Any]:
    place = f"{folder}/{FILES['inv_path'][0]}"
    annotation = _read_row_file(folder, FILES["inv_path"][0])
    if annotation is None:
        return {}
    found = {name: _texts(place, key, annotation.get(key, [])) for name, key in _OF_PICTURE.items()}
    info = _read_row_file(folder, "captions_info")
    if info is None:  # there are no captions
        return {**found, "captions": [], "caption_domains": [], "caption_keep": []}
    captions = _texts(f"{folder}/captions_info", "captions", info.get("captions"))
    domains = info.get("domains", {})
    if not isinstance(domains, dict):
        raise bad_file(f"{folder}/captions_info: domains", "an object", short_repr(domains), _DO)
    of_captions = [domains.get(str(k), "") for k in range(len(captions))]
    return {
        **found,
        "captions": captions,
        "caption_domains": _texts(f"{folder}/captions_info", "domains", of_captions),
        "caption_keep": _read_keep(folder, "captions_to_keep_idx", "index_of_captions_tokeep", len(captions)),
    }


_OF_PICTURE = {"entities": "entities", "labels": "best_guess_lbl"}  # field -> key in inverse_annotation.json


def _read_direct(folder: str, shown: str, falsified: bool) -> dict[str, Any]:
    place = f"{folder}/metadata_of_features"
    listed = _read_row_file(folder, "metadata_of_features")
    if listed is None:
        return {}
    pictures = [listed.get(str(k)) for k in range(len(listed))]
    if not all(isinstance(about, dict) for about in pictures):
        raise bad_file(place, f"objects under the keys 0 to {len(pictures) - 1}", "other keys or values", _DO)
    names, domains = (
        _texts(place, key, [about.get(key, "") for about in pictures if about]) for key in ("name", "domain")
    )
    for name in names:
        if not name or name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
            message = f"{place}: {short_repr(name)} is no name of a file. {_DO}"
            raise UnsafePathError(message)
    keep = _read_keep(folder, "imgs_to_keep_idx", "index_of_images_tokeep", len(names))
    return {
        "images": [f"{shown}/{name}" for name in names],
        "image_domains": domains,
        "image_keep": [True] * len(names) if falsified and keep is not None else keep,
    }


def _read_keep(folder: str, name: str, key: str, count: int) -> list[bool] | None:
    """Read which of some captions or pictures are kept; None without the file."""
    listed = _read_row_file(folder, name)
    if listed is None:
        return None
    kept = listed.get(key)
    numbers = [str(each) for each in kept] if isinstance(kept, list) else [""]
    if not all(_NUMBER.fullmatch(number) and int(number) < count for number in numbers):
        raise bad_file(f"{folder}/{name}: {key}", f"a list of numbers below {count}", short_repr(kept), _DO)
    keep = np.zeros(count, bool)
    keep[[int(number) for number in numbers]] = True
    values: list[bool] = keep.tolist()
    return values


def _texts(place: str, key: str, values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise bad_file(f"{place}: {key}", "a list of texts", short_repr(values), _DO)
    return ["".join(c if c.isascii() or not has_surrogates(c) else "\ufffd" for c in text) for text in values]


def _read_row_file(folder: str, name: str) -> dict[str, Any] | None:
    """Read a file of a row; None if it does not exist."""
    place = f"{folder}/{name}"
    if not os.path.lexists(place):
        return None
    if os.path.islink(place):
        message = f"{place} is a link, which could lead out of the folder. Replace it by the file."
        raise UnsafePathError(message)
    return _read_json(place, MOST_OF_ROW)


def _read_json(place: str, most: int) -> dict[str, Any]:
    data = read_file(place, most)
    try:
        value = DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise bad_file(place, "a JSON object", describe_json_error(error), _DO) from None
    if not isinstance(value, dict):
        raise bad_file(place, "a JSON object", short_repr(value), _DO)
    return value
