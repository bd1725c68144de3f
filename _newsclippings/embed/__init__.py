"""Encode pictures and captions with the encoder of your choice."""

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.make import EmbedReport, embed

__all__ = ["EmbedReport", "Encoder", "embed"]
