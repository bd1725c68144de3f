"""Encode pictures and captions with the encoder of your choice."""

from _newsclippings.embed.encoder import Encoder

__all__ = ["Encoder"]
