"""Check encoded pictures by their headers, or by decoding them, in threads."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from _newsclippings.encoded import ORIENTATION, import_decoder, is_cut_by_zeros, jpeg_has_end, quiet, refuse_bomb
from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.facts import PICTURE_FORMATS
from _newsclippings.pictures.folder import Pictures
from _newsclippings.storage import Rows, map_ahead, progress_bar, recognise_wrong_file

if TYPE_CHECKING:
    from PIL import Image

USUAL_MODES = ("RGB", "L")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")
BATCH = 16  # pictures that a thread reads at a time


class Inspection(NamedTuple):
    """The result of checking a picture.

    Attributes:
        problem: None if it is sound; else `empty`, `no_picture`, `truncated`, `corrupt`, `bomb` (more than 64 million
            pixels, or far too many scans) or `unreadable`.
        why: the problem in words.
        format: `JPEG`, `GIF`, ...; empty if it is no picture.
        mode: Pillow's mode, `RGB`, `L`, `P`, `CMYK`, ...; empty if it is no picture.
        error: the error that reading the bytes raised, if the problem is `unreadable`.
    """

    problem: str | None = None
    why: str = ""
    format: str = ""
    mode: str = ""
    error: Exception | None = None


def inspect_image(data: bytes, decode: bool) -> Inspection:
    """Check an encoded picture.

    Args:
        data: its bytes.
        decode: whether to decode it, as `datasets` does when a row is read; if false, only its format, its size and its
            end marker are checked.
    """
    if not data:
        return Inspection("empty", "0 bytes")
    with quiet():
        return _inspect(data, decode)


def _inspect(data: bytes, decode: bool) -> Inspection:
    import_decoder()
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
    except Image.DecompressionBombError as error:
        return Inspection("bomb", str(error))
    except UnidentifiedImageError:
        if data.startswith(_MAGIC):
            return Inspection(
                "corrupt", f"begins as a picture does, with {repr(data[:8])[1:]}, but its header cannot be read"
            )
        begins = f"no {' or '.join(PICTURE_FORMATS)}; it begins with {repr(data[:8])[1:]}"
        return Inspection("no_picture", recognise_wrong_file(data[:64]) or begins)
    except Exception as error:  # Pillow raises errors of many types for broken files
        return Inspection("corrupt", _describe_error(error))
    kind, mode = "JPEG" if image.format == "MPO" else str(image.format), image.mode  # MPO: a JPEG followed by others
    try:
        refuse_bomb(image, image.width * image.height)
    except Image.DecompressionBombError as error:
        return Inspection("bomb", str(error), kind, mode)
    if not (decode and kind == "BMP") and _is_truncated(kind, data):  # the size in a BMP header may be wrong
        return Inspection("truncated", f"{len(data):,} bytes without an end-of-image marker", kind, mode)
    if decode:
        try:
            image.load()
        except Image.DecompressionBombError as error:
            return Inspection("bomb", str(error), kind, mode)
        except Exception as error:  # as above
            problem = "truncated" if "truncated" in str(error) else "corrupt"
            return Inspection(problem, _describe_error(error), kind, mode)
        if why := _find_exif_problem(image):
            return Inspection("corrupt", why, kind, mode)
    return Inspection(None, "", kind, mode)


def _find_exif_problem(image: "Image.Image") -> str:
    """Describe why `datasets` fails to turn a picture upright, for which it rewrites all EXIF tags; "" if it works."""
    from PIL import ImageOps

    try:
        if image.getexif().get(ORIENTATION) is not None:
            ImageOps.exif_transpose(image)
    except Exception as error:  # as above
        why = _describe_error(error)[:100]
        return f"its pixels decode, but `datasets` fails at its EXIF ({why}); decode_small does not"
    return ""


def _is_truncated(kind: str, data: bytes) -> bool:
    """Check whether the end of a picture is missing. A truncated WEBP does not get here: its header is unreadable."""
    if is_cut_by_zeros(data):  # an interrupted download into a preallocated file
        return True
    if kind == "JPEG":
        return not jpeg_has_end(data)
    return (kind == "PNG" and b"IEND" not in data) or (
        kind == "BMP" and len(data) < int.from_bytes(data[2:6], "little")
    )


def inspect_images(pictures: Pictures, rows: Rows, decode: bool) -> Iterator[tuple[int, Inspection]]:
    """Check pictures in threads, with a progress bar.

    Args:
        pictures: the pictures.
        rows: int32 (N,), rows of pictures that are present, without duplicates.
        decode: as in `inspect_image`.

    Yields:
        Row and inspection, in the order of `rows`.
    """

    def inspect(batch: Rows) -> list[Inspection]:
        try:
            return [inspect_image(data or b"", decode) for data in pictures.read(batch).to_pylist()]
        except (NewsCLIPpingsError, OSError) as error:
            if len(batch) > 1:  # find out which picture it is
                return [inspection for k in range(len(batch)) for inspection in inspect(batch[k : k + 1])]
            return [Inspection("unreadable", str(error), error=error)]

    threads = os.cpu_count() or 1
    batches = (rows[k : k + BATCH] for k in range(0, len(rows), BATCH))
    what = "Decoding pictures" if decode else "Reading headers of pictures"
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="newsclippings") as pool,
        progress_bar(total=len(rows), desc=what, unit="picture", unit_scale=True) as bar,
    ):
        for batch, inspections in map_ahead(pool, inspect, batches, 2 * threads):
            bar.update(len(batch))
            yield from zip(batch.tolist(), inspections, strict=True)


class DecodeCheck:
    """Find pictures that do not decode, and mark them as not present. Each picture is decoded once.

    Attributes:
        pictures: the pictures of a corpus table.
        undecodable: bool (N,), true for pictures that do not decode.
    """

    def __init__(self, pictures: Pictures, undecodable: npt.NDArray[np.int64] | None = None) -> None:
        """Nothing is decoded yet.

        Args:
            pictures: the pictures.
            undecodable: the rows of those that do not decode, where another process decoded all of them.
        """
        self.pictures = pictures
        self.undecodable: npt.NDArray[np.bool_] = np.zeros(len(pictures.present), bool)
        self._checked: npt.NDArray[np.bool_] = np.full(len(pictures.present), undecodable is not None)
        if undecodable is not None:
            self.undecodable[undecodable] = True

    def check(self, rows: Rows) -> None:
        """Decode the pictures of some rows that were looked for and not decoded before.

        Args:
            rows: int32 (N,); -1 for none.

        Raises:
            NewsCLIPpingsError, OSError: the bytes of a picture could not be read.
        """
        unique = np.unique(rows[rows >= 0])
        todo = unique[self.pictures.present[unique] & ~self._checked[unique]]
        for row, inspection in inspect_images(self.pictures, todo, decode=True):
            if inspection.error is not None:
                raise inspection.error
            self.undecodable[row] = inspection.problem is not None
            self._checked[row] = True  # last, since the process may fork before
        self.pictures.present[unique] &= ~self.undecodable[unique]


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
