"""The planned vectors of a small world, and pickles of them like the authors'."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from _newsclippings.facts import EMBEDDING_FOLDERS, EMBEDDINGS
from support.world import SPLITS, World

Vectors = dict[int, Any]
Plan = dict[str, dict[str, Vectors]]  # kind -> split -> id -> vector (float32), faces, or None
FILES = {"train": "train", "validation": "val", "test": "test"}


def vector(kind: str, number: int) -> Any:
    """The planned vector of an id: exact in float16, different for each id and kind."""
    width = EMBEDDINGS[kind].width
    values = ((np.arange(width) * 7 + number * 13 + len(kind)) % 1024 - 512) / 64
    return values.astype(np.float32)


def make_plan(world: World, config: str = "merged_balanced") -> Plan:
    """A vector for every id except some; for faces, None or any number of them."""
    plan: Plan = {}
    for kind, about in EMBEDDINGS.items():
        plan[kind] = {}
        for split in SPLITS:
            ids = sorted({row[about.key] for row in world.rows(config, split)})
            some: Vectors = {n: vector(kind, n) for n in ids[1:]}  # the first id has none
            if about.several:
                some = {
                    n: None if n % 4 == 0 else np.stack([v] * (n % 4 - 1) or [v])[: n % 4 - 1] for n, v in some.items()
                }
            plan[kind][split] = some
    return plan


def write(
    world: World, plan: Plan, how: Callable[[Any], Any] = lambda v: v, *, short: bool = False, protocol: int = 3
) -> None:
    """Write the plan like the authors' files; `how` changes each array, `short` uses the names of their README."""
    for kind, splits in plan.items():
        folder = world.root / "news_clippings" / "embeddings" / EMBEDDING_FOLDERS[kind]
        folder.mkdir(parents=True, exist_ok=True)
        for split, vectors in splits.items():
            name = f"{FILES[split]}.pkl" if short else f"{EMBEDDING_FOLDERS[kind]}_{FILES[split]}.pkl"
            content = {n: None if v is None else how(v) for n, v in vectors.items()}
            (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))


def same(found: Any, expected: Any) -> bool:
    """Whether two values are equal to the bit; None and empty are different."""
    if expected is None or found is None:
        return found is None and expected is None
    return bool(np.array_equal(np.asarray(found, np.float32).reshape(np.shape(expected)), expected))
