"""Vectors of a user's own encoder, in files of all kinds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from support.world import SPLITS, World

WIDTH = 5
Rows = dict[int, Any]


def make_vectors(world: World, key: str = "image_id", *, several: bool = False) -> Rows:
    """A vector of five numbers for every id but the first; with `several`, 0 to 2 of them. Exact in float16."""
    ids = sorted({row[key] for split in SPLITS for row in world.rows("merged_balanced", split)})
    rng = np.random.default_rng(7)
    numbers = rng.integers(-64, 64, (len(ids), 2, WIDTH)).astype(np.float32) / 8
    rng.shuffle(ids)
    if several:
        return {n: v[: n % 3] for n, v in zip(ids[1:], numbers[1:], strict=True)}
    return {n: v[0] for n, v in zip(ids[1:], numbers[1:], strict=True)}


README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: part-*.parquet
---
# Vectors

Written by `newsclippings embed`.
"""


def _stack(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    return np.array([*rows], np.int64), np.stack([*rows.values()])


def _table(rows: Rows, kind: pa.DataType) -> pa.Table:
    lists = [v.tolist() for v in rows.values()]
    half = pa.types.is_fixed_size_list(kind) and pa.types.is_float16(kind.value_type)  # Arrow 19 takes arrays only
    flat = pa.array(np.concatenate([*rows.values()]).astype(np.float16)) if half else None
    vectors = pa.FixedSizeListArray.from_arrays(flat, WIDTH) if half else pa.array(lists, kind)
    return pa.table({"id": pa.array([*rows], pa.int64()), "vector": vectors})


def write_npy(rows: Rows, folder: Path, dtype: Any = np.float32) -> Path:
    ids, vectors = _stack(rows)
    np.save(folder / "v.npy", vectors.astype(dtype))
    np.save(folder / "v.ids.npy", ids)
    return folder / "v.npy"


def write_safetensors(rows: Rows, folder: Path) -> Path:
    save_file = pytest.importorskip("safetensors.numpy").save_file
    ids, vectors = _stack(rows)
    save_file({"vectors": vectors, "ids": ids}, folder / "v.safetensors", metadata={"by": "me"})
    return folder / "v.safetensors"


def write_pandas(rows: Rows, folder: Path) -> Path:
    import pandas as pd

    pd.DataFrame({"id": [*rows], "vector": [*rows.values()]}).to_parquet(folder / "pandas.parquet")
    return folder / "pandas.parquet"


def write_polars(rows: Rows, folder: Path) -> Path:
    pl = pytest.importorskip("polars")
    vectors = pl.Series("vector", [v.tolist() for v in rows.values()], dtype=pl.Array(pl.Float32, WIDTH))
    pl.DataFrame({"id": pl.Series([*rows], dtype=pl.UInt32), "vector": vectors}).write_parquet(folder / "pl.parquet")
    return folder / "pl.parquet"


def write_polars_arrow(rows: Rows, folder: Path) -> Path:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"id": [*rows], "vector": [v.tolist() for v in rows.values()]})
    frame.write_ipc(folder / "pl.arrow", compression="zstd")
    return folder / "pl.arrow"


def write_parquet(rows: Rows, folder: Path, kind: pa.DataType | None = None, name: str = "v.parquet") -> Path:
    pq.write_table(
        _table(rows, kind or pa.list_(pa.float32(), WIDTH)), folder / name, row_group_size=max(7, len(rows) // 3)
    )
    return folder / name


def write_folder(rows: Rows, folder: Path, of: str = "pictures", part: int = 4, **changes: Any) -> Path:
    """A folder as `newsclippings embed` writes it; every id of `rows` has a vector, and id 1 could not be read."""
    out = folder / f"embedded-{of}"
    out.mkdir()
    ids = np.array(sorted([*rows, 1]), "<i8")
    plan = {
        "format": 1, "of": of, "width": WIDTH, "dtype": "float32", "several": False, "normalised": False,
        "count": len(ids), "ids_sha256": hashlib.sha256(ids.tobytes()).hexdigest(), "part_size": part,
        "encoder": {"model": "me/net-5"},
    }  # fmt: skip
    (out / "plan.json").write_text(json.dumps(plan | changes))
    for number, start in enumerate(range(0, len(ids), part)):
        some = {int(n): rows[int(n)] for n in ids[start : start + part] if int(n) in rows}
        unread = {"missing": [1]} if 1 in ids[start : start + part] else {}
        table = _table(some, pa.list_(pa.float32(), WIDTH)).replace_schema_metadata({"unread": json.dumps(unread)})
        pq.write_table(table, out / f"part-{number:05d}.parquet", compression="none")
    (out / "README.md").write_text(README)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(out.iterdir())]
    (out / "SHA256SUMS").write_text("".join(sums))
    return out


KINDS: dict[str, Callable[[Rows, Path], Path]] = {
    "npy": write_npy,
    "npy float16": lambda rows, folder: write_npy(rows, folder, np.float16),
    "npy float64": lambda rows, folder: write_npy(rows, folder, ">f8"),
    "safetensors": write_safetensors,
    "pandas": write_pandas,
    "polars": write_polars,
    "polars arrow": write_polars_arrow,
    "parquet": write_parquet,
    "parquet lists": lambda rows, folder: write_parquet(rows, folder, pa.large_list(pa.float64())),
    "parquet float16": lambda rows, folder: write_parquet(rows, folder, pa.list_(pa.float16(), WIDTH)),
    "folder": write_folder,
}
