"""This package without `datasets`: its commands, and one step of a build."""

from pathlib import Path

from benchmarks.job import Job, Outcome


def tar_index(job: Job) -> Outcome:
    """Index a tar into a Parquet file."""
    import pyarrow.parquet as pq

    out = job.out / "index.parquet"
    write_index(job.corpus / "sparse.tar", out)
    return {"rows": pq.ParquetFile(out).metadata.num_rows}


def write_index(tar: Path, out: Path) -> None:
    """Index a tar with the command `newsclippings index`."""
    _newsclippings("index", str(tar), "-o", str(out))


def pictures_parquet(job: Job) -> Outcome:
    """Write a folder of Parquet files."""
    import pyarrow.parquet as pq

    out = job.out / "newsclippings"
    _newsclippings("build", str(out), "--data-dir", str(job.corpus / "pictures"))
    return {"rows": sum(pq.ParquetFile(file).metadata.num_rows for file in out.glob("*/*.parquet"))}


def embeddings_parquet(job: Job) -> Outcome:
    """Convert a pickle of vectors to Parquet."""
    import pyarrow.parquet as pq

    out = job.out / "vectors.parquet"
    _newsclippings("convert-embeddings", str(job.corpus / "embeddings.pkl"), str(out))
    return {"rows": pq.ParquetFile(out).metadata.num_rows}


def embeddings(job: Job) -> Outcome:
    """Convert a pickle of vectors as the first build with it does."""
    from _newsclippings.vectors import load_embeddings

    return {"rows": len(load_embeddings(str(job.corpus / "embeddings.pkl"), "key", 512, False, job.out).ids)}


def _newsclippings(*words: str) -> None:
    from _newsclippings.cli import main

    main(words, standalone_mode=False)
