"""Parts of a folder of vectors."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.embed.folder import Folder, Form, write_facts
from _newsclippings.embed.loop import MadePart, Vectors, check_values, join_vectors
from _newsclippings.errors import BadFileError
from _newsclippings.facts import SIDES
from _newsclippings.tables import Int64s, as_array, int64s
from _newsclippings.vectors import PLAN, SUMS, Plan, parse_plan


def write_vectors(folder: Folder[Plan], part: MadePart[Vectors], ids: Int64s) -> None:
    """Write a part, completely or not at all.

    Args:
        folder: the folder.
        part: the part.
        ids: int64 (N,), the ids of all items.
    """
    plan = folder.plan
    places, values, counts = join_vectors(part.pieces, plan.width)
    with np.errstate(over="ignore"):  # checked in the next line
        values = values.astype(plan.dtype, copy=False)
    check_values(plan.of, ids[places].repeat(counts), values)
    vectors = pa.FixedSizeListArray.from_arrays(as_array(values.reshape(-1)), plan.width)
    if plan.several:
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        vectors = pa.ListArray.from_arrays(as_array(starts), vectors)
    folder.write(part.number, [as_array(ids[places]), vectors], part.unread)


def read_vectors(folder: Folder[Plan], number: int) -> tuple[Int64s, npt.NDArray[Any], Int64s]:
    """Read a part.

    Returns:
        ids, int64 (N,); vectors, float32 or float16 (M, width); and how many each id has, int64 (N,).

    Raises:
        BadFileError: it is not such a part, or damaged.
    """
    plan, table = folder.plan, folder.read(number)
    try:
        ids, column = int64s(table["id"]), table["vector"].combine_chunks()
        counts = np.ones(len(ids), np.int64)
        if plan.several:
            counts = np.diff(np.frombuffer(column.offsets.buffers()[1], np.int32, len(ids) + 1)).astype(np.int64)
            column = column.flatten()
        values = np.frombuffer(column.flatten().buffers()[1] or b"", plan.dtype, len(column) * plan.width)
        return ids, values.reshape(-1, plan.width), counts
    except (pa.ArrowException, ValueError, AttributeError) as error:
        message = f"{folder.place(number)}: not a part of this plan, or damaged."
        raise BadFileError(message) from error


def _make_schema(plan: Plan) -> pa.Schema:
    vector = pa.list_(pa.from_numpy_dtype(np.dtype(plan.dtype)), plan.width)
    return pa.schema([("id", pa.int64()), ("vector", pa.list_(vector) if plan.several else vector)])


def _describe(plan: Plan, unread: dict[str, int]) -> str:
    """Write the README of a folder: what the vectors are, and how to load them."""
    facts = {
        "model": plan.encoder.get("model"),
        "numbers of a vector": f"{plan.width} ({plan.dtype})",
        "vectors of an item": "any number" if plan.several else 1,
        "length of a vector": "1" if plan.normalised else "as the model returns it",
        plan.of: f"{plan.count:,}",
        "without a vector": "; ".join(f"{count:,}: {reason}" for reason, count in unread.items()) or "none",
    }
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
{write_facts(facts)}

Each `part-*.parquet` has the columns `id` ({SIDES[plan.of]} in the rows of NewsCLIPpings) and `vector`. Join them:

```python
import newsclippings

rows = newsclippings.load("merged_balanced", data_dir="data", embeddings={{"mine": "path/of/this/folder"}})
```
"""


VECTORS = Form("embed", "vectors", parse_plan, _make_schema, _describe, ("id", "vector"))
