"""Embeddings for other programs: the authors' pickles as .npy, .parquet or .safetensors."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.embeddings import read_embeddings, read_faces
from _newsclippings.errors import ConfigError, bad_file, bad_value
from _newsclippings.files import write_atomically

FORMATS = (".npy", ".parquet", ".safetensors")


def convert(file: str, out: Path, faces: bool = False) -> list[Path]:
    """Convert a pickle of embeddings; the ending of `out` says to what.

    Args:
        file: the pickle.
        out: `.npy`: vectors float32 (N, d), and ids int64 (N,) in a file that ends in .ids.npy; `.parquet`: columns id
            and vector; `.safetensors`: tensors ids and vectors.
        faces: whether an id may have any number of vectors; `.parquet` only.

    Returns:
        The files that were written.

    Raises:
        ConfigError: another ending, faces in another format, or the package safetensors is not there.
        BadPickleError, BadFileError: as `read_embeddings`.
    """
    if out.suffix not in FORMATS:
        raise bad_value("the ending of OUT", out.suffix, FORMATS)
    if faces:
        if out.suffix != ".parquet":
            raise bad_value("the ending of OUT for faces", out.suffix, [".parquet"])
        ids, starts, vectors = read_faces(file)
        return [_parquet(out, ids, pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), _rows(vectors)))]
    ids, vectors = read_embeddings(file)
    if not len(ids):
        raise bad_file(file, "vectors by id", "none", "Fetch the file again.")
    if out.suffix == ".parquet":
        return [_parquet(out, ids, _rows(vectors))]
    if out.suffix == ".safetensors":
        try:
            from safetensors.numpy import save_file
        except ImportError as error:
            message = "Writing .safetensors needs the package safetensors: pip install safetensors."
            raise ConfigError(message) from error
        with write_atomically(out) as temporary:
            save_file({"ids": ids, "vectors": vectors}, temporary)
        return [out]
    written = [out, out.with_suffix(".ids.npy")]
    arrays: list[np.ndarray] = [vectors, ids]
    for path, array in zip(written, arrays, strict=True):
        with write_atomically(path) as temporary, open(temporary, "wb") as sink:
            np.save(sink, array)
    return written


def _rows(vectors: "np.ndarray") -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


def _parquet(out: Path, ids: "np.ndarray", vectors: pa.Array) -> Path:
    with write_atomically(out) as temporary:
        pq.write_table(pa.table({"id": pa.array(ids), "vector": vectors}), temporary, row_group_size=10_000)
    return out
