"""A small corpus with entities and vectors, in another language, and what must be generated from it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from _newsclippings.facts import EMBEDDINGS
from _newsclippings.generate import Method, Recipe, generate
from support.matching import dot, unit
from support.world import World

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
    rows[20]["caption"] = rows[8]["caption"].replace("\n", "  ")  # a caption that is there twice
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


# What must be made, by looking at every pair


def groups_by_hand(corpus: Corpus, *, whole: bool) -> list[int]:
    """The group of each caption, as the position of its first: those with copies of one picture, or, if `whole`, also
    those with one caption or article, which stay in one split."""
    parent = list(range(len(corpus.rows)))

    def find(k: int) -> int:
        while parent[k] != k:
            k = parent[k]
        return k

    image = unit(corpus.vectors["clip_image"]) if "clip_image" in corpus.vectors else None
    for i, one in enumerate(corpus.rows):
        for j, other in enumerate(corpus.rows[:i]):
            same = one["image_path"] == other["image_path"]
            same |= corpus.pictures[one["image_path"]] == corpus.pictures[other["image_path"]]
            same |= image is not None and dot(image[i], image[j]) >= 0.95
            if whole:
                same |= " ".join(one["caption"].split()) == " ".join(other["caption"].split())
                same |= bool(one["article"]) and one["article"] == other["article"]
            if same:
                first, second = sorted((find(i), find(j)))
                parent[second] = first
    return [find(k) for k in range(len(parent))]


def splits_by_hand(corpus: Corpus, shares: Mapping[str, float]) -> dict[str, list[int]]:
    """Split -> positions, by a hash of the smallest id of each group."""
    splits: dict[str, list[int]] = {split: [] for split in shares}
    for k, first in enumerate(groups_by_hand(corpus, whole=True)):
        drawn = int(hashlib.sha256(str(corpus.ids[first]).encode()).hexdigest()[:16], 16) / 2**64
        below = 0.0
        for split, share in shares.items():
            below += share
            if drawn < below or split == [*shares][-1]:
                splits[split].append(k)
                break
    return splits


def matches_by_hand(corpus: Corpus, method: Method, some: list[int]) -> list[tuple[int, int, float]]:
    """The matches of some captions by a method: caption, picture and score, from the best pair down."""
    rule, rows = method.rule, corpus.rows
    query, against = (unit(corpus.vectors[name]) for name in (method.query, method.against))
    copies = groups_by_hand(corpus, whole=False)
    every = {label for each in corpus.entities for _, label in each}

    def names(k: int, labels: tuple[str, ...], but: tuple[str, ...] = ()) -> set[str]:
        chosen = every - {*but} if "*" in labels else {*labels}
        return {text for text, label in corpus.entities[k] if label in chosen}

    def value(k: int, column: str) -> str:
        return str(rows[k].get(column, ""))

    def apart(i: int, j: int) -> float:
        days = [date.fromisoformat(rows[k]["time"]) if rows[k]["time"] else None for k in (i, j)]
        return math.nan if days[0] is None or days[1] is None else abs((days[0] - days[1]).days)

    def allowed(i: int, j: int) -> bool:
        score = dot(query[i], against[j])
        return (
            i != j
            and copies[i] != copies[j]
            and (not rule.share or bool(names(i, rule.share) & names(j, rule.share)))
            and not (rule.differ and names(i, rule.differ, rule.share) & names(j, rule.differ, rule.share))
            and not (rule.without and (names(i, rule.without) or names(j, rule.without)))
            and all(value(i, name) == value(j, name) != "" for name in rule.same)
            and all(value(i, name) != value(j, name) and value(i, name) and value(j, name) for name in rule.other)
            and (rule.gap is None or apart(i, j) >= int(rule.gap[:-1]))
            and (rule.within is None or apart(i, j) <= int(rule.within[:-1]))
            and (rule.picture is None or rows[j]["has_person"] == "true")
            and (rule.cap is None or score < rule.cap)
            and (rule.floor is None or score >= rule.floor)
        )

    pairs = sorted((-dot(query[i], against[j]), i, j) for i in some for j in some if allowed(i, j))
    found: dict[int, tuple[int, float]] = {}
    for score, i, j in pairs:
        uses = sum(picture == j for picture, _ in found.values())
        if i not in found and (method.uses is None or uses < method.uses):
            found[i] = j, -score
    while method.closed:
        shown = {j for j, _ in found.values()}
        kept = {i: match for i, match in found.items() if i in shown and match[0] in found}
        if len(kept) == len(found):
            break
        found = kept
    return [(i, j, score) for i, (j, score) in sorted(found.items())]


def rows_by_hand(corpus: Corpus, recipe: Recipe, shares: Mapping[str, float]) -> dict[str, list[Row]]:
    """Split -> the rows of its file, of a recipe that merges nothing."""
    made = {}
    for split, some in splits_by_hand(corpus, shares).items():
        pairs = [
            (corpus.ids[i], k, corpus.ids[j], score)
            for k, method in enumerate(recipe.methods)
            for i, j, score in matches_by_hand(corpus, method, some)
        ]
        made[split] = [
            {"id": i, "image_id": other, "similarity_score": value, "source_dataset": k, "falsified": label}
            for i, k, j, score in sorted(pairs)
            for other, value, label in ((i, 1, False), (j, score, True))
        ]
    return made


def make_visual_news(origin: Path, corpus: Corpus) -> Corpus:
    """Write a corpus as a folder with data.json, in the form of VisualNews, and return its plan."""
    for row in corpus.rows:
        row["topic"] = row["topic"] or "その他"
    records = [
        {
            "id": row["id"],
            "caption": row["caption"],
            "topic": row["topic"],
            "source": row["outlet"],
            "image_path": f"./{row['image_path']}",
            "article_path": f"./articles/{k // 2}.txt",
        }
        for k, row in enumerate(corpus.rows)
    ]
    corpus.root = origin
    for path, data in corpus.pictures.items():
        (origin / path).parent.mkdir(parents=True, exist_ok=True)
        (origin / path).write_bytes(data)
    (origin / "data.json").write_text(json.dumps(records))
    return corpus


def make_kinds(world: World, kind: str) -> dict[str, dict[int, Any]]:
    """Random vectors of one of the authors' kinds, for all captions of a world."""
    width = EMBEDDINGS[kind].width
    r = np.random.default_rng(len(kind))
    return {
        split: {number: r.standard_normal(width).astype(np.float32) for number in sorted(pool)}
        for split, pool in world.pools.items()
    }


# A generated config, as other commands take it

METHODS = ["clip_text_image", "clip_text_text"]
RECIPE = """
config = "mine"
merge = "balanced"
splits = {train = 0.5, validation = 0.2, test = 0.3}
[[method]]
name = "clip_text_image"
[[method]]
name = "clip_text_text"
closed = true
"""


class Made:
    """A generated config, and the plan of its corpus."""

    def __init__(self, folder: Path) -> None:
        self.corpus = make_corpus(folder / "corpus")
        vectors = {
            name: self.corpus.write_vectors(name, folder / name, of)
            for name, of in (("clip_text", "captions"), ("clip_image", "pictures"))
        }
        (folder / "recipe.toml").write_text(RECIPE)
        self.out = folder / "out"
        entities = self.corpus.write_entities(folder / "entities")
        generate(self.out, folder / "recipe.toml", corpus=self.corpus.table, vectors=vectors, entities=entities)

    def rows(self, split: str) -> list[Row]:
        return planned_rows(self.out, self.corpus, split)


def planned_rows(out: Path, corpus: Corpus, split: str, config: str = "mine") -> list[Row]:
    """The rows that loading must give, from the file of matches and the plan of the corpus."""
    name = {"validation": "val"}.get(split, split)
    content = json.loads((out / f"news_clippings/data/{config}/{name}.json").read_bytes())
    by_id = {row["id"]: row for row in corpus.rows}
    rows = []
    for index, match in enumerate(content["annotations"]):
        text, picture = by_id[match["id"]], by_id[match["image_id"]]
        rows.append(
            {
                "index": index,
                "id": match["id"],
                "image_id": match["image_id"],
                "caption": text["caption"],
                "image": {"bytes": corpus.pictures[picture["image_path"]], "path": None},
                "image_path": picture["image_path"],
                "falsified": int(match["falsified"]),
                "similarity_score": float(match["similarity_score"]),
                "source_dataset": match["source_dataset"],
                "source": text["outlet"],
                "topic": text["topic"],
                "image_source": picture["outlet"],
                "image_topic": picture["topic"],
                "image_caption": picture["caption"],
            }
        )
    return rows
