"""Locations of pictures: several at once, zips, tars in parts, other layouts, and links."""

from __future__ import annotations

import functools
import gzip
import itertools
import os
import random
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from support.constants import change_constant
from support.reading import expected_splits, load, raw_splits
from support.remote import make_index, refusal, serving
from support.sampling import crossed
from support.world import World, paths_of

from _newsclippings.cli.commands import main
from _newsclippings.config import Request
from _newsclippings.inputs import find_inputs
from _newsclippings.pictures.layout import Layout, find_layout
from _newsclippings.storage import identify, open_random, stamp
from _newsclippings.storage.zips import ZipArchive, ZipStream
from _newsclippings.tar import index as tar_index
from newsclippings import (
    BadFileError,
    BadTarError,
    ConfigError,
    DataNotFoundError,
    MissingDataError,
    NewsCLIPpings,
    UnsafePathError,
    verify,
)


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def outlet_zips(world: World, folder: Path, outlets: Iterable[str] | None = None) -> list[str]:
    """Write a zip for each outlet, as DGM4 does: `<outlet>/NNNN/NNN.jpg`."""
    by_outlet: dict[str, dict[str, bytes]] = {}
    for path, data in world.pictures.items():
        by_outlet.setdefault(path.split("/")[0], {})[path.replace("/images/", "/")] = data
    chosen = by_outlet if outlets is None else outlets
    return [str(write_zip(folder / f"{outlet}.zip", by_outlet[outlet])) for outlet in chosen]


def without_pictures(new_world: Callable[..., World]) -> World:
    """A world that has data.json and no picture below data_dir."""
    world = new_world(tar=False)
    for entry in world.origin.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
    return world


def test_zips_and_half_a_tar_give_the_union(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Zips of two outlets and a tar of the others give every picture, in a build and in a stream."""
    world = without_pictures(new_world)
    outlets = sorted({path.split("/")[0] for path in world.pictures})
    zips = outlet_zips(world, tmp_path, outlets[:2])
    every = world.pictures
    world.pictures = {path: data for path, data in every.items() if path.split("/")[0] not in outlets[:2]}
    world.write_tar(tmp_path / "half.tar", data_json="absent")
    world.pictures = every
    where = [*zips, str(tmp_path / "half.tar")]
    assert raw_splits(load(world, visual_news=where)) == expected_splits(world)
    assert raw_splits(load(world, visual_news=where, num_proc=2, download_mode="force_redownload")) == expected_splits(
        world
    )
    assert raw_splits(load(world, visual_news=where, streaming=True)) == expected_splits(world)


def test_a_folder_of_zips_is_all_of_them(new_world: Callable[..., World], tmp_path: Path) -> None:
    """visual_news= may name the folder that has one zip an outlet."""
    world = without_pictures(new_world)
    outlet_zips(world, tmp_path / "zips")
    assert raw_splits(load(world, visual_news=str(tmp_path / "zips"))) == expected_splits(world)


def test_the_first_location_wins(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A picture that two locations have comes from the first; one that it lacks comes from the next."""
    world = without_pictures(new_world)
    first, second = paths_of(world)[:2]
    other = {f"origin/{first}": b"\xff\xd8 other \xff\xd9"}
    rest = write_zip(tmp_path / "rest.zip", {f"origin/{path}": data for path, data in world.pictures.items()})
    over = write_zip(tmp_path / "over.zip", other)
    for where, expected in (([over, rest], other[f"origin/{first}"]), ([rest, over], world.pictures[first])):
        rows = [row for split in raw_splits(load(world, visual_news=list(map(str, where)))).values() for row in split]
        got = {row["image_path"]: row["image"] for row in rows}
        assert got[first]["bytes"] == expected
        assert got[second]["bytes"] == world.pictures[second]


LAYOUTS = ["origin/{o}/images/{r}", "data/visual_news/origin/{o}/images/{r}", "VisualNews/{o}/images/{r}",
           "home/x/origin/{o}/photos/{r}", "{o}/{r}", "a/b/{o}/{r}"]  # fmt: skip


@pytest.mark.parametrize(("kind", "layout"), crossed(["zip", "stored zip", "folder"], LAYOUTS))
def test_layouts(new_world: Callable[..., World], tmp_path: Path, kind: str, layout: str) -> None:
    """Leading folders are found by looking, and `images` may be dropped or renamed."""
    world = without_pictures(new_world)
    files = {}
    for path, data in world.pictures.items():
        outlet, _, rest = path.split("/", 2)
        files[layout.format(o=outlet, r=rest)] = data
    place = tmp_path / ("x.zip" if kind != "folder" else "x")
    if kind == "folder":
        for name, data in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(data)
    else:
        write_zip(place, files, zipfile.ZIP_STORED if kind == "stored zip" else zipfile.ZIP_DEFLATED)
    got = raw_splits(load(world, visual_news=str(place), splits=["test"]))["test"]
    assert got == expected_splits(world)["test"]


def test_find_layout_agrees_with_a_search_of_all(tmp_path: Path) -> None:
    """The layout that is found has as many needed pictures as the best of all that any member has."""
    rng = random.Random(5)
    for _ in range(60):
        paths = sorted(
            {f"{rng.choice(['bbc', 'guardian'])}/images/{rng.randrange(4)}/{rng.randrange(9)}.jpg" for _ in range(20)}
        )
        names = set()
        for prefix, images in [
            (rng.choice(["", "a/", "a/b/", "bbc/"]), rng.choice(["images/", "", "photos/"])) for _ in range(3)
        ]:
            some = rng.sample(paths, rng.randrange(len(paths)))
            names |= {prefix + path.replace("images/", images) for path in some}

        def find(these: pa.Array, names: set[str] = names) -> np.ndarray:
            return np.array([name in names for name in these.to_pylist()], bool)

        prefixes = {"/".join(n.split("/")[:k]) + "/" * (k > 0) for n in names for k in range(4)}
        options = [Layout(p, i) for p, i in itertools.product({"", *prefixes}, ["images", "photos", None])]
        best = max(int(find(layout.names(pa.array(paths))).sum()) for layout in options)
        found = find_layout(pa.array(paths), find, functools.partial(pa.array, sorted(names), pa.string()))
        usual = int(find(pa.array(paths)).sum())
        if 2 * usual >= len(paths):
            assert found == Layout()
        elif found is None:
            assert best == 0
        else:
            assert int(find(found.names(pa.array(paths))).sum()) == best


def test_a_location_with_a_few_pictures_has_a_layout() -> None:
    """The layout is found, too, where a location has so few pictures that a sample of the needed ones has none."""
    paths = pa.array([f"bbc/images/{k // 1000:04}/{k % 1000:03}.jpg" for k in range(5000)])
    names = [f"mended/{paths[k]}" for k in (1, 4998)]

    def find(these: pa.Array) -> np.ndarray:
        return np.isin(these.to_pylist(), names)

    assert find_layout(paths, find, lambda: pa.array(names)) == Layout("mended/")


def test_a_tar_of_absolute_names_gets_a_remedy(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Names that lead out of a tar (tar -P) are not mended by another download."""
    world = without_pictures(new_world)
    world.write_tar(tmp_path / "x.tar", prefix="/home/x/origin/")
    with refusal(BadTarError) as said:
        load(world, visual_news=str(tmp_path / "x.tar"))
    assert said[0].endswith("Extract it, and pass the folder.")


@pytest.mark.parametrize("numbers", [["aa", "ab", "ac"], ["001", "002", "003"], ["00", "01", "02"]])
def test_a_tar_in_parts(new_world: Callable[..., World], tmp_path: Path, numbers: list[str]) -> None:
    """One part or a folder of parts is read as the whole tar; a part that is missing is named."""
    world = without_pictures(new_world)
    world.write_tar(tmp_path / "whole")
    data, parts = (tmp_path / "whole").read_bytes(), tmp_path / "parts"
    parts.mkdir()
    names = [parts / f"origin.tar.{number}" for number in numbers]
    for k, name in enumerate(names):
        name.write_bytes(data[k * 7777 : (k + 1) * 7777 if k < 2 else None])
    for where in (parts, names[0], names[1]):
        assert raw_splits(load(world, visual_news=str(where))) == expected_splits(world)
    last = names[2].rename(tmp_path / "last")
    with refusal(BadTarError) as said:
        load(world, visual_news=str(parts))
    assert names[2].name in said[0]
    last.rename(names[2])
    names[1].unlink()
    with refusal(DataNotFoundError) as said:
        load(world, visual_news=str(names[0]))
    assert f"{names[1]} is missing" in said[0]


def test_remote_zips_and_parts(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A zip and a tar in parts are read from a server by ranges."""
    world = without_pictures(new_world)
    files = {f"x/origin/{path}": data for path, data in world.pictures.items()}
    write_zip(tmp_path / "x.zip", files)
    world.write_tar(tmp_path / "whole")
    data = (tmp_path / "whole").read_bytes()
    for k, name in enumerate(("aa", "ab")):
        (tmp_path / f"o.tar.part_{name}").write_bytes(data[k * 9999 : (k + 1) * 9999 if k < 1 else None])
    with serving(tmp_path) as origin:
        for name in ("x.zip", "o.tar.part_aa"):
            got = raw_splits(load(world, visual_news=origin.url(tmp_path / name), splits=["test"]))
            assert got["test"] == expected_splits(world)["test"]


@pytest.mark.parametrize("ending", ["bak", "old", "2021", "asc"])
def test_endings_that_look_like_parts(new_world: Callable[..., World], tmp_path: Path, ending: str) -> None:
    """A tar with such an ending is a whole tar, and a file with one beside a tar is no part of it."""
    world = without_pictures(new_world)
    named, beside = tmp_path / f"origin.tar.{ending}", tmp_path / "folder" / f"VisualNews.tar.{ending}"
    world.write_tar(named)
    world.write_tar(beside.with_suffix(""))
    beside.write_bytes(b"notes")
    with serving(tmp_path) as origin:
        for where in (str(named), origin.url(named), str(beside.parent)):
            assert find_inputs(Request(data_dir=str(world.root), visual_news=where)).tar == where.replace(
                str(beside.parent), str(beside.with_suffix(""))
            )
            assert raw_splits(load(world, visual_news=where, splits=["test"]))["test"] == world.rows(split="test")


def write_parts(world: World, folder: Path, sizes: Iterable[int] = (20_000, 20_000, 20_000)) -> list[Path]:
    """Write the tar of a world in parts of these sizes, and a last one with the rest."""
    world.write_tar(folder / "whole")
    cuts = [0, *itertools.accumulate(sizes), (folder / "whole").stat().st_size]
    data, parts = (folder / "whole").read_bytes(), []
    for (low, high), letter in zip(itertools.pairwise(cuts), "abcdefgh", strict=False):
        parts.append(folder / f"o.tar.part_a{letter}")
        parts[-1].write_bytes(data[low:high])
    return parts


def test_parts_are_read_as_one_file(tmp_path: Path) -> None:
    """Any range of a file in parts of any sizes, also empty ones, is that of the whole file."""
    rng = random.Random(1)
    data = rng.randbytes(3000)
    for trial in range(40):
        cuts = [0, *sorted(rng.randrange(3001) for _ in range(rng.randrange(6))), 3000]
        for k, (low, high) in enumerate(itertools.pairwise(cuts), 1):
            (tmp_path / f"{trial}.tar.{k:03d}").write_bytes(data[low:high])
        file = open_random(str(tmp_path / f"{trial}.tar.001"))
        skipping = file.skipping_reader()
        for _ in range(40):
            start, size = rng.randrange(3200), rng.randrange(2000)
            assert file.read_at(start, size) == skipping(start, size) == data[start : start + size]
            if start + size <= 3000:
                into = bytearray(size // 3), bytearray(size - size // 3)
                file.read_into(start, memoryview(into[0]), memoryview(into[1]))
                assert b"".join(into) == data[start : start + size]


def test_more_parts_than_files_may_be_open(tmp_path: Path) -> None:
    """The limit on open files is raised for many parts, as far as the system permits."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2000:
        pytest.skip("the system permits too few open files")
    for k in range(600):
        (tmp_path / f"x.tar.{k:04d}").write_bytes(b"part")
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        assert open_random(str(tmp_path / "x.tar.0000")).size == 2400
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_index_of_parts(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Any of the parts, local or remote, gives the index of the whole tar, with checksums."""
    parts = write_parts(without_pictures(new_world), tmp_path)
    with serving(tmp_path) as origin:
        places = [str(tmp_path / "whole"), str(parts[0]), str(parts[2]), origin.url(parts[0]), origin.url(parts[2])]
        for k, place in enumerate(places):
            done = CliRunner().invoke(main, ["index", place, "--checksums", "-o", str(tmp_path / f"{k}.parquet")])
            assert done.exit_code == 0, done.output
    assert len({(tmp_path / f"{k}.parquet").read_bytes() for k in range(len(places))}) == 1


def test_each_remote_part_identifies_the_tar(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A later part that changes during a build is an error, and afterwards its rows are those of the new tar."""
    world = without_pictures(new_world)
    parts = write_parts(world, tmp_path)
    with serving(tmp_path) as origin:
        place = origin.url(parts[0])
        before = stamp(place), identify(place, False)
        os.utime(parts[2], (1, 1))
        assert (stamp(place) == before[0], identify(place, False) == before[1]) == (False, True)
        inputs = find_inputs(Request(data_dir=str(world.root), visual_news=place))
        inputs.identity(place)
        parts[3].write_bytes(parts[3].read_bytes()[:-1] + b"!")
        with pytest.raises(BadFileError, match="changed since the build began"):
            inputs.check_unchanged([place])


def test_what_is_fetched_of_remote_parts_is_kept(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures in remote parts are fetched once, as of a tar in one piece."""
    change_constant(monkeypatch, "HEAD", 1024)
    world = without_pictures(new_world)
    parts = write_parts(world, tmp_path)
    needed = sum(len(world.pictures[path]) for path in {row["image_path"] for row in world.rows(split="test")})
    sent = list[int]()
    with serving(tmp_path) as origin:
        index = make_index(origin.url(parts[0]), tmp_path / "x.parquet")
        for _ in range(2):
            origin.forget()
            options: dict[str, Any] = {"visual_news_index": index, "splits": ["test"]}
            options |= {"download_mode": "force_redownload", "visual_news": origin.url(parts[0])}
            got = raw_splits(load(world, **options))
            assert got["test"] == world.rows(split="test")
            sent.append(sum(origin.sent(part) for part in parts))
    assert sent[0] - sent[1] > needed


def test_a_gap_in_remote_parts(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first missing part is named; if no part behind a long gap is asked for, the tar is damaged."""
    world = without_pictures(new_world)
    parts = write_parts(world, tmp_path)
    parts[1].unlink()
    parts[2].unlink()
    with serving(tmp_path) as origin:
        first, second, _, last = map(origin.url, parts)
        with refusal(DataNotFoundError) as said:
            load(world, visual_news=first)
        assert said == [f"{second} is missing, but {last} is there. Put it beside the others."]
        change_constant(monkeypatch, "PROBED", 2)
        with refusal(BadTarError) as said:
            load(world, visual_news=first)
        assert "parts: 1; after them comes o.tar.part_ab): it is damaged at byte" in said[0]
        builder = NewsCLIPpings(data_dir=str(world.root), visual_news=first, missing="null")
        builder.download_and_prepare()
        assert "it is damaged at byte" in builder.join_reports["test"]["damage"]


def test_parts_that_were_touched_keep_their_index(
    new_world: Callable[..., World], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rights of a part, or a copy of all, do not index them again."""
    world = without_pictures(new_world)
    parts = write_parts(world, tmp_path)
    load(world, visual_news=str(parts[0]), splits=["test"])
    parts[1].chmod(0o600)
    (tmp_path / "copy").mkdir()
    copies = [Path(shutil.copy(part, tmp_path / "copy")) for part in parts]
    monkeypatch.setattr(tar_index, "index_tar", None)
    for first in (parts[0], copies[0]):
        got = raw_splits(load(world, visual_news=str(first), splits=["validation"]))
        assert got["validation"] == world.rows(split="validation")


def test_half_of_a_cut_tar_and_another(new_world: Callable[..., World], tmp_path: Path) -> None:
    """What a cut tar has lost comes from the next location, in any kind of build and in workers of a DataLoader."""
    data_loader = pytest.importorskip("torch.utils.data").DataLoader
    world = without_pictures(new_world)
    world.write_tar(tmp_path / "a.tar", data_json="absent")
    world.write_tar(tmp_path / "b.tar", data_json="absent")
    os.truncate(tmp_path / "a.tar", (tmp_path / "a.tar").stat().st_size // 2 + 100)
    with serving(tmp_path) as origin:
        where = [str(tmp_path / "a.tar"), origin.url(tmp_path / "b.tar")]
        for missing in ("error", "null", "drop_pair"):
            assert raw_splits(load(world, visual_news=where, missing=missing)) == expected_splits(world)
        options: dict[str, Any] = {"visual_news": where, "download_mode": "force_redownload"}
        assert raw_splits(load(world, **options, num_proc=2)) == expected_splits(world)
        for streaming in (False, True):
            data = load(world, visual_news=where, streaming=streaming, split="train")
            data = data.cast_column("image", datasets.Image(decode=False))
            rows = [row for batch in data_loader(data, 4, num_workers=2, collate_fn=list) for row in batch]
            assert sorted(rows, key=lambda row: row["index"]) == world.rows(split="train")


def test_data_json_in_a_zip(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Captions come from data.json in the zip, below its leading folders."""
    world = new_world(tar=False, metadata=False)
    files = {f"a/origin/{path}": data for path, data in world.pictures.items()}
    files["a/origin/data.json"] = world.data_json_bytes()
    write_zip(tmp_path / "x.zip", files)
    shutil.rmtree(world.origin)
    assert raw_splits(load(world, visual_news=str(tmp_path / "x.zip"))) == expected_splits(world)


def forge(path: Path, size: int) -> None:
    """Write another unpacked size into the directory of a zip, for its first member."""
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", size)
    path.write_bytes(data)


@pytest.mark.parametrize(("size", "says"), [(200 << 20, "claim to unpack"), (3, "not what its directory says")])
def test_forged_sizes_and_bombs_are_refused(tmp_path: Path, size: int, says: str) -> None:
    """A member that unpacks to more than a picture does, or to another size than it says, is an error."""
    path = write_zip(tmp_path / "x.zip", {"a.jpg": bytes(5000)})
    forge(path, size)
    with pytest.raises(BadFileError, match=says):
        ZipArchive(str(path)).read(0)
    bomb = write_zip(tmp_path / "b.zip", {"a.jpg": bytes(20 << 20)})
    with pytest.raises(BadFileError, match="claim to unpack"):
        ZipArchive(str(bomb)).read(0)
    forge(bomb, 100)
    with pytest.raises(BadFileError, match="not what"):
        ZipArchive(str(bomb)).read(0)
    stream = ZipArchive(str(bomb)).open(0)
    assert isinstance(stream, ZipStream)
    with pytest.raises(BadFileError, match="not what"):
        stream.readall()


def test_damaged_zips_are_named(tmp_path: Path) -> None:
    """A cut zip, a directory of a forged length and a changed byte are errors that name the zip."""
    path = write_zip(tmp_path / "x.zip", {"a.jpg": os.urandom(5000), "b.jpg": b"b"}, zipfile.ZIP_STORED)
    data = path.read_bytes()
    for broken in (data[:-30], data[:-10] + struct.pack("<I", 1 << 31) + data[-6:], b"", data[:40]):
        path.write_bytes(broken)
        with pytest.raises(BadFileError, match=r"x\.zip: the zip is damaged"):
            ZipArchive(str(path)).read(0)
    path.write_bytes(data[:100] + b"!!!!" + data[104:])
    with pytest.raises(BadFileError, match="not what"):
        ZipArchive(str(path)).read(0)
    for cut in range(0, len(data), 61):  # no other error than ours
        changed = bytearray(data)
        changed[cut] ^= 0xFF
        path.write_bytes(changed)
        archive = ZipArchive(str(path))
        try:
            for number in range(len(archive.members)):
                archive.read(number)
        except BadFileError:
            pass


def test_what_a_zip_has_and_cannot_be_read_is_said(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Pictures that are encrypted, or packed by another method, are named with the reason and the remedy."""
    world = without_pictures(new_world)
    files = {f"origin/{path}": data for path, data in world.pictures.items()}
    packed = write_zip(tmp_path / "lzma.zip", files, zipfile.ZIP_LZMA)
    locked = write_zip(tmp_path / "locked.zip", files)
    data = bytearray(locked.read_bytes())
    for at in (k for k in range(len(data)) if data[k : k + 4] == b"PK\1\2"):
        data[at + 8] |= 1
    locked.write_bytes(data)
    for path, why in ((packed, "it is packed as LZMA, not deflated or stored"), (locked, "it is encrypted")):
        with refusal() as said:
            load(world, visual_news=str(path))
        assert f".jpg (row 0: {why})" in said[0]
        more = f"{path} has no file; {len(files)} more that cannot be read in place, the first "
        assert more in said[0]
        assert f": {why}. Extract it, and pass the folder." in said[0]
    absolute = write_zip(tmp_path / "absolute.zip", {f"/home/x/{name}": data for name, data in files.items()})
    with refusal() as said:
        load(world, visual_news=str(absolute))
    assert ": it is absolute. Extract it, and pass the folder." in said[0]


def test_a_zip_in_parts_of_its_own_gets_the_command(tmp_path: Path) -> None:
    """The last part of a split zip (`zip -s`) is recognised, and the error has the command that joins the parts."""
    path = write_zip(tmp_path / "x.zip", {"a.jpg": b"a"})
    data = bytearray(path.read_bytes())
    data[-18] = 3  # the number of this part, from 0 on
    path.write_bytes(data)
    with pytest.raises(BadFileError, match=r"the last of 4 parts of a zip .* Join them: zip -s 0 "):
        ZipArchive(str(path)).read(0)


def test_a_zip_by_another_name_is_recognised(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A zip whose name says nothing, and one that is to be indexed, get a remedy that works."""
    world = without_pictures(new_world)
    plain = write_zip(tmp_path / "download", {f"origin/{path}": data for path, data in world.pictures.items()})
    with refusal(BadTarError) as said:
        load(world, visual_news=str(plain))
    assert "is a zip, not a tar. It is read in place" in said[0]
    named = plain.rename(tmp_path / "download.zip")
    assert raw_splits(load(world, visual_news=str(named))) == expected_splits(world)
    done = CliRunner().invoke(main, ["index", str(named), "-o", str(tmp_path / "i.parquet")])
    assert "needs no index: pass it as --visual-news, under a name that ends in .zip." in done.output


def test_the_command_for_a_remote_compressed_tar(world: World) -> None:
    """No command is given that opens a URL as a file."""
    with pytest.raises(BadTarError, match=r"Download it, and decompress it once, .*: gunzip O\.tar\.gz$"):
        find_inputs(Request(data_dir=str(world.root), visual_news="https://host.invalid/a/O.tar.gz?sig=1"))


@pytest.mark.parametrize(("name", "tool"), [("o.tar.gz", "gunzip"), ("o.tgz", "gunzip"), ("o.tar.xz", "unxz"),
                                            ("o.tar.bz2", "bunzip2"), ("o.tar.zst", "unzstd")])  # fmt: skip
def test_compressed_tars_get_the_command(world: World, tmp_path: Path, name: str, tool: str) -> None:
    """The error of a compressed tar has the one command that helps."""
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(BadTarError, match=f"{tool} {tmp_path}/{name}"):
        find_inputs(Request(data_dir=str(world.root), visual_news=str(tmp_path / name)))


@pytest.mark.parametrize("where", ["data_dir", "only data_dir", "visual_news"])
def test_a_compressed_tar_in_a_folder_gets_the_command(
    new_world: Callable[..., World], tmp_path: Path, where: str
) -> None:
    """A compressed tar that is found where VisualNews is looked for is named, with a command after which all works."""
    world = new_world(folder=False)
    folder = world.tar.parent if where != "visual_news" else tmp_path / "in"
    folder.mkdir(exist_ok=True)
    packed = folder / "origin.tar.gz"
    packed.write_bytes(gzip.compress(world.tar.read_bytes()))
    world.tar.unlink()
    if where == "only data_dir":
        shutil.rmtree(world.root / "news_clippings")
    places = {"visual_news": str(folder)} if where == "visual_news" else {}
    with refusal(BadTarError) as said:
        load(world, **places)
    command = said[0].rpartition(": ")[2]
    assert command == f"gunzip {packed}"
    if where != "only data_dir":
        subprocess.run(command, shell=True, check=True)
        assert raw_splits(load(world, **places)) == expected_splits(world)


def test_a_compressed_tar_in_parts_gets_the_command(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Parts of a compressed tar are joined and decompressed by the command in the error."""
    world = without_pictures(new_world)
    world.write_tar(tmp_path / "whole")
    data = gzip.compress((tmp_path / "whole").read_bytes())
    parts = tmp_path / "some parts"
    parts.mkdir()
    for k, name in enumerate(("aa", "ab")):
        (parts / f"origin.tar.gz.part_{name}").write_bytes(data[k * 5000 : (k + 1) * 5000 if k < 1 else None])
    for where in (parts, parts / "origin.tar.gz.part_ab"):
        with refusal(BadTarError) as said:
            load(world, visual_news=str(where))
        command = said[0].rpartition(": ")[2]
        subprocess.run(command, shell=True, check=True)
        assert raw_splits(load(world, visual_news=str(parts / "origin.tar"), splits=["test"]))
        (parts / "origin.tar").unlink()


def test_links_are_followed_below_the_named_root(new_world: Callable[..., World], tmp_path: Path) -> None:
    """Links of DVC are refused with the options that help; these options make it work, and no more than that."""
    world, store = new_world(tar=False), tmp_path / ".dvc/cache"
    store.mkdir(parents=True)
    for k, path in enumerate(world.pictures):
        (world.origin / path).rename(store / str(k))
        (world.origin / path).symlink_to(store / str(k))
    with refusal(UnsafePathError) as said:
        load(world)
    assert f"links='follow' with links_root={str(store)!r}" in said[0]
    got = load(world, links="follow", links_root=str(store))
    assert raw_splits(got) == expected_splits(world)
    first = world.origin / paths_of(world)[0]
    target = first.readlink()
    target.rename(tmp_path / "away")
    with refusal(MissingDataError) as said:
        load(world, links="follow", links_root=str(store))
    assert "it is a link to a file that is not there: fetch its content" in said[0]
    first.unlink()
    first.symlink_to("/etc/passwd")
    with refusal(UnsafePathError):
        load(world, links="follow", links_root=str(store))
    with pytest.raises(ConfigError, match="belong together"):
        Request(links="follow")


def test_what_is_there_is_named_when_pictures_are_missing(new_world: Callable[..., World], tmp_path: Path) -> None:
    """The error lists five names of each location, and says that another can be added."""
    world = without_pictures(new_world)
    zips = outlet_zips(world, tmp_path)
    other = write_zip(tmp_path / "other.zip", {f"cat{k}.jpg": b"x" for k in range(7)})
    with refusal() as said:
        load(world, visual_news=[zips[0], str(other)])
    assert f"{other} has 7 files: cat0.jpg, cat1.jpg, cat2.jpg, cat3.jpg, cat4.jpg, ..." in said[0]
    assert "visual_news= takes several" in said[0]


def test_a_folder_without_pictures_is_named(new_world: Callable[..., World], tmp_path: Path) -> None:
    """A folder that has no pictures, as one that is not mounted, is listed beside the location that has some."""
    world, empty = without_pictures(new_world), tmp_path / "mnt"
    empty.mkdir()
    zips = outlet_zips(world, tmp_path)
    with refusal() as said:
        load(world, visual_news=[str(empty), zips[0]])
    assert f"{empty} is a folder without guardian, bbc, usa_today, washington_post; it is empty" in said[0]
    assert raw_splits(load(world, visual_news=[str(empty), *zips])) == expected_splits(world)
    report = verify(str(world.root), [str(empty), *zips], configs="merged_balanced")
    assert report.counts["merged_balanced"]["test"]["locations"][str(empty)] == 0


def test_verify_counts_per_location(new_world: Callable[..., World], tmp_path: Path) -> None:
    """verify counts the needed pictures that each location has."""
    world = without_pictures(new_world)
    zips = outlet_zips(world, tmp_path)
    report = verify(str(world.root), zips[:1], configs="merged_balanced")
    needed = {row["image_path"] for row in world.rows("merged_balanced", "test")}
    outlet = Path(zips[0]).stem
    here = sum(path.startswith(f"{outlet}/") for path in needed)
    assert report.counts["merged_balanced"]["test"]["locations"] == {zips[0]: here, "missing": len(needed) - here}
    done = CliRunner().invoke(
        main, ["verify", "--data-dir", str(world.root), *(x for z in zips for x in ("--visual-news", z))]
    )
    assert done.exit_code == 0, done.output
    assert f"of the needed pictures are in {zips[0]}" in done.output
    arguments = ["--data-dir", str(world.root), "--visual-news", zips[0], "--config", "merged_balanced"]
    done = CliRunner().invoke(main, ["info", *arguments])
    assert f"test                {here} of the needed pictures are in {zips[0]}" in done.output
