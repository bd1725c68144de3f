"""What must hold of matches and pictures, and what `newsclippings verify` says where it does not."""

from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa

from _newsclippings.check.report import SHOWN, Report
from _newsclippings.facts import DEFAULT_CONFIG, ROWS
from _newsclippings.pictures import USUAL_MODES, Pictures, inspect_images
from _newsclippings.rows import count_broken_pairs, wanted_ids
from _newsclippings.tables import Int64s, int64s, values_of

NAMES = {"no_picture": "files of another kind", "bomb": "too large to decode"}  # of problems; else as they are called
AGAIN = "Fetch the file again from the authors' Hub repository."


def check_rows(report: Report, config: str, split: str, matches: pa.Table) -> dict[str, int | None]:
    """What must hold of one file of matches; gives its counts."""
    rows, falsified = len(matches), int(values_of(matches["falsified"]).sum())
    if broken := count_broken_pairs(matches):
        _rule(
            report, f"{config}/{split}: twins", "rows 2k and 2k+1 to be a pristine row and its falsified twin",
            f"{broken:,} pairs of rows that are not",
        )  # fmt: skip
    if 2 * falsified != rows:
        _rule(report, f"{config}/{split}: labels", f"half of {rows:,} rows to be pristine", f"{rows - falsified:,}")
    scores = values_of(matches["similarity_score"])[~values_of(matches["falsified"])]
    if odd := int((scores != 1).sum()):
        _rule(report, f"{config}/{split}: scores", "a similarity_score of 1 on pristine rows", f"{odd:,} with another")
    sources = values_of(matches["source_dataset"], -1)
    if odd := int((sources[: rows // 2 * 2 : 2] != sources[1::2]).sum()):
        expected = "both twins to be of one sub-split (source_dataset)"
        _rule(report, f"{config}/{split}: sources", expected, f"{odd:,} pairs that are not")
    ids, images = int64s(matches["id"]), int64s(matches["image_id"])
    order = np.lexsort((images, ids))
    twice = order[1:][(np.diff(ids[order]) == 0) & (np.diff(images[order]) == 0)]
    if len(twice):
        first = int(twice.min())
        _rule(
            report, f"{config}/{split}: keys", "each pair (id, image_id) once",
            f"{len(twice):,} rows with one that stands before, the first row {first} ({ids[first]}, {images[first]})",
        )  # fmt: skip
    return {"rows": rows, "published": ROWS[config][split], "pristine": rows - falsified}


def check_splits(report: Report, matches: dict[tuple[str, str], pa.Table]) -> None:
    """What must hold of several files together: published rows, and splits of merged_balanced that share nothing."""
    known = {key: ROWS[key[0]][key[1]] for key in matches if ROWS[key[0]][key[1]] is not None}
    other = {key: rows for key, rows in known.items() if rows != len(matches[key])}
    if other and len(other) == len(known):
        report.notes.append("No file has the published number of rows: these are files of your own, or a sample.")
    else:
        for (config, split), rows in other.items():
            place = f"{config}/{split}: rows"
            _rule(report, place, f"the published {rows:,} rows", f"{len(matches[config, split]):,}")
    mine = {split: wanted_ids(table) for (config, split), table in matches.items() if config == DEFAULT_CONFIG}
    for one, two in combinations(mine, 2):
        shared = np.intersect1d(mine[one], mine[two], assume_unique=True)
        if len(shared):
            _rule(
                report, f"{DEFAULT_CONFIG}: {one} and {two}", "no caption or picture in two splits",
                f"{len(shared):,} ids in both, the first {shared[0]}",
            )  # fmt: skip


def _rule(report: Report, place: str, expected: str, found: str) -> None:
    report.note_fault(False, place, f"{place}: expected {expected}, found {found}. {AGAIN}")


def check_pictures(report: Report, needed: list[tuple[Pictures, Int64s]], decode: bool) -> None:
    """Look at the pictures that some rows need, if they are there, by their headers or by decoding them."""
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
    first, kind = ", ".join(paths[:SHOWN]), NAMES.get(problem, problem)
    do = "" if problem == "unreadable" else ", or build with check_images=True and missing='null' or 'drop_pair'"
    return (
        f"Expected pictures, found {len(paths):,} {kind}: {first}. The first: {why.rstrip('.')}. "
        f"Get them again out of VisualNews{do}."
    )
