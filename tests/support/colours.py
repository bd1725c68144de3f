"""A world of vectors whose labels need both sides: caption and picture have a colour each, pristine if they agree.

Nothing else tells: every caption is there once with each label, colours are as frequent in pristine as in falsified
rows, and so are pictures that occur once or twice. In the unlearnable world pictures show any colour.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from _newsclippings.facts import EMBEDDING_FOLDERS, EMBEDDINGS

OUTLETS = ("guardian", "bbc", "usa_today", "washington_post")
COLOURS, WIDTH, NOISE = 4, 16, 0.25
PAIRS = {"train": 600, "val": 200, "test": 1200}
DERANGED = [(1, 0, 3, 2), (1, 2, 3, 0), (1, 3, 0, 2), (2, 0, 3, 1), (2, 3, 0, 1), (2, 3, 1, 0), (3, 0, 1, 2),
            (3, 2, 0, 1), (3, 2, 1, 0)]  # fmt: skip


def write_colours(
    root: Path,
    *,
    learnable: bool,
    pairs: dict[str, int] | None = None,
    configs: Sequence[str] = ("merged_balanced",),
    shipped: bool = False,
) -> dict[str, str]:
    """Write matches and records below `root`, and vectors; return the location of those of each side.

    Args:
        root: the data_dir.
        learnable: whether pictures of pristine rows show the colour of the caption.
        pairs: official name of a split -> pairs, multiples of 8. Half of the falsified pictures belong to no caption.
        configs: the configs; each has its own pairs.
        shipped: write pickles of all the authors' kinds, too.
    """
    random = np.random.default_rng(5)
    centres = np.linalg.qr(random.normal(size=(WIDTH, COLOURS)))[0].T
    records: list[dict[str, Any]] = []
    vectors: dict[str, dict[str, dict[int, Any]]] = {"image": {}, "text": {}}

    def add(split: str, colour: int) -> int:
        number = 1000 + 7 * len(records)
        outlet = OUTLETS[random.integers(4)]
        path = f"./{outlet}/images/{number // 1000:04d}/{number % 1000:03d}.jpg"
        article = f"./{outlet}/articles/{number}.txt"
        records.append({"id": number, "caption": f"caption {number}", "topic": "x", "source": outlet,
                        "image_path": path, "article_path": article})  # fmt: skip
        shown = colour if learnable else int(random.integers(COLOURS))
        for side, centre in (("image", centres[shown]), ("text", centres[colour])):
            noisy = (centre + random.normal(0, NOISE / np.sqrt(WIDTH), WIDTH)).astype(np.float32)
            vectors[side].setdefault(split, {})[number] = noisy
        return number

    for config in configs:
        for split, count in (pairs or PAIRS).items():
            rows = []
            for block in range(count // COLOURS):
                own = [add(split, colour) for colour in range(COLOURS)]
                order = DERANGED[random.integers(len(DERANGED))]
                others = [own[k] for k in order] if block % 2 else [add(split, k) for k in order]
                for caption, other in zip(own, others, strict=True):
                    for image, score in ((caption, 1), (other, 0.5)):
                        rows.append({"id": caption, "image_id": image, "similarity_score": score,
                                     "source_dataset": block % 4, "falsified": image != caption})  # fmt: skip
            file = root / "news_clippings" / "data" / config / f"{split}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"annotations": rows}))
    origin = root / "visual_news" / "origin"
    origin.mkdir(parents=True)
    (origin / "data.json").write_text(json.dumps(records))
    if shipped:
        _write_pickles(root, vectors, random)
    places = {}
    for side, splits in vectors.items():
        numbers = {number: vector for some in splits.values() for number, vector in some.items()}
        np.save(root / f"{side}.npy", np.stack([*numbers.values()]))
        np.save(root / f"{side}.ids.npy", np.array([*numbers], np.int64))
        places[side] = str(root / f"{side}.npy")
    return places


def _write_pickles(root: Path, vectors: dict[str, dict[str, dict[int, Any]]], random: np.random.Generator) -> None:
    """Write the vectors as the authors' CLIP vectors, padded with zeros; other kinds are noise."""
    for kind, facts in EMBEDDINGS.items():
        folder = root / "news_clippings" / "embeddings" / EMBEDDING_FOLDERS[kind]
        folder.mkdir(parents=True)
        for split, some in vectors["image"].items():
            content: dict[int, Any] = {}
            for number in some:
                if kind.startswith("clip"):
                    side = kind.removeprefix("clip_")
                    content[number] = np.pad(vectors[side][split][number], (0, facts.width - WIDTH))
                else:
                    noise = random.normal(size=(number % 3, facts.width) if facts.several else facts.width)
                    content[number] = noise.astype(np.float32)
            (folder / f"{EMBEDDING_FOLDERS[kind]}_{split}.pkl").write_bytes(pickle.dumps(content, protocol=3))
