"""Broken downloads of preallocated files: the rest of the tar, or a hole in it, is zeros.

The plan of a tar has the place of each member, and so what is intact, and whether zeros can be a tar's end.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.command import run
from support.constants import change_constant
from support.reading import expected_splits, load, raw_splits
from support.remote import Origin, Published, refusal
from support.world import World
from sweeps.zeros import Planned, cannot_be_told, expected, invent_files, is_within_data, jpeg, noise, plan, walk

from _newsclippings.encoded.ends import has_end, is_cut_by_zeros
from _newsclippings.pictures.check import inspect_image
from _newsclippings.storage.remote import RemoteFile
from _newsclippings.tar import index as tar_index
from _newsclippings.tar.end import longest_end
from newsclippings import BadFileError, BadTarError, MissingDataError, NewsCLIPpings, verify

pytestmark = pytest.mark.sweep

USUAL = 10_752  # most zeros at the end of a tar with records of 10,240 bytes: 20 blocks, and one of the two before them


FILES = {f"bbc/images/0000/{k:03d}.jpg": jpeg(3000 + 700 * k) for k in range(12)} | {"bbc/articles/1.txt": b"Text.\n"}


@pytest.mark.parametrize("blocks", [1, 2, 3, 8, 20, 40, 64, 126, 128, 512, 2048, 4096])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_usual_padding_is_sound(tmp_path: Path, blocks: int, form: int) -> None:
    """A tar padded to records of one block, of the usual twenty, or of larger sizes for tapes is sound."""
    path = tmp_path / "x.tar"
    path.write_bytes(plan(FILES, blocks, form).data)
    assert walk(path) == (list(FILES), None)


@pytest.mark.parametrize("zeros", [1024, 1025, 1536, 5000, 10_240, 10_752])
def test_other_writers_pad_as_they_like(tmp_path: Path, zeros: int) -> None:
    """Two blocks of zeros are enough, and up to a usual record of zeros is sound, wherever the file ends."""
    tar = plan(FILES)
    (tmp_path / "x.tar").write_bytes(tar.data[: tar.end] + bytes(zeros))
    assert walk(tmp_path / "x.tar") == (list(FILES), None)


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
@pytest.mark.parametrize("options", ["-b 1", "-b 20", "-b 128", "-b 2048", "--format=v7", "--format=posix", "-b 63"])
def test_what_tar_writes_is_sound(tmp_path: Path, options: str) -> None:
    """Tars of the program `tar` are sound, and damaged once their second half is zeros."""
    for k, name in enumerate(FILES):
        file = tmp_path / "origin" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(50_000 + k))
    command = ["tar", *options.split(), "-cf", "x.tar", "--sort=name", "origin"]
    if subprocess.run(command, cwd=tmp_path, capture_output=True).returncode:
        pytest.skip("a tar with other options")
    path = tmp_path / "x.tar"
    assert walk(path) == (sorted(FILES), None)
    data = path.read_bytes()
    path.write_bytes(data[:300_100].ljust(len(data), b"\0"))
    assert "interrupted download" in str(walk(path)[1])


@pytest.mark.parametrize(
    "last",
    [
        {"bbc/a.jpg": jpeg(900, padding=5000)},
        {"bbc/a.bmp": b"BM" + b"\x36" * 60 + bytes(5000)},
        {"bbc/.DS_Store": b"Bud1" + bytes(6000)},
        {"bbc/empty.txt": b""},
        {"bbc/nul": b"\0"},
        {"bbc/broken.jpg": b"\xff\xd8\xff\xe0\x00\x04ab" + b"\x55" * 900},
    ],
    ids=lambda last: next(iter(last)),
)
def test_a_last_member_that_may_end_in_zeros_is_sound(tmp_path: Path, last: dict[str, bytes]) -> None:
    """Zeros after the end of a picture, black pixels and other formats do not count as damage of the tar."""
    path = tmp_path / "x.tar"
    path.write_bytes(plan(FILES | last).data)
    assert walk(path) == ([*FILES, *last], None)


def test_the_longest_end() -> None:
    """The longest end is two blocks and a record minus one block, for record sizes that fit the file."""
    assert longest_end(97_916_641_280) == 81 * 512 or longest_end(97_916_641_280) == 41 * 512
    assert longest_end(10_240 * 7) == longest_end(12_345) == USUAL
    assert longest_end(5 << 20) == (1 << 20) + 512
    assert longest_end(1 << 40) == (8 << 20) + 512


worlds = st.integers(0, 10**9).map(lambda seed: invent_files(random.Random(seed)))
places = st.integers(0, 10**6)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds, st.sampled_from([1, 2, 20, 64, 128]), places, st.booleans(), st.sampled_from([0, 0, 1, 511, 512]))
def test_zeros_from_any_byte_on(
    tmp_path: Path, world: dict[str, bytes], blocks: int, place: int, at_member: bool, off: int
) -> None:
    """If a tar is zeros from any byte on, exactly the intact members are found, and the verdict is the plan's."""
    tar = plan(world, blocks)
    starts = [start for start, _, _ in tar.members.values()][1:]
    cut = starts[place % len(starts)] + off if at_member else 512 + place % (len(tar.data) - 512)
    cut = min(cut, len(tar.data))
    assume(not cannot_be_told(tar, cut))
    _compare(tmp_path, tar, cut, len(tar.data))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(worlds, st.sampled_from([1, 20, 64]), places, places)
def test_a_hole_that_a_download_left(tmp_path: Path, world: dict[str, bytes], blocks: int, one: int, two: int) -> None:
    """For a hole from one member into another, nothing from the hole on is used."""
    tar = plan(world, blocks)
    start, stop = sorted(512 + place % (tar.end - 512) for place in (one, two))
    assume(not is_within_data(tar, start, stop) and not cannot_be_told(tar, start))  # of pictures, see below
    _compare(tmp_path, tar, start, stop)


def _compare(tmp_path: Path, tar: Planned, start: int, stop: int) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar.data[:start] + bytes(stop - start) + tar.data[stop:])
    whole, damaged = expected(tar, start, stop)
    found = walk(path)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", 2048)
        assert walk(path) == found  # the same, in segments
    assert (found[0], found[1] is not None) == (whole, damaged)


@pytest.fixture
def tar_world(new_world: Callable[..., World]) -> tuple[World, list[tarfile.TarInfo]]:
    """A world with pictures in origin.tar only, and data.json first."""
    world = new_world(folder=False)
    return world, [member for member in world.write_tar(data_json="first") if member.isfile()]


def fill(world: World, start: int, stop: int | None = None) -> None:
    data = world.tar.read_bytes()
    stop = len(data) if stop is None else stop
    world.tar.write_bytes(data[:start] + bytes(stop - start) + data[stop:])


def cut_of(members: list[tarfile.TarInfo], where: str) -> int:
    pictures = [m for m in members if m.name.endswith(".jpg")]
    victim = pictures[len(pictures) // 2]
    if where == "in a picture":
        return victim.offset_data + 2
    return {"between members": victim.offset, "in a header": victim.offset + 100}[where]


CUTS = ["between members", "in a header", "in a picture"]


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("where", CUTS)
def test_a_build_reports_the_damage(
    tar_world: tuple[World, list[tarfile.TarInfo]], where: str, streaming: bool
) -> None:
    """With missing="error" the error names the tar and the byte; otherwise exactly the intact part is used."""
    world, members = tar_world
    cut = cut_of(members, where)
    fill(world, cut)
    byte = members[[m.offset <= cut for m in members].index(False) - 1].offset if where == "in a header" else cut
    with pytest.raises(BadTarError, match=rf"origin\.tar: it is damaged at byte {byte}, after \d+ whole"):
        raw_splits(load(world, streaming=streaming))
    whole = {m.name.removeprefix("origin/") for m in members if m.offset_data + m.size <= cut}
    data = load(world, missing="null", streaming=streaming)
    assert raw_splits(data) == expected_splits(world, pictures=whole)


@pytest.mark.parametrize("where", CUTS)
def test_the_report_index_and_verify_name_it(
    tar_world: tuple[World, list[tarfile.TarInfo]], tmp_path: Path, where: str
) -> None:
    """The build report, `index` (exit code 1) and `verify` have the damage with its byte."""
    world, members = tar_world
    fill(world, cut_of(members, where))
    builder = NewsCLIPpings(data_dir=str(world.root), missing="null")
    builder.download_and_prepare()
    assert all("damaged at byte" in report["damage"] for report in builder.join_reports.values())
    done = run("index", world.tar, "-o", tmp_path / "x.parquet", "--format", "json")
    assert (done.exit_code, json.loads(done.stdout)["damage"] is None) == (1, False)
    report = verify(world.root, configs="merged_balanced")
    assert any("damaged at byte" in fault for fault in report.invalid.values())


def test_verify_checks_a_tar_beside_the_folder(new_world: Callable[..., World]) -> None:
    """`verify` reports a damaged tar also if pictures come from the folder, and no fault for an intact one."""
    world = new_world()
    assert verify(world.root, configs="merged_balanced").sound
    fill(world, world.tar.stat().st_size // 2)
    report = verify(world.root, configs="merged_balanced")
    assert [place for place in report.invalid if place == str(world.tar)]


def test_the_error_for_an_empty_split_mentions_the_damage(tar_world: tuple[World, list[tarfile.TarInfo]]) -> None:
    """If no row of a split would be left, the error says that the tar is damaged."""
    world, members = tar_world
    fill(world, members[3].offset)
    with pytest.raises(MissingDataError, match="The tar is not whole: it is damaged at byte"):
        load(world, missing="drop_pair")


@pytest.mark.parametrize("length", [300, 600, 2000])
def test_a_picture_whose_end_was_not_written(new_world: Callable[..., World], length: int) -> None:
    """A picture whose last bytes are a hole is not used, although every header is intact."""
    world = new_world(folder=False)
    victim = world.used_once()
    world.pictures[victim.image_path] = noise("JPEG")
    (member,) = (m for m in world.write_tar(data_json="first") if m.name == f"origin/{victim.image_path}")
    stop = member.offset_data + member.size
    start = stop - length if length > 512 else member.offset_data + 2
    fill(world, start, stop)
    assert walk(world.tar)[1] is None
    with refusal(BadTarError) as said:
        load(world)
    assert f"{victim.image_path} is damaged: from byte {start} of the tar to its end it is zeros" in said[0]
    with refusal(BadTarError):
        raw_splits(load(world, streaming=True))
    left = set(world.pictures) - {victim.image_path}
    data = load(world, missing="null", check_images=True)
    assert raw_splits(data) == expected_splits(world, pictures=left)
    report = verify(world.root, configs="merged_balanced", images="decode")
    (problem,) = (kind for kind, paths in report.pictures.items() if victim.image_path in paths)
    assert problem == ("no_picture" if length == 300 else "truncated")


def test_an_article_that_was_not_written(tar_world: tuple[World, list[tarfile.TarInfo]]) -> None:
    """An article of zeros is not used."""
    world, members = tar_world
    caption = world.matches["merged_balanced", "train"][0].id
    (member,) = (m for m in members if m.name.endswith(f"/{caption}.txt"))
    fill(world, member.offset_data, member.offset_data + member.size)
    with refusal(BadTarError) as said:
        load(world, articles=True)
    assert f"{caption}.txt is damaged: from byte {member.offset_data}" in said[0]


@pytest.mark.parametrize("padded", [0, 511, 512, 4000])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_the_end_of_a_picture(form: str, padded: int) -> None:
    """A picture is complete if it has its format's end, with any zeros after it, and cut if zeros replace the end."""
    data = noise(form)
    assert len(data) > 2500
    assert has_end(data + bytes(padded)) is (None if form == "BMP" else True)
    assert not is_cut_by_zeros(data + bytes(padded))
    for length in (513, 1000, len(data) - 1500, len(data) - 20, len(data) - 2, len(data)):
        cut = data[:-length] + bytes(length)
        assert is_cut_by_zeros(cut) or (form == "BMP" and length < len(data) - 54), length
    assert not is_cut_by_zeros(data[:-600])  # shorter, but without zeros, which other checks find


@pytest.mark.parametrize("padded", [0, 700])
@pytest.mark.parametrize("share", [0.3, 1.0], ids=["flat below", "flat"])
def test_zeros_that_are_data(share: float, padded: int) -> None:
    """Zeros in flat parts of a WEBP and in a black BMP are data; with more zeros they are damaged."""
    for form, size in (("WEBP", (1200, 1600)), ("BMP", (60, 60))):
        picture = Image.new("RGB", size)
        noisy = Image.effect_noise((size[0], round(size[1] * (1 - share)) or 1), 80).convert("RGB")
        if share < 1:
            picture.paste(noisy, (0, size[1] - noisy.height if form == "BMP" else 0))  # a BMP begins with the last row
        stream = io.BytesIO()
        picture.save(stream, form, method=0) if form == "WEBP" else picture.save(stream, form)
        data = stream.getvalue()
        assert (form == "WEBP" and share == 1) or not any(data[-512:])
        assert not is_cut_by_zeros(data + bytes(padded))
        for decode in (False, True):
            assert inspect_image(data + bytes(padded), decode).problem is None
        if share < 1:
            for start in (20, len(data) // 9, len(data) // 2) if form == "WEBP" else (20,):
                assert is_cut_by_zeros(data[:start] + bytes(len(data) - start))


def test_sound_pictures_are_never_cut(world: World) -> None:
    """Intact pictures, alone and with zeros after them, never count as cut."""
    for data in world.pictures.values():
        assert not is_cut_by_zeros(data)
        assert not is_cut_by_zeros(data + bytes(1000))


def test_the_walk_of_a_remote_tar_does_not_fetch_the_zeros(origin: Origin, tmp_path: Path) -> None:
    """The verdict on a remote tar is that on a local one, and only samples of the zeros are fetched."""
    tar = plan(FILES)
    path = origin.root / "preallocated" / "origin.tar"
    path.parent.mkdir(exist_ok=True)
    start = list(tar.members.values())[7][1] + 100
    with open(path, "wb") as file:
        file.write(tar.data[:start])
        file.truncate(1 << 30)
    origin.forget()
    table = tar_index.index_tar(RemoteFile(origin.url(path)))
    names, damage = walk(path)
    assert table["name"].to_pylist() == names == list(FILES)[:7]
    assert table.schema.metadata[b"damage"].decode() == damage
    assert f"byte {start}, after 7 whole members: zeros from there to the end of bbc/images/0000/007.jpg" in str(damage)
    assert origin.sent(path) < 64 << 20


def test_a_damaged_remote_tar(published: Published) -> None:
    """A build from a damaged remote tar is refused like one from a local tar."""
    world = published.world
    data = published.tar.read_bytes()
    try:
        published.tar.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
        with pytest.raises(BadTarError, match="damaged at byte"):
            published.load()
    finally:
        published.tar.write_bytes(data)
    assert raw_splits(published.load()) == expected_splits(world)


@pytest.mark.parametrize("within", [False, True], ids=["behind a member", "in a member"])
def test_a_huge_sparse_file_is_refused_soon(tmp_path: Path, within: bool) -> None:
    """A sparse file of 4 TiB is refused without much time or memory."""
    path = tmp_path / "x.tar"
    tar = plan(FILES)
    info = tarfile.TarInfo("bbc/huge.jpg")
    info.size = (4 << 40) - tar.end - 11_264
    with open(path, "wb") as file:
        file.write(tar.data[: tar.end])
        if within:
            file.write(info.tobuf(tarfile.GNU_FORMAT))
        try:
            file.truncate(4 << 40)
        except OSError:
            pytest.skip("the file system does not take such files")
    names, damage = walk(path)
    assert names == list(FILES)
    assert ("to the end of bbc/huge.jpg" if within else f"damaged at byte {tar.end}") in str(damage)
    assert os.stat(path).st_blocks < 1000


def test_a_member_too_large_for_a_picture_is_refused(new_world: Callable[..., World]) -> None:
    """A member of 1.9 GB, mostly a hole, is an error that names it, without memory for it."""
    world = new_world(folder=False)
    victim, size = world.used_once(), 1_900_000_000
    (member,) = (m for m in world.write_tar(data_json="first") if m.name == f"origin/{victim.image_path}")
    data = world.tar.read_bytes()
    info = tarfile.TarInfo(member.name)
    info.size = size
    with open(world.tar, "wb") as out:
        out.write(data[: member.offset] + info.tobuf(tarfile.GNU_FORMAT) + b"\xff\xd8\xff")
        out.seek(member.offset_data + -(-size // 512) * 512)
        out.write(data[member.offset_data + -(-member.size // 512) * 512 :])
    with refusal(BadFileError) as said:
        load(world)
    assert f"at most 268,435,456 bytes, found {victim.image_path} of 1,900,000,000" in said[0]
