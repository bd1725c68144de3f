"""One config of a folder of Parquet files, written so that it can be interrupted at any moment.

    <out>/<config>/<split>-00000-of-00008.parquet     what is published
    <out>/<config>/manifest.json                      rows, sizes and SHA-256 of each file, ids, join reports
    <out>/.building/<config>-<made of>/               the same while it is being written

A file is written under another name, flushed to the disk, then renamed: one that has its name is whole. The config is
renamed when it is complete, so that <out>/<config> is all of an old or all of a new build; killed between two renames
it is away until the next build, which puts it back.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from _newsclippings.errors import BadFileError, NewsCLIPpingsError, bad_file
from _newsclippings.facts import Columns
from _newsclippings.folder.manifest_rules import AGAIN, LARGEST_MANIFEST, check_manifest
from _newsclippings.folder.shards import Rows, nullable_vectors, plan_shards, write_shard
from _newsclippings.storage import (
    DECODER,
    check_space,
    flush,
    flush_folder,
    is_lacking,
    json_fault,
    open_file,
    read_file,
    what_instead,
    write_text,
)
from _newsclippings.tables import arrow_schema
from _newsclippings.text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_logger = logging.getLogger("newsclippings")

MANIFEST = "manifest.json"
BUILDING = ".building"
UNFINISHED = ".unfinished"
LEFTOVERS = (".tmp", UNFINISHED)  # how files end that a killed build did not finish
LEFTOVER = re.compile(rf"\w+-\d{{5}}-of-\d{{5}}\.parquet{UNFINISHED}|{MANIFEST}\.\d+-[0-9a-f]{{8}}\.tmp")  # and are


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process of this machine builds into the folder. The lock ends with the process."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:  # it may be written to, and not be read
            yield
            return
        try:
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if not is_lacking(error):
                    raise
                _logger.warning("%s: no locks there (%s): let no other build write to it now.", folder, error.strerror)
            if _is_at(folder, descriptor):  # else who had it before removed it, and there is another
                yield
                return
        finally:
            os.close(descriptor)


def _is_at(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


def is_hidden(file: Path) -> bool:
    """Whether a file is one that file managers leave behind: no reader takes it for data."""
    return file.name.startswith(".")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a config.

    Raises:
        DataNotFoundError: there is none, or it cannot be read.
        BadFileError: it is not as `build` writes them.
    """
    data = read_file(folder / MANIFEST, LARGEST_MANIFEST)
    try:
        manifest: dict[str, Any] = DECODER.decode(data.decode())
        if isinstance(manifest, dict) and (named := manifest.get("config", folder.name)) != folder.name:
            raise bad_file(folder, f"the config {folder.name}", repr(named)[:80], "Give the folder its name again.")
        check_manifest(folder.name, manifest)
    except NewsCLIPpingsError:
        raise
    except (ValueError, RecursionError) as error:
        found = what_instead(data[:64]) or f"something else ({printable(json_fault(error))[:200]})"
        raise bad_file(folder / MANIFEST, "what `newsclippings build` writes", found, AGAIN) from error
    return manifest


def load_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a config; None where there is none that is as `build` writes them."""
    try:
        return read_manifest(folder)
    except (OSError, BadFileError):
        return None


def is_complete(folder: Path, made_of: str) -> bool:
    """Whether a config was built of just this, and all of its files are there."""
    manifest = load_manifest(folder)
    if manifest is None or manifest["made_of"] != made_of:
        return False
    inside = [file for file in folder.iterdir() if file.name != MANIFEST and not is_hidden(file)]
    files = {file.name: file.stat().st_size for file in inside}
    return files == {name: about["bytes"] for name, about in manifest["files"].items()}


def write_config(
    out: Path,
    config: str,
    splits: Mapping[str, Rows],
    columns: Columns,
    about: Mapping[str, Any],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write the files of a config, unless that was done before; go on where an earlier run was interrupted.

    Args:
        out: the folder of all configs; the caller is `alone_in` it.
        config: its name.
        splits: split -> its rows.
        columns: its columns.
        about: for the manifest; `made_of` tells this build from others.
        check: is called when all is written, and raises if it is not to be used.

    Raises:
        NoSpaceError: the disk is too small. Nothing of the config was written by this run.
    """
    made_of, folder = about["made_of"], out / config
    building, old = _building(out, config, made_of), out / BUILDING / f"{config}-old"
    if old.exists() and not folder.exists():  # killed when neither was in its place
        old.rename(folder)
    if is_complete(folder, made_of):
        _remove_others(building, config)
        return
    plan = _plan(splits)
    todo = {name: one for name, one in plan.items() if not (building / name).exists()}
    check_room(out, bytes_to_write(out, config, made_of, splits), f"Of {config} nothing was written, others stay")
    _remove_others(building, config)
    building.mkdir(parents=True, exist_ok=True)
    for file in building.iterdir():
        if file.name not in plan:  # a file that was not finished, or a manifest
            file.unlink()
    schema = nullable_vectors(arrow_schema(columns), [one.facts for one in splits.values()])
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": columns}})})
    rows = sum(one.facts["rows"] for one in splits.values())
    finisher = ThreadPoolExecutor(1)  # flushes and adds up one file while the next is written
    try:
        digests: dict[str, Future[str]] = {}
        with tqdm(total=rows, desc=config, unit="row", unit_scale=True, disable=None) as bar:
            bar.update(rows - sum(_rows(splits[split], one) for split, one in todo.values()))
            for name, (split, one) in todo.items():
                unfinished = building / (name + UNFINISHED)
                write_shard(unfinished, splits[split].tables(one), schema, bar.update)
                for before in digests.values():  # never more than one to wait for, and what went wrong is known early
                    before.result()
                digests[name] = finisher.submit(_finish, unfinished, building / name)
        digests |= {name: finisher.submit(sha256_of, building / name) for name in plan if name not in todo}
        files = {name: _facts(building / name, split, digests[name].result()) for name, (split, _) in plan.items()}
    finally:
        finisher.shutdown(cancel_futures=True)
    try:
        check()
    except Exception:
        shutil.rmtree(building)  # else the next run would go on from these files
        _remove_others(building, config)
        raise
    facts = {split: _with_bytes(one.facts, split, files) for split, one in splits.items()}
    manifest = {**about, "features": columns, "splits": facts, "files": files}
    write_text(building / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    _place(building, folder, old)


def _building(out: Path, config: str, made_of: str) -> Path:
    return out / BUILDING / f"{config}-{made_of[:16]}"


def bytes_to_write(out: Path, config: str, made_of: str, splits: Mapping[str, Rows]) -> int:
    """Bytes that `write_config` would write at least: of the files that are not there yet."""
    if is_complete(out / config, made_of):
        return 0
    todo = [one for name, one in _plan(splits).items() if not (_building(out, config, made_of) / name).exists()]
    return sum(int(splits[split].least[start:stop].sum()) for split, (start, stop) in todo)


def check_room(out: Path, needed: int, done: str = "Nothing was written") -> None:
    """Raise `NoSpaceError` if so many bytes do not fit; `done` says how far the build came."""
    check_space(out, needed, "what has to be written", "choose a folder on a larger disk", done)


def _rows(rows: Rows, one: tuple[int, int]) -> int:
    return int((rows.sizes[one[0] : one[1]] > 0).sum())


def _plan(splits: Mapping[str, Rows]) -> dict[str, tuple[str, tuple[int, int]]]:
    """File name -> split and range of rows."""
    plan = {}
    for split, rows in splits.items():
        ranges = plan_shards(rows.sizes)
        for k, one in enumerate(ranges):
            plan[f"{split}-{k:05d}-of-{len(ranges):05d}.parquet"] = split, one
    return plan


def _remove_others(building: Path, config: str) -> None:
    """Remove what other builds of a config left, which nobody will finish."""
    if building.parent.exists():
        for other in building.parent.iterdir():
            if other != building and other.name.rpartition("-")[0] == config:
                _keep_hidden(other, building.parent.parent / config)  # of a build that was killed before it did
                shutil.rmtree(other)
        with contextlib.suppress(OSError):  # something is being built there
            building.parent.rmdir()


def _finish(unfinished: Path, file: Path) -> str:
    with open(unfinished, "rb") as whole:
        flush(whole.fileno())
    digest = sha256_of(unfinished)
    unfinished.rename(file)
    return digest


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's content."""
    with open(file, "rb", opener=open_file) as whole:
        digest = hashlib.sha256()
        while block := whole.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _facts(file: Path, split: str, sha256: str) -> dict[str, Any]:
    import pyarrow.parquet as pq

    about = pq.read_metadata(os.path.abspath(file))  # a relative name with a colon is a URI to pyarrow
    groups = [about.row_group(k) for k in range(about.num_row_groups)]
    plain = sum(group.total_byte_size for group in groups)
    return {
        "split": split,
        "rows": about.num_rows,
        "bytes": file.stat().st_size,
        "plain_bytes": plain,
        "sha256": sha256,
    }


def _with_bytes(facts: dict[str, Any], split: str, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {**facts, "plain_bytes": sum(about["plain_bytes"] for about in files.values() if about["split"] == split)}


def _place(building: Path, folder: Path, old: Path) -> None:
    """Put a complete config where it belongs."""
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    _keep_hidden(old, folder)
    for parent in (folder, folder.parent):
        flush_folder(parent)
    _remove_others(building, folder.name)


def _keep_hidden(old: Path, folder: Path) -> None:
    """Move hidden files of a config that is replaced, which are somebody else's, to the one in its place."""
    for file in old.iterdir() if old.is_dir() and folder.is_dir() else ():
        if is_hidden(file) and not os.path.lexists(folder / file.name):
            file.rename(folder / file.name)


def remove_config(folder: Path) -> None:
    """Remove what `build` wrote of a config, its manifest last; its folder, too, if nothing else is in it."""
    for file in folder.iterdir():
        if file.name != MANIFEST and not is_hidden(file):
            file.unlink()
    (folder / MANIFEST).unlink()
    with contextlib.suppress(OSError):  # hidden files, which are somebody else's
        folder.rmdir()
