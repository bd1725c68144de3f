"""What commands write: never over an input, and never over a file that they did not write themselves."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.facts import HOMEPAGE
from _newsclippings.storage.local import LocalFile
from _newsclippings.text import printable

END_BYTES = 64 << 10  # bytes at either end of a file in which its maker is looked for
_CALLS = {"download_and_prepare": "download_and_prepare()"}
SOFTWARE = "Software"  # the text chunk of a PNG that names its maker

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Maker:
    """A command, and how what it wrote is known again.

    Attributes:
        command: its name.
        marks: all of these are in the first or the last 64 KiB of each file that it writes.
        never: this is in none of them: by it another command's files, which look the same, are told apart.
        earlier: any of these marks a file that an earlier version wrote.
    """

    command: str
    marks: tuple[bytes, ...]
    never: bytes | None = None
    earlier: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """The mark of files that can carry one."""
        return f"newsclippings {self.command}"

    def wrote(self, path: PathLike) -> bool:
        """Whether it wrote a file, by what is in it."""
        edges = read_ends(path)
        marked = all(mark in edges for mark in self.marks) or any(mark in edges for mark in self.earlier)
        return marked and (self.never is None or self.never not in edges)


def read_ends(path: PathLike) -> bytes:
    """The first and the last 64 KiB of a file."""
    with LocalFile(os.fspath(path)) as file:
        return file.read_at(0, END_BYTES) + file.read_at(max(END_BYTES, file.size - END_BYTES), END_BYTES)


def _marked(command: str, before: str = "") -> Maker:
    return Maker(command, (f"{before}newsclippings {command}".encode(),))


def _png(command: str) -> Maker:
    return _marked(command, f"tEXt{SOFTWARE}\0")


PREVIEW_PICTURE, PREVIEW_PAGE = _png("preview"), _marked("preview", '<meta name="generator" content="')
EMBEDDINGS = _marked("convert-embeddings")
INDEX = Maker("index", (b"PAR1", b"tar_size", b"head_sha256", b"tail_sha256"))
_INFOS, _BUILDER = f'"homepage": "{HOMEPAGE}"'.encode(), b'"builder_name": "newsclippings"'
INFOS = Maker("infos", (_INFOS, _BUILDER))
CARD_INFOS = Maker("build", (_INFOS, b'"download_size": '), never=_BUILDER)
CARD = Maker("build", (b"Written by `newsclippings build`",))
SUMS = Maker("build", (b"  README.md\n", b"  dataset_infos.json\n", b"/manifest.json\n"))
PAIRS = _png("build")
CROISSANT = Maker("croissant", (b'"conformsTo": "http://mlcommons.org/croissant/1.0"', b'"name": "NewsCLIPpings"'))
STATS, CHART = Maker("stats", (b'"version": ', b'"manifests": {', b'"configs": {')), _png("stats")


def check_output(path: PathLike, maker: Maker | None = None) -> None:
    """Refuse to write where something is that would be lost.

    Args:
        path: the file to write, which may be there already.
        maker: what writes it, and may replace what it wrote before. None: whatever file is there is replaced, as in a
            folder of our own.

    Raises:
        BadFileError: a link, a folder or a device is there.
        ConfigError: a file is there that something else wrote; or the folder it belongs in is a file.
        DataNotFoundError: what is there cannot be read.
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        message = f"{printable(os.fspath(path))}: what should be its folder is a file. Choose another name."
        raise ConfigError(message) from None
    if not stat.S_ISREG(status.st_mode):
        expected, found = "a plain file to replace, or none", "a link, a folder or a device"
        raise bad_file(printable(os.fspath(path)), expected, found, "Choose another name.")
    if maker is not None and not maker.wrote(path):
        raise foreign_output(path, maker.command)


def foreign_output(path: PathLike, command: str, of: str = "") -> ConfigError:
    """Something is where a command would write, and did not come from it."""
    call = _CALLS.get(command, f"newsclippings {command}")
    return ConfigError(
        f"{printable(os.fspath(path))} exists and was not written by `{call}`{of}. Nothing was "
        "changed: choose another name, or remove it."
    )


def check_own_folder(folder: PathLike, names: str, command: str) -> None:
    """Refuse a folder, which is going to be removed, with anything in it that a command did not write.

    Args:
        folder: which may be there.
        names: what the paths of files below it look like, as a regular expression.
        command: the command.

    Raises:
        ConfigError: something else is in it, or it is a link or a file.
    """
    if os.path.islink(folder) or (os.path.lexists(folder) and not os.path.isdir(folder)):
        raise foreign_output(folder, command)
    for path, folders, files in os.walk(folder):
        odd = [name for name in folders if os.path.islink(os.path.join(path, name))]
        odd += [name for name in files if not re.fullmatch(names, os.path.relpath(os.path.join(path, name), folder))]
        if odd:
            raise foreign_output(os.path.join(path, odd[0]), command)


def check_not_input(path: PathLike, inputs: Iterable[str]) -> None:
    """Refuse to write onto an input, or into a folder of inputs.

    Args:
        path: the file or folder to write.
        inputs: files and folders that are read, or would be if they were there. Links, hard links and other spellings
            of a path make no difference.

    Raises:
        ConfigError: it is one of the inputs, lies in one, or would hold one.
    """
    target = os.path.realpath(path)
    above = list(_with_parents(target))
    for one in inputs:
        real, found = os.path.realpath(one), None
        if _same(target, real):
            found = "is one of the inputs"
        elif os.path.isdir(real) and any(_same(folder, real) for folder in above):
            found = "lies in a folder of inputs"
        elif os.path.isdir(target) and any(_same(target, folder) for folder in _with_parents(real)):
            found = "holds the inputs"
        if found:
            message = (
                f"{printable(os.fspath(path))} {found} ({printable(one)}), which stay as they are. Nothing was "
                "changed: choose another name, outside of them."
            )
            raise ConfigError(message)


def _with_parents(path: str) -> Iterator[str]:
    yield path
    yield from map(str, Path(path).parents)


def _same(one: str, other: str) -> bool:
    """Whether two real paths are of one file; of files that are not there, whether they would be."""
    if one == other:
        return True
    try:
        return os.path.samestat(os.stat(one), os.stat(other))
    except OSError:
        pass
    (folder, name), (other_folder, other_name) = os.path.split(one), os.path.split(other)
    try:
        return name == other_name and os.path.samestat(os.stat(folder), os.stat(other_folder))
    except OSError:
        return False
