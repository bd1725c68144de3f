"""Open the locations that pictures come from, and find how each names them."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.facts import OUTLETS
from _newsclippings.inputs import Inputs, Source
from _newsclippings.pictures.folder import FolderPictures, Pictures
from _newsclippings.pictures.layout import USUAL, Layout, find_layout
from _newsclippings.pictures.tar import TarPictures
from _newsclippings.pictures.union import UnionPictures
from _newsclippings.pictures.zip import ZipPictures
from _newsclippings.storage import Lock, Rows, ZipArchive
from _newsclippings.tables import array_of, one_chunk
from _newsclippings.tar import TarArchive
from _newsclippings.text import printable, without_secrets

logger = logging.getLogger("newsclippings")

SHOWN = 5  # names of a location in an error
Report = Callable[[str, NewsCLIPpingsError], None]


class PictureSources:
    """The sources of the pictures of a config, each opened once.

    Attributes:
        archives: the tars and zips, in their order; one that only data.json may come from, if no picture does.
        layouts: location -> how it names pictures, as far as that was found.
    """

    def __init__(self, inputs: Inputs, cache: Path, kept: bool, whole: bool, report: Report | None = None) -> None:
        """Open nothing.

        Args:
            inputs: where the inputs are.
            cache: folder for indexes and sparse copies of tars.
            kept: keep what is fetched of remote tars.
            whole: raise an error if a tar is damaged; if false, use the part before the damage.
            report: see `FolderPictures`.
        """
        self._inputs, self._report = inputs, report
        self.archives: dict[str, TarArchive | ZipArchive] = {}
        for source in inputs.archives:
            known = inputs.identity, inputs.stamp, inputs.access
            place, index = source.location, source.index
            if source.kind == "zip":
                self.archives[place] = ZipArchive(place, inputs.access)
            else:
                self.archives[place] = TarArchive(place, index, cache, kept, whole, *known)
        self.layouts: dict[str, Layout] = {}
        self._lock = Lock()

    @property
    def tars(self) -> list[TarArchive]:
        """The tars among the archives."""
        return [archive for archive in self.archives.values() if isinstance(archive, TarArchive)]

    def open(self, paths: pa.Array) -> Pictures:
        """Open the pictures (or articles) with these paths, in the normal form; see `Pictures`."""
        pictures = [self._open(source, paths) for source in self._inputs.sources]
        return pictures[0] if len(pictures) == 1 else UnionPictures(pictures, paths)

    def fetch(self, pictures: Pictures, rows: Rows) -> None:
        """Fetch the files of some rows, which were looked for, from remote tars, to keep them."""
        several = pictures.sources if isinstance(pictures, UnionPictures) else [pictures]
        for source, each in zip(self._inputs.sources, several, strict=True):
            archive = self.archives.get(source.location)
            if isinstance(each, TarPictures) and isinstance(archive, TarArchive):
                used = pictures.rows_of(each, rows) if isinstance(pictures, UnionPictures) else rows
                archive.fetch(each.members_of(used))

    def count(self, pictures: Pictures, rows: Rows) -> dict[str, int]:
        """Count the pictures of some rows that each location has, and those that come from none (`missing`).

        Args:
            pictures: what `open` returned; the pictures of these rows were looked for.
            rows: the record of each row; -1 for none.
        """
        unique = np.unique(rows[rows >= 0]).astype(np.int32)
        several = pictures.sources if isinstance(pictures, UnionPictures) else [pictures]
        counts = {}
        for source, each in zip(self._inputs.sources, several, strict=True):
            each.look(unique)
            counts[without_secrets(source.location)] = int(each.present[unique].sum())
        counts |= {place: 0 for place, _ in self._inputs.without_pictures}
        return {**counts, "missing": int((~pictures.present[unique]).sum())}

    def describe(self) -> list[str]:
        """Say of each location which names it has, five of them, and how many."""
        lines = []
        for source in self._inputs.sources:
            archive, refused = self.archives.get(source.location), dict[str, str]()
            if isinstance(archive, TarArchive):
                names, count = archive.index.members["name"].slice(0, SHOWN).to_pylist(), len(archive.index.members)
            elif isinstance(archive, ZipArchive):
                names, count = [member.name for member in archive.members[:SHOWN]], len(archive.members)
                refused = archive.refused
            else:
                names, count = _list_files(source.location), None
            many = "no file" if not names else "" if count is None else f"{count:,} files: "
            more = ", ..." if names and (count is None or count > len(names)) else ""
            lines.append(f"{without_secrets(source.location)} has {many}{', '.join(names)}{more}")
            if refused:
                name, why = next(iter(refused.items()))
                count, do = len(refused), "Extract it, and pass the folder."
                lines[-1] += f"; {count:,} more that cannot be read in place, the first {name}: {why}. {do}"
        return lines + [f"{place} is {state}" for place, state in self._inputs.without_pictures]

    def _open(self, source: Source, paths: pa.Array) -> Pictures:
        place = source.location
        if source.kind == "folder":
            names = self._layout(place, lambda: _folder_layout(place, paths)).names(paths)
            return FolderPictures(place, names, self._report, self._inputs.links_root)
        archive = self.archives[place]
        if isinstance(archive, TarArchive):
            index = archive.index

            def find(names: pa.Array) -> npt.NDArray[np.bool_]:
                return index.find(names) >= 0

            layout = self._layout(place, lambda: find_layout(paths, find, lambda: one_chunk(index.members["name"])))
            return TarPictures(archive.source, index, layout.names(paths))
        zipped = archive

        def look(names: pa.Array) -> npt.NDArray[np.bool_]:
            return np.array([zipped.find(name) is not None for name in names.to_pylist()], bool)

        def members() -> pa.Array:
            return array_of([member.name for member in zipped.members], pa.string())

        return ZipPictures(zipped, self._layout(place, lambda: find_layout(paths, look, members)).names(paths))

    def _layout(self, place: str, find: Callable[[], Layout | None]) -> Layout:
        """Find the layout of a location once, by the first paths of which it has some."""
        with self._lock:
            if place not in self.layouts and (layout := find()) is not None:
                self.layouts[place] = layout
                if layout != USUAL:
                    logger.info("%s: pictures are %s", without_secrets(place), printable(str(layout)))
            return self.layouts.get(place, USUAL)


def _list_files(folder: str) -> list[str]:
    """List the names of a few files below a folder."""
    names = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        names += [os.path.relpath(os.path.join(place, name), folder) for name in sorted(files)]
        if len(names) >= SHOWN:
            break
    return names[:SHOWN]


def _folder_layout(folder: str, paths: pa.Array) -> Layout | None:
    """Find the layout of a folder that has the folders of outlets."""
    outlets = [os.path.join(folder, outlet) for outlet in OUTLETS if os.path.isdir(os.path.join(folder, outlet))]
    if all(os.path.isdir(os.path.join(outlet, "images")) for outlet in outlets):
        return USUAL

    def find(names: pa.Array) -> npt.NDArray[np.bool_]:
        return np.array([os.path.isfile(os.path.join(folder, name)) for name in names.to_pylist()], bool)

    def members() -> pa.Array:
        """Name a picture for each folder in those of the outlets, since only the folders matter."""
        inside = [(os.path.basename(outlet), name) for outlet in outlets for name in sorted(os.listdir(outlet))[:8]]
        return array_of([f"{o}/{n}/x/x" for o, n in inside] + [f"{o}/x/x" for o, _ in inside], pa.string())

    return find_layout(paths, find, members)
