"""What a contender is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Outcome = dict[str, Any]
"""What a contender may say of its run: `rows` that it dealt with, which must be as many for all contenders of a work;
`seconds`, when the work is timed inside the process; anything else is shown as a note."""


@dataclass(frozen=True)
class Job:
    """Places to read from and to write to.

    Attributes:
        corpus: folder with what `benchmarks.corpus` makes.
        out: empty folder for what the contender writes; gone after the run.
        state: folder that a contender keeps from run to run; its first, uncounted run finds it empty.
        url: where origin.tar can be fetched, in works that need that.
        limit: rows to read, in works that read a part.
        workers: processes of a DataLoader.
    """

    corpus: Path
    out: Path
    state: Path
    url: str
    limit: int
    workers: int = 0
