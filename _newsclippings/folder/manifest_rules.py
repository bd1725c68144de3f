"""What must hold of a manifest.json. It may come from anybody, and cards, pages and uploads are made of it."""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from _newsclippings.facts import COLUMNS, EMBEDDINGS, IMAGE_COLUMNS, SPLITS, UNIQUE, columns_of

AGAIN = "Remove the folder of the config and run the same `newsclippings build` again."

LARGEST_MANIFEST = 8 << 20  # bytes of a manifest; that of the largest build has some 100 KB
MOST_FILES = 10_000  # of a config
LARGEST_SHARD = 4 << 30  # bytes; the writer's limit is 450 MB, or one row
MOST = 1 << 48  # of a count: more than any disk has
LEAST_ROW = 1  # bytes that a row takes in a file, at least; rows of texts take a hundred and more
PACKED = 200  # times that a file may grow when it is unpacked; texts grow to six times of it
LONGEST = 10_000  # characters of a text
SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")
_KIND = re.compile(r"[a-z_]{1,40}")
_SHARD = re.compile(rf"({'|'.join(SPLITS)})-(\d{{5,6}})-of-(\d{{5,6}})\.parquet")
_LAYOUTS = ("bytes", "once", "none", None)


def check_manifest(config: str, manifest: Any) -> None:
    """Raise `ValueError`, which names the field, if a manifest is not as `build` writes them.

    Args:
        config: whose manifest it is.
        manifest: what its JSON holds.
    """
    manifest = _object(manifest, "the manifest")
    _text(manifest, "description")
    _match(manifest, "version", _VERSION)
    _match(manifest, "made_of", SHA256)
    if manifest.get("layout") not in _LAYOUTS:
        raise _odd("layout", manifest["layout"])
    _check_features(config, _object(_field(manifest, "features"), "features"))
    splits = _object(_field(manifest, "splits"), "splits")
    files = _object(_field(manifest, "files"), "files")
    if not splits or len(files) > MOST_FILES:
        message = f"{len(splits):,} splits in {len(files):,} files"
        raise ValueError(message)
    shards: dict[str, list[tuple[int, int]]] = {split: [] for split in splits}
    for name, about in files.items():
        _check_file(name, _object(about, f"files: {name[:40]!r}"), shards)
    for split, about in splits.items():
        if split not in SPLITS:
            raise _odd("splits", split)
        numbers = sorted(shards[split])
        if not numbers or numbers != [(k, len(numbers)) for k in range(len(numbers))]:
            message = f"files: those of {split} are not all of a number from 0 on"
            raise ValueError(message)
        of_it = [one for one in files.values() if one["split"] == split]
        _check_split(split, _object(about, f"splits: {split}"), of_it, pictures=config == UNIQUE)


@functools.cache
def _known_features() -> dict[str, Any]:
    return columns_of("bytes", EMBEDDINGS, metadata=True, articles=True)


def _check_features(config: str, found: Mapping[str, Any]) -> None:
    needed = {*IMAGE_COLUMNS} if config == UNIQUE else {*COLUMNS} - {"image"}
    known = {name: _known_features()[name] for name in needed} if config == UNIQUE else _known_features()
    for name, feature in found.items():
        if name not in known or feature != known[name]:
            raise _odd("features", name)
    if missing := needed - found.keys():
        message = f"features: no column {min(missing)}"
        raise ValueError(message)


def _check_file(name: str, about: Mapping[str, Any], shards: Mapping[str, list[tuple[int, int]]]) -> None:
    parts = _SHARD.fullmatch(name)
    if parts is None or about.get("split") != parts[1] or parts[1] not in shards:
        raise _odd("files", name)
    shards[parts[1]].append((int(parts[2]), int(parts[3])))
    rows, size, plain = (_count(about, what) for what in ("rows", "bytes", "plain_bytes"))
    _match(about, "sha256", SHA256)
    if rows * LEAST_ROW > size or size > LARGEST_SHARD:
        message = f"{rows:,} rows in a file of {size:,} bytes"
        raise ValueError(message)
    if plain > PACKED * size:
        message = f"plain_bytes: {plain:,} in a file of {size:,} bytes"
        raise ValueError(message)


def _check_split(split: str, about: Mapping[str, Any], files: list[Mapping[str, Any]], *, pictures: bool) -> None:
    for what in ("rows", "plain_bytes"):
        if _count(about, what) != (total := sum(file[what] for file in files)):
            message = f"{what} of {split}: {about[what]:,}, but {total:,} in its files"
            raise ValueError(message)
    _match(about, "ids_sha256", SHA256)
    if pictures:
        return
    if _count(about, "pristine") + _count(about, "falsified") != about["rows"]:
        message = f"pristine and falsified of {split}: {about['pristine']:,} and {about['falsified']:,} rows"
        raise ValueError(message)
    report = _object(_field(about, "report"), "report")
    for what in ("rows", "written", "resolved", "dropped_pairs", "broken_pairs"):
        _count(report, what)
    for kind, by_outlet in _object(_field(report, "missing"), "missing").items():
        if not _KIND.fullmatch(kind):
            raise _odd("missing", kind)
        _check_counts(by_outlet, kind, lambda outlet: len(outlet) <= LONGEST)
    _check_counts(_field(report, "coverage"), "coverage", lambda kind: kind in _known_features())


def _check_counts(found: Any, what: str, known: Callable[[str], bool]) -> None:
    for name in _object(found, what):
        if not known(name):
            raise _odd(what, name)
        _count(found, name)


def _field(found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        message = f"no field {name!r}"
        raise ValueError(message)
    return found[name]


def _object(found: Any, what: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _odd(what, found)
    return found


def _count(found: Mapping[str, Any], name: str) -> int:
    count = _field(found, name)
    if type(count) is not int or not 0 <= count <= MOST:  # True is an int, too
        raise _odd(name[:40], count)
    return count


def _text(found: Mapping[str, Any], name: str) -> str:
    text = _field(found, name)
    if not isinstance(text, str) or len(text) > LONGEST or not text.isprintable():
        raise _odd(name, text)
    return text


def _match(found: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> None:
    text = _field(found, name)
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise _odd(name, text)


def _odd(what: str, found: Any) -> ValueError:
    """What a field holds, if that is short; it may be a list of lists without an end."""
    shown = ascii(found[:40] if isinstance(found, str) else found) if isinstance(found, str | int | float) else ""
    return ValueError(f"{what}: {shown or type(found).__name__}, which `build` does not write")
