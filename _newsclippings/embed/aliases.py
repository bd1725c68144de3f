"""Alias lists: several names of one entity, such as "US" and "the United States"."""

import csv
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from _newsclippings.errors import ConfigError, DataNotFoundError
from _newsclippings.storage import read_file
from _newsclippings.text import fold_name, option, printable, short_repr

HEADER = ("alias", "name")
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Aliases:
    """Other names of entities.

    Attributes:
        names: alias, as `fold_name` returns it -> the name by which the entity is known.
        sha256: of the file; None if there is none.
    """

    names: dict[str, str]
    sha256: str | None = None

    def find(self, text: str) -> str:
        """Return the name by which an entity is known."""
        return self.names.get(fold_name(text), text) if self.names else text


def read_aliases(path: str | os.PathLike[str] | None) -> Aliases:
    """Read an alias list.

    Args:
        path: a CSV file of rows `alias,name`, with or without such a header. Aliases are compared without case. None:
            there are no aliases.

    Raises:
        ConfigError: a row has something else, an alias has several names, or its name is an alias itself.
        DataNotFoundError: there is no such file.
    """
    if path is None:
        return Aliases({})
    file = Path(os.path.expanduser(path))
    if not file.is_file():
        message = f"{option('aliases', printable(str(path)))}: there is no such file. Correct the path."
        raise DataNotFoundError(message)
    data = read_file(file, _MOST_BYTES)
    names: dict[str, str] = {}
    try:
        for number, row in enumerate(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True), 1):
            cells = [" ".join(cell.split()) for cell in row]
            if not any(cells) or (number == 1 and tuple(cells) == HEADER):
                continue
            if len(cells) != len(HEADER) or not all(cells):
                message = f"{file}: line {number} is {short_repr(row)}; expected an alias and a name: alias,name."
                raise ConfigError(message)
            alias, name = fold_name(cells[0]), cells[1]
            if names.setdefault(alias, name) != name:
                message = f"{file}: {short_repr(cells[0])} has two names, {short_repr(names[alias])} and "
                raise ConfigError(f"{message}{short_repr(name)}. Keep one of the lines.")
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{file} is not CSV in UTF-8: {printable(str(error))[:100]}. Save it as such, in rows alias,name."
        raise ConfigError(message) from error
    for alias, name in names.items():
        if names.get(fold_name(name), name) != name:
            message = f"{file}: {short_repr(alias)} leads to {short_repr(name)}, which is an alias itself. Name "
            raise ConfigError(f"{message}{short_repr(names[fold_name(name)])} for both.")
    return Aliases(names, sha256(data).hexdigest())
