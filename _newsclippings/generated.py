"""The manifest of a config that `newsclippings generate` made, as far as loading the config needs it.

It is in the folder of the config, which is its data_dir, and names no locations. It may come from anyone, so that each
value is checked.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _newsclippings.errors import BadFileError, bad_file
from _newsclippings.facts import CONFIGS, ENV_DATA_DIR, NAME, SHARED_PICTURES, SPLITS
from _newsclippings.storage import DECODER, describe_json_error, is_url, read_file, unreadable_file

MANIFEST: Final = "manifest.json"
MADE_BY: Final = f"{NAME} generate"
FORMAT: Final = 1  # of the manifest; a reader refuses a higher one
OFFICIAL, OWN = "visual_news", "own"  # kinds of corpora
RESERVED: Final = (*CONFIGS, SHARED_PICTURES, "charts", "full", "default")  # no names for a config of one's own
MOST_METHODS: Final = 64
_MOST_BYTES = 8 << 20
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DO = "Get the folder again, or make it again with `newsclippings generate`."


@dataclass(frozen=True)
class SplitFacts:
    """What the manifest says about a split.

    Attributes:
        rows: of its file of matches.
        sha256: of that file.
        records_sha256: of the records that its rows refer to; see `corpus.hash_records`.
    """

    rows: int
    sha256: str
    records_sha256: str


@dataclass(frozen=True)
class Generated:
    """A config that was generated.

    Attributes:
        config: its name.
        description: a sentence.
        source_datasets: the names of its methods, in the order of the table `source_datasets` of its files.
        corpus: `"visual_news"`, or `"own"` for a corpus of the user.
        splits: split -> facts; the config has no other splits.
        values: everything that the file has.
    """

    config: str
    description: str
    source_datasets: tuple[str, ...]
    corpus: str
    splits: Mapping[str, SplitFacts]
    values: Mapping[str, Any]


def is_name(value: object) -> bool:
    """Check whether a value may name a config of one's own."""
    return isinstance(value, str) and bool(_NAME.fullmatch(value)) and value not in RESERVED


def is_method(name: str) -> bool:
    """Check whether a text may name a method."""
    return bool(_NAME.fullmatch(name))


def find_generated(data_dir: str | None) -> Generated | None:
    """Return the config that was generated into a folder; None if there is none.

    Args:
        data_dir: the folder. Unset: that of the variable NEWSCLIPPINGS_DATA_DIR, if that is set.

    Raises:
        BadFileError: its manifest is damaged.
        DataNotFoundError: the folder cannot be read.
    """
    folder = data_dir or os.environ.get(ENV_DATA_DIR)
    if not folder or is_url(folder):
        return None
    place = Path(os.path.expanduser(folder), MANIFEST)
    try:
        there = place.is_file()
    except OSError as error:
        raise unreadable_file(place, error) from error
    return read_generated(place) if there else None


def read_generated(place: Path) -> Generated | None:
    """Read a manifest; None if it is a file of something else.

    Raises:
        BadFileError: `newsclippings generate` wrote it, but it is damaged, or of a newer version.
    """
    data = read_file(place, _MOST_BYTES)
    if f'"made_by": "{MADE_BY}"'.encode() not in data[:200]:
        return None
    try:
        values = DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise bad_file(place, "the manifest of a generated config", describe_json_error(error), _DO) from None
    if isinstance(values, dict) and type(values.get("format")) is int and values["format"] > FORMAT:
        message = f"{place}: made by a newer version of newsclippings. Install that: pip install -U newsclippings."
        raise BadFileError(message)
    try:
        return _parse(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = f"something else in {error}"[:120]
        raise bad_file(place, "the manifest of a generated config", found, _DO) from None


def _parse(values: Any) -> Generated:
    splits = {
        _check(name, name in SPLITS, "splits"): SplitFacts(
            _check(split["rows"], type(split["rows"]) is int and split["rows"] > 0, "rows"),
            _digest(split, "sha256"),
            _digest(split, "records_sha256"),
        )
        for name, split in values["splits"].items()
    }
    _check(values["made_of"]["recipe"], isinstance(values["made_of"]["recipe"], str), "made_of")
    sources = values["source_datasets"]
    sound = isinstance(sources, list) and all(isinstance(name, str) and is_method(name) for name in sources)
    sound = sound and 1 <= len(set(sources)) == len(sources) <= MOST_METHODS
    description = values["description"]
    sound_text = isinstance(description, str) and description.isprintable() and len(description) <= 10_000
    return Generated(
        config=_check(values["config"], is_name(values["config"]), "config"),
        description=_check(description, sound_text, "description"),
        source_datasets=tuple(_check(sources, sound, "source_datasets")),
        corpus=_check(values["corpus"]["kind"], values["corpus"]["kind"] in (OFFICIAL, OWN), "corpus"),
        splits={name: splits[name] for name in SPLITS if name in _check(splits, bool(splits), "splits")},
        values=values,
    )


def _check(value: Any, sound: bool, what: str) -> Any:
    if not sound:
        raise ValueError(what)
    return value


def _digest(values: Mapping[str, Any], name: str) -> str:
    value = values[name]
    return str(_check(value, isinstance(value, str) and bool(_SHA256.fullmatch(value)), name))
