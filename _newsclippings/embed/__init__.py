"""Encode pictures and captions with the encoder of your choice."""

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.encoders import open_encoder
from _newsclippings.embed.items import Items
from _newsclippings.embed.make import EmbedReport, Source, embed, embed_source
from _newsclippings.embed.parts import check_folder
from _newsclippings.embed.verify import VectorsReport, verify_vectors

__all__ = [
    "EmbedReport",
    "Encoder",
    "Items",
    "Source",
    "VectorsReport",
    "check_folder",
    "embed",
    "embed_source",
    "open_encoder",
    "verify_vectors",
]
