"""Unusual pictures are decoded as a viewer shows them, and the only error is BadFileError."""

from __future__ import annotations

import base64
import io
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageOps
from support.reading import environment
from sweeps import odd_pictures as odd

import newsclippings
from _newsclippings.encoded.decoding import decode
from _newsclippings.pictures.check import inspect_image
from _newsclippings.show import sheet as sheets
from _newsclippings.show.page import Rows, write_page
from _newsclippings.show.sheet import draw_sheet
from newsclippings import decode_small

PNGS = odd.png_cases()


def stored(data: bytes) -> dict[str, str | bytes | None]:
    return {"bytes": data, "path": None}


def row(index: int, image: bytes) -> dict[str, Any]:
    texts = dict.fromkeys(("caption", "source", "topic", "image_source", "image_topic", "image_caption"), "x")
    numbers = {"index": index, "id": index // 2, "image_id": index, "falsified": index % 2, "source_dataset": 0}
    return {**numbers, **texts, "similarity_score": 1.0, "image": stored(image)}


@pytest.mark.parametrize("name", PNGS)
def test_every_kind_of_png(name: str) -> None:
    """16-bit grey keeps its tones, transparency becomes white; without on_white colours are those of the file."""
    data, seen, colors = PNGS[name]
    small = decode_small(stored(data), 224)
    assert small.mode == "RGB"
    assert np.abs(np.asarray(small, float) - seen).max() <= 1
    assert np.array_equal(np.asarray(decode(stored(data), 224, on_white=False)), colors)


@pytest.mark.parametrize("name", [name for name in PNGS if "16" not in name or "grey" not in name])
def test_without_white_pixels_equal_pillows_convert(name: str) -> None:
    """Without on_white pixels are Pillow's, as in the authors' recipe, except 16-bit grey, which Pillow makes white."""
    data = PNGS[name][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Image.open(io.BytesIO(data)).convert("RGB")
    assert np.array_equal(np.asarray(decode(stored(data), 224, on_white=False)), np.asarray(theirs))


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {})])
def test_transparency_of_other_formats(kind: str, options: dict[str, Any]) -> None:
    """A black disc on transparency becomes a black disc on white; a BMP, which has none, is unchanged."""
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0 if kind != "BMP" else 255))
    image.paste((0, 0, 0, 255), (10, 10, 30, 30))
    pixels = np.asarray(decode_small(stored(odd.encoded(image, kind, **options)), 8))
    assert pixels[20, 20].tolist() == [0, 0, 0]
    assert pixels[0, 0].tolist() == ([0, 0, 0] if kind == "BMP" else [255, 255, 255])


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I"])
def test_grey_of_16_bits_in_any_mode_of_pillow(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """16-bit grey is recognised by every mode name that versions of Pillow use."""
    order = ">" if mode.endswith("B") else "<"
    form = "i4" if mode == "I" else f"{order}u2"
    values = odd.SAMPLES[..., 0].astype(form)
    image = Image.frombytes(mode, (odd.WIDTH, odd.HEIGHT), values.tobytes())

    class Opened(Image.Image):
        tile: tuple[()] = ()
        format = "PNG"

        def __enter__(self) -> Opened:
            return self

        def __exit__(self, *args: object) -> None: ...

    opened = Opened()
    opened.__dict__.update(image.__dict__)
    monkeypatch.setattr(Image, "open", lambda *args, **kwargs: opened)
    pixels = np.asarray(decode_small(stored(b"x"), 8))
    assert np.array_equal(pixels, (values >> 8).astype(np.uint8)[..., None].repeat(3, axis=-1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tags", ["none", *odd.ODD_TAGS])
def test_orientation_is_applied_with_any_other_exif(tags: str, kind: str) -> None:
    """The orientation is applied with any other EXIF; where `datasets` can apply it, the result is the same."""
    others, image = odd.ODD_TAGS.get(tags, []), odd.smooth()
    for value, upright in odd.TURNED.items():
        exif = odd.exif(sorted([odd.turn(value), *others]))
        more: dict[str, Any] = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
        data = odd.encoded(image, kind, exif=exif[6:] if kind == "PNG" else exif, **more)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            small = np.asarray(decode_small(stored(data), 99), int)
        expected = upright(np.asarray(image, int))
        assert small.shape == expected.shape
        assert np.abs(small - expected).mean() < 3
        if tags in ("none", "an unknown type before", "a thousand tags"):
            theirs = datasets.Image().decode_example(dict(stored(data)))
            assert np.abs(small - np.asarray(theirs, int)).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_invalid_orientations(order: str) -> None:
    """Invalid orientations, and noisy or truncated EXIF, never prevent decoding."""
    image = odd.smooth()
    for value, size in ((0, (64, 48)), (9, (64, 48)), (65535, (64, 48)), (6, (48, 64))):
        exif = odd.exif([(0x0112, 3, 2, struct.pack(order + "HH", value, 0))], order)
        assert decode_small(stored(odd.encoded(image, "JPEG", exif=exif)), 99).size == size
    whole = odd.exif([odd.turn(6, order)], order)
    for end in range(6, len(whole)):
        assert decode_small(stored(odd.encoded(image, "JPEG", exif=whole[:end])), 99).size in ((64, 48), (48, 64))
    for noise in (b"Exif\0\0" + b"\xff" * 60, b"Exif\0\0II*\0" + b"\xff" * 60, b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0"):
        assert decode_small(stored(odd.encoded(image, "JPEG", exif=noise)), 99).size == (64, 48)


def test_the_check_says_what_datasets_fails_at() -> None:
    """A picture whose EXIF makes `datasets` fail counts as corrupt, with the reason."""
    tags = [odd.turn(6), *odd.ODD_TAGS["an empty tag of shorts"]]
    data = odd.encoded(odd.smooth(), "JPEG", exif=odd.exif(tags))
    with pytest.raises(Exception, match="argument"):
        datasets.Image().decode_example(dict(stored(data)))
    inspection = inspect_image(data, decode=True)
    assert inspection.problem == "corrupt"
    assert inspection.why.startswith("its pixels decode, but `datasets` fails at its EXIF (")
    assert inspect_image(data, decode=False).problem is None


@pytest.mark.parametrize("key", ["transparency", "exif", "icc_profile", "progressive", "dpi", "gamma", "background"])
@pytest.mark.parametrize("kind", [0, 2])
def test_png_texts_named_like_pillows_own_fields(kind: int, key: str) -> None:
    """A text of a PNG that is named like a field of Pillow has no effect."""
    text = odd.chunk(b"tEXt", key.encode() + b"\0" + b"7")
    samples = odd.SAMPLES[..., : odd.CHANNELS[kind]] >> 8
    pixels = np.asarray(decode_small(stored(odd.png(samples, 8, kind, text)), 8))
    assert np.array_equal(pixels, np.broadcast_to(samples, pixels.shape))


# Privacy


def test_thumbnails_and_sheets_carry_no_metadata(tmp_path: Path) -> None:
    """Comments, EXIF, XMP, IPTC, profiles and texts are in no page, sheet or saved picture."""
    pictures = odd.with_metadata()
    rows = [row(k, data) for k, data in enumerate(pictures.values())]
    for name, data in pictures.items():
        assert odd.MARKER in data or name == "PNG"
        with Image.open(io.BytesIO(data)) as opened:
            opened.load()
            told = [value for value in opened.info.values() if odd.MARKER in repr(value).encode()]
            assert len(told) >= {"GIF": 1}.get(name, 3)
        small = decode_small(stored(data), 8)
        assert not small.info
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
            assert odd.MARKER not in odd.encoded(small, kind)
    write_page([Rows("merged_balanced", "train", rows)], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    thumbnails = [base64.b64decode(found) for found in re.findall(r"data:image/jpeg;base64,([^\"]+)", page)]
    assert len(thumbnails) == 4
    for data in thumbnails:
        assert odd.MARKER not in data
        with Image.open(io.BytesIO(data)) as opened:
            assert not opened.info.keys() & {"comment", "exif", "icc_profile", "xmp", "photoshop"}
    draw_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet.load()
        assert sheet.info == {"Software": "newsclippings preview"}  # a mark of ours
    assert odd.MARKER not in (tmp_path / "sheet.png").read_bytes()


def test_odd_pictures_in_page_and_sheet(tmp_path: Path) -> None:
    """Page and sheet show pictures as they are decoded: upright, with their tones, on white."""
    scene = np.full((200, 300, 1), 0x40FF)
    disc = np.zeros((200, 300, 4))
    turned = odd.encoded(Image.new("RGB", (300, 200), "red"), "JPEG", exif=odd.exif([odd.turn(6)]))
    rows = [row(0, odd.png(scene, 16, 0)), row(1, odd.png(disc, 8, 6)), row(2, turned), row(3, turned)]
    draw_sheet(rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet)
    top = sheets.MARGIN + sheets.PAD + sheets.TOP + sheets.PICTURE // 2
    lefts = [
        sheets.MARGIN + sheets.PAD + card * (sheets.WIDTH + sheets.MARGIN) + twin * (sheets.CELL + sheets.GAP)
        for card in range(2)
        for twin in range(2)
    ]
    middle = [pixels[top, left + sheets.CELL // 2].tolist() for left in lefts]
    assert middle[:2] == [[0x40] * 3, [255] * 3]
    assert middle[2][0] > 250
    assert pixels[top, lefts[2] + sheets.CELL // 2 - 100].tolist() == [0xF6, 0xF8, 0xFA]  # beside the upright picture
    write_page([Rows("merged_balanced", "train", rows)], tmp_path / "page.html")
    urls = re.findall(r"data:image/jpeg;base64,([^\"]+)", (tmp_path / "page.html").read_text(encoding="utf-8"))
    opened = [Image.open(io.BytesIO(base64.b64decode(url))) for url in urls]
    assert [image.size for image in opened[:3]] == [(300, 200), (300, 200), (160, 240)]
    assert np.abs(np.asarray(opened[0], int) - 0x40).max() <= 1
    assert np.asarray(opened[1]).min() == 255


# Foreign errors and warnings


def test_mutants() -> None:
    """Damaged pictures of every format give RGB or BadFileError (more: `tests.sweeps.odd_pictures`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [found for data in odd.mutants(2_000) if (found := odd.fault(data))] == []


def test_warnings_of_pillow_are_neither_shown_nor_raised_in_threads() -> None:
    """Pictures decode even if warnings are errors, and the warning filters are unchanged afterwards."""
    exif = odd.exif([odd.turn(6), (0x013B, 9, 2, struct.pack("<L", 33))])
    data = odd.encoded(odd.smooth(), "JPEG", exif=exif)
    clear = PNGS["palette of 8 bits, some of it half clear"][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with pytest.raises(UserWarning):
            Image.open(io.BytesIO(clear)).convert("RGB")
        with ThreadPoolExecutor(8) as pool:
            sizes = list(pool.map(lambda k: decode(stored((data, clear)[k % 2]), 99, on_white=False).size, range(200)))
        assert set(sizes[::2]) == {(48, 64)}
        assert inspect_image(data, decode=True).problem is None
        assert list(warnings.filters) == before


BOMBS = """
import resource, struct, sys, zlib
import newsclippings
from sweeps import odd_pictures as odd
from PIL import Image

def flat(width, height, depth, kind, before=b""):
    line, packed = bytes(1 + width * depth * odd.CHANNELS[kind] // 8), zlib.compressobj(1)
    data = b"".join(packed.compress(line * 100) for _ in range(height // 100)) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = [odd.chunk(b"IHDR", head), before, odd.chunk(b"IDAT", data), odd.chunk(b"IEND", b"")]
    return b"\\x89PNG\\r\\n\\x1a\\n" + b"".join(chunks)

scan = odd.encoded(odd.smooth(2000, 3000), "JPEG", progressive=True)
scans = scan[:-2] + scan[scan.rindex(b"\\xff\\xda"):-2] * 4000 + b"\\xff\\xd9"
text = odd.chunk(b"zTXt", b"k\\0\\0" + zlib.compress(bytes(900_000)))
profile = odd.chunk(b"iCCP", b"k\\0\\0" + zlib.compress(bytes(300_000_000), 1))
gif = odd.encoded(Image.new("P", (9, 9)), "GIF")
bombs = {
    "pixels": flat(8000, 8100, 8, 2)[:70_000],
    "scans": scans,
    "texts": flat(100, 100, 8, 2, text * 90),
    "profile": flat(100, 100, 8, 2, profile),
    "canvas of a GIF": gif[:6] + struct.pack("<HH", 65535, 65535) + gif[10:],
    "canvas of a WEBP": b"RIFF\\x30\\0\\0\\0WEBPVP8X\\x0a\\0\\0\\0\\x02\\0\\0\\0" + b"\\xff" * 6 + bytes(40),
}
whole = flat(8000, 7900, 1, 0, odd.chunk(b"tRNS", bytes(2)))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for name, data in bombs.items():
    try:
        print(name, newsclippings.decode_small({"bytes": data, "path": None}, 224).size)
    except newsclippings.BadFileError as error:
        assert len(str(error)) < 400
print(newsclippings.decode_small({"bytes": whole, "path": None}, 224).size)
"""


def test_bombs_in_two_gigabytes(tmp_path: Path) -> None:
    """Pictures that would take endless memory or time are refused; 63 million transparent pixels are decoded."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", BOMBS],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "(8000, 7900)\n"


# Usual pictures


def old_way(data: bytes, side: int) -> Any:
    """Decode as version 1.0 did."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (side, side))
        ImageOps.exif_transpose(picture, in_place=True)
        picture.load()
        return picture if picture.mode == "RGB" else picture.convert("RGB")


def test_plain_pictures_are_decoded_as_before() -> None:
    """Pictures without transparency and 16 bits have the same pixels as in version 1.0."""
    folder = Path(newsclippings.__file__).parent / "_newsclippings/show/photos"
    photos = [file.read_bytes() for file in folder.glob("*.jpg")]
    assert photos
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8))
    photos += [odd.encoded(image.convert(mode), "JPEG") for mode in ("RGB", "L", "CMYK")]
    photos += [odd.encoded(image, "JPEG", exif=odd.exif([odd.turn(k)]), quality=50 + k) for k in range(1, 9)]
    photos += [
        odd.encoded(image, "JPEG", progressive=True),
        odd.encoded(image, "MPO", save_all=True, append_images=[image]),
    ]
    photos += [odd.encoded(image.convert(mode), "PNG") for mode in ("RGB", "L", "P", "1")]
    photos += [odd.encoded(image, kind) for kind in ("GIF", "BMP", "WEBP")]
    for data in photos:
        for side in (64, 224, 10_000):
            for on_white in (True, False):
                small = decode(stored(data), side, on_white)
                assert np.array_equal(np.asarray(small), np.asarray(old_way(data, side)))
