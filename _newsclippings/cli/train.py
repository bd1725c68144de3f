"""The command `newsclippings train`. Its flags are parsed by `transformers`."""

import click

from _newsclippings.cli.options import errors_in_a_line
from _newsclippings.text import options_as_flags


@click.command(
    short_help="Train and evaluate a classifier: the paper's benchmark.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
@errors_in_a_line
def train(ctx: click.Context, flags: tuple[str, ...]) -> None:
    """Train a classifier of pairs on any CLIP or SigLIP model, and evaluate it. Needs the extra `train`.

    The flags are those of the authors' recipe and of transformers.TrainingArguments: see newsclippings train --help.

    \b
    Example:
      newsclippings train --data_dir demo/data --from_config tiny --max_steps 30
    """
    from _newsclippings.train import run

    with options_as_flags("_"):
        ctx.exit(run(list(flags)))
