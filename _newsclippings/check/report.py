"""The report of `newsclippings verify`, as an object, as plain values and as text."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from _newsclippings.errors import (
    ConfigError,
    MissingDataError,
    MissingDependencyError,
    NewsCLIPpingsError,
    NoSpaceError,
    RemoteReadError,
)
from _newsclippings.rows import ADVICE
from _newsclippings.text import as_message, format_html, printable

VERIFY_AGAIN = "Do what each line says, then verify again."
NEW_LINE = "\n    "  # within a fault
SHOWN = 5  # names in a line of text; the lists of a report are complete


@dataclass
class Report:
    """The result of a check. Each fault has its own entry, so that no fault hides another.

    Attributes:
        missing: place -> what is missing and what to do. A place is a file, or `config/split` for rows.
        invalid: place -> what is wrong and what to do.
        counts: config -> split -> counts. Of inputs: `rows`, `published`, `pristine`, `unknown_ids` (in no corpus),
            `complete` (rows with both records and, if pictures could be looked for, the picture), `missing` (rows by
            kind and outlet), `locations` (needed pictures that each location has, and those that none has),
            `coverage` (rows by kind of embedding) and `bytes` of a build. Of a built folder: `rows`,
            `files` and `bytes`.
        files: location -> `is` (what it is), `bytes` (None if it is not on this machine) and, with checksums, `sha256`
            and for the authors' files `as_published` (whether the file on the Hub is equal).
        pictures: `corrupt`, `truncated`, `empty`, `no_picture`, `bomb`, `unreadable`, `not_jpeg`, `odd_mode` -> image
            paths; empty if no picture was inspected.
        looked_at: format and mode, such as `JPEG RGB` -> number of pictures.
        notes: facts that are no faults.
        next: what to do next.
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
        """True if nothing is missing or invalid."""
        return not self.missing and not self.invalid

    def as_dict(self) -> dict[str, Any]:
        """Convert to plain values, including `sound`."""
        return {"sound": self.sound, **asdict(self)}

    @contextlib.contextmanager
    def collecting(self, place: str) -> Iterator[None]:
        """Catch an error of the block and add an entry for it."""
        try:
            yield
        except (ConfigError, NoSpaceError):  # these are not faults of the files
            raise
        except (NewsCLIPpingsError, OSError) as error:
            absent = isinstance(error, FileNotFoundError | MissingDataError | MissingDependencyError | RemoteReadError)
            self.note_fault(absent, place, str(error))

    def note_fault(self, absent: bool, place: str, message: str) -> None:
        """Add an entry, unless there is one with the same message. A place may have several."""
        message = as_message(message)
        entries = self.missing if absent else self.invalid
        if message not in entries.values():
            entries[place if place not in entries else f"{place} ({len(entries) + 1})"] = message

    def __str__(self) -> str:
        lines = [*_format_files(self.files), *_format_table(self.counts)]
        lines += _format_locations(self.counts)
        if self.looked_at:
            kinds = ", ".join(f"{printable(kind)} {count:,}" for kind, count in self.looked_at.items())
            lines.append(f"Pictures inspected: {sum(self.looked_at.values()):,} ({kinds})")
        for kind, paths in self.pictures.items():
            more = f" and {len(paths) - SHOWN:,} more" if len(paths) > SHOWN else ""
            lines.append(
                f"  {kind.replace('_', ' ')}: {len(paths):,}: {', '.join(map(printable, paths[:SHOWN]))}{more}"
            )
        lines += [f"Note: {printable(note)}" for note in self.notes]
        for title, entries in (("MISSING", self.missing), ("INVALID", self.invalid)):
            lines += [f"{title} {fault}" for fault in _format_faults(entries)]
        result = "Sound" if self.sound else f"Not sound: {len(self.missing)} missing, {len(self.invalid)} invalid"
        return "\n".join([*lines, f"{result}. {printable(self.next)}"])

    def _repr_html_(self) -> str:
        result = "Sound" if self.sound else f"Not sound: {len(self.missing)} missing, {len(self.invalid)} invalid"
        parts = [f"<p><b>{result}.</b> {escape(printable(self.next))}</p>"]
        for title, entries in (("Missing", self.missing), ("Invalid", self.invalid)):
            faults = "".join(f"<li>{escape(fault).replace(NEW_LINE, '<br>')}</li>" for fault in _format_faults(entries))
            parts += [f"<p><b>{title}</b></p><ul>{faults}</ul>"] if entries else []
        header, rows = _make_table(self.counts)
        parts += [format_html(["split", *header], rows, "Rows")] if rows else []
        kinds = [(kind.replace("_", " "), f"{len(paths):,}") for kind, paths in self.pictures.items() if paths]
        kinds = [*((kind, f"{count:,}") for kind, count in self.looked_at.items()), *kinds]
        parts += [format_html(["kind", "pictures"], kinds, "Pictures inspected")] if kinds else []
        places = [(place, entry["is"], _format_size(place, entry)) for place, entry in self.files.items()]
        parts += [format_html(["file", "what it is", "bytes"], places, "Files")] if places else []
        notes = "".join(f"<li>{escape(printable(note))}</li>" for note in self.notes)
        return "\n".join([*parts, f"<ul>{notes}</ul>" if notes else ""])


def _format_files(files: dict[str, dict[str, Any]]) -> Iterator[str]:
    for location, entry in files.items():
        size = _format_size(location, entry)
        digest = f"  sha256 {entry['sha256']}" if "sha256" in entry else ""
        same = "  as published" if entry.get("as_published") else ""
        yield f"{size:>15}  {printable(entry['is'])}: {printable(location)}{digest}{same}"


def _format_size(location: str, entry: dict[str, Any]) -> str:
    return f"{entry['bytes']:,}" if entry["bytes"] is not None else "remote" if "://" in location else "absent"


def _make_table(counts: dict[str, dict[str, dict[str, Any]]]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Make a row for each split, with a column for each number that any split has."""
    lines = {
        f"{config}/{split}": {name: value for name, value in entry.items() if isinstance(value, int)}
        | entry.get("coverage", {})
        for config, splits in counts.items()
        for split, entry in splits.items()
    }
    names = list(dict.fromkeys(name for numbers in lines.values() for name in numbers))
    rows = [
        (place, *(f"{numbers[name]:,}" if name in numbers else "-" for name in names))
        for place, numbers in lines.items()
    ]
    return [name.replace("_", " ") for name in names], rows


def _format_table(counts: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    header, rows = _make_table(counts)
    width = max((len(place) for place, *_ in rows), default=0)
    if rows:
        yield " " * width + "".join(f"{name:>15}" for name in header)
    for place, *values in rows:
        yield f"{printable(place):{width}}" + "".join(f"{value:>15}" for value in values)


def _format_locations(counts: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    """Yield a line for each split and location."""
    for config, splits in counts.items():
        for split, entry in splits.items():
            for place, count in entry.get("locations", {}).items():
                where = "in none of them" if place == "missing" else f"in {place}"
                yield printable(f"{config}/{split}: {count:,} of the needed pictures are {where}")


def _format_faults(faults: dict[str, str]) -> Iterator[str]:
    """Yield the text of each fault. Advice that a fault before has word for word is not repeated."""
    seen: set[str] = set()
    for place, message in faults.items():
        place = printable(place)
        text = message if message.startswith(place) else f"{place}: {message}"
        first, *lines = text.split("\n")
        begin = next((k for k, line in enumerate(lines) if line.startswith(ADVICE)), len(lines))
        advice = [line for line in lines[begin:] if line not in seen]
        seen.update(advice)
        if begin < len(lines) and not advice:
            advice = ["  What to do is above."]
        yield NEW_LINE.join([first, *lines[:begin], *advice])
