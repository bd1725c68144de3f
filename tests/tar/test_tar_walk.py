"""The tar walk, compared with tarfile, which is right about intact archives."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.constants import change_constant
from support.tars import BODY, END, header, walk

from _newsclippings.storage.files import identify
from _newsclippings.storage.local import LocalFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar import segments as tar_segments
from _newsclippings.tar.index import TarIndex
from _newsclippings.tar.walk import SCHEMA, walk_segment
from newsclippings import BadTarError, NewsCLIPpingsError

Members = dict[str, bytes]

names = st.lists(
    st.text("abé0_-. ", min_size=1, max_size=70).filter(lambda s: s.strip(".") != ""), min_size=1, max_size=4
)
members = st.dictionaries(names.map("/".join), st.binary(max_size=1500), min_size=1, max_size=12)
formats = st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


def load_index(path: str, key: str, folder: Path) -> TarIndex:
    with LocalFile(path) as file:
        return tar_index.load_index(file, key, folder, lambda: key)


def write(path: Path, files: Members, form: int = tarfile.GNU_FORMAT, **fields: Any) -> Path:
    with tarfile.open(path, "w", format=form) as out:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            out.addfile(info, io.BytesIO(data))
    return path


def without_clashes(files: Members) -> Members:
    """Drop names that are a folder of another, or have the same normal form."""
    return {
        name: data for name, data in files.items() if name.split("/")[0] not in ("origin", "visual_news", "visualnews")
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members.map(without_clashes).filter(bool), formats, st.sampled_from([1, 2, 3, 8192]))
def test_intact_archives_are_read_as_by_tarfile(tmp_path: Path, files: Members, form: int, batch: int) -> None:
    """Names, offsets and sizes of any GNU or PAX archive equal tarfile's, with long names and batch boundaries."""
    path = write(tmp_path / "x.tar", files, form)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "BATCH", batch, of="walk")
        index = walk(str(path))
    with tarfile.open(path) as reference:
        expected = [(m.name, m.offset_data, m.size) for m in reference.getmembers()]
    assert index.damage is None
    assert index.members.schema == SCHEMA
    found = zip(*(index.members[column].to_pylist() for column in ("name", "offset", "size")), strict=True)
    assert list(found) == [("/".join(p for p in n.split("/") if p), offset, size) for n, offset, size in expected]
    data = path.read_bytes()
    assert [data[o : o + s] for _, o, s in expected] == list(files.values())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members.map(without_clashes).filter(bool), formats, st.sampled_from([512, 1024, 2048, 5120]), st.booleans())
def test_a_walk_in_segments_finds_the_same(
    tmp_path: Path, files: Members, form: int, segment: int, resumed: bool
) -> None:
    """A walk in any segments, resumed or not, finds the members of a walk in one."""
    path = write(tmp_path / "x.tar", files, form)
    whole = walk(str(path))
    parts = tmp_path / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch, LocalFile(str(path)) as file:
        change_constant(patch, "SEGMENT", segment)
        found = tar_index.index_tar(file, parts)
        if resumed:
            for kept in sorted(parts.glob("*/*.arrow"))[::2]:
                kept.unlink()
            found = tar_index.index_tar(file, parts)
    assert found.equals(whole.members)
    assert whole.damage is None
    assert b"damage" not in found.schema.metadata


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_no_segment_is_walked_twice(tmp_path: Path, form: int) -> None:
    """A segment begins at the long name or PAX fields that belong to a header, so none is walked twice."""
    files = {f"origin/{'long' * 40}/{k}.jpg": b"x" * (900 + k) for k in range(60)}
    path = write(tmp_path / "x.tar", files, form)
    starts: list[int] = []

    def count(file: LocalFile, start: int, *rest: Any) -> Any:
        starts.append(start)
        return walk_segment(file, start, *rest)

    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", 5_000)
        patch.setattr(tar_segments, "walk_segment", count)
        assert len(walk(str(path)).members) == len(files)
    assert len(starts) > 10
    assert len(starts) <= -(-path.stat().st_size // 5_000)


def test_an_archive_inside_an_archive_is_one_member(tmp_path: Path) -> None:
    """Headers inside a member are ignored, even if a segment began at one of them."""
    inner = write(tmp_path / "inner.tar", {f"origin/{k}.jpg": b"x" * 900 for k in range(20)}).read_bytes()
    files = {"origin/a.jpg": b"A" * 700, "origin/inner.tar": inner, "origin/z.jpg": b"Z" * 700}
    path = write(tmp_path / "x.tar", files)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", 4096)
        assert walk(str(path)).members["name"].to_pylist() == ["a.jpg", "inner.tar", "z.jpg"]


@pytest.mark.parametrize("at", [0, 3, 9])
def test_damage_in_a_segment_ends_the_whole_walk(tmp_path: Path, at: int) -> None:
    """Members after a damaged header do not count, even if their segments were walked already."""
    path = write(tmp_path / "x.tar", {f"origin/{k}.jpg": b"x" * 900 for k in range(10)})
    data = bytearray(path.read_bytes())
    data[at * 1536 + 148] ^= 1  # a digit of the checksum
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", 2048)
        if at == 0:
            with pytest.raises(BadTarError, match="do not begin with a tar header"):
                walk(str(path))
            return
        index = walk(str(path))
    assert index.members["name"].to_pylist() == [f"{k}.jpg" for k in range(at)]
    assert index.damage is not None
    assert f"byte {at * 1536}, after {at} whole members: the checksum" in index.damage


@pytest.mark.parametrize("field", ["path", "size"])
def test_global_names_and_sizes_are_understood_in_segments_too(tmp_path: Path, field: str) -> None:
    """A global PAX header that speaks of every member after it is taken into account wherever a walk begins."""
    path = tmp_path / "x.tar"
    record = {"path": b"17 path=all/same\n", "size": b"10 size=3\n"}[field]
    extra = header(b"g", kind=b"g", size=b"%011o\0" % len(record)) + record.ljust(512, b"\0")
    path.write_bytes(header(b"first") + BODY + extra + (header(b"next") + BODY) * 9 + END)
    one = walk(str(path)).members
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", 1024)
        assert walk(str(path)).members.equals(one)
    assert one["name"].to_pylist()[:2] == ["first", "all/same" if field == "path" else "next"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=30, unique=True), st.booleans())
def test_names_are_found_by_their_hash(names: list[str], colliding: bool) -> None:
    """Every name, and no other, is found at its place, even if all names have the same hash."""
    table = pa.table([names, range(600, 600 + len(names)), [1] * len(names), [0] * len(names)], schema=SCHEMA)
    with pytest.MonkeyPatch.context() as patch:
        if colliding:
            change_constant(patch, "_WEIGHTS", np.zeros_like(tar_index._WEIGHTS))
        index = tar_index.keep_index(table, Path("/proc/no/place"), "x")
        asked = pa.array([*reversed(names), None, "not there", *names], pa.string())
        expected = [*reversed(range(len(names))), -1, -1, *range(len(names))]
        assert index.find(asked).tolist() == [
            -1 if name == "not there" and name not in names else place
            for name, place in zip(asked.to_pylist(), expected, strict=True)
        ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 8000), st.integers(0, 7), st.integers(0, 3))
def test_a_flipped_bit_is_named_or_harmless(tmp_path: Path, at: int, bit: int, batch: int) -> None:
    """A flipped bit in a header is damage, an error, or without effect; it never loses members."""
    files = {f"bbc/images/0000/{k:03d}.jpg": bytes([65 + k]) * 700 for k in range(4)}
    path = write(tmp_path / "x.tar", files)
    data = bytearray(path.read_bytes())
    at %= 2 * 512 * 4 + 1024
    data[at] ^= 1 << bit
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "BATCH", batch + 1, of="walk")
        try:
            index = walk(str(path))
        except NewsCLIPpingsError:
            return
    if index.damage is None:
        assert index.members["name"].to_pylist() == list(files)
        assert index.members["size"].to_pylist() == [700] * 4
    else:
        assert "byte" in index.damage
        assert index.members["name"].to_pylist() == list(files)[: len(index.members)]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), st.integers(0, 5000), st.integers(0, 600))
def test_damaged_archives_never_raise_anything_else(tmp_path: Path, noise: bytes, at: int, cut: int) -> None:
    """A damaged archive gives an index of intact members, or one of this package's errors."""
    path = write(tmp_path / "x.tar", {"origin/a.jpg": b"A" * 600, "origin/" + "b" * 120: b"B" * 10}, tarfile.PAX_FORMAT)
    data = path.read_bytes()
    path.write_bytes(data[:at] + noise + data[at + cut :])
    try:
        index = walk(str(path))
    except NewsCLIPpingsError:
        return
    for offset, size in zip(index.members["offset"].to_pylist(), index.members["size"].to_pylist(), strict=True):
        assert 0 <= offset <= offset + size <= path.stat().st_size


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (header(b"a/b.jpg", magic=b""), "a/b.jpg"),  # before POSIX
        (header(b"a/b.jpg", magic=b"ustar  \0"), "a/b.jpg"),  # GNU
        (header(b"b.jpg", prefix=b"origin/a"), "a/b.jpg"),  # long names of ustar
        (header(b"a/b.jpg", kind=b"\0"), "a/b.jpg"),
        (header(b"a/b.jpg", kind=b"7"), "a/b.jpg"),
        (header(b"a/b.jpg", size=b"\x80" + bytes(10) + b"\x03"), "a/b.jpg"),  # base-256
        (header(b"a/b.jpg", size=b"         3 \0"), "a/b.jpg"),
        (header("a/é.jpg".encode(), signed=b"yes"), "a/é.jpg"),
        (header(b"./", size=b"0" * 11 + b"\0", kind=b"5") + header(b"./a/b.jpg"), "a/b.jpg"),
        (header(b"a/", size=b"0" * 11 + b"\0", kind=b"\0", magic=b"") + header(b"a/b.jpg"), "a/b.jpg"),
        (header(b"a" * 100), "a" * 100),
    ],
)
def test_every_kind_of_header_is_read(tmp_path: Path, content: bytes, name: str) -> None:
    """Headers of every tar format give the name and the place of the file."""
    path = tmp_path / "x.tar"
    path.write_bytes(content + BODY + END)
    index = walk(str(path))
    assert index.damage is None
    assert index.members.select(["name", "offset", "size"]).to_pylist() == [
        {"name": name, "offset": len(content), "size": 3}
    ]


PAX = b"30 GNU.sparse.major=1\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header(b"a", size=b"99999999999\0"), "no octal number"),
        (header(b"a", size=b"-0000100000\0"), "negative size"),
        (header(b"a", size=b"\xff" * 12), "negative or absurd"),
        (header(b"a", size=b"\x80" + b"\xff" * 11), "negative or absurd"),
        (header(b"a", size=b"%011o\0" % (1 << 30)), "runs past the end"),
        (header(b"a\0hidden"), "hidden after a NUL"),
        (header(b"", kind=b"L", size=b"%011o\0" % (1 << 30)), "header of 1073741824 bytes"),
        (header(b"x", kind=b"x") + BODY, "malformed PAX"),
        (
            header(b"x", kind=b"x", size=b"%011o\0" % 12) + b"12 size=1x2\n".ljust(512, b"\0") + header(b"a"),
            "no number",
        ),
        (header(b"x", kind=b"L") + BODY, "without its member"),
        (header(b"a") + BODY + bytes(512) + header(b"b"), "single zero block"),
    ],
)
def test_malformed_headers_are_damage(tmp_path: Path, content: bytes, says: str) -> None:
    """An invalid header stops the walk with the reason; nothing is read past the end of the file."""
    path = tmp_path / "x.tar"
    path.write_bytes(header(b"first") + BODY + content + END)
    index = walk(str(path))
    assert index.damage is not None
    assert says in index.damage
    assert "after" in index.damage
    assert index.members["name"].to_pylist()[0] == "first"


@pytest.mark.parametrize("content", [b"", b"x" * 5000, END, bytes(512) + header(b"a") + BODY + END])
def test_a_file_without_a_header_is_no_tar(tmp_path: Path, content: bytes) -> None:
    """A file that is no tar is refused at once, and the error says what was found."""
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(BadTarError, match=f"{len(content)} bytes that do not begin with a tar header"):
        walk(str(path))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write(
        tmp_path / "x.tar", {"origin/bbc/images/0000/001.jpg": b"one", "origin/bbc/images/0000/002.jpg": b"two"}
    )


def test_the_index_is_kept_and_mapped(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second walk maps the cached index, reads no headers, and gives the same names."""
    first = load_index(str(archive), identify(str(archive)), tmp_path / "indexes")
    monkeypatch.setattr(tar_index, "index_tar", None)
    allocated = pa.total_allocated_bytes()
    again = load_index(str(archive), identify(str(archive)), tmp_path / "indexes")
    assert again.members.equals(first.members)
    assert again.damage is None
    assert pa.total_allocated_bytes() == allocated


def test_a_damaged_cached_index_is_rebuilt(archive: Path, tmp_path: Path) -> None:
    """A cached index with any changed byte, or cut anywhere, is not used."""
    key = identify(str(archive))
    first = load_index(str(archive), key, tmp_path / "indexes")
    names = pa.array(["bbc/images/0000/001.jpg", "bbc/images/0000/002.jpg", "bbc/images/0000/003.jpg"])
    expected = first.members.to_pylist(), first.find(names).tolist()  # not mapped, unlike the index
    assert expected[1] == [0, 1, -1]
    (kept,) = (tmp_path / "indexes").iterdir()
    data = kept.read_bytes()
    flips = [data[:k] + bytes([data[k] ^ 1 << k % 8]) + data[k + 1 :] for k in range(0, len(data), 31)]
    for spoilt in (b"", b"x" * len(data), *flips, *(data[:k] for k in range(0, len(data), 97))):
        kept.write_bytes(spoilt)
        index = load_index(str(archive), key, tmp_path / "indexes")
        assert (index.members.to_pylist(), index.find(names).tolist()) == expected
        assert kept.read_bytes() == data


def test_a_folder_in_place_of_a_cached_index(archive: Path, tmp_path: Path) -> None:
    """If a folder is in place of the cached index, the tar is walked each time."""
    (tmp_path / "indexes" / "key.arrow").mkdir(parents=True)
    assert len(load_index(str(archive), "key", tmp_path / "indexes").members) == 2


def test_the_hash_of_a_name_is_a_constant(archive: Path) -> None:
    """The hash, which cached indexes contain, depends neither on a library's random seed nor on the machine."""
    names = ["", "a", "ab", "bbc/images/0000/001.jpg", "größe", "x" * 20_000]
    expected = [
        0,
        0x908066012168BCFE,
        0x4925A93DAC1B2ABD,
        0x6A69D40A1F8F7C2D,
        0x4B060D5C2FDFAC40,
        0xB2BB05FF682F50A0,
    ]
    assert tar_index.hash_names(pa.array(names)).tolist() == expected
    assert tar_index.hash_names(pa.array(names[:5] * 5000)).tolist() == expected[:5] * 5000


def test_the_damage_is_cached_with_the_index(archive: Path, tmp_path: Path) -> None:
    """The cached index of a truncated tar has its damage."""
    data = archive.read_bytes()
    archive.write_bytes(data[:1100])
    key = identify(str(archive))
    first = load_index(str(archive), key, tmp_path / "indexes")
    assert first.damage is not None
    assert "byte 1024, after 1 whole members" in first.damage
    assert "pictures of bbc (1)" in first.damage
    assert load_index(str(archive), key, tmp_path / "indexes").damage == first.damage


def test_a_read_only_cache_is_no_error(archive: Path, tmp_path: Path) -> None:
    """If the index cannot be cached, the tar is walked each time."""
    (tmp_path / "file").write_text("in the way")
    index = load_index(str(archive), "key", tmp_path / "file" / "indexes")
    assert len(index.members) == 2
