"""`newsclippings verify --built`: check whether a built folder is still as `newsclippings build` wrote it."""

import shlex
from concurrent.futures import ThreadPoolExecutor

from _newsclippings.check.report import VERIFY_AGAIN, Report
from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.facts import SHARED_PICTURES
from _newsclippings.folder import (
    AGAIN,
    ALL_CONFIGS,
    BESIDE,
    BUILDING,
    CHARTS_FOLDER,
    CROISSANT,
    EVAL,
    LARGEST_BESIDE,
    LEFTOVERS,
    MANIFEST,
    PAIRS_FILE,
    SUMS,
    BuiltFolder,
    IdsDigest,
    Manifest,
    ShardEntry,
    croissant_text,
    eval_text,
    find_configs,
    is_chart,
    is_hidden,
    order_configs,
    other_content,
    refuse_foreign_content,
    sha256_of,
    stale_files,
)
from _newsclippings.storage import (
    Place,
    PlaceLike,
    RemotePath,
    find_place,
    has_content,
    map_ahead,
    progress_bar,
    size_of,
    unreadable_file,
)
from _newsclippings.tables import values_of
from _newsclippings.text import printable

BUILD_AGAIN = "Run the same `newsclippings build` again."
ROWS = 10_000  # in a batch of ids
THREADS = 2  # hashing releases the GIL; more threads only make a disk seek


def verify_built(folder: PlaceLike) -> Report:
    """Compare a folder with its manifests: the size and SHA-256 of each file, rows and ids, and the card.

    Args:
        folder: a folder that `newsclippings build` wrote: a path, or a URL that fsspec reads, of which all is read.

    Returns:
        The report. Files that killed builds left are notes, because no reader takes them for data.
    """
    root, report = find_place(folder), Report()
    if not root.is_dir():
        report.note_fault(True, str(root), f"{root} is not a folder. Pass a folder that `newsclippings build` wrote.")
    built = BuiltFolder.open_partly(root)
    candidates = order_configs({*ALL_CONFIGS, *find_configs(root)})
    configs = [config for config in candidates if (root / config).is_dir() and not _was_removed(root / config)]
    if root.is_dir() and not configs:
        report.note_fault(
            True, str(root), f"{root} has no config in it. Pass a folder that `newsclippings build` wrote."
        )
    for config in configs:
        with report.collecting(str(root / config)), refuse_foreign_content(root / config / MANIFEST):
            _check_config(report, built, config)
    if configs:
        _check_beside(report, built)
    ready = f'Next: `load_dataset("{root}")`, or `newsclippings push OWNER/NAME {shlex.quote(str(root))}`.'
    if isinstance(root, RemotePath):
        ready = f'Next: copy it to a disk, or `load_dataset("parquet", data_files="{root}/CONFIG/SPLIT-*.parquet")`.'
    report.next = ready if report.sound else VERIFY_AGAIN
    return report


def _was_removed(folder: Place) -> bool:
    """Check whether `build` removed the shared pictures, but kept their folder because of hidden files."""
    files: list[Place] = [*folder.iterdir()]
    return folder.name == SHARED_PICTURES and bool(files) and all(is_hidden(file) for file in files)


def _check_config(report: Report, built: BuiltFolder, config: str) -> None:
    if config in built.problems:
        raise built.problems[config]
    folder = built.root / config
    if config not in built.manifests:
        report.note_fault(True, str(folder / MANIFEST), f"{folder / MANIFEST} does not exist. {AGAIN}")
        return
    manifest = built.manifests[config]
    names = {file.name for file in folder.iterdir()}
    for name in sorted(names - {shard.name for shard in manifest.shards} - {MANIFEST}):
        if name.endswith(LEFTOVERS):
            _note_leftover(report, folder / name)
        elif not is_hidden(folder / name):
            problem = "would be read as data" if name.endswith(".parquet") else "does not belong here"
            place = printable(str(folder / name))
            report.note_fault(False, place, f"{place} is not listed in {MANIFEST}, and {problem}. Remove it.")
    readable = _check_files(report, built, manifest)
    for split, entry in manifest.splits.items():
        shards = manifest.shards_of(split)
        counts = {"rows": entry.rows, "files": len(shards), "bytes": sum(shard.bytes for shard in shards)}
        report.counts.setdefault(config, {})[split] = counts
        if readable.issuperset(shards):
            with report.collecting(f"{config}/{split}: ids"):
                _check_ids(report, built, manifest, split)


def _check_files(report: Report, built: BuiltFolder, manifest: Manifest) -> set[ShardEntry]:
    """Note missing and changed files of a config; return the files that exist and have the right size."""
    readable = set()
    for shard in manifest.shards:
        file = built.root / shard.path
        report.files[str(file)] = {"is": f"shard of {shard.config}/{shard.split}", "bytes": None}
        if not file.is_file():
            report.note_fault(True, str(file), f"{file} does not exist. {AGAIN}")
            continue
        size = report.files[str(file)]["bytes"] = size_of(file)
        if size != shard.bytes:
            problem = "too short" if size < shard.bytes else "too long"
            message = f"{file} is {problem}: expected {shard.bytes:,} bytes, found {size:,}. {AGAIN}"
            report.note_fault(False, str(file), message)
        else:
            readable.add(shard)
    total = sum(shard.bytes for shard in readable)
    title = f"SHA-256 of {printable(manifest.config)}"
    with (
        ThreadPoolExecutor(THREADS) as pool,
        progress_bar(total=total, desc=title, unit="B", unit_scale=True) as bar,
    ):
        shards = sorted(readable, key=lambda shard: shard.name)
        for shard, digest in map_ahead(pool, lambda shard: _digest(built.root / shard.path), shards, 2 * THREADS):
            bar.update(shard.bytes)
            _compare(report, built.root / shard.path, shard.sha256, digest, AGAIN)
    return readable


def _digest(file: Place, most: int | None = None) -> str | NewsCLIPpingsError:
    """Compute the SHA-256 of a file; return the error if it cannot be read."""
    try:
        return sha256_of(file, most)
    except NewsCLIPpingsError as error:
        return error
    except OSError as error:
        return unreadable_file(file, error)


def _compare(report: Report, file: Place, expected: str, digest: str | NewsCLIPpingsError, do: str) -> None:
    """Note a file that has another SHA-256 or cannot be read."""
    if isinstance(digest, NewsCLIPpingsError):
        report.note_fault(False, str(file), str(digest))
    elif digest != expected:
        report.note_fault(False, str(file), str(other_content(file, expected, digest, do)))


def _check_ids(report: Report, built: BuiltFolder, manifest: Manifest, split: str) -> None:
    """Compare the rows of a split, and their ids, with its manifest."""
    place = f"{manifest.config}/{split}"
    columns = ["image_id"] if manifest.config == SHARED_PICTURES else ["id", "image_id"]
    digest = IdsDigest()
    for shard in manifest.shards_of(split):
        for batch in built.read_shard(shard, columns, ROWS):
            digest.add(*(values_of(batch.column(column)) for column in columns))
    if digest.hexdigest() != manifest.splits[split].ids_sha256:
        message = f"{place} has other ids than the build wrote, or in another order. {AGAIN}"
        report.note_fault(False, f"{place}: ids", message)


def _check_beside(report: Report, built: BuiltFolder) -> None:
    """Check the files beside the configs."""
    root = built.root
    with report.collecting(str(root)):
        _check_names(report, built)
    if not built.manifests:
        return
    if not (root / SHARED_PICTURES).is_dir():
        with report.collecting(str(root / SHARED_PICTURES)):
            built.require_shared_pictures()
    charts: list[Place] = []
    with report.collecting(str(root)), refuse_foreign_content(root):
        charts = built.find_charts()
        _check_charts(report, built, charts)
    faults = len(report.invalid)
    with report.collecting(str(root)), refuse_foreign_content(root):
        _check_sums(report, built)
    if built.problems:  # they are in the report, and a card needs all manifests
        return
    with report.collecting(str(root)), refuse_foreign_content(root):
        _check_card(report, built, charts, sums_differ=len(report.invalid) > faults)
    with report.collecting(str(root)), refuse_foreign_content(root):
        _check_metadata(report, built)


def _check_names(report: Report, built: BuiltFolder) -> None:
    """Note everything that neither `build` nor `stats` writes beside the configs."""
    folders = {*ALL_CONFIGS, *built.manifests, *built.problems, CHARTS_FOLDER}
    files = {*BESIDE} - (set() if built.has_pictures else {PAIRS_FILE})
    for name in sorted(file.name for file in built.root.iterdir()):
        file = built.root / name
        if name == BUILDING or name.endswith(LEFTOVERS):
            _note_leftover(report, file)
        elif not (is_hidden(file) or (name in folders and file.is_dir()) or (name in files and file.is_file())):
            place = printable(str(file))
            report.note_fault(False, place, f"{place} was not written by `newsclippings build`. Remove it.")


def _check_sums(report: Report, built: BuiltFolder) -> None:
    """Compare manifests, drawings and charts with SHA256SUMS; other files are checked by the manifests."""
    root, sums = built.root, {}
    with report.collecting(str(root / SUMS)):
        sums = built.read_sums()
    known = {*(f"{config}/{MANIFEST}" for config in (*ALL_CONFIGS, *built.manifests)), PAIRS_FILE}
    for name, expected in sums.items():  # a name could lead out of the folder
        if (name in known or is_chart(name)) and (root / name).is_file():
            do = AGAIN if name.endswith(MANIFEST) else BUILD_AGAIN if name == PAIRS_FILE else _draw_again(root)
            manifest = built.manifests.get(name.removesuffix(f"/{MANIFEST}"))
            digest = manifest.sha256 if manifest else _digest(root / name, LARGEST_BESIDE)
            _compare(report, root / name, expected, digest, do)


def _draw_again(root: Place) -> str:
    folder = shlex.quote(str(root))
    return f"Run `newsclippings stats {folder} --plot {folder}/{CHARTS_FOLDER}`, or remove it."


def _check_card(report: Report, built: BuiltFolder, charts: list[Place], *, sums_differ: bool) -> None:
    for file in stale_files(built, charts):
        if file.name == SUMS and sums_differ:  # the changed files are in the report
            continue
        problem = "does not describe this folder" if file.exists() else "does not exist"
        report.note_fault(not file.exists(), str(file), f"{file} {problem}. Run `newsclippings card {built.root}`.")


def _check_charts(report: Report, built: BuiltFolder, charts: list[Place]) -> None:
    folder = built.root / CHARTS_FOLDER
    if folder.is_dir() and not charts:
        message = f"{folder} has charts of another build. {_draw_again(built.root)}"
        report.note_fault(False, str(folder), message)
    for file in sorted({*folder.iterdir()} - {*charts}, key=str) if charts else []:
        place = printable(str(file))
        report.note_fault(False, place, f"{place} was not written by `newsclippings stats`. Remove it.")


def _check_metadata(report: Report, built: BuiltFolder) -> None:
    """Compare files that only some folders have with what is in the folder."""
    folder = built.root
    for name, text, command in (
        (CROISSANT, croissant_text, f"croissant {folder}"),
        (EVAL, eval_text, f"card --benchmark {folder}"),
    ):
        file = folder / name
        if file.is_file() and not has_content(file, text(built).encode()):
            message = f"{file} does not describe this folder. Run `newsclippings {command}`."
            report.note_fault(False, str(file), message)


def _note_leftover(report: Report, place: Place) -> None:
    report.notes.append(
        f"{printable(str(place))} was left by a killed build. It is harmless; remove it, or build again."
    )
