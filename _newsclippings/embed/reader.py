"""Read items of the corpus, and decode pictures at the size that an encoder needs."""

from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from _newsclippings.embed.items import Items
from _newsclippings.errors import BadFileError, NewsCLIPpingsError
from _newsclippings.pictures import Pictures as PicturesOfPaths
from _newsclippings.pictures import decode, is_cut_by_zeros
from _newsclippings.tables import Int32s, as_array

NO_RECORD, MISSING, LINK = "no record", "missing or empty", "unusable link"
CUT, BROKEN, TOO_LARGE = "ends in zeros", "does not decode", "too large"
ANY_SIDE = 1 << 16  # a side that no picture of at most 64 million pixels is decoded smaller for


class Pictures(Protocol):
    """What opens pictures: the sources of a corpus, or a folder."""

    def open(self, paths: pa.Array) -> PicturesOfPaths:
        """Return the pictures at some paths (Arrow string)."""


class Unread(NamedTuple):
    """Why a picture could not be read."""

    reason: str


class Reader:
    """Reads items. It may be called in threads."""

    def __init__(self, items: Items, sources: Pictures | None, side: int | None) -> None:
        """Look for nothing yet.

        Args:
            items: the items.
            sources: where pictures come from; None for captions.
            side: the shorter side, in pixels, that is needed of a picture; None for the whole picture.
        """
        self._texts, self._side = items.texts, side or ANY_SIDE
        self._pictures = sources.open(items.texts) if sources is not None else None

    def read(self, rows: Int32s) -> list[Any]:
        """Read items.

        Args:
            rows: int32 (N,), rows of the items' texts.

        Returns:
            Pictures (PIL, RGB) or captions, in the order of `rows`; an `Unread` for each that could not be read.

        Raises:
            NewsCLIPpingsError, OSError: bytes could not be read, which may be different next time.
        """
        if self._pictures is None:
            return list(self._texts.take(as_array(rows)).to_pylist())
        self._pictures.look(rows)
        encoded = self._pictures.read(rows).to_pylist()
        return [self._decode(row, data) for row, data in zip(rows.tolist(), encoded, strict=True)]

    def _decode(self, row: int, data: bytes | None) -> Any:
        if self._pictures is not None and not data:
            return Unread(MISSING if self._pictures.why_absent(row) is None else LINK)
        if data is None or is_cut_by_zeros(data):
            return Unread(CUT)
        try:
            return decode({"bytes": data, "path": None}, self._side)
        except BadFileError as error:
            from PIL.Image import DecompressionBombError

            if isinstance(error.__cause__, MemoryError):
                message = f"There is not enough memory to decode {self._texts[row].as_py()}. Close other programs."
                raise NewsCLIPpingsError(message) from error
            return Unread(TOO_LARGE if isinstance(error.__cause__, DecompressionBombError) else BROKEN)
