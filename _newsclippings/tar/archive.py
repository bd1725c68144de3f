"""A tar as an input: the file, its index and, if it is remote, a sparse local copy of the members that were needed."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.errors import BadTarError
from _newsclippings.facts import VERSION
from _newsclippings.storage import (
    NO_ACCESS,
    Access,
    RandomFile,
    identify,
    is_remote,
    is_url,
    lazy_property,
    open_random,
    stamp,
)
from _newsclippings.tables import array_of, as_array, one_chunk
from _newsclippings.tar.checksums import DATA_CRC, find_damaged_members
from _newsclippings.tar.index import TarIndex, changed_tar, describe_others, load_index
from _newsclippings.tar.index_file import check_ends, load_given_index
from _newsclippings.tar.members import Members, TarCopy
from _newsclippings.text import option, printable, without_secrets

DATA_JSON = "data.json"


def damaged_tar(tar: str, damage: str) -> BadTarError:
    """The error of a tar that could not be read to its end; `damage` is a sentence without its full stop."""
    return BadTarError(
        f"{tar}: {damage}. Fetch it again (the complete file has 97,916,641,280 bytes), or use its whole part with "
        f"{option('missing', 'null')} or {option('missing', 'drop_pair')}."
    )


def describe_damage(tars: Sequence["TarArchive"]) -> str | None:
    """Say where and why tars could not be read to their ends, of several with their names; None if none is known."""
    damages = {tar.location: tar.known_damage for tar in tars if tar.known_damage}
    if len(tars) == 1:
        return next(iter(damages.values()), None)
    named = (f"{os.path.basename(without_secrets(place))}: {damage}" for place, damage in damages.items())
    return "; ".join(named) or None


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
        identify: Callable[[str], str],
        known_stamp: Callable[[str], str],
        access: Access = NO_ACCESS,
    ) -> None:
        """Store the arguments; open nothing.

        Args:
            location: path or URL of the tar.
            index: path or URL of its index as Parquet; None walks its headers.
            cache: folder for indexes and sparse copies.
            kept: fetch the pictures of a remote tar in advance and keep them; if false, read each when it is asked for.
            whole: raise an error if the tar is damaged; if false, use the part before the damage.
            identify: identifies a file, or returns a known identity.
            known_stamp: returns the stamp of a file, of before it was identified if it was.
            access: what the user passed to reach a remote tar and its index.
        """
        self.location = location
        self._given, self._cache, self._kept, self._whole = index, cache, kept, whole
        self._identify, self._known_stamp, self._access = identify, known_stamp, access

    @lazy_property
    def file(self) -> RandomFile:
        """The open tar."""
        return open_random(self.location, self._access)

    @lazy_property
    def index(self) -> TarIndex:
        """The index of the tar: read from the cache or from the given file, or built by walking the headers.

        Raises:
            BadTarError: the file is no tar, it changed during the walk, it is damaged and `whole` is set, or the given
                index belongs to another tar.
        """
        folder = self._cache / "tar_indexes"
        if self._given is not None:
            index = self._load_given(self._given)
            check_ends(index, self.file)
        else:
            key = self._key  # computed before the file is opened, so that a later change is noticed
            index = load_index(self.file, key, folder, self._make_key)
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

    @property
    def others(self) -> str:
        """The members that are no plain files, in words; empty if there are none, or the index was not needed."""
        return describe_others(self.index.metadata) if "index" in self.__dict__ else ""

    def find_damaged_members(self, index: str, compare: bool) -> list[str] | None:
        """Compare all members with the checksums of their data in an index that was given.

        Args:
            index: path or URL of the index.
            compare: whether to read the tar.

        Returns:
            The name and the bytes of each member that is not what was indexed; None if the index has no checksums.

        Raises:
            BadTarError: the index is that of a tar of another size.
        """
        members = self._load_given(index).members
        if DATA_CRC.name not in members.column_names:
            return None
        if not compare:
            return []
        damaged = members.take(as_array(find_damaged_members(self.file, members))).to_pylist()
        return [f"{m['name']} (bytes {m['offset']:,} to {m['offset'] + m['size']:,})" for m in damaged]

    def open_member(self, name: str) -> tuple[RandomFile, int, int] | None:
        """Open a member that is read as a whole, such as data.json.

        Returns:
            The file to read, the byte at which the member's data begin, and their size; None if there is no member
            with this name.
        """
        row = self.index.find(array_of([name], pa.string()))
        if row[0] < 0:
            return None
        if (reason := self.index.why_refused(int(row[0]))) is not None:
            do = "Put a copy of the file into the folder origin beside the tar."
            message = f"{self.file.path}: {name} cannot be read: {printable(reason)}. {do}"
            raise BadTarError(message)
        member = Members.from_index(self.index, row)
        file: RandomFile = self.file
        if self._copy is not None:
            self._copy.fetch(member)
            file = self._copy.open_member(member)
        return file, int(member.offsets[0]), int(member.sizes[0])

    @property
    def source(self) -> RandomFile | TarCopy:
        """Where members are read: the tar, or the sparse copy of a remote one."""
        return (self._copy if self._kept else None) or self.file

    def fetch(self, members: Members) -> None:
        """Fetch members in advance, if the tar is remote."""
        if self._copy is not None:
            self._copy.fetch(members)

    def find_data_json(self) -> str | None:
        """Return the name of data.json: at the top, or beside the folders of the outlets; None if there is none."""
        names = one_chunk(self.index.members["name"])
        if self.index.find(array_of([DATA_JSON], pa.string()))[0] >= 0:
            return DATA_JSON
        found = names.filter(pc.match_substring_regex(names, f"/{DATA_JSON}$")).to_pylist()
        return min(found, key=lambda name: (name.count("/"), name), default=None)

    def _load_given(self, index: str) -> TarIndex:
        before = self._known_stamp(index)
        key, folder = cache_name(self._identify(index)), self._cache / "tar_indexes"

        def is_unchanged() -> bool:
            return stamp(index, self._access) == before

        return load_given_index(index, self.file, key, folder, is_unchanged, self._access)

    def _check_same(self) -> None:
        if self._make_key() != self._key:
            raise changed_tar(self.file.path)

    def _make_key(self) -> str:
        if is_url(self.location):
            if stamp(self.location, self._access) == self._known_stamp(self.location):
                return self._key
            # Not by its ETag: servers that share a name may have ETags of their own
            return cache_name(identify(self.location, False, self._access))
        return cache_name(stamp(self.location))

    @lazy_property
    def _key(self) -> str:
        return cache_name((self._identify if is_url(self.location) else self._known_stamp)(self.location))

    @lazy_property
    def _copy(self) -> TarCopy | None:
        """The sparse local copy; None if the tar is local."""
        if not is_url(self.location):
            return None
        file = self.file
        return TarCopy(self._place_of_copy, file, self._check_same) if is_remote(file) else None

    @property
    def _place_of_copy(self) -> Path:
        return self._cache / "remote_tars" / f"{self._key}.tar"
