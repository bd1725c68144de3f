"""Decoding pictures: the one place where encoded bytes become pixels that somebody looks at."""

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
from _newsclippings.storage import Lock, no_fork
from _newsclippings.text import printable, shown

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 64_000_000  # 256 MB as RGB in Pillow; the largest news pictures have a tenth
MAX_SCANS: Final = 20  # of a progressive JPEG, which has ten: each goes over all of its pixels, whatever is shown
MAX_VISITS: Final = 1_000_000_000  # of pixels by scans, where there are more than that: two or three seconds
ORIENTATION: Final = 0x0112  # the EXIF tag
_SCALES: Final = {"L;2": 85, "L;4": 17}  # PNG of 2 and 4 bits: Pillow multiplies the samples, but not the colour key
_WHITE: Final = 255


def decode_small(image: Mapping[str, str | bytes | None], side: int) -> "Image.Image":
    """Decode a picture, a JPEG at the least of its scales (1, 1/2, 1/4, 1/8) that has no side shorter than `side`.

    The decoder leaves out what a model of `side` pixels would not see. Made that small and then resized, a picture
    takes about half of the time, and differs little from one that was decoded whole. Other formats are decoded whole.

    What is transparent becomes white, as on a page; Pillow's `convert("RGB")` shows the colour behind it, often black.
    Grey of 16 bits keeps its tones: its upper 8 bits, where `convert("RGB")` cuts off all above 255. Of an animation
    the first picture is decoded.

    Args:
        image: value of the image column under `datasets.Image(decode=False)`: `{"bytes", "path"}`, one of them None.
        side: in pixels.

    Returns:
        The picture, 8-bit RGB, turned upright as `datasets` does, with nothing of the file's metadata.

    Raises:
        BadFileError: it is no picture, or broken, or has more than 64 million pixels at the scale that is decoded.
        ConfigError: the side is no number of pixels.
        ValueError: the picture is null.
    """
    if isinstance(side, bool) or not isinstance(side, Real) or not side >= 1:
        message = f"side={shown(side)}: expected a number of pixels, 1 or more."
        raise ConfigError(message)
    return decode(image, side)


@functools.cache
def import_decoder() -> None:
    """Import all of Pillow that decoding takes, while no process forks: in the child that would wait for the parent."""
    with no_fork():
        from PIL import Image, ImageOps, WebPImagePlugin  # noqa: F401 # slow to import

        Image.preinit()


def decode(image: Mapping[str, str | bytes | None], side: int, on_white: bool = True) -> "Image.Image":
    """Decode a picture as `decode_small` does.

    Args:
        image: as there.
        side: as there.
        on_white: whether to put what is transparent on white; if not, the colours behind it show, as by Pillow's
            `convert("RGB")`, by which the authors trained.
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
            turn = _turns().get(orientation(picture))
            small = _rgb(picture if turn is None else picture.transpose(turn), on_white, scale, deep)
            small = small.copy() if small is picture else small
            small.info = {}  # comments, places, descriptions, which `save` would copy
            return small
    except Exception as error:  # whatever Pillow raises at broken files
        what = f"picture of {len(data):,} bytes" if isinstance(data, bytes) else printable(str(path))
        raise bad_file(what, "a picture that Pillow decodes", _why(error)) from error


def refuse_bomb(picture: "Image.Image", whole: int) -> None:
    """Raise `Image.DecompressionBombError` if decoding would take too much memory or time.

    Args:
        picture: opened, of the size that is to be decoded, nothing loaded yet.
        whole: how many pixels it has at its full size.
    """
    from PIL import Image

    progressive = picture.format in ("JPEG", "MPO") and "progressive" in picture.info
    if (whole if progressive else picture.width * picture.height) > MAX_PIXELS:  # the former is held at its full size
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
            message = f"a JPEG of {whole:,} pixels that come in {scans:,} scans"
            raise Image.DecompressionBombError(message)


def orientation(picture: "Image.Image") -> int:
    """The turn that a camera noted, 1 (none) to 8. Other tags, however damaged, do not matter.

    Args:
        picture: loaded, since a PNG may have its EXIF at the end.
    """
    with contextlib.suppress(Exception):  # what Pillow raises at damaged EXIF
        value = picture.getexif().get(ORIENTATION)
        value = value[0] if isinstance(value, tuple) else value
        if value is not None and not isinstance(value, bytes | str):
            return int(value) if value in range(1, 9) else 1
    exif = picture.info.get("exif")
    return _tag_of(exif) if isinstance(exif, bytes) else 1


def _tag_of(exif: bytes) -> int:
    """The orientation in EXIF that Pillow gives up at, since a tag before that one is damaged."""
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


def _rgb(picture: "Image.Image", on_white: bool, scale: int, deep: bool) -> "Image.Image":
    """A loaded picture as 8-bit RGB.

    Args:
        picture: of any mode; its transparency is taken out of `info`.
        on_white: as in `decode`.
        scale: what its samples were multiplied by when it was loaded.
        deep: whether they had 16 bits, of three colours.
    """
    from PIL import Image

    mode, key = picture.mode, picture.info.pop("transparency", None)  # a text of a PNG may have that name, too
    if mode.startswith("I"):  # grey of 16 bits, by the name I in Pillow before 12
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
    shown = picture if mode == "RGBA" else picture.convert("RGBA")
    white = Image.new("RGB", picture.size, "white")
    white.paste(shown, mask=shown)
    return white


def _why(error: Exception) -> str:
    """Why a picture was not decoded, in one short line."""
    from PIL import UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    if isinstance(error, MemoryError):
        return "that there is not enough memory for it"
    plain = isinstance(error, OSError | SyntaxError | ValueError | DecompressionBombError)
    if isinstance(error, UnidentifiedImageError):  # whose text names an object of Python
        return "cannot identify image file"
    text = str(error) if plain and str(error) else f"{type(error).__name__}: {error}"
    return printable(" ".join(text.split())[:200])


_quiet = Lock()
_quieted: list[int] = []  # one entry for each thread that is inside


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Pillow's warnings of odd pictures are neither shown nor raised, in whatever threads.

    `warnings.catch_warnings` puts back what it found at its beginning, which is wrong where threads overlap: the last
    one to leave takes the filter away.
    """
    with _quiet:
        _quieted.append(0)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        ours = warnings.filters[0]
    try:
        yield
    finally:
        with _quiet:
            _quieted.pop()
            if not _quieted:
                with contextlib.suppress(ValueError):
                    warnings.filters.remove(ours)  # type: ignore[attr-defined]  # a list
