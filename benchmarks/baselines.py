"""Measure how long `newsclippings benchmark` takes at full size: `python -m benchmarks.baselines SEEDS NAME...`.

Matches and vectors (2 x 512 numbers) are invented, of merged_balanced's 85,360 rows: the vector of a caption has a
little of that of its own picture. Reading, training on all seeds, and measuring are counted.
"""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from _newsclippings.facts import DEFAULT_CONFIG, ROWS, SPLITS
from _newsclippings.suite import benchmark

WIDTH = 512
SIGNAL = 0.03  # share of the picture in the caption's vector: a cosine gets about two of three rows right


def write_world(root: Path) -> dict[str, str]:
    """Write matches, records and vectors; return the location of those of each side."""
    random = np.random.default_rng(0)
    records, first = [], 1
    for split, count in ROWS[DEFAULT_CONFIG].items():
        pairs = (count or 0) // 2
        ids = np.arange(first, first + pairs)
        first += pairs
        others = np.roll(ids, 1)
        rows = [
            {"id": own, "image_id": image, "similarity_score": 1 if own == image else 0.5, "source_dataset": k % 4,
             "falsified": own != image}
            for k, (one, other) in enumerate(zip(ids.tolist(), others.tolist(), strict=True))
            for own, image in ((one, one), (one, other))
        ]  # fmt: skip
        file = root / "news_clippings" / "data" / DEFAULT_CONFIG / f"{SPLITS[split]}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"annotations": rows}))
        records += [
            {"id": k, "caption": f"caption {k}", "topic": "x", "source": "bbc", "image_path": f"./bbc/images/0/{k}.jpg",
             "article_path": f"./bbc/articles/{k}.txt"}
            for k in ids.tolist()
        ]  # fmt: skip
    origin = root / "visual_news" / "origin"
    origin.mkdir(parents=True)
    (origin / "data.json").write_text(json.dumps(records))
    image = random.normal(size=(first - 1, WIDTH)).astype(np.float32)
    text = (SIGNAL * image + random.normal(size=image.shape)).astype(np.float32)
    places = {}
    for side, vectors in (("image", image), ("text", text)):
        np.save(root / f"{side}.npy", vectors)
        np.save(root / f"{side}.ids.npy", np.arange(1, first))
        places[side] = str(root / f"{side}.npy")
    return places


def main(seeds: int, names: list[str]) -> None:
    """Print seconds, CPU seconds and peak memory of each baseline, and its table."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        places = write_world(root / "data")
        for name in names:
            before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            found = benchmark(name, seeds=seeds, vectors=places, data_dir=root / "data", out=root / "out")
            after = resource.getrusage(resource.RUSAGE_SELF)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            passed = time.perf_counter() - start
            print(found.table())
            print(
                f"{name}: {passed:.0f} s, {used:.0f} CPU seconds, peak {after.ru_maxrss / 1024:,.0f} MiB\n", flush=True
            )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
