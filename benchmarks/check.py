"""Check that contenders wrote the same rows, by a digest of the columns that all of them have."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = ("index", "id", "image_id", "caption", "image_path", "falsified", "similarity_score", "image_caption")
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def digest(folder: Path) -> str | None:
    """Digest all splits in the Parquet files below a folder, else in its Arrow files; None if there are none."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")) or sorted(folder.rglob("*.arrow")):  # the latter may be a cache
        if match := re.search(r"(?:^|-)(train|validation|val|test)(?:-|$)", file.stem):
            files.setdefault(SPLITS[match[1]], []).append(file)
    if not files:
        return None
    result = hashlib.sha256()
    for split in sorted(files):
        result.update(split.encode())
        for table in (table for file in files[split] for table in _tables(file)):
            _update(result, table)
    return result.hexdigest()


def _update(result: Any, table: Any) -> None:
    """Add rows one by one, since contenders have different batches."""
    columns = [table[name].to_pylist() for name in COLUMNS]
    pictures = table["image"].to_pylist() if "image" in table.column_names else [None] * len(table)
    for picture, *values in zip(pictures, *columns, strict=True):
        result.update(json.dumps([int(v) if isinstance(v, bool) else v for v in values]).encode())
        if picture is not None:
            result.update((picture["bytes"] if isinstance(picture, dict) else picture) or b"")


def _tables(file: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        with pq.ParquetFile(file) as parquet:
            yield from (pa.Table.from_batches([batch]) for batch in parquet.iter_batches(1000))
    else:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as batches:
            yield from (pa.Table.from_batches([batch]) for batch in batches)
