"""Vectors of encoders by id: read, convert and export the authors' pickles."""

from _newsclippings.vectors.embeddings import (
    Embeddings,
    load_embeddings,
    read_embedding_ids,
    read_embeddings,
    read_faces,
)
from _newsclippings.vectors.export import convert_embeddings

__all__ = [
    "Embeddings",
    "convert_embeddings",
    "load_embeddings",
    "read_embedding_ids",
    "read_embeddings",
    "read_faces",
]
