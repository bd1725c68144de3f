"""Builds that are killed, crowded or short of disk, many times over: `python -m tests.sweeps.soak`.

Each round ends with what a user would do, a plain load in a new process, whose rows are compared with the plan of the
world that was written. One wrong row, or one load that fails or hangs, ends the soak with exit code 1; so does work
that is done twice, and an error that does not say that the disk is full when it is.

Inputs are changed at a random one of the moments at which they are opened or read (`changing.py`).

The full disk is a tmpfs of a random size where this process may mount one, else a limit on the size of a file.
"""

from __future__ import annotations

import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent.parent))
_HOME = tempfile.mkdtemp(prefix="newsclippings-soak-")
os.environ.update(HF_HOME=_HOME, HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
os.environ.update(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")

import click  # noqa: E402
import datasets  # noqa: E402
from support.changing import CHANGES, CONTENTS, WAYS, make_case, moments, problem  # noqa: E402
from support.children import in_child, kill, wait  # noqa: E402
from support.forks import forked, kinds  # noqa: E402
from support.obstacles import make_room, may_mount, small_disk, used  # noqa: E402
from support.reading import raw_splits  # noqa: E402
from support.remote import publish, serving  # noqa: E402
from support.vectors import make_plan, write  # noqa: E402
from support.world import Row, World, make_world  # noqa: E402
from tqdm import tqdm  # noqa: E402

from _newsclippings.folder import writer  # noqa: E402
from _newsclippings.folder.build import build_folder  # noqa: E402
from newsclippings import NewsCLIPpings, NewsCLIPpingsError  # noqa: E402

CONFIG, OTHER = "merged_balanced", "scene_resnet_place"

Work = Callable[[World, Path], object]


def load(world: World, place: Path, **options: object) -> object:
    """Build into the cache of `datasets`, or open what is there."""
    return datasets.load_dataset("newsclippings", CONFIG, data_dir=str(world.root), cache_dir=str(place), **options)


def load_from_tar(world: World, place: Path) -> object:
    """The same with pictures out of the tar."""
    return load(world, place, visual_news=str(world.tar))


def load_by_two(world: World, place: Path) -> object:
    """The same by two processes."""
    return load(world, place, num_proc=2)


def write_parquet(world: World, place: Path) -> object:
    """A folder of Parquet files, opened by `datasets` alone, whose own cache is elsewhere."""
    with patch.dict(os.environ, HF_DATASETS_CACHE=str(place / "cache")):
        build_folder(place / "built", [CONFIG], data_dir=str(world.root))
    return datasets.load_dataset(str(place / "built"), CONFIG, cache_dir=tempfile.mkdtemp(dir=_HOME))


def load_vectors(world: World, place: Path) -> object:
    """The same with vectors out of a pickle, which is converted, and the tar, which is indexed."""
    return load(world, place, visual_news=str(world.tar), embeddings=["clip_text"])


def load_other(world: World, place: Path) -> object:
    """Another config into the same cache."""
    return datasets.load_dataset("newsclippings", OTHER, data_dir=str(world.root), cache_dir=str(place))


def load_remote(url: str, world: World, place: Path) -> object:
    """The same with pictures out of a tar on a server."""
    return load(world, place, visual_news=url)


WORKS: dict[str, Work] = {"folder": load, "tar": load_from_tar, "num_proc=2": load_by_two, "parquet": write_parquet}
FULL = 7  # exit code of a child that said that the disk is full


def planned(work: Work, world: World) -> dict[str, list[Row]]:
    """The rows that a work has to give."""
    config = OTHER if work is load_other else CONFIG
    rows = {split: world.rows(config, split) for split in ("train", "validation", "test")}
    if work is load_vectors:
        for split, vectors in make_plan(world)["clip_text"].items():
            known = {number: vector.tolist() for number, vector in vectors.items()}
            rows[split] = [{**row, "clip_text": known.get(row["id"])} for row in rows[split]]
    return rows


def check(work: Work, world: World, place: Path) -> None:
    """Raise if the rows are not those of the plan."""
    if raw_splits(work(world, place)) != planned(work, world):
        message = f"{place}: other rows than those of the plan"
        raise AssertionError(message)


def is_right(work: Work, world: World, place: Path) -> bool:
    """Whether a plain load in a new process gives the right rows."""
    return wait(in_child(partial(check, work, world, place))) == 0


def killed(name: str, world: World, rounds: int, seed: int) -> int:
    """Kill a build at random moments, up to three times in one place, then load; returns what went wrong."""
    work, dice, wrong = WORKS[name], random.Random(f"{seed} {name}"), 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        wait(in_child(partial(work, world, Path(folder, "first"))))
        usual = time.monotonic() - start
        for k in tqdm(range(rounds), desc=f"killed: {name}", disable=None):
            place = Path(folder, str(k))
            for _ in range(dice.choice((1, 1, 2, 3))):
                child = in_child(partial(work, world, place))
                time.sleep(dice.uniform(0, usual))
                kill(child)
                os.waitpid(child, 0)
            wrong += not is_right(work, world, place)
            shutil.rmtree(place)
    return wrong


@contextmanager
def counting(log: Path) -> Iterator[None]:
    """Let every build and every Parquet file of processes that are forked from here leave a line in a log."""
    build, write_shard = NewsCLIPpings._download_and_prepare, vars(writer)["write_shard"]

    def note(name: str) -> None:
        with log.open("a") as file:
            file.write(f"{name}\n")

    def noted_build(self: NewsCLIPpings, *args: object, **kwargs: object) -> None:
        note(self.config_id)
        build(self, *args, **kwargs)

    def noted_shard(file: Path, *args: Any) -> None:
        note(file.name)
        write_shard(file, *args)

    with (
        patch.object(NewsCLIPpings, "_download_and_prepare", noted_build),
        patch.object(writer, "write_shard", noted_shard),
    ):
        yield


def crowded(world: World, rounds: int) -> int:
    """Four processes build the same at once, and two each something else, all in one cache; returns what went wrong."""
    wrong = 0
    for _ in tqdm(range(rounds), desc="crowded", disable=None):
        with tempfile.TemporaryDirectory() as folder, counting(Path(folder, "log")):
            works = [load] * 4 + [load_other, load_from_tar, write_parquet] * 2
            children = [in_child(partial(check, work, world, Path(folder, "cache"))) for work in works]
            wrong += sum(wait(child) != 0 for child in children)
            done = Counter(Path(folder, "log").read_text().split())
            wrong += sorted(done.values()) != [1] * 6  # three builds, and the three files of the Parquet folder
    return wrong


def told_full(work: Work, world: World, place: Path, limit: int | None) -> None:
    """Build where there is perhaps no room; exit with `FULL` if that is said."""
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write then fails with EFBIG, as it does on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        check(work, world, place)
    except NewsCLIPpingsError as error:
        if "disk" not in str(error):
            raise
        sys.exit(FULL)


def strays(place: Path) -> list[Path]:
    """What a build that failed or ended should have taken away."""
    return [path for path in place.rglob("*") if path.suffix in (".tmp", ".incomplete", ".unfinished", ".building")]


def full(name: str, work: Work, world: World, rounds: int, seed: int) -> int:
    """A disk of a random size: that it is full is told, and with room again the rows are right."""
    dice, wrong, told = random.Random(f"{seed} full {name}"), 0, 0
    for k in tqdm(range(rounds), desc=f"disk full: {name}", disable=None):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            place, limit = Path(folder, "disk"), None
            if may_mount():
                if k == 0:
                    with small_disk(place, 64 << 20):
                        wait(in_child(partial(work, world, place)))
                        usual = used(place)
                stack.enter_context(small_disk(place, dice.randrange(usual)))
            else:
                limit = dice.randrange(100, 200_000)
            said = wait(in_child(partial(told_full, work, world, place, limit)))
            told += said == FULL
            wrong += said not in (0, FULL)
            if limit is None:
                make_room(place)
            wrong += not is_right(work, world, place) or bool(strays(place))
    return wrong + (rounds > 5 and not told)  # else nothing was tried


def changed(rounds: int, seed: int) -> int:
    """An input changes at a random moment of a load: rows of one version or an error of ours, right rows later."""
    dice, wrong = random.Random(f"{seed} changed"), 0

    def one(folder: Path, what: str, how: str, change: str, moment: float) -> None:
        logging.disable()  # of what a damaged input lacks
        case = make_case(folder / "data", what)
        many = moments(case, folder / "dry", how)
        found = problem(case, folder / "cache", change, 1 + int(moment * many), how)
        if found:
            message = f"{what} {change} at {moment:.0%} of {how}: {found}"
            raise AssertionError(message)

    for _ in tqdm(range(rounds), desc="changed", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            chosen = dice.choice(CONTENTS), dice.choice(WAYS), dice.choice(list(CHANGES)), dice.random()
            wrong += wait(in_child(partial(one, Path(folder), *chosen))) != 0
    return wrong


@click.command()
@click.option("--kills", default=200, show_default=True, help="Rounds of each kind of build.")
@click.option(
    "--only",
    type=click.Choice(["killed", "crowded", "full", "changed", "forks"]),
    multiple=True,
    help="Which part.  [default: all but forks]",
)
@click.option("--seed", default=0, show_default=True, help="Of the moments.")
def main(kills: int, only: tuple[str, ...], seed: int) -> None:
    """Build under bad conditions, and see whether the rows are right afterwards."""
    wrong: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder, "data"))
        if "killed" in only or not only:
            wrong |= {f"killed, {name}": (kills, killed(name, world, kills, seed)) for name in WORKS}
        if "crowded" in only or not only:
            rounds = max(1, kills // 20)
            wrong["four at once, six others"] = rounds, crowded(world, rounds)
        if "full" in only or not only:
            rounds, works = max(1, kills // 10), dict(WORKS)
            if not may_mount():
                click.echo("No tmpfs can be mounted here: the disk is not full, only files may not be large.", err=True)
            write(world, make_plan(world))
            with serving(Path(folder)) as server:
                url = publish(world, server, "served").url
                works |= {"vectors": load_vectors, "remote tar": partial(load_remote, url)}
                for name, work in works.items():
                    wrong[f"disk full, {name}"] = rounds, full(name, work, world, rounds, seed)
    if "forks" in only:  # `--kills` children of each kind, which hang or have wrong rows
        with tempfile.TemporaryDirectory() as folder, kinds(Path(folder), make_world(Path(folder, "data"))) as ways:
            for name, way in ways.items():
                wrong[f"forked, {name}"] = kills, sum(forked(way, kills, seed))
    if "changed" in only or not only:
        wrong["an input changed"] = 2 * kills, changed(2 * kills, seed)
    shutil.rmtree(_HOME, ignore_errors=True)
    click.echo("| condition | rounds | wrong |\n|---|---:|---:|")
    for name, (rounds, bad) in wrong.items():
        click.echo(f"| {name} | {rounds} | {bad} |")
    sys.exit(any(bad for _, bad in wrong.values()))


if __name__ == "__main__":
    main()
