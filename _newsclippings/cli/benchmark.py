"""The command `newsclippings benchmark`: run published baselines, and compare them with their numbers."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import Choice, ConfigName, OutPath, errors_in_a_line, say_json, say_text
from _newsclippings.facts import CONFIGS
from _newsclippings.text import printable

SIDES = ("image", "text")


def _parse_vectors(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str] | None:
    """Read image=LOCATION,text=LOCATION, or one of them from each option."""
    places: dict[str, str] = {}
    for part in ",".join(given).split(",") if given else ():
        side, _equals, place = part.partition("=")
        if side not in SIDES or not place or side in places:
            message = f"{part!r}: expected image=LOCATION,text=LOCATION."
            raise click.BadParameter(message, param=parameter)
        places[side] = place
    return places or None


@click.command(short_help="Run a published baseline, and compare it with its number.")
@click.argument("name", required=False)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, metavar="[-- FLAGS]")
@click.option("--list", "listing", is_flag=True, help="Show what each needs and costs, its number, and what differs.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="How many seeds.")
@click.option(
    "--config",
    type=ConfigName(list(CONFIGS)),
    help="Which config, or the name of one that was generated into --data-dir. Unset: merged_balanced; for "
    "cross-outlet, all five.",
)
@click.option(
    "--vectors",
    metavar="image=LOCATION,text=LOCATION",
    multiple=True,
    callback=_parse_vectors,
    help="Folders of `newsclippings embed`, or files (.parquet, .arrow, .npy with .ids.npy, .safetensors). Unset: the "
    "authors' vectors of CLIP ViT-B/32.",
)
@click.option("--model", help="Make the vectors of this model first, as `newsclippings embed` does; kept below --out.")
@click.option(
    "--evidence",
    type=click.Path(),
    metavar="FOLDER",
    help="For muse, with --model: the web evidence that the authors of CCN give out. Its vectors are made, too.",
)
@click.option(
    "--as-if-unlabelled",
    is_flag=True,
    help="With --evidence: leave exact matches out of all rows, and not as the lists of CCN, which know the label.",
)
@click.option(
    "--data-dir",
    type=click.Path(),
    is_eager=True,  # before --config, whose value it may have
    envvar="NEWSCLIPPINGS_DATA_DIR",
    help="Folder with news_clippings/ and visual_news/. Unset: the authors' files are downloaded from the Hub.",
)
@click.option("--visual-news", multiple=True, help="VisualNews, for --model and clip-finetune; repeat for more.")
@click.option(
    "--out",
    type=OutPath(file_okay=False),
    default="benchmark",
    show_default=True,
    help="Folder for predictions and results.json.",
)
@click.option(
    "--format",
    "form",
    type=Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="For people, programs or papers.",
)
@errors_in_a_line
def benchmark(
    name: str | None,
    flags: tuple[str, ...],
    listing: bool,
    visual_news: tuple[str, ...],
    out: Path,
    form: str,
    **options: Any,
) -> None:
    """Run the baseline NAME: check the inputs, train, select on validation, test once, and compare.

    The table has the published number beside ours, with a 95 % interval, the deviation over seeds, and whether the
    published number is inside of the interval. Predictions are written below --out, and `newsclippings evaluate`
    measures them. FLAGS are those of `newsclippings train`, for clip-finetune. Most baselines need the extra `suite`.

    \b
    Example:
      newsclippings benchmark --list
      newsclippings benchmark clip-cosine --data-dir data --vectors image=vectors/pictures,text=vectors/captions
    """
    from _newsclippings.storage import report_full_disk
    from _newsclippings.suite import benchmark as run_baseline
    from _newsclippings.suite import describe_baselines

    if listing:
        say_text(describe_baselines())
        return
    if name is None:
        message = "Name a baseline, or pass --list."
        raise click.UsageError(message)
    places = [*visual_news] or None
    with report_full_disk(out, "choose a folder on a larger disk"):
        found = run_baseline(name, visual_news=places, out=out, train_flags=flags, **options)
    for note in found.notes:
        click.echo(printable(note), err=True)
    if form == "json":
        say_json(found.as_dict(), indent=1)
    else:
        say_text(found.table(form))
