"""Official trees whose matches were made by a hidden recipe: naive, and without any code of the package."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SOURCES = {  # in the numbering of the official files: vectors of the caption, and of the candidates
    "semantics_clip_text_image": ("clip_text", "clip_image"),
    "semantics_clip_text_text": ("clip_text", "clip_text"),
    "scene_resnet_place": ("places", "places"),
    "person_sbert_text_text": ("sbert", "sbert"),
}
FOLDERS = {
    "clip_image": "clip_image_embeddings",
    "clip_text": "clip_text_embeddings",
    "sbert": "sbert_embeddings",
    "places": "places_resnet50",
}
NAMES = ("GPE", "ORG", "PERSON")
LABELS = (*NAMES, "CARDINAL", "DATE")
ENTITIES = dict.fromkeys(LABELS, 40)
OUTLETS = ("bbc", "guardian", "usa_today", "washington_post")
TOPICS = tuple(f"topic_{letter}" for letter in "abcdef")


@dataclass
class Hidden:
    """How the matches of a source were made.

    Attributes:
        centred: whether the vectors were centred before the cosine.
        differ: labels of which no entity is in common.
        share: labels of which one entity is in common.
        pool: `"split"`, `"outlet"`, `"topic"`, or a number: blocks of so many records in the metadata's order.
        uses: how often a picture is used; None: without a limit.
        floor: scores are at least this.
        closed: only captions are kept whose own picture is used by a caption that is kept.
        balanced: whole swaps are kept, so that CLIP prefers the falsified picture in half of the pairs.
        longest: only captions of at most so many words are kept; None: all.
        before: whether longer captions do not take part at all, and neither do their pictures.
        kept: share of the pairs that a filter kept, at random.
        form: how names are compared: `"exact"`, `"casefold"` or `"substring"`.
        noise: added to the scores of the file, so that no measure gives them.
    """

    centred: bool = False
    differ: tuple[str, ...] = LABELS
    share: tuple[str, ...] = ()
    pool: str | int = "split"
    uses: int | None = 1
    floor: float | None = None
    closed: bool = False
    balanced: bool = False
    longest: int | None = None
    before: bool = False
    kept: float = 1.0
    form: str = "casefold"
    noise: float = 0.0


@dataclass
class HiddenWorld:
    """Captions with entities, outlets, topics, times and vectors; and the pairs of each source."""

    ids: list[int]
    entities: list[list[tuple[str, str]]]
    outlets: list[int]
    topics: list[int]
    vectors: dict[str, Floats]
    pairs: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)

    def make(self, source: str, hidden: Hidden, seed: int) -> None:
        """Make the pairs of a source: all pairs from the best down, as long as caption and picture are free."""
        left, right = (self.vectors[kind] for kind in SOURCES[source])
        scores = (
            unit(left - left.mean(0) if hidden.centred else left)
            @ unit(right - right.mean(0) if hidden.centred else right).T
        )
        allowed = self._list_allowed(hidden) & (scores >= (-2 if hidden.floor is None else hidden.floor))
        most = len(LABELS) if hidden.longest is None else hidden.longest // 2 - 1
        short = np.array([len(each) <= most for each in self.entities])  # of a caption with two more words, see below
        rows, columns = np.nonzero(allowed & short[:, None] & short if hidden.before else allowed)
        order = np.lexsort((columns, rows, -scores[rows, columns]))
        used, done, pairs = np.zeros(len(self.ids), int), set[int](), []
        for i, j in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
            if i not in done and (hidden.uses is None or used[j] < hidden.uses):
                done.add(i)
                used[j] += 1
                pairs.append((i, j, float(scores[i, j])))
        pairs = _close(pairs) if hidden.closed else pairs
        pairs = (
            _balance(pairs, unit(self.vectors["clip_text"]) @ unit(self.vectors["clip_image"]).T)
            if hidden.balanced
            else pairs
        )
        pairs = [pair for pair in pairs if short[pair[0]]]
        rng = np.random.default_rng(seed)
        kept = [pair for pair in sorted(pairs) if rng.random() < hidden.kept]
        self.pairs[source] = [(i, j, score + hidden.noise * rng.normal()) for i, j, score in kept]

    def _list_allowed(self, hidden: Hidden) -> npt.NDArray[np.bool_]:
        count = len(self.ids)
        group: Callable[[int], int] = {
            "split": lambda k: 0,
            "outlet": self.outlets.__getitem__,
            "topic": self.topics.__getitem__,
        }.get(str(hidden.pool), lambda k: k // int(hidden.pool))
        fold: Callable[[str], str] = str if hidden.form == "exact" else str.casefold
        sets = [
            [{fold(text) for text, label in each if label in labels} for each in self.entities]
            for labels in (hidden.differ, hidden.share)
        ]
        allowed = np.zeros((count, count), bool)
        for i in range(count):
            for j in range(count):
                allowed[i, j] = (
                    i != j
                    and group(i) == group(j)
                    and not _meet(sets[0][i], sets[0][j], hidden.form == "substring")
                    and (not hidden.share or bool(sets[1][i] & sets[1][j]))
                )
        return allowed

    def write(self, root: Path, merged: bool = False, split: str = "val") -> None:
        """Write the official tree; `merged`: as many pairs of each source, each caption in one of them only."""
        folder = root / "news_clippings"
        metadata = {str(number): self._record(k) for k, number in enumerate(self.ids)}
        _write(folder / "metadata" / f"{split}.json", json.dumps(metadata).encode())
        for kind, vectors in self.vectors.items():
            content = {self.ids[k]: vectors[k].astype(np.float32) for k in range(len(self.ids))}
            name = FOLDERS[kind]
            _write(folder / "embeddings" / name / f"{name}_{split}.pkl", pickle.dumps(content, protocol=3))
        for source, pairs in self.pairs.items():
            _write(folder / "data" / source / f"{split}.json", self._matches({source: pairs}, False))
        if merged:
            free, chosen = set(range(len(self.ids))), {}
            for source in sorted(self.pairs, key=lambda source: len(self.pairs[source])):
                mine = [pair for pair in self.pairs[source] if pair[0] in free]
                chosen[source] = mine[:: max(1, len(self.pairs))]
                free -= {pair[0] for pair in chosen[source]}
            least = min(map(len, chosen.values()))
            chosen = {source: pairs[:least] for source, pairs in chosen.items()}
            _write(folder / "data" / "merged_balanced" / f"{split}.json", self._matches(chosen, True))

    def _matches(self, pairs: dict[str, list[tuple[int, int, float]]], named: bool) -> bytes:
        rows = []
        for source, several in pairs.items():
            extra = {"source_dataset": [*SOURCES].index(source)} if named else {}
            for i, j, score in several:
                true = {"id": self.ids[i], "image_id": self.ids[i], "similarity_score": 1, **extra, "falsified": False}
                false = {"image_id": self.ids[j], "similarity_score": round(score, 6), "falsified": True}
                rows += [true, {**true, **false}]
        names = {str(number): name for number, name in enumerate(SOURCES)}
        return json.dumps({"source_datasets": names, "annotations": rows}).encode()

    def _record(self, k: int) -> dict[str, Any]:
        outlet, number = OUTLETS[self.outlets[k]], self.ids[k]
        time = datetime(2012, 1, 1) + timedelta(hours=(number * 7919) % 20_000)
        return {
            "id": number,
            "caption": " ".join(["Caption", *(text for text, _ in self.entities[k]), str(number)]),
            "image_path": f"visual_news/origin/{outlet}/images/0001/{number}.jpg",
            "article_path": f"visual_news/origin/{outlet}/articles/{number}.txt",
            "full_article_path": f"visual_news/articles/{outlet}/{number}.json",
            "caption_entities_spacy": [list(entity) for entity in self.entities[k]],
            "caption_entities_rel": [[text.replace(" ", "_"), "MISC", text, 0.9] for text, _ in self.entities[k][:1]],
            "image_has_person": any(label == "PERSON" for _, label in self.entities[k]),
            "topic": TOPICS[self.topics[k]],
            "source": outlet,
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "title": None,
            "title_entities_spacy": [],
        }


def _meet(one: set[str], other: set[str], parts: bool) -> bool:
    return any(a in b or b in a for a in one for b in other) if parts else bool(one & other)


def _close(pairs: list[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    """Keep pairs whose caption's own picture is used, as long as one is lost by it."""
    while True:
        used = {j for _, j, _ in pairs}
        kept = [pair for pair in pairs if pair[0] in used]
        if len(kept) == len(pairs):
            return pairs
        pairs = kept


def _balance(pairs: list[tuple[int, int, float]], clip: Floats) -> list[tuple[int, int, float]]:
    """Keep swaps: those that CLIP gets half right, and as many of each other kind, nearly equal ones and others."""
    picture = {i: j for i, j, _ in pairs}
    kinds: dict[int, list[tuple[float, int, int]]] = {wins: [] for wins in (-2, -1, 0, 1, 2)}
    for i, j in sorted(picture.items()):
        if i < j and picture.get(j) == i:
            margins = [float(clip[a, b] - clip[a, a]) for a, b in ((i, j), (j, i))]
            kinds[int(sum(np.sign(margins)))].append((abs(sum(margins)), i, j))
    chosen = [*kinds[0]]
    for wins in (1, 2):
        count = min(len(kinds[wins]), len(kinds[-wins]))
        for kind in (sorted(kinds[wins]), sorted(kinds[-wins])):
            chosen += [kind[(n * len(kind) + len(kind) // 2) // count] for n in range(count)]
    kept = {caption for _, i, j in chosen for caption in (i, j)}
    return [pair for pair in pairs if pair[0] in kept]


def unit(vectors: Floats) -> Floats:
    normed: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return normed


def invent_world(count: int, seed: int, widths: tuple[int, int, int] = (24, 28, 32)) -> HiddenWorld:
    """Captions of events of topics, whose entities are common among neighbours; vectors lie in a cone."""
    rng = np.random.default_rng(seed)
    events = rng.integers(0, max(2, count // 6), count)
    topic_of = rng.integers(0, len(TOPICS), count)
    entities = []
    for k in range(count):
        labels = sorted(set(rng.choice(LABELS, rng.integers(2, 6)).tolist()))
        near = rng.random(len(labels)) < 0.6  # of the event, and so of the neighbours
        pairs = zip(labels, near.tolist(), strict=True)
        entities.append(
            [(_name(label, int(events[k] if mine else rng.integers(0, 1000))), label) for label, mine in pairs]
        )
    vectors = {}
    for kind, width in zip(("clip", "sbert", "places"), widths, strict=True):
        cone, centres = rng.normal(size=width), rng.normal(size=(events.max() + 1, width))
        topics = rng.normal(size=(len(TOPICS), width))
        same = 2 * cone + 0.6 * topics[topic_of[events]] + centres[events]
        for name in ("clip_text", "clip_image") if kind == "clip" else (kind,):
            vectors[name] = same + 0.9 * rng.normal(size=(count, width)) + 0.5 * rng.normal(size=width)
    ids = rng.permutation(count * 3)[:count] + 1000
    outlets = rng.integers(0, len(OUTLETS), count)
    return HiddenWorld(ids.tolist(), entities, outlets.tolist(), topic_of[events].tolist(), vectors)


def vary(world: HiddenWorld, seed: int) -> None:
    """Write a part of the names in capitals, and of others only the end."""
    rng = np.random.default_rng(seed)
    for k, entities in enumerate(world.entities):
        ways = rng.integers(0, 3, len(entities)).tolist()
        world.entities[k] = [
            ((text, text.upper(), text.partition(" ")[2])[way], label)
            for (text, label), way in zip(entities, ways, strict=True)
        ]


def _name(label: str, number: int) -> str:
    return f"{label.title()} {'abcdefghijklmnopqrstuvwxyz'[number % 26]}{number % ENTITIES[label]:02d}x"


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
