"""A small NewsCLIPpings and VisualNews: real names, nesting and quirks, invented content.

`make_world` plans captions, pictures and matches from a seed and writes them as the official tree. The plan
can be changed: alter `records`, `pictures` or `matches`, write the file again, and `World.rows` gives what a
correct loader must give.
"""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.dialects import DIALECTS, dump
from support.invent import (
    CONFIGS,
    OUTLETS,
    PAIRS,
    SOURCES,
    SPLITS,
    Match,
    Record,
    Row,
    invent_matches,
    invent_picture,
    invent_record,
)

__all__ = [
    "CONFIGS",
    "DIALECTS",
    "OUTLETS",
    "PAIRS",
    "SOURCES",
    "SPLITS",
    "Match",
    "Record",
    "Row",
    "World",
    "make_world",
]


@dataclass
class World:
    """The plan of everything below `root`."""

    root: Path
    records: dict[int, Record] = field(default_factory=dict)  # in the order of data.json
    pictures: dict[str, bytes] = field(default_factory=dict)
    matches: dict[tuple[str, str], list[Match]] = field(default_factory=dict)
    pools: dict[str, list[int]] = field(default_factory=dict)

    @property
    def origin(self) -> Path:
        return self.root / "visual_news" / "origin"

    @property
    def tar(self) -> Path:
        return self.root / "visual_news" / "origin.tar"

    @property
    def data_json(self) -> Path:
        return self.origin / "data.json"

    def annotations(self, config: str, split: str) -> Path:
        return self.root / "news_clippings" / "data" / config / f"{SPLITS[split]}.json"

    def metadata(self, split: str) -> Path:
        return self.root / "news_clippings" / "metadata" / f"{SPLITS[split]}.json"

    # The rows of a correct loader

    def rows(
        self,
        config: str = "merged_balanced",
        split: str = "train",
        *,
        captions: str = "origin",
        images: str = "bytes",
        pictures: Iterable[str] | None = None,
        missing: str = "null",
    ) -> list[Row]:
        """The expected rows of a split; `pictures` names the readable paths (default: all in the plan)."""
        there = set(self.pictures if pictures is None else pictures)
        rows = [self._row(i, m, captions, images, there) for i, m in enumerate(self.matches[config, split])]
        if missing == "drop_pair":
            whole = [r["caption"] is not None and r["image_path"] is not None for r in rows]
            if images != "none":
                whole = [w and r["image"] is not None for w, r in zip(whole, rows, strict=True)]
            rows = [r for i, r in enumerate(rows) if whole[i] and whole[i ^ 1]]
        return rows

    def _row(self, index: int, match: Match, captions: str, images: str, there: set[str]) -> Row:
        text, picture = self.records.get(match.id), self.records.get(match.image_id)
        path = picture.image_path if picture else None
        image: Row | None = None
        if path in there and path is not None:
            image = {"bytes": self.pictures[path], "path": None}
            if images == "path":
                image = {"bytes": None, "path": str(self.origin / path)}
        row: Row = {
            "index": index,
            "id": match.id,
            "image_id": match.image_id,
            "caption": text and (text.caption if captions == "origin" else text.short),
            "image": image,
            "image_path": path,
            "falsified": int(match.falsified),
            "similarity_score": float(match.score),
            "source_dataset": SOURCES.index(match.source),
            "source": text and text.source,
            "topic": text and text.topic,
            "image_source": picture and picture.source,
            "image_topic": picture and picture.topic,
            "image_caption": picture and (picture.caption if captions == "origin" else picture.short),
        }
        if images == "none":
            del row["image"]
        return row

    def used_once(self, config: str = "merged_balanced", split: str = "train") -> Record:
        """A record that one falsified row of the split shows and no other row uses."""
        matches = self.matches[config, split]
        for match in matches:
            uses = [m for m in matches if match.image_id in (m.id, m.image_id)]
            if match.falsified and uses == [match]:
                return self.records[match.image_id]
        raise LookupError("the plan has no such record")

    # Writing

    def write_annotations(
        self,
        config: str = "merged_balanced",
        *,
        source_datasets: str = "dict",
        source_dataset: bool | None = None,
        label: type = bool,
        score: type | None = None,
        dialect: str = "official",
    ) -> None:
        """Write the three files of a config. `source_datasets`: dict, list, absent or renumbered."""
        numbered = SOURCES[::-1] if source_datasets == "renumbered" else SOURCES
        tables: dict[str, Row] = {
            "dict": {"source_datasets": {str(i): name for i, name in enumerate(numbered)}},
            "renumbered": {"source_datasets": {str(i): name for i, name in enumerate(numbered)}},
            "list": {"source_datasets": list(numbered)},
            "absent": {},
        }
        with_column = config == "merged_balanced" if source_dataset is None else source_dataset
        for split in SPLITS:
            rows = []
            for m in self.matches[config, split]:
                row: Row = {"id": m.id, "image_id": m.image_id}
                row["similarity_score"] = score(m.score) if score and m.score == 1 else m.score
                if with_column:
                    row["source_dataset"] = numbered.index(m.source)
                rows.append({**row, "falsified": label(m.falsified)})
            top = tables[source_datasets if with_column or source_dataset is False else "absent"]
            text = dump({**top, "annotations": rows}, dialect)
            _write(self.annotations(config, split), text.encode())

    def data_json_bytes(self, dialect: str = "official") -> bytes:
        entries = []
        for r in self.records.values():
            entry: Row = {"id": r.id, "caption": r.caption, "topic": r.topic, "source": r.source}
            entry |= {"image_path": f"./{r.image_path}", "article_path": f"./{r.source}/articles/{r.id}.txt"}
            entries.append(entry)
        return dump(entries, dialect).encode()

    def write_data_json(self, dialect: str = "official") -> None:
        _write(self.data_json, self.data_json_bytes(dialect))

    def write_metadata(self, dialect: str = "official") -> None:
        for split, pool in self.pools.items():
            entries = {}
            for r in (self.records[i] for i in pool if i in self.records):
                article = f"visual_news/origin/{r.source}/articles/{r.id}.txt"
                entries[str(r.id)] = {
                    "id": r.id,
                    "caption": r.short,
                    "image_path": f"visual_news/origin/{r.image_path}",
                    "article_path": article,
                    "full_article_path": r.full_article_path,
                    "caption_entities_spacy": [["Celtic", "NORP"], ["}, {", "PERSON"]],
                    "caption_entities_rel": [["Anthony_Stokes", "PER", "Anthony Stokes", 0.9918]],
                    "image_has_person": r.id % 2 == 0,
                    "topic": r.topic,
                    "source": r.source,
                    "timestamp": r.timestamp,
                    "title": r.title,
                }
                if r.title is not None:
                    entries[str(r.id)]["title_entities_spacy"] = [["Title", "ORG"], ["}, {", "GPE"]]
            _write(self.metadata(split), dump(entries, dialect).encode())

    def write_folder(self) -> None:
        self.write_data_json()
        for path, picture in self.pictures.items():
            _write(self.origin / path, picture)
        for r in self.records.values():
            _write(self.origin / r.source / "articles" / f"{r.id}.txt", f"Article {r.id}.\n".encode())

    def full_articles(self) -> dict[str, bytes]:
        """Path below `visual_news` -> content of the original articles; several records share one."""
        articles = {r.full_article_path.removeprefix("visual_news/") for r in self.records.values()}
        return {path: f'{{"url": "{path}",\n "text": "Überraschung 🦊"}}\n'.encode() for path in sorted(articles)}

    def write_full_articles(self) -> None:
        for path, article in self.full_articles().items():
            _write(self.root / "visual_news" / path, article)

    def write_full_articles_tar(self, path: Path | None = None, prefix: str = "") -> Path:
        path = path or self.root / "visual_news" / "articles.tar"
        with tarfile.open(path, "w") as tar:
            for name, article in self.full_articles().items():
                info = _info(prefix + name, tarfile.REGTYPE)
                info.size = len(article)
                tar.addfile(info, io.BytesIO(article))
        return path

    def write_tar(
        self,
        path: Path | None = None,
        *,
        prefix: str = "origin/",
        fmt: int = tarfile.GNU_FORMAT,
        data_json: str = "middle",
        dialect: str = "official",
        text: bytes | None = None,
        pax: bool = False,
        extra: Sequence[tuple[tarfile.TarInfo, bytes]] = (),
    ) -> list[tarfile.TarInfo]:
        """Write origin.tar, bbc first; `data_json` is first, middle, last or absent. Returns the members."""
        text = text or self.data_json_bytes(dialect)
        path = path or self.tar
        path.parent.mkdir(parents=True, exist_ok=True)
        files = dict(sorted(self.pictures.items()))
        for r in self.records.values():
            files[f"{r.source}/articles/{r.id}.txt"] = f"Article {r.id}.\n".encode()
        ordered = sorted(files, key=lambda name: (name.split("/")[0], name))
        if data_json != "absent":
            files["data.json"] = text
            ordered.insert({"first": 0, "middle": len(ordered) // 2, "last": len(ordered)}[data_json], "data.json")
        comment = {"comment": "a world"} if pax else None
        with tarfile.open(path, "w", format=fmt, pax_headers=comment) as tar:
            seen: set[str] = set()
            for n, name in enumerate(ordered):
                if n == len(ordered) // 2:
                    for info, data in extra:
                        tar.addfile(info, io.BytesIO(data))
                member = prefix + name
                for parent in reversed(Path(member).parents[:-1]):
                    folder = ("./" if prefix.startswith("./") else "") + parent.as_posix() + "/"
                    if folder not in seen:
                        seen.add(folder)
                        tar.addfile(_info(folder, tarfile.DIRTYPE))
                info = _info(member, tarfile.REGTYPE)
                info.size = len(files[name])
                if pax:
                    info.mtime = 1.5  # not an integer, so that every member gets a PAX header
                tar.addfile(info, io.BytesIO(files[name]))
        with tarfile.open(path) as tar:
            return tar.getmembers()


_tars: dict[tuple[Any, ...], bytes] = {}  # what a world was made of -> its tar, which is the same each time


def make_world(
    root: Path,
    *,
    folder: bool = True,
    tar: bool = True,
    metadata: bool = True,
    pairs: dict[str, int] | None = None,
    seed: int = 0,
    long_paths: bool = False,
) -> World:
    """Plan a world and write it below `root` as the official tree."""
    rng, pairs, world = random.Random(seed), pairs or PAIRS, World(root)
    sizes = {split: 2 * n + 2 for split, n in pairs.items()}
    orphans = 15  # VisualNews has many more pictures than are matched
    ids = rng.sample(range(39136, 1686700), sum(sizes.values()) + orphans)
    records = [invent_record(rng, n, i, ids, long_paths) for n, i in enumerate(ids)]
    world.pictures = {r.image_path: invent_picture(seed, n) for n, r in enumerate(records)}
    for split, size in sizes.items():
        world.pools[split] = [ids.pop() for _ in range(size)]
        for config, matches in invent_matches(rng, world.pools[split], pairs[split]).items():
            world.matches[config, split] = matches
    rng.shuffle(records)
    world.records = {r.id: r for r in records}
    for config in CONFIGS:
        world.write_annotations(config)
    if folder:
        world.write_folder()
    if tar:
        plan = (seed, tuple(pairs.items()), long_paths)
        if plan not in _tars:
            world.write_tar()
            _tars[plan] = world.tar.read_bytes()
        _write(world.tar, _tars[plan])
    if metadata:
        world.write_metadata()
    return world


def _info(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def paths_of(world: World, config: str = "merged_balanced") -> list[str]:
    """The pictures that a config needs."""
    return sorted({row["image_path"] for split in SPLITS for row in world.rows(config, split)})
