"""Export the authors' pickles of embeddings as .npy, .parquet or .safetensors."""

import contextlib
import filecmp
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _newsclippings.config import bad_value
from _newsclippings.errors import MissingDependencyError, bad_file
from _newsclippings.storage import (
    EMBEDDINGS,
    check_not_input,
    check_output,
    foreign_output,
    read_ends,
    write_atomically,
)
from _newsclippings.tables import as_array
from _newsclippings.vectors.embeddings import read_pickle

FORMATS = (".npy", ".parquet", ".safetensors")
WRITTEN_BY = "written_by"  # key in the metadata of .parquet and .safetensors
NPY = b"\x93NUMPY"  # first bytes of a .npy file


def convert_embeddings(file: str, out: Path, faces: bool = False) -> list[Path]:
    """Convert a pickle of embeddings to the format that the ending of `out` names.

    Args:
        file: the pickle.
        out: the file to write. `.npy`: vectors float32 (N, d), and ids int64 (N,) in a second file that ends in
            .ids.npy; `.parquet`: columns id and vector; `.safetensors`: tensors ids and vectors.
        faces: whether an id may have any number of vectors; for `.parquet` only.

    Returns:
        The files that were written.

    Raises:
        ConfigError: the ending is unknown or cannot hold faces, or a file to write is the pickle itself or was not
            written by this function.
        MissingDependencyError: the package safetensors is not installed.
        BadPickleError, BadFileError: as `read_embeddings`.
    """
    if out.suffix not in FORMATS:
        raise bad_value("the ending of OUT", out.suffix, FORMATS)
    if faces:
        if out.suffix != ".parquet":
            raise bad_value("the ending of OUT for faces", out.suffix, [".parquet"])
        _check_outputs(file, [out])
        ids, starts, vectors = read_pickle(file, one_each=False)
        offsets = as_array(starts.astype(np.int32))
        return [_write_parquet(out, ids, pa.ListArray.from_arrays(offsets, _make_vector_array(vectors)))]
    written = [out, out.with_suffix(".ids.npy")] if out.suffix == ".npy" else [out]
    _check_outputs(file, written)
    ids, _, vectors = read_pickle(file, one_each=True)
    if not len(ids):
        raise bad_file(file, "vectors by id", "none", "Fetch the file again.")
    if out.suffix == ".parquet":
        return [_write_parquet(out, ids, _make_vector_array(vectors))]
    if out.suffix == ".safetensors":
        try:
            from safetensors.numpy import save_file
        except ImportError as error:
            message = "Writing .safetensors needs the package safetensors: pip install safetensors."
            raise MissingDependencyError(message) from error
        with write_atomically(out, EMBEDDINGS) as temporary:
            save_file({"ids": ids, "vectors": vectors}, temporary, metadata={WRITTEN_BY: EMBEDDINGS.name})
        return [out]
    arrays: list[np.ndarray] = [vectors, ids]
    with contextlib.ExitStack() as both:
        for path, array in zip(written, arrays, strict=True):
            temporary = both.enter_context(write_atomically(path))
            with open(temporary, "wb") as sink:
                np.save(sink, array)
            if os.path.lexists(path) and not filecmp.cmp(temporary, path, shallow=False):
                raise foreign_output(path, EMBEDDINGS.command, " of this file")
    return written


def _check_outputs(file: str, written: list[Path]) -> None:
    """Refuse to overwrite the pickle or files of other programs, before anything is read."""
    for path in written:
        check_not_input(path, [file])
        check_output(path, None if path.suffix == ".npy" else EMBEDDINGS)  # .npy has no metadata
        if path.suffix == ".npy" and path.exists() and not read_ends(path).startswith(NPY):
            raise foreign_output(path, EMBEDDINGS.command)


def _make_vector_array(vectors: "np.ndarray") -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(as_array(vectors.reshape(-1)), vectors.shape[1])


def _write_parquet(out: Path, ids: "np.ndarray", vectors: pa.Array) -> Path:
    table = pa.table({"id": as_array(ids), "vector": vectors}).replace_schema_metadata({WRITTEN_BY: EMBEDDINGS.name})
    with write_atomically(out, EMBEDDINGS) as temporary, open(temporary, "wb") as sink:
        pq.write_table(table, sink, row_group_size=10_000)
    return out
