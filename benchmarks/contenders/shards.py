"""The webdataset library: write and read shards of rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import webdataset

from benchmarks.contenders.decode import read_all
from benchmarks.contenders.rows import FILES, joined, load_records, matches
from benchmarks.job import Job, Outcome

DEFAULT = "merged_balanced"


def _write(folder: Path, split: str, samples: Iterator[tuple[dict[str, Any], bytes]]) -> int:
    folder.mkdir(exist_ok=True)
    rows = 0
    with webdataset.ShardWriter(f"{folder}/{split}-%06d.tar", maxcount=500, verbose=0) as sink:
        for row, picture in samples:
            sink.write({"__key__": f"{row['index']:09d}", "jpg": picture, "json": json.dumps(row).encode()})
            rows += 1
    return rows


def _from_folder(data_dir: Path, out: Path) -> int:
    origin = data_dir / "visual_news" / "origin"
    records = load_records(origin / "data.json")
    return sum(
        _write(
            out,
            split,
            (
                (row, (origin / row["image_path"]).read_bytes())
                for row in joined(records, matches(data_dir, DEFAULT, split))
            ),
        )
        for split in FILES
    )


def pictures(job: Job) -> Outcome:
    """Write shards with the pictures of the folder."""
    return {"rows": _from_folder(job.corpus / "pictures", job.out / "shards")}


def pictures_tar(job: Job) -> Outcome:
    """Read the tar from its beginning to its end with webdataset, and write shards of rows in that order."""
    data_dir = job.corpus / "tar"
    tar = str(data_dir / "visual_news" / "origin.tar")
    records = next(
        {record["id"]: record for record in json.loads(sample["json"])}
        for sample in webdataset.WebDataset(tar, shardshuffle=False, select_files=lambda name: name.endswith(".json"))
    )
    users: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for split in FILES:
        for row in joined(records, matches(data_dir, DEFAULT, split)):
            users.setdefault(row["image_path"], []).append((split, row))
    del records
    out = job.out / "shards"
    out.mkdir()
    sinks = {split: webdataset.ShardWriter(f"{out}/{split}-%06d.tar", maxcount=500, verbose=0) for split in FILES}
    rows = 0
    for sample in webdataset.WebDataset(tar, shardshuffle=False, select_files=lambda name: name.endswith(".jpg")):
        for split, row in users.get(sample["__key__"].removeprefix("origin/") + ".jpg", ()):
            key = f"{row['index']:09d}"
            sinks[split].write({"__key__": key, "jpg": sample["jpg"], "json": json.dumps(row).encode()})
            rows += 1
    for sink in sinks.values():
        sink.close()
    return {"rows": rows}


def shards_of(job: Job) -> Any:
    """Return the decoded rows of shards, which the first run writes."""
    folder = job.state / "shards"
    if not folder.exists():
        _from_folder(job.corpus / "pictures", folder)
    files = [str(file) for file in sorted(folder.glob("train-*.tar"))]
    return webdataset.WebDataset(files, shardshuffle=False).decode("pil")


def read(job: Job) -> Outcome:
    """Decode the rows of shards that an earlier run wrote."""
    return read_all((row["jpg"] for row in shards_of(job)), job.limit)
