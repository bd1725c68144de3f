"""Damaged and hostile archives are refused with the byte and what precedes it, and never read as intact."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import tarfile
from collections.abc import Callable

import pytest
from support.reading import expected_splits, load, raw_splits
from support.sampling import WAYS, crossed
from support.world import OUTLETS, World

from newsclippings import BadTarError, MissingDataError, NewsCLIPpings, verify


@pytest.fixture
def tar_world(new_world: Callable[..., World]) -> World:
    """A world with pictures in origin.tar only, and data.json first."""
    world = new_world(folder=False)
    world.write_tar(data_json="first")
    return world


def _cut(world: World, where: str) -> tuple[int, set[str]]:
    """Return a length to cut the tar at, and the pictures that are complete before it."""
    members = [m for m in world.write_tar(data_json="first") if m.isfile()]
    size = world.tar.stat().st_size
    pictures = [m for m in members if m.name.endswith(".jpg")]
    last = pictures[len(pictures) * 2 // 3]
    at = {
        "between members": last.offset,
        "in a header": last.offset + 300,
        "in the data": last.offset_data + last.size // 2,
        "in the padding": last.offset_data + last.size + 1,
        "before the end marker": members[-1].offset_data + -(-members[-1].size // 512) * 512,
        "in the first member": members[1].offset_data + 1,
        "in the end marker": members[-1].offset_data + -(-members[-1].size // 512) * 512 + 512,
    }[where]
    assert at < size
    return at, {m.name.removeprefix("origin/") for m in pictures if m.offset_data + m.size <= at}


CUTS = [
    "between members",
    "in a header",
    "in the data",
    "in the padding",
    "before the end marker",
    "in the end marker",
]


@pytest.mark.parametrize("where", CUTS)
def test_a_truncated_tar_says_how_far_it_goes(tar_world: World, where: str) -> None:
    """A truncated tar is an error with the byte, the members before it, and the outlets of the intact part."""
    at, whole = _cut(tar_world, where)
    tar_world.tar.write_bytes(tar_world.tar.read_bytes()[:at])
    with pytest.raises(BadTarError, match=r"(?s)origin\.tar.*byte \d.*\d[\d,]* (whole |complete )?members?") as error:
        load(tar_world)
    named = {outlet for outlet in OUTLETS if outlet in str(error.value)}
    assert named >= {path.split("/")[0] for path in whole}


@pytest.mark.parametrize(("where", "missing", "streaming"), crossed(list(CUTS), ["null", "drop_pair"], WAYS))
def test_the_intact_part_of_a_truncated_tar(tar_world: World, where: str, missing: str, streaming: bool) -> None:
    """With missing="null" or "drop_pair" the part before the cut is used."""
    at, whole = _cut(tar_world, where)
    tar_world.tar.write_bytes(tar_world.tar.read_bytes()[:at])
    data = load(tar_world, missing=missing, streaming=streaming)
    assert raw_splits(data) == expected_splits(tar_world, pictures=whole, missing=missing)


def test_the_report_has_the_damage(tar_world: World) -> None:
    """The join report of a build from a truncated tar has the damage."""
    at, _ = _cut(tar_world, "in the data")
    tar_world.tar.write_bytes(tar_world.tar.read_bytes()[:at])
    builder = NewsCLIPpings(data_dir=str(tar_world.root), missing="null")
    builder.download_and_prepare()
    assert all("byte" in report["damage"] for report in builder.join_reports.values())


def test_a_cut_before_data_json(new_world: Callable[..., World]) -> None:
    """If the truncated tar lacks data.json, the captions of the metadata are used."""
    world = new_world(folder=False)
    members = world.write_tar(data_json="last")
    at = next(m.offset for m in members if m.name == "origin/data.json") + 700
    world.tar.write_bytes(world.tar.read_bytes()[:at])
    assert raw_splits(load(world, missing="null")) == expected_splits(world, captions="metadata")


def _flip(world: World, member: tarfile.TarInfo, kind: str) -> None:
    data = bytearray(world.tar.read_bytes())
    if kind == "bit flip in the name":
        data[member.offset + 3] ^= 1
    elif kind == "bit flip in the size":
        data[member.offset + 134] ^= 2
    elif kind == "bit flip in the checksum":
        data[member.offset + 150] ^= 1
    elif kind == "zeroed header":
        data[member.offset : member.offset + 512] = bytes(512)
    elif kind == "zeroed to the end of a block of 1 MB":
        data[member.offset : member.offset + 4096] = bytes(4096)
    world.tar.write_bytes(data)


FLIPS = ["bit flip in the name", "bit flip in the size", "bit flip in the checksum", "zeroed header"]
FLIPS += ["zeroed to the end of a block of 1 MB"]


@pytest.mark.parametrize("kind", FLIPS)
def test_a_damaged_header(tar_world: World, kind: str) -> None:
    """A flipped bit or a zeroed header is an error, never the end of the tar; the part before can be used."""
    pictures = [m for m in tar_world.write_tar(data_json="first") if m.name.endswith(".jpg")]
    victim = pictures[len(pictures) // 2]
    _flip(tar_world, victim, kind)
    with pytest.raises(BadTarError, match=rf"byte {victim.offset}\b"):
        load(tar_world)
    whole = {m.name.removeprefix("origin/") for m in pictures if m.offset < victim.offset}
    assert raw_splits(load(tar_world, missing="null")) == expected_splits(tar_world, pictures=whole)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_damage_is_found_in_streaming_too(tar_world: World, streaming: bool) -> None:
    """A damaged archive stops a stream as it stops a build."""
    members = tar_world.write_tar(data_json="first")
    _flip(tar_world, members[-30], "zeroed header")
    with pytest.raises(BadTarError):
        raw_splits(load(tar_world, streaming=streaming))


def test_an_appended_archive(tar_world: World) -> None:
    """A second archive after the first (cat a.tar >> b.tar) is refused, because its members would be lost."""
    tar_world.tar.write_bytes(tar_world.tar.read_bytes() * 2)
    with pytest.raises(BadTarError, match=r"origin\.tar: it is damaged at byte \d+.*a second archive was appended"):
        load(tar_world)


@pytest.mark.parametrize("name", ["origin/{}", "origin/./{}", "./origin//{}"])
def test_a_repeated_member(tar_world: World, name: str) -> None:
    """Of two members with one name, the last is the picture, as for `tar`; the other is counted."""
    path = tar_world.used_once().image_path
    tar_world.write_tar(extra=[_member(name.format(path), data=b"other")])
    tar_world.pictures[path] = b"other"
    assert raw_splits(load(tar_world)) == expected_splits(tar_world)
    report = verify(tar_world.root, configs=["merged_balanced"])
    assert f"1 x earlier member of a repeated name ({path})" in " ".join(report.notes)


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


OTHERS = {
    "symbolic link": ("origin/bbc/images/link.jpg", tarfile.SYMTYPE, "bbc/images/link.jpg"),
    "hard link": ("origin/bbc/images/hard.jpg", tarfile.LNKTYPE, "bbc/images/hard.jpg"),
    "character device": ("origin/bbc/images/tty.jpg", tarfile.CHRTYPE, "bbc/images/tty.jpg"),
    "block device": ("origin/bbc/images/disk.jpg", tarfile.BLKTYPE, "bbc/images/disk.jpg"),
    "FIFO": ("origin/bbc/images/fifo.jpg", tarfile.FIFOTYPE, "bbc/images/fifo.jpg"),
    "sparse file": ("origin/bbc/images/sparse.jpg", b"S", "bbc/images/sparse.jpg"),
    "volume label": ("VisualNews", b"V", "VisualNews"),
}
ODD = ["origin/../../leaves.jpg", "/origin/absolute.jpg", "origin/bbc\\backslash.jpg", "origin/new\nline.jpg"]


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_members_that_no_row_needs_stop_nothing(tar_world: World, streaming: bool) -> None:
    """Links, devices, labels, sparse files and odd names are counted by kind and named, and the rows are the same."""
    extra = [_member(name, kind, "/etc/passwd") for name, kind, _ in OTHERS.values()]
    tar_world.write_tar(data_json="first", extra=[*extra, *(_member(name, data=b"x") for name in ODD)])
    assert raw_splits(load(tar_world, streaming=streaming)) == expected_splits(tar_world)
    report = verify(tar_world.root, configs=["merged_balanced"])
    assert report.sound, str(report)
    (note,) = (note for note in report.notes if "no plain files" in note)
    for kind, (_, _, shown) in OTHERS.items():
        assert f"1 x {kind} ({shown})" in note
    assert r"4 x odd name (origin/../../leaves.jpg, /origin/absolute.jpg, origin/bbc\backslash.jpg, " in note
    assert r"origin/new\nline.jpg)" in note


NEEDED = {
    "a symbolic link that leaves": (tarfile.SYMTYPE, "../../../../../etc/passwd", "its target is outside of it"),
    "an absolute link": (tarfile.SYMTYPE, "/etc/passwd", "it is absolute"),
    "a link to nothing": (
        tarfile.SYMTYPE,
        "none.jpg",
        "it is a symbolic link to none.jpg, which is no file of the tar",
    ),
    "a hard link to nothing": (tarfile.LNKTYPE, "origin/none.jpg", "it is a hard link to origin/none.jpg, which is no"),
    "a circle": (tarfile.SYMTYPE, "./{}", "in a circle or a chain of more than 40 links"),
    "a sparse file": (b"S", "", "it is a sparse file"),
    "a FIFO": (tarfile.FIFOTYPE, "", "it is a FIFO"),
}


@pytest.mark.parametrize("what", NEEDED)
def test_a_needed_member_that_is_no_file(tar_world: World, what: str) -> None:
    """A picture that is a link to nothing, a sparse file or a device is missing, in its rows only, with the reason."""
    kind, target, says = NEEDED[what]
    path, pictures = tar_world.used_once().image_path, set(tar_world.pictures)
    data = tar_world.pictures.pop(path)
    target = target.format(path.rpartition("/")[2])
    tar_world.write_tar(data_json="first", extra=[_member(f"origin/{path}", kind, target)])
    tar_world.pictures[path] = data
    with pytest.raises(MissingDataError, match=rf"First: {path} \(row \d+: .*{re.escape(says)}"):
        load(tar_world)
    found = raw_splits(load(tar_world, missing="null"))
    assert found == expected_splits(tar_world, pictures=pictures - {path}, missing="null")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (gzip.compress, "(?i)(gzip|gunzip)"),
        (bz2.compress, "(?i)bzip2"),
        (lzma.compress, "(?i)xz"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "(?i)zst"),
        (lambda data: b"PK\x03\x04" + data, "(?i)zip"),
        (lambda data: b"<!DOCTYPE html><html><body>Please log in</body></html>" * 40, "HTML"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "LFS"),
        (lambda data: b"", "(?i)(empty|short|0 bytes)"),
        (lambda data: bytes(10240), "origin.tar"),
        (lambda data: b"not a tar at all " * 100, "origin.tar"),
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "zip", "HTML", "LFS pointer", "empty", "zeros", "text"],
)
def test_no_plain_tar(tar_world: World, change: Callable[[bytes], bytes], says: str) -> None:
    """For a compressed archive, a login page or another file named origin.tar, the error says what it is."""
    tar_world.tar.write_bytes(change(tar_world.tar.read_bytes()))
    with pytest.raises(BadTarError, match=says):
        load(tar_world)
