"""The paper's benchmark: is this the caption's own picture? Nothing slow is imported before a function is called."""

from importlib.util import find_spec
from typing import Any

from _newsclippings.errors import MissingDependencyError

__all__ = [
    "run",
    "train",
]

_EXTRA = ("torch", "transformers", "accelerate", "safetensors", "matplotlib")


def train(arguments: list[str]) -> dict[str, Any]:
    """Train and evaluate, by the flags of `newsclippings train`.

    Returns:
        The measures on test, as in measures.json; empty in all processes of `torchrun` but the first.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
        NewsCLIPpingsError, ValueError, OSError: something is missing, damaged, or asked for in a wrong way.
        SystemExit: a flag is unknown, or `--help` was asked for.
    """
    _require_extra()
    from _newsclippings.train.command import main

    return main(arguments)


def run(arguments: list[str]) -> int:
    """As `train`, as a program: errors are printed in a line. Returns the exit code: 1 failed, 2 usage.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
    """
    _require_extra()
    from _newsclippings.train.command import command

    return command(arguments)


def _require_extra() -> None:
    lacking = [name for name in _EXTRA if find_spec(name) is None]
    if lacking:
        message = (
            f"Training needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed: "
            "pip install 'newsclippings[train]'."
        )
        raise MissingDependencyError(message)
