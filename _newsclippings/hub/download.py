"""Fetch the authors' files from their Hub repository into a folder, as their download.sh does, and check them."""

import contextlib
import functools
import os
import queue
import re
import shlex
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from _newsclippings.config import Request
from _newsclippings.errors import BadFileError, ConfigError, DataNotFoundError, NoSpaceError, RemoteReadError
from _newsclippings.facts import (
    EMBEDDINGS,
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
    call_with_timeout,
    compute_hub_digests,
    flush,
    free_bytes,
    is_full,
)
from _newsclippings.text import describe_error, remember_token

TREE = MATCHES_ROOTS[0]  # the folder of the authors' files
STAGING = ".download"  # a folder in it for files that are not complete and checked yet; it stays after an interruption
THREADS = 4  # files that are fetched at a time
_DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

Get = Callable[[str, bool], str]  # fetches a file, anew if the second argument is true, and returns its path


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
        staging = place / STAGING

        def get(name: str, force: bool) -> str:
            if offline:
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                return str(shutil.copyfile(cached[name], staging / name))
            return _get_from_hub(name, staging, force)

        _check_space(place, sum(published[name].size for name in todo))
        with lock_folder(place):  # another process may fetch the same files
            staging.mkdir(exist_ok=True)
            appeared = [name for name in todo if os.path.lexists(place / name)]
            _check_present(place, appeared, published)
            _fetch_all(place, {name: published[name] for name in todo if name not in appeared}, get)
            shutil.rmtree(staging, ignore_errors=True)
    files, notes = _count_rows(place, names, published, set(todo), configs)
    if unknown := [name for name in present if name not in published]:
        notes.append(f"HF_HUB_OFFLINE is set: {len(unknown)} files are there, but no digest was compared.")
    missing, command = _say_what_is_next(folder, configs, embeddings, metadata)
    return Download(files, missing, notes, command)


def _list_names(configs: list[str], embeddings: list[str], metadata: bool) -> list[str]:
    """List the names of files in the repository."""
    names = [f"data/{config}/{split}.json" for config in configs for split in SPLITS.values()]
    folders = [EMBEDDINGS[kind].folder for kind in embeddings]
    names += [f"embeddings/{folder}/{folder}_{split}.pkl" for folder in folders for split in SPLITS.values()]
    return names + ([f"metadata/{split}.json" for split in SPLITS.values()] if metadata else [])


def _ask_hub(names: list[str]) -> dict[str, Published]:
    """Ask the Hub for sizes and digests of files."""
    from huggingface_hub import HfApi

    api = HfApi()
    infos = _try_often(
        lambda: call_with_timeout(lambda: api.get_paths_info(HUB_REPO, names, revision=HUB_REVISION)), HUB_REPO
    )
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


def _get_from_hub(name: str, staging: Path, force: bool) -> str:
    from huggingface_hub import hf_hub_download

    return str(hf_hub_download(HUB_REPO, name, revision=HUB_REVISION, local_dir=staging, force_download=force))


def _check_present(place: Path, names: list[str], published: Mapping[str, Published]) -> None:
    """Raise `ConfigError` if a file that is there is another than the published one."""
    known = {name: published[name] for name in names if name in published}
    wrong = []
    with tqdm(
        total=sum(file.size for file in known.values()), desc="SHA-256", unit="B", unit_scale=True, disable=None
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


def _check_space(place: Path, needed: int) -> None:
    staged = sum(file.stat().st_size for file in (place / STAGING).rglob("*") if file.is_file())
    if needed - staged > (free := free_bytes(place)):
        message = (
            f"{place}: not enough disk space: {needed - staged:,} bytes are to be fetched, and {free:,} are free. "
            "Nothing was fetched: free some space, choose a folder on a larger disk, or ask for fewer files."
        )
        raise NoSpaceError(message)


def _fetch_all(place: Path, files: Mapping[str, Published], get: Get) -> None:
    """Fetch files, several at a time; they get their names in the tree one by one.

    The threads end with the process, so that an interrupted command does not wait for the rest of large files.
    """
    jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
    results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for name in files:
        jobs.put(name)

    def work() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                name, failure = jobs.get_nowait(), None
                try:
                    _fetch(place, name, files[name], get)
                except BaseException as error:  # raised again below
                    failure = error
                results.put(failure)

    for _ in range(THREADS):
        threading.Thread(target=work, name="newsclippings-download", daemon=True).start()
    running, first = len(files), None
    while running:
        error = results.get()
        running -= 1
        if error is not None and first is None:
            first = error
            with contextlib.suppress(queue.Empty):  # begin no other file
                while True:
                    jobs.get_nowait()
                    running -= 1
    if first is not None:
        raise first


def _fetch(place: Path, name: str, published: Published, get: Get) -> None:
    """Fetch a file, check it, and give it its name. If other bytes arrived, it is fetched once more."""
    for force in (False, True):
        staged = Path(_try_often(functools.partial(get, name, force), place / name))
        if published.is_at(staged):
            break
        size = staged.stat().st_size
        staged.unlink()
    else:
        message = (
            f"{name}: expected {published}, but {size:,} bytes with another arrived, twice. Nothing of it was kept: a "
            "proxy, a mirror (HF_ENDPOINT) or a disk may change bytes. Run it again, or without them."
        )
        raise BadFileError(message)
    with open(staged, "rb") as file:
        flush(file.fileno())
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(place / name):
        message = f"{place / name}: another program wrote this file in the meantime. It is as it was: run this again."
        raise ConfigError(message)
    os.replace(staged, place / name)


def _try_often(action: Callable[[], Any], what: object) -> Any:
    """Call the Hub's client, again after failures that may be temporary.

    Raises:
        DataNotFoundError: the Hub does not have it, or refuses access.
        RemoteReadError: all tries failed.
        NoSpaceError: the disk is full.
    """
    for attempt in range(TRIES):
        try:
            return action()
        except Exception as error:
            if isinstance(error, OSError) and is_full(error):
                message = (
                    f"{what}: it does not fit on the disk ({error.strerror}). What was fetched is kept: free some "
                    "space, and run it again."
                )
                raise NoSpaceError(message, error.errno or 0) from error
            cut_off = isinstance(error, OSError) and error.errno is None  # the client counts the bytes that arrive
            cause = find_hub_error(error) or (error if cut_off else None)
            if cause is None:
                raise
            if attempt == TRIES - 1 or not may_pass(cause):
                raise _not_fetched(what, cause, attempt + 1) from None
        time.sleep(PAUSE * 3**attempt)
    return None


def _not_fetched(what: object, cause: BaseException, tries: int) -> DataNotFoundError | RemoteReadError:
    from huggingface_hub import constants

    status, where = status_of(cause), f"{constants.ENDPOINT}"
    if status in (401, 403, 404):
        return DataNotFoundError(
            f"{what}: {where} does not have it, or does not let you read it ({status}). Set HF_TOKEN or log in by "
            "`hf auth login` if it needs that; else unset HF_ENDPOINT, or use another mirror."
        )
    return RemoteReadError(
        f"{what}: could not be fetched from {where} (tried {tries} times; the last time: {describe_error(cause)}). "
        "What was fetched is kept: run it again when the Hub answers."
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
    if inputs.pictures is None:
        missing.append(
            f"VisualNews (the pictures, 98 GB) is not there. Ask its authors for it: {VISUAL_NEWS_URL}, and put its "
            f"origin.tar into {folder / 'visual_news'}; it need not be extracted."
        )
    if inputs.pictures is None and inputs.data_json is None and not metadata:
        missing.append("Until then captions come from the metadata: a build fetches them, or add --metadata here.")
    options = [f"--data-dir {shlex.quote(str(folder))}", *(f"--config {config}" for config in configs)]
    options += [f"--embeddings {kind}" for kind in embeddings] + ["--metadata"] * metadata
    options += ["--images none"] * (inputs.pictures is None)
    return missing, f"newsclippings build newsclippings {' '.join(options)}"
