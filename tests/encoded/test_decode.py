"""decode_small: pictures for small models, close to Pillow's, in any format and orientation."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from support.reading import load
from support.world import World

from newsclippings import BadFileError, ConfigError, decode_small


def picture(mode: str, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A smooth picture with four different corners."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> dict[str, str | bytes | None]:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return {"bytes": file.getvalue(), "path": None}


def pixels(image: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(image.resize((224, 224)), np.int16)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((640, 480), 224, (320, 240)),
        ((640, 480), 240, (320, 240)),
        ((640, 480), 241, (640, 480)),
        ((640, 480), 100, (160, 120)),
        ((3000, 2000), 224, (375, 250)),
        ((200, 100), 224, (200, 100)),
    ],
)
def test_the_least_scale_that_is_large_enough(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    """A JPEG is decoded at 1, 1/2, 1/4 or 1/8 of its size, with no side shorter than requested unless it is small."""
    assert decode_small(encoded(picture("RGB", size)), side).size == expected


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_looks_as_if_decoded_whole(mode: str) -> None:
    """A reduced JPEG, resized to 224 x 224, differs invisibly from the fully decoded one."""
    image = encoded(picture(mode), quality=90)
    whole = Image.open(io.BytesIO(image["bytes"])).convert("RGB")  # type: ignore[arg-type]  # bytes
    small = decode_small(image, 224)
    assert small.mode == "RGB"
    assert np.abs(pixels(small) - pixels(whole)).mean() < 1.5


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("L", "WEBP")])
def test_other_formats_are_decoded_whole(mode: str, kind: str) -> None:
    """Formats without scaled decoding keep their size and become RGB."""
    image = picture(mode)
    small = decode_small(encoded(image, kind), 224)
    assert (small.mode, small.size) == ("RGB", (640, 480))
    assert np.abs(pixels(small) - pixels(image.convert("RGB"))).mean() < 6


def test_it_is_turned_upright_as_datasets_does() -> None:
    """The orientation in EXIF is applied, as `datasets` does."""
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    image = encoded(picture("RGB"), exif=exif)
    theirs = datasets.Image().decode_example(dict(image))
    small = decode_small(image, 224)
    assert (small.size, theirs.size) == ((240, 320), (480, 640))
    assert np.abs(pixels(small) - pixels(theirs)).mean() < 1.5


@pytest.mark.parametrize("images", ["bytes", "path"])
def test_rows_of_the_dataset(world: World, images: str) -> None:
    """Pictures of rows are decoded from bytes and from paths."""
    data = load(world, images=images, split="test").cast_column("image", datasets.Image(decode=False))
    for row, expected in zip(data, world.rows(split="test"), strict=True):
        whole = Image.open(io.BytesIO(expected["image"]["bytes"])).convert("RGB")
        assert np.abs(pixels(decode_small(row["image"], 8)) - pixels(whole)).mean() < 12


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    """For a broken picture the error has what was read and Pillow's reason; null is a separate error."""
    good = encoded(picture("RGB"))["bytes"]
    assert isinstance(good, bytes)
    with pytest.raises(BadFileError, match=r"picture of 9 bytes: expected a picture that Pillow decodes, found cannot"):
        decode_small({"bytes": b"<!DOCTYPE", "path": None}, 224)
    with pytest.raises(BadFileError, match=r"expected a picture that Pillow decodes, found .*truncated"):
        decode_small({"bytes": good[:2000], "path": None}, 224)
    (tmp_path / "half.jpg").write_bytes(good[:2000])
    with pytest.raises(BadFileError, match=r"half\.jpg: expected a picture"):
        decode_small({"bytes": None, "path": str(tmp_path / "half.jpg")}, 224)
    with pytest.raises(ValueError, match="neither bytes nor path"):
        decode_small({"bytes": None, "path": None}, 224)


def test_formats_that_are_programs_are_refused() -> None:
    """PostScript named .jpg is not passed to an interpreter."""
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(BadFileError, match="expected a picture that Pillow decodes, found cannot identify"):
        decode_small({"bytes": data, "path": None}, 224)


@pytest.mark.parametrize("side", [0, -1, True, "224", (224, 224), None, float("nan")], ids=str)
def test_a_side_is_a_number_of_pixels(side: Any) -> None:
    """An invalid side is an error about the argument, not about the picture."""
    with pytest.raises(ConfigError, match=r"^side=.*: expected a number of pixels, 1 or more\."):
        decode_small(encoded(picture("RGB")), side)


def test_a_message_names_no_object_in_memory() -> None:
    """The same file gives the same error, without memory addresses."""
    with pytest.raises(BadFileError, match=r"^picture of 4 bytes: .*, found cannot identify image file\.$"):
        decode_small({"bytes": b"none", "path": None}, 224)
