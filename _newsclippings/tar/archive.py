"""A tar as an input: the file, its index and, if it is remote, a sparse local copy of the members that were needed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from _newsclippings.errors import BadTarError
from _newsclippings.facts import VERSION
from _newsclippings.storage import RandomFile, RemoteFile, identify, is_url, lazy_property, open_random
from _newsclippings.tables import array_of
from _newsclippings.tar.files import TarPictures
from _newsclippings.tar.index import TarIndex, changed_tar, load_index
from _newsclippings.tar.index_file import load_given_index
from _newsclippings.tar.members import Members, TarCopy
from _newsclippings.text import option


def damaged_tar(tar: str, damage: str) -> BadTarError:
    """The error of a tar that could not be read to its end; `damage` is a sentence without its full stop."""
    return BadTarError(
        f"{tar}: {damage}. Fetch it again (the complete file has 97,916,641,280 bytes), or use its whole part with "
        f"{option('missing', 'null')} or {option('missing', 'drop_pair')}."
    )


def cache_name(identity: str) -> str:
    """Name a cached file after the identity of the file that it is derived from, and VERSION."""
    return f"{identity}-{VERSION}"


class TarArchive:
    """A tar and its index. Both are opened on first use."""

    def __init__(
        self,
        location: str,
        index: str | None,
        cache: Path,
        kept: bool,
        whole: bool,
        identify: Callable[[str], str] = identify,
    ) -> None:
        """Store the arguments; open nothing.

        Args:
            location: path or URL of the tar.
            index: path or URL of its index as Parquet; None walks its headers.
            cache: folder for indexes and sparse copies.
            kept: fetch the pictures of a remote tar in advance and keep them; if false, read each when it is asked for.
            whole: raise an error if the tar is damaged; if false, use the part before the damage.
            identify: identifies the content of the tar and of its index, or returns a known one.
        """
        self.location = location
        self._given, self._cache, self._kept, self._whole, self._identify = index, cache, kept, whole, identify

    @lazy_property
    def file(self) -> RandomFile:
        """The open tar."""
        return open_random(self.location)

    @lazy_property
    def index(self) -> TarIndex:
        """The index of the tar: read from the cache or from the given file, or built by walking the headers.

        Raises:
            BadTarError: the file is no tar, it changed during the walk, it is damaged and `whole` is set, or the given
                index belongs to another tar.
        """
        folder = self._cache / "tar_indexes"
        if self._given is not None:
            index = load_given_index(self._given, self.file, cache_name(self._identify(self._given)), folder)
        else:
            key = self._key  # computed before the file is opened, so that a later change is noticed
            index = load_index(self.file, key, folder, lambda: cache_name(identify(self.location)))
        if index.damage and self._whole:
            raise damaged_tar(self.file.path, index.damage)
        return index

    @property
    def is_known(self) -> bool:
        """Whether its index is given or kept; if it is remote, also whether a copy of members was begun."""
        indexed = self._given is not None or any((self._cache / "tar_indexes").glob(f"*{self._key}.arrow"))
        return indexed and (not is_url(self.location) or self._place_of_copy.exists())

    @property
    def known_damage(self) -> str | None:
        """Where and why the tar could not be read to its end; None if it is whole or its index was not needed."""
        return self.index.damage if "index" in self.__dict__ else None

    def open_member(self, name: str) -> tuple[RandomFile, int, int] | None:
        """Open a member that is read as a whole, such as data.json.

        Returns:
            The file to read, the byte at which the member's data begin, and their size; None if there is no member
            with this name.
        """
        row = self.index.find(array_of([name], pa.string()))
        if row[0] < 0:
            return None
        member = Members.from_index(self.index, row)
        file: RandomFile = self.file
        if self._copy is not None:
            self._copy.fetch(member)
            file = self._copy.open_member(member)
        return file, int(member.offsets[0]), int(member.sizes[0])

    def pictures(self, paths: pa.Array) -> TarPictures:
        """Look up the members with these paths (in the normal form)."""
        file = self._copy if self._kept else None
        return TarPictures(file or self.file, self.index, paths)

    def fetch(self, pictures: TarPictures, rows: np.ndarray) -> None:
        """Fetch the members of these rows in advance, if the tar is remote."""
        if self._copy is not None:
            self._copy.fetch(pictures.members_of(rows))

    def _check_same(self) -> None:
        if cache_name(identify(self.location)) != self._key:
            raise changed_tar(self.file.path)

    @lazy_property
    def _key(self) -> str:
        return cache_name(self._identify(self.location))

    @lazy_property
    def _copy(self) -> TarCopy | None:
        """The sparse local copy; None if the tar is local."""
        if not is_url(self.location):
            return None
        file = self.file
        return TarCopy(self._place_of_copy, file, self._check_same) if isinstance(file, RemoteFile) else None

    @property
    def _place_of_copy(self) -> Path:
        return self._cache / "remote_tars" / f"{self._key}.tar"
