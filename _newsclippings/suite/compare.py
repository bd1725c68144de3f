"""How captions and pictures of two sources are compared, and how paths of strangers are checked."""

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from _newsclippings.errors import UnsafePathError
from _newsclippings.pictures import decode
from _newsclippings.storage import normalise_path
from _newsclippings.text import short_repr

Hashes = npt.NDArray[np.uint64]

SIDE: Final = 8  # a hash has SIDE x SIDE bits
NEAR: Final = 4  # bits that may differ; pictures of the sample differ in 14 or more, their resized copies in up to 5
FLAT: Final = 0  # the hash of a picture without any structure, which is near no other
_ONES: Final = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16).sum(1, dtype=np.uint8)
_TAG: Final = re.compile(r"</?[a-z][^<>]{0,200}>", re.IGNORECASE)
_BLOCK: Final = 1 << 22  # differences that are in memory at a time


def caption_key(text: str) -> str:
    """Return what is equal for equal captions: its letters and digits in lower case, without accents and tags.

    VisualNews has captions with punctuation in one file and without it in another.
    """
    plain = unicodedata.normalize("NFKD", _TAG.sub("", html.unescape(text)))
    return "".join(c for c in plain if c.isalnum()).casefold()


def hash_picture(image: Any) -> int:
    """Compute the difference hash of a picture: 64 bits, each whether a pixel is brighter than its left neighbour.

    The picture is scaled to 9 x 8 grey pixels first, so other sizes and JPEG qualities change few bits; see `NEAR`.

    Args:
        image: a picture of Pillow, or `{"bytes", "path"}` as `datasets.Image(decode=False)` has it.

    Returns:
        The hash; `FLAT` for a picture of one colour.

    Raises:
        BadFileError: it does not decode.
    """
    from PIL import Image

    picture = decode(image, 8 * SIDE) if isinstance(image, Mapping) else image
    small = np.array(picture.convert("L").resize((SIDE + 1, SIDE), Image.Resampling.LANCZOS), np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def is_near(one: int, other: int) -> bool:
    """Check whether two hashes are of the same picture."""
    return FLAT not in (one, other) and (one ^ other).bit_count() <= NEAR


def find_near(hashes: Hashes, known: Hashes) -> npt.NDArray[np.int64]:
    """Find the nearest of some hashes for each hash.

    Args:
        hashes: uint64 (N,).
        known: uint64 (M,).

    Returns:
        int64 (N,), a position in `known`; -1 where none is near.
    """
    found = np.full(len(hashes), -1, np.int64)
    step = max(1, _BLOCK // max(1, len(known)))
    for start in range(0, len(hashes) if len(known) else 0, step):
        part = hashes[start : start + step]
        parts = (part[:, None] ^ known[None, :]).view(np.uint16).reshape(len(part), len(known), 4)
        bits = _ONES[parts].sum(2, dtype=np.uint8)
        bits[:, known == FLAT] = 64
        nearest = bits.argmin(1)
        near = (bits[np.arange(len(part)), nearest] <= NEAR) & (part != FLAT)
        found[start : start + step] = np.where(near, nearest, -1)
    return found


def check_path(place: str, path: str) -> str:
    """Return a relative path in the normal form.

    Args:
        place: what has it, for messages.
        path: of a stranger.

    Raises:
        UnsafePathError: it could lead out of the folder.
    """
    try:
        inner = normalise_path(f"_/{path}") if path[:1] not in ("/", "~") else normalise_path(path)
    except ValueError as error:
        message = f"{place}: the path {short_repr(path)} is refused, since {error}. Fetch the file again."
        raise UnsafePathError(message) from None
    if inner == "_":
        message = f"{place}: the path {short_repr(path)} is refused, since it is empty. Fetch the file again."
        raise UnsafePathError(message)
    return inner.removeprefix("_/")  # normalised inside of a folder, so that a folder `origin` at its start stays


def as_hashes(values: Sequence[int]) -> Hashes:
    """Return hashes as uint64."""
    return np.array(values, np.uint64)
