"""Every command that writes, sent to every input by every spelling: `python -m tests.sweeps.overwriting`.

An output is never an input, nor a file that the command did not write: each of these calls has to be refused, and
every file has to stay as it is.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import click
import numpy as np
from support.command import run

from _newsclippings.show.sample import write_sample

REFUSED = (
    "is one of the inputs",
    "is inside a folder of inputs",
    "contains the inputs",
    "exists and was not written by",
    "is a link, a folder or a device",
    "found a symbolic link",
    "expected a new folder, or one that",
    "expected a new or empty folder",
    "exists and is not a sample",
    "charts are expected in",
)


@dataclass(frozen=True)
class Scene:
    """Everything that any command reads.

    Attributes:
        root: the folder that all of it is in.
    """

    root: Path

    @property
    def data(self) -> Path:
        """The official tree."""
        return self.root / "data"

    @property
    def built(self) -> Path:
        """A built folder."""
        return self.root / "built"

    @property
    def vectors(self) -> Path:
        """A pickle."""
        return self.root / "vectors.pkl"

    @property
    def index(self) -> Path:
        """An index of the tar."""
        return self.root / "index.parquet"

    @property
    def notes(self) -> Path:
        """A file of somebody else's."""
        return self.root / "notes.txt"

    def inputs(self) -> dict[str, Path]:
        """One file of each kind."""
        origin, ours = self.data / "visual_news" / "origin", self.data / "news_clippings"
        return {
            "tar": self.data / "visual_news" / "origin.tar",
            "data.json": origin / "data.json",
            "picture": sorted(origin.rglob("*.jpg"))[0],
            "article": sorted(origin.rglob("*.txt"))[0],
            "matches": ours / "data" / "merged_balanced" / "test.json",
            "metadata": ours / "metadata" / "test.json",
            "pickle": self.vectors,
            "index": self.index,
            "shard": sorted((self.built / "merged_balanced").glob("test-*.parquet"))[0],
            "manifest": self.built / "merged_balanced" / "manifest.json",
            "notes": self.notes,
        }


def make_scene(root: Path) -> Scene:
    """Write all inputs below a folder."""
    scene = Scene(root)
    write_sample(scene.data)
    vectors = {number: np.full(4, number, np.float32) for number in range(5)}
    scene.vectors.write_bytes(pickle.dumps(vectors, 4))
    scene.notes.write_text("a year of work")
    for arguments in (
        ("index", scene.data / "visual_news/origin.tar", "-o", scene.index),
        ("build", scene.built, "--data-dir", scene.data, "--split", "test"),
    ):
        done = run(*arguments)
        if done.exit_code:
            raise RuntimeError(done.stderr)
    return scene


def commands(scene: Scene) -> dict[str, Callable[[Path], list[object]]]:
    """Each command that writes a file whose name is given -> its arguments, by that name."""
    where: list[object] = ["--data-dir", scene.data]
    by_index = [*where, "--visual-news", scene.data / "visual_news/origin.tar", "--visual-news-index", scene.index]
    return {
        "index": lambda out: ["index", scene.data / "visual_news/origin.tar", "-o", out],
        "preview": lambda out: ["preview", *where, "--pairs", 1, "-o", out],
        "preview --html": lambda out: ["preview", *where, "--pairs", 1, "--html", out],
        "preview --html by an index": lambda out: ["preview", *by_index, "--pairs", 1, "--html", out],
        "dataset-infos": lambda out: ["dataset-infos", out],
        "croissant": lambda out: ["croissant", scene.built, "-o", out],
        "convert-embeddings .npy": lambda out: ["convert-embeddings", scene.vectors, out],
        "convert-embeddings .parquet": lambda out: ["convert-embeddings", scene.vectors, out],
        "convert-embeddings .safetensors": lambda out: ["convert-embeddings", scene.vectors, out],
        "build": lambda out: ["build", out, *where, "--split", "test"],
        "export": lambda out: ["export", out, "--as", "csv", *where, "--split", "test"],
        "export --built": lambda out: ["export", out, "--as", "llava", "--built", scene.built, "--split", "test"],
        "sample": lambda out: ["sample", out],
        "stats --plot": lambda out: ["stats", scene.built, "--plot", out],
    }


MAY_REPLACE = {("index", "index")}  # its own earlier output, of the same tar
ENDINGS = {"preview": ".png"} | {f"convert-embeddings {end}": end for end in (".npy", ".parquet", ".safetensors")}


def spellings(scene: Scene, file: Path, ending: str) -> Iterator[tuple[str, Path]]:
    """Names of one file: its own, a longer way to it, links, hard links, and through a folder that is a link."""
    links = Path(tempfile.mkdtemp(dir=scene.root.parent))
    if not ending or file.suffix == ending:
        yield "path", file
        yield "longer path", file.parent / ".." / file.parent.name / "." / file.name
        (links / "folder").symlink_to(file.parent)
        yield "folder that is a link", links / "folder" / file.name
    soft, hard = links / f"soft{ending or file.suffix}", links / f"hard{ending or file.suffix}"
    soft.symlink_to(file)
    yield "link", soft
    os.link(file, hard)
    yield "hard link", hard
    twice = links / f"twice{ending or file.suffix}"
    twice.symlink_to(soft)
    yield "link to a link", twice


def folders(scene: Scene) -> dict[str, Path]:
    """Folders that are inputs, lie in inputs or hold some."""
    origin = scene.data / "visual_news" / "origin"
    return {
        "data": scene.data,
        "visual_news": scene.data / "visual_news",
        "origin": origin,
        "in origin": origin / "new",
        "an outlet": next(path for path in sorted(origin.iterdir()) if path.is_dir()),
        "the matches": scene.data / "news_clippings",
        "in the matches": scene.data / "news_clippings" / "data" / "merged_balanced",
        "above all": scene.root,
    }


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below a folder, and where links lead."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def attacks(scene: Scene) -> Iterator[tuple[str, list[object]]]:
    """What is tried, in words, and the arguments of the command line."""
    for command, arguments in commands(scene).items():
        for kind, file in scene.inputs().items():
            if (command, kind) not in MAY_REPLACE:
                for how, name in spellings(scene, file, ENDINGS.get(command, "")):
                    yield f"{command} -> {kind} by {how}", arguments(name)
    build = commands(scene)["build"]
    for kind, folder in folders(scene).items():
        link = Path(tempfile.mkdtemp(dir=scene.root.parent)) / "link"
        link.symlink_to(folder)
        for how, name in (("path", folder), ("longer path", folder / ".." / folder.name), ("link", link)):
            if folder.exists() or how == "path":
                yield f"build -> {kind} by {how}", build(name)
                if kind not in ("data", "in origin"):  # over itself, or into a new folder, it may be written
                    yield f"sample -> {kind} by {how}", ["sample", name]
    for absent in ("visual_news/origin/new.html", "news_clippings/data/merged_balanced/new.json"):
        yield f"preview --html -> {absent}", ["preview", "--data-dir", scene.data, "--html", scene.data / absent]


def fails(scene: Scene, arguments: list[object], before: dict[str, str]) -> str | None:
    """What is wrong with the answer to a call that has to be refused; None if nothing is."""
    done = run(*arguments)
    said = f"{done.exit_code} {done.output} {done.stderr} {done.exception!r}"
    if done.exit_code == 0:
        return f"not refused: {said}"
    if not isinstance(done.exception, SystemExit):
        return f"a foreign error: {said}"
    if done.exit_code == 1 and not any(words in done.stderr for words in REFUSED):
        return f"refused for another reason: {said}"
    return None if digests(scene.root) == before else f"files changed: {said}"


def main() -> None:
    """Try all; print how many."""
    root = Path(tempfile.mkdtemp(prefix="overwriting-"))
    os.environ.update(HF_HOME=str(root / "hf"), HF_HUB_OFFLINE="1")
    scene = make_scene(root / "scene")
    before, tried, wrong = digests(scene.root), 0, 0
    for name, arguments in attacks(scene):
        tried += 1
        if problem := fails(scene, arguments, before):
            wrong += 1
            click.echo(f"{name}: {problem}")
            shutil.rmtree(scene.root)
            make_scene(scene.root)
            before = digests(scene.root)
    click.echo(f"{tried} outputs onto inputs or files of others: {wrong} not refused, or with a file changed")
    shutil.rmtree(root)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
