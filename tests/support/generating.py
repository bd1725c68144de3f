"""A small corpus with entities and vectors, in another language, and what must be generated from it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Row = dict[str, Any]
NAMES = ("東京", "大阪", "安倍晋三", "国会", "首都", "甲子園", "京都", "北海道", "日銀", "富士山")
LABELS = ("GPE", "PERSON", "ORG", "DATE")
OUTLETS = ("朝日", "毎日", "読売")
TOPICS = ("政治", "スポーツ", "")


@dataclass
class Corpus:
    """The plan of a corpus: rows by position, in ascending order of their ids."""

    root: Path
    rows: list[Row]
    entities: list[list[tuple[str, str]]]
    pictures: dict[str, bytes]
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def table(self) -> Path:
        return self.root / "記事.csv"

    @property
    def ids(self) -> list[int]:
        return [row["id"] for row in self.rows]

    def write(self) -> None:
        """Write the table, with its rows in another order, and the pictures."""
        self.root.mkdir(parents=True, exist_ok=True)
        with self.table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [*self.rows[0]])
            writer.writeheader()
            writer.writerows(sorted(self.rows, key=lambda row: str(row["id"])[::-1]))
        for path, data in self.pictures.items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(data)

    def write_entities(self, folder: Path) -> Path:
        """Write the entities as `newsclippings entities` does."""
        ids = np.array(self.ids, np.int64)
        kind = pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
        values = [[{"text": text, "label": label} for text, label in each] for each in self.entities]
        return write_parts(folder, ids, {"entities": pa.array(values, kind)}, {"model": "test"})

    def write_vectors(self, name: str, folder: Path, of: str) -> Path:
        """Write vectors as `newsclippings embed` does."""
        vectors = self.vectors[name]
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        plan = {"of": of, "width": vectors.shape[1], "dtype": "float32", "several": False, "normalised": False}
        return write_parts(folder, np.array(self.ids, np.int64), {"vector": flat}, {**plan, "encoder": {"model": "t"}})


def write_parts(folder: Path, ids: np.ndarray, columns: Mapping[str, Any], plan: Mapping[str, Any]) -> Path:
    """Write plan.json and part-*.parquet of some columns by id."""
    folder.mkdir(parents=True)
    size = 7
    head = {"format": 1, **plan, "count": len(ids), "part_size": size}
    head["ids_sha256"] = hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()
    (folder / "plan.json").write_text(json.dumps(head))
    table = pa.table({"id": pa.array(ids), **columns})
    for number, start in enumerate(range(0, len(ids), size)):
        pq.write_table(table.slice(start, size), folder / f"part-{number:05d}.parquet")
    return folder


def make_corpus(root: Path, count: int = 60, seed: int = 0) -> Corpus:
    """Plan and write a corpus of `count` captions, with ties among its vectors and some equal pictures."""
    r = np.random.default_rng(seed)
    ids = np.sort(r.choice(10**9, count, replace=False))
    rows, entities, pictures = [], [], {}
    for k, number in enumerate(ids.tolist()):
        names = sorted({NAMES[i] for i in r.integers(0, len(NAMES), r.integers(0, 3))})
        path = f"写真/{k:03d}.png"
        day = f"2020-{1 + k % 12:02d}-{1 + k % 28:02d}"
        rows.append(
            {
                "id": number,
                "caption": f'{"、".join(names)}の写真、{k}番。\n「引用」, "quoted"',
                "image_path": path,
                "outlet": OUTLETS[k % 3],
                "topic": TOPICS[k % 3],
                "time": "" if k % 11 == 0 else day,
                "article": f"https://example.jp/{k // 2}" if k % 5 else "",
                "has_person": str(k % 4 != 0).lower(),
                "section": f"面{k % 4}",
            }
        )
        entities.append([(name, LABELS[NAMES.index(name) % 4]) for name in names])
        pictures[path] = _picture(3 if k in (4, 9) else 100 + k)
    corpus = Corpus(root, rows, entities, pictures)
    text = r.standard_normal((count, 6)).astype(np.float32)
    text[::7] = text[0]  # ties
    image = (text + 0.5 * r.standard_normal((count, 6))).astype(np.float32)
    image[11] = image[30] * 2  # a copy, by its direction
    corpus.vectors = {"clip_text": text, "clip_image": image}
    corpus.write()
    return corpus


def _picture(seed: int) -> bytes:
    image = Image.frombytes("RGB", (4, 4), np.random.default_rng(seed).bytes(48))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
