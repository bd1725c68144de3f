"""Join rows as dicts; shared by the contenders that write rows one by one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Records = dict[int, dict[str, Any]]

FILES = {"train": "train", "validation": "val", "test": "test"}
NUMBERS = {"index": "int32", "id": "int64", "image_id": "int64", "similarity_score": "float64"}
LABELS = {
    "falsified": ["pristine", "falsified"],
    "source_dataset": [
        "semantics_clip_text_image",
        "semantics_clip_text_text",
        "scene_resnet_place",
        "person_sbert_text_text",
    ],
}
TEXTS = ("caption", "image_path", "source", "topic", "image_source", "image_topic", "image_caption")


def load_records(data_json: Path) -> Records:
    """Load all records by id."""
    with open(data_json, encoding="utf-8") as file:
        return {record["id"]: record for record in json.load(file)}


def matches(data_dir: Path, config: str, split: str) -> list[dict[str, Any]]:
    """Load the matches of a split, by its name in `datasets`."""
    path = data_dir / "news_clippings" / "data" / config / f"{FILES[split]}.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    return rows


def joined(records: Records, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield rows with all columns but pictures."""
    for k, row in enumerate(rows):
        text, picture = records[row["id"]], records[row["image_id"]]
        yield {
            "index": k,
            "id": row["id"],
            "image_id": row["image_id"],
            "caption": text["caption"],
            "image_path": picture["image_path"].removeprefix("./"),
            "falsified": int(row["falsified"]),
            "similarity_score": float(row["similarity_score"]),
            "source_dataset": row.get("source_dataset", LABELS["source_dataset"].index("semantics_clip_text_text")),
            "source": text["source"],
            "topic": text["topic"],
            "image_source": picture["source"],
            "image_topic": picture["topic"],
            "image_caption": picture["caption"],
        }
