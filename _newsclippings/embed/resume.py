"""Go on with a folder that was begun: which parts are whole, what could not be read, and the end."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from _newsclippings.embed.folder import Folder, PartFacts
from _newsclippings.embed.items import Items
from _newsclippings.embed.loop import READ, MadePart, range_of
from _newsclippings.embed.reader import NO_RECORD, Reader, Unread
from _newsclippings.errors import MissingDataError
from _newsclippings.facts import NAME
from _newsclippings.storage import map_ahead
from _newsclippings.text import option, printable
from _newsclippings.vectors import SUMS

logger = logging.getLogger(NAME)

LARGER = "choose a folder on a larger disk"
MOST_UNREAD = 0.01  # share of the items that may be unreadable unless missing="null"
_SHOWN = 5  # ids in an error
_Part = TypeVar("_Part", bound=MadePart[Any])


class Made:
    """What the reports of folders in parts have in common.

    Attributes:
        folder: the folder.
        parts: number of its parts.
        absent: how many of them other processes still have to make.
        unread: reason -> how many ids have no row.
    """

    folder: str
    parts: int
    absent: int
    unread: dict[str, int]

    @property
    def complete(self) -> bool:
        """Whether all parts are there, with their checksums."""
        return not self.absent

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**vars(self), "complete": self.complete}

    def describe(self, what: str, without: str) -> str:
        """Return the report in a line: what the folder has, and what those that are unread have not."""
        unread = "; ".join(f"{count:,} without {without}: {reason}" for reason, count in self.unread.items())
        state = f"{self.absent:,} of {self.parts:,} parts are still to be made by other ranks" if self.absent else ""
        return f"{printable(self.folder)} ({'; '.join(filter(None, [what, unread, state]))})"


class Tally:
    """Counts the items that could not be read, and stops if there are too many."""

    def __init__(self, items: Items, allowed: int | None) -> None:
        """Count nothing yet.

        Args:
            items: the items.
            allowed: how many may be unread. None: 1 %.
        """
        self._items = items
        self._allowed = int(len(items.ids) * MOST_UNREAD) if allowed is None else allowed
        self.ids: dict[str, list[int]] = {}

    def add(self, unread: Mapping[str, list[int]]) -> None:
        """Add items that could not be read: reason -> ids.

        Raises:
            MissingDataError: there are more than allowed.
        """
        for reason, ids in unread.items():
            self.ids.setdefault(reason, []).extend(ids)
        count = sum(map(len, self.ids.values()))
        if count > self._allowed:
            first = sorted(number for ids in self.ids.values() for number in ids)[:_SHOWN]
            reasons = ", ".join(f"{len(ids):,} {reason}" for reason, ids in self.ids.items())
            message = (
                f"At least {count:,} of {len(self._items.ids):,} {self._items.of} cannot be read, more than "
                f"{MOST_UNREAD:.0%}: {reasons}. The first ids: {', '.join(map(str, first))}. Check the files "
                f"(`newsclippings verify --images=decode`), or go on without them: {option('missing', 'null')}."
            )
            raise MissingDataError(message)

    def watch(self, parts: Iterable[_Part]) -> Iterator[_Part]:
        """Count what could not be read of parts that pass."""
        for part in parts:
            self.add(part.unread)
            yield part


def drop_damaged(folder: Folder[Any]) -> None:
    """Remove parts of a complete folder that do not match its checksums, so that they are made again."""
    sums = folder.read_sums()
    now = folder.compute_sums(folder.names if sums else ())
    damaged = sorted(name for name in {*sums, *now} if sums.get(name) != now.get(name))
    if damaged:
        logger.warning("%s: made again, because it does not match %s: %s", folder.path, SUMS, ", ".join(damaged))
        (folder.path / SUMS).unlink(missing_ok=True)
        for name in {*damaged} & {*folder.plan.parts}:
            (folder.path / name).unlink(missing_ok=True)


def keep_whole_parts(folder: Folder[Any], items: Items, reader: Reader, numbers: Iterable[int]) -> dict[int, PartFacts]:
    """Return the parts of this rank that are whole; remove the others.

    A part is made again if it has other ids, or if something that could not be read now can.
    """
    kept = {}
    for number in numbers:
        facts = folder.read_facts(number)
        if (
            facts is not None
            and _is_whole(items, facts, number, folder.plan.part_size)
            and _is_unread(items, reader, facts)
        ):
            kept[number] = facts
        else:
            folder.place(number).unlink(missing_ok=True)
    return kept


def _is_whole(items: Items, facts: PartFacts, number: int, size: int) -> bool:
    start, stop = range_of(items, number, size)
    ids = np.sort(np.concatenate([facts.ids, *(np.array(each, np.int64) for each in facts.unread.values())]))
    return np.array_equal(ids, items.ids[start:stop])


def _is_unread(items: Items, reader: Reader, facts: PartFacts) -> bool:
    """Check whether what could not be read of a part still cannot, for the same reasons."""
    for reason, ids in facts.unread.items():
        rows = items.rows[np.searchsorted(items.ids, ids)]
        if reason == NO_RECORD:
            if (rows >= 0).any():
                return False
            continue
        for start in range(0, len(rows), READ):
            if any(value != Unread(reason) for value in reader.read(rows[start : start + READ])):
                return False
    return True


def write_ahead(write: Callable[[_Part], None], parts: Iterable[_Part]) -> None:
    """Write parts in a thread, while the next ones are made."""
    with ThreadPoolExecutor(1, thread_name_prefix="newsclippings") as writer:
        for _ in map_ahead(writer, write, parts, 2):
            pass


def finish(folder: Folder[Any], items: Items, tally: Tally) -> tuple[int, dict[str, int]]:
    """Write checksums if all parts are there, whoever made them.

    Returns:
        How many parts are absent, and reason -> how many ids have no row in the others.
    """
    plan = folder.plan
    facts = [folder.read_facts(number) for number in range(len(plan.parts))]
    there = [each for k, each in enumerate(facts) if each and _is_whole(items, each, k, plan.part_size)]
    for each in there:
        tally.add(each.unread)
    unread = {reason: len(tally.ids[reason]) for reason in sorted(tally.ids)}
    if len(there) == len(plan.parts):
        folder.finish(unread)
    return len(plan.parts) - len(there), unread
