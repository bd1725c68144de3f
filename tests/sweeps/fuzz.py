"""A coverage-guided campaign against the readers of files, by `atheris`: `python -m tests.sweeps.fuzz pickle`.

Whatever bytes a file has, a reader gives rows or one of our errors; any other exception is a crash. What was found
interesting is kept in build/fuzz, so that the next campaign goes on from there. Each crash that was mended has its
input in tests/sweeps/fuzz_findings, which the suite reads again.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import click
import numpy as np

from _newsclippings.corpus.metadata import read_metadata
from _newsclippings.corpus.records import read_corpus
from _newsclippings.encoded.decoding import decode_small
from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.matches import read_matches
from _newsclippings.storage.local import LocalFile
from _newsclippings.tar.index import index_tar
from _newsclippings.tar.index_file import read_index
from _newsclippings.vectors import read_embeddings, read_faces

FINDINGS = Path(__file__).parent / "fuzz_findings"
WANTED = np.array([1, 2, 3, 39136], np.int64)


def _annotations(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    table = read_matches(str(file), "merged_balanced")
    rows = json.loads(data.decode("utf-8-sig"))["annotations"]
    for row, expected in zip(table.to_pylist(), rows, strict=True):
        for name in ("id", "image_id", "falsified"):
            if row[name] != expected[name]:
                raise AssertionError(name)


def _corpus(data: bytes, file: Path) -> None:
    read_corpus(lambda: io.BytesIO(data), "data.json", WANTED, articles=True)


def _metadata(data: bytes, file: Path) -> None:
    read_metadata(lambda: io.BytesIO(data), "metadata/train.json", WANTED)


def _tar(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    with LocalFile(str(file)) as opened:
        index_tar(opened)


def _index(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    read_index(str(file), str(file))


def _pickle(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    for read in (read_embeddings, read_faces):
        with contextlib.suppress(NewsCLIPpingsError):
            read(file)


def _picture(data: bytes, file: Path) -> None:
    decode_small({"bytes": data, "path": None}, 8)


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "annotations": _annotations,
    "corpus": _corpus,
    "metadata": _metadata,
    "tar": _tar,
    "index": _index,
    "pickle": _pickle,
    "picture": _picture,
}


def read(target: str, data: bytes, file: Path) -> None:
    """Give bytes to a reader; raises what is not one of our errors."""
    with contextlib.suppress(NewsCLIPpingsError):
        TARGETS[target](data, file)


def seeds(target: str) -> list[bytes]:
    """Files that are in order, to begin with."""
    if target == "picture":
        from sweeps import odd_pictures

        return odd_pictures.seeds()
    from support.world import make_world

    with tempfile.TemporaryDirectory() as folder:
        world = make_world(Path(folder), pairs={"train": 2, "validation": 2, "test": 2})
        if target == "annotations":
            return [world.annotations("merged_balanced", "test").read_bytes()]
        if target == "corpus":
            return [world.data_json.read_bytes()[:4000], b'[{"id": 1, "caption": "a", "topic": "b", "source": "bbc", '
                    b'"image_path": "./bbc/images/0001/001.jpg", "article_path": "./bbc/articles/1.txt"}]']  # fmt: skip
        if target == "metadata":
            return [world.metadata("test").read_bytes()[:4000]]
        if target == "tar":
            return [world.tar.read_bytes()[: 1 << 15]]
        if target == "index":
            from _newsclippings.tar.index_file import write_index

            out = Path(folder, "x.parquet")
            with LocalFile(str(world.tar)) as opened:
                write_index(index_tar(opened), out)
            return [out.read_bytes()]
        vectors: dict[int, Any] = {1: np.arange(4, dtype=np.float32), 2: np.ones(4, np.float16)}
        faces = {1: None, 2: np.ones((2, 4), np.float32)}
        return [pickle.dumps(some, protocol) for some in (vectors, faces) for protocol in (2, 3, 4, 5)]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.option("--seconds", default=600, show_default=True)
@click.argument("more", nargs=-1)
def main(target: str, seconds: int, more: tuple[str, ...]) -> None:
    """Look for bytes that make a reader crash; MORE goes to libFuzzer."""
    try:
        import atheris
    except ImportError as error:
        message = "A campaign needs atheris: pip install atheris. (The suite reads tests/sweeps/fuzz_findings without.)"
        raise click.ClickException(message) from error

    with atheris.instrument_imports(include=["_newsclippings"]):
        for name in [name for name in sys.modules if name.startswith("_newsclippings")]:
            del sys.modules[name]
        from sweeps import fuzz

    kept = Path("build/fuzz", target)
    kept.mkdir(parents=True, exist_ok=True)
    for k, seed in enumerate(seeds(target)):
        (kept / f"seed-{k}").write_bytes(seed)
    file = Path(tempfile.mkdtemp(), "input")
    options = [f"-max_total_time={seconds}", "-max_len=65536", "-timeout=20", f"-artifact_prefix={kept}/"]
    atheris.Setup([sys.argv[0], str(kept), *options, *more], lambda data: fuzz.read(target, data, file))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
