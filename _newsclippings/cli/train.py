"""The command `newsclippings train`. Its flags are parsed by `transformers`."""

import click
from click.shell_completion import CompletionItem

from _newsclippings.cli.options import ALL, FORMAT, errors_in_a_line, say_json
from _newsclippings.errors import MissingDataError, NewsCLIPpingsError
from _newsclippings.facts import CONFIGS
from _newsclippings.storage import describe_os_error, describe_print_error
from _newsclippings.text import options_as_flags
from _newsclippings.train import Options, UsageError, describe_defaults, describe_options


class TrainCommand(click.Command):
    """A command whose help and completion have the flags, which `transformers` parses."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, and the flags."""
        super().format_options(ctx, formatter)
        with formatter.section("Flags"):
            formatter.write_dl(describe_options())
        with formatter.section("Flags of transformers.TrainingArguments that have another default here"):
            formatter.write_dl(describe_defaults())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of an option or a flag."""
        names = [name.split()[0] for name, _ in (*describe_options(), *describe_defaults())]
        flags = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *flags]


def _complete_value(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a value of the last flag: a name that it knows, or a path."""
    last = ["", *(ctx.params["flags"] or ())][-1].removeprefix("--")
    option = Options.__dataclass_fields__.get(last)
    names = [*CONFIGS, ALL] if last == "config" else option.metadata.get("choices", ()) if option else ()
    if not names:
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command(
    cls=TrainCommand,
    short_help="Train and evaluate a classifier: the paper's benchmark.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED, shell_complete=_complete_value)
@FORMAT
@errors_in_a_line
def train(flags: tuple[str, ...], form: str) -> None:
    """Train a classifier of pairs on any CLIP or SigLIP model, and evaluate it. Needs the extra `train`.

    --recipe chooses the defaults, and each number is a flag. All flags of transformers.TrainingArguments that have an
    effect here can be used, too, such as --bf16; the command python -m pydoc transformers.TrainingArguments explains
    them. With --format json, the result is that of newsclippings evaluate, with the folder and the files of the report.

    \b
    Example:
      newsclippings train --data_dir demo/data --from_config tiny --max_steps 30
    """
    from _newsclippings.train import run

    try:
        with options_as_flags("_", lambda name, _: name in Options.__dataclass_fields__):
            found, unprinted = run([*flags], show=form == "text")
    except BrokenPipeError:
        raise  # the reader closed the pipe; click ends quietly
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    except (NewsCLIPpingsError, ValueError, OSError, MemoryError) as error:
        raise click.ClickException(_format_error(error)) from error
    if isinstance(unprinted, BrokenPipeError):
        raise unprinted
    if unprinted is not None:
        raise click.ClickException(describe_print_error(unprinted)) from unprinted
    if form == "json" and found:  # the first of several processes only
        say_json(found, indent=1)


def _format_error(error: Exception) -> str:
    """Format an error for people: what is wrong, and what to do."""
    if isinstance(error, OSError | MemoryError) and not isinstance(error, NewsCLIPpingsError):
        return describe_os_error(error)
    lines = str(error).splitlines()
    from_worker = lines and lines[0].startswith("Caught ")  # by a DataLoader, which adds the traceback of its worker
    message = lines[-1].removeprefix("ValueError: ") if from_worker else str(error)
    return message + "\n  Here that is --missing drop_pair." * isinstance(error, MissingDataError)
