"""Hostile and unusual pictures: what `verify` and `check_images=True` report, by header and by decoding."""

from __future__ import annotations

import io
import os
import random
import re
import struct
import subprocess
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
from support.reading import expected_splits, load, raw_splits
from support.world import SPLITS, World, paths_of

import newsclippings
from _newsclippings.pictures.check import inspect_image
from newsclippings import MissingDataError, NewsCLIPpings

PIXELS = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
IMAGE = PIL.Image.fromarray(PIXELS)


def picture(kind: str = "JPEG", image: PIL.Image.Image = IMAGE, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


JPEG, PNG, BMP = picture(), picture("PNG"), picture("BMP")
GIF, WEBP = picture("GIF", save_all=True, append_images=[IMAGE.rotate(90)] * 3), picture("WEBP")
SIXTEEN = picture("PNG", PIL.Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 200))
SIZE = JPEG.index(b"\xff\xc0") + 5  # the place of a JPEG's size


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims this size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    return JPEG[:SIZE] + struct.pack(">HH", height, width) + JPEG[SIZE + 4 :]


def turned(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


TEXTS = b"".join(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900_000))) for _ in range(90))
OTHERS = "no JPEG or PNG or WEBP or GIF or BMP; it begins with '"
HUGE = "exceeds limit of 178956970 pixels"
LARGE = "8001 x 8001 pixels, more than 64,000,000"
NO_END = "bytes without an end-of-image marker"
HEADER = "but its header cannot be read"

# name -> (bytes, problem, message); a star marks those that the header does not show
BAD: dict[str, tuple[bytes, str, str]] = {
    "one byte": (b"\xff", "no_picture", OTHERS + r"\xff'"),
    "a web page": (b"<!DOCTYPE html><html><head><title>404", "no_picture", "an HTML page"),
    "a server's XML": (b'<?xml version="1.0"?><Error/>', "no_picture", "an XML page"),
    "a server's JSON": (b'{"error": "not found"}', "no_picture", OTHERS + '{"error"'),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "no_picture", "a Git LFS pointer"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "no_picture", OTHERS + "<svg xml"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no_picture", OTHERS + "%!PS-Ado"),
    "PDF": (b"%PDF-1.4\n", "no_picture", OTHERS + "%PDF-1.4"),
    "TIFF": (picture("TIFF"), "no_picture", OTHERS + "II*"),
    "gzip": (b"\x1f\x8b\x08" + bytes(90), "no_picture", "a gzip archive"),
    "blanks": (b" " * 900, "no_picture", OTHERS + "        '"),
    "zeros": (bytes(900), "no_picture", OTHERS + r"\x00"),
    "a line before": (b"\n" + JPEG, "no_picture", OTHERS + r"\n\xff\xd8"),
    "half": (JPEG[: len(JPEG) // 2], "truncated", NO_END),
    "all but its end": (JPEG[:-2], "truncated", f"{len(JPEG) - 2:,} {NO_END}"),
    "half a progressive one": (picture(progressive=True)[:-900], "truncated", NO_END),
    "cut in its header": (JPEG[: SIZE + 3], "corrupt", ""),
    "of no size": (jpeg_of(0, 0), "corrupt", HEADER),
    "a GIF cut in its header": (GIF[:30], "corrupt", HEADER),
    "a WEBP cut in two": (WEBP[: len(WEBP) // 2], "corrupt", ""),
    "half a BMP": (BMP[: len(BMP) // 2], "truncated", ""),
    "half a PNG": (PNG[: len(PNG) // 2], "truncated", NO_END),
    "half a GIF*": (GIF[: len(GIF) // 2], "truncated", "truncated"),
    "a PNG with noise in it*": (PNG[:60] + b"\xff" * 40 + PNG[100:], "corrupt", ""),
    "a JPEG of 4 gigapixels": (jpeg_of(65_500, 65_500), "bomb", HUGE),
    "a JPEG of 100 megapixels": (jpeg_of(10_000, 10_000), "bomb", ""),
    "a JPEG of 64 megapixels": (jpeg_of(8001, 8001), "bomb", LARGE),
    "a PNG of 2^62 pixels": (png_of(2**31 - 1, 2**31 - 1), "bomb", HUGE),
    "a PNG of 64 megapixels": (png_of(8001, 8001), "bomb", LARGE),
    "81 MB of text in a PNG": (PNG[:33] + TEXTS + PNG[33:], "corrupt", "text"),
}
GOOD: dict[str, tuple[bytes, str]] = {  # name -> (bytes, kind)
    "plain": (JPEG, "JPEG RGB"),
    "progressive": (picture(progressive=True), "JPEG RGB"),
    "grey": (picture(image=IMAGE.convert("L")), "JPEG L"),
    "CMYK": (picture(image=IMAGE.convert("CMYK")), "JPEG CMYK"),
    "several in one": (picture("MPO", save_all=True, append_images=[IMAGE]), "JPEG RGB"),
    "turned": (picture(exif=turned(6)), "JPEG RGB"),
    "turned by 99": (picture(exif=turned(99)), "JPEG RGB"),
    "EXIF that is none": (JPEG[:2] + b"\xff\xe1\x00\x28Exif\0\0" + b"\xff" * 32 + JPEG[2:], "JPEG RGB"),
    "colours that are none": (picture(icc_profile=b"none" * 99), "JPEG RGB"),
    "more behind": (JPEG + b"<html>" * 99, "JPEG RGB"),
    "one pixel": (picture(image=IMAGE.resize((1, 1))), "JPEG RGB"),
    "a line": (picture(image=IMAGE.resize((1, 20_000))), "JPEG RGB"),
    "PNG": (PNG, "PNG RGB"),
    "PNG with transparency": (picture("PNG", IMAGE.convert("RGBA")), "PNG RGBA"),
    "PNG of a palette": (picture("PNG", IMAGE.convert("P"), transparency=0), "PNG P"),
    "PNG of 16 bits": (SIXTEEN, f"PNG {PIL.Image.open(io.BytesIO(SIXTEEN)).mode}"),  # I of older Pillow, then I;16
    "PNG of 1 bit": (picture("PNG", IMAGE.convert("1")), "PNG 1"),
    "PNG LA": (picture("PNG", IMAGE.convert("LA")), "PNG LA"),
    "animated": (GIF, "GIF P"),
    "WEBP": (WEBP, "WEBP RGB"),
    "BMP": (BMP, "BMP RGB"),
}
HARMLESS = ("not_jpeg", "odd_mode")


@pytest.mark.parametrize("decode", [False, True], ids=["header", "decode"])
@pytest.mark.parametrize("what", BAD)
def test_bad_pictures_are_named_by_their_problem(what: str, decode: bool) -> None:
    """Every bad picture counts as broken, at the latest when decoded, without another exception or a program."""
    data, problem, says = BAD[what]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as outside this suite; DecompressionBombWarning, for one
        inspection = inspect_image(data, decode)
    if what.endswith("*") and not decode:
        assert inspection.problem is None
        return
    assert (inspection.problem, inspection.error) == (problem, None)
    assert inspection.why
    assert says in inspection.why
    assert len(inspection.why) < 250
    assert inspection.why.isprintable()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as under python -W error
        assert inspect_image(data, decode).problem == problem


@pytest.mark.parametrize("decode", [False, True], ids=["header", "decode"])
@pytest.mark.parametrize("what", GOOD)
def test_odd_pictures_are_good(what: str, decode: bool) -> None:
    """A picture that decodes is no fault, in any format and mode."""
    data, kind = GOOD[what]
    inspection = inspect_image(data, decode)
    assert (inspection.problem, inspection.why, f"{inspection.format} {inspection.mode}") == (None, "", kind)


@pytest.fixture
def gallery(new_world: Callable[..., World]) -> Callable[[str], tuple[World, dict[str, str]]]:
    """A world with all of these pictures, and path -> kind."""

    def make(layout: str) -> tuple[World, dict[str, str]]:
        world = new_world(tar=False, folder=layout == "folder", pairs={"train": 30, "validation": 4, "test": 4})
        needed = paths_of(world)
        every = {title: bad[0] for title, bad in BAD.items()} | {title: good[0] for title, good in GOOD.items()}
        assert len(needed) >= len(every)
        titles = dict(zip(needed, every, strict=False))
        world.pictures.update({path: every[title] for path, title in titles.items()})
        if layout == "folder":
            world.write_folder()
        else:
            world.write_tar()
        return world, titles

    return make


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("layout", ["folder", "tar"])
def test_check_images(gallery: Callable[[str], tuple[World, dict[str, str]]], layout: str, streaming: bool) -> None:
    """With check_images=True bad pictures are null, unusual ones are unchanged and decode."""
    world, titles = gallery(layout)
    whole = set(world.pictures) - {path for path, title in titles.items() if title in BAD}
    data = load(world, missing="null", check_images=True, streaming=streaming)
    assert raw_splits(data) == expected_splits(world, pictures=whole)
    modes = set()
    for split in SPLITS:
        for row in data[split]:
            assert (row["image"] is None) == (row["image_path"] not in whole)
            modes.add(row["image"] and row["image"].mode)
    assert modes >= {"RGB", "L", "CMYK", "P", "RGBA", "LA", "1"}


def test_check_images_counts_and_names_them(gallery: Callable[[str], tuple[World, dict[str, str]]]) -> None:
    """Rows with bad pictures are counted by outlet; missing="error" names the first, and how to list all."""
    world, titles = gallery("folder")
    bad = {path for path, title in titles.items() if title in BAD}
    builder = NewsCLIPpings(data_dir=str(world.root), missing="null", check_images=True)
    builder.download_and_prepare()
    for split in SPLITS:
        outlets = [row["image_source"] for row in world.rows(split=split) if row["image_path"] in bad]
        assert builder.join_reports[split]["missing"]["undecodable"] == {o: outlets.count(o) for o in outlets}
        assert builder.join_reports[split]["missing"]["picture"] == {}
    with pytest.raises(MissingDataError) as error:
        load(world, check_images=True)
    first = next((k, row["image_path"]) for k, row in enumerate(world.rows()) if row["image_path"] in bad)
    assert f"First: {first[1]} (row {first[0]})" in str(error.value)
    assert "`newsclippings verify --images=decode` says what is wrong with those that do not decode." in str(
        error.value
    )


@pytest.mark.parametrize("images", ["header", "decode"])
@pytest.mark.parametrize("layout", ["folder", "tar"])
def test_verify(gallery: Callable[[str], tuple[World, dict[str, str]]], layout: str, images: str) -> None:
    """verify lists each bad or unusual picture under its problem, and no other picture."""
    world, titles = gallery(layout)
    report = newsclippings.verify(str(world.root), configs=["merged_balanced"], images=images)
    expected: dict[str, set[str]] = {}
    for path, title in titles.items():
        if title in BAD and (images == "decode" or not title.endswith("*")):
            expected.setdefault(BAD[title][1], set()).add(path)
    assert {p: set(paths) for p, paths in report.pictures.items() if p not in HARMLESS} == expected
    for problem, paths in expected.items():
        message = report.invalid[f"pictures: {problem}"]
        beginnings = {"no_picture": "Files that are not pictures", "bomb": "Pictures that are too large to decode"}
        beginning = beginnings.get(problem, f"{problem.capitalize()} pictures")
        first = re.match(rf"{beginning} \({len(paths)}\): ([^, ]+?)[,.] ", message)
        assert first is not None
        assert first[1] in paths
        assert "Get them again from VisualNews, or build with check_images=True" in message
    odd = {path for path, title in titles.items() if title in GOOD and GOOD[title][1] not in ("JPEG RGB", "JPEG L")}
    assert {path for problem in HARMLESS for path in report.pictures[problem]} >= odd


def test_no_program_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript named .jpg does not start Ghostscript: only five formats are tried."""
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(os, "system", None)
    for decode in (False, True):
        assert inspect_image(BAD["EPS"][0], decode).problem == "no_picture"


def test_bytes_after_a_jpeg_do_not_count() -> None:
    """Bytes after the end of a picture, and a thumbnail before it, have no effect."""
    scan, end = b"\xff\xda", b"\xff\xd9"
    for tail in (scan, scan + b"x" * 400, b"\xff" * 9 + scan, end + scan, random.Random(0).randbytes(400_000)):
        assert inspect_image(JPEG + tail, decode=False).problem is None
        assert inspect_image(JPEG + tail, decode=True).problem is None
    thumbnail = b"Exif\0\0" + JPEG
    whole = JPEG[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + JPEG[2:]
    assert inspect_image(whole, decode=True).problem is None
    for cut in (len(whole) - 2, len(whole) - 400):
        assert inspect_image(whole[:cut], decode=False).problem == "truncated"
