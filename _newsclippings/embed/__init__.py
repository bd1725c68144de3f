"""Encode pictures and captions with the encoder of your choice."""

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.encoders import open_encoder

__all__ = ["Encoder", "open_encoder"]
