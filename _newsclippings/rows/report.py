"""The report of a join, and the error for rows that are incomplete."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from _newsclippings.errors import MissingDataError
from _newsclippings.text import option, printable

ADVICE = "  Looked in: "  # begins the lines of an error that are the same for each split
_logger = logging.getLogger("newsclippings")


@dataclass(frozen=True)
class JoinReport:
    """What the rows of one official file have and lack.

    Attributes:
        rows: rows in the file.
        written: rows that come out.
        resolved: rows that are complete: they have everything that the options ask for.
        dropped_pairs: pairs left out because `missing="drop_pair"`.
        broken_pairs: pairs of rows (2k, 2k+1) that are not a pristine row and its falsified twin.
        missing: kind -> outlet -> number of rows. Kinds: `caption` (no record has the id), `picture_record` (none has
            the image_id), `picture` and `article` (the file does not exist or is empty), `undecodable` (the picture
            does not decode; only with `check_images`). The outlet is `unknown` for the first two.
        first_missing: the first few of them in words.
        damage: where and why reading the tar stopped.
        captions_from: name of the file with the captions.
        coverage: column of embeddings or metadata -> number of rows that come out with a value.
        needed: outlet -> rows whose picture has a record; not saved.
        first: number of the first row if the report is of a part of the file, else None; not saved.
        whole: rows that are complete, and their twins too; not saved.
    """

    rows: int
    written: int
    resolved: int
    dropped_pairs: int
    broken_pairs: int
    missing: dict[str, dict[str, int]]
    first_missing: list[str]
    damage: str | None = None
    captions_from: str = ""
    coverage: dict[str, int] = field(default_factory=dict)
    needed: dict[str, int] = field(default_factory=dict, repr=False)
    first: int | None = None
    whole: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as they are saved beside the data."""
        return {name: value for name, value in asdict(self).items() if name not in ("needed", "first", "whole")}

    def __str__(self) -> str:
        text = f"{self.written:,} of {self.rows:,} rows, {self.resolved:,} complete"
        for kind, by_outlet in self.missing.items():
            if by_outlet:
                counts = ", ".join(f"{outlet} {count:,}" for outlet, count in by_outlet.items())
                text += f"; {kind.replace('_', ' ')} missing: {counts}"
        if self.dropped_pairs:
            text += f"; {self.dropped_pairs:,} pairs dropped"
        if self.broken_pairs:
            text += f"; {self.broken_pairs:,} pairs of rows are no twins"
        for kind, rows in self.coverage.items():
            text += f"; {kind} for {rows:,}"
        return text + (f"; {printable(self.damage)}" if self.damage else "")


def log_report(config: str, split: str, report: JoinReport) -> None:
    """Log a report, as a warning if a row is incomplete."""
    complete = report.resolved == report.rows and not report.broken_pairs and not report.damage
    _logger.log(logging.INFO if complete else logging.WARNING, "%s/%s%s: %s", config, split, _range(report), report)


def _range(report: JoinReport) -> str:
    """Name the rows of a report if they are not all."""
    return f", rows {report.first:,} to {report.first + report.rows - 1:,}" if report.first is not None else ""


def raise_if_incomplete(
    config: str,
    reports: dict[str, JoinReport],
    searched: str,
    list_contents: Mapping[str, Callable[[], list[str]]] | None = None,
) -> None:
    """Raise `MissingDataError` if a row is incomplete: what is missing, how much, where it was looked for, and why.

    Args:
        config: name of the config.
        reports: split -> its report.
        searched: the files and folders with records and pictures, in words.
        list_contents: kind of what is missing -> says what each of its locations does have; another location, to which
            `visual_news` leads, may have more.
    """
    lines: list[str] = []
    for split, report in reports.items():
        counts = {kind: sum(by_outlet.values()) for kind, by_outlet in report.missing.items()}
        if any(counts.values()):
            ours = "  " if lines else ""  # a line of an error that does not begin so was not written by us
            found = f"expected {report.rows:,} complete rows, found {report.resolved:,}."
            lines.append(f"{ours}{config}/{split}{_range(report)}: {found}")
        for kind, count in counts.items():
            if count:
                by_outlet = ", ".join(f"{outlet} {rows:,}" for outlet, rows in report.missing[kind].items())
                lines.append(f"  In {count:,} row{'s' * (count > 1)} {_LACKS[kind]} ({by_outlet}).")
        if report.first_missing:
            lines.append(f"  First: {'; '.join(report.first_missing)}.")
        if any(counts.values()) and report.whole and report.first is None and not report.broken_pairs:
            pairs = f"{report.whole:,} of {report.rows:,} rows, half of them pristine"
            lines.append(f"  {option('missing', 'drop_pair')} would leave {pairs}.")
    if not lines:
        return
    if any(report.first is not None for report in reports.values()):
        lines.append("  A stream stops at the first incomplete rows: `newsclippings verify` checks all of them.")
    lines.append(f"{ADVICE}{printable(searched)}.")
    contents = (
        describe
        for kind, describe in (list_contents or {}).items()
        if any(report.missing.get(kind) for report in reports.values())
    )
    if (describe := next(contents, None)) is not None:
        lines += [f"    {printable(content)}" for content in describe()]
        lines.append(f"  If others are in another folder, tar or zip, add it: {option('visual_news')} takes several.")
    needed = _sum(report.needed for report in reports.values())
    lacking = _sum(report.missing["picture"] for report in reports.values())
    if lacking and [outlet for outlet, rows in needed.items() if lacking[outlet] < rows] == ["bbc"]:
        lines.append(
            "  Only pictures of bbc are there. bbc comes first in origin.tar: if they come from it, it is "
            "truncated; the complete file has 97,916,641,280 bytes."
        )
    for damage in dict.fromkeys(report.damage for report in reports.values() if report.damage):
        lines.append(f"  The tar is not whole: {printable(damage)}. Fetch it again.")
    if any(report.missing.get("undecodable") for report in reports.values()):
        lines.append("  `newsclippings verify --images=decode` says what is wrong with those that do not decode.")
    do = f"{option('missing', 'null')} (keep the rows, with nulls)"
    if empty := [split for split, report in reports.items() if report.whole == 0]:
        lines.append(
            f"  {option('missing', 'drop_pair')} would leave nothing of {', '.join(empty)}: not one pair is complete "
            "there."
        )
    else:
        do += f" or {option('missing', 'drop_pair')} (leave out both twins)"
    lines.append(f"  Complete the files, or pass {do}; the join report then counts them.")
    raise MissingDataError("\n".join(lines))


_LACKS = {
    "caption": "no record has the caption's id",
    "picture_record": "no record has the picture's id",
    "picture": "the picture is not there, or empty",
    "article": "the article is not there, or empty",
    "undecodable": "the picture does not decode",
}


def _sum(counts: Iterable[dict[str, int]]) -> Counter[str]:
    return sum(map(Counter, counts), Counter())
