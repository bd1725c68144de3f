"""One config of a built folder, written so that the build can be interrupted at any moment.

    <out>/<config>/<split>-00000-of-00008.parquet     what is published
    <out>/<config>/manifest.json                      rows, sizes and SHA-256 of each file, ids, join reports
    <out>/.building/<config>-<build id>/              the same while it is being written
    <out>/.building/<config>-old/                     an older build while it is being replaced

A file is written under another name, flushed to the disk, then renamed: a file under its final name is whole. The
config is renamed when it is complete, so that <out>/<config> is all of an old or all of a new build. If a build is
killed between two renames, the config is absent until the next build, which puts it back.
"""

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm.auto import tqdm

from _newsclippings.facts import NAME, VERSION, Columns
from _newsclippings.folder.built_folder import ALL_CONFIGS, BuiltFolder, is_hidden, sha256_of
from _newsclippings.folder.manifest import MANIFEST, Manifest
from _newsclippings.folder.shards import allow_null_vectors, describe_shard, plan_shards, write_shard
from _newsclippings.folder.splits import SplitRows
from _newsclippings.storage import check_space, flush, flush_folder, is_unsupported
from _newsclippings.tables import arrow_schema

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger(NAME)

BUILDING = ".building"
WHAT, LARGER_DISK = "what has to be written", "choose a folder on a larger disk"  # in errors
UNFINISHED = ".unfinished"
LEFTOVERS = (".tmp", UNFINISHED)  # endings of files that a killed build did not finish
LEFTOVER = re.compile(rf"\w+-\d{{5}}-of-\d{{5}}\.parquet{UNFINISHED}|{MANIFEST}\.\d+-[0-9a-f]{{8}}\.tmp")  # their names


Part = tuple[str, tuple[int, int]]  # split and range of its rows


@dataclass(frozen=True)
class ConfigContent:
    """What a config will consist of; see `Manifest`."""

    config: str
    description: str
    layout: str | None
    build_id: str
    columns: Columns
    splits: Mapping[str, SplitRows]
    check_inputs: Callable[[], None]  # raises if the inputs have changed since

    def building(self, out: Path) -> Path:
        """The folder in which its files are written."""
        return out / BUILDING / f"{self.config}-{self.build_id[:16]}"

    def plan_files(self) -> dict[str, Part]:
        """File name -> the rows that it gets."""
        plan = {}
        for split, rows in self.splits.items():
            ranges = plan_shards(rows.sizes)
            for k, range_ in enumerate(ranges):
                plan[f"{split}-{k:05d}-of-{len(ranges):05d}.parquet"] = split, range_
        return plan


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine builds into the folder. The lock ends with the process."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:  # a folder can be writable and not readable
            yield
            return
        try:
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if not is_unsupported(error):
                    raise
                _logger.warning("%s: no locks there (%s): let no other build write to it now.", folder, error.strerror)
            if _is_at(folder, descriptor):  # else the process that had the lock removed the folder
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def restore_configs(out: Path) -> None:
    """Put back configs that a build was replacing when it was killed."""
    for config in ALL_CONFIGS:
        old = out / BUILDING / f"{config}-old"
        if old.exists() and not os.path.lexists(out / config):
            old.rename(out / config)


def is_complete(folder: BuiltFolder, content: ConfigContent) -> bool:
    """Whether a config was built of just this content, and has all of its files."""
    manifest = folder.manifests.get(content.config)
    if manifest is None or manifest.build_id != content.build_id:
        return False
    files = [file for file in (folder.root / content.config).iterdir() if file.name != MANIFEST and not is_hidden(file)]
    return {file.name: file.stat().st_size for file in files} == {shard.name: shard.bytes for shard in manifest.shards}


def count_bytes_to_write(folder: BuiltFolder, content: ConfigContent) -> int:
    """The bytes of the files that are still to be written, at least."""
    if is_complete(folder, content):
        return 0
    building = content.building(folder.root)
    missing = [part for name, part in content.plan_files().items() if not (building / name).exists()]
    return sum(int(content.splits[split].least[start:stop].sum()) for split, (start, stop) in missing)


def write_config(folder: BuiltFolder, content: ConfigContent) -> BuiltFolder:
    """Write the files of a config unless they are there; go on where an earlier build was interrupted.

    Args:
        folder: the folder of all configs; the caller holds its lock.
        content: what to write.

    Returns:
        The folder with the config.

    Raises:
        NoSpaceError: the disk is too small. Nothing of the config was written by this run.
    """
    out, config = folder.root, content.config
    building = content.building(out)
    if is_complete(folder, content):
        _remove_other_builds(building, config)
        return folder
    plan = content.plan_files()
    missing = {name: part for name, part in plan.items() if not (building / name).exists()}
    needed = count_bytes_to_write(folder, content)
    check_space(out, needed, WHAT, LARGER_DISK, f"Of {config} nothing was written, others stay")
    _remove_other_builds(building, config)
    building.mkdir(parents=True, exist_ok=True)
    for file in building.iterdir():
        if file.name not in plan:  # an unfinished file, or a manifest
            file.unlink()
    digests = _write_shards(building, content, missing)
    shards = tuple(
        describe_shard(building / name, config, split, digests[name].result()) for name, (split, _) in plan.items()
    )
    try:
        content.check_inputs()
    except Exception:
        shutil.rmtree(building)  # else the next run would go on from these files
        _remove_other_builds(building, config)
        raise
    splits = {
        name: replace(rows.entry, plain_bytes=sum(shard.plain_bytes for shard in shards if shard.split == name))
        for name, rows in content.splits.items()
    }
    manifest = Manifest(
        config, VERSION, content.description, content.layout, content.build_id, content.columns, splits, shards
    ).write(building)
    _put_in_place(building, out / config)
    return folder.with_manifest(manifest)


def _write_shards(building: Path, content: ConfigContent, missing: Mapping[str, Part]) -> dict[str, Future[str]]:
    """Write the missing files of a config; returns the SHA-256 of all its files by name."""
    splits = content.splits
    schema = allow_null_vectors(arrow_schema(content.columns), [rows.entry for rows in splits.values()])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": content.columns}})})
    total = sum(rows.entry.rows for rows in splits.values())
    digests: dict[str, Future[str]] = {}
    finisher = ThreadPoolExecutor(1)  # flushes and digests one file while the next is written
    try:
        with tqdm(total=total, desc=content.config, unit="row", unit_scale=True, disable=None) as bar:
            bar.update(total - sum(splits[split].count(range_) for split, range_ in missing.values()))
            for name, (split, range_) in missing.items():
                unfinished = building / (name + UNFINISHED)
                write_shard(unfinished, splits[split].tables(range_), schema, bar.update)
                for digest in digests.values():  # at most one is not ready; an error is raised early
                    digest.result()
                digests[name] = finisher.submit(_finish, unfinished, building / name)
        for name in content.plan_files():
            if name not in missing:
                digests[name] = finisher.submit(sha256_of, building / name)
        for digest in digests.values():
            digest.result()
    finally:
        finisher.shutdown(cancel_futures=True)
    return digests


def _finish(unfinished: Path, file: Path) -> str:
    with open(unfinished, "rb") as written:
        flush(written.fileno())
    digest = sha256_of(unfinished)
    unfinished.rename(file)
    return digest


def _put_in_place(building: Path, folder: Path) -> None:
    """Replace a config by its complete new build."""
    old = building.with_name(f"{folder.name}-old")
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    _keep_hidden_files(old, folder)
    for parent in (folder, folder.parent):
        flush_folder(parent)
    _remove_other_builds(building, folder.name)


def _remove_other_builds(building: Path, config: str) -> None:
    """Remove what other builds of a config left behind, which no build will finish."""
    if building.parent.exists():
        for other in building.parent.iterdir():
            if other != building and other.name.rpartition("-")[0] == config:
                _keep_hidden_files(other, building.parent.parent / config)  # if that build was killed before it did
                shutil.rmtree(other)
        with contextlib.suppress(OSError):  # another config is being built there
            building.parent.rmdir()


def _keep_hidden_files(old: Path, folder: Path) -> None:
    """Move hidden files, which `build` did not write, from a config that is replaced to the new one."""
    for file in old.iterdir() if old.is_dir() and folder.is_dir() else ():
        if is_hidden(file) and not os.path.lexists(folder / file.name):
            file.rename(folder / file.name)


def remove_config(folder: BuiltFolder, config: str) -> BuiltFolder:
    """Remove the files of a config, its manifest last, and its folder if no hidden files are left in it.

    Returns:
        The folder without the config.
    """
    place = folder.root / config
    for file in place.iterdir():
        if file.name != MANIFEST and not is_hidden(file):
            file.unlink()
    (place / MANIFEST).unlink()
    with contextlib.suppress(OSError):  # hidden files, which `build` did not write
        place.rmdir()
    return folder.without(config)
