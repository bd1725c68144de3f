"""The works that are measured, and the contenders for each. The first contender is this package ("ours").

`run` names a function below `benchmarks.contenders`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Contender:
    """One way to do a work.

    Attributes:
        label: shown in the table.
        run: module and function below `benchmarks.contenders`.
        needs: module or program that must be installed; without it, the contender is shown as not installed.
        floor: whether it does less than the work, as a lower bound.
        growth: factor by which its corpus is larger.
        until: largest scale at which it is run; above, it would take too long.
        workers: processes of its DataLoader, in works that have one.
    """

    label: str
    run: str
    needs: str = ""
    floor: bool = False
    growth: int = 1
    until: float = 1.0
    workers: int = 0


@dataclass(frozen=True)
class Work:
    """A work and its contenders.

    Attributes:
        title: the work in one line.
        parts: of the corpus that it reads.
        contenders: ours first.
        remote: whether origin.tar is served over HTTP during the work.
        same_rows: whether all contenders must have the same number of rows, and the same rows if they write tables.
    """

    title: str
    parts: tuple[str, ...]
    contenders: tuple[Contender, ...]
    remote: bool = False
    same_rows: bool = True


C = Contender
WORKS: Final[dict[str, Work]] = {
    "captions": Work(
        "merged_balanced without pictures, three splits",
        ("captions",),
        (
            C("ours", "ours.captions"),
            C("ours, opened again", "ours.captions_again"),
            C("README: dicts, nothing saved", "readme.captions"),
            C("Dataset.from_generator", "hf.captions_generator"),
            C("builder that yields dicts", "hf.captions"),
            C("pandas to Parquet", "frames.pandas", "pandas"),
            C("polars to Parquet", "frames.polars", "polars"),
            C("DuckDB to Parquet", "frames.duckdb", "duckdb"),
            C("import datasets, nothing else", "floors.import_datasets", floor=True),
        ),
    ),
    "captions_largest": Work(
        "semantics_clip_text_text without pictures, three splits",
        ("captions",),
        (
            C("ours", "ours.captions_largest"),
            C("builder that yields dicts", "hf.captions_largest"),
            C("polars to Parquet", "frames.polars_largest", "polars"),
            C("DuckDB to Parquet", "frames.duckdb_largest", "duckdb"),
        ),
    ),
    "growth": Work(
        "captions of a corpus twice as large",
        ("captions",),
        (C("ours", "ours.captions"), C("ours, twice the corpus", "ours.captions", growth=2)),
        same_rows=False,
    ),
    "first_row": Work(
        "from load_dataset(streaming=True) to the first row, merged_balanced",
        ("captions",),
        (
            C("ours", "ours.first_row"),
            C("ours, again", "ours.first_row_again"),
            C("README: dicts", "readme.first_row"),
        ),
    ),
    "first_row_largest": Work(
        "the same, semantics_clip_text_text",
        ("captions",),
        (
            C("ours", "ours.first_row_largest"),
            C("ours, again", "ours.first_row_largest_again"),
            C("README: dicts", "readme.first_row_largest"),
        ),
    ),
    "first_batch": Work(
        "to the first batch of a torch DataLoader with four workers, semantics_clip_text_text",
        ("captions",),
        (C("ours", "ours.first_batch", "torch"), C("ours, again", "ours.first_batch_again", "torch")),
    ),
    "pictures_folder": Work(
        "rows with the pictures of a folder as bytes",
        ("captions", "pictures"),
        (
            C("ours", "ours.pictures"),
            C("builder that yields dicts", "hf.pictures"),
            C("webdataset ShardWriter", "shards.pictures", "webdataset"),
            C("copy of each row's picture", "floors.copy", floor=True),
        ),
    ),
    "pictures_parquet": Work(
        "a folder of Parquet files with pictures",
        ("captions", "pictures"),
        (
            C("ours: newsclippings build", "commands.pictures_parquet"),
            C("from_generator, to_parquet", "hf.parquet_generator"),
        ),
    ),
    "pictures_paths": Work(
        "rows that refer to the pictures of a folder, train",
        ("captions", "pictures"),
        (
            C('ours: images="path"', "ours.picture_paths"),
            C("imagefolder with metadata.jsonl", "hf.picture_paths"),
            C("README: PIL open, nothing saved", "readme.picture_paths"),
        ),
    ),
    "pictures_tar": Work(
        "rows with pictures from origin.tar",
        ("captions", "pictures"),
        (
            C("ours (tar indexed before)", "ours.pictures_tar"),
            C("tar -xf, builder that yields dicts", "hf.pictures_extracted", "tar"),
            C("tarfile, builder that yields dicts", "hf.pictures_tarfile"),
            C("webdataset (order of the tar)", "shards.pictures_tar", "webdataset"),
        ),
    ),
    "num_proc": Work(
        "pictures_folder by two processes (peak: of the largest one)",
        ("captions", "pictures"),
        (
            C("ours", "ours.pictures"),
            C("ours, num_proc=2", "ours.pictures_by_two"),
            C("ours, on one core", "ours.pictures_on_one_core"),
        ),
    ),
    "tar_index": Work(
        "names, positions and sizes of the members of a large tar",
        ("sparse",),
        (
            C("ours: newsclippings index", "commands.tar_index"),
            C("tarfile.getmembers", "stdlib.tar_members"),
            C("tar -tf: names only", "floors.tar_list", "tar", floor=True),
        ),
    ),
    "index_reopened": Work(
        "one picture by a kept index with as many members as VisualNews, including the start of Python",
        ("sparse",),
        (
            C("ours", "ours.index_reopened"),
            C("ours, checksums not compared", "ours.index_unchecked", floor=True),
        ),
    ),
    "remote_split": Work(
        "test split with pictures from a tar on a server, 20 ms per request",
        ("captions", "pictures"),
        (
            C("ours, with an index of the tar", "ours.remote_split"),
            C("ours, no index: headers walked", "ours.remote_split_without_index", until=0.1),
            C("whole tar downloaded, then ours", "ours.download_then_split"),
        ),
        remote=True,
    ),
    "training_reading": Work(
        "decode, RGB, 224 x 224, array: up to 4,000 rows of train; ours by decode_small",
        ("captions", "pictures"),
        (
            C("ours, built", "ours.read_map"),
            C("ours, built, decoded whole", "ours.read_map_whole"),
            C("ours, Parquet folder streamed", "ours.read_parquet"),
            C("ours, streamed from the tar", "ours.read_tar"),
            C("imagefolder", "hf.read_imagefolder"),
            C("webdataset", "shards.read", "webdataset"),
            C("README: json and PIL", "readme.read"),
        ),
    ),
    "training_batches": Work(
        "a torch DataLoader: decode, 224 x 224, tokenise, batches of 32; up to 4,000 rows of train",
        ("captions", "pictures"),
        tuple(
            C(
                f"{label}, {workers or 'no'} workers",
                f"loaders.{name}",
                "webdataset" if name == "webdataset" else "transformers",
                workers=workers,
            )
            for workers in (0, 2)
            for label, name in (
                ("ours, built", "built"),
                ("ours, Parquet folder streamed", "parquet"),
                ("ours, streamed from the tar", "tar"),
                ("imagefolder", "imagefolder"),
                ("webdataset", "webdataset"),
                ("README's Dataset", "pairs"),
            )
        ),
    ),
    "embeddings": Work(
        "a pickle of vectors to an Arrow file",
        ("embeddings",),
        (
            C("ours: conversion in a build", "commands.embeddings"),
            C("ours: convert-embeddings, Parquet", "commands.embeddings_parquet"),
            C("ours: read_embeddings, pyarrow", "ours.embeddings"),
            C("pickle.load, 2,000 at a time", "stdlib.in_batches"),
            C("pickle.load, one matrix", "stdlib.at_once"),
        ),
    ),
    **{
        f"vectors_{name}": Work(
            f"vectors of up to 4,000 pictures by {model}",
            ("captions", "pictures"),
            (
                C("ours: embed", f"encode.{name}", needs),
                C("our reading and decoding alone", f"encode.{name}_read", needs, floor=True),
                C("the model alone", f"encode.{name}_model", needs, floor=True),
                C("Dataset, DataLoader, model; 2 workers", f"encode.{name}_script", needs or "torch", workers=2),
            ),
        )
        for name, model, needs in (
            ("waiting", "a model that waits 3 ms for each, without the CPU", ""),
            ("network", "EfficientNet-lite0", "efficientnet_lite_pytorch"),
        )
    },
}
ROWS_READ: Final = 4_000  # in training_reading, training_batches and vectors: more would only repeat the same decoding
