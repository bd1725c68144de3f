"""The pictures of the user's VisualNews, for rows that were published without pictures."""

import hashlib
import logging
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from _newsclippings.config import Request
from _newsclippings.errors import BadFileError, MissingDataError
from _newsclippings.facts import NAME, OUTLETS
from _newsclippings.inputs import find_inputs
from _newsclippings.pictures import folders_of, import_decoder, pictures_state
from _newsclippings.rows import Joiner
from _newsclippings.storage import Access, BadNameError, cache_folder, normalise_paths
from _newsclippings.tables import array_of
from _newsclippings.text import option, printable

NAMED = 3  # missing pictures that a report names
_logger = logging.getLogger(NAME)


class VisualNews:
    """Finds pictures by the column `image_path`. It can be sent to other processes, which open the files themselves."""

    def __init__(self, keep: bool, missing: str, storage_options: Any, token: Any, **places: Any) -> None:
        """Find VisualNews; open nothing.

        Args:
            keep: whether pictures of a remote tar are fetched in advance and kept.
            missing: `"error"` or `"null"`.
            storage_options: of fsspec, for the locations.
            token: of the Hub.
            places: `data_dir`, `visual_news`, `visual_news_index`, `links` and `links_root`, as in a build.

        Raises:
            ConfigError, DataNotFoundError: as a build.
        """
        self.request = Request(missing=missing, splits=["test"], **places)
        inputs = find_inputs(self.request, access=Access(storage_options, token))
        inputs.require_pictures()
        self.inputs = replace(inputs, prefetch=keep)
        self._opened: tuple[int, Joiner] | None = None
        self._logged = False  # a stream logs its first rows that lack a picture
        import_decoder()  # else `datasets` imports it at the first row, perhaps in a thread during a fork

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, paths: list[str | None]) -> list[dict[str, Any] | None]:
        """Read the pictures of some rows; None for those that are missing.

        Raises:
            MissingDataError: one is missing, and `missing="error"`.
            BadFileError: a path is not one of VisualNews: absolute, with `..`, a URL, ...
        """
        names, places = _normal_paths(paths)
        data = self._joiner().read_pictures(names).to_pylist()
        found = [data[place] if place >= 0 else None for place in places]
        self._report(paths, [picture is not None for picture in found])
        return [None if picture is None else {"bytes": picture, "path": None} for picture in found]

    def look(self, paths: list[str | None]) -> str:
        """Look for the pictures of all rows, fetch those of a remote tar, and report what is missing.

        Returns:
            A digest that changes when the pictures do.

        Raises:
            MissingDataError, BadFileError: as `read`.
        """
        names, places = _normal_paths(paths)
        joiner = self._joiner()
        pictures = joiner.pictures(names)
        self._report(paths, [bool(place >= 0 and pictures.present[place]) for place in places])
        archives = [joiner.inputs.identity(source.location) for source in self.inputs.archives]
        state = [pictures_state(*folders_of(pictures)), *archives, self.inputs.folders]
        content = f"{state} {self.request.missing} {pictures.sizes.tolist()}"
        return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()

    def _report(self, paths: list[str | None], there: list[bool]) -> None:
        """Raise `MissingDataError` if pictures are missing; with `missing="null"`, log how many, the first time.

        Args:
            paths: `image_path` of each row.
            there: whether the picture of each row was found.
        """
        absent = [path for path, found in zip(paths, there, strict=True) if not found]
        if not absent:
            return
        outlets = Counter(_outlet(path) for path in absent)
        by_outlet = ", ".join(f"{outlet} {count:,}" for outlet, count in outlets.most_common())
        known = [printable(path)[:200] for path in dict.fromkeys(absent) if path is not None]
        first = ", ".join(known[:NAMED]) or "rows without an image_path"
        text = (
            f"join_images: expected pictures for {len(paths):,} rows, found none for {len(absent):,} ({by_outlet}). "
            f"First: {first}. Looked in {printable(self.inputs.places)}."
        )
        if self.request.missing == "error":
            contents = "".join(f"\n    {printable(content)}" for content in self._joiner().describe_locations())
            message = (
                f"{text}{contents}\n  Complete the files, add another location (visual_news= takes several), or pass "
                f"{option('missing', 'null')}."
            )
            raise MissingDataError(message)
        if not self._logged:
            _logger.warning("%s These rows have null.", text)
        self._logged = True

    def _joiner(self) -> Joiner:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), Joiner(self.inputs, self.request, Path(cache_folder(), NAME))
        return self._opened[1]


def _outlet(path: str | None) -> str:
    return next((outlet for outlet in OUTLETS if outlet in (path or "").split("/")), "unknown")


def _normal_paths(paths: list[str | None]) -> tuple[pa.Array, list[int]]:
    """Return each path once, in the normal form, and for each row the place of its path there; -1 for null."""
    try:
        normal = normalise_paths(array_of(paths, pa.string()))
    except BadNameError as error:
        shown = printable(repr(paths[error.position]))[:200]
        message = f"join_images: the image_path {shown} is not a path of VisualNews: {error.why}. Build the rows again."
        raise BadFileError(message) from None
    unique = normal.drop_null().dictionary_encode().dictionary
    known = {path: place for place, path in enumerate(unique.to_pylist())}
    return unique, [-1 if path is None else known[path] for path in normal.to_pylist()]
