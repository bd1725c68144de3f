"""Format results as one table, with ratios to this package."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

from benchmarks.measure import Result
from benchmarks.works import WORKS

PACKAGES = ("datasets", "pyarrow", "numpy", "pillow", "pandas", "polars", "duckdb", "webdataset")
HEAD = ("work", "contender", "time", "x ours", "peak MiB", "x ours", "written MB", "note")


@dataclass(frozen=True)
class Line:
    """Summary of one contender in one work.

    Attributes:
        label: of the contender.
        kind: ours, rival or floor.
        note: shown in the table.
        time: median, in seconds; None if there is no result.
        times: median ratio of time to ours, over runs; None if either has no result.
        peak: median peak memory, in bytes.
        peaks: median ratio of peak memory to ours, over runs.
        written: median size of the files, in bytes.
    """

    label: str
    kind: str
    note: str
    time: float | None = None
    times: float | None = None
    peak: float | None = None
    peaks: float | None = None
    written: float | None = None


def lines(results: list[Result]) -> list[Line]:
    """Summarise the contenders of a work, of which the first is ours."""
    ours = results[0]
    summed = []
    for result in results:
        contender, note = result.contender, result.problem or result.outcome.get("note", "")
        kind = "floor" if contender.floor else "ours" if contender.label.startswith("ours") else "rival"
        if result.problem or not result.runs:
            summed.append(Line(contender.label, kind, note))
            continue
        runs = result.runs
        pairs = [] if ours.problem else list(zip(runs, ours.runs, strict=True))
        summed.append(
            Line(
                contender.label,
                kind,
                note or ("does less than the work" if contender.floor else ""),
                time=median(run.seconds for run in runs),
                times=median(run.seconds / own.seconds for run, own in pairs) if pairs else None,
                peak=median(run.peak for run in runs),
                peaks=median(run.peak / own.peak for run, own in pairs) if pairs else None,
                written=median(run.written for run in runs),
            )
        )
    return summed


def describe_setup(scale: float, runs: int, records: int) -> dict[str, Any]:
    """Return the facts needed to compare results: date, sizes, machine and versions."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return {
        "date": date.today().isoformat(),
        "scale": scale,
        "records": records,
        "runs": runs,
        "system": system,
        "versions": versions,
    }


def markdown(facts: dict[str, Any], summed: dict[str, list[Line]]) -> str:
    """Format the report in Markdown."""
    scale = "full size" if facts["scale"] == 1 else f"{facts['scale']:g} of full size"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"""# Benchmarks

A generated corpus, {scale} ({facts["records"]:,} records in data.json); {facts["date"]}; {facts["system"]};
{versions}.

Values are medians of {facts["runs"]} runs, each in a fresh process, with contenders in turn and files in the page
cache. Time is that of the whole process, including the start of Python; only first_row and training_reading time a part
of it. Ratios are medians of the run-by-run ratios to ours: at 2.00, a contender takes twice as long, or twice the
memory. In a first round, which does not count, each contender has to produce the same rows as ours.

{table(summed)}

## Works

{chr(10).join(f"- {name}: {WORKS[name].title}" for name in summed)}
"""


def table(summed: dict[str, list[Line]]) -> str:
    """Format all works and contenders as a Markdown table with aligned columns."""
    cells = [HEAD]
    for work, contenders in summed.items():
        for k, line in enumerate(contenders):
            cells.append(
                (
                    work if k == 0 else "",
                    line.label,
                    "-" if line.time is None else duration(line.time),
                    "-" if line.times is None else ratio(line.times),
                    "-" if line.peak is None else f"{line.peak / 2**20:,.0f}",
                    "-" if line.peaks is None else ratio(line.peaks),
                    "-" if line.written is None else f"{line.written / 1e6:,.1f}",
                    line.note.replace("|", "\\|"),
                )
            )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = (0, 1, len(HEAD) - 1)

    def row(values: tuple[str, ...]) -> str:
        padded = [v.ljust(w) if k in left else v.rjust(w) for k, (v, w) in enumerate(zip(values, widths, strict=True))]
        return f"| {' | '.join(padded)} |"

    rule = "|" + "|".join("-" * (w + 2) if k in left else "-" * (w + 1) + ":" for k, w in enumerate(widths)) + "|"
    return "\n".join([row(cells[0]), rule, *map(row, cells[1:])])


def duration(seconds: float) -> str:
    """Format a duration in milliseconds or seconds."""
    return f"{seconds * 1000:,.0f} ms" if seconds < 0.5 else f"{seconds:,.2f} s"


def ratio(value: float) -> str:
    """Format a ratio with about three digits."""
    return f"{value:.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
