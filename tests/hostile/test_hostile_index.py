# ruff: noqa: E501 # one bomb a line
"""Hostile Parquet files as the index of a tar: each is refused with one error, in 2 GB of address space."""

from __future__ import annotations

import base64
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hostile_parquet import (
    DELTA_BINARY,
    DELTA_BYTES,
    GZIP,
    I32,
    IDENTITY,
    INT64,
    KINDS,
    NONE,
    PLAIN,
    RLE,
    RLE_DICTIONARY,
    Column,
    Many,
    encode,
    page,
    plain,
    repeated,
    runs,
    same_prefixes,
    strings,
    varint,
    write,
    zigzag,
)
from support.reading import environment

from _newsclippings.tar.index_file import read_index, write_index
from newsclippings import BadFileError

READ = """
import os, resource, signal, sys
from pathlib import Path
import newsclippings
from _newsclippings.tar.index_file import read_index
import pyarrow.parquet  # as a build has it by then
answers = {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(60)
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            table = read_index(str(file), file.name)
            said = f"{len(table)} members"
            if sys.argv[2:] and not table.equals(read_index(sys.argv[2], "")):
                said += ", others"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(theirs, said.encode()[:2000])
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    answers[file.name] = said if code == 0 else f"exit code {code}"
say(answers)
"""
PRELUDE = "import json\ndef say(value): print('#' + json.dumps(value))\n"
NAMES = [b"bbc/images/0000/%03d.jpg" % k for k in range(10)]
MANY = (1 << 31) - 1

DAMAGED = ("expected ", "its footer is damaged", "it is not a Parquet file", "it has a footer of ")


def answers(folder: Path, home: Path, *right: str) -> dict[str, str]:
    """Read each file of a folder in a process with 2 GB of address space, and return its answers."""
    command = [sys.executable, "-c", PRELUDE + READ, str(folder), *right]
    env = environment(home, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1][1:])
    return found


def one(name: str, column: Column, rows: int = 10, **said: Any) -> bytes:
    """An index with one column replaced."""
    return write({**plain(NAMES), name: column}, rows, **said)


def of_page(data: bytes, encoding: int = PLAIN, **said: int) -> Column:
    about: dict[str, Any] = said
    return Column(page(data, 10, encoding, **about), 10, [encoding, RLE])


def all_repeated(rows: int, name: bytes = b"bbc/x.jpg", padding: int = 0, **column: Any) -> bytes:
    """An index whose columns are dictionaries of one value, padded, because its size is checked."""
    columns = {"name": repeated(name, rows, **column), **{key: repeated(1024, rows) for key in list(KINDS)[1:]}}
    columns["size"].pages += bytes(padding)
    return write(columns, rows)


def undeclared(column: Column) -> Column:
    """A column with a dictionary that it does not declare."""
    column.said |= {2: [I32(PLAIN)], 11: None}
    return column


def nested(depth: int) -> bytes:
    """Groups nested in groups, with a name inside."""
    groups = [{4: "schema" if k == 0 else "name", 5: I32(1), 3: I32(0)} for k in range(depth)]
    leaf = {1: I32(KINDS["name"]), 3: I32(0), 4: "name"}
    column = plain(NAMES)["name"]
    column.said[3] = ["name"] * depth
    return write({"name": column}, 10, schema=[*groups, leaf])


def footer_of(data: bytes) -> bytes:
    return b"PAR1" + data + struct.pack("<I", len(data)) + b"PAR1"


def arrow_schema(schema: pa.Schema | bytes) -> bytes:
    """A valid file whose metadata claim another Arrow schema."""
    data = schema if isinstance(schema, bytes) else schema.serialize().to_pybytes()
    return write(plain(NAMES), 10, about={**IDENTITY, "ARROW:schema": base64.b64encode(data).decode()})


def deep(depth: int) -> pa.DataType:
    kind = pa.int8()
    for _ in range(depth):
        kind = pa.list_(kind)
    return kind


def by_pyarrow(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(IDENTITY), sink, **options)
    return bytes(sink.getvalue())


def v2(data: bytes, **said: Any) -> Column:
    """A data page of version 2."""
    about = {1: I32(10), 2: I32(0), 3: I32(10), 4: I32(PLAIN), 5: I32(0), 6: I32(0)}
    about |= {
        {"values": 1, "nulls": 2, "rows": 3, "definitions": 5, "repetitions": 6}[k]: I32(v) for k, v in said.items()
    }
    head = encode({1: I32(3), 2: I32(len(data)), 3: I32(len(data)), 8: about})[1]
    return Column(head + data, 10, [PLAIN, RLE])


LONG = b"bbc/" + b"x" * (1 << 20)
BOMBS: dict[str, Callable[[], bytes]] = {
    "2**31 rows": lambda: all_repeated(1 << 31),
    "2**40 rows": lambda: write(plain(NAMES), 1 << 40),
    "2**31 rows of pyarrow": lambda: by_pyarrow(
        pa.table([pa.array([name]).take(pa.array(np.zeros(1 << 20, np.int8))) for name in ("bbc/x.jpg", 1024, 1, 1)], list(KINDS))
    ),
    "negative rows": lambda: write(plain(NAMES), -1),
    "fewer rows than said": lambda: write(plain(NAMES), 12),
    "more rows than said": lambda: write(plain(NAMES), 7, group_rows=10),
    "rows of the groups": lambda: write(plain(NAMES), 10, group_rows=1 << 40),
    "rows of the pages": lambda: one("offset", repeated(1024, 1 << 33), 10),
    "a million long names": lambda: all_repeated(1_000_000, LONG, 3_000_000),
    "long names, not declared": lambda: write(
        {"name": undeclared(repeated(LONG, 300_000)), **{k: repeated(1024, 300_000) for k in list(KINDS)[1:]}}, 300_000),
    "long names in few rows": lambda: one("name", undeclared(repeated(LONG * 60, 10))),
    "a packed name": lambda: packed_name(),
    "a packed name that says less": lambda: packed_name(unpacked=100),
    "packed numbers": lambda: one("offset", Column(page(b"", 10, codec=GZIP, zeros=900), 10, [PLAIN], GZIP)),
    "prefixes": lambda: prefixes(LONG * 4, 129),
    "many prefixes": lambda: prefixes(LONG, 256_001),
    "a string without end": lambda: one("name", of_page(struct.pack("<I", 0xFFFFFFFF))),
    "a string of 2 GB": lambda: one("name", of_page(struct.pack("<I", MANY) + b"bbc")),
    "a page of 2 GB": lambda: one("name", of_page(strings(NAMES), unpacked=MANY)),
    "a page of 2 GB, packed": lambda: one("name", Column(page(strings(NAMES), 10, codec=GZIP, unpacked=MANY), 10, [0], 2)),
    "a page that goes on": lambda: one("name", of_page(strings(NAMES), packed=MANY)),
    "a page of less than nothing": lambda: one("name", of_page(strings(NAMES), packed=-1, unpacked=-1)),
    "a page of 2**31 values": lambda: one("name", of_page(strings(NAMES), count=MANY)),
    "a page of less than no values": lambda: one("name", of_page(strings(NAMES), count=-1)),
    "a dictionary of 2**31 values": lambda: one(
        "name", Column(page(strings(NAMES), 10, dictionary=True, count=MANY) + page(runs(0, 10), 10, RLE_DICTIONARY), 10, [8])
    ),
    "indices outside": lambda: one(
        "name", Column(page(strings(NAMES), 10, dictionary=True) + page(runs(200, 10), 10, RLE_DICTIONARY), 10, [0, 8])
    ),
    "indices outside, of numbers": lambda: one(
        "size", Column(page(bytes(8), 1, dictionary=True) + page(runs(200, 10), 10, RLE_DICTIONARY), 10, [0, 8])
    ),
    "wide indices": lambda: one(
        "size", Column(page(bytes(8), 1, dictionary=True) + page(b"\xff" * 40, 10, RLE_DICTIONARY), 10, [0, 8])
    ),
    "indices without a dictionary": lambda: one("name", Column(page(runs(0, 10), 10, RLE_DICTIONARY), 10, [0, 8])),
    "blocks of 2**31": lambda: one("size", of_page(varint(1 << 31) + varint(4) + varint(10) + zigzag(0), DELTA_BINARY)),
    "blocks of blocks": lambda: one("size", of_page(varint(128) + varint(MANY) + varint(MANY) + zigzag(0), DELTA_BINARY)),
    "no blocks": lambda: one("size", of_page(varint(0) + varint(0) + varint(10) + zigzag(0), DELTA_BINARY)),
    "wide deltas": lambda: one("size", of_page(varint(128) + varint(4) + varint(10) + b"\0\0" + b"\xff" * 40, DELTA_BINARY)),
    "lengths below zero": lambda: one("name", of_page(packed_negative(), DELTA_BYTES)),
    "an encoding that is none": lambda: one("name", of_page(strings(NAMES), 77)),
    "a codec that is none": lambda: one("name", Column(page(strings(NAMES), 10), 10, [PLAIN], 99)),
    "a type that is none": lambda: write(plain(NAMES), 10, kinds={**KINDS, "name": 55}),
    "names that are numbers": lambda: write(plain(NAMES), 10, kinds={**KINDS, "name": INT64}),
    "numbers that are bytes": lambda: write(plain(NAMES), 10, kinds={**KINDS, "size": 6}),
    "numbers of 96 bits": lambda: write(plain(NAMES), 10, kinds={**KINDS, "size": 3}),
    "a column outside": lambda: one("name", Column(page(strings(NAMES), 10), 10, [PLAIN], NONE, {9: 1 << 40})),
    "a column before the file": lambda: one("name", Column(page(strings(NAMES), 10), 10, [PLAIN], NONE, {9: -5})),
    "a column of 2**60 bytes": lambda: one("name", Column(page(strings(NAMES), 10), 10, [PLAIN], NONE, {7: 1 << 60})),
    "a column of -1 bytes": lambda: one("name", Column(page(strings(NAMES), 10), 10, [PLAIN], NONE, {7: -1})),
    "2**60 bytes unpacked": lambda: one("name", Column(page(strings(NAMES), 10), 10, [PLAIN], NONE, {6: 1 << 60})),
    "the second version, nulls": lambda: one("name", v2(strings(NAMES), nulls=MANY)),
    "the second version, levels": lambda: one("name", v2(strings(NAMES), definitions=MANY, repetitions=MANY)),
    "the second version, below zero": lambda: one("name", v2(strings(NAMES), definitions=-8, repetitions=-8)),
    "the second version, values": lambda: one("name", v2(strings(NAMES), values=MANY, rows=MANY)),
    "a footer of 4 GB": lambda: write(plain(NAMES), 10, footer=0xFFFFFFFF),
    "a footer of 2 GB": lambda: write(plain(NAMES), 10, footer=MANY),
    "a footer of nothing": lambda: write(plain(NAMES), 10, footer=0),
    "a footer of zeros": lambda: footer_of(bytes(20 << 20)),
    "a footer of nonsense": lambda: footer_of(random.Random(0).randbytes(7 << 20)),
    "2**31 row groups": lambda: write(plain(NAMES), 10, groups=Many({1: Many({2: 0}, MANY), 2: 0, 3: 10}, MANY)),
    "a million row groups": lambda: write(plain(NAMES), 10, groups=Many({2: 0, 3: 10}, 1_000_000)),
    "empty row groups": lambda: write(plain(NAMES), 10, groups=Many({2: 0, 3: 10}, 900)),
    "row groups of 999 columns": lambda: write(plain(NAMES), 10, groups=Many({1: Many({2: 0}, 999), 2: 0, 3: 1}, 999)),
    "row groups of 999 columns, less of them": lambda: write(
        plain(NAMES), 10, groups=Many({1: Many({2: 0}, 999), 2: 0, 3: 1}, 85)),
    "2**31 columns": lambda: write(plain(NAMES), 10, schema=Many({4: "x"}, MANY)),
    "a column of 2**31 children": lambda: write(plain(NAMES), 10, schema=[{4: "schema", 5: I32(MANY)}, {4: "x"}]),
    "-1 children": lambda: write(plain(NAMES), 10, schema=[{4: "schema", 5: I32(-1)}, {4: "x"}]),
    "no schema": lambda: write(plain(NAMES), 10, schema=[{4: "schema", 5: I32(0)}]),
    "nested": lambda: nested(2),
    "nested 900 times": lambda: nested(900),
    "nested 60,000 times": lambda: nested(60_000),
    "no identity": lambda: write(plain(NAMES), 10, about={"x": "y"}),
    "a long identity": lambda: write(plain(NAMES), 10, about={**IDENTITY, "tar_size": "9" * (4 << 20)}),
    "900 words of metadata": lambda: write(plain(NAMES), 10, about={f"{k}": "x" * 1000 for k in range(900)}),
    "an Arrow schema of nonsense": lambda: arrow_schema(random.Random(1).randbytes(5000)),
    "an Arrow schema that is deep": lambda: arrow_schema(pa.schema([(name, deep(60)) for name in KINDS])),
    "an Arrow schema of bytes": lambda: arrow_schema(pa.schema([(name, pa.binary(1 << 30)) for name in KINDS])),
    "lists by pyarrow": lambda: by_pyarrow(pa.table({name: [[1]] for name in KINDS})),
    "structs by pyarrow": lambda: by_pyarrow(pa.table({name: [{"x": 1}] for name in KINDS})),
    "maps by pyarrow": lambda: by_pyarrow(pa.table({name: pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())) for name in KINDS})),
    "columns twice": lambda: by_pyarrow(pa.Table.from_arrays([pa.array(["bbc/x"]), *[pa.array([1024])] * 4], ["name", *list(KINDS)[1:], "size"])),
    "one column": lambda: by_pyarrow(pa.table({"name": ["bbc/x.jpg"]})),
    "no rows": lambda: by_pyarrow(pa.table({"name": pa.array([], pa.string()), **{k: pa.array([], pa.int64()) for k in list(KINDS)[1:]}})),
    "nulls": lambda: by_pyarrow(pa.table({name: pa.nulls(5, pa.string() if name == "name" else pa.int64()) for name in KINDS})),
    "dates": lambda: by_pyarrow(pa.table({"name": ["bbc/x.jpg"], **{k: pa.array([1], pa.timestamp("us")) for k in list(KINDS)[1:]}})),
    "encrypted": lambda: b"PAR1" + bytes(100) + struct.pack("<I", 50) + b"PARE",
}  # fmt: skip


def packed_name(**said: Any) -> bytes:
    """A name of 900 MB in a few kB."""
    first = page(struct.pack("<I", 900 << 20), 1, dictionary=True, codec=GZIP, zeros=900)
    pages = first + page(runs(0, 10), 10, RLE_DICTIONARY, codec=GZIP)
    return one("name", Column(pages, 10, [PLAIN, RLE_DICTIONARY], GZIP, **said))


def prefixes(name: bytes, rows: int) -> bytes:
    """A long name, stored each time as the prefix it shares with the one before."""
    column = Column(page(same_prefixes(name, rows), rows, DELTA_BYTES), rows, [DELTA_BYTES])
    return write({"name": column, **{key: repeated(1024, rows) for key in list(KINDS)[1:]}}, rows)


def packed_negative() -> bytes:
    """A column with lengths of -5."""
    return (varint(128) + varint(4) + varint(10) + zigzag(-5) + zigzag(0) + bytes(4)) * 2


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.sweep)])
def test_bombs(tmp_path: Path, step: int) -> None:
    """Huge rows, names, pages, footers and nesting give one error that names the file, never a signal."""
    (tmp_path / "bombs").mkdir()
    for name, make in list(BOMBS.items())[::step]:
        (tmp_path / "bombs" / name.replace("/", "-")).write_bytes(make())
    (tmp_path / "honest").write_bytes(write(plain(NAMES), 10))
    for name, said in answers(tmp_path / "bombs", tmp_path / "hf", str(tmp_path / "honest")).items():
        if said == "10 members":  # a lie that does not matter to this reader: all members are right
            continue
        assert said.startswith(tuple(f"BadFileError: {name}: {what}" for what in DAMAGED)), (name, said)
        assert len(said) < 1000, said


def spoilt(data: bytes, count: int, seed: int) -> dict[str, bytes]:
    """Copies of a file with a flipped bit, a range of zeros or random bytes, or truncated; many in the footer."""
    dice, files = random.Random(seed), dict[str, bytes]()
    footer = int.from_bytes(data[-8:-4], "little") + 8
    for k in range(count):
        at = len(data) - dice.randrange(footer) - 1 if dice.random() < 0.5 else dice.randrange(len(data))
        how = dice.choice(["flipped", "flipped", "flipped", "zeros", "anything", "cut"])
        changed, some = bytearray(data), dice.randrange(1, 40)
        if how == "flipped":
            changed[at] ^= 1 << dice.randrange(8)
        elif how == "cut":
            del changed[at:]
        else:
            changed[at : at + some] = bytes(some) if how == "zeros" else dice.randbytes(some)
        files[f"{k}-{how}-{at}"] = bytes(changed[: len(data)])
    return files


def index_of(count: int) -> pa.Table:
    """An index of some members."""
    names = [f"bbc/images/{k // 100:04d}/{k % 100:03d}.jpg" for k in range(count)]
    dice = np.random.default_rng(0)
    sizes = dice.integers(0, 60_000, count)
    offsets = np.cumsum(sizes // 512 * 512 + 1024)
    crcs = dice.integers(0, 1 << 32, count).astype(np.uint32)
    schema = pa.schema(
        [("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("header_crc", pa.uint32())]
    )
    return pa.table([pa.array(names), offsets, sizes, crcs], schema=schema.with_metadata(IDENTITY))


@pytest.mark.parametrize("count", [40, pytest.param(150, marks=pytest.mark.sweep)])
def test_a_damaged_index(tmp_path: Path, count: int) -> None:
    """A damaged index gives the members that were written, or one error; never a signal."""
    good = tmp_path / "good.parquet"
    write_index(index_of(300), good)
    assert read_index(str(good), "good").equals(index_of(300))
    assert read_index(str(good), "good").schema.metadata == index_of(300).schema.metadata
    (tmp_path / "spoilt").mkdir()
    for name, data in spoilt(good.read_bytes(), count, 0).items():
        (tmp_path / "spoilt" / name).write_bytes(data)
    said = answers(tmp_path / "spoilt", tmp_path / "hf", str(good))
    assert len(said) == count
    for name, text in said.items():
        damaged = tuple(f"BadFileError: {name}: {what}" for what in (*DAMAGED, "the index is damaged: "))
        assert text == "300 members" or text.startswith(damaged), (name, text)


def test_members_are_compared_with_what_was_written(tmp_path: Path) -> None:
    """A changed value in valid Parquet is detected if the index has a checksum, and nothing else is refused."""
    good, other = tmp_path / "good.parquet", tmp_path / "other.parquet"
    write_index(index_of(300), good)
    table = pq.read_table(good)
    pq.write_table(table, other, row_group_size=7)
    assert read_index(str(other), "other").equals(index_of(300))
    sizes = table["size"].to_pylist()
    pq.write_table(table.set_column(2, "size", pa.array([sizes[0] + 1, *sizes[1:]])), other)
    with pytest.raises(BadFileError, match="other: the index is damaged: its checksum is wrong"):
        read_index(str(other), "other")
    about = {**table.schema.metadata, b"tar_size": b"%d" % (1 << 41)}
    pq.write_table(table.replace_schema_metadata(about), other)
    with pytest.raises(BadFileError, match="the index is damaged"):
        read_index(str(other), "other")
    del about[b"members_xxh3"]  # an index of an earlier version
    pq.write_table(table.replace_schema_metadata(about), other)
    assert read_index(str(other), "other").equals(index_of(300))
