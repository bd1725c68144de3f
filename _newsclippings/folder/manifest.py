"""The manifest.json of a config: which files `newsclippings build` wrote, as typed objects.

A manifest may come from anybody, and cards, pages and uploads are made of it: every value is checked when it is read.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from _newsclippings.config import COLUMN_NAME
from _newsclippings.errors import NewsCLIPpingsError, bad_file
from _newsclippings.facts import (
    COLUMNS,
    EMBEDDINGS,
    FULL,
    IMAGE_COLUMNS,
    METADATA_OF_FIRST,
    SHARED_PICTURES,
    SIDES,
    SPLITS,
    VECTOR_DTYPES,
    Columns,
    Vectors,
    columns_of,
    vector_feature,
)
from _newsclippings.generated import MOST_METHODS, is_method, is_name
from _newsclippings.rows import JoinReport
from _newsclippings.storage import DECODER, Place, describe_json_error, read_file, recognise_wrong_file, write_text
from _newsclippings.text import printable

MANIFEST = "manifest.json"
AGAIN = "Remove the folder of the config and run the same `newsclippings build` again."
LARGEST_MANIFEST = 8 << 20  # bytes; the manifest of the largest build has about 100 KB
MOST_SHARDS = 10_000  # of a config
LARGESTSHARD = 4 << 30  # bytes; the writer stops at 450 MB, or at one row
LARGEST_COUNT = 1 << 48  # more than any disk has bytes
SMALLEST_ROW = 1  # bytes that a row takes in a file, at least; a row of texts takes a hundred or more
LARGEST_RATIO = 200  # of unpacked to packed bytes; texts reach six
LONGEST_TEXT = 10_000  # characters
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")
_PLAIN = re.compile(r"[\w./:@+, -]{1,1000}")  # nothing that Markdown or HTML would obey
_KIND = re.compile(r"[a-z_]{1,40}")
SHARD = re.compile(rf"({'|'.join(SPLITS)})-(\d{{5,6}})-of-(\d{{5,6}})\.parquet")
OF = {key: of for of, key in SIDES.items()}
_LAYOUTS = ("bytes", "once", "none", None)


@dataclass(frozen=True)
class ShardEntry:
    """One Parquet file of a config."""

    config: str
    name: str  # in the folder of the config
    split: str
    rows: int
    bytes: int  # size of the file
    plain_bytes: int  # size of its columns before compression
    sha256: str

    @property
    def path(self) -> str:
        """Relative to the built folder, with `/`."""
        return f"{self.config}/{self.name}"


@dataclass(frozen=True)
class SplitEntry:
    """The counts of a split; the shared pictures have neither labels nor a report.

    The details of a report that nothing reads (`first_missing`, `damage`, `captions_from`) are empty if it was read
    from a file.
    """

    rows: int
    ids_sha256: str  # see `IdsDigest`
    plain_bytes: int = 0  # size of its columns before compression; 0 until they are written
    pristine: int | None = None
    falsified: int | None = None
    report: JoinReport | None = None

    def as_dict(self) -> dict[str, Any]:
        """As it is in the file."""
        values: dict[str, Any] = {"rows": self.rows, "pristine": self.pristine, "falsified": self.falsified}
        values |= {"ids_sha256": self.ids_sha256, "report": self.report and self.report.as_dict()}
        return {name: value for name, value in values.items() if value is not None} | {"plain_bytes": self.plain_bytes}


@dataclass(frozen=True)
class Manifest:
    """What a config consists of.

    Attributes:
        layout: where its pictures are: `bytes` (in the rows), `once` (in the config of shared pictures), `none`, or
            None for the shared pictures themselves.
        build_id: identifies the build: equal ids mean byte-identical files.
        features: column -> its type, as `datasets` writes it to JSON.
        vectors: column -> its vectors, for those that are not the authors'.
        sha256: of the manifest file; empty until it is written.
    """

    config: str
    version: str
    description: str
    layout: str | None
    build_id: str
    features: Columns
    splits: Mapping[str, SplitEntry]
    shards: tuple[ShardEntry, ...]
    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    sha256: str = ""

    @property
    def rows(self) -> int:
        """Number of rows of all splits."""
        return sum(split.rows for split in self.splits.values())

    @property
    def has_pictures(self) -> bool:
        """Whether the rows have pictures."""
        return "image" in self.features

    def shards_of(self, split: str) -> list[ShardEntry]:
        """The files of a split, in the order of its rows."""
        return [shard for shard in self.shards if shard.split == split]

    def reports(self) -> Iterator[tuple[str, SplitEntry, JoinReport]]:
        """Each split that has a report: its name, its counts and the report."""
        for name, split in self.splits.items():
            if split.report is not None:
                yield name, split, split.report

    def write(self, folder: Place) -> "Manifest":
        """Write manifest.json into the folder of the config; returns the manifest with the SHA-256 of that file."""
        head = {"config": self.config, "version": self.version, "description": self.description}
        head |= {} if self.layout is None else {"layout": self.layout}
        files = {
            shard.name: {name: getattr(shard, name) for name in ("split", "rows", "bytes", "plain_bytes", "sha256")}
            for shard in self.shards
        }
        splits = {name: split.as_dict() for name, split in self.splits.items()}
        own = {name: {"of": OF[about.key], "meaning": about.meaning} for name, about in self.vectors.items()}
        value = {**head, "made_of": self.build_id, "features": self.features}
        value |= ({"vectors": own} if own else {}) | {"splits": splits, "files": files}
        text = json.dumps(value, indent=1) + "\n"
        write_text(folder / MANIFEST, text)
        return replace(self, sha256=hashlib.sha256(text.encode()).hexdigest())


def read_manifest(folder: Place) -> Manifest:
    """Read and check the manifest of a config.

    Args:
        folder: the folder of the config.

    Raises:
        DataNotFoundError: it is missing, or cannot be read.
        BadFileError: it is not as `build` writes it.
    """
    data = read_file(folder / MANIFEST, LARGEST_MANIFEST)
    try:
        value = DECODER.decode(data.decode())
        if isinstance(value, dict) and (named := value.get("config", folder.name)) != folder.name:
            raise bad_file(folder, f"the config {folder.name}", repr(named)[:80], "Give the folder its name again.")
        return _parse_manifest(folder.name, value, hashlib.sha256(data).hexdigest())
    except NewsCLIPpingsError:
        raise
    except (ValueError, RecursionError) as error:
        content = recognise_wrong_file(data[:64]) or f"something else ({printable(describe_json_error(error))[:200]})"
        raise bad_file(folder / MANIFEST, "what `newsclippings build` writes", content, AGAIN) from error


def _parse_manifest(config: str, value: Any, sha256: str) -> Manifest:
    """Check every field, and raise `ValueError` with the name of the first that `build` would not write."""
    if not isinstance(value, dict):
        raise _odd("the manifest", value)
    description = _get(
        value, "description", lambda text: isinstance(text, str) and len(text) <= LONGEST_TEXT and text.isprintable()
    )
    version, build_id = _match(value, "version", _VERSION), _match(value, "made_of", _SHA256)
    layout = value.get("layout")
    if layout not in _LAYOUTS:
        raise _odd("layout", layout)
    features, splits, files = (_object(value, name) for name in ("features", "splits", "files"))
    vectors = {name: _parse_vectors(name, own, features) for name, own in value.get("vectors", {}).items()}
    _check_features(config, version, features, vectors)
    if not splits or len(files) > MOST_SHARDS:
        message = f"{len(splits):,} splits in {len(files):,} files"
        raise ValueError(message)
    shards = [_parse_shard(config, name, _object(files, name), splits) for name in files]
    entries = {}
    for name in splits:
        own = [shard for shard in shards if shard.split == name]
        entries[name] = _parse_split(
            name, _object(splits, name), own, labelled=config != SHARED_PICTURES, vectors=vectors
        )
    return Manifest(config, version, description, layout, build_id, features, entries, tuple(shards), vectors, sha256)


def _parse_vectors(name: str, value: Any, features: Mapping[str, Any]) -> Vectors:
    """What the vectors of a user's own column are; their form is that of its type."""
    if not COLUMN_NAME.fullmatch(name) or not isinstance(value, dict) or name not in features:
        raise _odd("vectors", name)
    key = SIDES[_get(value, "of", lambda of: isinstance(of, str) and of in SIDES)]
    meaning = _match(value, "meaning", _PLAIN)
    feature, inner = features[name], features[name].get("feature") if isinstance(features[name], dict) else None
    several = isinstance(inner, dict) and inner.get("_type") == "Sequence"
    one = inner if several and isinstance(inner, dict) else feature
    width = _get(one, "length", lambda length: type(length) is int and 0 < length <= LARGEST_COUNT)
    dtype = _get(_object(one, "feature"), "dtype", lambda kind: isinstance(kind, str) and kind in VECTOR_DTYPES)
    return Vectors(width, key, several, meaning, dtype)


@functools.cache
def _known_features() -> Columns:
    return columns_of("bytes", EMBEDDINGS, metadata=True, articles=True, evidence=True) | columns_of(articles=FULL)


def _check_features(config: str, version: str, features: Mapping[str, Any], vectors: Mapping[str, Vectors]) -> None:
    known, needed = _known_features(), {*COLUMNS} - {"image"}
    if taken := vectors.keys() & known.keys():
        raise _odd("vectors", min(taken))
    known = known | {name: vector_feature(about) for name, about in vectors.items()}
    if version == "1.0.0":
        known = known | dict.fromkeys(("metadata", "image_metadata"), METADATA_OF_FIRST)
    if is_name(config):  # a generated one has its own measures
        names = _get(_object(features, "source_dataset"), "names", _are_names)
        known = known | {"source_dataset": {**known["source_dataset"], "names": names}}
    if config == SHARED_PICTURES:
        known, needed = {name: known[name] for name in IMAGE_COLUMNS}, {*IMAGE_COLUMNS}
    for name, feature in features.items():
        if name not in known or feature != known[name]:
            raise _odd("features", name)
    if missing := needed - features.keys():
        message = f"features: no column {min(missing)}"
        raise ValueError(message)


def _are_names(names: Any) -> bool:
    several = isinstance(names, list) and 1 <= len(names) <= MOST_METHODS
    return several and all(isinstance(name, str) and is_method(name) for name in names) and len({*names}) == len(names)


def _parse_shard(config: str, name: str, value: Mapping[str, Any], splits: Mapping[str, Any]) -> ShardEntry:
    parts = SHARD.fullmatch(name)
    if parts is None or value.get("split") != parts[1] or parts[1] not in splits:
        raise _odd("files", name)
    rows, size, plain = (_count(value, what) for what in ("rows", "bytes", "plain_bytes"))
    if rows * SMALLEST_ROW > size or size > LARGESTSHARD:
        message = f"{rows:,} rows in a file of {size:,} bytes"
        raise ValueError(message)
    if plain > LARGEST_RATIO * size:
        message = f"plain_bytes: {plain:,} in a file of {size:,} bytes"
        raise ValueError(message)
    return ShardEntry(config, name, parts[1], rows, size, plain, _match(value, "sha256", _SHA256))


def _parse_split(
    name: str, value: Mapping[str, Any], shards: list[ShardEntry], *, labelled: bool, vectors: Mapping[str, Vectors]
) -> SplitEntry:
    """The counts of a split, which have to agree with its files. Shared pictures have neither labels nor a report."""
    if name not in SPLITS:
        raise _odd("splits", name)
    numbers = sorted(tuple(map(int, re.findall(r"\d+", shard.name))) for shard in shards)
    if not numbers or numbers != [(k, len(numbers)) for k in range(len(numbers))]:
        message = f"files: the shards of {name} are not numbered from 0 on without a gap"
        raise ValueError(message)
    for what in ("rows", "plain_bytes"):
        if _count(value, what) != (total := sum(getattr(shard, what) for shard in shards)):
            message = f"{what} of {name}: {value[what]:,}, but {total:,} in its files"
            raise ValueError(message)
    entry = SplitEntry(value["rows"], _match(value, "ids_sha256", _SHA256), value["plain_bytes"])
    if not labelled:
        return entry
    pristine, falsified = _count(value, "pristine"), _count(value, "falsified")
    if pristine + falsified != entry.rows:
        message = f"pristine and falsified of {name}: {pristine:,} and {falsified:,} rows"
        raise ValueError(message)
    report = _parse_report(_object(value, "report"), vectors)
    return replace(entry, pristine=pristine, falsified=falsified, report=report)


def _parse_report(value: Mapping[str, Any], vectors: Mapping[str, Vectors]) -> JoinReport:
    names = ("rows", "written", "resolved", "dropped_pairs", "broken_pairs")
    counts: dict[str, Any] = {name: _count(value, name) for name in names}
    missing = _object(value, "missing")
    for kind in missing:
        if not _KIND.fullmatch(kind):
            raise _odd("missing", kind)
        missing[kind] = _counts(missing, kind, lambda outlet: len(outlet) <= LONGEST_TEXT)
    coverage = _counts(value, "coverage", lambda kind: kind in _known_features() or kind in vectors)
    return JoinReport(**counts, missing=missing, first_missing=[], coverage=coverage)


def _count(value: Mapping[str, Any], name: str) -> int:
    return int(_get(value, name, lambda count: type(count) is int and 0 <= count <= LARGEST_COUNT))  # no True


def _counts(value: Mapping[str, Any], name: str, is_known: Callable[[str], bool]) -> dict[str, int]:
    counts = _object(value, name)
    for key in counts:
        if not is_known(key):
            raise _odd(name, key)
    return {key: _count(counts, key) for key in counts}


def _match(value: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    return str(_get(value, name, lambda text: isinstance(text, str) and pattern.fullmatch(text)))


def _object(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(_get(value, name, lambda inner: isinstance(inner, dict)))


def _get(value: Mapping[str, Any], name: str, is_valid: Callable[[Any], object]) -> Any:
    """A field that passes a check."""
    if name not in value:
        message = f"no field {name!r}"
        raise ValueError(message)
    if not is_valid(value[name]):
        raise _odd(name[:40], value[name])
    return value[name]


def _odd(what: str, value: Any) -> ValueError:
    """An error that quotes a value only if it is short: it may be a list of lists without an end."""
    shown = ascii(value[:40] if isinstance(value, str) else value) if isinstance(value, str | int | float) else ""
    return ValueError(f"{what}: {shown or type(value).__name__}, which `build` does not write")
