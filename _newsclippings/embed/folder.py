"""A folder that is made in parts: the plan, the parts, and at the end checksums and a README."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.embed.loop import count_threads
from _newsclippings.errors import BadFileError, ConfigError, NewsCLIPpingsError
from _newsclippings.storage import (
    check_own_folder,
    compute_sha256,
    flush,
    flush_folder,
    foreign_output,
    read_file,
    read_footer,
    write_atomically,
    write_text,
)
from _newsclippings.tables import Int64s, int64s
from _newsclippings.text import printable
from _newsclippings.vectors import PLAN, SUMS, UNREAD, name_part, parse_sums, parse_unread

README = "README.md"
_TEMPORARY = r"\.\d+-[0-9a-f]{8}\.tmp"
_NAMES = rf"({re.escape(PLAN)}|part-\d{{5}}\.parquet|{SUMS}|{re.escape(README)})({_TEMPORARY})?"
_MOST_PLAN = 1 << 24  # bytes
_MOST_FOOTER = 64 << 20  # bytes of a footer of Parquet


class PartedPlan(Protocol):
    """The plan of a folder in parts."""

    @property
    def count(self) -> int:
        """How many ids there are."""

    @property
    def ids_sha256(self) -> str:
        """See `Items.hash_ids`."""

    @property
    def part_size(self) -> int:
        """Ids of a part."""

    @property
    def parts(self) -> list[str]:
        """The names of all parts."""

    def to_json(self) -> str:
        """Return the content of plan.json."""


_Plan = TypeVar("_Plan", bound=PartedPlan)


@dataclass(frozen=True)
class Form(Generic[_Plan]):
    """What the folders of a command have.

    Attributes:
        command: that writes them.
        what: `"vectors"` or `"entities"`.
        parse: reads plan.json: its content, and where it is from.
        schema: makes the columns of parts.
        describe: writes the README: of a plan, and reason -> how many ids have no row.
        checked: columns whose place in a part is checked before Arrow reads it.
    """

    command: str
    what: str
    parse: Callable[[bytes, str], _Plan]
    schema: Callable[[_Plan], pa.Schema]
    describe: Callable[[_Plan, dict[str, int]], str]
    checked: tuple[str, ...] = ("id",)


class PartFacts(NamedTuple):
    """What is known of a part by its ids.

    Attributes:
        ids: int64 (N,), those that have a row.
        unread: reason -> ids that have none.
    """

    ids: Int64s
    unread: dict[str, list[int]]


class Folder(Generic[_Plan]):
    """A folder that is made in parts.

    Attributes:
        path: the folder.
        form: what it has.
        plan: what its parts are.
        key: SHA-256 of plan.json, which every part has.
        schema: the columns of its parts.
    """

    def __init__(self, path: Path, form: Form[_Plan], plan: _Plan, key: str) -> None:
        self.path, self.form, self.plan, self.key = path, form, plan, key
        self.schema = form.schema(plan)

    @classmethod
    def start(cls, path: Path, form: Form[_Plan], plan: _Plan) -> "Folder[_Plan]":
        """Write the plan, or go on with the folder if it has the same one.

        Raises:
            ConfigError: the folder has another plan.
        """
        if not (path / PLAN).exists():
            write_text(path / PLAN, plan.to_json())
        folder = cls.open(path, form)
        mine = form.parse(plan.to_json().encode(), "the plan")  # as JSON stores it
        if folder.plan != mine:
            raise _other_plan(folder, mine)
        return folder

    @classmethod
    def open(cls, path: Path, form: Form[_Plan]) -> "Folder[_Plan]":
        """Open a folder that has a plan.

        Raises:
            BadFileError: plan.json is damaged.
            DataNotFoundError: there is none.
        """
        text = read_file(path / PLAN, _MOST_PLAN)
        return cls(path, form, form.parse(text, str(path / PLAN)), hashlib.sha256(text).hexdigest())

    @property
    def names(self) -> list[str]:
        """The files that SHA256SUMS lists."""
        return sorted([PLAN, README, *self.plan.parts])

    def place(self, number: int) -> Path:
        """Return the file of a part."""
        return self.path / name_part(number)

    def write(self, number: int, columns: Sequence[pa.Array], unread: dict[str, list[int]]) -> None:
        """Write a part, completely or not at all."""
        unread = {reason: sorted(unread[reason]) for reason in sorted(unread)}
        schema = self.schema.with_metadata({"plan": self.key, UNREAD: json.dumps(unread)})
        table = pa.Table.from_arrays([*columns], schema=schema)
        with write_atomically(self.place(number)) as temporary:
            pq.write_table(table, temporary, compression="none", use_dictionary=False, write_statistics=False)
            with open(temporary, "rb") as file:
                flush(file.fileno())
        flush_folder(self.path)

    def read_facts(self, number: int) -> PartFacts | None:
        """Read the ids of a part; None if it is not there, or damaged.

        Raises:
            ConfigError: it is a part of another plan.
        """
        place = self.place(number)
        try:
            file = self._open(place)
            metadata = file.schema_arrow.metadata or {}
            unread = parse_unread(metadata, str(place))
            column = file.read(["id"])["id"]
        except (NewsCLIPpingsError, OSError, pa.ArrowException, KeyError, ValueError):
            return None
        if metadata.get(b"plan", b"").decode("ascii", "replace") != self.key:
            message = f"{place} is a part of another plan than {PLAN} beside it. Remove it, and run this again."
            raise ConfigError(message)
        sound = not column.null_count and file.schema_arrow.equals(self.schema)
        return PartFacts(int64s(column), unread) if sound else None

    def read(self, number: int) -> pa.Table:
        """Read a part.

        Raises:
            BadFileError: it is not such a part, or damaged.
        """
        try:
            table = self._open(self.place(number)).read()
            if table.schema.equals(self.schema):
                return table
            why = "other columns"
        except (NewsCLIPpingsError, OSError, pa.ArrowException, KeyError, ValueError) as error:
            why = printable(str(error))[:100]
        message = f"{self.place(number)}: not a part of this plan, or damaged ({why})."
        raise BadFileError(message)

    def _open(self, place: Path) -> pq.ParquetFile:
        """Open a part, which may come from anyone; its footer is checked before Arrow reads it."""
        read_footer(place, str(place), self.form.checked, _MOST_FOOTER, "", nested=True)
        return pq.ParquetFile(place)

    def read_sums(self) -> dict[str, str]:
        """Read SHA256SUMS: name -> SHA-256; empty if there is none.

        Raises:
            BadFileError: it is malformed.
        """
        if not (self.path / SUMS).exists():
            return {}
        return parse_sums(read_file(self.path / SUMS, _MOST_PLAN), str(self.path / SUMS))

    def compute_sums(self, names: Iterable[str]) -> dict[str, str]:
        """Compute the SHA-256 of files, in threads; "" for one that is not there."""

        def compute(name: str) -> str:
            with contextlib.suppress(OSError):
                return compute_sha256(self.path / name)
            return ""

        names = [*names]
        with ThreadPoolExecutor(count_threads()) as pool:
            return dict(zip(names, pool.map(compute, names), strict=True))

    def finish(self, unread: dict[str, int]) -> None:
        """Write README.md and SHA256SUMS unless they are there, then remove what killed processes left.

        Two ranks may do this at a time: they write the same, and the first one removes the temporary file of the other.
        """
        try:
            if not (self.path / SUMS).exists():
                write_text(self.path / README, self.form.describe(self.plan, unread))
                sums = self.compute_sums(self.names)
                write_text(self.path / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        except FileNotFoundError:
            if not (self.path / SUMS).exists():
                raise
        for name in os.listdir(self.path):
            if re.search(_TEMPORARY, name):
                (self.path / name).unlink(missing_ok=True)


def check_folder(path: Path, form: Form[Any]) -> None:
    """Raise `ConfigError` if a folder holds anything but what the command of its form writes."""
    check_own_folder(path, _NAMES, form.command)
    if path.is_dir() and not (path / PLAN).exists():
        others = [name for name in sorted(os.listdir(path)) if not re.search(_TEMPORARY, name)]
        if others:
            raise foreign_output(path / others[0], form.command)


def write_facts(facts: dict[str, object]) -> str:
    """Write the lines of a table of facts in Markdown."""
    return "\n".join(f"| {name} | {printable(str(value)).replace('|', ' ')} |" for name, value in facts.items())


def _other_plan(folder: Folder[_Plan], asked: _Plan) -> ConfigError:
    """Make the error of a folder with another plan, which names what differs."""
    old, new = map(_flatten, (folder.plan, asked))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    what = "; ".join(f"{name} {_short(old.get(name))} there, {_short(new.get(name))} now" for name in names[:5])
    return ConfigError(
        f"{folder.path} has other {folder.form.what}: {what}. Nothing was changed: choose another folder, or ask for "
        "the same again."
    )


def _flatten(plan: PartedPlan) -> dict[str, Any]:
    """Return the values of a plan, those of its dict of facts among them."""
    facts = [value for value in vars(plan).values() if isinstance(value, dict)]
    plain = {name: value for name, value in vars(plan).items() if not isinstance(value, dict)}
    return {**plain, **{name: value for each in facts for name, value in each.items()}}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 80 else f"{text[:77]}...")
