"""Whether encoded pictures are pictures: by their headers, or by decoding them, many at a time."""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from tqdm.auto import tqdm

from _newsclippings.errors import NewsCLIPpingsError
from _newsclippings.facts import PICTURE_FORMATS
from _newsclippings.pictures.decoding import ORIENTATION, import_decoder, quiet, refuse_bomb
from _newsclippings.pictures.folder import Pictures
from _newsclippings.pictures.picture_end import is_cut_by_zeros, jpeg_has_end
from _newsclippings.storage import Rows, map_ahead, what_instead

if TYPE_CHECKING:
    from PIL import Image

USUAL_MODES = ("RGB", "L")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")
BATCH = 16  # pictures that a thread reads together


class Look(NamedTuple):
    """What was seen of a picture.

    Attributes:
        problem: None, or `empty`, `no_picture`, `truncated`, `corrupt`, `bomb` (more than 64 million pixels, or scans
            without end), `unreadable`.
        why: the problem in words.
        format: `JPEG`, `GIF`, ...; empty where it is no picture.
        mode: Pillow's: `RGB`, `L`, `P`, `CMYK`, ...; likewise.
        error: why the bytes could not be had, where the problem is `unreadable`.
    """

    problem: str | None = None
    why: str = ""
    format: str = ""
    mode: str = ""
    error: Exception | None = None


def look_at(data: bytes, decode: bool) -> Look:
    """Look at an encoded picture.

    Args:
        data: its bytes.
        decode: whether to decode it, as `datasets` does when a row is read; if not, only format, size and end are seen.
    """
    if not data:
        return Look("empty", "0 bytes")
    with quiet():
        return _look(data, decode)


def _look(data: bytes, decode: bool) -> Look:
    import_decoder()
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=PICTURE_FORMATS)
    except Image.DecompressionBombError as error:
        return Look("bomb", str(error))
    except UnidentifiedImageError:
        if data.startswith(_MAGIC):
            return Look(
                "corrupt", f"begins as a picture does, with {repr(data[:8])[1:]}, but its header cannot be read"
            )
        begins = f"no {' or '.join(PICTURE_FORMATS)}; it begins with {repr(data[:8])[1:]}"
        return Look("no_picture", what_instead(data[:64]) or begins)
    except Exception as error:  # whatever Pillow raises at broken files
        return Look("corrupt", _in_words(error))
    kind, mode = "JPEG" if image.format == "MPO" else str(image.format), image.mode  # MPO: a JPEG with others behind it
    try:
        refuse_bomb(image, image.width * image.height)
    except Image.DecompressionBombError as error:
        return Look("bomb", str(error), kind, mode)
    if not (decode and kind == "BMP") and _is_cut(kind, data):  # what a BMP says of its size is not always so
        return Look("truncated", f"{len(data):,} bytes without an end-of-image marker", kind, mode)
    if decode:
        try:
            image.load()
        except Image.DecompressionBombError as error:
            return Look("bomb", str(error), kind, mode)
        except Exception as error:  # as above
            problem = "truncated" if "truncated" in str(error) else "corrupt"
            return Look(problem, _in_words(error), kind, mode)
        if why := _not_turned(image):
            return Look("corrupt", why, kind, mode)
    return Look(None, "", kind, mode)


def _not_turned(image: "Image.Image") -> str:
    """Why `datasets` fails at turning a picture upright, for which it writes all EXIF tags again; empty if it does."""
    from PIL import ImageOps

    try:
        if image.getexif().get(ORIENTATION) is not None:
            ImageOps.exif_transpose(image)
    except Exception as error:  # as above
        return f"its pixels decode, but `datasets` fails at its EXIF ({_in_words(error)[:100]}); decode_small does not"
    return ""


def _is_cut(kind: str, data: bytes) -> bool:
    """Whether the end is not there, as far as a format tells; a WEBP that is cut has no header that could be read."""
    if is_cut_by_zeros(data):  # a download that was broken off, and had its size before
        return True
    if kind == "JPEG":
        return not jpeg_has_end(data)
    return (kind == "PNG" and b"IEND" not in data) or (
        kind == "BMP" and len(data) < int.from_bytes(data[2:6], "little")
    )


def look_at_all(pictures: Pictures, rows: Rows, decode: bool) -> Iterator[tuple[int, Look]]:
    """Look at the pictures of some rows in threads, with a progress bar; yields row and look, in the order given.

    Args:
        pictures: where they are.
        rows: of pictures that are present, each once.
        decode: as in `look_at`.
    """

    def look(some: Rows) -> list[Look]:
        try:
            return [look_at(data or b"", decode) for data in pictures.read(some).to_pylist()]
        except (NewsCLIPpingsError, OSError) as error:
            if len(some) > 1:  # find out which
                return [one for k in range(len(some)) for one in look(some[k : k + 1])]
            return [Look("unreadable", str(error), error=error)]

    threads = os.cpu_count() or 1
    batches = (rows[k : k + BATCH] for k in range(0, len(rows), BATCH))
    what = "Decoding pictures" if decode else "Reading headers of pictures"
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="newsclippings") as pool,
        tqdm(total=len(rows), desc=what, unit="picture", unit_scale=True, disable=None) as bar,
    ):
        for some, looks in map_ahead(pool, look, batches, 2 * threads):
            bar.update(len(some))
            yield from zip(some.tolist(), looks, strict=True)


class DecodeCheck:
    """Finds pictures that do not decode, and makes them count as not present. Each is decoded once.

    Attributes:
        pictures: the pictures of a corpus table.
        undecodable: bool (N,), whether each was found not to decode.
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
        """Decode the pictures of some rows (-1 for none) that were looked for, unless that was done.

        Raises:
            NewsCLIPpingsError, OSError: bytes of a picture could not be read.
        """
        unique = np.unique(rows[rows >= 0])
        todo = unique[self.pictures.present[unique] & ~self._checked[unique]]
        for row, look in look_at_all(self.pictures, todo, decode=True):
            if look.error is not None:
                raise look.error
            self.undecodable[row] = look.problem is not None
            self._checked[row] = True  # last: a process may be forked in between
        self.pictures.present[unique] &= ~self.undecodable[unique]


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
