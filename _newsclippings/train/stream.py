"""Rows that are streamed: divided between ranks and workers before they are read, each once an epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from _newsclippings.rows import part_ranges
from _newsclippings.train.data import Control, Row, are_twins, is_whole, tell_of_missing


class StreamRows(IterableDataset[Row]):
    """Rows of a stream of known length, divided between ranks and their workers: each row once an epoch.

    Every worker of every rank reads shards of its own, and only these. Where they do not have the same number of rows,
    those with less begin anew, so that all ranks make the same number of batches; that is one pair per worker at most,
    and none if ranks x workers divides the number of pairs and of shards. Pairs that lack a caption, a picture or a
    twin are left out, and others come in their place.

    Args:
        stream: a stream of `load_dataset`.
        rows: how many it has.
        sizes: rows of each shard, where they are known; else a stream of this package divides rows evenly.
        seed: of the order.
        buffer: rows that are drawn from; 0: the order of the file.
    """

    def __init__(
        self,
        stream: Any,
        rows: int,
        *,
        sizes: list[int] | None = None,
        seed: int = 0,
        buffer: int = 0,
        rank: int = 0,
        ranks: int = 1,
        control: Control | None = None,
    ) -> None:
        self.stream, self.control = stream, control or Control(None)
        self.seed, self.buffer, self.rank, self.ranks, self.epoch = seed, buffer, rank, ranks, 0
        self.shards = int(stream.num_shards)
        if self.shards % ranks:
            fit = [str(k) for k in range(1, self.shards + 1) if self.shards % k == 0]
            raise ValueError(
                f"{self.shards} shards: expected as many for each of the {ranks} ranks. Use {', '.join(fit)} of them, "
                "or leave out --streaming."
            )
        ranges = (part_ranges(rows, [(k, self.shards)])[0] for k in range(self.shards))
        self.sizes = sizes or [stop - start for start, stop in ranges]

    def set_epoch(self, epoch: int) -> None:
        """From the next iteration on, the order is that of this epoch."""
        self.epoch = epoch

    def shards_of(self, rank: int, worker: int, workers: int) -> list[int]:
        """The shards that a worker of a rank reads."""
        return list(range(self.shards))[rank :: self.ranks][worker::workers]

    def rows_of(self, worker: int, workers: int) -> int:
        """Rows that a worker gives: as many as the one of the same number in any other rank."""
        return max(sum(self.sizes[k] for k in self.shards_of(rank, worker, workers)) for rank in range(self.ranks))

    def __len__(self) -> int:
        return self.rows_of(0, 1)

    def __iter__(self) -> Iterator[Row]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        shards = self.shards_of(self.rank, worker, workers)
        if self.rows_of(worker, workers) and not any(self.sizes[k] for k in shards):
            parts = self.ranks * workers
            raise ValueError(f"{sum(self.sizes)} rows: expected some for each of {parts} ranks x workers. Use fewer.")
        return self._filled(shards, self.rows_of(worker, workers))

    def _filled(self, shards: list[int], target: int) -> Iterator[Row]:
        left = target
        while left > 0 and shards:
            before = left
            for row in self._shuffled(shards):
                if not left:
                    return
                yield row
                left -= 1
            if left == before:
                raise ValueError(
                    f"shards {shards}: expected rows with caption and picture, found none. Use fewer workers."
                )

    def _rows(self, shards: list[int]) -> Iterator[Row]:
        left_out = 0
        for shard in shards:
            count = 0
            held: Row | None = None  # until its twin comes, right after it
            for some in self.stream.shard(num_shards=self.shards, index=shard).iter(batch_size=50):
                for values in zip(*some.values(), strict=True):
                    row = dict(zip(some, values, strict=True))
                    count += 1
                    if held is None or not are_twins(held, row):
                        left_out += held is not None
                        held = row
                        continue
                    if is_whole(held) and is_whole(row):
                        yield self.control(held, None)
                        yield self.control(row, held)
                    else:
                        left_out += 2
                    held = None
            left_out += held is not None
            if count != self.sizes[shard]:
                message = f"shard {shard}: expected {self.sizes[shard]} rows, found {count}. Were pairs dropped?"
                raise ValueError(message)
        tell_of_missing(left_out)

    def _shuffled(self, shards: list[int]) -> Iterator[Row]:
        """Rows of some shards in random order, drawn from a buffer that is filled with one shard after the other."""
        if not self.buffer:
            yield from self._rows(shards)
            return
        random = np.random.default_rng([self.seed, self.epoch, *shards[:1]])
        drawn: list[Row] = []
        for row in self._rows(random.permutation(shards).tolist()):
            if len(drawn) < self.buffer:
                drawn.append(row)
                continue
            k = int(random.integers(self.buffer))
            yield drawn[k]
            drawn[k] = row
        for k in random.permutation(len(drawn)).tolist():
            yield drawn[k]


class StreamLoader(DataLoader[Row]):
    """Batches of a stream; knows how many there are, and hands the epoch on."""

    dataset: StreamRows

    def set_epoch(self, epoch: int) -> None:
        """As `StreamRows`."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        workers = max(1, self.num_workers)
        size = self.batch_size or 1
        rows = [self.dataset.rows_of(worker, workers) for worker in range(workers)]
        return sum(some // size if self.drop_last else -(-some // size) for some in rows)
