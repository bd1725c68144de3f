"""Encode pictures and captions with the encoder of your choice."""

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.encoders import open_encoder
from _newsclippings.embed.make import EmbedReport, embed
from _newsclippings.embed.ranks import find_device, find_rank
from _newsclippings.embed.ray_pipeline import connect as connect_to_ray
from _newsclippings.embed.verify import VectorsReport, verify_vectors

__all__ = [
    "EmbedReport",
    "Encoder",
    "VectorsReport",
    "connect_to_ray",
    "embed",
    "find_device",
    "find_rank",
    "open_encoder",
    "verify_vectors",
]
