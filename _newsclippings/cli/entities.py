"""The command `newsclippings entities`: make or check a folder of entities."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.embed import IDS, RANK, WORLD, check_no_others
from _newsclippings.cli.options import FORMAT, OutPath, errors_in_a_line, inputs, say_json, say_text

_OF_CHECK = (
    "out", "model", "aliases", "check", "form", "data_dir", "visual_news", "visual_news_index", "links", "links_root",
    "storage_options",
)  # fmt: skip


@click.command(short_help="Find the entities of captions: persons, places, ...")
@click.argument("out", type=OutPath(file_okay=False))
@click.option(
    "--model",
    help="What finds them: spacy:NAME (a pipeline of spaCy, such as spacy:en_core_web_sm; needs the extra `entities`), "
    "or module:function.",
)
@IDS
@inputs
@click.option(
    "--aliases",
    type=click.Path(dir_okay=False),
    help="CSV file of rows alias,name: an entity with the text alias gets the text name.",
)
@click.option(
    "--part-size", type=click.IntRange(min=1), default=16384, show_default=True, help="Ids of a file of the folder."
)
@RANK
@WORLD
@click.option("--check", is_flag=True, help="Write nothing: check that OUT is complete and right, else exit with 1.")
@FORMAT
@click.pass_context
@errors_in_a_line
def entities(context: click.Context, out: Path, model: str | None, check: bool, form: str, **fields: Any) -> None:
    """Find the entities of each distinct caption once, and write them to the folder OUT, as in the authors' metadata.

    Interrupt it when you like: the same command goes on from there. Several processes share the work: torchrun, srun,
    or --rank and --world.

    \b
    Example:
      newsclippings entities vectors/names --model spacy:en_core_web_sm --data-dir data
      newsclippings entities vectors/names --check --data-dir data
    """
    from _newsclippings.embed import entities as make
    from _newsclippings.embed import verify_entities

    report: Any
    if check:
        check_no_others(context, _OF_CHECK)
        places = {name: value for name, value in fields.items() if name in _OF_CHECK}
        report = verify_entities(out, model, **places)
    elif model is None:
        message = "Missing option '--model'."
        raise click.UsageError(message)
    else:
        report = make(out, model, **fields)
    if form == "json":
        say_json(report.as_dict(), indent=1)
    else:
        say_text(report)
    context.exit(0 if not check or report.sound else 1)
