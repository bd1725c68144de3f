"""origin.tar as an input: its file, its index, and, of a remote one, the sparse local copy of what was needed."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from _newsclippings.errors import BadTarError
from _newsclippings.facts import VERSION
from _newsclippings.storage import RandomFile, RemoteFile, computed_once, fingerprint, is_url, open_random
from _newsclippings.tables import array_of
from _newsclippings.tar.files import TarPictures
from _newsclippings.tar.index import TarIndex, changed_tar, load_index
from _newsclippings.tar.index_file import load_given_index
from _newsclippings.tar.members import Members, TarCopy


def damaged_tar(tar: str, damage: str) -> BadTarError:
    """The error of a tar that could not be read to its end; `damage` is a sentence without its full stop."""
    return BadTarError(
        f"{tar}: {damage}. Fetch it again (the complete file has 97,916,641,280 bytes), or use its whole part with "
        "missing='null' or missing='drop_pair'."
    )


def made_of(location: str) -> str:
    """What names a file that is made of another and kept: the content of that one, and the version that made it."""
    return f"{fingerprint(location)}-{VERSION}"


class TarSource:
    """One tar and what is known of it; everything is opened when it is needed."""

    def __init__(self, location: str, index: str | None, cache: Path, kept: bool, whole: bool) -> None:
        """Nothing is opened yet.

        Args:
            location: the tar, local or remote.
            index: location of its index as Parquet; None to walk its headers.
            cache: folder for indexes and sparse copies.
            kept: whether pictures of a remote tar are fetched beforehand, and kept, or read when they are asked for.
            whole: whether damage of the tar is an error.
        """
        self.location = location
        self._given, self._cache, self._kept, self._whole = index, cache, kept, whole

    @computed_once
    def file(self) -> RandomFile:
        """The tar itself."""
        return open_random(self.location)

    @computed_once
    def index(self) -> TarIndex:
        """Its index.

        Raises:
            BadTarError: the tar is none, changed while it was walked, or is damaged although it should be whole; or the
                index is that of another.
        """
        folder = self._cache / "tar_indexes"
        if self._given is not None:
            index = load_given_index(self._given, self.file, made_of(self._given), folder)
        else:
            key = self._key  # before the file is opened: what is read then is this, or something newer
            index = load_index(self.file, key, folder, lambda: made_of(self.location))
        if index.damage and self._whole:
            raise damaged_tar(self.file.path, index.damage)
        return index

    @property
    def known_damage(self) -> str | None:
        """Where and why the tar could not be read to its end, if its index was needed."""
        return self.index.damage if "index" in self.__dict__ else None

    def stretch(self, name: str) -> tuple[RandomFile, int, int] | None:
        """A file that is read as a whole: what to read, from which byte on, and its size; None if it is not there."""
        row = self.index.find(array_of([name], pa.string()))
        if row[0] < 0:
            return None
        member = Members.of(self.index, row)
        file: RandomFile = self.file
        if self._copy is not None:
            self._copy.fetch(member)
            file = self._copy.stretch(member)
        return file, int(member.offsets[0]), int(member.sizes[0])

    def pictures(self, paths: pa.Array) -> TarPictures:
        """The files of some paths in the normal form."""
        file = self._copy if self._kept else None
        return TarPictures(file or self.file, self.index, paths)

    def fetch(self, pictures: TarPictures, rows: np.ndarray) -> None:
        """Fetch the files of some rows beforehand, if the tar is remote."""
        if self._copy is not None:
            self._copy.fetch(pictures.members_of(rows))

    def _check_same(self) -> None:
        if made_of(self.location) != self._key:
            raise changed_tar(self.file.path)

    @computed_once
    def _key(self) -> str:
        return made_of(self.location)

    @computed_once
    def _copy(self) -> TarCopy | None:
        """The sparse copy; None of a local tar."""
        if not is_url(self.location):
            return None
        place, file = self._cache / "remote_tars" / f"{self._key}.tar", self.file
        return TarCopy(place, file, self._check_same) if isinstance(file, RemoteFile) else None
