"""The command `newsclippings generate`; so far only `--audit`."""

from pathlib import Path

import click

from _newsclippings.cli.audit import SPLIT, run_audit
from _newsclippings.cli.options import CONFIG, FORMAT, OutPath, errors_in_a_line


@click.command(short_help="Find out how the official matches were made.")
@click.option(
    "--audit",
    is_flag=True,
    required=True,
    help="Find out by which measure, rule, pool and use of pictures the official matches were made.",
)
@CONFIG
@SPLIT
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
    run_audit(config, split, data_dir, out, form)
