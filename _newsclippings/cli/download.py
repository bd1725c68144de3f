"""`newsclippings download`: it parses arguments, calls the package and prints."""

from pathlib import Path

import click

from _newsclippings.cli.options import (
    FORMAT,
    OFFICIAL_CONFIGS,
    Choice,
    OutPath,
    errors_in_a_line,
    quiet_when_piped,
    say,
    say_json,
)
from _newsclippings.facts import EMBEDDINGS


@click.command(short_help="Fetch the authors' files from the Hub, and check them.")
@click.argument("folder", metavar="DIR", type=OutPath(file_okay=False))
@OFFICIAL_CONFIGS
@click.option(
    "--embeddings",
    type=Choice([*EMBEDDINGS, "all"]),
    multiple=True,
    help="The authors' vectors, up to 4 GB a kind; repeat for more.",
)
@click.option("--metadata", is_flag=True, help="The authors' metadata (0.4 GB): titles, times, entities, captions.")
@FORMAT
@errors_in_a_line
def download(folder: Path, configs: tuple[str, ...], embeddings: tuple[str, ...], metadata: bool, form: str) -> None:
    """Fetch the authors' files into DIR, which is the --data-dir of other commands: their tree, at a pinned revision.

    Sizes and digests are compared with those that the Hub gives, rows with the published counts. Interrupt it when you
    like: the same command goes on from there. Files that are there already are kept, and never overwritten. HF_ENDPOINT
    names a mirror. The pictures (VisualNews) are not on the Hub.

    \b
    Example:
      newsclippings download data --config merged_balanced --metadata
    """
    from _newsclippings.hub import download as fetch

    quiet_when_piped()
    kinds = [kind for kind in EMBEDDINGS if kind in embeddings or "all" in embeddings]
    result = fetch(folder, dict.fromkeys(configs), kinds, metadata)
    if form == "json":
        say_json(result.as_dict())
        return
    for file in result.files:
        done = "fetched" if file.fetched else "was there"
        rows = "" if file.rows is None else f", {file.rows:,} rows"
        say(f"{file.bytes:>15,}  {file.path} ({done}{rows})")
    say(f"{sum(file.digest is not None for file in result.files)} of {len(result.files)} files have the Hub's digest.")
    for line in (*result.notes, *result.missing):
        say(line)
    say(f"Next: `{result.next}`.")
