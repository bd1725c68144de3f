"""`newsclippings verify`: a thin edge of the two verifications."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import FORMAT, Choice, errors_in_a_line, inputs, say_json, say_text
from _newsclippings.facts import CONFIGS


@click.command(short_help="Say what is there, and whether it is right.")
@inputs
@click.option(
    "--config",
    "configs",
    type=Choice(list(CONFIGS)),
    multiple=True,
    help="Which config; repeat for more. Unset: those whose matches are all here, else merged_balanced.",
)
@click.option(
    "--images",
    type=Choice(["header", "decode"]),
    is_flag=False,
    flag_value="header",
    help="Read every needed picture: look at its format, size and end; --images=decode: decode it.",
)
@click.option("--embeddings", is_flag=True, help="Look at the authors' embeddings, too.")
@click.option(
    "--checksums", is_flag=True, help="Compute the SHA-256 of every file; compare the authors' with what the Hub says."
)
@click.option(
    "--built",
    type=click.Path(path_type=Path),
    help="Instead of the inputs, compare a folder that `newsclippings build` wrote with its manifests.",
)
@FORMAT
@click.pass_context
@errors_in_a_line
def verify(context: click.Context, built: Path | None, form: str, **fields: Any) -> None:
    """Say what is there and whether it is right, without building anything. Exit code 0: sound, 1: not.

    \b
    Example:
      newsclippings verify --data-dir demo/data --images
      newsclippings verify --built newsclippings
    """
    from _newsclippings.check import verify as verify_inputs
    from _newsclippings.check import verify_built

    if built is None:
        fields["configs"] = list(fields["configs"]) or None
        report = verify_inputs(**fields)
    else:
        typed, source_of = click.core.ParameterSource.COMMANDLINE, context.get_parameter_source
        given = [option for option in context.command.params if source_of(option.name or "") is typed]
        others = [option.opts[0] for option in given if option.name not in ("built", "form")]
        if others:
            message = f"--built looks at a built folder, {others[0]} at inputs: use one of them."
            raise click.UsageError(message)
        report = verify_built(built)
    if form == "json":
        say_json(report.as_dict(), indent=1)
    else:
        say_text(report)
    context.exit(0 if report.sound else 1)
