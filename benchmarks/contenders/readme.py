"""The method of the authors' README: everything in dicts, nothing saved."""

import json
import time
from pathlib import Path
from typing import Any

from benchmarks.job import Job, Outcome

Rows = list[dict[str, Any]]


def _records(data_dir: Path) -> dict[int, dict[str, Any]]:
    with open(data_dir / "visual_news" / "origin" / "data.json", encoding="utf-8") as file:
        return {record["id"]: record for record in json.load(file)}


def _annotations(data_dir: Path, split: str, config: str = "merged_balanced") -> Rows:
    with open(data_dir / "news_clippings" / "data" / config / f"{split}.json", encoding="utf-8") as file:
        rows: Rows = json.load(file)["annotations"]
        return rows


def captions(job: Job) -> Outcome:
    """Look up the caption and the path of every row."""
    folder = job.corpus / "captions"
    records = _records(folder)
    rows = [
        (records[row["id"]]["caption"], records[row["image_id"]]["image_path"], row["falsified"])
        for split in ("train", "val", "test")
        for row in _annotations(folder, split)
    ]
    return {"rows": len(rows)}


def _first(job: Job, config: str) -> Outcome:
    start = time.perf_counter()
    folder = job.corpus / "captions"
    records = _records(folder)
    row = _annotations(folder, "train", config)[0]
    caption, _ = records[row["id"]]["caption"], records[row["image_id"]]["image_path"]
    return {"seconds": time.perf_counter() - start, "rows": int(bool(caption))}


def first_row(job: Job) -> Outcome:
    """Time from the start to the first row."""
    return _first(job, "merged_balanced")


def first_row_largest(job: Job) -> Outcome:
    """The same in the largest config."""
    return _first(job, "semantics_clip_text_text")


class Pairs:
    """A dataset of picture, caption and label, as most users of the data write it."""

    def __init__(self, data_dir: Path, split: str) -> None:
        self.origin = data_dir / "visual_news" / "origin"
        self.records = _records(data_dir)
        self.rows = _annotations(data_dir, split)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> tuple[Any, str, bool]:
        from PIL import Image

        row = self.rows[k]
        picture = Image.open(self.origin / self.records[row["image_id"]]["image_path"])
        return picture, self.records[row["id"]]["caption"], row["falsified"]


def picture_paths(job: Job) -> Outcome:
    """Open every picture of a split without decoding it."""
    pairs = Pairs(job.corpus / "pictures", "train")
    for k in range(len(pairs)):
        pairs[k][0].close()
    return {"rows": len(pairs)}


def read(job: Job) -> Outcome:
    """Decode the pictures of a split."""
    from benchmarks.contenders.decode import read_all

    pairs = Pairs(job.corpus / "pictures", "train")
    return read_all((pairs[k][0] for k in range(len(pairs))), job.limit)
