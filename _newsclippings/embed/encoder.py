"""What an encoder is to the rest of this package."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Encoder:
    """Turns pictures or captions into vectors.

    Attributes:
        of: `"pictures"` or `"captions"`.
        width: numbers of a vector.
        facts: what decides the vectors, as JSON: model, revision, SHA-256 of the weights, preprocessing, versions of
            the libraries, device and dtype. Another value means other vectors.
        prepare: makes one picture (PIL, RGB) or caption (str) ready; called in threads.
        encode: makes the vectors of a batch of what `prepare` returned: float32 (N, width); or, if `several`, one array
            (k, width) for each item, of any k.
        several: whether an item has any number of vectors, and not one.
        normalised: whether the vectors have length 1.
        side: the shorter side, in pixels, that `prepare` needs of a picture; None for the whole picture.
        batch: items of a batch.
    """

    of: str
    width: int
    facts: dict[str, Any]
    prepare: Callable[[Any], Any]
    encode: Callable[[list[Any]], Float32s | list[Float32s]]
    several: bool = False
    normalised: bool = False
    side: int | None = None
    batch: int = 32
