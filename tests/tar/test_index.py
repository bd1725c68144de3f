"""The index of a tar as a file: its content, the tars it can be used for, and files that are refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.children import in_child, kill, wait
from support.constants import change_constant
from support.hub import Hub
from support.reading import environment, expected_splits, jsonable, load, raw, raw_splits
from support.remote import BLOCK, ENDS, Origin, Published, make_index, publish, refusal, shown
from support.sampling import WAYS, crossed, sampled
from support.world import World

from _newsclippings.cli.commands import main
from _newsclippings.storage.local import LocalFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar import segments as tar_segments
from _newsclippings.tar import walk as tar_walk
from newsclippings import BadFileError, BadTarError, ConfigError, DataNotFoundError, NewsCLIPpingsError

SCHEMA = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("header_crc", pa.uint32())])


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries."""
    change_constant(monkeypatch, "PAUSE", 0.001)


@pytest.fixture
def own(new_world: Callable[..., World], origin: Origin, tmp_path: Path) -> Published:
    """Make a private world, which a test may change, with its tar on the server."""
    return publish(new_world(folder=False, tar=False), origin, tmp_path.name)


@pytest.fixture
def index(published: Published, tmp_path: Path) -> str:
    """An index of the shared tar."""
    return make_index(published.tar, tmp_path / "x.parquet")


def expected(tar: Path) -> list[dict[str, Any]]:
    """The expected rows of an index, from tarfile."""
    data = tar.read_bytes()
    with tarfile.open(tar) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
    return [
        {
            "name": m.name.removeprefix("origin/"),
            "offset": m.offset_data,
            "size": m.size,
            "header_crc": zlib.crc32(data[m.offset_data - BLOCK : m.offset_data]),
        }
        for m in files
    ]


def about(tar: Path) -> dict[bytes, bytes]:
    """Read the metadata of an index about its tar."""
    data = tar.read_bytes()
    ends = {b"head_sha256": data[:ENDS], b"tail_sha256": data[-ENDS:]}
    return {b"tar_size": b"%d" % len(data)} | {k: hashlib.sha256(v).hexdigest().encode() for k, v in ends.items()}


# Content


@pytest.mark.parametrize("where", ["local", "remote"])
def test_the_file(origin: Origin, published: Published, tmp_path: Path, where: str) -> None:
    """An index has name, place, size and checksum of each file in tar order, the tar's identity, and a checksum."""
    out = make_index(published.tar if where == "local" else published.url, tmp_path / "x.parquet")
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == expected(published.tar)
    assert re.fullmatch(rb"[0-9a-f]{32}", table.schema.metadata[b"members_xxh3"])
    assert table.schema.metadata == about(published.tar) | {b"members_xxh3": table.schema.metadata[b"members_xxh3"]}
    for secret in (str(tmp_path).encode(), b"127.0.0.1"):
        assert secret not in Path(out).read_bytes()


def test_local_and_remote_give_the_same_file(origin: Origin, published: Published, tmp_path: Path) -> None:
    """A local and a remote tar with the same bytes have byte-identical indexes."""
    one, other = make_index(published.tar, tmp_path / "1.parquet"), make_index(published.url, tmp_path / "2.parquet")
    assert Path(one).read_bytes() == Path(other).read_bytes()


def test_what_the_command_prints(origin: Origin, published: Published) -> None:
    """The command prints the file's name and the count on stdout, and nothing on stderr without a terminal."""
    env = environment(Path("hf"), NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    command = [sys.executable, "-m", "newsclippings", "index", published.url, "-o", "x.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    count = len(expected(published.tar))
    assert (done.stdout, done.stderr) == (f"x.parquet ({count:,} files)\n", "")
    said = CliRunner().invoke(main, ["index", str(published.tar), "-o", "y.parquet", "--format", "json"])
    assert json.loads(said.stdout) == {
        "index": "y.parquet",
        "members": count,
        "checksums": False,
        "damage": None,
        "others": "",
    }


def test_an_index_is_replaced_and_its_folder_made(published: Published, own: Published, tmp_path: Path) -> None:
    """The folder of OUT is created, an older OUT is replaced, and no other file is left."""
    out = tmp_path / "new" / "x.parquet"
    make_index(own.tar, out)
    own.world.write_tar(own.tar, data_json="first")
    make_index(own.tar, out)
    assert pq.read_table(out).to_pylist() == expected(own.tar)
    assert [path.name for path in out.parent.iterdir()] == ["x.parquet"]


def test_an_index_of_a_damaged_tar_says_so(own: Published, tmp_path: Path) -> None:
    """The index of a truncated tar has the intact part and the damage; a load with it reports the damage."""
    own.world.write_tar(own.tar, data_json="first")
    whole = expected(own.tar)
    cut = next(row["offset"] for row in whole[len(whole) * 2 // 3 :] if row["name"].endswith(".jpg"))
    os.truncate(own.tar, cut - 100)
    out = make_index(own.tar, tmp_path / "x.parquet", code=1)
    table = pq.read_table(out)
    assert table.to_pylist() == [row for row in whole if row["offset"] < cut]
    assert f"byte {cut - BLOCK}" in table.schema.metadata[b"damage"].decode()
    pictures = {row["name"] for row in whole if row["offset"] < cut} & set(own.world.pictures)
    for location in (own.url, str(own.tar)):
        options = {"visual_news": location, "visual_news_index": out}
        with pytest.raises(BadTarError, match=f"byte {cut - BLOCK}"):
            load(own.world, **options)
        found = raw_splits(load(own.world, missing="null", **options))
        assert found == expected_splits(own.world, pictures=pictures)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["index", "nowhere.tar", "-o", "x.parquet"], 1, "nowhere.tar"),
        (["index", "{server}/nowhere.tar", "-o", "x.parquet"], 1, "/nowhere.tar"),
        (["index", "http://127.0.0.1:9/origin.tar", "-o", "x.parquet"], 1, "127.0.0.1:9"),
        (["index", "text.tar", "-o", "x.parquet"], 1, "tar"),
        (["index", "folder.tar", "-o", "x.parquet"], 1, "folder.tar"),
        (["index"], 2, "Missing"),
    ],
)
def test_wrong_arguments_of_the_command(origin: Origin, args: list[str], code: int, says: str) -> None:
    """Wrong arguments give one line on stderr, the usual exit codes, and no file."""
    Path("folder.tar").mkdir()
    Path("text.tar").write_text("not a tar at all " * 100)
    done = CliRunner().invoke(main, [arg.format(server=origin.address) for arg in args])
    assert done.exit_code == code
    assert isinstance(done.exception, SystemExit)
    assert says in done.output
    assert "Traceback" not in done.output
    assert {path.name for path in Path().iterdir()} == {"folder.tar", "text.tar"}


# Using an index


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_the_index_of_the_local_tar_is_used_for_the_remote_one(
    origin: Origin, published: Published, index: str, streaming: bool
) -> None:
    """With the index of the local copy, only the ends and members of the remote tar are fetched."""
    found = raw(published.load(split="test", splits=["test"], visual_news_index=index, streaming=streaming))
    assert found == published.world.rows(split="test")
    names = {row["name"] for row in expected(published.tar)} - shown(published.world.rows(split="test"))
    asked = published.mask(names - {"data.json"}) & published.inner() & (published.times() > 0)
    assert asked.sum() < 0.2 * published.mask(names).sum()


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_the_index_of_the_remote_tar_is_used_for_the_local_one(
    origin: Origin, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """A local tar with an index is not walked."""
    index = make_index(published.url, tmp_path / "x.parquet")
    forbid_walks(monkeypatch)
    origin.forget()
    options: dict[str, Any] = {"visual_news": str(published.tar), "visual_news_index": index}
    assert raw_splits(load(published.world, streaming=streaming, **options)) == expected_splits(published.world)
    assert origin.log() == []


def forbid_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the headers are walked")

    for module in (tar_index, tar_walk, tar_segments):
        for name in ("index_tar", "walk_headers", "walk_segment"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, forbidden)


def test_an_index_for_the_tar_below_data_dir(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """visual_news_index alone belongs to the tar that is found below data_dir."""
    world = new_world(folder=False)
    index = make_index(world.tar, tmp_path / "x.parquet")
    forbid_walks(monkeypatch)
    assert raw_splits(load(world, visual_news_index=index)) == expected_splits(world)


def test_an_index_without_a_tar(new_world: Callable[..., World], index: str) -> None:
    """An index without a tar, with only the extracted folder, is an error."""
    with pytest.raises(ConfigError, match="visual_news_index"):
        load(new_world(tar=False), visual_news_index=index)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_an_index_at_a_url(origin: Origin, published: Published, index: str, streaming: bool) -> None:
    """An index can be on a server, and is fetched once."""
    copy = published.tar.with_suffix(".parquet")
    copy.write_bytes(Path(index).read_bytes())
    for _ in range(2):
        found = raw_splits(published.load(visual_news_index=origin.url(copy), streaming=streaming))
        assert found == expected_splits(published.world)
    assert origin.sent(copy) <= copy.stat().st_size + 2 * ENDS


def test_tar_and_index_on_the_hub(new_world: Callable[..., World], authors_hub: Hub) -> None:
    """Tar and index can both be at hf://, beside the matches, for builds and for streams."""
    world = new_world(folder=False)
    folder = world.root / "news_clippings"
    world.tar.rename(folder / "origin.tar")
    make_index(folder / "origin.tar", folder / "origin.index.parquet")
    place = "hf://g-luo/news-clippings"
    options = {"visual_news": f"{place}/origin.tar", "visual_news_index": f"{place}/origin.index.parquet"}
    code = """
for streaming in (True, False):
    rows = raw_splits(load_dataset('newsclippings', streaming=streaming, **json.loads(sys.argv[1])))
    say(rows) if streaming else sys.exit(int(rows != seen))
    seen = rows
"""
    authors_hub.serve(world)
    assert authors_hub.run(code, json.dumps(options)) == jsonable(expected_splits(world))
    whole = [entry for entry in authors_hub.log() if entry[0] == "GET" and entry[1].endswith("origin.tar")]
    assert len(whole) > 0
    assert all(span for _, _, span, _ in whole)


def test_the_place_of_the_index_does_not_change_the_rows(origin: Origin, published: Published, index: str) -> None:
    """A moved index, or none, gives the same rows."""
    first = published.load(splits=["test"], visual_news_index=index)
    copy = Path("moved.parquet")
    Path(index).rename(copy)
    assert raw_splits(published.load(splits=["test"], visual_news_index=str(copy))) == raw_splits(first)
    assert raw_splits(published.load(splits=["test"])) == raw_splits(first)


# Other tars


@pytest.mark.parametrize(("where", "streaming"), crossed(["local", "remote"], WAYS))
def test_the_index_of_another_tar(
    origin: Origin, published: Published, own: Published, tmp_path: Path, where: str, streaming: bool
) -> None:
    """An index of another tar is refused, and the error names both."""
    own.world.write_tar(own.tar, data_json="first")
    index = make_index(own.tar, tmp_path / "other.parquet")
    location = str(published.tar) if where == "local" else published.url
    with pytest.raises(BadTarError, match=r"other\.parquet") as caught:
        raw_splits(load(published.world, visual_news=location, visual_news_index=index, streaming=streaming))
    assert location in str(caught.value)


def _exchange(remote: Published) -> None:
    """Swap two neighbours in the middle of the tar: same size, same ends, other offsets."""
    needed = shown(remote.world.rows())
    places = sorted((place.start, name) for name, place in remote.places().items())
    data = bytearray(remote.tar.read_bytes())
    for (a, one), (b, other), (c, _) in zip(places, places[1:], places[2:], strict=False):
        inside = a > ENDS and c < len(data) - ENDS
        if inside and one in needed and other.endswith(".jpg") and one.split("/")[:3] == other.split("/")[:3]:
            data[a:c] = data[b:c] + data[a:b]
            remote.tar.write_bytes(data)
            return
    for (a, one), (b, other), (c, _) in zip(places, places[1:], places[2:], strict=False):
        if a > ENDS and c < len(data) - ENDS and one in needed and other.endswith(".jpg") and b - a != c - b:
            data[a:c] = data[b:c] + data[a:b]
            remote.tar.write_bytes(data)
            return
    raise LookupError("the plan has no such neighbours")


@pytest.mark.parametrize(("where", "streaming"), crossed(["local", "remote"], WAYS))
def test_a_tar_that_was_replaced_after_the_index_was_made(
    own: Published, tmp_path: Path, where: str, streaming: bool
) -> None:
    """If the tar was replaced by one with the same size and ends, an error names both, and no row is wrong."""
    own.world.pictures = {path: data + bytes(3000 + len(data)) for path, data in own.world.pictures.items()}
    own.world.write_tar(own.tar)
    index = make_index(own.tar, tmp_path / "x.parquet")
    location = str(own.tar) if where == "local" else own.url
    options: dict[str, Any] = {"visual_news": location, "visual_news_index": index, "streaming": streaming}
    if streaming:
        assert raw_splits(load(own.world, **options)) == expected_splits(own.world)
    identity = about(own.tar)
    _exchange(own)
    assert about(own.tar) == identity
    with refusal(BadTarError) as said:
        raw_splits(load(own.world, **options))
    assert index in said[0]
    assert location in said[0]


# Invalid indexes

Change = Callable[[pa.Table], pa.Table]


def _column(name: str, values: Callable[[list[Any]], list[Any]], kind: pa.DataType | None = None) -> Change:
    """Change the values of a column."""

    def change(table: pa.Table) -> pa.Table:
        place = SCHEMA.get_field_index(name)
        column = pa.array(values(table[name].to_pylist()), kind or SCHEMA.field(name).type)
        return table.set_column(place, pa.field(name, column.type), column)

    return change


def _about(**fields: str | bytes | None) -> Change:
    """Change the metadata of an index about its tar."""

    def change(table: pa.Table) -> pa.Table:
        kept = {**table.schema.metadata, **{name.encode(): value for name, value in fields.items()}}
        return table.replace_schema_metadata({name: value for name, value in kept.items() if value is not None})

    return change


def _first(value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value, *values[1:]]


HUGE = 2**63 - 1
NO_INDEX: dict[str, Change] = {
    "other columns": lambda table: table.rename_columns(["a", "b", "c", "d"]),
    "a column less": lambda table: table.drop_columns(["header_crc"]),
    "no identity": lambda table: table.replace_schema_metadata(None),
    "no size": _about(tar_size=None),
    "no hash": _about(tail_sha256=None),
    "a size in words": _about(tar_size="much"),
    "a size of 5,000 digits": _about(tar_size="9" * 5000),
    "a negative size of the tar": _about(tar_size="-1"),
    "identity that is no text": _about(head_sha256=b"\xff\xfe"),
    "no row": lambda table: table.slice(0, 0),
    "text for offsets": _column("offset", lambda values: ["x"] * len(values), pa.string()),
    "numbers for names": _column("name", lambda values: list(range(len(values))), pa.int64()),
    "broken offsets": _column("offset", lambda values: [float(v) + 0.5 for v in values], pa.float64()),
    "a name less": _column("name", _first(None)),
    "an offset less": _column("offset", _first(None)),
    "negative offset": _column("offset", _first(-BLOCK)),
    "offset 0": _column("offset", _first(0)),
    "offset outside": _column("offset", _first(1 << 40)),
    "offset at the brink": _column("offset", _first(HUGE)),
    "negative sizes": _column("size", lambda values: [-1] * len(values)),
    "size outside": _column("size", _first(1 << 40)),
    "size at the brink": _column("size", _first(HUGE)),
    "a name twice": _column("name", lambda values: [values[1], *values[1:]]),
    "a name that leaves": _column("name", _first("../../etc/passwd")),
    "an absolute name": _column("name", _first("/etc/passwd")),
    "an empty name": _column("name", _first("")),
    "a name with a NUL": _column("name", _first("bbc/images/0000/\0.jpg")),
    "a name with a backslash": _column("name", _first("bbc\\images\\1.jpg")),
    "names with a prefix": _column("name", lambda values: [f"origin/{value}" for value in values]),
    "a name with a dot": _column("name", _first("bbc/./images/0000/1.jpg")),
}


def _altered(index: str, change: Change) -> str:
    table = change(pq.read_table(index))
    said = {key: value for key, value in (table.schema.metadata or {}).items() if key != b"members_xxh3"}
    pq.write_table(table.replace_schema_metadata(said), "hostile.parquet")
    return "hostile.parquet"


@pytest.mark.parametrize("change", sampled(NO_INDEX, 2))
def test_a_parquet_file_that_is_no_index(origin: Origin, published: Published, index: str, change: str) -> None:
    """A table that is no valid index is refused by name, built or streamed, for a remote or a local tar."""
    options = {"visual_news_index": _altered(index, NO_INDEX[change])}
    for location in (published.url, str(published.tar)):
        for streaming in (False, True):
            with pytest.raises(BadFileError, match=r"hostile\.parquet"):
                raw_splits(load(published.world, visual_news=location, streaming=streaming, **options))
    pictures = published.mask(published.world.pictures) & published.inner()
    assert published.times()[pictures].sum() == 0


@pytest.mark.parametrize(
    ("content", "streaming"),
    crossed(
        {
            "empty": b"",
            "text": b"name,offset,size,header_crc\n",
            "a magic": b"PAR1",
            "HTML": b"<!DOCTYPE html>",
            "truncated": None,
        },
        WAYS,
    ),
)
def test_a_file_that_is_no_index(
    origin: Origin, published: Published, index: str, content: bytes | None, streaming: bool
) -> None:
    """Any other file is refused by name."""
    data = Path(index).read_bytes()
    Path("hostile.parquet").write_bytes(data[: len(data) // 2] if content is None else content)
    with pytest.raises(BadFileError, match=r"hostile\.parquet"):
        raw_splits(published.load(visual_news_index="hostile.parquet", streaming=streaming))


@pytest.mark.parametrize("place", ["nowhere.parquet", "{server}/nowhere.parquet", "."])
def test_an_index_that_does_not_exist(origin: Origin, published: Published, place: str) -> None:
    """An index that does not exist is an error that names it, also with a local tar."""
    place = place.format(server=origin.address)
    for location in (published.url, str(published.tar)):
        with pytest.raises((DataNotFoundError, BadFileError)) as caught:
            load(published.world, visual_news=location, visual_news_index=place)
        assert place in str(caught.value)


def test_a_value_that_is_no_location(origin: Origin, published: Published) -> None:
    """A number as visual_news_index is refused."""
    with pytest.raises(ConfigError, match="visual_news_index"):
        published.load(visual_news_index=5)


def _swapped(columns: list[str]) -> Change:
    """Swap some columns of two pictures in the index."""

    def change(table: pa.Table) -> pa.Table:
        pictures = [k for k, name in enumerate(table["name"].to_pylist()) if name.endswith(".jpg")]
        order = list(range(len(table)))
        for a, b in zip(pictures[::2], pictures[1::2], strict=False):
            order[a], order[b] = b, a
        moved = table.take(pa.array(order))
        arrays = [(moved if name in columns else table)[name] for name in SCHEMA.names]
        return pa.table(arrays, schema=SCHEMA.with_metadata(table.schema.metadata))

    return change


WRONG: dict[str, Change] = {
    "names exchanged": _swapped(["name"]),
    "offsets exchanged": _swapped(["offset"]),
    "offsets and checksums exchanged": _swapped(["offset", "header_crc"]),
    "sizes exchanged": _swapped(["size"]),
    "checksums wrong": _column("header_crc", lambda values: [value ^ 1 for value in values]),
    "shifted": _column("offset", lambda values: [values[0], *(value - BLOCK for value in values[1:])]),
    "larger": _column("size", lambda values: [value + 1 for value in values]),
    "smaller": _column("size", lambda values: [max(0, value - 1) for value in values]),
}


@pytest.mark.parametrize(("change", "streaming"), crossed(list(WRONG), WAYS))
def test_an_index_with_wrong_places(own: Published, tmp_path: Path, change: str, streaming: bool) -> None:
    """A plausible index with wrong places is an error that names it, and never gives another picture."""
    own.world.write_data_json()  # so that pictures are the first members that are read by the index
    hostile = _altered(make_index(own.tar, tmp_path / "x.parquet"), WRONG[change])
    for location in (own.url, str(own.tar)):
        with refusal(BadFileError) as said:
            raw_splits(load(own.world, visual_news=location, streaming=streaming, visual_news_index=hostile))
        assert hostile in said[0]
        assert location in said[0]


# Interrupted walks


def test_a_killed_walk_continues(own: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill, finished segments are not read again, and the index is the same."""
    own.world.pictures = {path: data + bytes(40_000) for path, data in own.world.pictures.items()}
    own.world.write_tar(own.tar)
    segment, out = 400_000, tmp_path / "x.parquet"
    own.origin.mode(delay=0.01)
    change_constant(monkeypatch, "SEGMENT", segment)
    with monkeypatch.context() as patch:
        change_constant(patch, "THREADS", 2, of="segments")
        child = in_child(lambda: make_index(own.url, out))
    deadline = time.monotonic() + 60
    while len(list(tmp_path.rglob("*.arrow"))) < 4:  # finished segments
        assert time.monotonic() < deadline
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    kill(child)
    assert wait(child) == -signal.SIGKILL
    assert not out.exists()
    own.origin.mode()
    hops = []
    for path in (out, tmp_path / "y.parquet"):  # the one that continues, and one from the start
        own.origin.forget()
        make_index(own.url, path)
        hops.append(sum(request.sent <= 8192 for request in own.asked()))
        assert pq.read_table(path).to_pylist() == expected(own.tar)
    assert hops[0] < 0.8 * hops[1]
    assert {path.name for path in tmp_path.iterdir()} >= {"x.parquet", "y.parquet"}
    assert [path for path in tmp_path.iterdir() if "parquet." in path.name] == []


def test_the_segments_of_another_tar_are_not_used(
    own: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted walk continues for the same tar only; another tar with the same OUT starts from the beginning."""
    change_constant(monkeypatch, "SEGMENT", 20_000)
    walk_segment, walked = tar_walk.walk_segment, list[int]()

    def interrupted(file: Any, start: int, *args: Any) -> Any:
        if len(walked) == 5:
            raise KeyboardInterrupt
        walked.append(start)
        return walk_segment(file, start, *args)

    for tar in (str(own.tar), own.url):
        with monkeypatch.context() as patch:
            patch.setattr(tar_segments, "walk_segment", interrupted)
            done = CliRunner().invoke(main, ["index", tar, "-o", str(tmp_path / "x.parquet")])
            assert done.exit_code == 1
            walked.clear()
        data = own.tar.read_bytes()  # the same places, other names, other checksums
        own.tar.write_bytes(_renumbered(data))
        make_index(tar, tmp_path / "x.parquet")
        assert pq.read_table(tmp_path / "x.parquet").to_pylist() == expected(own.tar)


def _renumbered(data: bytes) -> bytes:
    """A tar whose files have other names of the same length."""
    changed = bytearray(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive.getmembers():
            if member.name.endswith(".jpg"):
                member.name = member.name[:-7] + f"{(int(member.name[-7:-4]) + 500) % 1000:03d}.jpg"
                changed[member.offset : member.offset + BLOCK] = member.tobuf(tarfile.GNU_FORMAT)
    return bytes(changed)


def test_a_failed_index_leaves_no_file(own: Published, tmp_path: Path) -> None:
    """A walk that fails leaves no file, and its error is one line."""
    own.origin.mode(status=[503, 100_000], after=2)
    done = CliRunner().invoke(main, ["index", own.url, "-o", str(tmp_path / "x.parquet")])
    assert done.exit_code == 1
    assert own.url in done.output
    assert list(tmp_path.glob("*.parquet*")) == []
    own.origin.mode()
    make_index(own.url, tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").to_pylist() == expected(own.tar)


def _with_links(published: Published) -> dict[str, Any]:
    """Make two needed pictures links: one to another picture, one that leaves the tar; return what `rows` needs."""
    world = published.world
    first, second, third = sorted(world.pictures)[:3]
    entries = [_link(second, tarfile.LNKTYPE, f"origin/{first}"), _link(third, tarfile.SYMTYPE, "/etc/passwd")]
    kept = world.pictures
    world.pictures = {path: data for path, data in kept.items() if path not in (second, third)}
    world.write_tar(published.tar, extra=entries)
    world.pictures = {**kept, second: kept[first]}
    return {"pictures": set(kept) - {third}}


def _link(path: str, kind: bytes, target: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(f"origin/{path}")
    info.type, info.linkname = kind, target
    return info, b""


@pytest.mark.parametrize(("given", "streaming"), crossed({"walked": False, "given": True}, WAYS))
def test_a_remote_tar_with_links(own: Published, tmp_path: Path, streaming: bool, given: bool) -> None:
    """Of a remote tar, a link to a picture has its bytes; one that leaves the tar is missing. So it is by its index."""
    expected_rows = expected_splits(own.world, **_with_links(own), missing="null")
    options = {"visual_news_index": make_index(own.tar, tmp_path / "x.parquet")} if given else {}
    assert raw_splits(own.load(streaming=streaming, missing="null", **options)) == expected_rows


# Walks in segments


def packed(files: dict[str, bytes], form: int = tarfile.GNU_FORMAT, **fields: Any) -> bytes:
    """Some files as a tar."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form, **fields) as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def _decoy(name: str, size: int) -> bytes:
    """Bytes inside a picture that look like the header of a member."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


plain = st.binary(max_size=2000)
decoys = st.builds(_decoy, st.sampled_from(["origin/bbc/decoy.jpg", "decoy" * 30, "../x"]), st.integers(0, 9000))
nested = st.dictionaries(st.sampled_from("abc"), plain, min_size=1).map(packed)
# None ends in zeros: a last file that does would count as a broken download.
bodies = st.lists(st.one_of(plain, decoys, nested, st.just(bytes(BLOCK))), max_size=4).map(
    lambda parts: b"".join([*parts, b"."]) if parts else b""
)
names = st.builds(
    lambda outlet, folder, n: f"{outlet}/images/{folder}/{n:03d}.jpg",
    st.sampled_from(["bbc", "guardian"]),
    st.sampled_from(["0000", "long" * 40]),
    st.integers(0, 999),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(names, bodies, min_size=1, max_size=12),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.sampled_from([512, 1024, 1536, 5120]),
    st.sampled_from([None, {"comment": "a world"}]),
)
def test_segments_find_the_members_and_no_decoys(
    tmp_path: Path, files: dict[str, bytes], form: int, segment: int, comment: dict[str, str] | None
) -> None:
    """A walk in any segments finds the members, and takes no header inside a picture for one."""
    path = tmp_path / "x.tar"
    path.write_bytes(packed(files, form, pax_headers=comment if form == tarfile.PAX_FORMAT else None))
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", segment)
        table = tar_index.index_tar(LocalFile(str(path)))
    with tarfile.open(path) as reference:
        members = [(m.name, m.offset_data, m.size) for m in reference.getmembers()]
    found = zip(*(table[column].to_pylist() for column in ("name", "offset", "size")), strict=True)
    assert list(found) == members
    assert b"damage" not in table.schema.metadata


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(names, bodies, min_size=2, max_size=8),
    st.sampled_from([512, 1536, 5120]),
    st.integers(0, 60_000),
    st.integers(0, 7),
    st.booleans(),
)
def test_segments_find_the_damage_of_a_walk_in_one(
    tmp_path: Path, files: dict[str, bytes], segment: int, at: int, bit: int, cut: bool
) -> None:
    """For a truncated or damaged tar, a walk in segments gives the index, damage or error of a walk in one."""
    data = bytearray(packed(files))
    at %= len(data)
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    results: list[Any] = []
    for size in (1 << 30, segment):
        with pytest.MonkeyPatch.context() as patch:
            change_constant(patch, "SEGMENT", size)
            try:
                table = tar_index.index_tar(LocalFile(str(path)))
                results.append((table.to_pylist(), table.schema.metadata))
            except NewsCLIPpingsError as error:
                results.append(str(error))
    assert results[0] == results[1]


def test_a_finished_part_of_a_walk_is_not_walked_again(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupted walk continues after its finished segments; damaged segment files are walked again."""
    change_constant(monkeypatch, "SEGMENT", 20_000)
    walked: list[int] = []

    def counting(file: Any, start: int, *args: Any) -> Any:
        if len(walked) == limit:
            raise KeyboardInterrupt
        walked.append(start)
        return tar_walk.walk_segment(file, start, *args)

    monkeypatch.setattr(tar_segments, "walk_segment", counting)
    with LocalFile(str(published.tar)) as file:
        limit = 5
        with pytest.raises(KeyboardInterrupt):
            tar_index.index_tar(file, tmp_path / "parts")
        cut, flipped, of_another, sound, *_ = sorted((tmp_path / "parts").rglob("*.arrow"))
        cut.write_bytes(cut.read_bytes()[:-100])
        data = flipped.read_bytes()
        at = data.index(b"/images/")  # in a name, which Arrow itself does not check
        flipped.write_bytes(data[:at] + b"?" + data[at + 1 :])
        of_another.write_bytes(sound.read_bytes())
        before, walked[:], limit = set(walked), [], 1000
        assert tar_index.index_tar(file, tmp_path / "parts").to_pylist() == expected(published.tar)
    assert len(before & set(walked)) == 3


def test_the_index_of_a_tar_with_a_repeated_member(tmp_path: Path) -> None:
    """Of two members of one name, the index has the last; the command counts them."""
    path, out = tmp_path / "twice.tar", tmp_path / "x.parquet"
    with tarfile.open(path, "w") as tar:
        for size in (10, 20):
            info = tarfile.TarInfo("origin/bbc/images/0000/001.jpg")
            info.size = size
            tar.addfile(info, io.BytesIO(b"x" * size))
    result = CliRunner().invoke(main, ["index", str(path), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "1 x earlier member of a repeated name (bbc/images/0000/001.jpg)" in result.output
    rows = pq.read_table(out).select(["name", "offset", "size"]).to_pylist()
    assert rows == [{"name": "bbc/images/0000/001.jpg", "offset": 1536, "size": 20}]
