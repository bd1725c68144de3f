"""Damage to everything that loads keep: `python -m tests.sweeps.damaging` flips bits of it, cuts it, empties it.

Each round copies a cache that was just made, damages one file of it, and loads in a new process: the rows are those of
before, or the error is one of ours, and then the next load gives those rows. Anything else is wrong, and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))
if __name__ == "__main__":
    _HOME = tempfile.mkdtemp(prefix="newsclippings-damaging-")
    os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    os.environ.update(HF_HOME=_HOME, HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")

import click
import pyarrow.parquet as pq
import pytest
from support.children import in_child, wait
from support.constants import change_constant
from support.reading import load, raw, raw_splits
from support.remote import Published, make_index, publish, serving
from support.vectors import make_plan, write
from support.world import World, make_world

from _newsclippings.tar import segments as tar_segments
from _newsclippings.tar import walk as tar_walk
from newsclippings import NewsCLIPpings, NewsCLIPpingsError

Rows = dict[str, Any]
Work = Callable[[World, Path], Rows]
OURS = 7  # exit code of a child whose load ended in an error of ours


def loading(**options: Any) -> Callable[[World, Path], Rows]:
    """Loads into a cache, or opens what is there."""
    return lambda world, place: raw_splits(load(world, cache_dir=str(place), **options))


def streaming(world: World, place: Path) -> Rows:
    """Streams rows with vectors, which are converted and kept."""
    kinds = ["clip_image", "facenet"]
    return raw_splits(load(world, cache_dir=str(place), streaming=True, embeddings=kinds, images="none"))


def parquet(world: World, place: Path) -> Rows:
    """Prepares a folder of Parquet files, and reads them."""
    builder = NewsCLIPpings(data_dir=str(world.root), cache_dir=str(place / "cache"))
    builder.download_and_prepare(str(place / "out"), file_format="parquet")
    return {file.name: pq.read_table(file).to_pylist() for file in sorted((place / "out").glob("*.parquet"))}


def opening(world: World, place: Path) -> Rows:
    """Builds, and opens one split by the builder alone."""
    builder = NewsCLIPpings(data_dir=str(world.root), cache_dir=str(place))
    if not os.path.exists(os.path.join(builder.cache_dir, "dataset_info.json")):
        builder.download_and_prepare()
    try:
        return {"test": raw(builder.as_dataset("test")), "report": builder.join_reports}
    except NewsCLIPpingsError:
        NewsCLIPpings(data_dir=str(world.root), cache_dir=str(place)).download_and_prepare()
        raise


def keep_only(place: Path, *names: str) -> None:
    """Remove what else is in a cache: tables that are there would be opened, and nothing else be read."""
    for path in (*place.iterdir(), *(place / "newsclippings").iterdir()):
        if path.name not in ("newsclippings", *names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def from_parts(world: World, place: Path) -> Rows:
    """Walks a tar in segments of 20 kB; the first time it is interrupted after five, and only they are kept."""
    walked = list[int]()

    def interrupted(file: Any, start: int, *rest: Any) -> Any:
        if len(walked) == 5:
            raise KeyboardInterrupt
        walked.append(start)
        return tar_walk.walk_segment(file, start, *rest)

    options: dict[str, Any] = {"visual_news": str(world.tar), "splits": ["test"]}
    with pytest.MonkeyPatch.context() as changed:
        change_constant(changed, "SEGMENT", 20_000)
        change_constant(changed, "THREADS", 1, of="segments")
        if place.exists():
            return loading(**options)(world, place)
        with patch.object(tar_segments, "walk_segment", interrupted), contextlib.suppress(KeyboardInterrupt):
            loading(**options)(world, place)
        keep_only(place, "tar_indexes")
        with tempfile.TemporaryDirectory() as other:
            return loading(**options)(world, Path(other))


def from_tar(world: World, place: Path) -> Rows:
    """Rows with pictures of the tar, by its kept index alone."""
    rows = loading(visual_news=str(world.tar), splits=["test"])(world, place)
    keep_only(place, "tar_indexes")
    return rows


def remote_kinds(remote: Published, index: str) -> dict[str, Work]:
    """What is loaded of a tar on a server, of which an index is there, too; the server must run."""

    def load_some(world: World, place: Path, **options: Any) -> Rows:
        options |= {"visual_news": remote.url, "splits": ["test"], "cache_dir": str(place)}
        rows = raw_splits(load(world, **options))
        keep_only(place, "tar_indexes", "remote_tars", "downloads")
        return rows

    return {
        "a remote tar": load_some,
        "a remote tar and its index": partial(load_some, visual_news_index=index),
        "a remote tar, articles": partial(load_some, articles=True),
        "a stream of a remote tar": partial(load_some, streaming=True, visual_news_index=index),
    }


VECTORS = {"embeddings": ["clip_text", "facenet"]}
KINDS: dict[str, Work] = {
    "captions": loading(images="none"),
    "pictures": loading(),
    "pictures of the tar": lambda world, place: loading(visual_news=str(world.tar))(world, place),
    "paths": loading(images="path"),
    "vectors": loading(images="none", **VECTORS),
    "texts": loading(images="none", metadata=True, articles=True),
    "in memory": loading(images="none", keep_in_memory=True),
    "two processes": loading(num_proc=2, **VECTORS),
    "stream with vectors": streaming,
    "Parquet": parquet,
    "a builder": opening,
    "the index of a tar": from_tar,
    "parts of a walk": from_parts,
}


def damage(file: Path, dice: random.Random) -> str:
    """Damage a file somehow; what was done, in words."""
    content = bytearray(file.read_bytes())
    at = dice.randrange(len(content)) if content else 0
    how = dice.choice(("flip", "flip", "flip", "flip", "cut", "cut", "empty", "zeros", "more", "garbage"))
    if how == "flip" and content:
        content[at] ^= 1 << dice.randrange(8)
    elif how == "cut":
        del content[at:]
    elif how == "empty":
        content.clear()
    elif how == "zeros":
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    elif how == "more":
        content += b"\0" * 512
    else:
        content[at : at + 16] = dice.randbytes(len(content[at : at + 16]))
    file.write_bytes(content)
    return f"{how} at byte {at} of {len(content)}"


def sweep(
    kind: str, world: World, folder: Path, rounds: int, seed: int = 0, kinds: dict[str, Work] = KINDS
) -> tuple[Counter[str], list[str]]:
    """Damage what a load keeps; how rounds ended, and what was wrong."""
    work, dice, outcomes, wrong = kinds[kind], random.Random(f"{seed} {kind}"), Counter[str](), []
    pristine, right = folder / "pristine", work(world, folder / "pristine")

    def check(place: Path) -> None:
        logging.disable()
        try:
            rows = work(world, place)
        except NewsCLIPpingsError:
            sys.exit(OURS)
        if rows != right:
            message = "other rows"
            raise AssertionError(message)

    kept = sorted(path.relative_to(pristine) for path in pristine.rglob("*") if path.is_file())
    dice.shuffle(kept)
    for k in range(rounds):
        place = folder / str(k)
        shutil.copytree(pristine, place)
        name = kept[k % len(kept)]
        what = f"{kind}: {name}, {damage(place / name, dice)}"
        first = wait(in_child(partial(check, place)))
        then = first if first == 0 else wait(in_child(partial(check, place)))
        outcomes["right rows" if first == 0 else "error of ours, then right rows" if first == OURS else "wrong"] += 1
        if first not in (0, OURS) or then != 0:
            wrong.append(f"{what}: exit {first}, then {then}")
        shutil.rmtree(place)
    return outcomes, wrong


REMOTE = ("a remote tar", "a remote tar and its index", "a remote tar, articles", "a stream of a remote tar")


@click.command()
@click.option("--rounds", default=50, show_default=True, help="Damaged files of each kind of load.")
@click.option("--only", type=click.Choice([*KINDS, *REMOTE]), multiple=True, help="Which kind.  [default: all]")
@click.option("--seed", default=0, show_default=True, help="Of the damage.")
def main(rounds: int, only: tuple[str, ...], seed: int) -> None:
    """Damage what loads keep, and see whether the rows are right afterwards."""
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        world = make_world(Path(folder, "data"))
        write(world, make_plan(world))
        remote = publish(make_world(Path(folder, "far"), folder=False, tar=False), server, "served")
        index = make_index(remote.tar, Path(folder, "served", "index.parquet"))
        far = remote_kinds(remote, server.url(Path(index)))
        click.echo("| what was loaded | damaged files | right rows | error of ours, then right rows | wrong |")
        click.echo("|---|---:|---:|---:|---:|")
        for kind in only or (*KINDS, *REMOTE):
            place = remote.world if kind in REMOTE else world
            outcomes, wrong = sweep(kind, place, Path(folder, kind), rounds, seed, KINDS | far)
            total[kind] = len(wrong)
            told = outcomes["error of ours, then right rows"]
            click.echo(f"| {kind} | {rounds} | {outcomes['right rows']} | {told} | {len(wrong)} |")
            for line in wrong:
                click.echo(line, err=True)
    shutil.rmtree(_HOME, ignore_errors=True)
    sys.exit(any(total.values()))


if __name__ == "__main__":
    main()
