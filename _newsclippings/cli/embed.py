"""The command `newsclippings embed`: make or check a folder of vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import FORMAT, Choice, OutPath, errors_in_a_line, inputs, say_json, say_text

_OF_CHECK = (
    "out", "model", "augment", "device", "check", "form", "data_dir", "visual_news", "visual_news_index", "links",
    "links_root", "storage_options",
)  # fmt: skip

IDS = click.option(
    "--ids",
    default="config:merged_balanced",
    show_default=True,
    help="Which: config:NAME, all (all of VisualNews), or a file with one id per line, or .npy.",
)
RANK = click.option(
    "--rank", type=click.IntRange(min=0), help="Number of this process. Unset: as torchrun or srun say."
)
WORLD = click.option("--world", type=click.IntRange(min=1), help="How many processes there are.")


def check_no_others(context: click.Context, names: Sequence[str]) -> None:
    """Raise `click.UsageError` if options are on the command line that have no effect with `--check`."""
    typed, source_of = click.core.ParameterSource.COMMANDLINE, context.get_parameter_source
    given = [option for option in context.command.params if source_of(option.name or "") is typed]
    if others := [option.opts[0] for option in given if option.name not in names]:
        message = f"--check checks what is there, and {others[0]} is about making it: use only one of them."
        raise click.UsageError(message)


@click.command(short_help="Encode pictures or captions with the model of your choice.")
@click.argument("out", type=OutPath(file_okay=False))
@click.option(
    "--model",
    help="What makes the vectors: a model's name or folder for transformers, st:NAME (sentence-transformers), "
    "open_clip:ARCH/PRETRAINED, onnx:DIR, or py:module:function.",
)
@click.option("--of", type=Choice(["pictures", "captions"]), help="What is encoded, each distinct one once.")
@IDS
@inputs
@click.option("--dtype", type=Choice(["float32", "float16"]), default="float32", show_default=True, help="As stored.")
@click.option(
    "--part-size", type=click.IntRange(min=1), default=4096, show_default=True, help="Ids of a file of the folder."
)
@click.option("--augment", metavar="MODULE:FUNCTION", help="Changes each picture or caption before it is encoded.")
@click.option("--device", help="Such as cuda:1. Unset: a GPU if there is one; of several, that of the rank.")
@click.option(
    "--missing",
    type=Choice(["error", "null"]),
    default="error",
    show_default=True,
    help="What to do if more than 1 % of the pictures cannot be read; null: they have no vector.",
)
@click.option("--engine", type=Choice(["ray"]), help="Run as a pipeline of Ray Data. Needs the extra `ray`.")
@RANK
@WORLD
@click.option("--check", is_flag=True, help="Write nothing: check that OUT is complete and right, else exit with 1.")
@FORMAT
@click.pass_context
@errors_in_a_line
def embed(context: click.Context, out: Path, model: str | None, check: bool, form: str, **fields: Any) -> None:
    """Encode each distinct picture or caption once, and write the vectors to the folder OUT, to be joined by id.

    Interrupt it when you like: the same command goes on from there. Several processes share the work, each with its own
    GPU: torchrun --nproc_per_node 8 --no-python newsclippings embed ..., or srun.

    \b
    Example:
      newsclippings embed vectors/vitl --model openai/clip-vit-large-patch14 --of pictures --data-dir data
      newsclippings embed vectors/vitl --check --data-dir data
    """
    from _newsclippings.embed import embed as make
    from _newsclippings.embed import verify_vectors

    if check:
        check_no_others(context, _OF_CHECK)
        places = {name: value for name, value in fields.items() if name in _OF_CHECK}
        report = verify_vectors(out, model, **places)
        if form == "json":
            say_json(report.as_dict(), indent=1)
        else:
            say_text(report)
        context.exit(0 if report.sound else 1)
    if model is None or fields["of"] is None:
        message = f"Missing option '{'--model' if model is None else '--of'}'."
        raise click.UsageError(message)
    made = make(out, model, **fields)
    if form == "json":
        say_json(made.as_dict(), indent=1)
    else:
        say_text(made)
