"""A row as a question and its answer, for models that chat."""

from typing import Any, Final

from _newsclippings.errors import ConfigError
from _newsclippings.facts import LABELS
from _newsclippings.storage import has_surrogates
from _newsclippings.text import option, short_repr

CAPTION: Final = "{caption}"  # in a prompt, the place of the caption
PROMPT: Final = (
    f'News caption: "{CAPTION}"\nDoes the picture belong to this caption, or was it taken from another context? '
    f"Answer {LABELS[0]} or {LABELS[1]}."
)


def check_prompt(prompt: str) -> str:
    """Return a prompt of the user.

    Raises:
        ConfigError: it has no place for the caption, or is not a text that can be written.
    """
    if not isinstance(prompt, str) or CAPTION not in prompt:
        message = f"{option('prompt')} {short_repr(prompt)} has no {CAPTION}, the place of the caption. Put it in."
        raise ConfigError(message)
    if has_surrogates(prompt):
        message = f"{option('prompt')} {short_repr(prompt)} has characters that UTF-8 cannot encode. Type it again."
        raise ConfigError(message)
    return prompt


def ask(prompt: str, caption: str) -> str:
    """Put a caption into a prompt. Other braces, in either, stay as they are."""
    return prompt.replace(CAPTION, caption)


def make_messages(prompt: str, caption: str, falsified: int) -> list[dict[str, Any]]:
    """Make the chat of a row, as the templates of transformers take it: the picture, the question and the answer.

    Args:
        prompt: the question, with `{caption}` in the place of the caption.
        caption: the caption.
        falsified: 0 or 1.

    Returns:
        Two messages. The answer is `pristine` or `falsified`, the words that `newsclippings evaluate` reads.
    """
    question = [{"type": "image"}, {"type": "text", "text": ask(prompt, caption)}]
    return [
        {"role": "user", "content": question},
        {"role": "assistant", "content": [{"type": "text", "text": LABELS[falsified]}]},
    ]
