"""Decode pictures for models and people. No other module turns encoded bytes into pixels that are used."""

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Final

import numpy as np

from _newsclippings.errors import ConfigError, bad_file
from _newsclippings.facts import PICTURE_FORMATS
from _newsclippings.storage import Lock, delay_forks
from _newsclippings.text import printable, short_repr

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 64_000_000  # 256 MB as RGB in Pillow; the largest news pictures have a tenth of them
MAX_SCANS: Final = 20  # of a progressive JPEG, which usually has ten; each scan visits all pixels
MAX_VISITS: Final = 1_000_000_000  # pixels times scans, for more scans than that: two or three seconds
ORIENTATION: Final = 0x0112  # the EXIF tag
_SCALES: Final = {"L;2": 85, "L;4": 17}  # Pillow multiplies the samples of PNGs of 2 and 4 bits, but not the colour key
_WHITE: Final = 255


def decode_small(image: Mapping[str, str | bytes | None], side: int) -> "Image.Image":
    """Decode a picture at a small size, for a model that takes `side` x `side` pixels.

    A JPEG is decoded at the smallest of its scales (1, 1/2, 1/4, 1/8) at which no side is shorter than `side`. Decoding
    and then resizing it takes about half the time that it takes at full size, and the result differs little. Other
    formats are decoded at full size.

    Transparent areas become white, as on a web page; Pillow's `convert("RGB")` shows the colour behind them, often
    black. Of 16-bit grey, the upper 8 bits are kept; `convert("RGB")` clips all values above 255. Of an animation, the
    first frame is decoded.

    Args:
        image: value of the image column under `datasets.Image(decode=False)`: `{"bytes", "path"}`, one of them None.
        side: in pixels, 1 or more.

    Returns:
        The picture, 8-bit RGB, turned upright as `datasets` does, without any metadata of the file.

    Raises:
        BadFileError: it is no picture, or broken, or has more than 64 million pixels at the scale that is decoded.
        ConfigError: the side is no number of pixels.
        ValueError: the picture is null.
    """
    if isinstance(side, bool) or not isinstance(side, Real) or not side >= 1:
        message = f"side={short_repr(side)}: expected a number of pixels, 1 or more."
        raise ConfigError(message)
    return decode(image, side)


@functools.cache
def import_decoder() -> None:
    """Import the parts of Pillow that decode, while no process forks: a child would wait for the import forever."""
    with delay_forks():
        from PIL import Image, ImageOps, WebPImagePlugin  # noqa: F401 # slow to import

        Image.preinit()


def decode(image: Mapping[str, str | bytes | None], side: int, on_white: bool = True) -> "Image.Image":
    """Decode a picture as `decode_small` does, optionally without a white background.

    Args:
        image: as in `decode_small`.
        side: as in `decode_small`.
        on_white: whether transparent areas become white; if false, the colours behind them show, as with Pillow's
            `convert("RGB")`, with which the authors trained.
    """
    import_decoder()
    from PIL import Image

    data, path = image["bytes"], image["path"]
    if data is None and path is None:
        message = "a picture with neither bytes nor path; leave out rows whose image is None"
        raise ValueError(message)
    try:
        source = io.BytesIO(data) if isinstance(data, bytes) else str(path)
        with quiet(), Image.open(source, formats=PICTURE_FORMATS) as picture:
            whole = picture.width * picture.height
            picture.draft("RGB", (side, side))
            refuse_bomb(picture, whole)
            scale = _SCALES.get(str(picture.tile[0][3]) if picture.tile else "", 1)
            deep = bool(picture.tile) and str(picture.tile[0][3]) == "RGB;16B"
            picture.load()
            turn = _turns().get(read_orientation(picture))
            small = _convert_to_rgb(picture if turn is None else picture.transpose(turn), on_white, scale, deep)
            small = small.copy() if small is picture else small
            small.info = {}  # comments and descriptions, which `save` would copy
            return small
    except Exception as error:  # Pillow raises errors of many types for broken files
        what = f"picture of {len(data):,} bytes" if isinstance(data, bytes) else printable(str(path))
        raise bad_file(what, "a picture that Pillow decodes", _describe_error(error)) from error


def refuse_bomb(picture: "Image.Image", whole: int) -> None:
    """Raise `Image.DecompressionBombError` if decoding would take too much memory or time.

    Args:
        picture: opened at the size at which it will be decoded, but not loaded.
        whole: its number of pixels at full size.
    """
    from PIL import Image

    progressive = picture.format in ("JPEG", "MPO") and "progressive" in picture.info
    held = whole if progressive else picture.width * picture.height  # Pillow holds a progressive one at full size
    if held > MAX_PIXELS:
        size = f"{whole:,}" if progressive else f"{picture.width} x {picture.height}"
        message = f"{size} pixels, more than {MAX_PIXELS:,}"
        raise Image.DecompressionBombError(message)
    file = getattr(picture, "fp", None)
    if progressive and file is not None:
        place = file.tell()
        file.seek(0)
        scans = file.read().count(b"\xff\xda")
        file.seek(place)
        if scans > MAX_SCANS and scans * whole > MAX_VISITS:
            message = f"a JPEG of {whole:,} pixels in {scans:,} scans"
            raise Image.DecompressionBombError(message)


def read_orientation(picture: "Image.Image") -> int:
    """Read the EXIF orientation of a picture, 1 (upright) to 8; damage of other tags does not matter.

    Args:
        picture: loaded, since a PNG may have its EXIF at the end.
    """
    with contextlib.suppress(Exception):  # Pillow raises errors of many types for damaged EXIF
        value = picture.getexif().get(ORIENTATION)
        value = value[0] if isinstance(value, tuple) else value
        if value is not None and not isinstance(value, bytes | str):
            return int(value) if value in range(1, 9) else 1
    exif = picture.info.get("exif")
    return _read_orientation_tag(exif) if isinstance(exif, bytes) else 1


def _read_orientation_tag(exif: bytes) -> int:
    """Read the orientation from EXIF that Pillow cannot read, because a tag before it is damaged."""
    tiff = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(tiff[:4])
    if order is None:
        return 1

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], order)  # type: ignore[arg-type]  # one of two words

    start = number(4, 4)
    for place in range(start + 2, min(start + 2 + 12 * number(start, 2), len(tiff) - 11), 12):
        kind = number(place + 2, 2)
        if number(place, 2) == ORIENTATION and kind in (3, 4):  # SHORT, LONG
            value = number(place + 8, 2 if kind == 3 else 4)
            return value if value in range(1, 9) else 1
    return 1


def _turns() -> "dict[int, Image.Transpose]":
    from PIL.Image import Transpose

    return {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }


def _convert_to_rgb(picture: "Image.Image", on_white: bool, scale: int, deep: bool) -> "Image.Image":
    """Convert a loaded picture to 8-bit RGB.

    Args:
        picture: of any mode; its transparency is removed from `info`.
        on_white: as in `decode`.
        scale: the factor by which its samples were multiplied when it was loaded.
        deep: whether it is RGB with 16 bits per colour.
    """
    from PIL import Image

    mode, key = picture.mode, picture.info.pop("transparency", None)  # a PNG may also have a text of that name
    if mode.startswith("I"):  # 16-bit grey; its mode is I in Pillow before 12
        values = np.asarray(picture)
        grey = np.empty(values.shape, np.uint8)
        np.right_shift(values, 8, out=grey, casting="unsafe")
        if on_white and isinstance(key, int):
            grey[values == key] = _WHITE
        return Image.fromarray(grey).convert("RGB")
    if mode in ("1", "L") and isinstance(key, int):
        key = (_WHITE if key else 0) if mode == "1" else (key & 0xFF) * scale & 0xFF
    elif mode == "RGB" and isinstance(key, tuple):
        key = tuple(value >> 8 if deep else value & 0xFF for value in key)
    elif mode != "P" or not isinstance(key, int | bytes):
        key = None
    if not on_white or not (mode.endswith(("A", "a")) or key is not None):
        return picture if mode == "RGB" else picture.convert("RGB")
    if key is not None:
        picture.info["transparency"] = key
    short_repr = picture if mode == "RGBA" else picture.convert("RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(short_repr, mask=short_repr)
    return white


def _describe_error(error: Exception) -> str:
    """Describe in one short line why a picture was not decoded."""
    from PIL import UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    if isinstance(error, MemoryError):
        return "that there is not enough memory for it"
    plain = isinstance(error, OSError | SyntaxError | ValueError | DecompressionBombError)
    if isinstance(error, UnidentifiedImageError):  # its own text has the repr of a Python object
        return "cannot identify image file"
    text = str(error) if plain and str(error) else f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split())[:200])


_quiet = Lock()
_quieted: list[int] = []  # one entry for each thread that is inside


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Pillow's warnings about unusual pictures, in all threads.

    `warnings.catch_warnings` restores the filters that it saw when it began, which is wrong if threads overlap. Here
    the last thread to leave removes the filter.
    """
    with _quiet:
        _quieted.append(0)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        added = warnings.filters[0]
    try:
        yield
    finally:
        with _quiet:
            _quieted.pop()
            if not _quieted:
                with contextlib.suppress(ValueError):
                    warnings.filters.remove(added)  # type: ignore[attr-defined]  # a list
