"""The `newsclippings` command."""

from _newsclippings.cli.commands import main

__all__ = [
    "main",
]
