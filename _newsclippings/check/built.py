"""`newsclippings verify --built`: whether a folder that `newsclippings build` wrote is still what it wrote."""

import os
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from _newsclippings.check.report import VERIFY_AGAIN, Report
from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.facts import CONFIGS, UNIQUE
from _newsclippings.folder import (
    AGAIN,
    BESIDE,
    BUILDING,
    CROISSANT,
    FOLDER,
    LEFTOVERS,
    MANIFEST,
    PICTURE,
    SUMS,
    IdsDigest,
    Manifests,
    as_expected,
    croissant_text,
    current_charts,
    is_chart,
    is_hidden,
    load_manifest,
    other_content,
    read_manifest,
    read_shard,
    read_sums,
    require_pictures,
    sha256_of,
    sha256_of_small,
    shows_pictures,
    stale_files,
)
from _newsclippings.storage import holds, map_ahead, unreadable
from _newsclippings.tables import values_of
from _newsclippings.text import printable

BUILD_AGAIN = "Run the same `newsclippings build` again."
ROWS = 10_000  # of a batch of ids
THREADS = 2  # hashing releases the lock of the interpreter; more only make a disk seek


def verify_built(folder: str | os.PathLike[str]) -> Report:
    """Compare a folder with the manifests in it: each file's size and SHA-256, rows and ids, and the card.

    Args:
        folder: what `newsclippings build` wrote.

    Returns:
        The report. Leftovers of killed builds are notes: no reader takes them for data.
    """
    root, report = Path(folder), Report()
    if not root.is_dir():
        report.note_fault(
            True, str(root), f"{root}: expected a folder that `newsclippings build` wrote, found none. Build one."
        )
    configs = [config for config in (*CONFIGS, UNIQUE) if (root / config).is_dir() and not _was_removed(root / config)]
    if root.is_dir() and not configs:
        expected = "a folder that `newsclippings build` wrote"
        report.note_fault(True, str(root), f"{root}: expected {expected}, found no config in it. Build it.")
    for config in configs:
        with report.collecting(str(root / config)), as_expected(root / config / MANIFEST):
            _check_config(report, root / config)
    if configs:
        _check_beside(report, root)
    ready = f'Next: `load_dataset("{root}")`, or `newsclippings push OWNER/NAME {shlex.quote(str(root))}`.'
    report.next = ready if report.sound else VERIFY_AGAIN
    return report


def _was_removed(folder: Path) -> bool:
    """Whether `build` removed a config, and left its folder for the sake of hidden files."""
    names = os.listdir(folder)
    return folder.name == UNIQUE and bool(names) and all(is_hidden(folder / name) for name in names)


def _check_config(report: Report, folder: Path) -> None:
    if not (folder / MANIFEST).exists():
        report.note_fault(True, str(folder / MANIFEST), f"{folder / MANIFEST}: expected JSON, found none. {AGAIN}")
        return
    manifest = read_manifest(folder)
    for name in sorted(set(os.listdir(folder)) - set(manifest["files"]) - {MANIFEST}):
        if name.endswith(LEFTOVERS):
            _note_leftover(report, folder / name)
        elif not is_hidden(folder / name):
            what = "would be read as data" if name.endswith(".parquet") else "does not belong there"
            place = printable(str(folder / name))
            report.note_fault(
                False, place, f"{place}: expected the files of {MANIFEST} only, and this {what}. Remove it."
            )
    whole = _check_files(report, folder, manifest["files"])
    for split, about in manifest["splits"].items():
        names = [name for name, file in manifest["files"].items() if file["split"] == split]
        size = sum(manifest["files"][name]["bytes"] for name in names)
        counts = {"rows": about["rows"], "files": len(names), "bytes": size}
        report.counts.setdefault(folder.name, {})[split] = counts
        if all(name in whole for name in names):
            with report.collecting(f"{folder.name}/{split}: ids"):
                _check_ids(report, folder, manifest, split, names)


def _check_files(report: Report, folder: Path, files: dict[str, Any]) -> set[str]:
    """Which files of a config could be read and have their size; what differs is noted."""
    readable = set()
    for name, about in files.items():
        file = folder / name
        report.files[str(file)] = {"is": f"shard of {folder.name}/{about['split']}", "bytes": None}
        if not file.is_file():
            report.note_fault(True, str(file), f"{file}: expected {about['bytes']:,} bytes, found no file. {AGAIN}")
            continue
        size = report.files[str(file)]["bytes"] = file.stat().st_size
        if size != about["bytes"]:
            expected, more = f"{about['bytes']:,} bytes", "It is short" if size < about["bytes"] else "It is too long"
            report.note_fault(False, str(file), f"{file}: expected {expected}, found {size:,}. {more}. {AGAIN}")
        else:
            readable.add(name)
    total = sum(files[name]["bytes"] for name in readable)
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=total, desc=f"SHA-256 of {printable(folder.name)}", unit="B", unit_scale=True, disable=None) as bar,
    ):
        for name, digest in map_ahead(pool, lambda name: _digest(folder / name), sorted(readable), 2 * THREADS):
            bar.update(files[name]["bytes"])
            _compare(report, folder / name, files[name]["sha256"], digest, AGAIN)
    return readable


def _digest(file: Path, of: Callable[[Path], str] = sha256_of) -> str | NewsCLIPpingsError:
    try:
        return of(file)
    except NewsCLIPpingsError as error:
        return error
    except OSError as error:
        return unreadable(file, error)


def _compare(report: Report, file: Path, expected: str, found: str | NewsCLIPpingsError, do: str) -> None:
    """Note it if a file has another SHA-256, or none since it cannot be read."""
    if isinstance(found, NewsCLIPpingsError):
        report.note_fault(False, str(file), str(found))
    elif found != expected:
        report.note_fault(False, str(file), str(other_content(file, expected, found, do)))


def _check_ids(report: Report, folder: Path, manifest: dict[str, Any], split: str, names: list[str]) -> None:
    """Compare the rows of a split, and their ids, with its manifest."""
    place, about = f"{folder.name}/{split}", manifest["splits"][split]
    columns = ["image_id"] if folder.name == UNIQUE else ["id", "image_id"]
    digest = IdsDigest()
    for name in names:
        for batch in read_shard(folder / name, manifest["files"][name], manifest["features"], columns, ROWS):
            digest.add(*(values_of(batch.column(column)) for column in columns))
    if digest.hexdigest() != about["ids_sha256"]:
        message = f"{place}: expected the ids of the build, in its order, found others. {AGAIN}"
        report.note_fault(False, f"{place}: ids", message)


def _check_sums(report: Report, root: Path) -> None:
    """Compare with SHA256SUMS what nothing else tells of: manifests, and what was drawn."""
    sums = {}
    with report.collecting(str(root / SUMS)):
        sums = read_sums(root)
    known = {*(f"{config}/{MANIFEST}" for config in (*CONFIGS, UNIQUE)), PICTURE}
    for name, digest in sums.items():  # a name may lead out of the folder
        if (name in known or is_chart(name)) and (root / name).is_file():
            do = AGAIN if name.endswith(MANIFEST) else BUILD_AGAIN if name == PICTURE else _draw_again(root)
            _compare(report, root / name, digest, _digest(root / name, sha256_of_small), do)


def _draw_again(root: Path) -> str:
    folder = shlex.quote(str(root))
    return f"Run `newsclippings stats {folder} --plot {folder}/{FOLDER}`, or remove it."


def _check_beside(report: Report, root: Path) -> None:
    """The files beside the configs: what tells of them, and what has no business there."""
    with report.collecting(str(root)):
        built = {config: one for config in (*CONFIGS, UNIQUE) if (one := load_manifest(root / config))}
        _check_names(report, root, built)
    if not built:
        return
    if not (root / UNIQUE).is_dir():
        with report.collecting(str(root / UNIQUE)):
            require_pictures(root, built)
    for check in (_check_card, _check_charts, _check_croissant):
        with report.collecting(str(root)), as_expected(root):
            check(report, root)


def _check_names(report: Report, root: Path, built: Manifests) -> None:
    """What `build` and `stats` write beside each other, and nothing else."""
    folders = {*CONFIGS, UNIQUE, FOLDER}
    files = {*BESIDE} - (set() if shows_pictures(built) else {PICTURE})
    for name in sorted(os.listdir(root)):
        file = root / name
        if name == BUILDING or name.endswith(LEFTOVERS):
            _note_leftover(report, file)
        elif not (is_hidden(file) or (name in folders and file.is_dir()) or (name in files and file.is_file())):
            place = printable(str(file))
            report.note_fault(False, place, f"{place}: expected only what `newsclippings build` writes. Remove it.")


def _check_card(report: Report, root: Path) -> None:
    faults = len(report.invalid)
    with report.collecting(str(root)):
        _check_sums(report, root)
    told = len(report.invalid) > faults  # then what changed is not what the sums should say
    for file in stale_files(root):
        if file.name == SUMS and told:
            continue
        found = "another text" if file.exists() else "none"
        expected = f"{file}: expected what `newsclippings card` writes of this folder, found {found}"
        report.note_fault(not file.exists(), str(file), f"{expected}. Run `newsclippings card {root}`.")


def _check_charts(report: Report, root: Path) -> None:
    charts = current_charts(root)
    if (root / FOLDER).is_dir() and not charts:
        message = f"{root / FOLDER}: expected charts of what is in the folder now, found others. {_draw_again(root)}"
        report.note_fault(False, str(root / FOLDER), message)
    for file in sorted({*(root / FOLDER).glob("*")} - {*charts}) if charts else []:
        place = printable(str(file))
        report.note_fault(False, place, f"{place}: expected only what `newsclippings stats` writes. Remove it.")


def _check_croissant(report: Report, root: Path) -> None:
    croissant = root / CROISSANT
    if croissant.is_file() and not holds(croissant, croissant_text(root).encode()):
        message = f"{croissant}: expected the metadata of what is in the folder now, found others."
        report.note_fault(False, str(croissant), f"{message} Run `newsclippings croissant {root}`.")


def _note_leftover(report: Report, place: Path) -> None:
    report.notes.append(
        f"{printable(str(place))} was left by a build that was killed. It is harmless; remove it, or build again."
    )
