"""Odd pictures, each with the pixels that it shows; and mutants of them: `python -m tests.sweeps.odd_pictures`.

A mutant is a picture or `BadFileError`: any other exception, warning or signal is a fault, and so is a picture that is
not RGB or carries metadata.
"""

from __future__ import annotations

import io
import random
import struct
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from newsclippings import BadFileError, decode_small

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 24, 32
SAMPLES = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 4), np.uint16)
MARKER = b"SecretPlace"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG's kinds of colour


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples: npt.NDArray[Any], depth: int, kind: int, before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG by its definition, without Pillow.

    Args:
        samples: (H, W, channels), of `depth` bits each.
        depth: 1, 2, 4, 8 or 16.
        kind: 0 grey, 2 colours, 3 palette, 4 and 6 the first two with transparency.
        before: chunks before the pixels.
        after: chunks behind them.
    """
    height, width = samples.shape[:2]
    flat = samples.reshape(height, -1)
    if depth == 16:
        lines = [row.astype(">u2").tobytes() for row in flat]
    else:
        bits = (flat[..., None].astype(np.uint8) >> np.arange(depth - 1, -1, -1)) & 1
        lines = [np.packbits(row.ravel()).tobytes() for row in bits]
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    chunks = [chunk(b"IHDR", head), before, chunk(b"IDAT", data), after, chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def on_white(color: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """What is seen of a colour of some opacity (0 to 255) on white paper."""
    share = alpha.astype(float)[..., None] / 255
    return color.astype(float) * share + 255 * (1 - share)


def _png_cases() -> Iterator[tuple[str, bytes, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Name, file, what is seen, and the colours without regard to transparency."""
    for depth in (1, 2, 4, 8, 16):
        most = 2**depth - 1
        grey = (SAMPLES[..., :1] >> (16 - depth)).astype(np.uint16)
        shown = (grey >> 8 if depth == 16 else grey * (255 // most)).astype(np.uint8).repeat(3, axis=-1)
        yield f"grey of {depth} bits", png(grey, depth, 0), shown, shown
        key = int(grey[3, 5, 0])
        see = np.where(grey == key, 255, shown)
        yield (
            f"grey of {depth} bits, {key} is clear",
            png(grey, depth, 0, chunk(b"tRNS", struct.pack(">H", key))),
            see,
            shown,
        )
        if depth <= 8:
            palette = SAMPLES.view(np.uint8).ravel()[: 3 * (most + 1)].reshape(-1, 3)
            alphas = np.resize([255, 0, 128, 77], most + 1).astype(np.uint8)
            colors, index = palette[grey[..., 0]], grey[..., 0]
            plte = chunk(b"PLTE", palette.tobytes())
            yield f"palette of {depth} bits", png(grey, depth, 3, plte), colors, colors
            clear = plte + chunk(b"tRNS", b"\xff\0")
            see = np.where((index == 1)[..., None], 255, colors)
            yield f"palette of {depth} bits, 1 is clear", png(grey, depth, 3, clear), see, colors
            half = plte + chunk(b"tRNS", alphas.tobytes())
            yield (
                f"palette of {depth} bits, some of it half clear",
                png(grey, depth, 3, half),
                on_white(colors, alphas[index]),
                colors,
            )
    for depth in (8, 16):
        every = SAMPLES >> (16 - depth)
        small = (SAMPLES >> 8).astype(np.uint8)
        rgb, alpha, even = small[..., :3], small[..., 3], small[..., :1].repeat(3, axis=-1)
        yield f"colours of {depth} bits", png(every[..., :3], depth, 2), rgb, rgb
        color = every[3, 5, :3]
        clear = chunk(b"tRNS", color.astype(">u2").tobytes())
        see = np.where((every[..., :3] == color).all(-1, keepdims=True), 255, rgb)
        yield f"colours of {depth} bits, one is clear", png(every[..., :3], depth, 2, clear), see, rgb
        yield f"colours of {depth} bits with opacity", png(every, depth, 6), on_white(rgb, alpha), rgb
        yield f"grey of {depth} bits with opacity", png(every[..., [0, 3]], depth, 4), on_white(even, alpha), even


def png_cases() -> dict[str, tuple[bytes, npt.NDArray[Any], npt.NDArray[Any]]]:
    """All kinds of PNG: name -> file, what is seen, and the colours without regard to transparency."""
    return {name: (data, seen, colors) for name, data, seen, colors in _png_cases()}


# EXIF


def exif(entries: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """EXIF of tags (number, type, count, four bytes), with some bytes behind them."""
    body = struct.pack(order + "H", len(entries))
    body += b"".join(struct.pack(order + "HHL", *entry[:3]) + entry[3] for entry in entries) + bytes(4)
    return b"Exif\0\0" + (b"II" if order == "<" else b"MM") + struct.pack(order + "HL", 42, 8) + body + bytes(64)


def turn(value: int, order: str = "<") -> tuple[int, int, int, bytes]:
    """The tag of the orientation."""
    return (0x0112, 3, 1, struct.pack(order + "HH", value, 0))


ODD_TAGS: dict[str, list[tuple[int, int, int, bytes]]] = {  # beside the orientation, in the order of their numbers
    "resolution as bytes": [(0x011A, 1, 9, struct.pack("<L", 46))],
    "resolution as text": [(0x011B, 2, 1, b"x\0\0\0")],
    "an empty tag of shorts": [(37510, 3, 0, b"k\xcc\xb7\x88"), (40965, 2, 2, b"xy\0\0")],
    "artist as floats": [(0x013B, 11, 1, b"\0\0\0V")],
    "offsets to nowhere behind": [(0x013B, 9, 2, struct.pack("<L", 33)), (0x9286, 7, 99, struct.pack("<L", 2**31))],
    "an offset to nowhere before": [(0x010F, 2, 40, struct.pack("<L", 9_999_999))],
    "a size beyond all before": [(0x010F, 2, 2**31, struct.pack("<L", 30))],
    "an unknown type before": [(0x010F, 77, 4, b"abcd")],
    "a place as its own directory": [(0x8825, 4, 1, struct.pack("<L", 8))],
    "a place as text": [(0x8825, 2, 4, b"abc\0")],
    "a thousand tags": [(0x9000 + k, 3, 1, b"\1\0\0\0") for k in range(1000)],
    "a fraction by zero": [(0x011A, 5, 1, struct.pack("<L", 40))],
}
TURNED: dict[
    int, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
] = {  # orientation -> how rows and columns of what is stored are to be read
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def smooth(height: int = 48, width: int = 64) -> Image.Image:
    """A picture whose corners differ."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.dstack([x * 255 // width, y * 255 // height, 255 - x * 255 // width]).astype(np.uint8))


# Metadata


def _profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile + MARKER


def with_metadata() -> dict[str, bytes]:
    """Pictures that say in every place of their metadata where they were taken."""
    tags = Image.Exif()
    tags[0x010E] = MARKER.decode()  # ImageDescription
    tags[0x013B] = MARKER.decode()  # Artist
    tags.get_ifd(0x8825)[29] = MARKER.decode()  # of the place: its date
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + MARKER + b"</x:xmpmeta>"
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x10\x1c\x02\x78\0\x0b" + MARKER
    app13 = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    app1 = b"http://ns.adobe.com/xap/1.0/\0" + xmp
    jpeg = encoded(smooth(), "JPEG", comment=MARKER, exif=tags, icc_profile=_profile())
    jpeg = jpeg[:2] + app13 + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:] + MARKER
    packed = zlib.compress(MARKER)
    texts = chunk(b"tEXt", b"Comment\0" + MARKER) + chunk(b"zTXt", b"Author\0\0" + packed)
    texts += chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp) + chunk(b"tEXt", b"comment\0" + MARKER)
    texts += chunk(b"eXIf", tags.tobytes()[6:]) + chunk(b"iCCP", b"p\0\0" + zlib.compress(_profile()))
    whole = encoded(smooth(), "PNG")
    return {
        "JPEG": jpeg,
        "PNG": whole[:33] + texts + whole[33:],
        "GIF": encoded(smooth().convert("P"), "GIF", comment=MARKER),
        "WEBP": encoded(smooth(), "WEBP", exif=tags.tobytes(), xmp=xmp, icc_profile=_profile()),
    }


# Mutants


def seeds() -> list[bytes]:
    """Pictures of every format and mode, small."""
    image = smooth(9, 13)
    frames = [image.rotate(90 * k) for k in range(3)]
    found = [data for data, _, _ in png_cases().values()]
    found += [encoded(image.convert(mode), "JPEG") for mode in ("RGB", "L", "CMYK")]
    found += [
        encoded(image, "JPEG", progressive=True, comment=b"c"),
        encoded(image, "MPO", save_all=True, append_images=frames),
        encoded(image, "PNG", save_all=True, append_images=frames),
        encoded(image, "GIF", save_all=True, append_images=frames, transparency=0),
        encoded(image, "WEBP", save_all=True, append_images=frames),
        encoded(image.convert("RGBA"), "WEBP", lossless=True),
    ]
    found += [encoded(image.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    found += [encoded(image, "JPEG", exif=exif(sorted([turn(6), *tags]))) for tags in ODD_TAGS.values()]
    found += [encoded(image, "WEBP", exif=exif([turn(6)])), encoded(image, "PNG", exif=exif([turn(6)])[6:])]
    return [*found, *with_metadata().values()]


NUMBERS = [struct.pack(form, value) for form in (">H", "<H", ">I", "<I", "B") for value in (0, 1, 127, 255)]
NUMBERS += [b"\xff\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xda", b"\xff\xd9", b"\xff\xc4"]


def mend(data: bytes) -> bytes:
    """A PNG with the checksums of its chunks put right, so that what is wrong in them is read."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    out, place = data[:8], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if place + 12 + length > len(data):
            break
        body = data[place + 4 : place + 8 + length]
        out += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return out + data[place:]


def mutants(count: int, seed: int = 0) -> Iterator[bytes]:
    """Damaged pictures: bits, numbers, cuts, pieces of others."""
    dice, every = random.Random(seed), seeds()
    for k in range(count):
        data = bytearray(every[k % len(every)])
        for _ in range(dice.choice((1, 1, 2, 4, 8))):
            place, how = dice.randrange(len(data)), dice.randrange(5)
            if dice.random() < 0.5:
                place = dice.randrange(min(len(data), 120))  # headers
            if how == 0:
                data[place] ^= 1 << dice.randrange(8)
            elif how == 1:
                some = dice.choice(NUMBERS)
                data[place : place + len(some)] = some
            elif how == 2:
                other = dice.choice(every)
                start = dice.randrange(len(other))
                data[place:place] = other[start : start + dice.randrange(1, 40)]
            elif how == 3:
                del data[place : place + dice.randrange(1, 20)]
            else:
                data[place] = dice.randrange(256)
            data = data or bytearray(b"\0")
        if dice.random() < 0.1:
            del data[dice.randrange(len(data)) :]
        yield mend(bytes(data)) if dice.random() < 0.7 else bytes(data)


def fault(data: bytes) -> str | None:
    """What is wrong with how bytes are decoded."""
    try:
        small = decode_small({"bytes": data, "path": None}, 8)
    except BadFileError as error:
        return None if str(error).isprintable() else f"a message that is not one line: {error!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if small.mode != "RGB" or small.info or not min(small.size):
        return f"{small.mode} of {small.size}, {small.info}"
    return None


@click.command()
@click.option("--mutants", "count", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(count: int, seed: int) -> None:
    """Decode mutants; tells of those that do anything but give a picture or BadFileError."""
    warnings.simplefilter("error")
    wrong = 0
    for data in mutants(count, seed):
        if found := fault(data):
            wrong += 1
            click.echo(f"{data[:3000].hex()}\n{found}")
    click.echo(f"{count:,} mutants of {len(seeds())} pictures: {wrong} wrong")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
