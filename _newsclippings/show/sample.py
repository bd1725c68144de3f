"""Write the sample dataset: photographs that anyone may use, in the official layout.

The captions are true, and a falsified row shows another photograph of the same split. Outlets, topics, sub-splits and
ids are invented, and only give the files their real form. The similarity score of a falsified row is the share of words
that its two captions have in common, and not a measure of the paper.
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
PAIRS: Final = {"train": 12, "validation": 4, "test": 8}  # in merged_balanced, the same number from each sub-split

README: Final = f"""{TITLE}

Real photographs, in the public domain or under CC0 (see SOURCES.md), with true captions, in the layout of the official
files. **Outlets, topics, sub-splits and ids are only labels here**: none of the pictures was published by the outlet
that its path names. A falsified row shows another photograph of the sample; its score is the share of words that the
two captions have in common.

    visual_news/origin/...         pictures, articles and data.json, extracted
    visual_news/origin.tar         the same as a tar
    visual_news/articles/...       the original articles, which the metadata name
    news_clippings/data/...        the matches of all five configs
    news_clippings/metadata/...    captions with entities, as on the Hub
"""


def write_sample(folder: Path) -> Path:
    """Write the sample below a folder. It has the same bytes each time, and other files in the folder stay.

    Args:
        folder: a new or empty folder, or one with the sample.

    Returns:
        The folder, which can be passed as `data_dir`.

    Raises:
        ConfigError: the folder has other files only, or links, or changed files of the sample.
    """
    readme = folder / "README.md"
    is_sample = readme.is_file() and readme.read_bytes().startswith(TITLE.encode())
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not is_sample)):
        message = f"{folder} exists and is not a sample. Choose a new or empty folder."
        raise ConfigError(message)
    origin = folder / "visual_news" / "origin"
    records = _make_records()
    files: dict[str, bytes] = {}  # below origin
    for record in records:
        files[record["image_path"].removeprefix("./")] = (PHOTOS / record["file"]).read_bytes()
        files[record["article_path"].removeprefix("./")] = _make_text(record).encode()
    keys = ("id", "caption", "topic", "source", "image_path", "article_path")
    files["data.json"] = json.dumps([{key: record[key] for key in keys} for record in records]).encode()
    contents = {readme: README.encode()}  # written first, since it marks the folder as a sample
    contents |= {origin / name: data for name, data in files.items()}
    contents[folder / "visual_news" / "origin.tar"] = _make_tar(files)
    for record in records:
        article = {name: record[name] for name in ("title", "source", "topic", "date")} | {"text": _make_text(record)}
        contents[folder / record["full_article_path"]] = json.dumps(article).encode()
    for config in CONFIGS:
        for split, rows in _make_matches(config, records).items():
            content: dict[str, Any] = {"annotations": rows}
            if config == DEFAULT_CONFIG:
                content = {"source_datasets": {str(k): name for k, name in enumerate(SOURCE_DATASETS)}, **content}
            matches = folder / "news_clippings" / "data" / config / f"{SPLITS[split]}.json"
            contents[matches] = json.dumps(content).encode()
    for split in SPLITS:
        table = {str(record["id"]): _make_metadata(record) for record in records if record["split"] == split}
        contents[folder / "news_clippings" / "metadata" / f"{SPLITS[split]}.json"] = json.dumps(table).encode()
    contents[folder / "SOURCES.md"] = (PHOTOS / "SOURCES.md").read_bytes()
    todo = [path for path, data in contents.items() if _is_missing(path, folder, data)]
    for path in todo:
        with write_atomically(path) as temporary:
            Path(temporary).write_bytes(contents[path])
    return folder


def _is_missing(path: Path, folder: Path, data: bytes) -> bool:
    """Check whether a file is missing; refuse a file that exists and is not that of the sample."""
    parents = (parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder)
    linked = any(parent.is_symlink() for parent in parents)
    if linked or (os.path.lexists(path) and (path.is_symlink() or read_file(path) != data)):
        raise foreign_output(path, "sample")
    return not path.exists()


def _make_records() -> list[dict[str, Any]]:
    """Make a record per photograph, in three splits; as in data.json, ids have gaps and are unordered."""
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
                "full_article_path": f"visual_news/articles/{outlet}/{record_id}.json",
            }
        )
    return records


def _make_matches(config: str, records: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Make the rows of a config. merged_balanced takes turns between the four sub-splits, which have all captions."""
    result = {}
    for split, pairs in PAIRS.items():
        pool = [record for record in records if record["split"] == split]
        rows: list[dict[str, Any]] = []
        for k, record in enumerate(pool[:pairs] if config == DEFAULT_CONFIG else pool):
            measure = k % len(SOURCE_DATASETS) if config == DEFAULT_CONFIG else SOURCE_DATASETS.index(config)
            other = pool[(k + 1 + measure) % len(pool)]
            if other is record:
                other = pool[(k + 1) % len(pool)]
            for picture, score, falsified in ((record, 1, False), (other, _share_of_words(record, other), True)):
                row = {"id": record["id"], "image_id": picture["id"], "similarity_score": score}
                if config == DEFAULT_CONFIG:
                    row["source_dataset"] = measure
                rows.append({**row, "falsified": falsified})
        result[split] = rows
    return result


def _share_of_words(record: dict[str, Any], other: dict[str, Any]) -> float:
    first, second = (set(each["caption"].lower().split()) for each in (record, other))
    return round(len(first & second) / len(first | second), 6)


def _make_text(record: dict[str, Any]) -> str:
    return f"{record['title']}\n\n{record['caption']}.\n"


def _make_metadata(record: dict[str, Any]) -> dict[str, Any]:
    article = record["article_path"].removeprefix("./")
    return {
        "id": record["id"],
        "caption": record["caption"],
        "image_path": "visual_news/origin/" + record["image_path"].removeprefix("./"),
        "article_path": f"visual_news/origin/{article}",
        "full_article_path": record["full_article_path"],
        "caption_entities_spacy": record["entities"],
        "caption_entities_rel": [],
        "image_has_person": record["has_person"],
        "topic": record["topic"],
        "source": record["source"],
        "timestamp": record["date"] or "1900-01-01T00:00:00Z",
        "title": record["title"],
        "title_entities_spacy": [entity for entity in record["entities"] if entity[0] in record["title"]],
    }


def _make_tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"origin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
