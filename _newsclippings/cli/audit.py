"""`newsclippings generate --audit`: find out how the official matches were made."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import Choice, say_json, say_text
from _newsclippings.facts import SPLITS

SPLIT = click.option(
    "--split",
    type=Choice(list(dict.fromkeys([*SPLITS, *SPLITS.values()]))),
    default="validation",
    show_default=True,
    help="Which split.",
)


def run_audit(config: str, split: str, data_dir: str | None, out: Path | None, form: str) -> None:
    """Print the page of an audit, or its values as JSON, and write both to a folder if there is one."""
    from _newsclippings.generate import audit as find_out
    from _newsclippings.generate import check_audit_folder, write_audit, write_page

    if out is not None:
        check_audit_folder(out)  # before a minute of work
    report: Any = find_out(config, split, data_dir)
    if out is not None:
        write_audit(report, out)
    if form == "json":
        say_json(report.as_dict(), indent=1)
    else:
        say_text(write_page(report).rstrip())
