"""The command `newsclippings export`: rows in the forms that trainers of others read."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import (
    CONFIG,
    FORMAT,
    Choice,
    OutPath,
    PlacePath,
    errors_in_a_line,
    inputs,
    say,
    say_json,
)
from _newsclippings.facts import EXPORT_FORMS, SPLITS


@click.command(short_help="Write rows as other trainers read them: LLaVA, chats, CSV, tars.")
@click.argument("out", type=OutPath(file_okay=False))
@click.option("--as", "layout", type=Choice(EXPORT_FORMS), required=True, help="Which form; see above.")
@CONFIG
@click.option(
    "--split",
    "splits",
    type=Choice(list(SPLITS)),
    multiple=True,
    help="Which split; repeat for more. Unset: all.",
)
@click.option(
    "--built",
    type=PlacePath(file_okay=False),
    is_eager=True,  # a generated --config is in it
    help="A folder that `newsclippings build` wrote, whose rows are exported as they are, instead of the data below.",
)
@inputs
@click.option(
    "--images",
    type=Choice(["bytes", "none"]),
    default="bytes",
    show_default=True,
    help="bytes: write the pictures, too, once each; none: write only their paths below the folder origin.",
)
@click.option(
    "--missing",
    type=Choice(["error", "drop_pair"]),
    default="error",
    show_default=True,
    help="What to do with rows without a picture or record.",
)
@click.option("--check-images", is_flag=True, help="Decode every picture; broken ones count as missing.")
@click.option(
    "--prompt", help="Of llava and messages: the question, with {caption} in it. The answer is pristine or falsified."
)
@FORMAT
@click.pass_context
@errors_in_a_line
def export(
    context: click.Context, out: Path, form: str, layout: str, config: str, splits: tuple[str, ...], **options: Any
) -> None:
    """Write rows to OUT in a form that trainers of others read.

    \b
    hydrated    the official JSON, with caption and image_path in each annotation
    llava       LLaVA's JSON: id, image, conversations
    messages    JSON lines of chats with images, for TRL's SFTTrainer
    csv         one row a line, with all facts
    webdataset  tars of up to 1,000 rows: <row number>.jpg, .txt, .cls, .json

    Pictures are in OUT/images, under the name of their id, or in the tars; paths are relative to OUT. SHA256SUMS is
    there when all is. Interrupt it when you like: the same command goes on from there.

    \b
    Example:
      newsclippings export llava --as llava --data-dir demo/data
      newsclippings export shards --as webdataset --built newsclippings --split train
    """
    from _newsclippings.export import export as export_rows

    typed = context.get_parameter_source("data_dir") is click.core.ParameterSource.COMMANDLINE
    if options["built"] is not None and not typed:
        options["data_dir"] = None  # that of the environment
    options["storage_options"] = options["storage_options"] or None
    counts = export_rows(out, layout, config, splits=list(splits) or None, **options)
    if form == "json":
        say_json({"folder": str(out), "rows": counts})
        return
    for split, count in counts.items():
        say(f"{out}: {split}: {count:,} rows")
