"""Process pictures as a training loop does; shared by all contenders."""

import time
from collections.abc import Iterable

import numpy as np
from PIL import Image

from benchmarks.job import Outcome

SIDE = 224


def read_all(pictures: Iterable[Image.Image], limit: int) -> Outcome:
    """Decode up to `limit` pictures, convert to RGB, resize and make arrays; time all of them together."""
    start = time.perf_counter()
    count, total = 0, 0
    for picture in pictures:
        total += int(np.asarray(picture.convert("RGB").resize((SIDE, SIDE)))[0, 0, 0])
        count += 1
        if count == limit:
            break
    seconds = time.perf_counter() - start
    return {"rows": count, "seconds": seconds, "checksum": total, "note": f"{count / seconds:,.0f} samples/s"}
