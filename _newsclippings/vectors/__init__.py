"""Vectors of encoders by id: read, convert and export the authors' pickles."""

from _newsclippings.vectors.embeddings import (
    Embeddings,
    load_embeddings,
    read_embedding_ids,
)
from _newsclippings.vectors.export import convert_embeddings
from _newsclippings.vectors.files import VectorFiles, check_part, find_vectors, read_embeddings, read_faces
from _newsclippings.vectors.plan import (
    MOST_PARTS,
    OF_PARTS,
    PLAN,
    SUMS,
    UNREAD,
    Plan,
    format_plan,
    list_parts,
    name_part,
    parse_fields,
    parse_plan,
    parse_sums,
    parse_unread,
)

__all__ = [
    "MOST_PARTS",
    "OF_PARTS",
    "PLAN",
    "SUMS",
    "UNREAD",
    "Embeddings",
    "Plan",
    "VectorFiles",
    "check_part",
    "convert_embeddings",
    "find_vectors",
    "format_plan",
    "list_parts",
    "load_embeddings",
    "name_part",
    "parse_fields",
    "parse_plan",
    "parse_sums",
    "parse_unread",
    "read_embedding_ids",
    "read_embeddings",
    "read_faces",
]
