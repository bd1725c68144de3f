"""The command `newsclippings generate`: make new matches from a corpus."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.audit import SPLIT, run_audit
from _newsclippings.cli.options import FORMAT, Choice, OutPath, errors_in_a_line, inputs, say_json, say_text
from _newsclippings.config import parse_columns
from _newsclippings.errors import ConfigError
from _newsclippings.facts import DEFAULT_CONFIG

# Of `generate.METHODS`, whose module is imported when it is used
_NAMES = (
    "clip_text_image", "clip_text_text", "person", "scene", "time_swap", "place_swap", "same_story", "look_alike"
)  # fmt: skip
_OF_AUDIT = {"audit", "config", "split", "page", "data_dir", "form"}
_OF_METHODS = ("uses", "cap", "floor", "closed", "balance")
_OF_CHECK = {
    "out", "check", "form", "vectors", "entities", "corpus", "data_dir", "visual_news", "visual_news_index", "links",
    "links_root", "storage_options",
}  # fmt: skip


def _parse_vectors(_: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Read kinds of the authors, and NAME=LOCATION of vectors under any name."""
    try:
        return parse_columns(given)
    except ConfigError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@click.command(short_help="Make new matches from any corpus, by rules.")
@click.argument("out", type=OutPath(file_okay=False), required=False)
@click.option("--recipe", type=click.Path(dir_okay=False), help="A recipe in TOML: methods, rules, splits, merge.")
@click.option(
    "--method",
    "methods",
    type=Choice(_NAMES),
    multiple=True,
    help="A method to match by, instead of a recipe; repeat for more.",
)
@click.option("--uses", type=click.IntRange(min=1), help="With --method: how often a picture may be used. Unset: once.")
@click.option("--cap", type=float, help="With --method: scores are below this.")
@click.option("--floor", type=float, help="With --method: scores are at least this.")
@click.option("--closed", is_flag=True, help="With --method: each picture is as often true as false.")
@click.option(
    "--balance",
    type=Choice(["zero-shot"]),
    help="With --method: keep as many pairs as a model of texts and pictures gets right as wrong.",
)
@click.option(
    "--config",
    metavar="NAME",
    help="Name of the new config. Unset: that of the recipe, else mine. With --audit: the official config.",
)
@click.option(
    "--vectors",
    metavar="NAME=LOCATION",
    multiple=True,
    callback=_parse_vectors,
    help="Vectors as a method names them, such as clip_text=FOLDER of `newsclippings embed`, or NAME=pictures:FILE or "
    "NAME=captions:FILE; repeat for more. The authors' kinds are found below --data-dir. Those of pictures that no "
    "method names serve to recognise copies.",
)
@click.option(
    "--entities",
    type=click.Path(),
    help="A folder that `newsclippings entities` wrote, or the authors' metadata. Unset: those metadata.",
)
@click.option(
    "--corpus",
    type=click.Path(),
    help="A corpus of your own instead of VisualNews: a folder with data.json in its form, or a .csv or .parquet file "
    "with the columns id, caption and image_path, and perhaps outlet, topic, article, time and has_person.",
)
@click.option(
    "--audit",
    is_flag=True,
    help="Make nothing. Find out by which measure, rule, pool and use of pictures the official matches of a --split "
    "were made, from those matches, the metadata and the vectors below --data-dir.",
)
@SPLIT
@click.option(
    "--out",
    "page",
    type=OutPath(file_okay=False),
    help="With --audit: folder for audit.html, audit.md, audit.json and recipe.toml.",
)
@inputs
@click.option("--device", help="Where torch compares vectors, such as cuda:1. Unset: a GPU, if torch finds one.")
@click.option("--engine", type=Choice(["ray"]), help="Compare vectors on a Ray cluster. Needs the extra `ray`.")
@click.option(
    "--approximate",
    is_flag=True,
    help="Compare captions only with pictures that are near, where a method compares more than two million on CPUs. "
    "How often the exact search finds the same is measured. Needs the extra `approximate`.",
)
@click.option("--rank", type=click.IntRange(min=0), help="Number of this process. Unset: as torchrun or srun say.")
@click.option("--world", type=click.IntRange(min=1), help="How many processes there are.")
@click.option("--check", is_flag=True, help="Write nothing: check that OUT has what it promises, else exit with 1.")
@FORMAT
@click.pass_context
@errors_in_a_line
def generate(
    context: click.Context,
    out: Path | None,
    recipe: str | None,
    methods: tuple[str, ...],
    audit: bool,
    split: str,
    page: Path | None,
    check: bool,
    form: str,
    **fields: Any,
) -> None:
    """Give captions of a corpus convincing pictures of others, by rules, and write them to OUT as a config.

    OUT is then the --data-dir of the config, for every command. Interrupt it when you like: the same command goes on
    from there, and the same inputs give the same bytes. With --check pass the inputs that it was made from: what needs
    one that is not given is not checked.

    Several processes share the work, through files in OUT: torchrun --nproc_per_node 8 --no-python newsclippings
    generate ..., or srun.

    With --audit, say how the official matches were made, as far as the authors' files show it: for each source which
    measure gives its scores, which rule its pairs obey, among which pictures they were chosen, how often a picture is
    used, and how many pictures are the same if the captions are matched again.

    \b
    Example:
      newsclippings generate out --method clip_text_text --vectors clip_text=vectors/text --entities vectors/names
      newsclippings generate out --recipe recipe.toml --corpus articles.csv --vectors clip_text=vectors/text
      newsclippings generate --check out --corpus articles.csv --vectors clip_text=vectors/text
      newsclippings generate --audit --config merged_balanced --split val --data-dir data --out audit
    """
    given = {
        name for name in context.params if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    allowed = _OF_AUDIT if audit else {*context.params} - {"split", "page", "audit"}
    for parameter in context.command.params:
        if parameter.name in given - allowed:
            name = "OUT" if parameter.name == "out" else parameter.opts[0]
            where = "with --audit; the folder for its page is --out" if audit else "without --audit"
            message = f"{name} has no effect {where}. Leave it out."
            raise click.UsageError(message)
    if audit:
        run_audit(fields["config"] or DEFAULT_CONFIG, split, fields["data_dir"], page, form)
        return
    if out is None:
        message = "Missing argument 'OUT'."
        raise click.UsageError(message)
    from dataclasses import replace

    from _newsclippings.generate import METHODS, Method, verify_generated
    from _newsclippings.generate import generate as make

    if check:
        if others := [option.opts[0] for option in context.command.params if option.name in given - _OF_CHECK]:
            message = f"--check checks what is there, and {others[0]} is about making it: use only one of them."
            raise click.UsageError(message)
        report = verify_generated(out, **{name: value for name, value in fields.items() if name in _OF_CHECK})
        if form == "json":
            say_json(report.as_dict(), indent=1)
        else:
            say_text(report)
        context.exit(0 if report.sound else 1)

    changes = {name: fields.pop(name) for name in _OF_METHODS}
    changes = {name: value for name, value in changes.items() if value is not None and value is not False}
    if (recipe is None) == (not methods):
        message = (
            "Missing option '--recipe' or '--method'." if recipe is None else "Use only one of --recipe and --method."
        )
        raise click.UsageError(message)
    if recipe is not None and changes:
        message = f"--{next(iter(changes))} is for --method; write it into the recipe."
        raise click.UsageError(message)

    def change(method: Method) -> Method:
        scores = {name: value for name, value in changes.items() if name in ("cap", "floor")}
        rest = {name: value for name, value in changes.items() if name not in scores}
        return replace(method, rule=replace(method.rule, **scores), **rest)

    asked = Path(recipe) if recipe is not None else [change(METHODS[name]) for name in dict.fromkeys(methods)]
    made = make(out, asked, **fields)
    if form == "json":
        say_json(made.as_dict(), indent=1)
    else:
        say_text(made)
