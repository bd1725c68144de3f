"""The command line, run in this process."""

from __future__ import annotations

from click.testing import CliRunner, Result

from _newsclippings.cli.commands import main


def run(*args: object) -> Result:
    """Run `newsclippings` with these arguments; the result has stdout and stderr separately."""
    return CliRunner().invoke(main, [str(arg) for arg in args])
