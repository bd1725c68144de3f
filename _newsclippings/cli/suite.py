"""The commands that measure data, not models: what evidence tells of labels, and what is in the training split."""

import json
from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import (
    CONFIG,
    FORMAT,
    Choice,
    OutPath,
    errors_in_a_line,
    inputs,
    say_json,
    say_text,
)
from _newsclippings.facts import SPLITS, TEST_SETS
from _newsclippings.text import printable

PLACES = ("data_dir", "visual_news", "visual_news_index", "links", "links_root")  # of the options in `inputs`


@click.command(short_help="Measure what web evidence alone tells of the labels.")
@click.argument("folder", type=click.Path())
@inputs
@click.option("--split", type=Choice(list(SPLITS)), default="test", show_default=True, help="Which split.")
@FORMAT
@errors_in_a_line
def evidence(folder: str, form: str, **fields: Any) -> None:
    """Measure what the evidence in FOLDER, that of CCN, tells of the labels of merged_balanced without any model.

    The authors of CCN left exact matches of the row's caption or picture out of the evidence of pristine rows only.
    Three rules are scored as models are: something was left out; the whole evidence has an exact match; and the same
    after the filter `as_if_unlabelled`, which does not know the label. Pictures are compared by a perceptual hash if
    those of VisualNews are found, which takes minutes; else only captions are.

    \b
    Example:
      newsclippings evidence queries_dataset --data-dir data
    """
    from _newsclippings.suite import measure_leak

    found = measure_leak(folder, **fields)
    if form == "json":
        say_json(found.as_dict(), indent=1)
    else:
        say_text(found)


@click.command(short_help="Find the rows of a table that are in the training split.")
@click.argument("file", type=click.Path())
@inputs
@CONFIG
@click.option("--split", type=Choice(list(SPLITS)), default="train", show_default=True, help="Which split.")
@click.option("--on", type=Choice(TEST_SETS), help="FILE is this test set of others: its folder, or its list of rows.")
@click.option(
    "--pictures",
    type=click.Path(),
    help="Folder of the pictures of FILE, to compare them, too, with all pictures of the split (minutes).",
)
@click.option("--out", type=OutPath(dir_okay=False), help="JSON file to write: the numbers of the rows that are in it.")
@FORMAT
@errors_in_a_line
def overlap(file: str, out: Path | None, form: str, **fields: Any) -> None:
    """Find the rows of FILE that are in a split of NewsCLIPpings: a test on them is no test of a model trained on it.

    FILE is CSV, TSV, JSON, JSON lines or Parquet, with any of the columns id and image_id (of VisualNews), caption (or
    text), and image_path (or image; in the dialects of VisualNews, DGM4 and MMFakeBench).

    \b
    Example:
      newsclippings overlap rows.csv --data-dir demo/data
      newsclippings overlap DGM4 --on dgm4 --data-dir demo/data --out overlap.json
    """
    from _newsclippings.config import Request
    from _newsclippings.inputs import find_inputs
    from _newsclippings.storage import OVERLAP, Access, check_not_input, check_output, report_full_disk, write_text
    from _newsclippings.suite import find_overlap

    if out is not None:
        places = {
            name: fields[name] for name in ("data_dir", "visual_news", "visual_news_index", "links", "links_root")
        }
        access = Access(fields["storage_options"])
        check_output(out, OVERLAP)
        check_not_input(out, [file, *find_inputs(Request(fields["config"], **places), access=access).list_places()])
    found = find_overlap(file, **fields)
    for note in found.notes:
        click.echo(printable(note), err=True)
    if out is not None:
        with report_full_disk(out.parent, "choose a file on a larger disk"):
            write_text(out, json.dumps(found.as_dict(), indent=1) + "\n", OVERLAP)
    if form == "json":
        say_json(found.as_dict(), indent=1)
    else:
        say_text(found)
