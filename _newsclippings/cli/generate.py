"""The command `newsclippings generate`; so far only `--audit`."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import CONFIG, FORMAT, Choice, OutPath, errors_in_a_line, say_json, say_text
from _newsclippings.facts import SPLITS


@click.command(short_help="Find out how the official matches were made.")
@click.option(
    "--audit",
    is_flag=True,
    required=True,
    help="Find out by which measure, rule, pool and use of pictures the official matches were made.",
)
@CONFIG
@click.option(
    "--split",
    type=Choice(list(dict.fromkeys([*SPLITS, *SPLITS.values()]))),
    default="validation",
    show_default=True,
    help="Which split.",
)
@click.option("--data-dir", type=click.Path(), help="Folder with news_clippings/: matches, metadata and embeddings.")
@click.option("--out", type=OutPath(file_okay=False), help="Folder for audit.md, audit.json and recipe.toml.")
@FORMAT
@errors_in_a_line
def generate(audit: bool, config: str, split: str, data_dir: str | None, out: Path | None, form: str) -> None:
    """Find out how the official matches of a split were made, as far as the authors' files show it.

    The page says for each source which measure gives its scores, which rule its pairs obey, among which pictures they
    were chosen, how often a picture is used, and how many pictures are the same if the captions are matched again.

    \b
    Example:
      newsclippings download data --config merged_balanced --embeddings all --metadata
      newsclippings generate --audit --config merged_balanced --split val --data-dir data --out audit
    """
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
