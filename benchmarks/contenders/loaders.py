"""Time a torch DataLoader, as a training loop would wait for it, over the same rows in different formats."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

import newsclippings
from _newsclippings.train.stream import StreamRows
from _newsclippings.train.tiny import byte_tokenizer
from benchmarks.contenders import hf, readme
from benchmarks.contenders.decode import SIDE
from benchmarks.contenders.ours import DEFAULT
from benchmarks.job import Job, Outcome

SIZE = 32  # rows of a batch
TOKENS = 77
Sample = tuple[Image.Image, str]


class Numbered(Dataset[Sample]):
    """Pictures and captions by number."""

    def __init__(self, rows: Any, sample: Callable[[Any], Sample]) -> None:
        self.rows, self.sample = rows, sample

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> Sample:
        return self.sample(self.rows[k])


class Streamed(IterableDataset[Sample]):
    """Pictures and captions as a stream; the stream itself divides rows between workers."""

    def __init__(self, rows: Iterable[Any], sample: Callable[[Any], Sample]) -> None:
        self.rows, self.sample = rows, sample

    def __iter__(self) -> Iterator[Sample]:
        return map(self.sample, self.rows)


def _read(job: Job, rows: Any) -> Outcome:
    """Make batches of up to `job.limit` rows, and time all of them together."""
    tokenizer = byte_tokenizer()

    def batch(samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        pictures = [np.asarray(picture.convert("RGB").resize((SIDE, SIDE))) for picture, _ in samples]
        captions = [caption for _, caption in samples]
        tokens = tokenizer(captions, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
        return torch.from_numpy(np.stack(pictures)), tokens["input_ids"]

    start, count = time.perf_counter(), 0
    for pixels, _ in DataLoader(rows, SIZE, collate_fn=batch, num_workers=job.workers):
        count += len(pixels)
        if count >= job.limit:
            break
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "note": f"{count / seconds:,.0f} samples/s"}


def _small(row: Any) -> Sample:
    return newsclippings.decode_small(row["image"], SIDE), row["caption"]


def _whole(row: Any) -> Sample:
    return row["image"], row["caption"]


def _encoded(rows: Any) -> Any:
    return rows.select_columns(["image", "caption"]).cast_column("image", datasets.Image(decode=False))


def built(job: Job) -> Outcome:
    """Load rows of this package, built before, by number."""
    folder, cache = str(job.corpus / "pictures"), str(job.state / "cache")
    rows = datasets.load_dataset("newsclippings", DEFAULT, data_dir=folder, cache_dir=cache, split="train")
    return _read(job, Numbered(_encoded(rows), _small))


def parquet(job: Job) -> Outcome:
    """Stream a folder of Parquet files that this package built."""
    from _newsclippings.folder import build_folder

    folder = job.state / "parquet"
    if not folder.exists():
        build_folder(folder, [DEFAULT], data_dir=str(job.corpus / "pictures"))
    rows = datasets.load_dataset(str(folder), DEFAULT, streaming=True, split="train")
    return _read(job, Streamed(StreamRows(_encoded(rows), rows.info.splits["train"].num_examples), _small))


def tar(job: Job) -> Outcome:
    """Stream rows of this package from the tar."""
    given = {"data_dir": str(job.corpus / "tar"), "cache_dir": str(job.state / "cache")}
    rows = datasets.load_dataset("newsclippings", DEFAULT, streaming=True, split="train", **given)
    count = newsclippings.NewsCLIPpings(config_name=DEFAULT, **given).count_rows("train")
    return _read(job, Streamed(StreamRows(_encoded(rows), count), _small))


def imagefolder(job: Job) -> Outcome:
    """Load an `imagefolder`, which an earlier run prepared."""
    return _read(job, Numbered(hf.imagefolder_of(job), _whole))


def pairs(job: Job) -> Outcome:
    """Load the Dataset of the authors' README."""
    return _read(job, Numbered(readme.Pairs(job.corpus / "pictures", "train"), lambda pair: (pair[0], pair[1])))


def webdataset(job: Job) -> Outcome:
    """Load shards that an earlier run wrote."""
    from benchmarks.contenders.shards import shards_of  # imported here, since only this contender needs webdataset

    return _read(job, Streamed(shards_of(job), lambda row: (row["jpg"], row["json"]["caption"])))
