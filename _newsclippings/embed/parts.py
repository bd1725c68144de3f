"""The files of a folder of vectors: the plan, the parts, and at the end checksums and a README."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.embed.loop import EncodedPart, check_values, count_threads
from _newsclippings.errors import BadFileError, ConfigError, NewsCLIPpingsError
from _newsclippings.facts import SIDES
from _newsclippings.storage import (
    check_own_folder,
    compute_sha256,
    flush,
    flush_folder,
    foreign_output,
    read_file,
    read_footer,
    write_atomically,
    write_text,
)
from _newsclippings.tables import Int64s, as_array, int64s
from _newsclippings.text import printable
from _newsclippings.vectors import PLAN, SUMS, UNREAD, Plan, name_part, parse_plan, parse_sums, parse_unread

README = "README.md"
COMMAND = "embed"
_TEMPORARY = r"\.\d+-[0-9a-f]{8}\.tmp"
_NAMES = rf"({re.escape(PLAN)}|part-\d{{5}}\.parquet|{SUMS}|{re.escape(README)})({_TEMPORARY})?"
_MOST_PLAN = 1 << 24  # bytes
_MOST_FOOTER = 64 << 20  # bytes of a footer of Parquet


class PartFacts(NamedTuple):
    """What is known of a part without its vectors.

    Attributes:
        ids: int64 (N,), those that have a row.
        unread: reason -> ids that have none.
    """

    ids: Int64s
    unread: dict[str, list[int]]


class Folder:
    """A folder of vectors that is written.

    Attributes:
        path: the folder.
        plan: what its vectors are.
        key: SHA-256 of plan.json, which every part has.
    """

    def __init__(self, path: Path, plan: Plan, key: str) -> None:
        self.path, self.plan, self.key = path, plan, key

    @classmethod
    def start(cls, path: Path, plan: Plan) -> "Folder":
        """Write the plan, or go on with the folder if it has the same one.

        Raises:
            ConfigError: the folder has vectors of another plan.
        """
        if not (path / PLAN).exists():
            write_text(path / PLAN, plan.to_json())
        folder = cls.open(path)
        mine = parse_plan(plan.to_json().encode(), "the plan")  # as JSON stores it
        if folder.plan != mine:
            raise _other_plan(path, folder.plan, mine)
        return folder

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """Open a folder that has a plan.

        Raises:
            BadFileError: plan.json is damaged.
            DataNotFoundError: there is none.
        """
        text = read_file(path / PLAN, _MOST_PLAN)
        return cls(path, parse_plan(text, str(path / PLAN)), hashlib.sha256(text).hexdigest())

    @property
    def names(self) -> list[str]:
        """The files that SHA256SUMS lists."""
        return sorted([PLAN, README, *self.plan.parts])

    def place(self, number: int) -> Path:
        """Return the file of a part."""
        return self.path / name_part(number)

    def write(self, part: EncodedPart, ids: Int64s) -> None:
        """Write a part, completely or not at all.

        Args:
            part: the part.
            ids: int64 (N,), the ids of all items.
        """
        places, values, counts = part.join(self.plan.width)
        with np.errstate(over="ignore"):  # checked in the next line
            values = values.astype(self.plan.dtype, copy=False)
        check_values(self.plan.of, ids[places].repeat(counts), values)
        vectors = pa.FixedSizeListArray.from_arrays(as_array(values.reshape(-1)), self.plan.width)
        if self.plan.several:
            starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
            vectors = pa.ListArray.from_arrays(as_array(starts), vectors)
        unread = {reason: sorted(part.unread[reason]) for reason in sorted(part.unread)}
        schema = self._schema().with_metadata({"plan": self.key, UNREAD: json.dumps(unread)})
        table = pa.Table.from_arrays([as_array(ids[places]), vectors], schema=schema)
        with write_atomically(self.place(part.number)) as temporary:
            pq.write_table(table, temporary, compression="none", use_dictionary=False, write_statistics=False)
            with open(temporary, "rb") as file:
                flush(file.fileno())
        flush_folder(self.path)

    def read_facts(self, number: int) -> PartFacts | None:
        """Read the ids of a part; None if it is not there, or damaged.

        Raises:
            ConfigError: it is a part of another plan.
        """
        place = self.place(number)
        try:
            file = self._open(place)
            metadata = file.schema_arrow.metadata or {}
            unread = parse_unread(metadata, str(place))
            column = file.read(["id"])["id"]
        except (NewsCLIPpingsError, OSError, pa.ArrowException, KeyError, ValueError):
            return None
        if metadata.get(b"plan", b"").decode("ascii", "replace") != self.key:
            message = f"{place} is a part of another plan than {PLAN} beside it. Remove it, and run this again."
            raise ConfigError(message)
        sound = not column.null_count and file.schema_arrow.equals(self._schema())
        return PartFacts(int64s(column), unread) if sound else None

    def _open(self, place: Path) -> pq.ParquetFile:
        """Open a part, which may come from anyone; its footer is checked before Arrow reads it."""
        read_footer(place, str(place), ("id", "vector"), _MOST_FOOTER, "", nested=True)
        return pq.ParquetFile(place)

    def _schema(self) -> pa.Schema:
        vector = pa.list_(pa.from_numpy_dtype(np.dtype(self.plan.dtype)), self.plan.width)
        return pa.schema([("id", pa.int64()), ("vector", pa.list_(vector) if self.plan.several else vector)])

    def read_vectors(self, number: int) -> tuple[Int64s, npt.NDArray[Any], Int64s]:
        """Read a part.

        Returns:
            ids, int64 (N,); vectors, float32 or float16 (M, width); and how many each id has, int64 (N,).

        Raises:
            BadFileError: it is not such a part, or damaged.
        """
        place = self.place(number)
        try:
            table = self._open(place).read()
            ids, column = int64s(table["id"]), table["vector"].combine_chunks()
            counts = np.ones(len(ids), np.int64)
            if self.plan.several:
                counts = np.diff(np.frombuffer(column.offsets.buffers()[1], np.int32, len(ids) + 1)).astype(np.int64)
                column = column.flatten()
            values = np.frombuffer(column.flatten().buffers()[1] or b"", self.plan.dtype, len(column) * self.plan.width)
            return ids, values.reshape(-1, self.plan.width), counts
        except (NewsCLIPpingsError, OSError, pa.ArrowException, KeyError, ValueError, AttributeError) as error:
            message = f"{place}: not a part of this plan, or damaged ({printable(str(error))[:100]})."
            raise BadFileError(message) from error

    def read_sums(self) -> dict[str, str]:
        """Read SHA256SUMS: name -> SHA-256; empty if there is none.

        Raises:
            BadFileError: it is malformed.
        """
        if not (self.path / SUMS).exists():
            return {}
        return parse_sums(read_file(self.path / SUMS, _MOST_PLAN), str(self.path / SUMS))

    def compute_sums(self, names: Iterable[str]) -> dict[str, str]:
        """Compute the SHA-256 of files, in threads; "" for one that is not there."""

        def compute(name: str) -> str:
            with contextlib.suppress(OSError):
                return compute_sha256(self.path / name)
            return ""

        names = [*names]
        with ThreadPoolExecutor(count_threads()) as pool:
            return dict(zip(names, pool.map(compute, names), strict=True))

    def finish(self, unread: dict[str, int]) -> None:
        """Write README.md and SHA256SUMS unless they are there, then remove what killed processes left.

        Two ranks may do this at a time: they write the same, and the first one removes the temporary file of the other.
        """
        try:
            if not (self.path / SUMS).exists():
                write_text(self.path / README, describe(self.plan, unread))
                sums = self.compute_sums(self.names)
                write_text(self.path / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        except FileNotFoundError:
            if not (self.path / SUMS).exists():
                raise
        for name in os.listdir(self.path):
            if re.search(_TEMPORARY, name):
                (self.path / name).unlink(missing_ok=True)


def check_folder(path: Path) -> None:
    """Raise `ConfigError` if a folder holds anything but vectors that `embed` wrote."""
    check_own_folder(path, _NAMES, COMMAND)
    if path.is_dir() and not (path / PLAN).exists():
        others = [name for name in sorted(os.listdir(path)) if not re.search(_TEMPORARY, name)]
        if others:
            raise foreign_output(path / others[0], COMMAND)


def describe(plan: Plan, unread: dict[str, int]) -> str:
    """Write the README of a folder: what the vectors are, and how to load them."""
    facts = {
        "model": plan.encoder.get("model"),
        "numbers of a vector": f"{plan.width} ({plan.dtype})",
        "vectors of an item": "any number" if plan.several else 1,
        "length of a vector": "1" if plan.normalised else "as the model returns it",
        plan.of: f"{plan.count:,}",
        "without a vector": "; ".join(f"{count:,}: {reason}" for reason, count in unread.items()) or "none",
    }
    lines = "\n".join(f"| {name} | {printable(str(value)).replace('|', ' ')} |" for name, value in facts.items())
    return f"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: part-*.parquet
---

# Vectors of {plan.of}

Written by `newsclippings embed`. {PLAN} has all facts of the model; `sha256sum -c {SUMS}` compares the files.

| | |
|---|---|
{lines}

Each `part-*.parquet` has the columns `id` ({SIDES[plan.of]} in the rows of NewsCLIPpings) and `vector`. Join them:

```python
import newsclippings

rows = newsclippings.load("merged_balanced", data_dir="data", embeddings={{"mine": "path/of/this/folder"}})
```
"""


def _other_plan(path: Path, there: Plan, asked: Plan) -> ConfigError:
    """Make the error of a folder with another plan, which names what differs."""
    old, new = ({**vars(plan), **plan.encoder, "encoder": None} for plan in (there, asked))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    what = "; ".join(f"{name} {_short(old.get(name))} there, {_short(new.get(name))} now" for name in names[:5])
    return ConfigError(
        f"{path} has other vectors: {what}. Nothing was changed: choose another folder, or ask for the same again."
    )


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return printable(text if len(text) <= 80 else f"{text[:77]}...")
