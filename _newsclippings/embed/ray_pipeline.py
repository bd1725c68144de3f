"""The same parts as a pipeline of Ray Data: actors read and decode, actors encode, this process writes.

Ray schedules them, starts them again where a worker dies, and limits what is in memory. A row of the pipeline is a
batch of the encoder, made as in `loop`, so that the parts have the same bytes.
"""

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.embed.encoder import Encoder
from _newsclippings.embed.items import Items
from _newsclippings.embed.loop import READ, MadePart, Vectors, count_threads, encode, prepare, range_of, start_part
from _newsclippings.embed.reader import Reader, Unread
from _newsclippings.errors import ConfigError, MissingDependencyError, NewsCLIPpingsError
from _newsclippings.pictures import Layout, PictureSources
from _newsclippings.tables import Int64s, array_of, as_array

Open = Callable[[], PictureSources]
_IDS, _BYTES = pa.list_(pa.int64()), pa.list_(pa.binary())
# A part on its way in: the positions, ids and texts of its items, in the order of reading.
_PART = pa.schema([("number", pa.int64()), ("places", _IDS), ("ids", _IDS), ("texts", pa.list_(pa.string()))])
# A batch: pixels of pictures, with their widths, or captions in UTF-8. The last one of a part has `unread` (JSON).
_BATCH = pa.schema(
    [("number", pa.int64()), ("places", _IDS), ("ids", _IDS), ("items", _BYTES), ("widths", _IDS), ("last", pa.int64()),
     ("unread", pa.string())]
)  # fmt: skip
# Its vectors, float32, and how many there are of each item.
_VECTORS = pa.schema(
    [("number", pa.int64()), ("places", _IDS), ("values", pa.binary()), ("counts", _IDS), ("last", pa.int64()),
     ("unread", pa.string())]
)  # fmt: skip


@contextlib.contextmanager
def connect() -> Iterator[None]:
    """Connect to the Ray cluster of RAY_ADDRESS, or start one on this machine and stop it at the end.

    Raises:
        MissingDependencyError: Ray is not installed.
    """
    if find_spec("ray") is None:
        message = "engine='ray' needs Ray, which is not installed: pip install 'newsclippings[ray]'."
        raise MissingDependencyError(message)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anyone unasked
    import ray
    from ray.data import DataContext

    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)  # what the worker raised; the error around it shows Ray's own frames
        if isinstance(cause, NewsCLIPpingsError):
            raise cause from None
        raise
    finally:
        if started:
            ray.shutdown()


def describe_encoder(make: Callable[[], Encoder]) -> Encoder:
    """Open an encoder on a worker, and return what it is, without its functions: this machine may have no GPU."""
    import ray

    def describe() -> Encoder:
        return replace(make(), prepare=_refuse, encode=_refuse)

    described: Encoder = ray.get(ray.remote(num_gpus=min(1, _count_gpus()))(describe).remote())
    return described


def encode_parts_with_ray(
    items: Items,
    pictures: PictureSources | None,
    open_pictures: Open,
    make: Callable[[], Encoder],
    encoder: Encoder,
    numbers: Sequence[int],
    size: int,
    advance: Callable[[int], object],
) -> Iterator[MadePart[Vectors]]:
    """Encode parts; see `encode_parts`. Parts come in the order in which they are ready.

    Args:
        items: the items.
        pictures: where pictures come from; None for captions.
        open_pictures: opens them in a worker.
        make: opens the encoder in a worker.
        encoder: what `describe_encoder` returned.
        numbers: of the parts.
        size: items of a part.
        advance: called with the number of items after each batch.
    """
    import ray

    rows = [_list_part(items, number, size) for number in numbers]
    cpus, gpus = int(ray.cluster_resources().get("CPU", 1)), _count_gpus()
    encoders = min(len(rows), gpus or max(1, cpus // 2))
    readers = min(len(rows), max(1, cpus - (0 if gpus else encoders)))
    share = 1 if cpus > 1 else 0.5  # of a CPU, so that both kinds of actors find one
    opening = open_pictures if pictures is not None else None
    layouts = dict(pictures.layouts) if pictures is not None else {}
    each: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    batches = (
        ray.data.from_arrow(rows)
        .map_batches(
            _Read,
            fn_constructor_args=(opening, layouts, encoder),
            compute=ray.data.ActorPoolStrategy(size=readers),
            num_cpus=share,
            **each,
        )
        .map_batches(
            _Encode,
            fn_constructor_args=(make, encoder),
            compute=ray.data.ActorPoolStrategy(size=encoders),
            num_cpus=0 if gpus else share,
            num_gpus=1 if gpus else 0,
            **each,
        )
    )
    parts: dict[int, MadePart[Vectors]] = {}
    awaited: dict[int, int] = {}  # batches of a part, once its last row has come
    for table in batches.iter_batches(batch_size=None, batch_format="pyarrow"):
        for row in table.to_pylist():
            number = row["number"]
            part = parts.setdefault(number, start_part(items, number, size))
            if row["last"] is None:
                values = np.frombuffer(row["values"], np.float32).reshape(-1, encoder.width)
                part.pieces.append(Vectors(_numbers(row["places"]), values, _numbers(row["counts"])))
                advance(len(row["places"]))
            else:
                awaited[number] = row["last"]
                unread: dict[str, list[int]] = json.loads(row["unread"])
                part.unread |= unread
                advance(sum(map(len, unread.values())))
            if awaited.get(number) == len(part.pieces):
                yield parts.pop(number)
                awaited.pop(number)


def _list_part(items: Items, number: int, size: int) -> pa.Table:
    places = items.order(*range_of(items, number, size))
    texts = items.texts.take(as_array(items.rows[places])).to_pylist()
    return _one_row(_PART, number=number, places=places.tolist(), ids=items.ids[places].tolist(), texts=texts)


class _Read:
    """An actor that reads and decodes parts."""

    def __init__(self, open_pictures: Open | None, layouts: dict[str, Layout], encoder: Encoder) -> None:
        """Open the pictures; their layouts were found from all paths."""
        self._sources = open_pictures() if open_pictures is not None else None
        if self._sources is not None:
            self._sources.layouts |= layouts
        self._encoder = encoder

    def __call__(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the batches of a part, and a last row."""
        (row,) = table.to_pylist()
        ids, places = _numbers(row["ids"]), _numbers(row["places"])
        rows = np.arange(len(ids), dtype=np.int32)
        items = Items(self._encoder.of, ids, rows, array_of(row["texts"], pa.string()))
        reader = Reader(items, self._sources, self._encoder.side)
        unread: dict[str, list[int]] = {}
        waiting: list[tuple[int, Any]] = []
        count = 0
        for start in range(0, len(ids), READ):
            some = rows[start : start + READ]
            for place, value in zip(some.tolist(), reader.read(some), strict=True):
                if isinstance(value, Unread):
                    unread.setdefault(value.reason, []).append(int(ids[place]))
                else:
                    waiting.append((place, value))
            last = start + READ >= len(ids)
            while len(waiting) >= self._encoder.batch or (last and waiting):
                batch, waiting = waiting[: self._encoder.batch], waiting[self._encoder.batch :]
                count += 1
                at = np.array([place for place, _ in batch])
                yield _make_batch(row["number"], places[at], ids[at], [value for _, value in batch])
        yield _make_batch(row["number"], places[:0], ids[:0], [], last=count, unread=json.dumps(unread))


def _make_batch(
    number: int, places: Int64s, ids: Int64s, values: list[Any], last: int | None = None, unread: str | None = None
) -> pa.Table:
    return _one_row(
        _BATCH,
        number=number,
        places=places.tolist(),
        ids=ids.tolist(),
        items=[value.encode() if isinstance(value, str) else value.tobytes() for value in values],
        widths=[0 if isinstance(value, str) else value.width for value in values],
        last=last,
        unread=unread,
    )


class _Encode:
    """An actor that encodes batches."""

    def __init__(self, make: Callable[[], Encoder], expected: Encoder) -> None:
        """Open the encoder.

        Raises:
            ConfigError: it is not the same as on the worker that described it.
        """
        self._encoder = make()
        if json.dumps(self._encoder.facts, sort_keys=True) != json.dumps(expected.facts, sort_keys=True):
            names = {*self._encoder.facts, *expected.facts}
            other = [name for name in sorted(names) if self._encoder.facts.get(name) != expected.facts.get(name)]
            message = f"The workers have different encoders: {', '.join(other)} differs. Use workers of one kind."
            raise ConfigError(message)
        self._pool = ThreadPoolExecutor(count_threads())

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encode one batch; the last row of a part is handed on."""
        (row,) = table.to_pylist()
        facts = {name: row[name] for name in ("number", "places", "last", "unread")}
        if row["last"] is not None:
            return _one_row(_VECTORS, **facts, values=b"", counts=[])
        ids = _numbers(row["ids"])
        prepared = self._pool.map(self._prepare, range(len(ids)), ids, row["items"], row["widths"])
        vectors = encode(self._encoder, ids, list(prepared))
        return _one_row(_VECTORS, **facts, values=vectors.values.tobytes(), counts=vectors.counts.tolist())

    def _prepare(self, place: int, name: int, data: bytes, width: int) -> tuple[int, Any]:
        value: Any = data.decode() if self._encoder.of == "captions" else _to_picture(data, width)
        return place, prepare(self._encoder, np.array([name]), [value])[0]


def _to_picture(data: bytes, width: int) -> Any:
    from PIL import Image

    return Image.frombytes("RGB", (width, len(data) // (3 * width)), data)


def _one_row(schema: pa.Schema, **values: Any) -> pa.Table:
    return pa.Table.from_arrays([array_of([values[field.name]], field.type) for field in schema], schema=schema)


def _numbers(values: list[int]) -> Int64s:
    return np.array(values, np.int64)


def _count_gpus() -> int:
    import ray

    return int(ray.cluster_resources().get("GPU", 0))


def _refuse(_: Any) -> Any:
    message = "The encoder is on the workers."
    raise ConfigError(message)
