"""One config of a built folder, written so that the build can be interrupted at any moment.

    <out>/<config>/<split>-00000-of-00008.parquet     what is published
    <out>/<config>/manifest.json                      rows, sizes and SHA-256 of each file, ids, join reports
    <out>/.building/<config>-<build id>/              the same while it is being written
    <out>/.building/<config>-old/                     an older build while it is being replaced

A local file is written under another name, flushed to the disk, then renamed: a file under its final name is whole. The
config is renamed when it is complete, so that <out>/<config> is all of an old or all of a new build. If a build is
killed between two renames, the config is absent until the next build, which puts it back.

Behind fsspec (`s3://`, ...) nothing can be renamed. A file is written to the local disk, and uploaded when it is whole,
then its SHA-256, without which (or with another) a file is not kept by the next build.
A complete config is copied to its place: the manifest of an older build is removed first, and the new one is written
last. If a build is killed between them, the config has no manifest, so that nothing takes it for whole, until the next.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from _newsclippings.errors import ConfigError
from _newsclippings.facts import NAME, VERSION, Columns, Vectors
from _newsclippings.folder.built_folder import ALL_CONFIGS, BuiltFolder, is_hidden, other_content, sha256_of
from _newsclippings.folder.manifest import MANIFEST, SHARD, Manifest
from _newsclippings.folder.shards import MAX_SHARD, allow_null_vectors, describe_shard, plan_shards, write_shard
from _newsclippings.folder.splits import SplitRows
from _newsclippings.generated import is_name
from _newsclippings.storage import (
    Place,
    RemotePath,
    check_space,
    flush,
    flush_folder,
    is_unsupported,
    list_sizes,
    progress_bar,
    read_file,
    write_text,
)
from _newsclippings.tables import arrow_schema
from _newsclippings.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger(NAME)

BUILDING = ".building"
WHAT, LARGER_DISK = "what has to be written", "choose a folder on a larger disk"  # in errors
AT_A_TIME = 2  # files on the local disk, of a build to elsewhere: one is uploaded while the next is written
UNFINISHED = ".unfinished"
SUM = ".sha256"  # ending of the file beside one that was uploaded
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
    vectors: Mapping[str, Vectors] = field(default_factory=dict)

    def building(self, out: Place) -> Place:
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
def lock_folder(folder: Path, wait: bool = True) -> Iterator[None]:
    """Let no other process of this machine write to the folder while the block runs. The lock ends with the process.

    Args:
        folder: is made if it does not exist.
        wait: for a process that has the lock.

    Raises:
        ConfigError: another process has the lock, and `wait` is false.
    """
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
                    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                message = (
                    f"{printable(str(folder))}: another process writes to it now. Nothing was changed. Wait for it, or "
                    "choose another folder."
                )
                raise ConfigError(message) from error
            except OSError as error:
                if not is_unsupported(error):
                    raise
                _logger.warning("%s: no locks there (%s): let no other build write to it now.", folder, error.strerror)
            if _is_at(folder, descriptor):  # else the process that had the lock removed the folder
                yield
                return
        finally:
            if fcntl is not None:
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)  # else it would stay until the last forked worker ends
            os.close(descriptor)


def _is_at(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def restore_configs(out: Place) -> None:
    """Put back configs that a build was replacing when it was killed; behind fsspec, remove what it had copied."""
    if isinstance(out, RemotePath):
        for building in (out / BUILDING).iterdir():
            place = out / building.name.rpartition("-")[0]
            if (building / MANIFEST).exists() and not (place / MANIFEST).exists():
                _remove_shards(place)
        return
    for old in sorted((out / BUILDING).glob("*-old")):
        config = old.name.removesuffix("-old")
        if (config in ALL_CONFIGS or is_name(config)) and old.exists() and not os.path.lexists(out / config):
            old.rename(out / config)


def is_complete(folder: BuiltFolder, content: ConfigContent) -> bool:
    """Whether a config was built of just this content, and has all of its files."""
    manifest = folder.manifests.get(content.config)
    if manifest is None or manifest.build_id != content.build_id:
        return False
    place = folder.root / content.config
    sizes = {name: size for name, size in list_sizes(place).items() if name != MANIFEST and not is_hidden(place / name)}
    return sizes == {shard.name: shard.bytes for shard in manifest.shards}


def count_bytes_to_write(folder: BuiltFolder, content: ConfigContent) -> int:
    """The bytes of the files that are still to be written, at least."""
    if is_complete(folder, content):
        return 0
    written = _list_written(content.building(folder.root))
    missing = [part for name, part in content.plan_files().items() if name not in written]
    return sum(int(content.splits[split].least[start:stop].sum()) for split, (start, stop) in missing)


def check_free_space(out: Place, needed: int, done: str = "Nothing was written") -> None:
    """Raise `NoSpaceError` if the disk cannot hold what has to be written; of a bucket, what is on the way there."""
    if isinstance(out, RemotePath):
        on_the_way = min(needed, AT_A_TIME * MAX_SHARD)
        check_space(tempfile.gettempdir(), on_the_way, "files on their way", "point TMPDIR to a larger disk", done)
    else:
        check_space(out, needed, WHAT, LARGER_DISK, done)


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
        _remove_builds(out, config)
        return folder
    plan, written = content.plan_files(), _list_written(building)
    missing = {name: part for name, part in plan.items() if name not in written}
    needed = count_bytes_to_write(folder, content)
    check_free_space(out, needed, f"Of {config} nothing was written, others stay")
    _remove_builds(out, config, building)
    if isinstance(building, Path):
        building.mkdir(parents=True, exist_ok=True)
    for file in building.iterdir():
        if file.name.removesuffix(SUM) not in plan:  # an unfinished file, or a manifest
            file.unlink()
    digests = _write_shards(building, content, missing)
    shards = tuple(
        describe_shard(building / name, config, split, digests[name].result()) for name, (split, _) in plan.items()
    )
    try:
        content.check_inputs()
    except Exception:
        _remove_builds(out, config)  # else the next run would go on from these files
        raise
    splits = {
        name: replace(rows.entry, plain_bytes=sum(shard.plain_bytes for shard in shards if shard.split == name))
        for name, rows in content.splits.items()
    }
    about = (config, VERSION, content.description, content.layout, content.build_id, content.columns)
    manifest = Manifest(*about, splits, shards, content.vectors).write(building)
    if isinstance(out, RemotePath):
        _copy_to_place(out / BUILDING / building.name, out / config)
        _remove_builds(out, config)
    else:
        _put_in_place(out / BUILDING / building.name, out / config)
    return folder.with_manifest(manifest)


def _write_shards(building: Place, content: ConfigContent, missing: Mapping[str, Part]) -> dict[str, Future[str]]:
    """Write the missing files of a config; returns the SHA-256 of all its files by name."""
    splits = content.splits
    schema = allow_null_vectors(arrow_schema(content.columns), [rows.entry for rows in splits.values()])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": content.columns}})})
    total = sum(rows.entry.rows for rows in splits.values())
    digests: dict[str, Future[str]] = {}
    finisher = ThreadPoolExecutor(1)  # flushes, digests and uploads one file while the next is written
    with contextlib.ExitStack() as opened:
        if isinstance(building, Path):
            scratch = building
        else:
            scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="newsclippings-")))
        opened.callback(finisher.shutdown, cancel_futures=True)
        with progress_bar(total=total, desc=content.config, unit="row", unit_scale=True) as bar:
            bar.update(total - sum(splits[split].count(range_) for split, range_ in missing.values()))
            for name, (split, range_) in missing.items():
                unfinished = scratch / (name + UNFINISHED)
                write_shard(unfinished, splits[split].tables(range_), schema, bar.update)
                for digest in digests.values():  # at most one is not ready; an error is raised early
                    digest.result()
                digests[name] = finisher.submit(_finish, unfinished, building / name)
        for name in content.plan_files():
            if name not in missing:
                digests[name] = finisher.submit(_digest_kept, building / name)
        for digest in digests.values():
            digest.result()
    return digests


def _finish(unfinished: Path, file: Place) -> str:
    if isinstance(file, RemotePath):
        digest = sha256_of(unfinished)
        file.put(unfinished)
        unfinished.unlink()
        write_text(file.with_name(file.name + SUM), digest)
        return digest
    with open(unfinished, "rb") as written:
        flush(written.fileno())
    digest = sha256_of(unfinished)
    unfinished.rename(file)
    return digest


def _list_written(building: Place) -> set[str]:
    """Names of the files that are whole: behind fsspec, those beside which is their SHA-256, uploaded after them."""
    names = {*list_sizes(building)}
    return names if isinstance(building, Path) else {name for name in names if name + SUM in names}


def _digest_kept(file: Place) -> str:
    """SHA-256 of a file that an interrupted build wrote.

    Raises:
        BadFileError: behind fsspec, it is not the one that was uploaded.
    """
    digest = sha256_of(file)
    if isinstance(file, RemotePath):
        uploaded = read_file(file.with_name(file.name + SUM), len(digest)).decode(errors="replace")
        if uploaded != digest:
            raise other_content(file, uploaded, digest, f"Remove {file}, and run the same `newsclippings build` again.")
    return digest


def _copy_to_place(building: RemotePath, folder: RemotePath) -> None:
    """Replace a config by its complete new build, file by file; see `restore_configs`."""
    (folder / MANIFEST).unlink(missing_ok=True)
    _remove_shards(folder)
    for file in sorted(building.iterdir(), key=lambda file: file.name == MANIFEST):  # the manifest last
        if not file.name.endswith(SUM):
            (folder / file.name).copy_from(file)


def _put_in_place(building: Path, folder: Path) -> None:
    """Replace a config by its complete new build."""
    old = building.with_name(f"{folder.name}-old")
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    _keep_hidden_files(old, folder)
    for parent in (folder, folder.parent):
        flush_folder(parent)
    _remove_builds(folder.parent, folder.name)


def _remove_builds(out: Place, config: str, but: Place | None = None) -> None:
    """Remove what builds of a config left behind, except for one that is going on."""
    if isinstance(out, RemotePath):
        for build in (out / BUILDING).iterdir():
            if build != but and build.name.rpartition("-")[0] == config:
                build.remove_folder()
        if not (out / BUILDING).iterdir():  # unlike a bucket, some file systems have empty folders
            (out / BUILDING).remove_folder()
    elif (parent := out / BUILDING).exists():
        for other in parent.iterdir():
            if other != but and other.name.rpartition("-")[0] == config:
                _keep_hidden_files(other, out / config)  # if that build was killed before it did
                shutil.rmtree(other)
        with contextlib.suppress(OSError):  # another config is being built there
            parent.rmdir()


def _remove_shards(folder: RemotePath) -> None:
    """Remove the Parquet files of a config whose manifest was removed."""
    for file in folder.iterdir():
        if SHARD.fullmatch(file.name):
            file.unlink()


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
    if isinstance(place, Path):
        with contextlib.suppress(OSError):  # hidden files, which `build` did not write
            place.rmdir()
    return folder.without(config)
