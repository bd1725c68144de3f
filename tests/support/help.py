"""The `--help` text of every command, stored in help.txt; `python -m tests.support.help` updates that file."""

from __future__ import annotations

from pathlib import Path

import click

from _newsclippings.cli.commands import main

KEPT = Path(__file__).with_name("help.txt")


def help_of_commands() -> str:
    """Return the `--help` text of `newsclippings` and of each command, for a terminal of 80 columns."""
    group = main.make_context("newsclippings", [], resilient_parsing=True, terminal_width=80)
    pages = [("newsclippings", main.get_help(group))]
    for name, command in sorted(main.commands.items()):
        if command.hidden:
            continue
        pages.append((f"newsclippings {name}", command.get_help(click.Context(command, group, name))))
    return "\n\n".join(f"$ {called} --help\n{page}" for called, page in pages) + "\n"


if __name__ == "__main__":
    KEPT.write_text(help_of_commands(), encoding="utf-8")
