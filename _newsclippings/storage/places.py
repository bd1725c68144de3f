"""Places of outputs: local paths, and files and folders that fsspec writes, such as those of a bucket.

A local file is renamed when it is whole. Elsewhere nothing can be renamed: a file is written to the local disk and
uploaded when it is whole; a bucket shows an object when all of it has arrived.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from _newsclippings.errors import ConfigError, DataNotFoundError, RemoteReadError, RemoteWriteError, bad_file
from _newsclippings.storage import local
from _newsclippings.storage.access import NO_ACCESS, Access
from _newsclippings.storage.local import FileSlice, LocalFile, RandomFile, open_file
from _newsclippings.storage.remote import (
    RemoteFile,
    call_client,
    is_url,
    open_file_system,
    remember_secrets_of,
    retry,
    split_range,
)
from _newsclippings.text import describe_error, without_secrets

T = TypeVar("T")

_NO_FOLDERS = ("s3", "s3a", "gs", "gcs", "memory")  # names have slashes there; making a folder would make a bucket


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or a folder at a URL, with what `pathlib.Path` has under the same names.

    It is no `os.PathLike`, so that nothing takes it for a local path. Its text has no secrets.

    Attributes:
        url: the URL.
        access: what the user passed to reach it, and all that is below it.
    """

    url: str = field(repr=False)
    access: Access = field(default=NO_ACCESS, repr=False, compare=False)

    def __str__(self) -> str:
        return without_secrets(self.url)

    def __truediv__(self, name: str) -> "RemotePath":
        return replace(self, url=f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of the name."""
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        """The folder that it is in."""
        return replace(self, url=self.url.rpartition("/")[0])

    def with_name(self, name: str) -> "RemotePath":
        """A file or a folder beside it."""
        return self.parent / name

    def resolve(self) -> "RemotePath":
        """The same: there are no links."""
        return self

    def is_symlink(self) -> bool:
        """Return False: there are no links."""
        return False

    def locate(self) -> tuple[Any, PurePosixPath]:
        """The class of its file system, and its path in it, by which two spellings of a URL are compared."""
        return self._read(lambda system, path: (type(system), PurePosixPath(os.path.normpath(f"/{path.strip('/')}"))))

    def _kind(self) -> str | None:
        def ask(system: Any, path: str) -> str | None:
            try:
                return str(system.info(path)["type"])
            except FileNotFoundError as error:
                if self.url.startswith("http") and error.__cause__ is not None:  # fsspec's error for any failure there
                    status = getattr(error.__cause__, "status", None)
                    if status not in (404, 410):
                        raise
                return None

        return self._read(ask)

    def exists(self) -> bool:
        """Whether there is a file, or a folder with a file in it."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether it is a folder with a file in it."""
        return self._kind() == "directory"

    def _list(self) -> list[tuple[str, Any]]:
        def ask(system: Any, path: str) -> list[tuple[str, Any]]:
            try:
                entries = system.ls(path, detail=True)
            except FileNotFoundError:
                return []
            own = path.strip("/")  # listed where a file has the name of the folder, too
            paths = [(entry["name"].strip("/"), entry) for entry in entries]
            return sorted((name.rpartition("/")[2], entry.get("size")) for name, entry in paths if name != own)

        return self._read(ask)

    def iterdir(self) -> list["RemotePath"]:
        """What is in the folder, by name; nothing if there is no folder."""
        return [self / name for name, _ in self._list()]

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of what is in the folder."""
        return dict(self._list())

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file. One that is missing is no error, since an earlier try may have removed it."""

        def remove(system: Any, path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(path)

        self._write(remove)

    def remove_folder(self) -> None:
        """Remove the folder and all that is in it."""

        def remove(system: Any, path: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                system.rm(path, recursive=True)

        self._write(remove)

    def put(self, file: str | os.PathLike[str]) -> None:
        """Upload a local file."""
        size = os.path.getsize(file)

        def upload(system: Any, path: str) -> None:
            if not self.url.startswith(tuple(f"{protocol}://" for protocol in _NO_FOLDERS)):
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
            system.put_file(os.fspath(file), path)
            system.invalidate_cache()
            if (found := system.info(path)["size"]) != size:
                message = f"{found:,} of {size:,} bytes arrived"
                raise OSError(message)

        self._write(upload)

    def copy_from(self, other: "RemotePath") -> None:
        """Copy a file of the same file system to here, which most servers do themselves."""
        self._write(lambda system, path: system.cp_file(open_file_system(other.url, other.access)[1], path))

    def _read(self, ask: Callable[[Any, str], T]) -> T:
        def call() -> T:
            system, path = open_file_system(self.url, self.access)
            system.invalidate_cache()
            return call_client(self.url, lambda: ask(system, path))

        return retry(call, self.url, "it")

    def _write(self, change: Callable[[Any, str], object]) -> None:
        def call() -> None:
            system, path = open_file_system(self.url, self.access)
            change(system, path)

        try:
            return retry(call, self.url, "it")
        except (DataNotFoundError, RemoteReadError) as error:
            cause = error.__cause__
        message = (
            f"{self} could not be written ({describe_error(cause) if cause else 'no answer'}). What was written before "
            "is kept: check the address, the network and your access, and run it again."
        )
        raise RemoteWriteError(message) from cause


Place = Path | RemotePath
PlaceLike = str | os.PathLike[str] | RemotePath


def expand_home(path: str) -> str:
    """Expand `~/x`, which a shell leaves as it is in `--out=~/x`; `~` and `~x` are names of files like others."""
    return os.path.expanduser(path) if path.startswith("~/") else path


def find_place(location: PlaceLike, access: Access = NO_ACCESS) -> Place:
    """The place that a user names: a URL is remote, except for `file://`; all else is a local path.

    Args:
        location: a path, a URL, or a place that was found before.
        access: what the user passed to reach a URL.

    Raises:
        ConfigError: the URL names no folder, or is a chain of several.
    """
    if isinstance(location, RemotePath):
        return replace(location, access=access or location.access)
    if not isinstance(location, str) or not is_url(location):
        return Path(expand_home(os.fspath(location)))
    if location.startswith("file://"):
        return Path(location.removeprefix("file://"))
    remember_secrets_of(location)
    rest = location.partition("://")[2]
    if "::" in location or not rest.strip("/"):
        found = "a chain of several" if "::" in location else "none in it"
        message = f"{without_secrets(location)}: expected the URL of one folder or file, found {found}. Correct it."
        raise ConfigError(message)
    return RemotePath(location.rstrip("/"), access)


def is_below(place: Place, folder: Place) -> bool:
    """Whether a place is a folder, or is in it."""
    if isinstance(place, RemotePath) or isinstance(folder, RemotePath):
        urls = [f"{other.url}/" for other in (place, folder) if isinstance(other, RemotePath)]
        return len(urls) == 2 and urls[0].startswith(urls[1])
    return place.resolve().is_relative_to(folder.resolve())


@contextlib.contextmanager
def open_place(place: PlaceLike) -> Iterator[RandomFile]:
    """Open a file for reading at any position."""
    if isinstance(place, RemotePath):
        yield RemoteFile(place.url, place.access)
    else:
        with LocalFile(os.fspath(place)) as file:
            yield file


def open_parquet(place: PlaceLike) -> Any:
    """What pyarrow reads a file from: an absolute path, since a relative name with a colon is a URI to it."""
    if not isinstance(place, RemotePath):
        return os.path.abspath(place)
    file = RemoteFile(place.url, place.access)
    return FileSlice(file, 0, file.size)


def read_file(place: PlaceLike, most: int | None = None) -> bytes:
    """Read a whole file; see `local.read_file`."""
    if not isinstance(place, RemotePath):
        return local.read_file(place, most)
    file = RemoteFile(place.url, place.access)
    if most is not None and file.size > most:
        raise bad_file(place, f"at most {most:,} bytes", f"{file.size:,}", "Is it another file?")
    data = bytearray(file.size)
    file.read_into(0, memoryview(data))
    return bytes(data)


def has_content(place: PlaceLike, data: bytes) -> bool:
    """Check whether a file has exactly this content, reading at most one byte more than that.

    Raises:
        DataNotFoundError: it does not exist, or cannot be read.
        BadFileError: it is a folder, a pipe or a device.
    """
    with open_place(place) as file:
        return file.read_at(0, len(data) + 1) == data


def compute_sha256(place: PlaceLike) -> str:
    """SHA-256 of the content of a file."""
    if isinstance(place, RemotePath):
        file, digest = RemoteFile(place.url, place.access), hashlib.sha256()
        for _, data in file.read_ranges(split_range(0, file.size)):
            digest.update(data)
        return digest.hexdigest()
    with open(place, "rb", opener=open_file) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def list_sizes(folder: Place) -> dict[str, int]:
    """Name -> bytes of what is in a folder; empty if there is none."""
    if isinstance(folder, RemotePath):
        return folder.sizes()
    files = folder.iterdir() if folder.is_dir() else ()
    return {file.name: file.stat().st_size for file in files if file.exists()}


def size_of(place: Place) -> int:
    """Bytes of a file."""
    return RemoteFile(place.url, place.access).size if isinstance(place, RemotePath) else place.stat().st_size
