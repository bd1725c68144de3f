"""Rows in the forms that trainers of others read: `newsclippings export`."""

from _newsclippings.export.export import export
from _newsclippings.export.messages import PROMPT, check_prompt, make_messages

__all__ = [
    "PROMPT",
    "check_prompt",
    "export",
    "make_messages",
]
