"""A world whose falsified pictures have a tint that a classifier can learn, or, for comparison, none."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

OUTLETS = ("guardian", "bbc", "usa_today", "washington_post")
COLOURS = {"pristine": (60, 90, 200), "falsified": (200, 90, 60)}


def write_world(root: Path, *, learnable: bool, pairs: dict[str, int]) -> None:
    """Write the official tree. Captions carry no information; pictures are noise, tinted if `learnable`.

    Args:
        root: the data_dir.
        learnable: whether the pictures of falsified rows have a tint.
        pairs: official name of a split -> number of pairs.
    """
    random = np.random.default_rng(0)
    records: list[dict[str, Any]] = []
    origin = root / "visual_news" / "origin"
    matches = root / "news_clippings" / "data" / "merged_balanced"
    matches.mkdir(parents=True)
    for split, count in pairs.items():
        rows: list[dict[str, Any]] = []
        for _ in range(count):
            ids = []
            for label in ("pristine", "falsified"):
                number = 1000 + len(records)
                outlet = OUTLETS[number // 2 % 4]
                path = f"./{outlet}/images/{number // 1000:04d}/{number % 1000:03d}.jpg"
                words = " ".join("".join(chr(97 + k) for k in random.integers(0, 26, 5)) for _ in range(6))
                records.append({"id": number, "caption": words, "topic": "x", "source": outlet, "image_path": path,
                                "article_path": f"./{outlet}/articles/{number}.txt"})  # fmt: skip
                tint = COLOURS[label] if learnable else (128, 128, 128)
                pixels = np.clip(np.array(tint) + random.normal(0, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "JPEG")
                (origin / path).parent.mkdir(parents=True, exist_ok=True)
                (origin / path).write_bytes(file.getvalue())
                ids.append(number)
            source = len(rows) // 2 % 4
            for image, score in ((ids[0], 1), (ids[1], 0.5)):
                rows.append({"id": ids[0], "image_id": image, "similarity_score": score, "source_dataset": source,
                             "falsified": image != ids[0]})  # fmt: skip
        (matches / f"{split}.json").write_text(json.dumps({"annotations": rows}))
    (origin / "data.json").write_text(json.dumps(records))
