"""Check a folder in parts: is it complete, does it match its checksums, are its ids those of the plan."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from _newsclippings.embed.folder import Folder
from _newsclippings.embed.items import TEXTS, Items, hash_ids
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.tables import Int64s
from _newsclippings.text import option, printable
from _newsclippings.vectors import PLAN, SUMS

AGAIN = 64  # items that are made again
_SHOWN = 5


@dataclass
class FolderReport:
    """What is wrong with a folder, if anything is.

    Attributes:
        folder: the folder.
        problems: what is wrong.
        notes: what is unusual, but not wrong.
        ids: how many ids have a row.
        unread: reason -> how many have none.
        compared: how many items were made again.
    """

    command: ClassVar[str]
    what: ClassVar[str]
    made: ClassVar[str]  # how items are made again
    folder: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ids: int = 0
    unread: dict[str, int] = field(default_factory=dict)
    compared: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**asdict(self), "sound": self.sound}

    def __str__(self) -> str:
        unread = "".join(f"; {count:,} without {self.what}: {reason}" for reason, count in self.unread.items())
        head = f"{printable(self.folder)}: {self.ids:,} ids{unread}. {self.describe_compared()}."
        lines = [*(f"  Wrong: {text}" for text in self.problems), *(f"  Note: {text}" for text in self.notes)]
        end = "Sound." if self.sound else f"Not sound: run `newsclippings {self.command}` again."
        return "\n".join([head, *lines, end])

    def describe_compared(self) -> str:
        """Say how many items were made again."""
        return f"{self.compared} {self.made} again"


def check_sums(folder: Folder[Any], report: FolderReport) -> None:
    """Compare the files with SHA256SUMS."""
    sums = folder.read_sums()
    if not sums:
        report.problems.append(f"there is no {SUMS}: the folder is not complete")
    now = folder.compute_sums({*sums} & {*folder.names})  # other names may be those of any file of this machine
    for name, digest in sums.items():
        if not now.get(name):
            report.problems.append(f"{printable(name)} is not there")
        elif now[name] != digest:
            report.problems.append(f"{name} does not match {SUMS}")
    if unlisted := [name for name in folder.plan.parts if sums and name not in sums]:
        report.problems.append(f"{SUMS} does not list {unlisted[0]}")
    others = sorted({*os.listdir(folder.path)} - {SUMS, *folder.names})
    report.notes += [f"{printable(name)} is not a file of {PLAN}" for name in others[:_SHOWN]]


def check_parts(folder: Folder[Any], report: FolderReport, check: Callable[[int], str | None]) -> Int64s:
    """Read all parts; return all ids, with a row and without; none if a part is of another plan.

    Args:
        folder: the folder.
        report: gets what is wrong.
        check: returns what is wrong with the content of a part, or raises `BadFileError`.
    """
    ids, unread = [], report.unread
    for number, name in enumerate(folder.plan.parts):
        try:
            facts = folder.read_facts(number)
        except ConfigError as error:  # a part of another plan
            report.problems.append(str(error))
            return np.empty(0, np.int64)
        if facts is None:
            if not any(problem.startswith(name) for problem in report.problems):
                report.problems.append(f"{name} is not there, or damaged")
            continue
        ids += [facts.ids, *(np.array(each, np.int64) for each in facts.unread.values())]
        report.ids += len(facts.ids)
        for reason, each in facts.unread.items():
            unread[reason] = unread.get(reason, 0) + len(each)
        try:
            wrong = check(number)
        except BadFileError as error:
            wrong = str(error)
        if wrong is not None:
            report.problems.append(wrong)
    every = np.sort(np.concatenate([np.empty(0, np.int64), *ids]))
    if len(every) == folder.plan.count and hash_ids(every) == folder.plan.ids_sha256:
        return every
    if report.sound:
        report.problems.append(f"the parts have other ids than {PLAN} says")
    return every


def compare_facts(
    count: int, planned: Mapping[str, Any], now: Mapping[str, Any], items: Items, report: FolderReport
) -> None:
    """Note what differs between the model of the plan and the one that was opened, and between the inputs.

    Args:
        count: of ids of the plan.
        planned: facts of the plan.
        now: facts of the model.
        items: those that the parts are of.
        report: gets the notes.
    """
    if len(items.ids) == count and items.hash_texts() != planned.get(TEXTS):
        what = "captions" if items.of == "captions" else "paths of pictures"
        report.notes.append(f"the inputs have other {what} than those that the {report.what} were made of")
    for name in sorted(name for name in {*now, *planned} - {TEXTS} if now.get(name) != planned.get(name)):
        report.notes.append(f"{name} was {planned.get(name)!r}, and is {now.get(name)!r} now")


def choose_items(count: int) -> Int64s:
    """Return the positions of evenly spaced items that are made again."""
    return np.unique(np.linspace(0, count - 1, AGAIN).astype(np.int64))


def find_model(path: Path, facts: Mapping[str, Any]) -> str:
    """Return the model that a plan names; it may come from anyone, so that no code or folder of this machine is."""
    model = facts.get("model")
    named = model if isinstance(model, str) else ""
    if not named or named.startswith("py:") or "./" in named:
        what = f"the model {printable(named)[:200]!r}, which is of the machine it was made on" if named else "no model"
        message = f"{path / PLAN} names {what}. Pass {option('model')}."
        raise ConfigError(message)
    return named
