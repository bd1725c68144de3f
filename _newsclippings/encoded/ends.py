"""Check whether an encoded picture has its end, from its bytes. Only a WEBP that ends in zeros is decoded.

An interrupted download into a preallocated file has the right size, and zeros from some byte on. A picture in it begins
correctly and has no end. Zeros after the end of a picture are harmless, and some programs write them.
"""

import io
import re

from _newsclippings.encoded.decoding import MAX_PIXELS, import_decoder, quiet

TAIL = 512  # bytes at the end of a picture that are all zero if its data were never written
HEADER = 54  # bytes before the pixels, in any format without an end marker
SUSPICIOUS_ZEROS = 8  # hardly any picture ends with so many zeros
HEADER_OF_BMP = 29  # bytes up to its bits per pixel, after which a black picture may be all zeros
_LAST = 8  # if they are missing, no decoder of lossy WEBP reaches the end of a picture that needs all of its bytes
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # a marker of a JPEG, except those within scans
_ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82", b";")  # of JPEG, PNG and GIF
_IMAGES = (b"VP8 ", b"VP8L", b"ANMF")  # chunks of a WEBP that hold pixels


def has_end(data: bytes) -> bool | None:
    """Check whether a picture has its end marker; None if its format has none (BMP), or it is no picture."""
    if data.startswith(b"\xff\xd8\xff"):
        return jpeg_has_end(data)
    if data.startswith(b"\x89PNG"):
        return _ENDS[1] in data
    if data.startswith(b"GIF8"):
        return gif_has_end(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return webp_has_end(data)
    return None


def is_cut_by_zeros(data: bytes) -> bool:
    """Check whether a picture ends in zeros in place of its end, or is nothing but zeros."""
    if not data or data[-1] or any(data[-TAIL:]):
        return False
    begins = len(data.rstrip(b"\0"))
    if len(data) < TAIL:
        return not begins
    return not may_be_whole(data, begins)


def may_be_whole(data: bytes, begins: int) -> bool:
    """Check whether a picture may be whole although it is zeros from byte `begins` on.

    It may be if its end marker comes before the zeros, or if its format has no end marker.
    """
    end = has_end(data)
    return end or (end is None and begins >= (HEADER_OF_BMP if data.startswith(b"BM") else HEADER))


def ends_at_zeros(data: bytes, begins: int) -> bool:
    """Check whether the zeros from byte `begins` on directly follow an end marker, so that no data are missing."""
    return webp_has_end(data, SUSPICIOUS_ZEROS) if data.startswith(b"RIFF") else data[:begins].endswith(_ENDS)


def jpeg_has_end(data: bytes) -> bool:
    """Check for the end-of-image marker of a JPEG; those of a thumbnail or a second picture in it do not count."""
    place = 2
    while marker := _MARKER.search(data, place):
        place = marker.end()
        if marker[0] == b"\xff\xd9":
            return True
        place += int.from_bytes(data[place : place + 2], "big")
    return False


def gif_has_end(data: bytes) -> bool:
    """Check for the trailer of a GIF, right after its last block."""
    place = 13 + _palette_size(data[10:11])
    while place < len(data):
        kind = data[place]
        if kind == 0x3B:  # the trailer
            return True
        if kind == 0x21:  # an extension
            place += 2
        elif kind == 0x2C:  # a frame: its position, its palette, the size of its codes
            place += 11 + _palette_size(data[place + 9 : place + 10])
        else:
            return False
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
    return False


def _palette_size(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def webp_has_end(data: bytes, tail: int = TAIL) -> bool:
    """Check whether a WEBP has its last chunk with pixels, and this does not end in zeros or needs its zeros."""
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
    """Check whether the zeros at the end of a lossy WEBP are data, as in a picture whose lower part has one colour.

    If they are, the picture decodes, and does not decode without the last of them. If they replace other data, the
    picture does not decode, or decodes without the last zeros too, since zeros take the fewest bytes to decode.

    Args:
        webp: the picture.
        place: byte at which the chunk with its pixels begins.
        pixels: content of that chunk.
    """
    shorter = pixels[:-_LAST]
    chunks = webp[12:place] + b"VP8 " + len(shorter).to_bytes(4, "little") + shorter + bytes(len(shorter) % 2)
    return _decodes(webp) and not _decodes(b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"WEBP" + chunks)


def _decodes(webp: bytes) -> bool:
    import_decoder()
    from PIL import Image

    try:
        with quiet(), Image.open(io.BytesIO(webp), formats=["WEBP"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return False
            picture.load()
    except Exception:  # Pillow raises errors of many types for broken files
        return False
    return True
