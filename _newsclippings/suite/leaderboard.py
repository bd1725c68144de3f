"""Write a leaderboard from a folder of predictions: one HTML file without scripts, in which `evaluate` measures all."""

import html
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _newsclippings.errors import DataNotFoundError, UnsafePathError, bad_file
from _newsclippings.evaluate import Evaluation, System, compare, evaluate, summarise
from _newsclippings.facts import DEFAULT_CONFIG
from _newsclippings.storage import (
    DECODER,
    Maker,
    check_not_input,
    check_output,
    describe_json_error,
    read_file,
    write_text,
)
from _newsclippings.suite.baseline import BY_VALIDATION
from _newsclippings.text import format_page, one_line, printable

FACTS: Final = "facts.json"
FILES: Final = ("predictions.jsonl", "predictions.csv", "predictions.tsv", "predictions.parquet")
FLAGS: Final = ("pixels", "evidence", "web")
MEASURES: Final = ("accuracy", "accuracy_pristine", "accuracy_falsified", "auc", "pair_accuracy")
NAMES: Final = {"auc": "AUC"}  # measure -> its name, where that is no word
LARGEST: Final = 64 << 10  # bytes of a file of facts
LEVEL: Final = 0.05  # of Holm's p, from which on two models are in one group
PAGE: Final = Maker("leaderboard", (b'<meta name="generator" content="newsclippings leaderboard">',))
_DO: Final = "It has name and url, threshold (a number or val:FILE), and pixels, evidence and web (true or false)."
_STYLE: Final = (
    "th:nth-child(2){text-align:left;min-width:12rem;overflow-wrap:anywhere}"
    "small{color:#59636e}code{font-size:.75rem}.interval{white-space:nowrap}"
)


@dataclass(frozen=True)
class Entry:
    """The predictions of one run.

    Attributes:
        file: the predictions.
        name: of the model; runs of one name differ by their seed.
        threshold: as of `evaluate`.
        url: of the paper or the code; empty if there is none.
        flags: what the model reads; None if it is not said.
    """

    file: Path
    name: str
    threshold: float | str | None
    url: str
    flags: dict[str, bool | None]


def write_leaderboard(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str = DEFAULT_CONFIG,
    split: str = "test",
    data_dir: str | os.PathLike[str] | None = None,
) -> int:
    """Write a page with a row for each model, the best first.

    Models are in one group if McNemar's test with the best of the group, adjusted by Holm's method over all that are
    left, has a p of 0.05 or more. Of several seeds, the table has the mean, and the test is of the first.

    Args:
        folder: in it or below, each folder with a file of predictions is a run. A file facts.json beside it may have
            `name`, `url`, `threshold`, and the flags `pixels`, `evidence` and `web`.
        out: the page.
        config: name of the config.
        split: name of the split.
        data_dir: as of `evaluate`.

    Returns:
        How many models are on the page.

    Raises:
        DataNotFoundError: there are no predictions.
        BadFileError: predictions or facts are not what they have to be.
        UnsafePathError: a link in the folder leads out of it.
        ConfigError: another program wrote the page, or it is an input.
    """
    entries = _find_entries(Path(folder))
    check_not_input(Path(out), [entry.file for entry in entries])
    check_output(Path(out), PAGE)
    thresholds = [entry.threshold for entry in entries]
    files = [entry.file for entry in entries]
    found = evaluate(*files, config=config, split=split, data_dir=data_dir, threshold=thresholds, group=True)
    models: dict[str, list[tuple[Entry, System]]] = {}
    for entry, system in zip(entries, found.systems, strict=True):
        models.setdefault(entry.name, []).append((entry, system))
    for name, runs in models.items():
        _check_seeds(name, [entry for entry, _ in runs])
    rows = [_Model(name, [entry for entry, _ in runs], [system for _, system in runs]) for name, runs in models.items()]
    rows.sort(key=lambda model: (-model.group["accuracy"]["mean"], model.name))
    page = _format(rows, _group(rows), config, split, found)
    write_text(Path(out), page, PAGE)
    return len(rows)


def _check_seeds(name: str, runs: Sequence[Entry]) -> None:
    """Raise `BadFileError` if runs of one name are not seeds of one model: the page shows the facts of the first."""
    for run in runs:
        if (run.url, run.flags) != (runs[0].url, runs[0].flags):
            expected = f"the url and the flags of the other runs of {printable(name)[:80]} ({runs[0].file.parent})"
            do = "Give another model another name, or all of its runs the same facts."
            raise bad_file(run.file.with_name(FACTS), expected, "others", do)


class _Model:
    """A row of the page."""

    def __init__(self, name: str, entries: list[Entry], systems: list[System]) -> None:
        self.name, self.entry, self.system, self.seeds = name, entries[0], systems[0], len(systems)
        self.group = summarise([system.whole for system in systems])


def _group(models: Sequence[_Model]) -> list[int]:
    """Number the groups of models, from 1 on; models are sorted, the best first."""
    groups: dict[int, int] = {}
    while rest := [k for k in range(len(models)) if k not in groups]:
        tests = compare([models[k].system for k in rest]).comparisons
        ps = [test["holm_p"] for test in tests if test["measure"] == "accuracy"]
        alike = [rest[0], *(k for k, p in zip(rest[1:], ps, strict=True) if p >= LEVEL)]
        number = max(groups.values(), default=0) + 1
        groups |= dict.fromkeys(alike, number)
    return [groups[k] for k in range(len(models))]


def _find_entries(folder: Path) -> list[Entry]:
    entries = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        names = [name for name in FILES if name in files]
        for name in [*folders, *names, *([FACTS] if FACTS in files else [])]:
            _check_link(Path(place, name), folder)
        if names:
            if len(names) > 1:
                raise bad_file(place, "one file of predictions", ", ".join(names), "Remove the others.")
            where = os.path.relpath(place, folder)
            entry = _read_facts(Path(place), names[0], where, FACTS in files)
            if isinstance(entry.threshold, str):
                _check_link(Path(entry.threshold.removeprefix(f"{BY_VALIDATION}:")), folder)
            entries.append(entry)
    if not entries:
        message = (
            f"{printable(str(folder))} has no folder with {', '.join(FILES)}. Put each model's file into a folder."
        )
        raise DataNotFoundError(message)
    return entries


def _check_link(place: Path, folder: Path) -> None:
    """Raise `UnsafePathError` if a link leads out of the folder, which may be a stranger's."""
    if not os.path.islink(place):
        return
    real, root = os.path.realpath(place), os.path.realpath(folder)
    if not real.startswith(f"{root.rstrip(os.sep)}{os.sep}"):
        message = f"{printable(str(place))} is a link that leads out of {printable(str(folder))}. Replace it by a copy."
        raise UnsafePathError(message)


def _read_facts(place: Path, file: str, where: str, known: bool) -> Entry:
    facts: Any = {}
    if known:
        data = read_file(str(place / FACTS), LARGEST)
        try:
            facts = DECODER.decode(data.decode())
        except (ValueError, RecursionError) as error:
            raise bad_file(place / FACTS, "a JSON object", describe_json_error(error), _DO) from None
    if not isinstance(facts, dict):
        raise bad_file(place / FACTS, "a JSON object", type(facts).__name__, _DO)
    threshold = facts.get("threshold")
    name, url = facts.get("name", where), facts.get("url", "")
    if not isinstance(name, str) or not name.strip():
        found = "an empty one" if isinstance(name, str) else type(name).__name__
        raise bad_file(place / FACTS, "a text as name", found, _DO)
    if not isinstance(url, str) or (url and not (url.startswith("https://") and url.isascii() and url.isprintable())):
        raise bad_file(place / FACTS, "https:// as url", printable(str(url)[:80]), _DO)
    if isinstance(threshold, str):
        other = threshold.removeprefix(f"{BY_VALIDATION}:")
        if other == threshold or os.path.basename(other) != other or not (place / other).is_file():
            raise bad_file(place / FACTS, "val: and a file beside it as threshold", printable(threshold[:80]), _DO)
        threshold = f"{BY_VALIDATION}:{place / other}"
    elif threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
        raise bad_file(place / FACTS, "a number as threshold", type(threshold).__name__, _DO)
    elif threshold is not None and not math.isfinite(threshold):
        raise bad_file(place / FACTS, "a finite number as threshold", str(threshold), _DO)
    flags = {flag: facts.get(flag) for flag in FLAGS}
    if wrong := [flag for flag, value in flags.items() if value not in (None, True, False)]:
        raise bad_file(place / FACTS, f"true or false as {wrong[0]}", printable(repr(flags[wrong[0]])[:80]), _DO)
    return Entry(place / file, one_line(name), threshold, url, flags)


def _format(models: Sequence[_Model], groups: Sequence[int], config: str, split: str, found: Evaluation) -> str:
    title = f"NewsCLIPpings: {config}, {split}"
    header = ["group", "model", *(NAMES.get(name, name.replace("_", " ")) for name in MEASURES), "seeds", *FLAGS]
    rows = []
    for model, group in zip(models, groups, strict=True):
        name = html.escape(model.name)
        if model.entry.url:
            name = f'<a href="{html.escape(model.entry.url)}" rel="nofollow noopener">{name}</a>'
        signature = html.escape(printable(model.system.signature)).replace("|", "|<wbr>")
        name += f"<br><small><code>{signature}</code></small>"
        flags = [{True: "yes", False: "no", None: ""}[model.entry.flags[flag]] for flag in FLAGS]
        cells = [*(_cell(model.group[measure]) for measure in MEASURES), str(model.seeds), *flags]
        values = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><td>{group}</td><th scope="row">{name}</th>{values}</tr>')
    about = (
        "Numbers are per cent, with 95 % intervals over draws of pairs. Models of one group do not differ from its "
        f"first by McNemar's test (p from {LEVEL} on, adjusted by Holm's method). The last columns say what a model "
        "reads; nothing there: it is not said."
    )
    notes = "".join(f"<li>{html.escape(printable(note))}</li>" for note in found.notes)
    lines = [
        f"<h1>{title}</h1><p>{about}</p>",
        '<div role="region" aria-label="Measures" tabindex="0"><table><thead><tr>',  # the keyboard scrolls it
        "".join(f'<th scope="col">{name}</th>' for name in header),
        "</tr></thead><tbody>",
        *rows,
        "</tbody></table></div>",
        *([f"<h2>Notes</h2><ul>{notes}</ul>"] if notes else []),
    ]
    return format_page(title, "newsclippings leaderboard", lines, _STYLE)


def _cell(result: dict[str, float] | None) -> str:
    if result is None:
        return "-"
    value, low, high = (100 * result[name] for name in ("mean", "low", "high"))
    return f'{value:.1f}<br><small class="interval">{low:.1f} to {high:.1f}</small>'
