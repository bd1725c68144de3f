"""Vectors of encoders by id: the authors' pickles, and what they are converted to."""

from _newsclippings.vectors.embeddings import Embeddings, embedding_ids, load_embeddings, read_embeddings, read_faces
from _newsclippings.vectors.export import convert

__all__ = [
    "Embeddings",
    "convert",
    "embedding_ids",
    "load_embeddings",
    "read_embeddings",
    "read_faces",
]
