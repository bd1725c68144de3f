"""Builds that are killed, crowded or short of disk, many times over: `python -m tests.soak`.

Each round ends with what a user would do, a plain load in a new process, whose rows are compared with the plan of the
world that was written. One wrong row, or one load that fails or hangs, ends the soak with exit code 1.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
_HOME = tempfile.mkdtemp(prefix="newsclippings-soak-")
os.environ.update(HF_HOME=_HOME, HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")

import click  # noqa: E402
import datasets  # noqa: E402
from reading import raw_splits  # noqa: E402
from tqdm import tqdm  # noqa: E402
from world import World, make_world  # noqa: E402

from _newsclippings.build import build_folder  # noqa: E402
from newsclippings import NewsCLIPpingsError  # noqa: E402

CONFIG = "merged_balanced"
PATIENCE = 120  # seconds after which a load counts as hanging

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
    """A folder of Parquet files, opened by `datasets` alone."""
    build_folder(place / "built", [CONFIG], data_dir=str(world.root), cache_dir=str(place / "cache"))
    return datasets.load_dataset(str(place / "built"), CONFIG, cache_dir=str(place / "cache"))


WORKS: dict[str, Work] = {"folder": load, "tar": load_from_tar, "num_proc=2": load_by_two, "parquet": write_parquet}


def in_child(action: Callable[[], object]) -> int:
    """Start an action in a process group of its own, silent; its exit code says whether it raised."""
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    code = 1
    try:
        action()
        code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


def wait(child: int, patience: float = PATIENCE) -> int | None:
    """Exit code of a child, negative for a signal; None if it hangs, and is killed."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    kill(child)
    os.waitpid(child, 0)
    return None


def kill(child: int) -> None:
    """Kill a process and all that it started, without warning."""
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)


def check(work: Work, world: World, place: Path) -> None:
    """Raise if the rows are not those of the plan."""
    expected = {split: world.rows(CONFIG, split) for split in ("train", "validation", "test")}
    if raw_splits(work(world, place)) != expected:
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


def crowded(world: World, rounds: int) -> int:
    """Four processes build the same at once, and two build something else; returns what went wrong."""
    wrong = 0
    for _ in tqdm(range(rounds), desc="crowded", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            same = [in_child(partial(check, load, world, Path(folder))) for _ in range(4)]
            other = [in_child(partial(check, load_from_tar, world, Path(folder)))]
            other.append(in_child(partial(check, write_parquet, world, Path(folder))))
            wrong += sum(wait(child) != 0 for child in same + other)
    return wrong


def full(name: str, world: World, rounds: int, seed: int) -> int:
    """Writing fails at a random size of a file; the error is told, and with room again the rows are right."""
    work, dice, wrong = WORKS[name], random.Random(f"{seed} full {name}"), 0

    def limited(place: Path, size: int) -> None:
        signal.signal(
            signal.SIGXFSZ, signal.SIG_IGN
        )  # a write then fails with EFBIG, as it does with ENOSPC on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        try:
            work(world, place)
        except Exception as error:
            causes = [error, error.__cause__, error.__context__]
            known = [one for one in causes if isinstance(one, NewsCLIPpingsError | OSError)]
            if not known or not any(
                errno.errorcode[errno.EFBIG] in repr(one) or "large" in str(one).lower() for one in known
            ):
                raise

    for _ in tqdm(range(rounds), desc=f"disk full: {name}", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            size = dice.randrange(100, 200_000)
            wrong += wait(in_child(partial(limited, Path(folder), size))) != 0
            wrong += not is_right(work, world, Path(folder))
    return wrong


@click.command()
@click.option("--kills", default=200, show_default=True, help="Rounds of each kind of build.")
@click.option(
    "--only", type=click.Choice(["killed", "crowded", "full"]), multiple=True, help="Which part.  [default: all]"
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
            wrong["four at once, two others"] = rounds, crowded(world, rounds)
        if "full" in only or not only:
            rounds = max(1, kills // 10)
            wrong |= {f"disk full, {name}": (rounds, full(name, world, rounds, seed)) for name in ("folder", "parquet")}
    shutil.rmtree(_HOME, ignore_errors=True)
    click.echo("| condition | rounds | wrong |\n|---|---:|---:|")
    for name, (rounds, bad) in wrong.items():
        click.echo(f"| {name} | {rounds} | {bad} |")
    sys.exit(any(bad for _, bad in wrong.values()))


if __name__ == "__main__":
    main()
