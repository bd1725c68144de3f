"""The command `newsclippings verify`: check input files, or a built folder."""

from typing import Any

import click

from _newsclippings.cli.options import (
    ALL,
    FORMAT,
    Choice,
    ConfigName,
    PlacePath,
    errors_in_a_line,
    expand_all,
    inputs,
    say_json,
    say_text,
)
from _newsclippings.facts import CONFIGS
from _newsclippings.storage import Place


@click.command(short_help="Check that your input files are present and intact.")
@inputs
@click.option(
    "--config",
    "configs",
    type=ConfigName([*CONFIGS, ALL]),
    multiple=True,
    callback=expand_all,
    help="Which config, or the name of one that was generated into --data-dir; repeat for more, or all. Unset: those "
    "with all matches on this machine, else merged_balanced.",
)
@click.option(
    "--images",
    type=Choice(["header", "decode"]),
    is_flag=False,
    flag_value="header",
    help="Read every picture that is needed, and check its format, size and end. With --images=decode, decode it too.",
)
@click.option("--embeddings", is_flag=True, help="Check the authors' embeddings too.")
@click.option(
    "--checksums", is_flag=True, help="Compute the SHA-256 of every file, and compare the authors' files with the Hub."
)
@click.option(
    "--built",
    type=PlacePath(),
    help="Check a folder that `newsclippings build` wrote against its manifests, instead of the inputs.",
)
@FORMAT
@click.pass_context
@errors_in_a_line
def verify(context: click.Context, built: Place | None, form: str, **fields: Any) -> None:
    """Check which input files you have and whether they are intact, without building anything.

    The exit code is 0 if everything is sound, else 1.

    \b
    Example:
      newsclippings verify --data-dir demo/data --images
      newsclippings verify --built newsclippings
    """
    from _newsclippings.check import verify as verify_inputs
    from _newsclippings.check import verify_built
    from _newsclippings.storage import Access, find_place

    if built is None:
        fields["configs"] = list(fields["configs"]) or None
        report = verify_inputs(**fields)
    else:
        typed, source_of = click.core.ParameterSource.COMMANDLINE, context.get_parameter_source
        given = [option for option in context.command.params if source_of(option.name or "") is typed]
        general = ("built", "form", "storage_options", "quiet", "verbose")
        others = [option.opts[0] for option in given if option.name not in general]
        if others:
            message = f"--built checks a built folder and {others[0]} is about inputs: use only one of them."
            raise click.UsageError(message)
        report = verify_built(find_place(built, Access(fields["storage_options"])))
    if form == "json":
        say_json(report.as_dict(), indent=1)
    else:
        say_text(report)
    context.exit(0 if report.sound else 1)
