"""The command line in this process."""

from __future__ import annotations

import inspect
from typing import Any

from click.testing import CliRunner, Result

from _newsclippings.cli.commands import main

# Before click 8.2 stderr had to be kept apart by name.
APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


def run(*args: object) -> Result:
    """Run `newsclippings` with these arguments; stdout and stderr are apart."""
    return CliRunner(**APART).invoke(main, [str(arg) for arg in args])
