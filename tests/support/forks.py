"""Fork processes while threads read: each child reads the same data, and must end soon with the right rows."""

from __future__ import annotations

import faulthandler
import itertools
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets

from support.children import kill
from support.reading import load, raw
from support.remote import publish, serving
from support.vectors import make_plan, write
from support.world import SPLITS, Row, World

PATIENCE = 30.0  # seconds until a child counts as hanging; it reads only a few rows
WRONG, ROWS = 3, 12  # exit code for wrong rows; the most rows that a child reads

Made = dict[str, Any]  # split -> rows, streamed or not


class Kind:
    """A way to read rows, and the rows that it must give."""

    def __init__(self, make: Callable[[], Made], expected: dict[str, list[Row]], decoded: bool = False) -> None:
        self._make, self.expected, self.decoded = make, expected, decoded

    def make(self) -> Made:
        """Load the splits again; streams give pictures as stored bytes."""
        made = {split: rows for split, rows in self._make().items() if split in self.expected}
        if self.decoded or not all(isinstance(rows, datasets.IterableDataset) for rows in made.values()):
            return made
        return {split: rows.cast_column("image", datasets.Image(decode=False)) for split, rows in made.items()}

    def problem(self, made: Made, split: str, count: int) -> str | None:
        """Return what is wrong with the first rows of a split, or None."""
        if self.decoded:
            rows = list(itertools.islice(made[split], count))
            found: list[Any] = [row["image"].size for row in rows]
            right = all(len(size) == 2 for size in found) and len(rows) == min(count, len(self.expected[split]))
            return None if right else f"pictures of sizes {found}"
        if isinstance(made[split], datasets.IterableDataset):  # a new one, as of take(), would ask for a lock of torch
            rows = list(itertools.islice(made[split], count))
        else:
            rows = raw(made[split])[:count]
        return None if rows == self.expected[split][:count] else f"other rows than the first {count} of {split}"


@contextmanager
def kinds(folder: Path, world: World) -> Iterator[dict[str, Kind]]:
    """All ways: from the folder, the tar and a remote tar, with vectors and metadata, streamed and as a table."""
    plan = {split: world.rows(split=split) for split in SPLITS}
    vectors = make_plan(world)["clip_text"]
    write(world, make_plan(world))
    with serving(folder) as server:
        url = publish(world, server, "served").url
        ways: dict[str, tuple[dict[str, Any], dict[str, list[Row]]]] = {
            "folder": ({}, plan),
            "path": ({"images": "path"}, {split: world.rows(split=split, images="path") for split in SPLITS}),
            "tar": ({"visual_news": str(world.tar)}, plan),
            "remote tar": ({"visual_news": url}, plan),
            "checked": ({"visual_news": str(world.tar), "check_images": True}, plan),
            "vectors": (
                {"embeddings": ["clip_text"]},
                {
                    split: [
                        {**row, "clip_text": v if v is None else v.tolist()}
                        for row in rows
                        for v in [vectors[split].get(row["id"])]
                    ]
                    for split, rows in plan.items()
                },
            ),
        }
        found = {}
        for name, (fields, rows) in ways.items():
            cache = str(folder / f"cache of {name}")
            found[f"stream, {name}"] = Kind(partial(load, world, streaming=True, cache_dir=cache, **fields), rows)
        for name in ("folder", "path", "vectors"):
            fields, rows = ways[name]
            found[f"table, {name}"] = Kind(partial(load, world, cache_dir=str(folder / "tables"), **fields), rows)
        found["stream, decoded"] = Kind(partial(load, world, streaming=True), plan, decoded=True)
        yield found


def forked(kind: Kind, children: int, seed: int = 0, warm: bool = False) -> tuple[int, int]:
    """Fork at random moments while threads read; return the numbers of children that hung and that had wrong rows.

    Args:
        kind: the way of reading.
        children: number of forks.
        seed: chooses the moments.
        warm: whether all children share objects that were read before. If not, each fork gets new objects.
    """
    dice, stopped = random.Random(seed), threading.Event()
    made = [kind.make()]
    faults: list[str] = []

    def read(split: str) -> None:  # a stream of `datasets` has one position, so only one thread may read it
        own = random.Random(f"{seed} {split}")
        while not stopped.is_set():
            problem = kind.problem(made[0], split, own.randrange(1, ROWS))
            if problem:
                faults.append(problem)
                stopped.set()

    threads = [threading.Thread(target=read, args=(split,), daemon=True) for split in SPLITS]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # so that a fork may find a thread anywhere
    hung = wrong = 0
    running: dict[int, float] = {}

    def reap(most: int) -> None:
        nonlocal hung, wrong
        while len(running) > most:
            for child, begun in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    wrong += os.waitstatus_to_exitcode(status) != 0
                elif time.monotonic() > begun + PATIENCE:
                    hung += 1
                    kill(child)
                    os.waitpid(child, 0)
                else:
                    continue
                del running[child]
            time.sleep(0.002)

    try:
        for thread in threads:
            thread.start()
        for _ in range(children):
            if not warm:
                made[0] = kind.make()
            time.sleep(dice.choice((0, dice.uniform(0, 0.02), dice.uniform(0, 0.1))))
            split, count = dice.choice(list(SPLITS)), dice.randrange(1, ROWS)
            child = os.fork()
            if not child:
                _in_child(kind, made[0], split, count)
            running[child] = time.monotonic()
            reap(3)
        reap(0)
    finally:
        stopped.set()
        for thread in threads:
            thread.join(PATIENCE)
        sys.setswitchinterval(interval)
        for child in running:
            kill(child)
            os.waitpid(child, 0)
    if faults or any(thread.is_alive() for thread in threads):
        message = f"the threads of the parent: {faults or 'one hangs'}"
        raise AssertionError(message)
    return hung, wrong


def _in_child(kind: Kind, made: Made, split: str, count: int) -> None:
    """Read in the child, then end the process."""
    code = WRONG
    try:
        os.setpgid(0, 0)
        faulthandler.dump_traceback_later(PATIENCE - 2, file=2)  # shows where it hangs
        logging.disable()
        problem = kind.problem(made, split, count)
        if problem:
            os.write(2, f"{problem}\n".encode())
        else:
            code = 0
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)
