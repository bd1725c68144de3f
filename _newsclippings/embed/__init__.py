"""Encode pictures and captions with the encoder of your choice, and find the entities of captions."""

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.encoders import open_encoder
from _newsclippings.embed.entity_models import EntityModel
from _newsclippings.embed.folder import check_folder
from _newsclippings.embed.items import Items
from _newsclippings.embed.make import EmbedReport, embed, embed_source
from _newsclippings.embed.make_entities import EntitiesCheck, EntitiesReport, entities, verify_entities
from _newsclippings.embed.parts import VECTORS
from _newsclippings.embed.ranks import find_device, find_rank
from _newsclippings.embed.ray_pipeline import connect as connect_to_ray
from _newsclippings.embed.source import Source
from _newsclippings.embed.verify import VectorsReport, verify_vectors

__all__ = [
    "VECTORS",
    "EmbedReport",
    "Encoder",
    "EntitiesCheck",
    "EntitiesReport",
    "EntityModel",
    "Items",
    "Source",
    "VectorsReport",
    "check_folder",
    "connect_to_ray",
    "embed",
    "embed_source",
    "entities",
    "find_device",
    "find_rank",
    "open_encoder",
    "verify_entities",
    "verify_vectors",
]
