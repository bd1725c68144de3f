"""One normal form for the names of pictures in data.json, metadata and tars, which serve as keys, never as paths.

`visual_news/origin/guardian/images/0540/632.jpg`, `./guardian/images/0540/632.jpg` and
`origin/guardian/images/0540/632.jpg` all become `guardian/images/0540/632.jpg`.
"""

import re
import unicodedata
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from _newsclippings.tables import array_of, as_array, values_of

MAX_LENGTH = 1024  # characters; the longest real name has about 40
PREFIXES = (("visual_news", "origin"), ("visualnews", "origin"), ("origin",))

# Nearly all names have this form; the others are normalised one by one.
_PREFIX = r"^(?:\./)?(?:(?:visual_?news/)?origin/)?"
_PLAIN = _PREFIX + r"(?:[A-Za-z0-9_\-][A-Za-z0-9_.\-]*/)*[A-Za-z0-9_\-][A-Za-z0-9_.\-]*$"
_DRIVE = re.compile(r"^[A-Za-z]:")


def normalise_path(name: str) -> str:
    """Bring one name into the normal form.

    Raises:
        ValueError: the name is absolute, empty or too long, or has `..`, a control character, a backslash, a drive or a
            URL scheme; the message names the reason.
    """
    if len(name) > MAX_LENGTH:
        message = f"it has {len(name)} characters, more than {MAX_LENGTH}"
        raise ValueError(message)
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        message = "it has a control character"
        raise ValueError(message)
    if "\\" in name:
        message = "it has a backslash"
        raise ValueError(message)
    if "://" in name or "::" in name:
        message = "it is a URL"
        raise ValueError(message)
    if name.startswith(("/", "~")) or _DRIVE.match(name):
        message = "it is absolute"
        raise ValueError(message)
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        message = "it has '..'"
        raise ValueError(message)
    for prefix in PREFIXES:
        if len(parts) > len(prefix) and tuple(parts[: len(prefix)]) == prefix:
            parts = parts[len(prefix) :]
            break
    if not parts:
        message = "it is empty"
        raise ValueError(message)
    return "/".join(parts)


def normalise_paths(names: pa.Array, on_bad: Callable[[int, str], None] | None = None) -> pa.Array:
    """Bring many names into the normal form. A plain name takes 0.2 microseconds.

    Args:
        names: string (N,); nulls stay null.
        on_bad: called with the position of each name that `normalise_path` refuses, and the reason. Such a name
            becomes null. If unset, the error is raised.

    Raises:
        BadNameError: a name is refused.
    """
    fits = as_array(values_of(pc.utf8_length(names), 0) <= MAX_LENGTH)
    plain = pc.and_(pc.match_substring_regex(names, _PLAIN), fits)
    short = pc.replace_substring_regex(names, _PREFIX, "", max_replacements=1)
    if pc.all(plain).as_py() in (True, None):
        return short
    odd = pc.indices_nonzero(pc.invert(plain)).to_pylist()
    values = short.to_pylist()
    for k in odd:
        try:
            values[k] = normalise_path(names[k].as_py())
        except ValueError as error:
            if on_bad is None:
                raise BadNameError(k, str(error)) from None
            on_bad(k, str(error))
            values[k] = None
    return array_of(values, pa.string())


class BadNameError(ValueError):
    """A name was refused; callers add the file that has it.

    Attributes:
        position: of the first refused name in the array.
        why: the reason.
    """

    def __init__(self, position: int, why: str) -> None:
        super().__init__(position, why)
        self.position = position
        self.why = why
