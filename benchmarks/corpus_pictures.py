"""Generate pictures and articles with the sizes of a news site's."""

import io
import math

import numpy as np
from PIL import Image

WIDTHS = (480, 600, 620, 640, 700, 780)
RATIOS = (0.6, 2 / 3, 2 / 3, 0.75, 1.0, 1.3)  # height / width
MEAN_KB = 68


def draw_pictures(random: np.random.Generator, count: int) -> list[bytes]:
    """Draw `count` JPEGs; every sixteenth is progressive, the seventh is grey."""
    return [_draw(random, grey=k == 6, progressive=k % 16 == 3) for k in range(count)]


def _draw(random: np.random.Generator, grey: bool, progressive: bool) -> bytes:
    """Draw noise of several sizes, with rectangles as the edges of people and buildings."""
    width = int(random.choice(WIDTHS))
    height = int(width * random.choice(RATIOS))
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 9):
        cells = (max(1, 2**octave * height // width), 2**octave, 3)
        noise = random.integers(0, 256, cells, np.uint8)
        picture += np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)) * 0.62**octave
    for _ in range(12):
        y, x = random.integers(0, height - 20), random.integers(0, width - 20)
        picture[y : y + height // 3, x : x + width // 4] += random.normal(0, 14, 3)
    picture = (picture - picture.min()) * (255 / np.ptp(picture))
    image = Image.fromarray(picture.astype(np.uint8))
    if grey:
        image = image.convert("L")
    target = np.clip(random.lognormal(math.log(MEAN_KB) - 0.08, 0.4), 30, 160) * 1024
    tries = [_encode(image, quality, progressive) for quality in (35, 50, 65, 75, 85, 90, 95)]
    return min(tries, key=lambda data: abs(len(data) - float(target)))


def _encode(image: Image.Image, quality: int, progressive: bool) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, progressive=progressive)
    return out.getvalue()


def unique(jpeg: bytes, number: int) -> bytes:
    """Add a comment with a number to a JPEG, so that no two files are the same."""
    comment = b"picture %012d" % number
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


class Article:
    """Articles of 300 bytes to about 4 kB."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._words = b"Lorem ipsum dolor sit amet, consectetur adipiscing elit. " * 80

    def text(self) -> bytes:
        """Make the next article."""
        return self._words[: max(300, int(self._random.lognormal(8, 0.5)))]


def sparse_sizes(random: np.random.Generator, count: int) -> tuple[list[int], list[int]]:
    """Draw the sizes of `count` pictures and articles."""
    pictures = np.clip(random.lognormal(math.log(64_000), 0.45, count), 20_000, 300_000).astype(int)
    articles = np.clip(random.lognormal(8, 0.5, count), 300, 30_000).astype(int)
    return pictures.tolist(), articles.tolist()
