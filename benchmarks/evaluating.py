"""Measure how long `newsclippings evaluate` takes on the largest test split: `python -m benchmarks.evaluating`.

Matches and predictions are invented. The measures, their 2,000 bootstrap draws and the start of Python are counted.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from _newsclippings.facts import ROWS

CONFIG = "semantics_clip_text_text"


def write_inputs(folder: Path, rows: int) -> Path:
    """Write matches, and predictions of a model that is right in two of three rows; return the file of predictions."""
    random = np.random.default_rng(0)
    ids = random.permutation(1_259_732)[: rows // 2]
    matches = [
        {"id": int(ids[k // 2]), "image_id": int(ids[k // 2 - k % 2]), "similarity_score": 1.0, "falsified": k % 2 == 1}
        for k in range(rows)
    ]
    file = folder / "news_clippings" / "data" / CONFIG / "test.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"annotations": matches}))
    scores = 1 / (1 + np.exp(0.4 - random.normal(0.8 * (np.arange(rows) % 2), 1)))
    predictions = folder / "predictions.jsonl"
    predictions.write_text("".join(f'{{"index": {k}, "score": {score}}}\n' for k, score in enumerate(scores.tolist())))
    return predictions


def main() -> None:
    """Print CPU seconds and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        rows = ROWS[CONFIG]["test"] or 0
        command = [sys.executable, "-c", "from _newsclippings.cli import main; main()"]
        options = ["evaluate", str(write_inputs(Path(folder), rows)), "--config", CONFIG, "--data-dir", folder]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    print(f"{rows:,} rows: {seconds:.1f} CPU seconds, {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
