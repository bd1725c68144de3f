"""The standard library: embeddings by `pickle.load`, and the members of a tar by `tarfile`."""

import pickle
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.job import Job, Outcome

SCHEMA = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), 512))])


def _write(job: Job, ids: list[int], matrices: Iterator[Any]) -> Outcome:
    start = 0
    with pa.ipc.new_file(str(job.out / "vectors.arrow"), SCHEMA) as writer:
        for matrix in matrices:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), 512)
            writer.write_table(pa.table([ids[start : start + len(matrix)], vectors], schema=SCHEMA))
            start += len(matrix)
    return {"rows": start}


def at_once(job: Job) -> Outcome:
    """Copy all vectors to one matrix."""
    with open(job.corpus / "embeddings.pkl", "rb") as file:
        table = pickle.load(file)
    matrix = np.stack(list(table.values()))
    return _write(job, list(table), iter([matrix]))


def in_batches(job: Job) -> Outcome:
    """Copy 2,000 vectors at a time to a matrix."""
    with open(job.corpus / "embeddings.pkl", "rb") as file:
        table = pickle.load(file)
    values = list(table.values())
    return _write(job, list(table), (np.stack(values[k : k + 2000]) for k in range(0, len(values), 2000)))


def tar_members(job: Job) -> Outcome:
    """Write names, positions and sizes of the members of a tar as Parquet."""
    import pyarrow.parquet as pq

    with tarfile.open(job.corpus / "sparse.tar") as tar:
        members = [member for member in tar.getmembers() if member.isfile()]
    columns = {
        "name": [member.name for member in members],
        "offset": [member.offset_data for member in members],
        "size": [member.size for member in members],
    }
    pq.write_table(pa.table(columns), job.out / "index.parquet", compression="zstd")
    return {"rows": len(members)}
