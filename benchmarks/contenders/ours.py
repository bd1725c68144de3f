"""This package, used as its README shows."""

import importlib.util
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import load_dataset
from PIL import Image

import newsclippings
from _newsclippings.pictures import TarPictures
from _newsclippings.storage import KeptFile, LocalFile
from _newsclippings.tar import index_tar, keep_index, load_kept_index
from benchmarks.contenders.commands import write_index
from benchmarks.contenders.decode import SIDE, read_all
from benchmarks.job import Job, Outcome
from benchmarks.range_server import counted

DEFAULT = "merged_balanced"
LARGEST = "semantics_clip_text_text"


def _rows(splits: Any) -> Outcome:
    return {"rows": sum(map(len, splits.values()))}


def captions(job: Job) -> Outcome:
    """Build the default config without pictures."""
    return _rows(load_dataset("newsclippings", DEFAULT, data_dir=str(job.corpus / "captions"), images="none"))


def captions_again(job: Job) -> Outcome:
    """Open what an earlier run built."""
    folder = str(job.corpus / "captions")
    return _rows(
        load_dataset("newsclippings", DEFAULT, data_dir=folder, images="none", cache_dir=str(job.state / "cache"))
    )


def captions_largest(job: Job) -> Outcome:
    """Build the largest config without pictures."""
    return _rows(load_dataset("newsclippings", LARGEST, data_dir=str(job.corpus / "captions"), images="none"))


def _first(job: Job, config: str, workers: int = 0, **options: Any) -> Outcome:
    """Seconds from the call to the first row, or, with workers, to the first batch of a DataLoader."""
    folder = str(job.corpus / "captions")
    if importlib.util.find_spec("torch"):  # `datasets` imports it for a stream, which takes longer than all the rest
        import torch  # noqa: F401
    start = time.perf_counter()
    fields = {"data_dir": folder, "images": "none", "streaming": True, "split": "train", **options}
    stream = load_dataset("newsclippings", config, **fields)
    if not workers:
        row = next(iter(stream))
        return {"seconds": time.perf_counter() - start, "rows": int(bool(row["caption"]))}
    from torch.utils.data import DataLoader

    batches = iter(DataLoader(stream, batch_size=32, num_workers=workers))
    rows = len(next(batches)["caption"])
    seconds = time.perf_counter() - start
    processes = [
        os.getpid(),
        *(int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
    ]
    memory = sum(_pss(process) for process in processes)
    return {"seconds": seconds, "rows": rows, "note": f"{memory / 2**20:,.0f} MiB in {len(processes)} processes"}


def _pss(process: int) -> int:
    """Bytes of memory of a process; what it shares with others is divided between them."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def first_row(job: Job) -> Outcome:
    """Stream, and time from the call to the first row."""
    return _first(job, DEFAULT)


def first_row_again(job: Job) -> Outcome:
    """The same where an earlier run kept the tables that were read."""
    return _first(job, DEFAULT, cache_dir=str(job.state / "cache"))


def first_row_largest(job: Job) -> Outcome:
    """The same in the largest config."""
    return _first(job, LARGEST)


def first_row_largest_again(job: Job) -> Outcome:
    """The same in the largest config, where an earlier run kept the tables that were read."""
    return _first(job, LARGEST, cache_dir=str(job.state / "cache"))


def first_batch(job: Job) -> Outcome:
    """The first batch of a DataLoader with four workers, of the largest config."""
    return _first(job, LARGEST, workers=4)


def first_batch_again(job: Job) -> Outcome:
    """The same where an earlier run kept the tables that were read."""
    return _first(job, LARGEST, workers=4, cache_dir=str(job.state / "cache"))


def pictures(job: Job) -> Outcome:
    """Build with the pictures of the folder."""
    return _rows(load_dataset("newsclippings", DEFAULT, data_dir=str(job.corpus / "pictures")))


def pictures_by_two(job: Job) -> Outcome:
    """The same by two processes."""
    return _rows(load_dataset("newsclippings", DEFAULT, data_dir=str(job.corpus / "pictures"), num_proc=2))


def pictures_on_one_core(job: Job) -> Outcome:
    """The same by one process on one core, which reads and writes in turn."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return pictures(job)


def picture_paths(job: Job) -> Outcome:
    """Build a split whose rows refer to the pictures of the folder."""
    folder = str(job.corpus / "pictures")
    return _rows(load_dataset("newsclippings", DEFAULT, data_dir=folder, images="path", splits=["train"]))


def pictures_tar(job: Job) -> Outcome:
    """Build with pictures from the tar, which was indexed in an earlier run."""
    builder = newsclippings.NewsCLIPpings(data_dir=str(job.corpus / "tar"), cache_dir=str(job.state / "cache"))
    builder.download_and_prepare(str(job.out / "built"))
    return _rows(builder.as_dataset())


def index_reopened(job: Job) -> Outcome:
    """Read a picture with an index that was kept in an earlier run; it has five times the members of the tar."""
    kept, file = job.state / "index.arrow", LocalFile(str(job.corpus / "sparse.tar"))
    index = load_kept_index(kept)
    if index is None:
        table = index_tar(file)
        copies = [pc.binary_join_element_wise(table["name"], str(k), ".") for k in range(1, 5)]
        tables = [table, *(table.set_column(0, "name", names) for names in copies)]
        index = keep_index(pa.concat_tables(tables).replace_schema_metadata(table.schema.metadata), kept, file.path)
    first = index.members["name"].slice(0, 1).combine_chunks()
    pictures, rows = TarPictures(file, index, pa.array(first.to_pylist(), pa.string())), np.zeros(1, np.int32)
    pictures.look(rows)
    return {"rows": len(pictures.read(rows)), "note": f"{len(index.members):,} members"}


def index_unchecked(job: Job) -> Outcome:
    """The same without comparing the checksums of the index."""
    KeptFile.check = lambda *_: None  # type: ignore[method-assign]
    return index_reopened(job)


def remote_split(job: Job) -> Outcome:
    """Build one split with pictures from a tar on a server, with an index of the tar."""
    index = job.state / "index.parquet"
    if not index.exists():
        write_index(job.corpus / "tar" / "visual_news" / "origin.tar", index)
    return _remote(job, job.url, visual_news_index=str(index))


def remote_split_without_index(job: Job) -> Outcome:
    """The same, walking the headers of the tar over the network."""
    return _remote(job, job.url)


def download_then_split(job: Job) -> Outcome:
    """Download the tar, then build the split."""
    tar = job.out / "origin.tar"
    with urllib.request.urlopen(job.url) as source, open(tar, "wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    return _remote(job, str(tar))


def _remote(job: Job, tar: str, **kwargs: str) -> Outcome:
    folder = str(job.corpus / "remote")
    splits = load_dataset("newsclippings", DEFAULT, data_dir=folder, visual_news=tar, splits=["test"], **kwargs)
    sizes: dict[str, int] = {}
    for batch in splits["test"].data.to_batches():
        lengths = pc.binary_length(batch["image"].field("bytes"))
        sizes.update(zip(batch["image_path"].to_pylist(), lengths.to_pylist(), strict=True))
    needed, (fetched, requests) = sum(sizes.values()), counted(job.url)
    note = f"{fetched / 1e6:,.1f} MB fetched in {requests:,} requests, {needed / 1e6:,.1f} MB needed"
    return {**_rows(splits), "bytes_fetched": fetched, "bytes_needed": needed, "requests": requests, "note": note}


def embeddings(job: Job) -> Outcome:
    """Read a pickle with `read_embeddings`, then write an Arrow file."""
    ids, vectors = newsclippings.read_embeddings(job.corpus / "embeddings.pkl")
    table = pa.table({"id": ids, "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 512)})
    with pa.ipc.new_file(str(job.out / "vectors.arrow"), table.schema) as writer:
        writer.write_table(table)
    return {"rows": len(ids)}


def read_map(job: Job) -> Outcome:
    """Decode the rows of a built dataset as the README recommends."""
    return read_all(_small(_built(job)), job.limit)


def read_map_whole(job: Job) -> Outcome:
    """Decode them as `datasets` does by itself."""
    return read_all((row["image"] for row in _built(job)), job.limit)


def read_parquet(job: Job) -> Outcome:
    """Decode the rows of a folder of Parquet files, streamed."""
    from _newsclippings.folder import build_folder

    folder = job.state / "parquet"
    if not folder.exists():
        build_folder(folder, [DEFAULT], data_dir=str(job.corpus / "pictures"))
    return read_all(_small(load_dataset(str(folder), DEFAULT, streaming=True, split="train")), job.limit)


def read_tar(job: Job) -> Outcome:
    """Decode rows streamed from the tar, which was indexed in an earlier run."""
    folder, cache = str(job.corpus / "tar"), str(job.state / "cache")
    rows = load_dataset("newsclippings", DEFAULT, data_dir=folder, cache_dir=cache, streaming=True, split="train")
    return read_all(_small(rows), job.limit)


def _built(job: Job) -> Any:
    folder, cache = str(job.corpus / "pictures"), str(job.state / "cache")
    return load_dataset("newsclippings", DEFAULT, data_dir=folder, cache_dir=cache, split="train")


def _small(rows: Any) -> Iterator[Image.Image]:
    encoded = rows.cast_column("image", datasets.Image(decode=False))
    return (newsclippings.decode_small(row["image"], SIDE) for row in encoded)
