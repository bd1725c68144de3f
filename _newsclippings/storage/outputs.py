"""Keep commands from writing over an input, or over a file that they did not write themselves."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.facts import HOMEPAGE
from _newsclippings.storage.places import PlaceLike, RemotePath, open_place
from _newsclippings.storage.remote import is_url
from _newsclippings.text import printable, without_secrets

END_BYTES = 64 << 10  # bytes at either end of a file that may hold the mark of its maker
_CALLS = {"download_and_prepare": "download_and_prepare()"}
_ON_A_DISK = "Write to a local folder or a bucket (s3://, gs://), and copy it from there."
_READ_ONLY = {
    "http": _ON_A_DISK,
    "https": _ON_A_DISK,
    "hf": "Write to a local folder, and upload that with `newsclippings push`.",
}
SOFTWARE = "Software"  # the text chunk of a PNG that names its maker


@dataclass(frozen=True)
class Maker:
    """A command, and the marks by which its files are recognised.

    Attributes:
        command: its name.
        marks: all of these are in the first or the last 64 KiB of each file that it writes.
        never: this is in none of its files, but in those of another command that have the same marks.
        earlier: each of these marks a file that an earlier version wrote.
    """

    command: str
    marks: tuple[bytes, ...]
    never: bytes | None = None
    earlier: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """The text to put into files that can carry a mark."""
        return f"newsclippings {self.command}"

    def wrote(self, path: PlaceLike) -> bool:
        """Check by its marks whether this command wrote a file."""
        edges = read_ends(path)
        marked = all(mark in edges for mark in self.marks) or any(mark in edges for mark in self.earlier)
        return marked and (self.never is None or self.never not in edges)


def read_ends(path: PlaceLike) -> bytes:
    """Read the first and the last 64 KiB of a file."""
    with open_place(path) as file:
        return file.read_at(0, END_BYTES) + file.read_at(max(END_BYTES, file.size - END_BYTES), END_BYTES)


def _marked(command: str, before: str = "") -> Maker:
    return Maker(command, (f"{before}newsclippings {command}".encode(),))


def _png(command: str) -> Maker:
    return _marked(command, f"tEXt{SOFTWARE}\0")


PREVIEW_PICTURE, PREVIEW_PAGE = _png("preview"), _marked("preview", '<meta name="generator" content="')
EMBEDDINGS = _marked("convert-embeddings")
INDEX = Maker("index", (b"PAR1", b"tar_size", b"head_sha256", b"tail_sha256"))
_INFOS, _BUILDER = f'"homepage": "{HOMEPAGE}"'.encode(), b'"builder_name": "newsclippings"'
INFOS = Maker("dataset-infos", (_INFOS, _BUILDER))
CARD_INFOS = Maker("build", (_INFOS, b'"download_size": '), never=_BUILDER)
CARD = Maker("build", (b"Written by `newsclippings build`",))
SUMS = Maker("build", (b"  README.md\n", b"  dataset_infos.json\n", b"/manifest.json\n"))
PAIRS = _png("build")
CROISSANT = Maker("croissant", (b'"conformsTo": "http://mlcommons.org/croissant/1.', b'"name": "NewsCLIPpings"'))
EVAL = Maker("card --benchmark", (b"evaluation_framework: newsclippings\n", b"tasks:\n"))
EVALUATION = _png("evaluate")
OVERLAP = _marked("overlap")
STATS, CHART = Maker("stats", (b'"version": ', b'"manifests": {', b'"configs": {')), _png("stats")


def check_output(path: PlaceLike, maker: Maker | None = None) -> None:
    """Raise an error if writing a file would destroy something that its command did not write.

    Args:
        path: the file to write, which may exist.
        maker: the command that writes it, which may replace its own output. None: any plain file is replaced, as in the
            cache.

    Raises:
        BadFileError: the path is a link, a folder or a device.
        ConfigError: another program wrote the file, or its parent folder is a file.
        DataNotFoundError: the existing file cannot be read.
    """
    if isinstance(path, RemotePath):
        _refuse_read_only(path)
        if path.is_dir():
            message = f"{path} is a folder, not a file. Choose another name."
            raise BadFileError(message)
        if maker is not None and path.is_file() and not maker.wrote(path):
            raise foreign_output(path, maker.command)
        return
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        message = f"{printable(os.fspath(path))}: its folder is a file. Choose another name."
        raise ConfigError(message) from None
    if not stat.S_ISREG(status.st_mode):
        message = (
            f"{printable(os.fspath(path))} is a link, a folder or a device, not a plain file. Choose another name."
        )
        raise BadFileError(message)
    if maker is not None and not maker.wrote(path):
        raise foreign_output(path, maker.command)


def foreign_output(path: PlaceLike, command: str, of: str = "") -> ConfigError:
    """Make the error of an output path at which there is something that its command did not write."""
    call = _CALLS.get(command, f"newsclippings {command}")
    return ConfigError(
        f"{printable(str(path))} exists and was not written by `{call}`{of}. Nothing was "
        "changed: choose another name, or remove it."
    )


def check_own_folder(folder: str | os.PathLike[str], names: str, command: str) -> None:
    """Raise an error if a folder that is about to be removed holds files that a command did not write.

    Args:
        folder: the folder, which need not exist.
        names: a regular expression for the paths of the command's files, relative to the folder.
        command: the command.

    Raises:
        ConfigError: another file is in it, or it is a link or a file.
    """
    if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
        raise foreign_output(folder, command)
    for path, folders, files in os.walk(folder):
        odd = [name for name in folders if os.path.islink(os.path.join(path, name))]
        odd += [name for name in files if not re.fullmatch(names, os.path.relpath(os.path.join(path, name), folder))]
        if odd:
            raise foreign_output(os.path.join(path, odd[0]), command)


def check_not_input(path: PlaceLike, inputs: Iterable[PlaceLike]) -> None:
    """Raise an error if an output is an input, or is inside a folder of inputs.

    Args:
        path: the file or folder to write.
        inputs: files and folders that are read, whether they exist or not. Links, hard links and other spellings of a
            path are recognised.

    Raises:
        ConfigError: it is one of the inputs, is inside one, or contains one.
    """
    locations = [place.url if isinstance(place, RemotePath) else os.fspath(place) for place in inputs]
    if isinstance(path, RemotePath):
        _refuse_read_only(path)
        _check_not_remote_input(path, [location for location in locations if is_url(location)])
        return
    target = os.path.realpath(path)
    above = list(_with_parents(target))
    for location in locations:
        if is_url(location) and not location.startswith("file://"):
            continue
        real, problem = os.path.realpath(location.removeprefix("file://")), None
        if _same(target, real):
            problem = "is one of the inputs"
        elif os.path.isdir(real) and any(_same(folder, real) for folder in above):
            problem = "is inside a folder of inputs"
        elif os.path.isdir(target) and any(_same(target, folder) for folder in _with_parents(real)):
            problem = "contains the inputs"
        if problem:
            raise _output_over_input(path, problem, location)


def _check_not_remote_input(target: RemotePath, inputs: Iterable[str]) -> None:
    system, path = target.locate()
    for location in inputs:
        if "::" in location or location.partition("://")[0] in _READ_ONLY:
            continue
        other, place = RemotePath(location).locate()
        if other is system and (place.is_relative_to(path) or path.is_relative_to(place)):
            inside = "contains the inputs" if place.is_relative_to(path) else "is inside a folder of inputs"
            raise _output_over_input(target, "is one of the inputs" if place == path else inside, location)


def _output_over_input(path: PlaceLike, problem: str, location: str) -> ConfigError:
    return ConfigError(
        f"{printable(str(path))} {problem} ({printable(without_secrets(location))}). Nothing was changed: choose "
        "another name, outside of the inputs."
    )


def _refuse_read_only(path: RemotePath) -> None:
    """Raise `ConfigError` for a protocol that cannot be written to, or that has its own command."""
    protocol = path.url.partition("://")[0]
    if protocol in _READ_ONLY:
        message = f"{path}: nothing is written to {protocol}://. {_READ_ONLY[protocol]}"
        raise ConfigError(message)


def _with_parents(path: str) -> Iterator[str]:
    yield path
    yield from map(str, Path(path).parents)


def _same(path: str, other: str) -> bool:
    """Check whether two real paths are the same file, or would be if it existed."""
    if path == other:
        return True
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except OSError:
        pass
    (folder, name), (other_folder, other_name) = os.path.split(path), os.path.split(other)
    try:
        return name == other_name and os.path.samestat(os.stat(folder), os.stat(other_folder))
    except OSError:
        return False
