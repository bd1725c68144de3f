"""The scores of tiles with torch, on a GPU or another device: everything but float64 scores stays there."""

from typing import Any

import numpy as np

from _newsclippings.errors import ConfigError
from _newsclippings.generate.entities import Inverse, Lists
from _newsclippings.generate.tiles import (
    FORBIDDEN,
    LOWEST,
    Bools,
    Engine,
    Float32s,
    Float64s,
    Step,
    Tile,
)
from _newsclippings.tables import Int32s, Int64s


def make_engine(query: Float32s, against: Float32s, device: str) -> Engine:
    """Return the engine of a device; the vectors of all pictures are kept on it.

    Args:
        query: float32 (N, width), of the captions; may be mapped.
        against: float32 (N, width), of the pictures; may be mapped.
        device: such as `cuda:0`.

    Raises:
        ConfigError: torch would multiply with less than float32.
    """
    import torch

    if torch.get_float32_matmul_precision() != "highest":
        message = "torch multiplies with less than float32. Call torch.set_float32_matmul_precision('highest')."
        raise ConfigError(message)

    def put(values: Any) -> Any:
        return torch.from_numpy(np.array(values)).to(device)  # a copy: mapped vectors cannot be written to

    kept = put(against)
    forbidden, lowest_of_all = float(FORBIDDEN), float(LOWEST)

    def some(tile: Tile) -> Any:
        return tile.columns if isinstance(tile.columns, slice) else put(tile.columns.astype(np.int64))

    def compare(tile: Tile, _: int) -> Any:
        return put(query[tile.rows]) @ kept[some(tile)].T

    def forbid(scores: Any, rows: Int64s, places: Int64s) -> None:
        scores[put(rows), put(places)] = forbidden

    def forbid_own(scores: Any, tile: Tile) -> None:
        forbid(scores, *tile.place(tile.rows))

    def compare_codes(codes: Int32s, wanted: bool) -> Step:
        every = put(codes)

        def step(scores: Any, tile: Tile) -> None:
            theirs, mine = every[some(tile)], every[put(tile.rows)][:, None]
            wrong = (theirs != mine) if wanted else ((theirs == mine) | (theirs < 0))
            scores.masked_fill_(wrong | (mine < 0), forbidden)

        return step

    def compare_times(times: Float64s, seconds: int, least: bool) -> Step:
        every = put(times)

        def step(scores: Any, tile: Tile) -> None:
            apart = (every[some(tile)] - every[put(tile.rows)][:, None]).abs()
            scores.masked_fill_(~(apart >= seconds if least else apart <= seconds), forbidden)

        return step

    def forbid_pictures(pictures: Bools) -> Step:
        every = put(pictures)

        def step(scores: Any, tile: Tile) -> None:
            scores.masked_fill_(every[some(tile)], forbidden)

        return step

    def forbid_common(names: Lists) -> Step:
        ranges: dict[int, tuple[Inverse, Any]] = {}

        def invert(columns: slice | Int32s) -> tuple[Inverse, Any]:
            if not isinstance(columns, slice):
                inverse = names.invert(columns.astype(np.int64))
                return inverse, put(inverse.owners)
            if columns.start not in ranges:
                inverse = names.invert(np.arange(columns.start, columns.stop))
                ranges[columns.start] = inverse, put(inverse.owners)
            return ranges[columns.start]

        def step(scores: Any, tile: Tile) -> None:
            inverse, owners = invert(tile.columns)
            at, values = names.take(tile.rows)
            begins, ends = inverse.find(values)
            counts = put(ends - begins)
            before = put(begins - np.cumsum(ends - begins) + (ends - begins))
            rows = torch.repeat_interleave(put(at), counts)
            places = torch.arange(len(rows), device=device) + torch.repeat_interleave(before, counts)
            scores[rows, owners[places].long()] = forbidden

        return step

    def forbid_above(scores: Any, most: np.float32) -> None:
        scores.masked_fill_(scores > float(most), forbidden)

    def forbid_below(scores: Any, least: Float32s) -> None:
        scores.masked_fill_(scores < put(least), forbidden)

    def find_allowed(scores: Any) -> Bools:
        allowed: Bools = (scores > lowest_of_all).any(dim=1).cpu().numpy()
        return allowed

    def select(scores: Any, length: int, limits: Float32s, margin: np.float32) -> tuple[Float32s, Int64s, Int64s]:
        if scores.shape[1] >= length:
            limits = np.maximum(limits, scores.topk(length, dim=1).values[:, -1].cpu().numpy())
        lowest = np.maximum(limits - margin, LOWEST)
        rows, places = (scores >= put(lowest)[:, None]).nonzero(as_tuple=True)
        return limits, rows.cpu().numpy(), places.cpu().numpy()

    return Engine(
        compare,
        forbid_own,
        compare_codes,
        compare_times,
        forbid_pictures,
        forbid_common,
        forbid_above,
        forbid_below,
        forbid,
        lambda scores, rows: scores[put(rows)],
        find_allowed,
        select,
    )
