"""The command `newsclippings leaderboard`: one page of all models in a folder of predictions."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import CONFIG, FORMAT, Choice, OutPath, errors_in_a_line, say, say_file
from _newsclippings.facts import SPLITS


@click.command(short_help="Write an HTML page that compares all predictions in a folder.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False))
@click.option("--out", type=OutPath(dir_okay=False), default="leaderboard.html", show_default=True, help="The page.")
@CONFIG
@click.option("--split", type=Choice(list(SPLITS)), default="test", show_default=True, help="Which split.")
@click.option(
    "--data-dir",
    type=click.Path(),
    envvar="NEWSCLIPPINGS_DATA_DIR",
    help="Folder with news_clippings/, for the true labels. Unset: the matches are downloaded from the Hub.",
)
@FORMAT
@errors_in_a_line
def leaderboard(folder: str, out: Path, form: str, **options: Any) -> None:
    """Measure the predictions in FOLDER, and write one HTML file: a row for each model, with its signature.

    Each folder in it with predictions.jsonl (.csv, .tsv, .parquet) is a run. A file facts.json beside it may have name,
    url, threshold (a number or val:FILE), and pixels, evidence and web (true or false). Runs of one name are its seeds.
    Models that do not differ significantly are in one group.

    \b
    Example:
      newsclippings leaderboard benchmark --data-dir data --out leaderboard.html
    """
    from _newsclippings.storage import report_full_disk
    from _newsclippings.suite import write_leaderboard

    with report_full_disk(out.parent, "choose a folder on a larger disk"):
        count = write_leaderboard(folder, out, **options)
    if form == "json":
        say_file(form, out, models=count)
    else:
        say(f"{out} ({count} model{'s' * (count != 1)})")
