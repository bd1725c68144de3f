"""Built folders that somebody made to do harm, by a plan, and the commands that read folders, in 2 GB of address space.

    python -m tests.sweeps.foreign_folders [SEED [COUNT]]

tries every change with every command, or so many of them, and prints how many there were and what went wrong.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CONFIG = "merged_balanced"
SHARD = "test-00000-of-00001.parquet"
SECRET = "of-this-machine-only"
HARM = "x\n\x1b[31m\u202e](javascript:1)\u2028| --- \r\ud800"

# Each runs in a child; of `push` all but the requests.
COMMANDS = {
    "verify": ["verify", "--built", "{folder}"],
    "verify json": ["verify", "--built", "{folder}", "--format", "json"],
    "stats": ["stats", "{folder}"],
    "preview": ["preview", "--built", "{folder}", "--split=test", "--pairs=2", "--html", "{folder}.html"],
    "preview sample": ["preview", "--built", "{folder}", "--split=test", "--seed=1", "-o", "{folder}.png"],
    "card": ["card", "{folder}"],
    "check": ["card", "{folder}", "--check"],
    "croissant": ["croissant", "{folder}", "-o", "{folder}.croissant.json"],
    "plan": ["push", "me/it", "{folder}", "--dry-run", "--with-images", "--i-have-the-rights"],
    "push": ["push", "me/it", "{folder}", "--with-images", "--i-have-the-rights"],
}
CHILD = """
import json, os, resource, sys, traceback
import click, datasets, huggingface_hub.hf_api, newsclippings
import _newsclippings.check, _newsclippings.folder, _newsclippings.show, _newsclippings.stats
from _newsclippings.cli import commands as cli
from _newsclippings.hub import upload as push
def sent(api, upload, shards, additions, heads, **_):
    heads.append("0")
    print("SENT " + json.dumps([one.path_in_repo for one in additions]))
    return {"url": "", "commit": "0", "branch": "main", "tag": None, "tag_moved": False}
push._push = sent
os.environ["HF_TOKEN"] = "hf_test_of_nobody"
huggingface_hub.constants.HF_HUB_OFFLINE = False
for line in sys.stdin:
    args, out = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(os.open(out, os.O_RDWR | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
        code = 3
        try:
            cli.main(args)
        except SystemExit as done:
            code = done.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    sys.stdout.write(str(os.waitpid(child, 0)[1]) + "\\n")
    sys.stdout.flush()
"""

Change = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """One change to a sound folder.

    Attributes:
        name: what is changed.
        change: changes a folder.
        refused: commands that must refuse it; others may.
    """

    name: str
    change: Change
    refused: tuple[str, ...] = ()


SHOWN = ("preview", "preview sample")
ALL = ("verify", "verify json", "stats", *SHOWN, "check", "croissant", "plan", "push", "card")  # the last writes
READERS = ("verify", "verify json", "stats", "push")


class Commands:
    """A process that has imported what is needed, and runs each command in a fork of it."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "output"
        command = [sys.executable, "-c", CHILD]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder)

    def run(self, name: str, folder: Path) -> tuple[int, str]:
        """The wait status of a command, and what it wrote."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        args = [part.replace("{folder}", str(folder)) for part in COMMANDS[name]]
        self.process.stdin.write(json.dumps([args, str(self.out)]) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return status, self.out.read_bytes().decode(errors="replace")

    def stop(self) -> None:
        self.process.communicate()


def faults(case: Case, folder: Path, commands: Commands, names: tuple[str, ...] = ALL) -> Iterator[str]:
    """What is wrong with how commands take a folder that was changed; nothing, if all is as promised."""
    for name in names:
        began = time.monotonic()
        status, out = commands.run(name, folder)
        took, place = time.monotonic() - began, f"{name}: {case.name}"
        if os.WIFSIGNALED(status):
            yield f"{place}: signal {os.WTERMSIG(status)}"
        elif os.WEXITSTATUS(status) not in (0, 1):
            yield f"{place}: exit code {os.WEXITSTATUS(status)}: {out[-300:]}"
        elif name in case.refused and os.WEXITSTATUS(status) != 1:
            yield f"{place}: was not refused"
        if "Traceback" in out:
            yield f"{place}: a traceback: {out[-400:]}"
        if SECRET in out:
            yield f"{place}: tells what is outside of the folder"
        if odd := [c for c in out if c not in "\n\t" and not c.isprintable()]:
            yield f"{place}: {odd[0]!r} for a terminal"
        if took > 20:
            yield f"{place}: {took:.0f} s"
        for line in (line for line in out.splitlines() if line.startswith("SENT ")):
            for sent in json.loads(line[5:]):
                if not sent.isascii() or ".." in sent or sent.startswith("/") or (folder / sent).is_symlink():
                    yield f"{place}: would send {sent!r}"
        for text in (folder / "README.md", Path(f"{folder}.croissant.json")):
            if text.is_file() and not text.is_symlink() and name in ("card", "croissant"):
                written = text.read_bytes()[: 1 << 20].decode(errors="replace")
                if SECRET in written or any(c not in "\n" and not c.isprintable() for c in written):
                    yield f"{place}: writes it to {text.name}"


# Manifests


def manifest_of(folder: Path, config: str = CONFIG) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / config / "manifest.json").read_text())
    return found


def write_manifest(folder: Path, manifest: Any, config: str = CONFIG) -> None:
    (folder / config / "manifest.json").write_text(json.dumps(manifest))


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields in a manifest, of files and columns the first two."""
    if path:
        yield path
    if isinstance(value, dict):
        some = list(value)[:2] if path and path[0] in ("features", "files") and len(path) == 1 else list(value)
        for name in some:
            yield from paths(value[name], (*path, name))
    elif isinstance(value, list):
        for place in range(min(1, len(value))):
            yield from paths(value[place], (*path, place))


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


ABSENT = object()
VALUES: dict[str, Any] = {
    "absent": ABSENT, "null": None, "true": True, "-1": -1, "2**40": 2**40, "2**63": 2**63, "1.5": 1.5,
    "nan": float("nan"), "inf": float("inf"), "empty": "", "harm": HARM, "long": "a" * 100_000, "list": [],
    "object": {}, "nested": nested(400), "path": "../../secret.parquet", "absolute": "/etc/passwd",
}  # fmt: skip


def set_field(folder: Path, path: tuple[Any, ...], value: Any) -> None:
    manifest = manifest_of(folder)
    inside: Any = manifest
    for name in path[:-1]:
        inside = inside[name]
    if value is ABSENT:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    write_manifest(folder, manifest)


def rename_field(folder: Path, path: tuple[Any, ...], name: str) -> None:
    manifest = manifest_of(folder)
    inside: Any = manifest
    for one in path[:-1]:
        inside = inside[one]
    inside[name] = inside.pop(path[-1])
    write_manifest(folder, manifest)


def manifest_cases(sound: Path) -> Iterator[Case]:
    manifest = manifest_of(sound)
    for path, (name, value) in itertools.product(paths(manifest), VALUES.items()):
        place = ".".join(map(str, path))
        yield Case(f"{place} = {name}", lambda folder, path=path, value=value: set_field(folder, path, value))  # type: ignore[misc]
    for path in paths(manifest):
        if isinstance(path[-1], str):
            for name in (HARM, "../../secret", "a/b", ""):
                yield Case(
                    f"{'.'.join(map(str, path))} as {name!a}",
                    lambda folder, path=path, name=name: rename_field(folder, path, name),  # type: ignore[misc]
                )
    for path in (("splits", "test", "rows"), ("files",), ("features",), ("made_of",), ("version",), ("splits",)):
        yield Case(
            f"no {path[-1]}", lambda folder, path=path: set_field(folder, path, ABSENT), ALL  # type: ignore[misc]
        )  # fmt: skip
    text = json.dumps(manifest)
    raw = {
        "empty": b"", "cut": text[:500].encode(), "deep": b"[" * 100_000, "deep objects": b'{"a":' * 100_000,
        "twice": (text[:-1] + ', "files": {}}').encode(), "nan": text.replace('"rows": 12', '"rows": NaN').encode(),
        "binary": bytes(range(256)) * 9, "html": b"<!DOCTYPE html>", "utf-16": text.encode("utf-16"),
        "large": text.encode() + b" " * (9 << 20),
        "digits": text.replace('"rows": 12', '"rows": ' + "9" * 9999).encode(),
        "list": b"[1]", "null": b"null", "surrogate": text.replace("All four", "\\ud800").encode(),
    }  # fmt: skip
    for name, data in raw.items():
        yield Case(
            f"manifest: {name}",
            lambda folder, data=data: (folder / CONFIG / "manifest.json").write_bytes(data),  # type: ignore[misc]
            ALL,
        )


# Shards


def fit(folder: Path, rows: int | None = None) -> None:
    """Make the manifest say of the shard what it is, as somebody would who means harm."""
    manifest, file = manifest_of(folder), folder / CONFIG / SHARD
    about = manifest["files"][SHARD]
    about["bytes"], about["sha256"] = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
    if rows is not None:
        about["rows"] = rows
        split = manifest["splits"]["test"]
        split.update(rows=rows, pristine=rows, falsified=0)
    write_manifest(folder, manifest)


def rewrite(change: Callable[[pa.Table], pa.Table], **options: Any) -> Change:
    """Another table in place of a shard, with a manifest that fits."""

    def act(folder: Path) -> None:
        file = folder / CONFIG / SHARD
        table = change(pq.read_table(file))
        pq.write_table(table, file, **{"compression": "zstd", **options})
        fit(folder, len(table))

    return act


def column(name: str, values: Callable[[pa.Table], Any]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, values(table))

    return change


def repeated(rows: int) -> Callable[[pa.Table], pa.Table]:
    """So many rows, all alike: kilobytes."""

    def change(table: pa.Table) -> pa.Table:
        columns = []
        for name in table.schema.names:
            one = table[name].slice(0, 1).combine_chunks()
            kind = table.schema.field(name).type
            columns.append(pa.nulls(rows, kind) if name == "image" else one.take(pa.array(np.zeros(rows, np.int32))))
        return pa.table(columns, schema=table.schema)

    return change


def long_texts(name: str) -> Callable[[pa.Table], pa.Table]:
    """Every row has the same megabyte of text, stored once."""

    def change(table: pa.Table) -> pa.Table:
        table = repeated(20_000)(table)
        texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(20_000, np.int32)), pa.array(["x" * (1 << 20)]))
        return table.set_column(table.schema.get_field_index(name), name, texts)

    return change


def huge_text(table: pa.Table) -> pa.Table:
    """One text of 300 million times the same letter."""
    texts = pa.array(["x" * 300_000_000] + ["x"] * (len(table) - 1))
    return table.set_column(table.schema.get_field_index("caption"), "caption", texts)


def patched(change: Callable[[bytearray], Any]) -> Change:
    def act(folder: Path) -> None:
        file = folder / CONFIG / SHARD
        data = bytearray(file.read_bytes())
        change(data)
        file.write_bytes(data)
        fit(folder)

    return act


def flipped(seed: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        chance = random.Random(seed)
        end = len(data) - 8
        start = 4 if seed % 2 else end - int.from_bytes(data[-8:-4], "little")  # anywhere, or in the footer
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(start, end)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))

    return change


def bomb(table: pa.Table) -> Any:
    """A picture that says it is 60,000 pixels wide and high."""
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x06\0\0\0" + b"\0" * 40
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\0\xff\xff\0" + b"\0" * 40
    return pa.array([{"bytes": png if k % 2 else webp, "path": "/etc/passwd"} for k in range(len(table))])


SHARDS: dict[str, Change] = {
    "rows alike": rewrite(repeated(2_000_000), row_group_size=2_000_000),
    "rows of no bytes": rewrite(lambda table: repeated(1 << 20)(table), row_group_size=100_000),
    "long captions": rewrite(long_texts("caption"), use_dictionary=["caption"]),
    "long topics": rewrite(long_texts("topic"), use_dictionary=["topic"]),
    "a huge caption": rewrite(huge_text, use_dictionary=False),
    "no column": rewrite(lambda table: table.drop_columns(["image_id"])),
    "another column": rewrite(lambda table: table.append_column("x", pa.array([1] * len(table)))),
    "twice a column": rewrite(lambda table: table.append_column("id", table["id"])),
    "ids as text": rewrite(column("id", lambda table: table["id"].cast(pa.string()))),
    "ids of floats": rewrite(column("id", lambda table: table["id"].cast(pa.float64()))),
    "ids of 32 bits": rewrite(column("id", lambda table: pa.array(range(len(table)), pa.int32()))),
    "ids as lists": rewrite(column("id", lambda table: pa.array([[1]] * len(table)))),
    "ids as structs": rewrite(column("id", lambda table: pa.array([{"a": 1}] * len(table)))),
    "ids of null": rewrite(column("id", lambda table: pa.array([None] * len(table), pa.int64()))),
    "labels of null": rewrite(column("falsified", lambda table: pa.array([None] * len(table), pa.int64()))),
    "labels of 7": rewrite(column("falsified", lambda table: pa.array([7] * len(table), pa.int64()))),
    "labels of -1": rewrite(column("falsified", lambda table: pa.array([-1] * len(table), pa.int64()))),
    "labels of 2**62": rewrite(column("falsified", lambda table: pa.array([2**62] * len(table), pa.int64()))),
    "sources of 9": rewrite(column("source_dataset", lambda table: pa.array([9] * len(table), pa.int64()))),
    "scores of nan": rewrite(column("similarity_score", lambda table: pa.array([float("nan")] * len(table)))),
    "scores of inf": rewrite(column("similarity_score", lambda table: pa.array([float("inf")] * len(table)))),
    "scores of 1e300": rewrite(column("similarity_score", lambda table: pa.array([1e300, -1e308] * (len(table) // 2)))),
    "texts of harm": rewrite(column("topic", lambda table: pa.array([HARM[:-1]] * len(table)))),
    "texts of bytes": rewrite(column("caption", lambda table: pa.array([b"\xff"] * len(table)))),
    "bytes that are no text": rewrite(
        lambda table: table.set_column(
            3, "caption", pa.array([b"\xff\xfe"] * len(table)).view(pa.string())
        )
    ),
    "pictures of bombs": rewrite(column("image", bomb)),
    "pictures of texts": rewrite(column("image", lambda table: table["caption"])),
    "no rows": rewrite(lambda table: table.slice(0, 0)),
    "a footer of 4 GB": patched(lambda data: data.__setitem__(slice(-8, -4), b"\xff\xff\xff\xff")),
    "a footer of 2 GB": patched(lambda data: data.__setitem__(slice(-8, -4), b"\xff\xff\xff\x7f")),
    "a footer of nothing": patched(lambda data: data.__setitem__(slice(-8, -4), b"\0\0\0\0")),
    "a footer in cipher": patched(lambda data: data.__setitem__(slice(-4, None), b"PARE")),
    "a footer of lists": patched(lambda data: data.__setitem__(slice(None), lists(7 << 20))),
    "a footer of long lists": patched(lambda data: data.__setitem__(slice(None), lists(50 << 20))),
    "other data": patched(lambda data: data.__setitem__(slice(None), b"no Parquet at all" * 9)),
    "three bytes": patched(lambda data: data.__setitem__(slice(None), b"PAR")),
}  # fmt: skip


NO_FAULTS = ("texts of harm", "texts of bytes", "pictures of bombs", "scores of nan", "scores of inf", "labels of 7",
             "labels of -1", "labels of 2**62", "labels of null", "sources of 9", "scores of 1e300", "no rows",
             "bytes that are no text", "long captions", "pictures of texts")  # fmt: skip # to who reads ids only


def lists(size: int) -> bytes:
    """A file whose footer is a list of very many row groups, each a few bytes."""
    groups = b"\x19\x1c\x16\0\0\x16\0\x16\0\0" * (size // 10)  # of one column, in Thrift's compact protocol
    count, size_of_list = len(groups) // 10, b""
    while count >= 128:
        size_of_list += bytes([count & 127 | 128])
        count >>= 7
    footer = b"\x15\x02\x19\x1c\x48\x01x\x15\0\0\x16\x02\x19\xfc" + size_of_list + bytes([count]) + groups + b"\0"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def shard_cases(flips: int) -> Iterator[Case]:
    for name, change in SHARDS.items():
        yield Case(f"shard: {name}", change, () if name in NO_FAULTS else ("verify", "verify json"))
    for seed in range(flips):
        yield Case(f"shard: bytes {seed}", patched(flipped(seed)))


# Names, links, and files beside


def linked(name: str, to: str) -> Change:
    def act(folder: Path) -> None:
        file = folder / name
        moved = folder.parent / f"{folder.name}-moved"
        shutil.rmtree(moved, ignore_errors=True)
        moved.unlink(missing_ok=True)
        if file.exists():
            file.rename(moved)
        file.parent.mkdir(exist_ok=True)
        file.symlink_to(moved if to == "moved" else to)

    return act


def replaced(name: str, data: bytes | None, size: int | None = None) -> Change:
    """A file with other bytes; with none, a pipe; of a size, of which it has no blocks."""

    def act(folder: Path) -> None:
        file = folder / name
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        if data is None:
            os.mkfifo(file)
        else:
            file.write_bytes(data)
        if size is not None:
            os.truncate(file, size)

    return act


ALIASES = (
    "---\n"
    + "a0: &a0 x\n"
    + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 12))
    + "---\n"
)
BESIDE: dict[str, bytes] = {
    "aliases": f"---\na0: &a0 x\n{ALIASES}---\n".encode(),
    "no yaml": b"---\na: [b\n---\n",
    "tags": b"---\na: !!python/object/apply:os.system ['true']\n---\n",
    "binary": bytes(range(256)) * 100,
    "harm": f'load_dataset("{HARM[:-1]}\\q", '.encode(),
    "a name": b'load_dataset("\\ud800\\u202e\\u001b[31m", ',
    "a name that is no text": b'load_dataset("\\q", ',
    "a long name": b'load_dataset("' + b"a" * (2 << 20) + b'", ',
    "quotes": b'load_dataset("' * 100_000,
}
FILES = ("README.md", "dataset_infos.json", "SHA256SUMS", "pairs.png", "croissant.json", "charts/stats.json")


def beside_cases() -> Iterator[Case]:
    secret = str(Path(tempfile.gettempdir(), "secret"))
    for name in FILES:
        yield Case(f"{name} is a pipe", replaced(name, None))
        yield Case(f"{name} of a terabyte", replaced(name, b"x", 1 << 40))
        yield Case(f"{name} is a link", linked(name, secret), ("push", "plan") if name != "charts/stats.json" else ())
        yield Case(f"{name} of bytes", replaced(name, bytes(range(256)) * 9))
    for name, data in BESIDE.items():
        yield Case(f"README.md: {name}", replaced("README.md", data), ("verify", "push", "plan"))
    digest = "0" * 64
    for name in (
        "../secret.png",
        "/etc/passwd.png",
        "../../x/manifest.json",
        HARM[:-1] + ".png",
        "x" * 70_000 + ".png",
    ):
        yield Case(f"sums of {name[:20]!a}", replaced("SHA256SUMS", f"{digest}  {name}\n".encode()), ("verify",))
    yield Case("sums of harm", replaced("SHA256SUMS", (HARM[:-1] * 9)[:64].encode() + b"  pairs.png\n"), ("verify",))
    yield Case("sums of many lines", replaced("SHA256SUMS", (digest + "  x\n").encode() * 100_000), ("verify",))
    for name in (f"{CONFIG}/{SHARD}", f"{CONFIG}/manifest.json", CONFIG):
        yield Case(f"{name} is a link out of the folder", linked(name, "moved"), ("push", "plan"))
    for name in (f"{CONFIG}/{SHARD}", f"{CONFIG}/manifest.json"):
        yield Case(f"{name} is a device", linked(name, "/dev/zero"), ALL if "manifest" in name else READERS)
        yield Case(f"{name} is a pipe", replaced(name, None), ALL if "manifest" in name else READERS)
        yield Case(f"{name} of a terabyte", replaced(name, b"x", 1 << 40), READERS)
        yield Case(f"{name} is a link around", linked(name, "manifest.json"), READERS)
    for name in (
        "a\nSound. b",
        "\x1b[31m",
        "\u202ex.parquet",
        "a\nx.tmp",
        f"{CONFIG}/\x1b.tmp",
        f"{CONFIG}/a\nb.parquet",
    ):
        yield Case(f"a file {name!a}", replaced(name, b"x"))
    for name in (f"charts/{CONFIG}-](x) .png", f"charts/{CONFIG}-\x1b.png", f"charts/{CONFIG}-a\nb.png"):
        yield Case(f"a chart {name!a}", lambda folder, name=name: drawn(folder, name))  # type: ignore[misc]
    numbers = {
        "deep": b"[" * 100_000,
        "list": b"[]",
        "nan": b'{"manifests": NaN}',
        "of others": b'{"manifests": {"../x": ""}}',
    }
    for name, data in numbers.items():
        yield Case(f"numbers: {name}", replaced("charts/stats.json", data))


def drawn(folder: Path, name: str) -> None:
    digest = hashlib.sha256((folder / CONFIG / "manifest.json").read_bytes()).hexdigest()
    (folder / "charts").mkdir()
    (folder / "charts" / "stats.json").write_text(json.dumps({"manifests": {CONFIG: digest}}))
    (folder / name).write_bytes(b"\x89PNG" + SECRET.encode())


def cases(sound: Path, flips: int) -> list[Case]:
    """All changes to a folder with one config."""
    return [*manifest_cases(sound), *shard_cases(flips), *beside_cases()]


def try_case(case: Case, sound: Path, work: Path, commands: Commands, names: tuple[str, ...] = ALL) -> list[str]:
    """What is wrong with how commands take a copy of a sound folder after a change."""
    folder = work / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    try:
        case.change(folder)
    except (KeyError, TypeError):  # no such field any more
        return []
    return list(faults(case, folder, commands, names))


def main(seed: int, count: int | None = None) -> None:
    from support.world import make_world

    from _newsclippings.folder.build import build_folder

    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        (work / "secret").write_text(SECRET)
        world = make_world(work / "data", tar=False)
        build_folder(work / "sound", [CONFIG], data_dir=str(world.root))
        commands = Commands(work)
        todo = cases(work / "sound", 400)
        random.Random(seed).shuffle(todo)
        wrong = []
        for number, case in enumerate(todo):
            wrong += try_case(case, work / "sound", work, commands)
            if number % 50 == 0:
                sys.stderr.write(f"{number} of {len(todo)}: {len(wrong)} wrong\n")
        commands.stop()
    told = f"{len(todo):,} folders x {len(COMMANDS)} commands: {len(wrong)} wrong"
    sys.stdout.write("\n".join([told, *wrong[:100], ""]))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main(*map(int, sys.argv[1:3] or ["0"]))
