"""Shared parts of the commands: options, printing and errors."""

import contextlib
import functools
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from _newsclippings.config import LINKS, list_configs, parse_columns
from _newsclippings.errors import ConfigError, DataNotFoundError, NewsCLIPpingsError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, FULL, NAME
from _newsclippings.generated import is_name
from _newsclippings.storage import (
    RemotePath,
    describe_os_error,
    describe_print_error,
    discard_unprinted,
    expand_home,
    find_place,
    hide_progress,
    is_url,
    open_missing_streams,
    shows_progress,
)
from _newsclippings.text import as_message, did_you_mean, options_as_flags, printable


class Choice(click.Choice[Any]):
    """One of a list of words. The error for another word suggests the closest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check the word."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise click.BadParameter(
                error.message + did_you_mean(str(value), map(str, self.choices)), ctx, param
            ) from None


class ConfigName(Choice):
    """The name of an official config, or of one that was generated into --data-dir, or built from such a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Look for the name in the folder, whose option is read before (`is_eager`)."""
        given = {} if ctx is None else ctx.params
        folder, built = given.get("data_dir"), given.get("built")  # click has an object of its own for unset ones
        try:
            known = value in list_configs(folder if isinstance(folder, str) else None)
            known = known or (isinstance(built, Path | RemotePath) and is_name(value))
        except DataNotFoundError as error:
            raise click.ClickException(str(error)) from error
        except NewsCLIPpingsError as error:
            self.fail(str(error), param, ctx)
        return value if known else super().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the names, also those of generated configs in the folder."""
        folder, names = ctx.params.get("data_dir"), [*self.choices]
        with contextlib.suppress(NewsCLIPpingsError):  # such as that of a folder that is not there yet
            names += list_configs(folder if isinstance(folder, str) else None)
        return [CompletionItem(name) for name in dict.fromkeys(names) if name.startswith(incomplete)]


FORMAT = click.option(
    "--format",
    "form",
    type=Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output for people (text) or programs (json).",
)
CONFIG = click.option(
    "--config",
    type=ConfigName(list(CONFIGS)),
    default=DEFAULT_CONFIG,
    show_default=True,
    help="Which config, or the name of one that was generated into --data-dir.",
)
ALL = "all"


def expand_all(_: click.Context, __: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    """Replace `all` by the names of the five official configs."""
    return tuple(CONFIGS) if ALL in given else tuple(given)


SOME_CONFIGS = click.option(
    "--config",
    "configs",
    type=ConfigName([*CONFIGS, ALL]),
    multiple=True,
    default=[DEFAULT_CONFIG],
    show_default=True,
    callback=expand_all,
    help="Which config, or the name of one that was generated into --data-dir; repeat for more, or all.",
)
OFFICIAL_CONFIGS = click.option(
    "--config",
    "configs",
    type=Choice([*CONFIGS, ALL]),
    multiple=True,
    default=[DEFAULT_CONFIG],
    show_default=True,
    callback=expand_all,
    help="Which config; repeat for more, or all.",
)


def _parse_storage_options(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Read KEY=VALUE; a VALUE that is JSON is a number, a boolean, a list or an object, any other one is text."""
    options = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:  # not quoted, since it may be a secret
            message = "expected KEY=VALUE, such as anon=true."
            raise click.BadParameter(message, param=parameter)
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options


STORAGE_OPTIONS = click.option(
    "--storage-option",
    "storage_options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_parse_storage_options,
    help="Option of fsspec for the URLs you pass, such as anon=true; repeat for more.",
)


def _parse_embeddings(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> Any:
    """Read kinds of the authors, and NAME=LOCATION of the user's own vectors."""
    try:
        columns = parse_columns(given)
    except ConfigError as error:
        raise click.BadParameter(str(error), param=parameter) from None
    own = any(value is not True for value in columns.values())
    return columns if own else list(columns)


VECTORS = click.option(
    "--embeddings",
    metavar="KIND|NAME=LOCATION",
    multiple=True,
    callback=_parse_embeddings,
    help=f"Columns of vectors; repeat for more. The authors': {', '.join(EMBEDDINGS)}, or all. Your own: "
    "NAME=FOLDER of `newsclippings embed`, or NAME=pictures:FILE or NAME=captions:FILE (.parquet, .arrow, .npy with "
    ".ids.npy, .safetensors).",
)
TEXT = "text"  # the value of `--articles` without a value
ARTICLES = click.option(
    "--articles",
    type=Choice([FULL, TEXT]),
    metavar=f"[{FULL}]",
    callback=lambda _, __, value: {None: False, TEXT: True}.get(value, value),
    help="A column with the text of the caption's article; with the word full after it, the JSON of the original "
    "article instead, from visual_news/articles or articles.tar.",
)


def inputs(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options for the location of the data to a command."""
    command = STORAGE_OPTIONS(command)
    command = click.option(
        "--visual-news-index", help="Index of origin.tar, made by `newsclippings index`; a path or a URL."
    )(command)
    command = click.option(
        "--links-root", type=click.Path(), help="The folder below which --links=follow lets links lead."
    )(command)
    command = click.option(
        "--links",
        type=Choice(LINKS),
        default="refuse",
        show_default=True,
        help="Symbolic links that leave the folder of pictures: refuse them, or follow them below --links-root.",
    )(command)
    command = click.option(
        "--visual-news",
        multiple=True,
        help="VisualNews: the folder origin, origin.tar, a zip (read in place), or the first part of either; a path or "
        "a URL. Repeat for more: of each picture the first that has it.",
        callback=lambda _context, _option, places: list(places) or None,
    )(command)
    return click.option(
        "--data-dir",
        type=click.Path(),
        is_eager=True,  # before --config, whose value it may have
        envvar="NEWSCLIPPINGS_DATA_DIR",
        help="Folder with visual_news/ and news_clippings/. Unset: the matches are downloaded from the Hub.",
    )(command)


class ArticlesCommand(click.Command):
    """A command whose option `--articles` may be followed by `full`; any other word after it is an argument."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give the option its value where it stands alone; click would take the next word for the value."""
        end = args.index("--") if "--" in args else len(args)
        for k, word in enumerate(args[:end]):
            if word == "--articles" and args[k + 1 : k + 2] != [FULL]:
                args[k] = f"--articles={TEXT}"
        return super().parse_args(ctx, args)


def echo(text: object) -> None:
    """Print a result.

    Raises:
        ClickException: it cannot be printed.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        raise  # the reader closed the pipe; click ends quietly
    except OSError as error:
        raise click.ClickException(describe_print_error(error)) from error


class OutPath(click.Path):
    """A local path of an output."""

    def __init__(self, **kind: bool) -> None:
        super().__init__(path_type=Path, **kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a URL, which would become the name of a folder."""
        if isinstance(value, str) and is_url(value):
            self.fail(f"{value} is a URL; expected a local path. Write to a disk, then copy it there.", param, ctx)
        return super().convert(_expand_home(value), param, ctx)


class PlacePath(click.Path):
    """A folder or a file of outputs: a local path, or a URL that fsspec writes; see `find_place`."""

    def __init__(self, **kind: bool) -> None:
        super().__init__(path_type=Path, **kind)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check a local path; a URL is asked when it is used."""
        if isinstance(value, str) and is_url(value):
            try:
                value = find_place(value)
            except ConfigError as error:
                self.fail(str(error), param, ctx)
        return value if isinstance(value, RemotePath) else super().convert(_expand_home(value), param, ctx)


def _expand_home(value: Any) -> Any:
    return expand_home(value) if isinstance(value, str) else value


def _offers(command: click.Command, name: str, value: str | None) -> bool:
    """Whether a command has an option, and takes a value for it."""
    kinds = [option.type for option in command.params if option.name == name]
    return any(value is None or not isinstance(kind, click.Choice) or value in kind.choices for kind in kinds)


def errors_in_a_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """Print errors in one line without a traceback, and exit with 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            with options_as_flags(offers=functools.partial(_offers, click.get_current_context().command)):
                return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader closed the pipe; click ends quietly
        except (NewsCLIPpingsError, OSError, MemoryError) as error:
            message = str(error) if isinstance(error, NewsCLIPpingsError) else describe_os_error(error)
            raise click.ClickException(message) from error

    return wrapped


def _apply_quiet(context: click.Context, _: click.Parameter, quiet: bool) -> None:
    if quiet:
        logger = logging.getLogger(NAME)
        context.call_on_close(functools.partial(logger.setLevel, logger.level))
        logger.setLevel(logging.CRITICAL)
        context.with_resource(hide_progress())


def _apply_verbose(context: click.Context, _: click.Parameter, verbose: bool) -> None:
    if verbose:
        logger, handler = logging.getLogger(NAME), logging.StreamHandler()
        context.call_on_close(functools.partial(logger.setLevel, logger.level))
        context.call_on_close(functools.partial(logger.removeHandler, handler))
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


QUIET = click.Option(
    ["-q", "--quiet"],
    is_flag=True,
    expose_value=False,
    callback=_apply_quiet,
    help="No log and no progress bars; errors and results only.",
)
VERBOSE = click.Option(
    ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_apply_verbose, help="Log what is done, too."
)


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether `--format json` is among the arguments; they may be wrong elsewhere, so click may not have read them."""
    words = [*arguments[: arguments.index("--") if "--" in arguments else None]]
    return "--format=json" in words or ("--format", "json") in itertools.pairwise(words)


def _show_as_json(error: click.ClickException, file: Any = None) -> None:
    """Print an error as JSON: the class of the cause, the message, and the exit code."""
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    facts: dict[str, Any] = {"class": type(cause).__name__, "message": error.format_message()}
    if isinstance(cause, OSError) and cause.errno is not None:
        facts["errno"] = cause.errno
    click.echo(_as_ascii({"error": {**facts, "exit_code": error.exit_code}}), file=file, err=file is None)


def renamed(command: click.Command, old: str) -> click.Command:
    """Make a hidden command with the old name of another one. It prints a notice, and does the same."""

    def run(**values: Any) -> Any:
        click.echo(f"`newsclippings {old}` is now `newsclippings {command.name}`.", err=True)
        return command.callback and command.callback(**values)

    return click.Command(old, callback=run, params=[*command.params], help=command.help, hidden=True)


class Commands(click.Group):
    """A group of commands whose errors are made safe for terminals, since they may quote files.

    Each of its commands has the options `--quiet` and `--verbose`. After `--format json` errors are JSON, too.
    """

    _exit_code = 1
    _in_json = False

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, with the options that all commands have."""
        cmd.params += [option for option in (QUIET, VERBOSE) if option not in cmd.params]
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command."""
        with self._make_errors_safe():
            return super().invoke(ctx)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the part of the command line before the command."""
        with self._make_errors_safe():
            return super().make_context(*args, **kwargs)

    @contextlib.contextmanager
    def _make_errors_safe(self) -> Iterator[None]:
        """Escape what a terminal would obey in an error, and keep its exit code in case it cannot be printed."""
        try:
            yield
        except click.ClickException as error:
            error.message = as_message(error.message)  # type: ignore[misc] # so that its usage line stays
            self._exit_code = error.exit_code
            if self._in_json:
                error.show = functools.partial(_show_as_json, error)  # type: ignore[method-assign]
            raise

    def main(self, args: Sequence[str] | None = None, *others: Any, **kwargs: Any) -> Any:
        """Run as `click.Group.main`, but exit with 1 if a result could not be written to standard output."""
        open_missing_streams()
        self._exit_code = 1
        self._in_json = asks_for_json(sys.argv[1:] if args is None else args)
        try:
            return super().main(args, *others, **kwargs)
        except OSError as error:  # from a text that click itself prints, such as --help or an error
            with contextlib.suppress(OSError):
                failed = click.ClickException(describe_print_error(error))
                _show_as_json(failed) if self._in_json else failed.show()
            sys.exit(self._exit_code)
        finally:
            discard_unprinted()


def say(line: object) -> None:
    """Print a line, with control characters escaped: names in it may come from anyone."""
    echo(printable(str(line)))


def say_text(text: object) -> None:
    """Print lines, with other control characters escaped."""
    echo("\n".join(map(printable, str(text).split("\n"))))


def say_json(value: object, indent: int | None = None) -> None:
    """Print JSON in ASCII without control characters."""
    echo(_as_ascii(value, indent))


def say_file(form: str, file: object, **facts: Any) -> None:
    """Print the file or folder that a command wrote, alone or as JSON with facts about it."""
    if form == "json":
        say_json({"file": os.fspath(file) if isinstance(file, os.PathLike) else str(file), **facts})
    else:
        say(file)


def _as_ascii(value: object, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def quiet_when_piped() -> None:
    """Turn off the progress bars of the Hub's client after `-q`, or unless stderr is a terminal."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not shows_progress():
        disable_progress_bars()
