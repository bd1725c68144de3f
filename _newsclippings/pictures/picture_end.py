"""Whether an encoded picture has its end, by its bytes; only a WEBP that ends in zeros is decoded.

A download that was broken off may have the right size and zeros from some byte on. A picture in it begins as it should
and has no end. Zeros behind the end of a picture are harmless, and some programs write them.
"""

import io
import re

from _newsclippings.pictures.decoding import MAX_PIXELS, import_decoder, quiet

TAIL = 512  # bytes at the end of a picture that are zero where its data were never written
HEADER = 54  # bytes that are before the pixels of any picture without a mark of its end
FEW = 8  # zeros that hardly any picture ends with
HEADER_OF_BMP = 29  # up to its bits per pixel, behind which a black one may have nothing but zeros
_LAST = 8  # bytes without which no decoder of lossy WEBP comes to the end of a picture that takes all of its bytes
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of a JPEG's segments; others stand alone, in its scans
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82", b";")  # of JPEG, PNG and GIF
_IMAGES = (b"VP8 ", b"VP8L", b"ANMF")  # chunks of a WEBP that hold pixels


def has_end(data: bytes) -> bool | None:
    """Whether the end of a picture is there; None where its format marks none (BMP), or it is no picture."""
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_has_end(data)
    if data.startswith(b"\x89PNG"):
        return _ENDS[1] in data
    if data.startswith(b"GIF8"):
        return _gif_has_end(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_has_end(data)
    return None


def is_cut_by_zeros(data: bytes) -> bool:
    """Whether a picture ends in zeros where its end should be, or is nothing but zeros."""
    if not data or data[-1] or any(data[-TAIL:]):
        return False
    begins = len(data.rstrip(b"\0"))
    if len(data) < TAIL:
        return not begins
    return not ends_so(data, begins)


def ends_so(data: bytes, begins: int) -> bool:
    """Whether a picture that is zeros from some byte on may be whole: its end is before them, or has no mark."""
    end = has_end(data)
    return end or (end is None and begins >= (HEADER_OF_BMP if data.startswith(b"BM") else HEADER))


def is_last_before(data: bytes, begins: int) -> bool:
    """Whether the end of a picture that has one is the last before the zeros: no second picture is cut in it."""
    return _webp_has_end(data, FEW) if data.startswith(b"RIFF") else data[:begins].endswith(_ENDS)


def jpeg_has_end(data: bytes) -> bool:
    """Whether its own end-of-image marker is there: one in a thumbnail before or in a second picture behind is none."""
    place = 2
    while found := _MARKER.search(data, place):
        place = found.end()
        if found[0] == b"\xff\xd9":
            return True
        place += int.from_bytes(data[place : place + 2], "big")
    return False


def _gif_has_end(data: bytes) -> bool:
    """Whether the trailer is there, where the blocks before it end."""
    place = 13 + _palette(data[10:11])
    while place < len(data):
        kind = data[place]
        if kind == 0x3B:  # the trailer
            return True
        if kind == 0x21:  # an extension
            place += 2
        elif kind == 0x2C:  # a picture: its place, its palette, the size of its codes
            place += 11 + _palette(data[place + 9 : place + 10])
        else:
            return False
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return False


def _palette(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _webp_has_end(data: bytes, tail: int = TAIL) -> bool:
    """Whether the last chunk with pixels is there, and does not end in zeros, or needs those that it ends in."""
    place, end = 12, min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    pixels, last = b"", 0
    while place + 8 <= end:
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if data[place : place + 4] == bytes(4) or place + 8 + size > end:
            return False
        if data[place : place + 4] in _IMAGES:
            pixels, last = data[place + 8 : place + 8 + size], place
        place += 8 + size + size % 2
    return any(pixels[-tail:]) or (data[last : last + 4] == b"VP8 " and _needs_its_zeros(data, last, pixels))


def _needs_its_zeros(webp: bytes, place: int, pixels: bytes) -> bool:
    """Whether the zeros at the end of a lossy WEBP are data, as where its lower part has one colour.

    Then it decodes, and does not without the last of them. Where zeros stand for other data, a decoder does not decode
    the picture, or does without them, since zeros cost it the fewest bytes.

    Args:
        webp: the picture.
        place: where the chunk with its pixels begins.
        pixels: what is in it.
    """
    less = pixels[:-_LAST]
    chunks = webp[12:place] + b"VP8 " + len(less).to_bytes(4, "little") + less + bytes(len(less) % 2)
    return _decodes(webp) and not _decodes(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks)


def _decodes(webp: bytes) -> bool:
    import_decoder()
    from PIL import Image

    try:
        with quiet(), Image.open(io.BytesIO(webp), formats=["WEBP"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return False
            picture.load()
    except Exception:  # whatever Pillow raises at broken files
        return False
    return True
