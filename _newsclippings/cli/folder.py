"""The commands that write, describe and publish a built folder: they parse arguments, call the package and print."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli.options import (
    ARTICLES,
    FORMAT,
    SOME_CONFIGS,
    VECTORS,
    ArticlesCommand,
    Choice,
    PlacePath,
    errors_in_a_line,
    inputs,
    quiet_when_piped,
    say,
    say_file,
    say_json,
    say_text,
)
from _newsclippings.facts import MISSING, SPLITS, VECTOR_DTYPES
from _newsclippings.storage import Place


@click.command(cls=ArticlesCommand, short_help="Build a folder of Parquet files that loads by name.")
@click.argument("out", type=PlacePath(file_okay=False))
@SOME_CONFIGS
@inputs
@click.option(
    "--images",
    type=Choice(["bytes", "once", "none"]),
    default="bytes",
    show_default=True,
    help="bytes: pictures in every row; once: in those of merged_balanced only, and those of the others in a config "
    "images; none: no pictures.",
)
@click.option(
    "--missing",
    type=Choice(MISSING),
    default="error",
    show_default=True,
    help="What to do with rows without a picture or record.",
)
@click.option(
    "--split",
    "splits",
    type=Choice(list(SPLITS)),
    multiple=True,
    help="Which split; repeat for more. Unset: all.",
)
@VECTORS
@click.option(
    "--vector-dtype",
    type=Choice(VECTOR_DTYPES),
    default="float32",
    show_default=True,
    help="float16 keeps your own vectors that are stored so as they are.",
)
@click.option("--metadata", is_flag=True, help="Columns of title, time and entities of both articles.")
@ARTICLES
@click.option(
    "--evidence",
    type=click.Path(),
    help="Folder of web evidence that the authors of CCN give out: a column of it, for merged_balanced.",
)
@click.option("--check-images", is_flag=True, help="Decode every picture; broken ones count as missing.")
@FORMAT
@errors_in_a_line
def build(
    out: Place,
    configs: tuple[str, ...],
    splits: tuple[str, ...],
    form: str,
    **fields: Any,
) -> None:
    """Write a folder of Parquet files to OUT that load_dataset, DuckDB, Polars and pandas read without this package.

    Interrupt it when you like: the same command goes on from there.

    OUT is a path, or a URL that fsspec writes (s3://, gs://, memory://; the first two need the extra `cloud`). A bucket
    has no locks and renames nothing: run one build at a time there, and a config that is replaced has no manifest until
    all of it is new.

    \b
    Example:
      newsclippings build newsclippings --config merged_balanced --data-dir demo/data
    """
    from _newsclippings.folder import build_folder

    reports = build_folder(out, configs, splits=list(splits) or None, **fields)
    if form == "json":
        say_json({"folder": str(out), "reports": reports})
        return
    for config, by_split in reports.items():
        for split, report in by_split.items():
            say(f"{out / config}: {split}: {report['written']:,} of {report['rows']:,} rows")


@click.command(short_help="Write the card of a built folder, or check it.")
@click.argument("folder", type=PlacePath(exists=True, file_okay=False), default="newsclippings")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the card is not what it should be.")
@click.option("--name", help="By which it is loaded, for the card's examples. Unset: as before, or the folder's own.")
@click.option(
    "--benchmark", is_flag=True, help="Write eval.yaml, too, by which the Hub takes the repository for a benchmark."
)
@FORMAT
@errors_in_a_line
def card(folder: Place, check: bool, name: str | None, benchmark: bool, form: str) -> None:
    """Write README.md, dataset_infos.json and SHA256SUMS of FOLDER, a built one, from what is in it.

    With --benchmark, a task of eval.yaml is the test split of a config. The Hub shows results of models there after it
    has put the repository on its list (https://huggingface.co/docs/hub/eval-results).

    \b
    Example:
      newsclippings card newsclippings --check
      newsclippings card newsclippings --name me/news-clippings
    """
    from _newsclippings.folder import BuiltFolder, stale_files, write_card, write_eval

    if check and benchmark:
        message = "--check writes nothing, and --benchmark writes a file: use only one of them."
        raise click.UsageError(message)
    if name == "":
        message = "--name '': expected a folder or a repository, found nothing. Leave it out, or name one."
        raise click.UsageError(message)
    built = BuiltFolder.open(folder)
    if not check:
        write_card(built, name)
        if benchmark:
            write_eval(built)
    elif stale := stale_files(built, built.find_charts(), name):
        message = f"{stale[0]} is not what `newsclippings card {folder}` writes. Run that."
        raise click.ClickException(message)
    say_file(form, folder / "README.md")


@click.command(short_help="Write Croissant metadata of a built folder.")
@click.argument("folder", type=PlacePath(exists=True, file_okay=False), default="newsclippings")
@click.option(
    "-o",
    "--out",
    type=PlacePath(dir_okay=False),
    help="The file to write. Unset: croissant.json in FOLDER, which places in it are relative to.",
)
@FORMAT
@errors_in_a_line
def croissant(folder: Place, out: Place | None, form: str) -> None:
    """Write Croissant metadata (JSON-LD) of FOLDER, which `newsclippings build` wrote. `push` uploads it with the rest.

    \b
    Example:
      newsclippings croissant newsclippings
    """
    from _newsclippings.folder import BuiltFolder, write_croissant

    say_file(form, write_croissant(BuiltFolder.open(folder), out))


@click.command(short_help="Count and measure what is in a built folder.")
@click.argument("folder", type=PlacePath(exists=True, file_okay=False), default="newsclippings")
@click.option(
    "--plot",
    type=PlacePath(file_okay=False),
    help="Write stats.json and charts (PNG) to this folder; those in FOLDER/charts are shown by its card. Needs "
    "matplotlib, of the extra `plot`.",
)
@FORMAT
@errors_in_a_line
def stats(folder: Place, plot: Place | None, form: str) -> None:
    """Count and measure what is in FOLDER, which `newsclippings build` wrote: scores, labels, captions, pictures.

    \b
    Example:
      newsclippings stats newsclippings
      newsclippings stats newsclippings --plot newsclippings/charts
    """
    from tempfile import gettempdir

    from _newsclippings.folder import CHARTS_FOLDER, STATS_FILE, BuiltFolder, write_card
    from _newsclippings.stats import check_charts, draw_stats, folder_stats, require_matplotlib, stats_text, write_stats
    from _newsclippings.storage import STATS, check_not_input, check_output, is_below, report_full_disk

    own = folder / CHARTS_FOLDER
    if plot:
        require_matplotlib()  # before anything is read
        if plot.resolve() != own.resolve() and is_below(plot, folder):
            message = f"{plot} is in {folder}: charts are expected in {own}, or in a folder elsewhere."
            raise click.ClickException(message)
    built = BuiltFolder.open(folder)
    if plot:
        check_not_input(plot / STATS_FILE, [folder / config for config in built.manifests])
        check_output(plot / STATS_FILE, STATS)
        check_charts(built.manifests, plot)
    numbers = folder_stats(built)
    if plot is None:
        if form == "json":
            say_json(numbers)
        else:
            say_text(stats_text(numbers))
        return
    with report_full_disk(plot if isinstance(plot, Path) else gettempdir(), "choose a folder on a larger disk"):
        files = [str(file) for file in (write_stats(numbers, plot / STATS_FILE), *draw_stats(numbers, plot))]
    if plot.resolve() == own.resolve():
        write_card(built)
    if form == "json":
        say_json({"files": files})
        return
    for file in files:
        say(file)


@click.command(short_help="Upload a built folder or vectors to the Hugging Face Hub.")
@click.argument("repo_id")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default="newsclippings")
@click.option(
    "--public",
    is_flag=True,
    help="Everybody may see the repository, once all is uploaded. Unset: it is private. Refused where one that is "
    "private has a history of other files, which could be seen, too.",
)
@click.option("--gated", is_flag=True, help="Its owner decides who may have the files.")
@click.option(
    "--revision", help="Branch to upload to. Unset: main, which alone is tagged with the version of the data."
)
@click.option("--with-images", is_flag=True, help="Upload pictures, articles and web evidence, too.")
@click.option(
    "--i-have-the-rights", "rights", is_flag=True, help="Say that you may pass pictures, articles and web evidence on."
)
@click.option("--dry-run", is_flag=True, help="Say what would be uploaded, and upload nothing.")
@FORMAT
@errors_in_a_line
def push(
    repo_id: str,
    folder: Path,
    public: bool,
    gated: bool,
    revision: str | None,
    with_images: bool,
    rights: bool,
    dry_run: bool,
    form: str,
) -> None:
    """Upload FOLDER, which `newsclippings build` wrote, to the Hugging Face Hub as dataset repository REPO_ID.

    FOLDER may also be one of vectors that `newsclippings embed` wrote. Then --embeddings
    vitl=hf://datasets/REPO_ID reads it.

    Pictures and articles of VisualNews and web evidence of CCN are left out, unless you say that you may pass them on.
    Interrupt it when you like: the same command goes on from there.

    \b
    Example:
      newsclippings push me/news-clippings newsclippings --dry-run
      newsclippings push me/vectors vectors/vitl --public
    """
    from _newsclippings.hub import prepare_upload

    with prepare_upload(folder, repo_id, with_images=with_images, have_the_rights=rights, revision=revision) as upload:
        result: dict[str, Any] = {"repo_id": repo_id, "files": upload.files, "rows": upload.rows}
        result["left_out"] = [*upload.left_out]
        if upload.left_out:
            click.echo(
                f"Left out: {upload.described_left_out}. "
                + (
                    "Readers add their own pictures by newsclippings.join_images. "
                    if "pictures" in upload.left_out
                    else ""
                )
                + "To upload all, pass --with-images and --i-have-the-rights.",
                err=True,
            )
        if form == "text":
            for name, size in upload.files.items():
                say(f"{size:>15,}  {name}")
            rows = sum(sum(by_split.values()) for by_split in upload.rows.values())
            say(f"{sum(upload.files.values()):>15,}  bytes in {len(upload.files)} files, {rows:,} rows -> {repo_id}")
        if not dry_run:
            from _newsclippings.hub import push as push_folder

            quiet_when_piped()
            result |= push_folder(upload, public=public, gated=gated)
            if form == "text":
                done = "uploaded" if result["new"] else "nothing was new"
                moved = " moved" if result["tag_moved"] else ""
                branch = f"branch {result['branch']}, which is not tagged,"
                place = f"tag {result['tag']}{moved}" if result["tag"] else branch
                say(f"{result['url']}: {done}; {place} at {result['commit']}")
    if form == "json":
        say_json(result)
