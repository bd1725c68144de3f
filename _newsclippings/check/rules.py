"""The rules for matches and pictures that `newsclippings verify` checks."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pyarrow as pa

from _newsclippings.check.report import SHOWN, Report
from _newsclippings.facts import DEFAULT_CONFIG, ROWS
from _newsclippings.inputs import Inputs
from _newsclippings.pictures import USUAL_MODES, Pictures, inspect_images
from _newsclippings.rows import count_broken_pairs, wanted_ids
from _newsclippings.storage import compute_sha256
from _newsclippings.tables import Int64s, int64s, values_of
from _newsclippings.text import option

# Problem -> how a message begins
TITLES = {"no_picture": "Files that are not pictures", "bomb": "Pictures that are too large to decode"}
MAKE_AGAIN = "Get the folder again, or make it again with `newsclippings generate`."
AGAIN = "Fetch the file again from the authors' Hub repository."


def check_rows(report: Report, inputs: Inputs, split: str, matches: pa.Table) -> dict[str, int | None]:
    """Check the rules for one file of matches; return its counts."""
    config, generated = inputs.config, inputs.generated
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
    # Methods whose matches were not merged may match a caption each
    method = values_of(matches["source_dataset"], -1) if generated is not None else np.zeros(rows)
    order = np.lexsort((method, images, ids))
    repeated = order[1:][(np.diff(ids[order]) == 0) & (np.diff(images[order]) == 0) & (np.diff(method[order]) == 0)]
    if len(repeated):
        first = int(repeated.min())
        _note_broken_rule(
            report, f"{config}/{split}: keys", "each pair (id, image_id) once",
            f"{len(repeated):,} rows that repeat a pair, the first in row {first} ({ids[first]}, {images[first]})",
        )  # fmt: skip
    if generated is not None and compute_sha256(inputs.matches[split]) != generated.splits[split].sha256:
        expected = "the file that its manifest.json names"
        _note_broken_rule(report, f"{config}/{split}: content", expected, "another", MAKE_AGAIN)
    return {"rows": rows, "published": _published(inputs, split), "pristine": rows - falsified}


def _published(inputs: Inputs, split: str) -> int | None:
    """Return how many rows a file has as it was published or generated; None if that is unknown."""
    return ROWS[inputs.config][split] if inputs.generated is None else inputs.generated.splits[split].rows


def check_splits(report: Report, matches: dict[tuple[str, str], pa.Table], found: Mapping[str, Inputs]) -> None:
    """Check the rules across files: the published number of rows, and that splits of a config are disjoint.

    Args:
        report: receives the faults.
        matches: config and split -> matches.
        found: config -> where its inputs are.
    """
    official = [key for key in matches if found[key[0]].generated is None]
    known = {key: rows for key in official if (rows := ROWS[key[0]][key[1]]) is not None}
    other = {key: rows for key, rows in known.items() if rows != len(matches[key])}
    if other and len(other) == len(known):
        report.notes.append("No file has the published number of rows: these are your own files, or a sample.")
    else:
        for (config, split), rows in other.items():
            place = f"{config}/{split}: rows"
            _note_broken_rule(report, place, f"the published {rows:,} rows", f"{len(matches[config, split]):,}")
    for name in (name for name, inputs in found.items() if name == DEFAULT_CONFIG or inputs.generated is not None):
        ids = {split: wanted_ids(table) for (config, split), table in matches.items() if config == name}
        for first, second in combinations(ids, 2):
            shared = np.intersect1d(ids[first], ids[second], assume_unique=True)
            if len(shared):
                _note_broken_rule(
                    report, f"{name}: {first} and {second}", "no caption or picture in two splits",
                    f"{len(shared):,} ids in both, the first {shared[0]}",
                )  # fmt: skip


def _note_broken_rule(report: Report, place: str, expected: str, found: str, do: str = AGAIN) -> None:
    report.note_fault(False, place, f"{place}: expected {expected}, found {found}. {do}")


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
