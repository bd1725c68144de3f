"""What a name in a tar stands for: links, members of one name, and what the tar of the machine writes."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.constants import change_constant

from _newsclippings.pictures.tar import TarPictures
from _newsclippings.storage.local import LocalFile
from _newsclippings.tables import array_of
from _newsclippings.tar.index import TarIndex, index_tar, keep_index
from _newsclippings.tar.index_file import read_index, write_index

GNU_TAR = shutil.which("tar") or ""
IS_GNU = bool(GNU_TAR) and b"GNU tar" in subprocess.run([GNU_TAR, "--version"], capture_output=True, check=True).stdout
gnu_tar = pytest.mark.skipif(not IS_GNU, reason="the tar of this machine is not GNU tar")


def open_index(path: Path) -> TarIndex:
    """Index a tar, without keeping the index."""
    with LocalFile(str(path)) as file:
        return keep_index(index_tar(file), Path("/proc/no/place"), str(path))


def read_names(path: Path, index: TarIndex, names: list[str]) -> dict[str, bytes | None]:
    """Read files of a tar by name, as a build does; None for those that are missing."""
    with LocalFile(str(path)) as file:
        pictures = TarPictures(file, index, array_of(names, pa.string()))
        rows = np.arange(len(names), dtype=np.int32)
        pictures.look(rows)
        return dict(zip(names, pictures.read(rows).to_pylist(), strict=True))


# Any small tar, against a plain loop that extracts it

Entry = tuple[str, str, str]  # kind, name, target
NAMES = ["a", "b", "d/a", "d/b", "d/e/a"]
TEXTS = [
    "a",
    "b",
    "./b",
    "../a",
    "../../a",
    "../../../a",
    "d/a",
    "../d/b",
    "e/a",
    "e//a",
    "/a",
    "..",
    ".",
    "d/../b",
    "x",
]
files = st.tuples(st.just("file"), st.sampled_from(NAMES), st.just(""))
hard_links = st.tuples(st.just("hard"), st.sampled_from(NAMES), st.sampled_from([*NAMES, "x", "/a", "../a", "./b"]))
soft_links = st.tuples(st.just("soft"), st.sampled_from(NAMES), st.sampled_from(TEXTS))
fifos = st.tuples(st.just("fifo"), st.sampled_from(NAMES), st.just(""))
KINDS = {"file": tarfile.REGTYPE, "hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}


def write(path: Path, entries: list[Entry], form: int) -> None:
    with tarfile.open(path, "w", format=form) as out:
        for k, (kind, name, target) in enumerate([*entries, ("file", "last", "")]):
            info = tarfile.TarInfo(f"./origin/{name}" if k % 2 else f"origin/{name}")
            data = content(k) if kind == "file" else b""
            info.type, info.size = KINDS[kind], len(data)
            info.linkname = f"origin/{target}" if kind == "hard" and target[0] not in "/." else target
            out.addfile(info, io.BytesIO(data))


def content(k: int) -> bytes:
    return b"content %d" % k


def extract(entries: list[Entry]) -> dict[str, bytes | None]:
    """Extract the entries in their order, as tar does: name -> content; None if it leads to no file."""
    nodes: dict[str, Entry | bytes | None] = {}
    for k, entry in enumerate(entries):
        kind, name, target = entry
        if kind == "hard":
            nodes[name] = nodes.get(target.removeprefix("./"))
        else:
            nodes[name] = content(k) if kind == "file" else entry if kind == "soft" else None

    def read(name: str) -> bytes | None:
        for _ in range(41):
            node = nodes.get(name)
            if not isinstance(node, tuple):
                return node
            if node[2].startswith("/"):
                return None
            # in the tar all is below origin/, so that one more step up leads out of it
            place = posixpath.normpath(posixpath.join("origin", posixpath.dirname(name), node[2]))
            name = place.removeprefix("origin/")
        return None

    return {name: read(name) for name in nodes}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(files, files, hard_links, soft_links, fifos), min_size=1, max_size=12),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT]),
    st.sampled_from([2048, 1 << 30]),
)
def test_names_stand_for_what_tar_extracts(tmp_path: Path, entries: list[Entry], form: int, segment: int) -> None:
    """Links, chains and circles of links, and repeated names give what an extraction gives, by any index."""
    path, out = tmp_path / "x.tar", tmp_path / "x.parquet"
    write(path, entries, form)
    expected = extract(entries)
    with pytest.MonkeyPatch.context() as patch:
        change_constant(patch, "SEGMENT", segment)
        index = open_index(path)
    assert read_names(path, index, list(expected)) == expected
    out.unlink(missing_ok=True)
    write_index(index.members, out)
    given_index = keep_index(read_index(str(out), "x"), Path("/proc/no/place"), "x")
    assert given_index.members.equals(index.members, check_metadata=True)
    assert read_names(path, given_index, list(expected)) == expected
    members = index.members.to_pylist()
    assert [m["name"] for m in members if not m.get("refused")] == sorted(
        (name for name, data in {**expected, "last": b""}.items() if data is not None),
        key=[m["name"] for m in members].index,
    )


def test_a_chain_of_many_links(tmp_path: Path) -> None:
    """A chain of forty links is followed, a longer one is refused."""
    chain: list[Entry] = [("soft", f"link{k}", f"link{k + 1}") for k in range(41)]
    write(tmp_path / "x.tar", [*chain, ("file", "link41", "")], tarfile.GNU_FORMAT)
    found = read_names(tmp_path / "x.tar", open_index(tmp_path / "x.tar"), ["link0", "link1"])
    assert found == {"link0": None, "link1": content(41)}


def test_a_target_that_is_not_utf8(tmp_path: Path) -> None:
    """A link to a name that is no text leads to no file."""
    with tarfile.open(tmp_path / "x.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as out:
        for name, target in (("a", "caf\xe9"), ("caf\xe9", None), ("b", None)):
            info = tarfile.TarInfo(f"origin/{name}")
            info.size = 0 if target else 4
            info.type, info.linkname = (tarfile.SYMTYPE, target) if target else (tarfile.REGTYPE, "")
            out.addfile(info, io.BytesIO(b"" if target else b"data"))
    index = open_index(tmp_path / "x.tar")
    assert read_names(tmp_path / "x.tar", index, ["a", "b"]) == {"a": None, "b": b"data"}
    reason = "it is a symbolic link and leads nowhere in the tar: its target is not UTF-8"
    assert index.why_refused(int(index.find(array_of(["a"], pa.string()))[0])) == reason


# The tar of the machine, against its own extraction


def link_hard(tree: Path) -> None:
    os.link(tree / "bbc/images/0000/000.jpg", tree / "guardian/hard.jpg")
    os.link(tree / "bbc/images/0000/000.jpg", tree / f"{'long ' * 30}hard.jpg")


def link_soft(tree: Path) -> None:
    (tree / "guardian/soft.jpg").symlink_to("../bbc/images/0000/001.jpg")
    (tree / "guardian/chain.jpg").symlink_to("soft.jpg")
    os.link(tree / "guardian/soft.jpg", tree / "bbc/soft.jpg", follow_symlinks=False)


def make_odd(tree: Path) -> None:
    os.mkfifo(tree / "fifo")
    (tree / "gone.jpg").symlink_to("nothing.jpg")
    (tree / "out.jpg").symlink_to("/etc/hostname")
    (tree / "new\nline.jpg").write_bytes(b"odd")


def make_sparse(tree: Path) -> None:
    with open(tree / "sparse.bin", "wb") as out:
        for k in range(30):  # more holes than a header has places for
            out.seek(k * 300_000)
            out.write(b"data")


def do_nothing(tree: Path) -> None:
    pass


CASES: dict[str, tuple[list[Callable[[Path], None]], list[str], set[str]]] = {
    "links": ([link_hard, link_soft], [], set()),
    "links, v7": ([link_soft], ["--format=v7"], set()),
    "links, ustar": ([link_soft], ["--format=ustar"], set()),
    "links, posix": ([link_hard, link_soft], ["--format=posix"], set()),
    "links, with targets": ([link_hard, link_soft], ["-h"], set()),
    "links, as files": ([link_hard, link_soft], ["--hard-dereference"], set()),
    "odd members": ([make_odd, link_hard], [], {"gone.jpg", "out.jpg"}),
    "a sparse file": ([make_sparse, link_hard], ["--sparse"], {"sparse.bin"}),
    "a sparse file, posix": ([make_sparse, link_hard], ["--sparse", "--format=posix"], {"sparse.bin"}),
    "a sparse file, posix 0.1": (
        [make_sparse], ["--sparse", "--format=posix", "--sparse-version=0.1"], {"sparse.bin"},
    ),
    "a label": ([link_hard], ["-V", "VisualNews"], set()),
    "extended attributes": ([link_hard], ["--xattrs", "--acls", "--format=posix"], set()),
    "global fields": ([link_hard], ["--format=posix", "--pax-option=globexthdr.name=x,comment:=hi"], set()),
    "an incremental archive": ([link_hard], ["-G"], set()),
    "small records": ([do_nothing], ["-b", "1"], set()),
}  # fmt: skip


@gnu_tar
@pytest.mark.parametrize("what", CASES)
def test_what_gnu_tar_writes(tmp_path: Path, what: str) -> None:
    """Of each name the index gives what `tar -x` extracts; sparse files and links that lead out have no data."""
    changes, options, refused = CASES[what]
    tree, path, out = tmp_path / "origin", tmp_path / "x.tar", tmp_path / "out"
    make_tree(tree)
    for change in changes:
        change(tree)
    run_tar(*options, "-cf", path, "origin", cwd=tmp_path)
    names = extracted(path, out)
    index = open_index(path)
    assert index.damage is None
    wanted = {name: None if name in refused else (out / "origin" / name).read_bytes() for name in names}
    assert read_names(path, index, names) == wanted


@gnu_tar
def test_members_appended_by_gnu_tar(tmp_path: Path) -> None:
    """A file that was appended again counts; a hard link to its earlier version keeps that, as in an extraction."""
    tree, path, out = tmp_path / "origin", tmp_path / "x.tar", tmp_path / "out"
    make_tree(tree)
    link_hard(tree)
    run_tar("-cf", path, "origin", cwd=tmp_path)
    for k in range(2):
        (tree / "bbc/images/0000/000.jpg").unlink()
        (tree / "bbc/images/0000/000.jpg").write_bytes(b"version %d" % k)
        run_tar("-rf", path, "origin/bbc/images/0000/000.jpg", cwd=tmp_path)
    names = extracted(path, out)
    index = open_index(path)
    found = read_names(path, index, names)
    assert found == {name: (out / "origin" / name).read_bytes() for name in names}
    assert found["bbc/images/0000/000.jpg"] == b"version 1"
    assert found["guardian/hard.jpg"] == b"picture 0"


def make_tree(tree: Path) -> None:
    for folder in ("bbc/images/0000", "guardian"):
        (tree / folder).mkdir(parents=True)
    for k in range(3):
        (tree / f"bbc/images/0000/{k:03d}.jpg").write_bytes(b"picture %d" % k)


def run_tar(*arguments: object, cwd: Path) -> None:
    subprocess.run([GNU_TAR, *map(str, arguments)], cwd=cwd, check=True, capture_output=True)


def extracted(path: Path, out: Path) -> list[str]:
    """Extract a tar; the names of its files and links that a picture may have."""
    out.mkdir()
    run_tar("-xf", path, cwd=out)
    places = sorted(place for place in (out / "origin").rglob("*") if place.is_symlink() or place.is_file())
    return [place.relative_to(out / "origin").as_posix() for place in places if "\n" not in place.name]
