"""The input and the result of a contender."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Outcome = dict[str, Any]
"""The result of a run: `rows`, a number that must be the same for all contenders of a work; `seconds`, if the contender
times the work itself; `note`, shown in the table; and more for benchmarks.json."""


@dataclass(frozen=True)
class Job:
    """The folders and settings of a run.

    Attributes:
        corpus: folder that `benchmarks.corpus` made.
        out: empty folder for outputs; removed after the run.
        state: folder that is kept between runs; it is empty in the first run, which does not count.
        url: of origin.tar, in works that download it.
        limit: rows to read, in works that read a part.
        workers: processes of a DataLoader.
    """

    corpus: Path
    out: Path
    state: Path
    url: str
    limit: int
    workers: int = 0
