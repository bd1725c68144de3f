"""Matches and records, and the layouts that their files may have."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from _newsclippings.corpus.records import SCHEMA

rows = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 2**40),
            "image_id": st.integers(0, 2**40),
            "similarity_score": st.one_of(st.just(1), st.floats(-1, 1, allow_subnormal=False)),
            "source_dataset": st.integers(0, 3),
            "falsified": st.booleans(),
        }
    ),
    min_size=1,
    max_size=20,
)

Record = dict[str, Any]


def make(number: int, caption: str = "c", **extra: Any) -> Record:
    place = f"./bbc/images/{number // 1000:04d}/{number % 1000:03d}.jpg"
    return {"id": number, "caption": caption, "topic": "t", "source": "bbc", "image_path": place, **extra}


def exactly(rows: list[Record], wanted: list[int]) -> list[Record]:
    kept = [{name: row[name] for name in SCHEMA.names} for row in rows if row["id"] in wanted]
    return sorted(kept, key=lambda row: int(row["id"]))


LAYOUTS: dict[str, Callable[[list[Record]], str]] = {
    "default": json.dumps,
    "compact": lambda rows: json.dumps(rows, separators=(",", ":")),
    "indented": lambda rows: json.dumps(rows, indent=2),
    "deeply indented": lambda rows: json.dumps(rows, indent=9),
    "unicode": lambda rows: json.dumps(rows, ensure_ascii=False),
    "a line each": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n",
    "by id": lambda rows: json.dumps({str(row["id"]): row for row in rows}),
    "by id, indented": lambda rows: json.dumps({str(row["id"]): row for row in rows}, indent=1),
    "id last": lambda rows: json.dumps([dict(reversed(row.items())) for row in rows]),
    "by id, id last": lambda rows: json.dumps({str(row["id"]): dict(reversed(row.items())) for row in rows}),
    "nested object first": lambda rows: json.dumps([{"x": {"id": 1, "y": [{"id": 2}]}, **row} for row in rows]),
    "nested object last": lambda rows: json.dumps([{**row, "x": {"id": row["id"] + 1}} for row in rows]),
    "nested list": lambda rows: json.dumps([{**row, "x": [{"id": 3, **rows[0]}, {"id": 4}]} for row in rows]),
    "two layouts in one file": lambda rows: f"[{', '.join(json.dumps(r, indent=r['id'] % 2 or None) for r in rows)}]",
}  # fmt: skip
FAST = ["default", "compact", "indented", "unicode", "a line each", "by id", "by id, indented"]
