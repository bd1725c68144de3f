"""The rules for matches and pictures that `newsclippings verify` checks."""

from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa

from _newsclippings.check.report import SHOWN, Report
from _newsclippings.facts import DEFAULT_CONFIG, ROWS
from _newsclippings.pictures import USUAL_MODES, Pictures, inspect_images
from _newsclippings.rows import count_broken_pairs, wanted_ids
from _newsclippings.tables import Int64s, int64s, values_of
from _newsclippings.text import option

# Problem -> how a message begins
TITLES = {"no_picture": "Files that are not pictures", "bomb": "Pictures that are too large to decode"}
AGAIN = "Fetch the file again from the authors' Hub repository."


def check_rows(report: Report, config: str, split: str, matches: pa.Table) -> dict[str, int | None]:
    """Check the rules for one file of matches; return its counts."""
    rows, falsified = len(matches), int(values_of(matches["falsified"]).sum())
    if broken := count_broken_pairs(matches):
        _note_broken_rule(
            report, f"{config}/{split}: twins", "rows 2k and 2k+1 to be a pristine row and its falsified twin",
            f"{broken:,} other pairs of rows",
        )  # fmt: skip
    if 2 * falsified != rows:
        _note_broken_rule(
            report, f"{config}/{split}: labels", f"half of {rows:,} rows to be pristine", f"{rows - falsified:,}"
        )
    scores = values_of(matches["similarity_score"])[~values_of(matches["falsified"])]
    if odd := int((scores != 1).sum()):
        _note_broken_rule(
            report,
            f"{config}/{split}: scores",
            "a similarity_score of 1 on pristine rows",
            f"{odd:,} rows with another",
        )
    origins = values_of(matches["source_dataset"], -1)
    if odd := int((origins[: rows // 2 * 2 : 2] != origins[1::2]).sum()):
        expected = "both twins to be of one sub-split (source_dataset)"
        _note_broken_rule(report, f"{config}/{split}: sources", expected, f"{odd:,} pairs with two")
    ids, images = int64s(matches["id"]), int64s(matches["image_id"])
    order = np.lexsort((images, ids))
    repeated = order[1:][(np.diff(ids[order]) == 0) & (np.diff(images[order]) == 0)]
    if len(repeated):
        first = int(repeated.min())
        _note_broken_rule(
            report, f"{config}/{split}: keys", "each pair (id, image_id) once",
            f"{len(repeated):,} rows that repeat a pair, the first in row {first} ({ids[first]}, {images[first]})",
        )  # fmt: skip
    return {"rows": rows, "published": ROWS[config][split], "pristine": rows - falsified}


def check_splits(report: Report, matches: dict[tuple[str, str], pa.Table]) -> None:
    """Check the rules across files: the published number of rows, and that splits of merged_balanced are disjoint."""
    known = {key: ROWS[key[0]][key[1]] for key in matches if ROWS[key[0]][key[1]] is not None}
    other = {key: rows for key, rows in known.items() if rows != len(matches[key])}
    if other and len(other) == len(known):
        report.notes.append("No file has the published number of rows: these are your own files, or a sample.")
    else:
        for (config, split), rows in other.items():
            place = f"{config}/{split}: rows"
            _note_broken_rule(report, place, f"the published {rows:,} rows", f"{len(matches[config, split]):,}")
    ids = {split: wanted_ids(table) for (config, split), table in matches.items() if config == DEFAULT_CONFIG}
    for first, second in combinations(ids, 2):
        shared = np.intersect1d(ids[first], ids[second], assume_unique=True)
        if len(shared):
            _note_broken_rule(
                report, f"{DEFAULT_CONFIG}: {first} and {second}", "no caption or picture in two splits",
                f"{len(shared):,} ids in both, the first {shared[0]}",
            )  # fmt: skip


def _note_broken_rule(report: Report, place: str, expected: str, found: str) -> None:
    report.note_fault(False, place, f"{place}: expected {expected}, found {found}. {AGAIN}")


def check_pictures(report: Report, needed: list[tuple[Pictures, Int64s]], decode: bool) -> None:
    """Inspect the pictures that rows need, as far as they exist.

    Args:
        report: receives the faults and lists.
        needed: pictures, and int64 (N,) of their rows; -1 for none.
        decode: as in `inspect_images`.
    """
    lists: dict[str, set[str]] = {}
    why: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for pictures, rows in needed:
        used = np.unique(rows[rows >= 0])
        for row, inspection in inspect_images(pictures, used[pictures.present[used]].astype(np.int32), decode):
            if inspection.format:
                kinds[f"{inspection.format} {inspection.mode}"] += 1
            problems = [inspection.problem] if inspection.problem else []
            if not problems:
                problems += ["not_jpeg"] if inspection.format != "JPEG" else []
                problems += ["odd_mode"] if inspection.mode not in USUAL_MODES else []
            for problem in problems:
                lists.setdefault(problem, set()).add(pictures.paths[row].as_py())
            if inspection.problem is not None:
                why.setdefault(inspection.problem, inspection.why)
    report.looked_at = dict(sorted(kinds.items()))
    report.pictures = {problem: sorted(paths) for problem, paths in lists.items()}
    for problem, reason in why.items():
        report.note_fault(False, f"pictures: {problem}", _message(problem, report.pictures[problem], reason))


def _message(problem: str, paths: list[str], why: str) -> str:
    first, title = ", ".join(paths[:SHOWN]), TITLES.get(problem, f"{problem.capitalize()} pictures")
    drop = f"{option('missing', 'null')} or {option('missing', 'drop_pair')}"
    do = "" if problem == "unreadable" else f", or build with {option('check_images', True)} and {drop}"
    return f"{title} ({len(paths):,}): {first}. The first: {why.rstrip('.')}. Get them again from VisualNews{do}."
