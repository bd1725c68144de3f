"""Records of VisualNews by id: from data.json, as a file or in the tar, or from the authors' metadata."""

from _newsclippings.corpus.metadata import with_full_articles
from _newsclippings.corpus.source import Corpus

__all__ = [
    "Corpus",
    "with_full_articles",
]
