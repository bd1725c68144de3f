"""Inputs that are cut off, replaced, overwritten, appended to or removed at a chosen moment of a build."""

from __future__ import annotations

import copy
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets

from _newsclippings.folder.build import build_folder
from newsclippings import NewsCLIPpingsError
from support.reading import load, raw_splits
from support.remote import make_index
from support.vectors import make_plan
from support.world import Row, World, make_world

SPLIT = "test"
WAYS = ("built", "stream", "parquet")
CONTENTS = ("annotations", "data.json", "metadata", "tar", "tar index", "embeddings", "picture", "article")


@dataclass(frozen=True)
class Case:
    """A world with two versions of one file, and the rows that each version gives."""

    world: World
    options: dict[str, Any]
    file: Path
    old: bytes
    new: bytes
    rows: tuple[list[Row], list[Row] | None]  # of the old version; of the new one, or None if it cannot be read

    def reset(self) -> None:
        """Restore the old version with an old modification time, so that a later change shows in the file's times."""
        self.file.write_bytes(self.old)
        os.utime(self.file, (1_600_000_000, 1_600_000_000))

    def load(self, place: Path, how: str) -> list[Row]:
        """Load the rows as a user would: "built", as a "stream", or from a folder of "parquet" files."""
        options = {"splits": [SPLIT], "cache_dir": str(place), **self.options}
        if how == "parquet":
            del options["cache_dir"]
            with patch.dict(os.environ, {"HF_DATASETS_CACHE": str(place)}):
                build_folder(place / "out", ["merged_balanced"], data_dir=str(self.world.root), **options)
            found = datasets.load_dataset(str(place / "out"), cache_dir=tempfile.mkdtemp(dir=place))
        else:
            found = load(self.world, streaming=how == "stream", **options)
        return raw_splits(found)[SPLIT]

    def allowed(self, change: str) -> list[list[Row]]:
        """The rows that a load may give while the file changes: those of one version."""
        allowed = [rows for rows in self.rows[: 2 if change in ("replaced", "written over") else 1] if rows is not None]
        if change == "removed" and self.file == self.world.data_json:  # captions then come from the metadata
            allowed.append(self.world.rows(split=SPLIT, captions="metadata"))
        return allowed


def _with_tar(world: World, name: str) -> bytes:
    world.write_tar(world.root / name)
    return (world.root / name).read_bytes()


def make_case(root: Path, what: str) -> Case:
    """Make a world in which the file of this content has a second version, of the same length where possible."""
    from_tar = what.startswith("tar")
    world = make_world(root, folder=not from_tar and what != "metadata", tar=from_tar)
    new, options = copy.deepcopy(world), dict[str, Any]()
    rows: Callable[[World], list[Row] | None] = lambda one: one.rows(split=SPLIT)  # noqa: E731
    if what == "annotations":
        file = world.annotations("merged_balanced", SPLIT)
        for match in new.matches["merged_balanced", SPLIT]:
            match.score = match.score / 2 if match.falsified else match.score
        old_bytes = file.read_bytes()
        new.write_annotations()
        new_bytes = file.read_bytes()
    elif what in ("data.json", "metadata"):
        for record in new.records.values():
            record.topic = record.topic[::-1]
        if what == "data.json":
            file, old_bytes, new_bytes = world.data_json, world.data_json_bytes(), new.data_json_bytes()
        else:
            file, options = world.metadata(SPLIT), {"images": "none"}
            rows = lambda one: one.rows(split=SPLIT, captions="metadata", images="none")  # noqa: E731
            old_bytes = file.read_bytes()
            new.write_metadata()
            new_bytes = file.read_bytes()
    elif from_tar:
        new.pictures = {path: data[:-9] + b"\1" * 9 for path, data in world.pictures.items()}
        file, old_bytes, new_bytes = world.tar, world.tar.read_bytes(), _with_tar(new, "new.tar")
        if what == "tar index":
            grown = copy.deepcopy(world)
            grown.pictures = {path: data + bytes(600) for path, data in world.pictures.items()}
            _with_tar(grown, "grown.tar")
            file = Path(make_index(world.tar, world.root / "index.parquet"))
            old_bytes = file.read_bytes()
            new_bytes = Path(make_index(world.root / "grown.tar", world.root / "grown.parquet")).read_bytes()
            options, plain = {"visual_news_index": str(file)}, rows
            rows = lambda one: plain(one) if one is world else None  # noqa: E731
    elif what == "embeddings":
        options = {"images": "none", "embeddings": ["clip_text"]}
        file = root / "news_clippings/embeddings/clip_text_embeddings/clip_text_embeddings_test.pkl"
        file.parent.mkdir(parents=True)
        vectors = make_plan(world)["clip_text"][SPLIT]
        old_bytes, new_bytes = (pickle.dumps({k: sign * v for k, v in vectors.items()}, 4) for sign in (1, -1))

        def with_vectors(one: World) -> list[Row]:
            sign = 1 if one is world else -1
            known = {number: (sign * vector).tolist() for number, vector in vectors.items()}
            return [{**row, "clip_text": known.get(row["id"])} for row in one.rows(split=SPLIT, images="none")]

        rows = with_vectors
    elif what == "picture":
        path = world.matches["merged_balanced", SPLIT][0].image_id
        name = world.records[path].image_path
        new.pictures[name] = world.pictures[name][:-9] + b"\1" * 9
        file, old_bytes, new_bytes = world.origin / name, world.pictures[name], new.pictures[name]
    else:
        match = world.matches["merged_balanced", SPLIT][0]
        file = world.origin / world.records[match.id].source / "articles" / f"{match.id}.txt"
        options, old_bytes = {"images": "none", "articles": True}, file.read_bytes()
        new_bytes = old_bytes.replace(b"Article", b"ARTICLE")

        def with_articles(one: World) -> list[Row]:
            text = {match.id: (old_bytes if one is world else new_bytes).decode()}
            plain = one.rows(split=SPLIT, images="none")
            return [{**row, "article": text.get(row["id"], f"Article {row['id']}.\n")} for row in plain]

        rows = with_articles
    case = Case(world, options, file, old_bytes, new_bytes, (rows(world) or [], rows(new)))
    case.reset()
    return case


def _replace(file: Path, content: bytes) -> None:
    other = file.with_name(file.name + ".other")
    other.write_bytes(content)
    other.replace(file)


def _write_over(file: Path, content: bytes) -> None:
    with file.open("r+b") as target:
        target.write(content)
        target.truncate()


CHANGES: dict[str, Callable[[Case], None]] = {
    "cut off": lambda case: os.truncate(case.file, len(case.old) // 2),
    "replaced": lambda case: _replace(case.file, case.new),
    "written over": lambda case: _write_over(case.file, case.new),
    "appended to": lambda case: _write_over(case.file, case.old + b"x" * 700),
    "removed": lambda case: case.file.unlink(),
}


@contextmanager
def at_moment(case: Case, moment: int, change: Callable[[Case], None]) -> Iterator[list[int]]:
    """Change the file just before it is opened or read for the n-th time; yields the count so far, in a list."""
    inode, seen = os.stat(case.file).st_ino, [0]

    def count() -> None:
        seen[0] += 1
        if seen[0] == moment:
            change(case)

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(os, name)

        def call(file: Any, *args: Any, **kwargs: Any) -> Any:
            mine = os.fspath(file) == str(case.file) if name == "open" else os.fstat(file).st_ino == inode
            if mine:
                count()
            return original(file, *args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in ("open", "pread", "preadv", "readv"):
            stack.enter_context(patch.object(os, name, watched(name)))
        yield seen


def moments(case: Case, place: Path, how: str) -> int:
    """Count how often a load opens or reads the file."""
    with at_moment(case, 0, CHANGES["removed"]) as seen:
        case.load(place, how)
    return seen[0]


def problem(case: Case, place: Path, change: str, moment: int, how: str) -> str | None:
    """Load while the file changes, then again without a change; return what was wrong, or None."""
    case.reset()
    try:
        with at_moment(case, moment, CHANGES[change]):
            found = case.load(place, how)
        if found not in case.allowed(change):
            return "rows of no version"
    except NewsCLIPpingsError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    right = case.rows[1] if change in ("replaced", "written over") else None
    if change == "removed" or right is None:
        case.reset()
        right = case.rows[0]
    try:
        return None if case.load(place, how) == right else "later, rows of another version"
    except NewsCLIPpingsError as error:
        return f"later, {error}"
