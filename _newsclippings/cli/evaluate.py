"""The command `newsclippings evaluate`: measure predictions, and compare models."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import CONFIG, Choice, OutPath, PlacePath, errors_in_a_line, say_json, say_text
from _newsclippings.facts import SPLITS, TEST_SETS
from _newsclippings.storage import Place
from _newsclippings.text import printable


def _parse_thresholds(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> list[float | str] | None:
    """Read numbers, and leave val:FILE as it is."""
    values: list[float | str] = []
    for text in given:
        try:
            values.append(text if text.startswith("val:") else float(text))
        except ValueError:
            message = f"{text!r}: expected a number or val:FILE."
            raise click.BadParameter(message, param=parameter) from None
    return values or None


@click.command(short_help="Measure the predictions of any model, or compare models.")
@click.argument("predictions", nargs=-1, required=True, type=click.Path(allow_dash=True))
@CONFIG
@click.option("--split", type=Choice(list(SPLITS)), default="test", show_default=True, help="Which split.")
@click.option(
    "--data-dir",
    type=click.Path(),
    is_eager=True,  # before --config, whose value it may have
    envvar="NEWSCLIPPINGS_DATA_DIR",
    help="Folder with news_clippings/, for the true labels. Unset: the matches are downloaded from the Hub.",
)
@click.option(
    "--built",
    type=PlacePath(),
    is_eager=True,
    help="A folder that `newsclippings build` wrote, for the true labels, instead.",
)
@click.option(
    "--on",
    type=Choice(TEST_SETS),
    help="A test set of others instead, in the folder --data.",
)
@click.option("--data", type=click.Path(), help="With --on: its folder as published, or the list of its rows.")
@click.option("--partial", is_flag=True, help="Count missing rows as wrong, and pass over unknown and doubled ones.")
@click.option(
    "--threshold",
    metavar="NUMBER|val:FILE",
    multiple=True,
    callback=_parse_thresholds,
    help="A score above it calls a row falsified; val:FILE chooses the best one on predictions of the validation "
    "split. Repeat for one for each file. Unset: the labels of the file, or 0.5.",
)
@click.option(
    "--cluster",
    type=Choice(["pairs", "pictures"]),
    default="pairs",
    show_default=True,
    help="What is resampled for intervals: pairs, or together all pairs that share pictures.",
)
@click.option("--group", is_flag=True, help="The files differ by their seed only: print mean and standard deviation.")
@click.option(
    "--format",
    "form",
    type=Choice(["text", "json", "markdown", "latex", "csv"]),
    default="text",
    show_default=True,
    help="For people, programs or papers.",
)
@click.option("--out", type=OutPath(file_okay=False), help="Folder for plots (PNG). Needs the extra `plot`.")
@click.pass_context
@errors_in_a_line
def evaluate(
    context: click.Context,
    predictions: tuple[str, ...],
    data_dir: str | None,
    built: Place | None,
    on: str | None,
    data: str | None,
    form: str,
    out: Path | None,
    **options: Any,
) -> None:
    """Measure PREDICTIONS of any model on the official labels, with 95 % intervals; compare the models of several.

    Each file is JSON lines, CSV, TSV or Parquet, or - for standard input. A row has `index` (or `id` and `image_id`),
    and `score` (higher for falsified) or `label_predicted` (1 for falsified). The exit code is 1 if rows are missing,
    unknown, doubled or NaN.

    \b
    Example:
      newsclippings evaluate predictions.jsonl --data-dir demo/data
      newsclippings evaluate a.jsonl b.csv --threshold val:a-val.jsonl --threshold 0.5
      newsclippings evaluate predictions.jsonl --on verite --data VERITE
    """
    from _newsclippings.config import Request
    from _newsclippings.evaluate import draw_evaluation, list_plots, require_matplotlib
    from _newsclippings.evaluate import evaluate as evaluate_predictions
    from _newsclippings.inputs import find_inputs
    from _newsclippings.storage import check_not_input, report_full_disk
    from _newsclippings.suite import evaluate_on

    if predictions.count("-") > 1:
        message = "Standard input (-) can be read once."
        raise click.UsageError(message)
    typed = context.get_parameter_source("data_dir") is click.core.ParameterSource.COMMANDLINE
    if built is not None and not typed:
        data_dir = None  # that of the environment
    if (on is None) != (data is None):
        message = "--on and --data belong together: a test set of others, and its folder."
        raise click.UsageError(message)
    if on is not None:
        for name in ("config", "split", "built"):
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                message = f"--{name} has no effect with --on: another split of {on} is chosen with --data FILE."
                raise click.UsageError(message)
        del options["config"], options["split"]
    if out is not None:
        require_matplotlib()  # before anything is read
        inputs: list[Any] = [file for file in predictions if file != "-"]
        if data is not None:
            inputs.append(data)
        else:
            inputs += [built] if built is not None else find_inputs(Request(options["config"], data_dir)).list_places()
        for plot in list_plots(out):
            check_not_input(plot, inputs)
    if on is not None and data is not None:
        found = evaluate_on(on, data, *predictions, data_dir=data_dir, **options)
    else:
        found = evaluate_predictions(*predictions, data_dir=data_dir, built=built, **options)
    for note in found.notes:
        click.echo(printable(note), err=True)
    if form == "json":
        say_json(found.as_dict(), indent=1)
    else:
        say_text(found.table(form))
    if out is not None:
        with report_full_disk(out, "choose a folder on a larger disk"):
            for plot in draw_evaluation(found, out):
                click.echo(printable(str(plot)), err=True)
