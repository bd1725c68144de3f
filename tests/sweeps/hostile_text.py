"""A hostile text in each place where an input has one, and all that the commands print and write: a sweep.

    python -m tests.sweeps.hostile_text

Nothing that a terminal obeys or reorders may be in any of it, and no line may be forged.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import pickle
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
if __name__ == "__main__":
    os.environ.update(HF_HOME=tempfile.mkdtemp(prefix="newsclippings-text-"), HF_HUB_OFFLINE="1", USE_TORCH="0")
    os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")

import click
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner
from PIL import Image, PngImagePlugin
from support.world import World, make_world

from _newsclippings.cli.commands import main

FORGED = "FORGED"
HOSTILE = f"a\x1b[2J\x07\r\n{FORGED} \u202e\u2066\u2028\u2029\x00\x7f\x9b\u200b\ufeffz"
NAME = HOSTILE.replace("\x00", "")  # of a file

Case = tuple[str, Callable[[Path], list[list[str]]]]  # what is hostile; makes it, and gives the commands to run


def problems(text: str) -> str:
    """What in a text a terminal would obey, or what line of it is forged; empty if nothing."""
    raw = sorted({hex(ord(c)) for c in text if c != "\n" and not c.isprintable()})
    if raw:
        return f"raw {', '.join(raw)}"
    return "a forged line" if any(line.lstrip().startswith(FORGED) for line in text.splitlines()) else ""


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to the leaves of a JSON value, and of lists and objects the first two."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(children)[:12]:
        yield (*path, key)
        yield from places(child, (*path, key))


def with_text(value: Any, path: tuple[Any, ...], as_key: bool) -> Any:
    """A copy with the hostile text at a place, as the value or as the key."""
    value = copy.deepcopy(value)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if as_key:
        parent[HOSTILE] = parent.pop(path[-1])
    else:
        parent[path[-1]] = HOSTILE
    return value


def of_inputs(root: Path, world: World) -> Iterator[Case]:
    """A text in matches, data.json, metadata."""
    where = ["--data-dir", "data"]
    commands = [
        ["verify", *where, "--images"],
        ["verify", *where, "--format", "json"],
        ["preview", *where, "-o", "p.png"],
        ["preview", *where, "--html", "p.html"],
        ["build", "built", *where, "--split", "test", "--missing", "null", "--metadata"],
        ["stats", "built"],
        ["stats", "built", "--format", "json"],
        ["card", "built"],
        ["croissant", "built"],
        ["push", "me/x", "built", "--dry-run", "--with-images", "--i-have-the-rights"],
    ]

    def change(file: Path, path: tuple[Any, ...], as_key: bool, folder: Path) -> list[list[str]]:
        copied = folder / "data" / file.relative_to(root)
        content = json.loads(copied.read_text())
        copied.unlink()
        copied.write_text(json.dumps(with_text(content, path, as_key)))
        return commands

    record = next(i for i, r in enumerate(world.records) if r == world.matches["merged_balanced", "test"][0].id)
    one = str(world.matches["merged_balanced", "test"][0].id)
    files = {
        world.annotations("merged_balanced", "test"): lambda path: path[0] != "annotations" or path[1:2] in ((), (0,)),
        world.data_json: lambda path: path[0] == record,
        world.metadata("test"): lambda path: path[0] == one,
    }
    for file, wanted in files.items():
        content = json.loads(file.read_text())
        found = [path for path in _deep(content, record, one) if wanted(path)]  # type: ignore[no-untyped-call]
        for path in found:
            for as_key in (False, True):
                if as_key and not isinstance(path[-1], str):
                    continue
                yield (
                    f"{file.name}: {'key' if as_key else 'value'} {'/'.join(map(str, path))}",
                    lambda folder, f=file, p=path, k=as_key: change(f, p, k, folder),  # type: ignore[misc]
                )


def _deep(content: Any, record: int, one: str) -> Iterator[tuple[Any, ...]]:
    if isinstance(content, list):
        yield (record,)
        yield from places(content[record], (record,))
    elif "annotations" in content:
        yield from places({**content, "annotations": content["annotations"][:1]})
    else:
        yield (one,)
        yield from places(content[one], (one,))


def of_manifests(built: Path) -> Iterator[Case]:
    """A text in each place of the files of a built folder."""
    commands = [
        ["verify", "--built", "built"],
        ["verify", "--built", "built", "--format", "json"],
        ["stats", "built"],
        ["card", "built", "--check"],
        ["card", "built"],
        ["croissant", "built"],
        ["push", "me/x", "built", "--dry-run", "--with-images", "--i-have-the-rights"],
    ]

    def change(name: str, path: tuple[Any, ...], as_key: bool, folder: Path) -> list[list[str]]:
        file = folder / "built" / name
        content = json.loads(file.read_text())
        file.unlink()
        file.write_text(json.dumps(with_text(content, path, as_key)))
        return commands

    for name in ("merged_balanced/manifest.json", "dataset_infos.json"):
        for path in places(json.loads((built / name).read_text())):
            for as_key in (False, True):
                if not as_key or isinstance(path[-1], str):
                    yield (
                        f"{name}: {'key' if as_key else 'value'} {'/'.join(map(str, path))}",
                        lambda folder, n=name, p=path, k=as_key: change(n, p, k, folder),  # type: ignore[misc]
                    )


def of_tars(world: World) -> Iterator[Case]:
    """A text in names and fields of a tar, and in its index."""

    def commands(tar: str, *more: str) -> list[list[str]]:
        where = ["--data-dir", "data", "--visual-news", tar, *more]
        return [
            ["info", *where],
            ["info", *where, "--format", "json"],
            ["index", tar, "-o", "new.parquet"],
            ["index", tar, "-o", "new2.parquet", "--format", "json"],
            ["verify", *where, "--images"],
            ["verify", *where, "--format", "json"],
            ["preview", *where, "-o", "p.png"],
            ["build", "b", *where, "--split", "test"],
        ]

    def extra(folder: Path, kind: bytes, name: str, **fields: Any) -> list[list[str]]:
        info = tarfile.TarInfo(name)
        info.type = kind
        for field, value in fields.items():
            setattr(info, field, value)
        world.write_tar(folder / "x.tar", fmt=tarfile.PAX_FORMAT, extra=[(info, b"")])
        return commands("x.tar")

    for kind in (tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, b"Z"):
        for number, name in enumerate((f"origin/{NAME}", f"../{NAME}", f"origin/bbc/{NAME}.jpg")):
            yield (
                f"tar: name of kind {kind.decode()}, {number}",
                lambda folder, k=kind, n=name: extra(folder, k, n, linkname=NAME),  # type: ignore[misc]
            )
    yield "tar: owner", lambda folder: extra(folder, tarfile.REGTYPE, "origin/x", uname=NAME, gname=NAME)
    yield "tar: extended", lambda folder: extra(folder, tarfile.REGTYPE, "origin/x", pax_headers={NAME: NAME})
    yield "tar: sparse", lambda folder: extra(folder, tarfile.REGTYPE, "x", pax_headers={"GNU.sparse.name": NAME})

    def raw(folder: Path, byte: int) -> list[list[str]]:
        world.write_tar(folder / "x.tar")
        data = bytearray((folder / "x.tar").read_bytes())
        data[byte : byte + 8] = b"\x1b[2J\r\n\x9b\x00"
        (folder / "x.tar").write_bytes(data)
        return commands("x.tar")

    for byte in (0, 100, 124, 148, 156, 257):
        yield f"tar: byte {byte} of a header", lambda folder, b=byte: raw(folder, b)  # type: ignore[misc]

    def named(folder: Path) -> list[list[str]]:
        world.write_tar(folder / f"{NAME}.tar")
        return commands(f"{NAME}.tar")

    yield "tar: its own name", named

    def index(folder: Path, row: int | None, key: str) -> list[list[str]]:
        world.write_tar(folder / "x.tar")
        CliRunner().invoke(main, ["index", str(folder / "x.tar"), "-o", str(folder / "x.parquet")])
        table = pq.read_table(folder / "x.parquet")
        if row is not None:
            names = table["name"].to_pylist()
            names[row] = HOSTILE
            table = table.set_column(0, "name", pa.array(names, table["name"].type))
        about = {**(table.schema.metadata or {}), **({key.encode(): HOSTILE.encode()} if key else {})}
        pq.write_table(table.replace_schema_metadata(about), folder / "x.parquet")
        return commands("x.tar", "--visual-news-index", "x.parquet")

    for key in ("damage", "tar_size", "head_sha256", "tail_sha256", HOSTILE):
        yield f"index: {key!r}", lambda folder, k=key: index(folder, None, k)  # type: ignore[misc]
    yield "index: a name", lambda folder: index(folder, 3, "")


def of_files(root: Path, world: World, built: Path) -> Iterator[Case]:
    """A text in names of files and folders, in pictures, articles and pickles."""

    def folders(folder: Path) -> list[list[str]]:
        (folder / "data").rename(folder / NAME)
        where = ["--data-dir", NAME]
        return [
            ["info", *where],
            ["info", *where, "--format", "json"],
            ["verify", *where, "--images"],
            ["build", f"b{NAME}", *where, "--split", "test"],
            ["preview", *where, "-o", f"{NAME}.png"],
            ["index", f"{NAME}/visual_news/origin.tar", "-o", f"{NAME}.parquet"],
            ["dataset-infos", NAME + "2"],
            ["sample", NAME + "3"],
        ]

    def of_built(folder: Path) -> list[list[str]]:
        (folder / "built").rename(folder / NAME)
        (folder / NAME / "merged_balanced" / NAME).write_bytes(b"x")
        (folder / NAME / NAME).write_bytes(b"x")
        return [
            ["verify", "--built", NAME],
            ["verify", "--built", NAME, "--format", "json"],
            ["stats", NAME],
            ["stats", NAME, "--format", "json"],
            ["card", NAME],
            ["croissant", NAME],
            ["push", "me/x", NAME, "--dry-run", "--with-images", "--i-have-the-rights"],
            ["push", NAME, NAME, "--dry-run"],
        ]

    def missing(folder: Path) -> list[list[str]]:
        return [
            ["verify", "--data-dir", NAME],
            ["info", "--visual-news", NAME],
            ["index", NAME],
            ["stats", NAME],
            ["verify", "--built", NAME],
            ["convert-embeddings", NAME, "x.npy"],
            ["preview", "--config", NAME],
            [NAME],
        ]

    def pictures(folder: Path, data: bytes) -> list[list[str]]:
        for path in world.pictures:
            (folder / "data" / world.origin.relative_to(root) / path).unlink()
            (folder / "data" / world.origin.relative_to(root) / path).write_bytes(data)
        where = ["--data-dir", "data"]
        return [
            ["verify", *where, "--images"],
            ["verify", *where, "--images=decode", "--format", "json"],
            ["preview", *where, "-o", "p.png"],
            ["preview", *where, "--html", "p.html"],
            ["build", "b", *where, "--split", "test", "--check-images"],
        ]

    def articles(folder: Path) -> list[list[str]]:
        for file in (folder / "data" / world.origin.relative_to(root)).glob("*/articles/*"):
            file.unlink()
            file.write_bytes(HOSTILE.encode() + b"\xff")
        return [["build", "b", "--data-dir", "data", "--split", "test", "--articles"]]

    def vectors(folder: Path, value: Any) -> list[list[str]]:
        (folder / "x.pkl").write_bytes(pickle.dumps(value, 3))
        return [["convert-embeddings", "x.pkl", "x.npy"], ["convert-embeddings", "x.pkl", f"{NAME}.npy"]]

    yield "files: the data's folder", folders
    yield "files: a built folder", of_built
    yield "files: what is not there", missing
    comment, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    comment.add_text("Comment", HOSTILE)
    Image.new("RGB", (8, 8)).save(stream, "PNG", pnginfo=comment)
    for data in (stream.getvalue(), HOSTILE.encode(), b"\x89PNG\r\n\x1a\n" + HOSTILE.encode() * 9, b"RIFF" + bytes(9)):
        yield f"pictures: {data[:9]!r}", lambda folder, d=data: pictures(folder, d)  # type: ignore[misc]
    yield "articles", articles
    for value in ({HOSTILE: 1}, {1: HOSTILE}, HOSTILE, [HOSTILE], {1: {HOSTILE: HOSTILE}}):
        yield f"pickle: {value!r:.20}", lambda folder, v=value: vectors(folder, v)  # type: ignore[misc]


def prepare(root: Path) -> tuple[World, list[Case]]:
    """A world and a folder that was built of it, below a folder, and all cases."""
    world = make_world(root / "data", pairs={"train": 2, "validation": 2, "test": 3})
    done = CliRunner().invoke(main, ["build", str(root / "built"), "--data-dir", str(world.root)])
    if done.exit_code:
        raise RuntimeError(done.output)
    built = root / "built"
    cases = [*of_files(world.root, world, built), *of_tars(world), *of_inputs(world.root, world), *of_manifests(built)]
    return world, cases


def attempt(root: Path, case: Case, place: Path) -> tuple[int, list[str]]:
    """Run the commands of a case in a folder; how many, and what is wrong with what they print and write."""
    shutil.copytree(root / "data", place / "data", copy_function=os.link)
    shutil.copytree(root / "built", place / "built", copy_function=shutil.copy)
    name, make = case
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    old = Path.cwd()
    os.chdir(place)
    logging.getLogger().addHandler(handler)
    wrong, count = [], 0
    try:
        before = {file for file in place.rglob("*") if file.is_file()}
        for command in make(place):
            log.seek(0)
            log.truncate()
            done = CliRunner().invoke(main, command)
            count += 1
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                wrong.append(f"{name}: {command}: {type(done.exception).__name__}: {done.exception!r:.200}")
            for what, text in (("output", done.output), ("log", log.getvalue())):
                if found := problems(text):
                    wrong.append(f"{name}: {command}: {found} in {what}: {text[:300]!r}")
        written = {file for file in place.rglob("*") if file.is_file()} - before
        for file in [*written, *(place / "built").rglob("*.md"), *(place / "built").rglob("croissant.json")]:
            if file.suffix in (".html", ".md", ".json", ".svg") and "data" not in file.relative_to(place).parts[:1]:
                text = file.read_text(encoding="utf-8")
                if file.suffix == ".html":
                    text = text.replace("\t", " ")
                raw = [c for c in text if c != "\n" and not c.isprintable() and c not in "\xa0\u200b"]
                if raw and not file.name.startswith("manifest"):
                    wrong.append(f"{name}: raw {raw[:9]!r} in {file.name!r}")
    finally:
        logging.getLogger().removeHandler(handler)
        os.chdir(old)
    return count, wrong


def sweep(only: str = "") -> int:
    """Every case; how many went wrong."""
    tried = commands = 0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        _, cases = prepare(root)
        for number, case in enumerate(cases):
            if only not in case[0]:
                continue
            place = Path(folder, str(number))
            place.mkdir()
            count, found = attempt(root, case, place)
            shutil.rmtree(place)
            tried, commands = tried + 1, commands + count
            for problem in found:
                click.echo(ascii(problem))
            wrong += found
    click.echo(f"{tried} places of a hostile text, {commands} commands: {len(wrong)} wrong")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(1 if sweep(*sys.argv[1:]) else 0)
