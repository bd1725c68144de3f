"""The loop that reads, prepares and encodes: threads read ahead while the encoder works."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from _newsclippings.embed.encoder import Encoder, Float32s
from _newsclippings.embed.items import Items
from _newsclippings.embed.reader import NO_RECORD, Reader, Unread
from _newsclippings.errors import ConfigError
from _newsclippings.storage import limit_threads, map_ahead
from _newsclippings.tables import Int64s
from _newsclippings.text import printable

READ = 16  # items that a thread reads and prepares at a time


class Vectors(NamedTuple):
    """Vectors of some items.

    Attributes:
        places: int64 (N,), the positions of the items.
        values: float32 (M, width), their vectors.
        counts: int64 (N,), how many vectors each item has.
    """

    places: Int64s
    values: Float32s
    counts: Int64s


_Piece = TypeVar("_Piece")


@dataclass
class MadePart(Generic[_Piece]):
    """What was made of all items of a part.

    Attributes:
        number: of the part.
        pieces: its batches.
        unread: reason -> ids that could not be read.
    """

    number: int
    pieces: list[_Piece] = field(default_factory=list)
    unread: dict[str, list[int]] = field(default_factory=dict)


def join_vectors(pieces: Sequence[Vectors], width: int) -> Vectors:
    """Return the vectors of a part in the order of the ids."""
    places = np.concatenate([np.empty(0, np.int64), *(piece.places for piece in pieces)])
    values = np.concatenate([np.empty((0, width), np.float32), *(piece.values for piece in pieces)])
    counts = np.concatenate([np.empty(0, np.int64), *(piece.counts for piece in pieces)])
    order = np.argsort(places)
    if (counts == 1).all():
        return Vectors(places[order], values[order], counts)
    owners = np.repeat(np.arange(len(places)), counts)
    return Vectors(places[order], values[np.argsort(np.argsort(order)[owners], kind="stable")], counts[order])


def range_of(items: Items, number: int, size: int) -> tuple[int, int]:
    """Return the positions of the first item of a part, and of the one after its last."""
    return number * size, min((number + 1) * size, len(items.ids))


def count_ids(items: Items, number: int, size: int) -> int:
    """Count the ids of a part."""
    start, stop = range_of(items, number, size)
    return stop - start


def start_part(items: Items, number: int, size: int) -> MadePart[Any]:
    """Begin a part: the ids without a record are unread."""
    start, stop = range_of(items, number, size)
    unknown = items.ids[start:stop][items.rows[start:stop] < 0].tolist()
    return MadePart(number, unread={NO_RECORD: unknown} if unknown else {})


class _Chunk(NamedTuple):
    """Items that are read together; `last` if they are the last of their part."""

    number: int
    places: Int64s
    last: bool


def encode_parts(
    items: Items,
    reader: Reader,
    encoder: Encoder,
    numbers: Sequence[int],
    size: int,
    advance: Callable[[int], object] = lambda _: None,
) -> Iterator[MadePart[Vectors]]:
    """Encode parts.

    Batches are made of neighbours in the order of `Items.order`, never across parts, so a part has the same vectors
    whichever parts are encoded with it. Threads read ahead at least a batch and two chunks each: neither they nor the
    encoder wait for the slower of the two longer than necessary, and memory stays bounded.

    Args:
        items: the items.
        reader: reads them.
        encoder: encodes them.
        numbers: of the parts.
        size: items of a part.
        advance: called with the number of items after each chunk.

    Raises:
        NewsCLIPpingsError: an input cannot be read, or the encoder returned something else than vectors.
    """

    def chunks() -> Iterator[_Chunk]:
        for number in numbers:
            places = items.order(*range_of(items, number, size))
            starts = range(0, len(places), READ) or range(1)
            yield from (_Chunk(number, places[k : k + READ], k == starts[-1]) for k in starts)

    def read(chunk: _Chunk) -> list[Any]:
        return prepare(encoder, items.ids[chunk.places], reader.read(items.rows[chunk.places]))

    threads = count_threads()
    ahead = 2 * threads + -(-encoder.batch // READ)
    part: MadePart[Vectors] | None = None
    waiting: list[tuple[int, Any]] = []  # prepared items and their positions, fewer than a batch
    with ThreadPoolExecutor(threads, thread_name_prefix="newsclippings") as pool:
        for chunk, values in map_ahead(pool, read, chunks(), ahead):
            part = part or start_part(items, chunk.number, size)
            for place, value in zip(chunk.places.tolist(), values, strict=True):
                if isinstance(value, Unread):
                    part.unread.setdefault(value.reason, []).append(int(items.ids[place]))
                else:
                    waiting.append((place, value))
            while len(waiting) >= encoder.batch or (chunk.last and waiting):
                batch, waiting = waiting[: encoder.batch], waiting[encoder.batch :]
                part.pieces.append(encode(encoder, items.ids, batch))
            advance(len(chunk.places))
            if chunk.last:
                yield part
                part = None


def count_threads() -> int:
    """Return how many threads read: one for each core that this rank has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return limit_threads(max(1, cores // max(1, int(ranks) if ranks.isdecimal() else 1)))


def prepare(encoder: Encoder, ids: Int64s, values: list[Any]) -> list[Any]:
    """Make items that were read ready for the encoder; an `Unread` stays as it is."""
    prepared = []
    for number, value in zip(ids.tolist(), values, strict=True):
        try:
            prepared.append(value if isinstance(value, Unread) else encoder.prepare(value))
        except Exception as error:
            error.add_note(f"The encoder failed to prepare {encoder.of}: id {number}.")
            raise
    return prepared


def encode(encoder: Encoder, ids: Int64s, batch: list[tuple[int, Any]]) -> Vectors:
    """Encode a batch, and check its vectors.

    Args:
        encoder: encodes it.
        ids: int64 (N,), the ids of all items.
        batch: positions and prepared items.

    Raises:
        ConfigError: the encoder returned arrays of another shape, or a vector that is zero or not finite.
    """
    places = np.array([place for place, _ in batch], np.int64)
    prepared = [value for _, value in batch]
    try:
        answer = encoder.encode(prepared)
    except Exception as error:
        error.add_note(
            f"The encoder failed at a batch of {len(batch)} {encoder.of}: ids {ids[places[:5]].tolist()} ..."
        )
        raise
    if encoder.several:
        arrays = [_to_floats(encoder, each) for each in answer]
        shapes = [array.shape for array in arrays if array.ndim != 2 or array.shape[1] != encoder.width]
        if shapes or len(arrays) != len(batch):
            found = f"one of shape {shapes[0]}" if shapes else f"{len(arrays)} arrays"
            expected = f"{len(batch)} arrays of shape (any, {encoder.width})"
            raise _wrong_encoder(encoder, f"expected {expected}, found {found}")
        values = np.concatenate([np.empty((0, encoder.width), np.float32), *arrays])
        counts = np.array([len(array) for array in arrays], np.int64)
    else:
        values, counts = _to_floats(encoder, answer), np.ones(len(batch), np.int64)
        if values.shape != (len(batch), encoder.width):
            shape = (len(batch), encoder.width)
            raise _wrong_encoder(encoder, f"expected an array of shape {shape}, found {values.shape}")
    check_values(encoder.of, ids[places].repeat(counts), values)
    return Vectors(places, values, counts)


def _to_floats(encoder: Encoder, answer: Any) -> Float32s:
    """Copy what an encoder returned; raise `ConfigError` if it is not numbers."""
    try:
        array: npt.NDArray[Any] = np.array(answer, copy=None)
    except Exception as error:  # of numpy, or of the library whose tensor it is
        raise _wrong_encoder(encoder, f"{type(answer).__name__} ({printable(str(error))[:100]})") from error
    if array.dtype.kind not in "fiu":
        raise _wrong_encoder(encoder, f"expected numbers, found {type(answer).__name__} of type {array.dtype}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return np.array(array, np.float32)


def check_values(of: str, ids: Int64s, values: npt.NDArray[Any]) -> None:
    """Raise `ConfigError` for a vector that is zero or not finite.

    Args:
        of: `"pictures"` or `"captions"`.
        ids: int64 (N,), the id of each vector.
        values: float32 or float16 (N, width).
    """
    for wrong, what in ((~np.isfinite(values).all(axis=1), "not finite"), (~values.any(axis=1), "zero")):
        if wrong.any():
            name = int(ids[np.argmax(wrong)])
            kind = "" if values.dtype == np.float32 else f" as {values.dtype}"
            do = "Correct the encoder, or leave the id out." if not kind else "Store float32."
            message = f"The vector of id {name} ({of}) is {what}{kind}. {do}"
            raise ConfigError(message)


def _wrong_encoder(encoder: Encoder, what: str) -> ConfigError:
    name = encoder.facts.get("model", "a callable")
    return ConfigError(f"The encoder {name} returned something else than vectors of {encoder.of}: {what}.")
