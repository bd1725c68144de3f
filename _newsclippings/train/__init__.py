"""Train and evaluate classifiers for the paper's benchmark: does a picture belong to its caption?

torch and other large packages are imported when a function is called.
"""

from importlib.util import find_spec
from typing import Any

from _newsclippings.errors import MissingDependencyError

__all__ = [
    "run",
    "train",
]

_EXTRA = ("torch", "transformers", "accelerate", "safetensors", "matplotlib")


def train(arguments: list[str]) -> dict[str, Any]:
    """Train and evaluate a classifier.

    Args:
        arguments: flags of `newsclippings train`.

    Returns:
        The measures on test, in the form of `newsclippings evaluate --format json` (with several configs, by config;
        with --seeds of all runs); empty in all processes of `torchrun` but the first.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
        NewsCLIPpingsError, ValueError, OSError: something is missing, damaged or contradictory.
        SystemExit: a flag is unknown, or `--help` was given.
    """
    _require_extra()
    from _newsclippings.train.command import main

    return main(arguments)


def run(arguments: list[str]) -> int:
    """Train and evaluate as a program, and print errors in one line.

    Args:
        arguments: flags of `newsclippings train`.

    Returns:
        The exit code: 0 for success, 1 for a failure, 2 for wrong usage.

    Raises:
        MissingDependencyError: the extra `train` is not installed.
    """
    _require_extra()
    from _newsclippings.train.command import run_command

    return run_command(arguments)


def _require_extra() -> None:
    lacking = [name for name in _EXTRA if find_spec(name) is None]
    if lacking:
        message = (
            f"Training needs {', '.join(lacking)}, which {'is' if len(lacking) == 1 else 'are'} not installed: "
            "pip install 'newsclippings[train]'."
        )
        raise MissingDependencyError(message)
