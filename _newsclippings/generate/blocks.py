"""Work in blocks, each of which has a file as its result: shared out among processes, and kept after a kill.

All processes call the same stages in the same order. Each does its own blocks and reads the others, so that all go on
with the same results, and nothing else passes between them. What is in a block depends neither on their number nor on
the engine.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.errors import ConfigError
from _newsclippings.generate.write import Folder
from _newsclippings.storage import progress_bar
from _newsclippings.tables import Int64s, as_array, values_of

BLOCK_PAIRS: Final = 1 << 31  # products of two vectors of a block: half a minute of a core, less than a second of a GPU
_LOOK: Final = 0.2  # seconds after which a process looks again whether a file of another one is there

Columns = tuple[npt.NDArray[Any], ...]  # of one shape
Work = Callable[[Any, Int64s], Columns]  # of something and some rows: columns, whose rows follow each other
Run = Callable[[Any, Work, Int64s, Int64s], Columns]
Do = Callable[[Any, Work, list[tuple[int, Int64s]]], Iterable[tuple[int, Columns]]]


def run_here(subject: Any, work: Work, rows: Int64s, pairs: Int64s) -> Columns:
    """Do some work in this process, without files; see `Stage.run`."""
    del pairs
    return work(subject, rows)


def _do_here(subject: Any, work: Work, blocks: list[tuple[int, Int64s]]) -> Iterator[tuple[int, Columns]]:
    return ((number, work(subject, rows)) for number, rows in blocks)


class OvertakenError(Exception):
    """Another process finished all that this stage is for."""


@dataclass
class Share:
    """Which blocks a process does, and how.

    Attributes:
        rank: number of the process.
        world: how many processes there are.
        do: does some blocks, in any order; unset: in this process.
    """

    rank: int = 0
    world: int = 1
    do: Do = _do_here

    @property
    def leads(self) -> bool:
        """Whether this process also writes everything but blocks."""
        return self.rank == 0


class Stage:
    """All work for one intermediate result of a folder."""

    def __init__(self, folder: Folder, name: str, share: Share) -> None:
        """Begin a stage.

        Args:
            folder: the folder.
            name: of the intermediate result.
            share: of this process.
        """
        self._folder, self._name, self._share, self._runs = folder, name, share, 0

    def run(self, subject: Any, work: Work, rows: Int64s, pairs: Int64s) -> Columns:
        """Do some work on rows, in blocks.

        Args:
            subject: what the work is done with.
            work: the work.
            rows: int64 (R,).
            pairs: int64 (R,), what each row costs, in products of two vectors.

        Returns:
            The columns of all blocks, one after the other.

        Raises:
            OvertakenError: the intermediate result is there already.
            ConfigError: another process ended with an error.
        """
        self._runs += 1
        blocks = np.split(rows, _cut(pairs))
        if len(blocks) == 1 and self._share.world == 1:
            return work(subject, rows)
        done: dict[int, Columns] = {}
        label = f"{self._name}, round {self._runs}"
        with progress_bar(not self._share.leads, total=len(rows), desc=label, unit=" rows", leave=False) as bar:

            def add(number: int, columns: Columns) -> None:
                done[number] = columns
                bar.update(len(blocks[number]))

            todo = []
            for number in range(self._share.rank, len(blocks), self._share.world):
                kept = self._recall(number, blocks[number])
                if kept is None:
                    todo.append((number, blocks[number]))
                else:
                    add(number, kept)
            for number, columns in self._share.do(subject, work, todo):
                if not self._share.leads:
                    check_going_on(self._folder)
                self._folder.keep(self._file(number), _to_table(columns, blocks[number]))
                add(number, columns)
            for number, block in enumerate(blocks):
                if number not in done:
                    add(number, self._wait(number, block))
        return tuple(np.concatenate(columns) for columns in zip(*(done[k] for k in range(len(blocks))), strict=True))

    def get(self, make: Callable[[Run], pa.Table]) -> pa.Table:
        """Return the intermediate result if it is there; else make it, by a function that gets `run`.

        Raises:
            OvertakenError: the whole config is finished.
            ConfigError: another process ended with an error.
        """
        table = self._folder.recall(self._name)
        if table is not None:
            return table
        try:
            table = make(self.run)
        except OvertakenError:
            table = self._folder.recall(self._name)
            if table is None:
                raise
            return table
        if self._share.leads:
            self._folder.keep(self._name, table)
            self._folder.drop(f"{self._name}-*")
        return table

    def _file(self, number: int) -> str:
        return f"{self._name}-{self._runs}-{number}"

    def _recall(self, number: int, rows: Int64s) -> Columns | None:
        table = self._folder.recall(self._file(number))
        if table is None or table.schema.metadata.get(b"rows") != _hash(rows):
            return None
        width = int(table.schema.metadata[b"width"])
        return tuple(values.reshape(-1, width) if width else values for values in map(values_of, table.columns))

    def _wait(self, number: int, rows: Int64s) -> Columns:
        while True:
            columns = self._recall(number, rows)
            if columns is not None:
                return columns
            if self._folder.recall(self._name) is not None:
                raise OvertakenError
            check_going_on(self._folder)
            pause()


def wait_for(folder: Folder, is_there: Callable[[], bool]) -> None:
    """Wait until another process has written something.

    Raises:
        OvertakenError: the config is finished.
        ConfigError: another process ended with an error.
    """
    while not is_there():
        check_going_on(folder)
        pause()


def pause() -> None:
    """Wait a moment for another process."""
    time.sleep(_LOOK)


def check_going_on(folder: Folder) -> None:
    """Check that the config is neither finished nor given up by the process that writes it.

    Raises:
        OvertakenError: it is finished.
        ConfigError: see `given_up`.
    """
    if folder.is_begun():
        return
    if folder.is_finished():
        raise OvertakenError
    raise given_up()


def given_up() -> ConfigError:
    """Make the error of a process whose leader gave up."""
    return ConfigError("The process with rank 0 ended with an error. Correct what it reports, and start all again.")


def _cut(pairs: Int64s) -> Int64s:
    """Return where blocks begin, but the first."""
    which = (np.cumsum(pairs) - pairs) // BLOCK_PAIRS
    return np.flatnonzero(which[1:] != which[:-1]) + 1


def _hash(rows: Int64s) -> bytes:
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest().encode()


def _to_table(columns: Columns, rows: Int64s) -> pa.Table:
    width = columns[0].shape[1] if columns[0].ndim > 1 else 0
    table = pa.table({str(number): as_array(values.ravel()) for number, values in enumerate(columns)})
    return table.replace_schema_metadata({"rows": _hash(rows), "width": str(width)})
