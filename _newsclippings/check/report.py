"""What `newsclippings verify` found, as an object, as plain values and as text."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from _newsclippings.errors import (
    ConfigError,
    MissingDataError,
    MissingDependencyError,
    NewsCLIPpingsError,
    NoSpaceError,
    RemoteReadError,
)
from _newsclippings.text import as_message, printable

VERIFY_AGAIN = "Do what each line says, then verify again."
SHOWN = 5  # names in a line of text; the lists of a report are whole


@dataclass
class Report:
    """What is there and what is wrong with it. Nothing hides anything else: each fault has an entry of its own.

    Attributes:
        missing: place -> what is not there and what to do. A place is a file, or `config/split` for rows.
        invalid: place -> what is there but not what it should be, and what to do.
        counts: of inputs: config -> split -> `rows`, `published`, `pristine`, `unknown_ids` (that no corpus has),
            `complete` (rows with both records and, where pictures could be looked for, the picture), `missing` rows by
            kind and outlet, `coverage`: rows by kind of embedding, `bytes` of a build. Of a built folder: `rows`,
            `files`, `bytes`.
        files: location -> `is`, `bytes` (None where it is not on this machine), and where that was asked for `sha256`
            and, of the authors' files, `as_published`: whether the Hub has the same.
        pictures: `corrupt`, `truncated`, `empty`, `no_picture`, `bomb`, `unreadable`, `not_jpeg`, `odd_mode` -> image
            paths; empty if no picture was looked at.
        looked_at: format and mode, such as `JPEG RGB` -> pictures that have it.
        notes: what is worth knowing and is no fault.
        next: what to do now.
    """

    missing: dict[str, str] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, list[str]] = field(default_factory=dict)
    looked_at: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    next: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is missing or invalid."""
        return not self.missing and not self.invalid

    def as_dict(self) -> dict[str, Any]:
        """Plain values, `sound` among them."""
        return {"sound": self.sound, **asdict(self)}

    @contextlib.contextmanager
    def collecting(self, place: str) -> Iterator[None]:
        """Make an entry of what is raised, and go on behind the block."""
        try:
            yield
        except (ConfigError, NoSpaceError):  # no fault of the files
            raise
        except (NewsCLIPpingsError, OSError) as error:
            absent = isinstance(error, FileNotFoundError | MissingDataError | MissingDependencyError | RemoteReadError)
            self.note_fault(absent, place, str(error))

    def note_fault(self, absent: bool, place: str, message: str) -> None:
        """Add an entry, unless the same was said before; one place may have several."""
        message = as_message(message)
        entries = self.missing if absent else self.invalid
        if message not in entries.values():
            entries[place if place not in entries else f"{place} ({len(entries) + 1})"] = message

    def __str__(self) -> str:
        lines = [*_files(self.files), *_table(self.counts)]
        if self.looked_at:
            kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in self.looked_at.items())
            lines.append(f"Pictures looked at: {sum(self.looked_at.values()):,} ({kinds})")
        for kind, paths in self.pictures.items():
            more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
            lines.append(
                f"  {kind.replace('_', ' ')}: {len(paths):,}: {', '.join(map(printable, paths[:SHOWN]))}{more}"
            )
        lines += [f"Note: {printable(note)}" for note in self.notes]
        for title, entries in (("MISSING", self.missing), ("INVALID", self.invalid)):
            lines += [f"{title} {_with_place(place, message)}" for place, message in entries.items()]
        found = "Sound" if self.sound else f"Not sound: {len(self.missing)} missing, {len(self.invalid)} invalid"
        return "\n".join([*lines, f"{found}. {printable(self.next)}"])


def _files(files: dict[str, dict[str, Any]]) -> Iterator[str]:
    for location, about in files.items():
        size = f"{about['bytes']:,}" if about["bytes"] is not None else "remote" if "://" in location else "absent"
        digest = f"  sha256 {about['sha256']}" if "sha256" in about else ""
        same = "  as published" if about.get("as_published") else ""
        yield f"{size:>15}  {printable(about['is'])}: {printable(location)}{digest}{same}"


def _table(counts: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    """A line per split; columns are the numbers that any of them has."""
    lines = {
        f"{config}/{split}": {name: value for name, value in about.items() if isinstance(value, int)}
        | about.get("coverage", {})
        for config, splits in counts.items()
        for split, about in splits.items()
    }
    names = list(dict.fromkeys(name for numbers in lines.values() for name in numbers))
    width = max(map(len, lines), default=0)
    if lines:
        yield " " * width + "".join(f"{name.replace('_', ' '):>15}" for name in names)
    for place, numbers in lines.items():
        values = (f"{numbers[name]:,}" if name in numbers else "-" for name in names)
        yield f"{printable(place):{width}}" + "".join(f"{value:>15}" for value in values)


def _with_place(place: str, message: str) -> str:
    place = printable(place)
    text = message if message.startswith(place) else f"{place}: {message}"
    return text.replace("\n", "\n    ")
