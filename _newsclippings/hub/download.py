"""Fetch the authors' files from their Hub repository into a folder, as their download.sh does, and check them."""

import contextlib
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _newsclippings.config import Request
from _newsclippings.errors import (
    BadFileError,
    ConfigError,
    DataNotFoundError,
    NewsCLIPpingsError,
    NoSpaceError,
    RemoteReadError,
)
from _newsclippings.facts import (
    EMBEDDING_FOLDERS,
    HUB_FILES,
    HUB_REPO,
    HUB_REVISION,
    MATCHES_ROOTS,
    ROWS,
    SPLITS,
    VISUAL_NEWS_URL,
)
from _newsclippings.folder import lock_folder
from _newsclippings.hub.failures import find_hub_error, may_pass, status_of
from _newsclippings.inputs import find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.storage import (
    PAUSE,
    TRIES,
    RemoteFile,
    call_with_timeout,
    compute_hub_digests,
    flush,
    free_bytes,
    is_full,
    open_random,
    progress_bar,
    split_range,
)
from _newsclippings.text import describe_error, remember_token

TREE = MATCHES_ROOTS[0]  # the folder of the authors' files
STAGING = ".download"  # a folder in it for files that are not complete and checked yet; it stays after an interruption
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Published:
    """A file as the Hub describes it.

    Attributes:
        size: in bytes.
        digest: its SHA-256; of a small file the SHA-1 of its git blob. In hex.
    """

    size: int
    digest: str

    def is_at(self, path: Path, advance: Callable[[int], object] = lambda _: None) -> bool:
        """Check whether a file has this content."""
        return os.path.getsize(path) == self.size and self.digest in compute_hub_digests(path, advance)

    def __str__(self) -> str:
        kind = "SHA-256" if len(self.digest) == 64 else "git's SHA-1"
        return f"{self.size:,} bytes with {kind} {self.digest}"


@dataclass(frozen=True)
class FetchedFile:
    """A file of the tree.

    Attributes:
        path: where it is.
        bytes: its size.
        digest: what the Hub says, and it has; None if the Hub could not be asked.
        fetched: whether it was fetched now.
        rows: number of matches in it; None for other files.
        published_rows: the published number; None if there is none.
    """

    path: str
    bytes: int
    digest: str | None
    fetched: bool
    rows: int | None = None
    published_rows: int | None = None


@dataclass(frozen=True)
class Download:
    """What a download did.

    Attributes:
        files: the files that were asked for.
        missing: what is not there yet, and how to get it, in sentences.
        notes: what else to know, in sentences.
        next: the next command.
    """

    files: list[FetchedFile]
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"repository": HUB_REPO, "revision": HUB_REVISION, **asdict(self)}


def download(folder: Path, configs: Iterable[str], embeddings: Iterable[str], metadata: bool) -> Download:
    """Fetch matches, and if asked vectors and metadata, at the pinned revision.

    A file gets its name when it is complete and has the digest that the Hub gives. A file that is there already is kept
    if it has that digest. After an interruption the same call goes on where it stopped. Offline, files come from the
    cache of the Hub's client.

    Args:
        folder: the folder that is passed as data_dir afterwards; it need not exist.
        configs: names of configs.
        embeddings: kinds of the authors' vectors.
        metadata: whether to fetch the metadata.

    Raises:
        ConfigError: another file is in the place of one of these; or the client is offline, and a file is not there.
        DataNotFoundError: the Hub does not have a file, or refuses access.
        RemoteReadError: the Hub does not answer.
        BadFileError: other bytes arrived than the Hub describes, or a file has not the published number of rows.
        NoSpaceError: the disk is full.
    """
    from huggingface_hub import constants, get_token

    remember_token(get_token())
    configs, embeddings, place = list(configs), list(embeddings), folder / TREE
    names = _list_names(configs, embeddings, metadata)
    offline = bool(constants.HF_HUB_OFFLINE)
    cached = _find_cached(names) if offline else {}
    published = {name: _describe(path) for name, path in cached.items()} if offline else _ask_hub(names)
    present = [name for name in names if os.path.lexists(place / name)]
    _check_present(place, present, published)
    todo = [name for name in names if name not in present]
    if lacking := [name for name in todo if name not in published]:
        message = (
            f"HF_HUB_OFFLINE is set, and {len(lacking)} of {len(names)} files are not on this machine, such as "
            f"{lacking[0]}. Nothing was changed: unset it, or copy the folder from a machine with a network."
        )
        raise ConfigError(message)
    if todo:
        _check_space(place, {name: published[name].size for name in todo})
        with lock_folder(place):  # another process may fetch the same files
            appeared = [name for name in todo if os.path.lexists(place / name)]
            _check_present(place, appeared, published)
            total = sum(published[name].size for name in todo)
            with progress_bar(total=total, desc=HUB_REPO, unit="B", unit_scale=True) as bar:
                for name in todo:
                    if name not in appeared:
                        _fetch(place, name, published[name], cached.get(name, f"{HUB_FILES}/{name}"), bar)
            for emptied, _, _ in os.walk(place / STAGING, topdown=False):  # what is left there was not asked for now
                with contextlib.suppress(OSError):
                    os.rmdir(emptied)
    files, notes = _count_rows(place, names, published, set(todo), configs)
    if unknown := [name for name in present if name not in published]:
        notes.append(f"HF_HUB_OFFLINE is set: {len(unknown)} files are there, but no digest was compared.")
    missing, command = _say_what_is_next(folder, configs, embeddings, metadata)
    return Download(files, missing, notes, command)


def _list_names(configs: list[str], embeddings: list[str], metadata: bool) -> list[str]:
    """List the names of files in the repository."""
    names = [f"data/{config}/{split}.json" for config in configs for split in SPLITS.values()]
    folders = [EMBEDDING_FOLDERS[kind] for kind in embeddings]
    names += [f"embeddings/{folder}/{folder}_{split}.pkl" for folder in folders for split in SPLITS.values()]
    return names + ([f"metadata/{split}.json" for split in SPLITS.values()] if metadata else [])


def _ask_hub(names: list[str]) -> dict[str, Published]:
    """Ask the Hub for sizes and digests of files."""
    from huggingface_hub import HfApi

    api = HfApi()
    infos = _ask_often(lambda: api.get_paths_info(HUB_REPO, names, revision=HUB_REVISION))
    files: list[Any] = [file for file in infos if hasattr(file, "blob_id")]
    published = {f.path: Published(f.size, f.lfs["sha256"] if f.lfs else f.blob_id) for f in files}
    if absent := [name for name in names if name not in published]:
        message = f"{api.endpoint} does not have {absent[0]} of {HUB_REPO}. Unset HF_ENDPOINT, or use another mirror."
        raise DataNotFoundError(message)
    return published


def _find_cached(names: list[str]) -> dict[str, str]:
    """Find files in the cache of the Hub's client, where the name of a file's content is its digest."""
    from huggingface_hub import try_to_load_from_cache

    places = {name: try_to_load_from_cache(HUB_REPO, name, revision=HUB_REVISION) for name in names}
    found = {name: os.path.realpath(path) for name, path in places.items() if isinstance(path, str)}
    return {name: path for name, path in found.items() if _DIGEST.fullmatch(os.path.basename(path))}


def _describe(cached: str) -> Published:
    return Published(os.path.getsize(cached), os.path.basename(cached))


def _check_present(place: Path, names: list[str], published: Mapping[str, Published]) -> None:
    """Raise `ConfigError` if a file that is there is another than the published one."""
    known = {name: published[name] for name in names if name in published}
    wrong = []
    with progress_bar(
        total=sum(file.size for file in known.values()), desc="SHA-256", unit="B", unit_scale=True
    ) as bar:
        for name in names:
            if not os.path.isfile(place / name):
                message = (
                    f"{place / name} is a folder, a broken link or a device; expected a file. Nothing was changed: "
                    "remove it, or choose another folder."
                )
                raise ConfigError(message)
            if name in known and not known[name].is_at(place / name, bar.update):
                wrong.append(name)
    if wrong:
        others = f", and so are {len(wrong) - 1} more" if wrong[1:] else ""
        message = (
            f"{place / wrong[0]} is not the authors' file: expected {published[wrong[0]]}, found "
            f"{os.path.getsize(place / wrong[0]):,} bytes with another{others}. Nothing was changed: remove it if it "
            "is a broken download, move it away if it is your own, or choose another folder."
        )
        raise ConfigError(message)


def _check_space(place: Path, sizes: Mapping[str, int]) -> None:
    staged = (file.stat().st_size for name in sizes if (file := place / STAGING / name).is_file())
    needed = sum(sizes.values()) - sum(staged)
    if needed > (free := free_bytes(place)):
        message = (
            f"{place}: not enough disk space: {needed:,} bytes are to be fetched, and {free:,} are free. "
            "Nothing was fetched: free some space, choose a folder on a larger disk, or ask for fewer files."
        )
        raise NoSpaceError(message)


def _fetch(place: Path, name: str, published: Published, source: str, bar: Any) -> None:
    """Fetch a file, check it, and give it its name. If other bytes arrived, it is fetched a second time.

    Args:
        place: the folder of the tree.
        name: of the file.
        published: what the Hub says of it.
        source: its URL, or its path in the cache of the Hub's client.
        bar: the progress bar.
    """
    part = place / STAGING / name
    for _ in range(2):
        _complete(part, source, published.size, bar)
        if published.is_at(part):
            break
        size = part.stat().st_size
        part.unlink()
        bar.update(-size)
    else:
        message = (
            f"{name}: expected {published}, but {size:,} bytes with another arrived, twice. Nothing of it was kept: a "
            "proxy, a mirror (HF_ENDPOINT) or a disk may change bytes. Run it again, or without them."
        )
        raise BadFileError(message)
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place / name):
        message = f"{place / name}: another program wrote this file in the meantime. It is as it was: run this again."
        raise ConfigError(message)
    os.replace(part, place / name)


def _complete(part: Path, source: str, size: int, bar: Any) -> None:
    """Append to a file what it lacks. The Hub's client begins large files again after an interruption.

    Raises:
        DataNotFoundError: the Hub does not have it, or refuses access.
        RemoteReadError: the Hub does not answer.
        NoSpaceError: the disk is full.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab", buffering=0) as file:
            if file.tell() > size:
                file.truncate(0)
            bar.update(file.tell())
            opened = open_random(source)
            ranges = split_range(file.tell(), min(size, opened.size))
            if isinstance(opened, RemoteFile):
                pieces: Iterable[bytes] = (data for _, data in opened.read_ranges(ranges))
            else:
                pieces = (opened.read_at(start, stop - start) for start, stop in ranges)
            for data in pieces:
                view = memoryview(data)
                while view:  # a file without a buffer may take less
                    view = view[file.write(view) :]
                bar.update(len(data))
            flush(file.fileno())
    except (DataNotFoundError, RemoteReadError) as error:
        message = (
            f"{part.name}: {source} could not be fetched ({error.__cause__ or error}). What was fetched is kept: run "
            "it again when the Hub answers, or name a mirror in HF_ENDPOINT."
        )
        raise type(error)(message) from error.__cause__
    except OSError as error:
        if isinstance(error, NewsCLIPpingsError) or not is_full(error):
            raise
        message = (
            f"{part}: it does not fit on the disk ({error.strerror}). What was fetched is kept: free some space, and "
            "run it again."
        )
        raise NoSpaceError(message, error.errno or 0) from error


def _ask_often(action: Callable[[], Any]) -> Any:
    """Call the Hub's client, again after failures that may be temporary.

    Raises:
        DataNotFoundError: the Hub does not have the repository, or refuses access.
        RemoteReadError: all tries failed.
    """
    for attempt in range(TRIES):
        try:
            return call_with_timeout(action)
        except Exception as error:
            cause = find_hub_error(error)
            if cause is None:
                raise
            if attempt == TRIES - 1 or not may_pass(cause):
                raise _not_fetched(cause, attempt + 1) from None
        time.sleep(PAUSE * 3**attempt)
    return None


def _not_fetched(cause: BaseException, tries: int) -> DataNotFoundError | RemoteReadError:
    from huggingface_hub import constants

    status, where = status_of(cause), f"{constants.ENDPOINT}"
    if status in (401, 403, 404):
        return DataNotFoundError(
            f"{HUB_REPO}: {where} does not have it, or does not let you read it ({status}). Set HF_TOKEN or log in by "
            "`hf auth login` if it needs that; else unset HF_ENDPOINT, or use another mirror."
        )
    return RemoteReadError(
        f"{HUB_REPO}: {where} could not be asked (tried {tries} times; the last time: {describe_error(cause)}). "
        "Run it again when it answers."
    )


def _count_rows(
    place: Path, names: list[str], published: Mapping[str, Published], fetched: set[str], configs: list[str]
) -> tuple[list[FetchedFile], list[str]]:
    """Count the matches in each file, and compare them with the published counts.

    Returns:
        The files, and notes.

    Raises:
        BadFileError: some files have the published number of rows, and some have not.
    """
    counts = {f"data/{config}/{SPLITS[split]}.json": (config, split) for config in configs for split in SPLITS}
    files = []
    for name in names:
        path = place / name
        rows = known = None
        if name in counts:
            config, split = counts[name]
            rows, known = len(read_matches(str(path), config)), ROWS[config][split]
        digest = published[name].digest if name in published else None
        files.append(FetchedFile(str(path), path.stat().st_size, digest, name in fetched, rows, known))
    compared = [file for file in files if file.published_rows is not None]
    other = [file for file in compared if file.rows != file.published_rows]
    if other and len(other) < len(compared):
        message = (
            f"{other[0].path}: expected {other[0].published_rows:,} rows, as published, found {other[0].rows:,}. Unset "
            "HF_ENDPOINT, or use another mirror."
        )
        raise BadFileError(message)
    notes = [f"None of {len(other)} files has the published number of rows: these are other data."] if other else []
    return files, notes


def _say_what_is_next(folder: Path, configs: list[str], embeddings: list[str], metadata: bool) -> tuple[list[str], str]:
    """Return what a build still needs, in sentences, and the next command."""
    inputs = find_inputs(Request(configs[0], data_dir=str(folder)))
    missing = []
    if not inputs.sources:
        missing.append(
            f"VisualNews (the pictures, 98 GB) is not there. Ask its authors for it: {VISUAL_NEWS_URL}, and put its "
            f"origin.tar into {folder / 'visual_news'}; it need not be extracted."
        )
    if not inputs.sources and inputs.data_json is None and not metadata:
        missing.append("Until then captions come from the metadata: a build fetches them, or add --metadata here.")
    options = [f"--data-dir {shlex.quote(str(folder))}", *(f"--config {config}" for config in configs)]
    options += [f"--embeddings {kind}" for kind in embeddings] + ["--metadata"] * metadata
    options += ["--images none"] * (not inputs.sources)
    return missing, f"newsclippings build newsclippings {' '.join(options)}"
