"""Vectors of encoders by id: read, convert and export the authors' pickles."""

from _newsclippings.vectors.embeddings import (
    Embeddings,
    load_embeddings,
    read_embedding_ids,
    read_embeddings,
    read_faces,
)
from _newsclippings.vectors.export import convert_embeddings
from _newsclippings.vectors.plan import PLAN, SIDES, SUMS, Plan, parse_plan

__all__ = [
    "PLAN",
    "SIDES",
    "SUMS",
    "Embeddings",
    "Plan",
    "convert_embeddings",
    "load_embeddings",
    "parse_plan",
    "read_embedding_ids",
    "read_embeddings",
    "read_faces",
]
