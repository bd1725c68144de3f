"""An index with checksums of data: what it holds, and the damage that `verify` and reads notice by it."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import run
from support.constants import change_constant
from support.reading import expected_splits, load, raw_splits
from support.remote import Origin, Published, make_index, publish
from support.world import World

from _newsclippings.storage.local import LocalFile
from _newsclippings.tar import checksums as tar_checksums
from _newsclippings.tar.index import index_tar
from newsclippings import BadTarError, verify


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries."""
    change_constant(monkeypatch, "PAUSE", 0.001)


@pytest.fixture
def tar_world(new_world: Callable[..., World]) -> World:
    """A world with pictures in origin.tar only."""
    return new_world(folder=False)


def index_with_checksums(tar: object, out: Path) -> str:
    done = run("index", tar, "--checksums", "-o", out)
    assert done.exit_code == 0, done.output
    return str(out)


def place_of(index: str, name: str) -> tuple[int, int]:
    (row,) = (row for row in pq.read_table(index).to_pylist() if row["name"] == name)
    return row["offset"], row["size"]


def flip(tar: Path, byte: int) -> None:
    data = bytearray(tar.read_bytes())
    data[byte] ^= 1
    tar.write_bytes(data)


@pytest.mark.parametrize("piece", [1000, 8 << 20])
@pytest.mark.parametrize("group", [20_000, 1 << 30])
def test_the_checksums_of_an_index(
    tar_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, piece: int
) -> None:
    """Each member has the CRC-32 of its data, read in pieces and groups of any size; the other columns stay."""
    change_constant(monkeypatch, "GROUP", group)
    change_constant(monkeypatch, "AT_ONCE", piece)
    data = tar_world.tar.read_bytes()
    plain = pq.read_table(make_index(tar_world.tar, tmp_path / "plain.parquet"))
    table = pq.read_table(index_with_checksums(tar_world.tar, tmp_path / "x.parquet"))
    assert table.select(plain.column_names).equals(plain)
    assert table["data_crc"].type == pa.uint32()
    for row in table.to_pylist():
        assert row["data_crc"] == zlib.crc32(data[row["offset"] : row["offset"] + row["size"]])
    assert b"columns" not in plain.schema.metadata
    assert plain.column_names == ["name", "offset", "size", "header_crc"]
    assert {path.name for path in tmp_path.iterdir()} >= {"plain.parquet", "x.parquet"}
    assert not list(tmp_path.glob("*.parts"))


def test_a_remote_tar_has_the_same_checksums(published: Published, origin: Origin, tmp_path: Path) -> None:
    """A remote tar gives the same index as a local one, and its pictures are compared with it."""
    far, near = (index_with_checksums(tar, tmp_path / f"{k}") for k, tar in enumerate((published.url, published.tar)))
    assert pq.read_table(far).equals(pq.read_table(near), check_metadata=True)
    for streaming in (False, True):
        found = raw_splits(published.load(visual_news_index=far, streaming=streaming))
        assert found == expected_splits(published.world)


def test_an_interrupted_call_continues(tar_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups that were read before an interruption are not read again; damaged files of them are."""
    change_constant(monkeypatch, "GROUP", 20_000)
    read, limit = list[int](), 3
    sum_members = tar_checksums._sum_members

    def counting(file: Any, offsets: Any, *rest: Any) -> Iterator[tuple[int, int]]:
        if len(read) == limit:
            raise KeyboardInterrupt
        read.append(int(offsets[0]))
        return sum_members(file, offsets, *rest)

    monkeypatch.setattr(tar_checksums, "_sum_members", counting)
    with LocalFile(str(tar_world.tar)) as file:
        with pytest.raises(KeyboardInterrupt):
            index_tar(file, tmp_path / "parts", checksums=True)
        first, *_ = sorted((tmp_path / "parts").rglob("crc-*.arrow"))
        first.write_bytes(first.read_bytes()[:-100])
        before, read[:], limit = set(read), [], 1000
        found = index_tar(file, tmp_path / "parts", checksums=True)
        assert len(before & set(read)) == 1
        assert found.equals(index_tar(file, checksums=True), check_metadata=True)


def test_an_interrupted_call_begins_again_if_the_tar_was_written_to(
    tar_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that filled the tar after an interruption gives the checksums of the whole tar."""
    change_constant(monkeypatch, "GROUP", 20_000)
    change_constant(monkeypatch, "HEAD", 1024)
    change_constant(monkeypatch, "WHOLE", 0)
    change_constant(monkeypatch, "SAMPLES", 1)
    whole, path = tar_world.tar.read_bytes(), min(tar_world.pictures)
    start, size = place_of(make_index(tar_world.tar, tmp_path / "plain.parquet"), path)
    tar_world.tar.write_bytes(whole[: start + 1] + bytes(size - 2) + whole[start + size - 1 :])
    sum_members, groups = tar_checksums._sum_members, list[int]()

    def stopping(file: Any, offsets: Any, *rest: Any) -> Iterator[tuple[int, int]]:
        groups.append(1)
        if len(groups) == 3:
            raise KeyboardInterrupt
        return sum_members(file, offsets, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tar_checksums, "_sum_members", stopping)
        assert run("index", tar_world.tar, "--checksums", "-o", tmp_path / "x.parquet").exit_code != 0
    assert list((tmp_path / "x.parquet.parts").rglob("crc-*.arrow"))
    tar_world.tar.write_bytes(whole)
    table = pq.read_table(index_with_checksums(tar_world.tar, tmp_path / "x.parquet"))
    for row in table.to_pylist():
        assert row["data_crc"] == zlib.crc32(whole[row["offset"] : row["offset"] + row["size"]])
    assert not (tmp_path / "x.parquet.parts").exists()


def test_verify_names_what_a_broken_download_damaged(tar_world: World, tmp_path: Path) -> None:
    """A whole tar matches; damage inside a picture is an entry with the members and their bytes; headers count too."""
    index = index_with_checksums(tar_world.tar, tmp_path / "x.parquet")
    options: dict[str, Any] = {"configs": ["merged_balanced"], "visual_news_index": index}
    report = verify(tar_world.root, **options)
    assert report.sound, str(report)
    assert f"{index} has checksums of data, and all members of {tar_world.tar} match." in report.notes
    names = sorted(tar_world.pictures)[:7]
    places = [place_of(index, name) for name in names]
    for start, size in places[:-1]:
        flip(tar_world.tar, start + size // 2)
    flip(tar_world.tar, places[-1][0] - 100)  # in its header
    report = verify(tar_world.root, **options)
    message = next(iter(report.invalid.values()))
    order = sorted(zip(names, places, strict=True), key=lambda item: item[1])
    shown = ", ".join(f"{name} (bytes {start:,} to {start + size:,})" for name, (start, size) in order[:5])
    assert f"7 members are not what was indexed: {shown}, and 2 more. Fetch it again." in message
    done = run("verify", "--data-dir", tar_world.root, "--visual-news-index", index)
    assert done.exit_code == 1
    assert f"{order[0][0]} (bytes " in done.output


def test_verify_names_what_a_preallocated_download_lacks(tar_world: World, tmp_path: Path) -> None:
    """Of a tar of full size that ends in zeros, the members that were not written are named."""
    index = index_with_checksums(tar_world.tar, tmp_path / "x.parquet")
    size = tar_world.tar.stat().st_size
    lost = sorted(row["offset"] for row in pq.read_table(index).to_pylist())[-3]
    os.truncate(tar_world.tar, lost)
    os.truncate(tar_world.tar, size)
    report = verify(tar_world.root, configs=["merged_balanced"], visual_news_index=index)
    message = next(iter(report.invalid.values()))
    assert "3 members are not what was indexed: " in message
    assert f"(bytes {lost:,} to" in message


def test_verify_tells_a_cut_tar(tar_world: World, tmp_path: Path) -> None:
    """Of a tar that is shorter than the one that was indexed, `verify` says how many bytes there are."""
    index, size = index_with_checksums(tar_world.tar, tmp_path / "x.parquet"), tar_world.tar.stat().st_size
    os.truncate(tar_world.tar, size - 100_000)
    report = verify(tar_world.root, configs=["merged_balanced"], visual_news_index=index)
    says = f"the tar has {size - 100_000:,} of the {size:,} bytes that were indexed in {index}: the download is not"
    assert any(says in message for message in report.invalid.values()), str(report)


def test_verify_says_which_kind_of_index_it_has(published: Published, origin: Origin, tmp_path: Path) -> None:
    """An index without checksums of data is valid; with a remote tar, data are compared only if asked for."""
    options: dict[str, Any] = {"visual_news": str(published.tar), "configs": ["merged_balanced"]}
    plain = make_index(published.tar, tmp_path / "plain.parquet")
    report = verify(published.world.root, **options, visual_news_index=plain)
    assert report.sound
    assert any(f"{plain} has checksums of headers, not of data" in note for note in report.notes)
    index = index_with_checksums(published.tar, tmp_path / "x.parquet")
    origin.forget()
    report = verify(published.world.root, **{**options, "visual_news": published.url}, visual_news_index=index)
    assert any("With checksums=True they are compared with all of" in note for note in report.notes)
    assert not published.times()[published.inner()].all()  # the ends identify the tar


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("remote", [False, True], ids=["local", "remote"])
def test_a_damaged_picture_is_noticed_when_it_is_read(
    new_world: Callable[..., World], origin: Origin, tmp_path: Path, remote: bool, streaming: bool
) -> None:
    """A picture whose bytes are not those that were indexed is an error with its bytes; without checksums it is not."""
    own = publish(new_world(folder=False, tar=False), origin, tmp_path.name)
    index = index_with_checksums(own.tar, tmp_path / "x.parquet")
    plain = make_index(own.tar, tmp_path / "plain.parquet")
    name = own.world.used_once().image_path
    start, size = place_of(index, name)
    flip(own.tar, start + size // 2)
    place = own.url if remote else str(own.tar)

    def read(index: str) -> Any:
        return raw_splits(load(own.world, visual_news=place, visual_news_index=index, streaming=streaming))

    says = rf"{name}, bytes {start:,} to {start + size:,} of the tar, is not what was indexed"
    with pytest.raises(BadTarError, match=says):
        read(index)
    read(plain)


def test_an_altered_index_with_checksums(tar_world: World, tmp_path: Path) -> None:
    """A checksum of data that was altered in the file of the index is noticed by the checksum of the index."""
    index = index_with_checksums(tar_world.tar, tmp_path / "x.parquet")
    table = pq.read_table(index)
    sums = pa.array([value ^ 1 for value in table["data_crc"].to_pylist()], pa.uint32())
    altered = table.set_column(4, "data_crc", sums).replace_schema_metadata(table.schema.metadata)
    pq.write_table(altered, tmp_path / "altered.parquet")
    report = verify(tar_world.root, configs=["merged_balanced"], visual_news_index=tmp_path / "altered.parquet")
    assert any("the index is damaged: its checksum is wrong" in message for message in report.invalid.values())
