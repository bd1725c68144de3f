"""Records by id: from VisualNews (data.json, a file or in the tar), the authors' metadata, or a table of one's own."""

from _newsclippings.corpus.digests import check_records, hash_records
from _newsclippings.corpus.metadata import read_metadata_file, with_full_articles
from _newsclippings.corpus.own_table import read_own_table
from _newsclippings.corpus.records import SCHEMA
from _newsclippings.corpus.source import Corpus

__all__ = [
    "SCHEMA",
    "Corpus",
    "check_records",
    "hash_records",
    "read_metadata_file",
    "read_own_table",
    "with_full_articles",
]
