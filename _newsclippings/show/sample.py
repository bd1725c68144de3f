"""Write the bundled sample: a small true world in the official layout, from photographs that anybody may use.

Captions are true, and so are the mismatches: a falsified row shows another photograph of the same split. Outlets,
topics, sub-splits and ids are only labels here, there to give the files their real shape. The similarity score of a
falsified row is the share of words that its two captions have in common, no measure of the paper.
"""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any, Final

from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, OUTLETS, SOURCE_DATASETS, SPLITS
from _newsclippings.storage import foreign_output, read_file, write_atomically

PHOTOS: Final = Path(__file__).parent / "photos"
TITLE: Final = "# A sample of NewsCLIPpings"
PAIRS: Final = {"train": 12, "validation": 4, "test": 8}  # of merged_balanced: as many of each sub-split

README: Final = f"""{TITLE}

Real photographs, in the public domain or under CC0 (see SOURCES.md), with true captions, in the layout of the official
files. **Outlets, topics, sub-splits and ids are only labels here**: none of the pictures was published by the outlet
that its path names. A falsified row shows another photograph of the sample; its score is the share of words that the
two captions have in common.

    visual_news/origin/...         pictures, articles and data.json, extracted
    visual_news/origin.tar         the same as a tar
    news_clippings/data/...        the matches of all five configs
    news_clippings/metadata/...    captions with entities, as on the Hub
"""


def write_sample(folder: Path) -> Path:
    """Write the sample below a folder, the same bytes each time; other files that came there since stay.

    Args:
        folder: a new or empty folder, or one that holds the sample already.

    Returns:
        The folder: pass it as `data_dir`.

    Raises:
        ConfigError: the folder holds something else, or links, or files of the sample that were changed since.
    """
    readme = folder / "README.md"
    is_sample = readme.is_file() and readme.read_bytes().startswith(TITLE.encode())
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not is_sample)):
        message = f"{folder}: expected a new or empty folder, found one with files in it. Choose another."
        raise ConfigError(message)
    origin = folder / "visual_news" / "origin"
    records = _records()
    files: dict[str, bytes] = {}  # below origin
    for record in records:
        files[record["image_path"].removeprefix("./")] = (PHOTOS / record["file"]).read_bytes()
        files[record["article_path"].removeprefix("./")] = f"{record['title']}\n\n{record['caption']}.\n".encode()
    keys = ("id", "caption", "topic", "source", "image_path", "article_path")
    files["data.json"] = json.dumps([{key: record[key] for key in keys} for record in records]).encode()
    every = {readme: README.encode()}  # first: by it a sample that was interrupted is known
    every |= {origin / name: data for name, data in files.items()}
    every[folder / "visual_news" / "origin.tar"] = _tar(files)
    for config in CONFIGS:
        for split, rows in _matches(config, records).items():
            content: dict[str, Any] = {"annotations": rows}
            if config == DEFAULT_CONFIG:
                content = {"source_datasets": {str(k): name for k, name in enumerate(SOURCE_DATASETS)}, **content}
            matches = folder / "news_clippings" / "data" / config / f"{SPLITS[split]}.json"
            every[matches] = json.dumps(content).encode()
    for split in SPLITS:
        table = {str(record["id"]): _metadata(record) for record in records if record["split"] == split}
        every[folder / "news_clippings" / "metadata" / f"{SPLITS[split]}.json"] = json.dumps(table).encode()
    every[folder / "SOURCES.md"] = (PHOTOS / "SOURCES.md").read_bytes()
    todo = [path for path, data in every.items() if _is_to_do(path, folder, data)]
    for path in todo:
        with write_atomically(path) as temporary:
            Path(temporary).write_bytes(every[path])
    return folder


def _is_to_do(path: Path, folder: Path, data: bytes) -> bool:
    """Whether a file is not there yet; one that is, has to be the sample's."""
    linked = any(one.is_symlink() for one in path.parents if one.is_relative_to(folder) and one != folder)
    if linked or (os.path.lexists(path) and (path.is_symlink() or read_file(path) != data)):
        raise foreign_output(path, "sample")
    return not path.exists()


def _records() -> list[dict[str, Any]]:
    """One record per photograph, in three splits; ids have gaps and are in no order, as in data.json."""
    photos = json.loads((PHOTOS / "photos.json").read_text(encoding="utf-8"))
    splits = [split for split, pairs in PAIRS.items() for _ in range(pairs)]
    records = []
    for k, photo in enumerate(photos):
        outlet = OUTLETS[k % len(OUTLETS)]
        record_id = 39_136 + (k * 7_919_111) % 1_600_000
        number = record_id % 1_000_000
        records.append(
            {
                **photo,
                "id": record_id,
                "source": outlet,
                "split": splits[k % len(splits)],
                "image_path": f"./{outlet}/images/{number // 1000:04d}/{number % 1000:03d}.jpg",
                "article_path": f"./{outlet}/articles/{record_id}.txt",
            }
        )
    return records


def _matches(config: str, records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of one config: merged_balanced takes captions in turn for the four sub-splits, which have them all."""
    result = {}
    for split, pairs in PAIRS.items():
        mine = [record for record in records if record["split"] == split]
        rows: list[dict[str, Any]] = []
        for k, record in enumerate(mine[:pairs] if config == DEFAULT_CONFIG else mine):
            measure = k % len(SOURCE_DATASETS) if config == DEFAULT_CONFIG else SOURCE_DATASETS.index(config)
            other = mine[(k + 1 + measure) % len(mine)]
            if other is record:
                other = mine[(k + 1) % len(mine)]
            for picture, score, falsified in ((record, 1, False), (other, _overlap(record, other), True)):
                row = {"id": record["id"], "image_id": picture["id"], "similarity_score": score}
                if config == DEFAULT_CONFIG:
                    row["source_dataset"] = measure
                rows.append({**row, "falsified": falsified})
        result[split] = rows
    return result


def _overlap(one: dict[str, Any], other: dict[str, Any]) -> float:
    first, second = (set(record["caption"].lower().split()) for record in (one, other))
    return round(len(first & second) / len(first | second), 6)


def _metadata(record: dict[str, Any]) -> dict[str, Any]:
    article = record["article_path"].removeprefix("./")
    return {
        "id": record["id"],
        "caption": record["caption"],
        "image_path": "visual_news/origin/" + record["image_path"].removeprefix("./"),
        "article_path": f"visual_news/origin/{article}",
        "full_article_path": f"visual_news/origin/{article}",
        "caption_entities_spacy": record["entities"],
        "caption_entities_rel": [],
        "image_has_person": record["has_person"],
        "topic": record["topic"],
        "source": record["source"],
        "timestamp": record["date"] or "1900-01-01T00:00:00Z",
        "title": record["title"],
    }


def _tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"origin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
