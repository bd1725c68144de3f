"""A folder that `newsclippings build` wrote, opened once and handed on as an object; local, or behind fsspec."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from _newsclippings.errors import BadFileError, ConfigError, NewsCLIPpingsError, RemoteReadError, bad_file
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, SHARED_PICTURES
from _newsclippings.folder.manifest import AGAIN, MANIFEST, Manifest, ShardEntry, read_manifest
from _newsclippings.folder.shards import check_shard, read_shard
from _newsclippings.generated import is_name
from _newsclippings.storage import Place, RemotePath, compute_sha256, read_file
from _newsclippings.tables import Int64s

ALL_CONFIGS = (*CONFIGS, SHARED_PICTURES)  # that a built folder may have, besides generated ones
SUMS = "SHA256SUMS"
CHARTS_FOLDER = "charts"  # the card shows the charts that `newsclippings stats` writes to it
STATS_FILE = "stats.json"
LARGEST_BESIDE = 32 << 20  # bytes of any file that is not a shard
_SUM = re.compile(r"[0-9a-f]{64}  ")
_CHART = re.compile(rf"{CHARTS_FOLDER}/[a-z][a-z0-9_]{{0,62}}-[a-z-]{{1,40}}\.png")
# What readers raise where a file holds something else than expected
_ODD = (
    AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError, MemoryError, pa.ArrowException
)  # fmt: skip


def other_content(file: object, expected: str, found: str, do: str = AGAIN) -> BadFileError:
    """The error of a file of a built folder with another SHA-256 than was written down."""
    return BadFileError(f"{file}: its content changed: expected the SHA-256 {expected}, found {found}. {do}")


@dataclass(frozen=True)
class BuiltFolder:
    """A folder of Parquet files, with the manifests that its configs had when it was opened.

    Attributes:
        root: path of the folder.
        manifests: config -> its manifest, in the order of `order_configs`.
        problems: config -> why its manifest cannot be used; always empty after `open`.
    """

    root: Place
    manifests: dict[str, Manifest]
    problems: dict[str, NewsCLIPpingsError] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Place) -> "BuiltFolder":
        """Read the manifests of all configs.

        Raises:
            BadFileError: no config has a manifest, or a manifest is not as `build` writes it.
            DataNotFoundError: a manifest cannot be read.
        """
        folder = cls.open_partly(root)
        folder.raise_first_problem()
        if not folder.manifests:
            expected = "a folder that `newsclippings build` wrote"
            raise bad_file(root, expected, "none of the configs with its manifest.json")
        return folder

    @classmethod
    def open_partly(cls, root: Place) -> "BuiltFolder":
        """As `open`, but unusable manifests become `problems`, and a folder without any is no error."""
        manifests, problems = {}, {}
        for config in find_configs(root):
            try:
                manifests[config] = read_manifest(root / config)
            except NewsCLIPpingsError as error:
                problems[config] = error
        return cls(root, manifests, problems)

    @property
    def local_root(self) -> Path:
        """The path of the folder.

        Raises:
            ConfigError: it is not on this machine.
        """
        if isinstance(self.root, RemotePath):
            message = f"{self.root}: expected a folder on this machine. Copy it to a disk, and pass the path."
            raise ConfigError(message)
        return self.root

    def raise_first_problem(self) -> None:
        """Raise the error of the first manifest that cannot be used, if any."""
        for problem in self.problems.values():
            raise problem

    def with_manifest(self, manifest: Manifest) -> "BuiltFolder":
        """The same folder after a config was written."""
        manifests = {**self.manifests, manifest.config: manifest}
        return replace(self, manifests={config: manifests[config] for config in order_configs(manifests)})

    def without(self, config: str) -> "BuiltFolder":
        """The same folder after a config was removed."""
        return replace(self, manifests={name: m for name, m in self.manifests.items() if name != config})

    @property
    def default_config(self) -> str:
        """The config that the card loads, and `load_dataset` where none is named."""
        return DEFAULT_CONFIG if DEFAULT_CONFIG in self.manifests else next(iter(self.manifests))

    @property
    def version(self) -> str:
        """The version of the data: the latest of its configs."""
        versions = (manifest.version for manifest in self.manifests.values())
        return max(versions, key=lambda version: [*map(int, version.split("."))])

    @property
    def has_pictures(self) -> bool:
        """Whether any config has pictures in its rows."""
        return any(manifest.has_pictures for manifest in self.manifests.values())

    @property
    def sharing_configs(self) -> list[str]:
        """The configs whose pictures are in the config of shared pictures."""
        return [config for config, manifest in self.manifests.items() if manifest.layout == "once"]

    @property
    def shards(self) -> list[ShardEntry]:
        """The Parquet files of all configs."""
        return [shard for manifest in self.manifests.values() for shard in manifest.shards]

    def require_shared_pictures(self) -> None:
        """Raise `BadFileError` if configs need the config of shared pictures, and it is missing."""
        if self.sharing_configs and SHARED_PICTURES not in self.manifests:
            expected = f"the config {SHARED_PICTURES}, which has the pictures of {', '.join(self.sharing_configs)}"
            raise bad_file(self.root / SHARED_PICTURES, expected, "none", "Run the same `newsclippings build` again.")

    def read_shard(
        self, shard: ShardEntry, columns: list[str], rows: int, wanted: Int64s | None = None
    ) -> Generator[pa.RecordBatch, None, None]:
        """Read columns of a shard, or of some of its rows, up to `rows` rows at a time; see `shards.read_shard`."""
        return read_shard(self.root / shard.path, shard, self.manifests[shard.config].features, columns, rows, wanted)

    def check_shard(self, shard: ShardEntry, opened: str) -> None:
        """Raise `BadFileError` if the file at the path `opened` differs from a shard's entry in the manifest."""
        check_shard(self.root / shard.path, shard, self.manifests[shard.config].features, opened)

    def find_charts(self) -> list[Place]:
        """The numbers and charts that `newsclippings stats` made of the present content; empty without any."""
        numbers = self.root / CHARTS_FOLDER / STATS_FILE
        try:
            measured = json.loads(read_file(numbers, LARGEST_BESIDE))["manifests"]
        except RemoteReadError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []
        if self.problems or measured != {config: manifest.sha256 for config, manifest in self.manifests.items()}:
            return []
        drawn = sorted(file for file in numbers.parent.iterdir() if is_chart(f"{CHARTS_FOLDER}/{file.name}"))
        charts = [file for config in self.manifests for file in drawn if file.name.startswith(f"{config}-")]
        return [numbers, *(file for file in charts if file.is_file())]

    def read_sums(self) -> dict[str, str]:
        """Read SHA256SUMS: name -> SHA-256; empty without such a file.

        Raises:
            BadFileError: a line is no SHA-256 and a name.
        """
        try:
            lines = read_file(self.root / SUMS, LARGEST_BESIDE).decode(errors="replace").splitlines()
        except FileNotFoundError:
            return {}
        if odd := [line for line in lines if not _SUM.match(line)]:
            expected = "lines of a SHA-256 and a name"
            raise bad_file(self.root / SUMS, expected, repr(odd[0])[:80], "Build the folder again.")
        return {line[66:]: line[:64] for line in lines}


def order_configs(names: Iterable[str]) -> list[str]:
    """Order the names of configs as they are listed: official ones, generated ones, shared pictures."""
    known = [*names]
    own = sorted(name for name in known if name not in ALL_CONFIGS)
    return [name for name in (*CONFIGS, *own, SHARED_PICTURES) if name in known]


def find_configs(root: Place) -> list[str]:
    """List the configs of a folder that have a manifest, in their order."""
    folders = [place.name for place in root.iterdir() if is_name(place.name)] if root.is_dir() else []
    return order_configs(config for config in (*ALL_CONFIGS, *folders) if is_there(root / config / MANIFEST))


def is_chart(name: str) -> bool:
    """Whether a name, relative to the built folder, is one that `newsclippings stats` writes."""
    return name == f"{CHARTS_FOLDER}/{STATS_FILE}" or _CHART.fullmatch(name) is not None


def is_there(place: Place) -> bool:
    """Whether there is anything at a place, even a link that leads nowhere."""
    return place.exists() if isinstance(place, RemotePath) else os.path.lexists(place)


def is_hidden(file: Place) -> bool:
    """Whether a file is hidden, as those that file managers leave: no reader takes it for data."""
    return file.name.startswith(".")


def sha256_of(file: Place, most: int | None = None) -> str:
    """SHA-256 of the content of a file.

    Args:
        file: the file.
        most: bytes that it may have. Default: any number.

    Raises:
        BadFileError: it has more bytes than that, or is no plain file.
    """
    if most is not None:
        return hashlib.sha256(read_file(file, most)).hexdigest()
    return compute_sha256(file)


@contextlib.contextmanager
def refuse_foreign_content(place: Place) -> Iterator[None]:
    """Raise `BadFileError` if reading fails because a file holds something else than `build` writes."""
    try:
        yield
    except NewsCLIPpingsError:
        raise
    except _ODD as error:
        content = f"something else ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        raise bad_file(place, "what `newsclippings build` writes", content, AGAIN) from error
