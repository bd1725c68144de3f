"""Vectors of encoders by id: read, convert and export the authors' pickles."""

from _newsclippings.vectors.embeddings import (
    Embeddings,
    load_embeddings,
    read_embedding_ids,
)
from _newsclippings.vectors.export import convert_embeddings
from _newsclippings.vectors.files import VectorFiles, check_part, find_vectors, read_embeddings, read_faces
from _newsclippings.vectors.plan import PLAN, SUMS, Plan, parse_plan, parse_sums

__all__ = [
    "PLAN",
    "SUMS",
    "Embeddings",
    "Plan",
    "VectorFiles",
    "check_part",
    "convert_embeddings",
    "find_vectors",
    "load_embeddings",
    "parse_plan",
    "parse_sums",
    "read_embedding_ids",
    "read_embeddings",
    "read_faces",
]
