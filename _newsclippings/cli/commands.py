"""The `newsclippings` command and its smaller commands."""

from pathlib import Path
from typing import Any

import click

from _newsclippings.cli import folder as cli_folder
from _newsclippings.cli.benchmark import benchmark
from _newsclippings.cli.download import download
from _newsclippings.cli.embed import embed
from _newsclippings.cli.entities import entities
from _newsclippings.cli.env import env
from _newsclippings.cli.evaluate import evaluate
from _newsclippings.cli.export import export
from _newsclippings.cli.generate import generate
from _newsclippings.cli.leaderboard import leaderboard
from _newsclippings.cli.options import (
    CONFIG,
    FORMAT,
    STORAGE_OPTIONS,
    Commands,
    OutPath,
    PlacePath,
    errors_in_a_line,
    inputs,
    renamed,
    say,
    say_file,
    say_json,
    say_text,
)
from _newsclippings.cli.preview import preview
from _newsclippings.cli.suite import evidence, overlap
from _newsclippings.cli.train import train
from _newsclippings.cli.verify import verify
from _newsclippings.facts import (
    COLUMNS,
    CONFIGS,
    DEFAULT_CONFIG,
    FULL,
    NAME,
    ROWS,
    SPLITS,
    VERSION,
)
from _newsclippings.storage import Place
from _newsclippings.text import without_secrets


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="newsclippings")
def main() -> None:
    """NewsCLIPpings for Hugging Face datasets: news captions with right and wrong pictures.

    \b
    Start here:
      newsclippings sample demo/data
      newsclippings preview --data-dir demo/data -o pairs.png

    \b
    Exit codes:
      0  done, and all is sound
      1  failed, or something is missing, damaged or out of date
      2  wrong usage: an option, an argument or a command

    Results go to stdout. Errors, the log and progress bars go to stderr. With --format json a result is JSON, and so is
    an error: the last line of stderr is {"error": {"class": ..., "message": ..., "exit_code": ...}}.
    """


for command in (
    benchmark,
    cli_folder.build,
    cli_folder.card,
    cli_folder.croissant,
    cli_folder.push,
    cli_folder.stats,
    download,
    embed,
    entities,
    env,
    evaluate,
    export,
    leaderboard,
    evidence,
    generate,
    overlap,
    preview,
    train,
    verify,
):
    main.add_command(command)


@main.command(short_help="Write a small sample dataset to try everything on.")
@click.argument("folder", type=OutPath(file_okay=False))
@FORMAT
@errors_in_a_line
def sample(folder: Path, form: str) -> None:
    """Write a small sample dataset to FOLDER, in the official layout, with public-domain photographs.

    \b
    Example:
      newsclippings sample demo/data
    """
    from _newsclippings.show import write_sample

    say_file(form, write_sample(folder))


@main.command(short_help="Show configs and columns, and which files are used.")
@inputs
@CONFIG
@FORMAT
@click.pass_context
@errors_in_a_line
def info(context: click.Context, config: str, form: str, storage_options: dict[str, Any], **fields: Any) -> None:
    """Show configs, splits, published counts and columns, and which files a build would use on this machine.

    With --config it also counts, for local files, how many of the needed pictures each location has.

    \b
    Example:
      newsclippings info --data-dir demo/data
    """
    from _newsclippings.config import Request
    from _newsclippings.inputs import find_full_matches, find_inputs
    from _newsclippings.storage import Access, is_url

    request = Request(config, articles=FULL, **fields)
    files = find_inputs(request, access=Access(storage_options))
    places: dict[str, Any] = {
        "matches": files.matches,
        "captions": files.data_json
        or (f"data.json in {without_secrets(files.tar)} if it has one, else metadata" if files.tar else "metadata"),
        "metadata": files.metadata,
        "pictures": [without_secrets(source.location) for source in files.sources],
        "full_articles": files.full_articles,
        "no_config": find_full_matches(request),
    }
    named = context.get_parameter_source("config") is click.core.ParameterSource.COMMANDLINE
    local = not any(map(is_url, [*files.matches.values(), *(source.location for source in files.sources)]))
    if named and local and files.sources:
        from _newsclippings.check import verify as verify_inputs

        splits = verify_inputs(configs=[config], **fields).counts.get(config, {})
        places["pictures_found"] = {
            split: about["locations"] for split, about in splits.items() if "locations" in about
        }
    if form == "json":
        columns = {name: {"type": kind, "meaning": meaning} for name, (kind, meaning) in COLUMNS.items()}
        configs: dict[str, Any] = {name: {"description": text, "rows": ROWS[name]} for name, text in CONFIGS.items()}
        if files.generated is not None:
            rows = {split: about.rows for split, about in files.generated.splits.items()}
            configs[config] = {"description": files.generated.description, "rows": rows}
        say_json({"version": VERSION, "configs": configs, "columns": columns, "sources": places})
        return
    say_text(f"newsclippings {VERSION}\n\nConfigs (published rows; - if no count was published)")
    say(f"  {'':26}" + "".join(f"{split:>12}" for split in SPLITS))
    for name in CONFIGS:
        counts = (ROWS[name][split] for split in SPLITS)
        default = "  (default)" if name == DEFAULT_CONFIG else ""
        say(f"  {name:26}" + "".join(f"{'-' if c is None else f'{c:,}':>12}" for c in counts) + default)
    if files.generated is not None:
        counts = (files.generated.splits[split].rows if split in files.generated.splits else None for split in SPLITS)
        say(f"  {config:26}" + "".join(f"{'-' if c is None else f'{c:,}':>12}" for c in counts))
    say_text("\nColumns")
    for name, (kind, meaning) in COLUMNS.items():
        say(f"  {name:17} {kind:11} {meaning}")
    say_text(f"\nFiles of {config} on this machine")
    for split, place in files.matches.items():
        say(f"  matches {split:11} {place}")
    say(f"  captions            {places['captions']}")
    if not files.data_json:
        for split, place in files.metadata.items():
            say(f"  metadata {split:10} {place}")
    for place in places["pictures"] or ["not found: pass --visual-news, or build with --images none"]:
        say(f"  pictures            {place}")
    for split, found in places.get("pictures_found", {}).items():
        for place, count in found.items():
            where_found = "in none of them" if place == "missing" else f"in {place}"
            say(f"  {split:19} {count:,} of the needed pictures are {where_found}")
    say(f"  original articles   {places['full_articles'] or 'not found: only --articles full needs them'}")
    for place in places["no_config"]:
        say(f"  no config           {place}: all captions that the authors matched, not one of the configs; not read")


@main.command(short_help="Index a tar, so that other machines can skip that step.")
@click.argument("tar")
@click.option(
    "-o",
    "--out",
    type=PlacePath(dir_okay=False),
    default="visual_news.index.parquet",
    show_default=True,
    help="The index to write: a path, or a URL that fsspec writes (s3://, gs://).",
)
@click.option(
    "--checksums",
    is_flag=True,
    help="Read the whole tar, and store the CRC-32 of each file: then `verify` and builds notice damage inside a file.",
)
@STORAGE_OPTIONS
@FORMAT
@errors_in_a_line
def index(tar: str, out: Place, checksums: bool, storage_options: dict[str, Any], form: str) -> None:
    """Write an index of TAR (a path or a URL): the position of each file. It works for every copy of the same tar.

    Pass the index to other commands with --visual-news-index. If you interrupt this command, running it again continues
    where it stopped. If the tar is damaged, the part before the damage is indexed, and the exit code is 1.

    \b
    Example:
      newsclippings index demo/data/visual_news/origin.tar -o visual_news.index.parquet
    """
    import functools
    import hashlib
    import shutil

    from _newsclippings.storage import (
        INDEX,
        Access,
        cache_folder,
        check_not_input,
        check_output,
        check_own_folder,
        find_place,
        first_part,
        identify,
        is_url,
        open_random,
        stamp,
    )
    from _newsclippings.tar import changed_tar, describe_others, index_tar, write_index

    access = Access(storage_options)
    out = find_place(out, access)
    if isinstance(out, Path):
        parts = out.with_name(out.name + ".parts")
    else:
        parts = cache_folder() / NAME / f"{hashlib.sha256(str(out).encode()).hexdigest()[:16]}.parts"
    tar = first_part(tar)
    check_not_input(out, [tar])  # first, as in `preview`
    check_output(out, INDEX)
    check_own_folder(parts, r"([0-9a-f]+/)?[0-9a-f-]+/(crc-)?\d+-\d+\.arrow(\.[0-9a-f-]+\.tmp)?", "index")
    # A URL not by its ETag: servers that share a name may have ETags of their own
    mark = functools.partial(identify, tar, False, access) if is_url(tar) else functools.partial(stamp, tar)
    before = mark()
    file = open_random(tar, access)
    # What an interrupted call kept is of use only if nothing was written to the tar since, as by a download
    dated = before if is_url(tar) else identify(tar)
    table = index_tar(file, parts / dated[:16], checksums)
    if mark() != before:
        shutil.rmtree(parts, ignore_errors=True)
        raise changed_tar(file.path)
    write_index(table, out)
    shutil.rmtree(parts, ignore_errors=True)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    damage, others = metadata.get("damage"), describe_others(metadata)
    if form == "json":
        facts = {"index": str(out), "members": len(table), "checksums": checksums, "damage": damage}
        say_json({**facts, "others": others})
    else:
        say(f"{out} ({len(table):,} files{', with checksums' * checksums})")
        if others:
            say(f"Not plain files, and passed over unless a row needs one: {others}")
    if damage:
        message = f"{file.path}: {damage}. {out} is the index of the part before the damage."
        raise click.ClickException(message)


@main.command(short_help="Convert a pickle of embeddings safely.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.argument("out", type=OutPath(dir_okay=False))
@click.option("--faces", is_flag=True, help="The pickle has any number of vectors per id (FaceNet); .parquet only.")
@FORMAT
@errors_in_a_line
def convert_embeddings(file: str, out: Path, faces: bool, form: str) -> None:
    """Convert a pickle of embeddings to .npy, .parquet or .safetensors. The pickle is read without executing it.

    With .npy, the ids are written to a second file that ends in .ids.npy.

    \b
    Example:
      newsclippings convert-embeddings clip_text_embeddings_test.pkl clip_text_test.parquet
    """
    from _newsclippings.vectors import convert_embeddings

    files = [str(written) for written in convert_embeddings(file, out, faces)]
    if form == "json":
        say_json({"files": files})
        return
    for written in files:
        say(written)


@main.command(short_help="Write this package's dataset_infos.json.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the file is not up to date.")
@click.argument("file", type=OutPath(dir_okay=False), default="dataset_infos.json")
@FORMAT
@errors_in_a_line
def dataset_infos(file: Path, check: bool, form: str) -> None:
    """Write dataset_infos.json, with the columns and the published counts of every config.

    \b
    Example:
      newsclippings dataset-infos --check
    """
    from _newsclippings.folder import dataset_infos_text, is_current
    from _newsclippings.storage import INFOS, write_text

    if not check:
        write_text(file, dataset_infos_text(), INFOS)
    elif not is_current(file):
        message = f"{file} is out of date. Run `newsclippings dataset-infos {file}`."
        raise click.ClickException(message)
    say_file(form, file)


main.add_command(renamed(dataset_infos, "infos"))
