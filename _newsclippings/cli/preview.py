"""The command `newsclippings preview`: draw a few pairs as a PNG, or many as an HTML page."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from _newsclippings.cli.options import (
    FORMAT,
    SOME_CONFIGS,
    Choice,
    OutPath,
    PlacePath,
    errors_in_a_line,
    inputs,
    say,
    say_file,
)
from _newsclippings.facts import CONFIGS, MISSING, NAME, SHARED_PICTURES, SOURCE_DATASETS, SPLITS
from _newsclippings.storage import Place
from _newsclippings.text import printable

if TYPE_CHECKING:
    from _newsclippings.folder import BuiltFolder
    from _newsclippings.storage import Access

OF_INPUTS = ("data_dir", "visual_news", "visual_news_index", "links", "links_root", "missing", "metadata")


@click.command(short_help="Draw a few pairs as a PNG, or many as an HTML page.")
@inputs
@SOME_CONFIGS
@click.option(
    "--split",
    "splits",
    type=Choice(list(SPLITS)),
    multiple=True,
    default=["test"],
    show_default=True,
    help="Which split; repeat for more.",
)
@click.option(
    "--built",
    type=PlacePath(),
    help="Show a folder that `newsclippings build` wrote, instead of the inputs: a path, or a URL such as "
    "hf://datasets/USER/NAME.",
)
@click.option("--pairs", type=click.IntRange(min=1), help="How many pairs of each split. Unset: 8, with --html 100.")
@click.option("--seed", type=int, help="Show a random sample, chosen by this number. Unset: the first pairs.")
@click.option("-o", "--out", type=OutPath(dir_okay=False), help="The PNG to write. Unset: pairs.png.")
@click.option("--html", type=OutPath(dir_okay=False), help="Write an HTML page with filters and search instead.")
@click.option(
    "--full-pictures",
    is_flag=True,
    help="With --html: embed pictures of up to 1,600 pixels, which a click shows (about 0.3 MB each).",
)
@click.option("--metadata", is_flag=True, help="Show dates, from the authors' metadata; a page filters by them.")
@click.option(
    "--missing",
    type=Choice(MISSING),
    default="null",
    show_default=True,
    help="What to do with rows without a picture or record.",
)
@click.option(
    "--predictions",
    multiple=True,
    type=click.Path(),
    metavar="FILE [FILE]",
    help="With --html: show and filter by what one or two models say; files as of `newsclippings evaluate`.",
)
@click.argument("more_predictions", nargs=-1, type=click.Path(), metavar="")
@FORMAT
@click.pass_context
@errors_in_a_line
def preview(
    context: click.Context,
    configs: tuple[str, ...],
    splits: tuple[str, ...],
    built: Place | None,
    pairs: int | None,
    seed: int | None,
    out: Path | None,
    html: Path | None,
    full_pictures: bool,
    storage_options: dict[str, Any],
    predictions: tuple[str, ...],
    more_predictions: tuple[str, ...],
    form: str,
    **fields: Any,
) -> None:
    """Draw the first pairs of a split: twins side by side, pristine in green, falsified in red.

    With --html, write pairs of any number of configs and splits as one HTML page. It loads no other files.
    With --predictions, the pairs are the first ones of each outcome (both models right, only the first right, ...).

    \b
    Example:
      newsclippings preview --data-dir demo/data --split train -o pairs.png
      newsclippings preview --data-dir demo/data --split train --split test --html pairs.html --seed 1
      newsclippings preview --built hf://datasets/me/news-clippings --html pairs.html
      newsclippings preview --data-dir demo/data --html pairs.html --predictions a.jsonl b.jsonl
    """
    if more_predictions and not predictions:
        message = f"Got unexpected extra argument ({more_predictions[0]})"
        raise click.UsageError(message)
    models = (*predictions, *more_predictions)
    if html and out:
        message = "--out writes a picture and --html a page: use only one of them."
        raise click.UsageError(message)
    if full_pictures and not html:
        message = "--full-pictures are for a page: use it with --html."
        raise click.UsageError(message)
    if out and out.suffix not in ("", ".png"):
        message = f"--out {out}: the picture is a PNG, so its name must end in .png."
        raise click.UsageError(message)
    typed = {option.name: option.opts[0] for option in context.command.params if _is_typed(context, option.name)}
    if built is not None and (others := [flag for name, flag in typed.items() if name in OF_INPUTS]):
        message = f"--built is a built folder and {others[0]} is about inputs: use only one of them."
        raise click.UsageError(message)
    import random

    from _newsclippings.folder import BuiltFolder
    from _newsclippings.show import Rows, draw_sheet, write_page
    from _newsclippings.storage import (
        PREVIEW_PAGE,
        PREVIEW_PICTURE,
        Access,
        check_not_input,
        check_output,
        find_place,
        report_full_disk,
    )

    access = Access(storage_options)
    folder = None if built is None else BuiltFolder.open(find_place(built, access))
    if folder is not None and "configs" not in typed:
        configs = (folder.default_config,)
    elif folder is not None and configs == tuple(CONFIGS):  # all
        configs = tuple(config for config in folder.manifests if config != SHARED_PICTURES)
    names = dict.fromkeys([*CONFIGS, *configs])
    asked = [(config, split) for config in names if config in configs for split in SPLITS if split in splits]
    if html is None and len(asked) > 1:
        message = "A picture shows one --split of one --config. Use --html for a page with several."
        raise click.UsageError(message)
    if models and (html is None or len(models) > 2 or len(asked) > 1):
        message = "--predictions are one or two files of one --split of one --config, and are shown with --html."
        raise click.UsageError(message)
    written = html or out or Path("pairs.png")
    source: _Inputs | _Folder = _Inputs(asked, fields, access) if folder is None else _Folder(folder)
    check_not_input(written, [*source.places, *models])  # first, since `check_output` would advise to remove an input
    check_output(written, PREVIEW_PAGE if html else PREVIEW_PICTURE)
    source.require_pictures()
    most = pairs or (100 if html else 8)
    draws = random.Random(seed)  # of this process only; the same in every version of Python
    answers: dict[int, list[tuple[float | None, bool]]] = {}
    chosen: list[int] | None = None
    if models:
        from _newsclippings.evaluate import choose_pairs, read_answers

        places = {"data_dir": fields["data_dir"]} if folder is None else {"built": folder.root}
        answers, notes = read_answers(models, *asked[0], **places)
        shuffled = answers
        if seed is not None:
            numbers = sorted({index // 2 for index in answers})
            order = {number: k for k, number in enumerate(draws.sample(numbers, len(numbers)))}
            shuffled = dict(sorted(answers.items(), key=lambda item: order[item[0] // 2]))
        chosen = choose_pairs(shuffled, most)
        for note in notes:
            click.echo(printable(note), err=True)
    parts = []
    for config, split in asked:
        some = chosen
        if seed is not None and not models:
            known = source.list_pairs(config, split)
            some = sorted(draws.sample(known, min(most, len(known))))
        rows = source.stream_rows(config, split, some)
        parts.append(Rows(config, split, rows, answers, source.list_measures(config, split)))
    with report_full_disk(written.parent, "choose a folder on a larger disk"):
        if html:
            count = write_page(parts, html, most, models, full_pictures)
        else:
            count = draw_sheet(parts[0].rows, written, most, measures=parts[0].measures)
    if form == "json":
        say_file(form, written, pairs=count)
    else:
        say(f"{written} ({count} pair{'s' * (count != 1)})")


class _Inputs:
    """The inputs of a build, whose rows are joined when they are shown."""

    def __init__(self, asked: Sequence[tuple[str, str]], fields: Mapping[str, Any], access: "Access") -> None:
        from _newsclippings.config import Request
        from _newsclippings.inputs import find_inputs

        self._requests = {one: Request(name=one[0], splits=[one[1]], **fields) for one in asked}
        self._files = {one: find_inputs(request, access=access) for one, request in self._requests.items()}

    @property
    def places(self) -> list[Any]:
        """The files and folders that are read."""
        return [place for files in self._files.values() for place in files.list_places()]

    def require_pictures(self) -> None:
        """Raise `DataNotFoundError` without pictures."""
        for files in self._files.values():
            files.require_pictures()

    def list_measures(self, config: str, split: str) -> Sequence[str]:
        """What the column `source_dataset` numbers."""
        return self._files[config, split].source_datasets

    def list_pairs(self, config: str, split: str) -> range:
        """Numbers of the pairs of a split."""
        from _newsclippings.rows import Joiner
        from _newsclippings.storage import cache_folder

        joiner = Joiner(self._files[config, split], self._requests[config, split], cache_folder() / NAME)
        return range(joiner.count_rows(split) // 2)

    def stream_rows(self, config: str, split: str, pairs: list[int] | None) -> Iterator[dict[str, Any]]:
        """The rows of some pairs; None: of all."""
        from _newsclippings.rows import stream_rows
        from _newsclippings.storage import cache_folder

        request, files = self._requests[config, split], self._files[config, split]
        return stream_rows(request, files, split, cache_folder() / NAME, pairs)


class _Folder:
    """A built folder, with what `_Inputs` has under the same names."""

    def __init__(self, folder: "BuiltFolder") -> None:
        self._folder = folder
        self.places: list[Any] = [folder.root]

    def require_pictures(self) -> None:
        """Do nothing: a folder without pictures is shown without them."""

    def list_measures(self, config: str, _: str) -> Sequence[str]:
        """What the column `source_dataset` numbers."""
        manifest = self._folder.manifests.get(config)
        names: Sequence[str] = (manifest.features if manifest else {}).get("source_dataset", {}).get("names")
        return names or SOURCE_DATASETS

    def list_pairs(self, config: str, split: str) -> list[int]:
        """Numbers of the pairs of a split that were not dropped."""
        from _newsclippings.folder import list_pairs

        return [*map(int, list_pairs(self._folder, config, split))]

    def stream_rows(self, config: str, split: str, pairs: list[int] | None) -> Iterator[dict[str, Any]]:
        """The rows of some pairs; None: of all."""
        from _newsclippings.folder import stream_built_rows

        return stream_built_rows(self._folder, config, split, pairs)


def _is_typed(context: click.Context, name: str | None) -> bool:
    return context.get_parameter_source(name or "") is click.core.ParameterSource.COMMANDLINE
