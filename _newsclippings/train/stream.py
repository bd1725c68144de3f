"""Stream rows that are divided between ranks and workers, so that each row is read once per epoch."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from _newsclippings.rows import part_ranges
from _newsclippings.train.data import Control, Counts, Row, are_twins, is_whole, log_dropped_rows


class StreamUnion:
    """Streams one after the other, as one stream of all their shards."""

    def __init__(self, streams: Sequence[Any]) -> None:
        self._shards = [(stream, k) for stream in streams for k in range(int(stream.num_shards))]
        self.num_shards = len(self._shards)

    def shard(self, num_shards: int, index: int) -> Any:
        """Return one of the shards; `num_shards` is the number of all of them."""
        if num_shards != self.num_shards:
            raise ValueError(f"expected {self.num_shards} shards, found {num_shards}.")
        stream, k = self._shards[index]
        return stream.shard(num_shards=stream.num_shards, index=k)


def divide_evenly(rows: int, shards: int) -> list[int]:
    """Return how many rows each shard of a stream of this package has."""
    ranges = (part_ranges(rows, [(k, shards)])[0] for k in range(shards))
    return [stop - start for start, stop in ranges]


class StreamRows(IterableDataset[Row]):
    """Rows of a stream of known length, divided between ranks and their workers; each row comes once per epoch.

    Every worker of every rank reads its own shards. All ranks make the same number of batches: workers with fewer rows
    begin again, which repeats at most one pair per worker, and none if ranks x workers divides the numbers of pairs and
    of shards. Pairs that lack a caption, a picture or a twin are left out, and other pairs take their place.

    Args:
        stream: a stream of `load_dataset`.
        rows: number of its rows.
        sizes: rows of each shard; None if the stream divides rows evenly, as those of this package do.
        seed: of the order.
        buffer: rows in the shuffle buffer; 0 keeps the order of the file.
        rank: of this process.
        ranks: number of processes.
        control: changes rows; None changes nothing.
        kept: rows of each shard that `keeps` keeps; None if it keeps all.
        keeps: whether to keep a row; a pair is left out unless both rows are kept. None keeps all.
        configs: the config of each shard, which its rows get as a column; None for rows without it.
    """

    counts: dict[str, Counts]

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
        kept: list[int] | None = None,
        keeps: Callable[[Row], bool] | None = None,
        configs: list[str] | None = None,
    ) -> None:
        self.stream, self.control = stream, control or Control(None)
        self.seed, self.buffer, self.rank, self.ranks, self.epoch = seed, buffer, rank, ranks, 0
        self.shards = int(stream.num_shards)
        if self.shards % ranks:
            fit = [str(k) for k in range(1, self.shards + 1) if self.shards % k == 0]
            raise ValueError(
                f"{self.shards} shards cannot be divided evenly between {ranks} ranks. Use {', '.join(fit)} ranks, or "
                "leave out --streaming."
            )
        self.sizes = sizes or divide_evenly(rows, self.shards)
        self.kept, self.keeps, self.configs = kept or self.sizes, keeps, configs

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which determines the order from the next iteration on."""
        self.epoch = self.control.epoch = epoch

    def shards_of(self, rank: int, worker: int, workers: int) -> list[int]:
        """Return the shards that a worker of a rank reads."""
        return list(range(self.shards))[rank :: self.ranks][worker::workers]

    def rows_of(self, worker: int, workers: int) -> int:
        """Return the number of rows that a worker yields; it is the same for this worker in every rank."""
        return max(sum(self.kept[k] for k in self.shards_of(rank, worker, workers)) for rank in range(self.ranks))

    def __len__(self) -> int:
        return self.rows_of(0, 1)

    def __iter__(self) -> Iterator[Row]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        shards = self.shards_of(self.rank, worker, workers)
        if self.rows_of(worker, workers) and not any(self.kept[k] for k in shards):
            parts = self.ranks * workers
            raise ValueError(f"{sum(self.kept)} rows are too few for {parts} ranks x workers. Use fewer workers.")
        return self._repeat_to(shards, self.rows_of(worker, workers))

    def _repeat_to(self, shards: list[int], target: int) -> Iterator[Row]:
        """Yield `target` rows of some shards, and begin again if they have fewer."""
        left = target
        while left > 0 and shards:
            before = left
            for row in self._shuffle(shards):
                if not left:
                    return
                yield row
                left -= 1
            if left == before:
                raise ValueError(f"shards {shards} have no rows with caption and picture. Use fewer workers.")

    def _rows(self, shards: list[int]) -> Iterator[Row]:
        """Yield the rows of whole pairs in the order of the shards."""
        left_out = 0
        for shard in shards:
            count = 0
            held: Row | None = None  # a row that waits for its twin, which comes right after it
            for batch in self.stream.shard(num_shards=self.shards, index=shard).iter(batch_size=50):
                for values in zip(*batch.values(), strict=True):
                    row = dict(zip(batch, values, strict=True))
                    if self.configs:
                        row["config"] = self.configs[shard]
                    count += 1
                    if held is None or not are_twins(held, row):
                        left_out += held is not None
                        held = row
                        continue
                    if self.keeps and not (self.keeps(held) and self.keeps(row)):
                        pass
                    elif is_whole(held) and is_whole(row):
                        yield self.control(held, None)
                        yield self.control(row, held)
                    else:
                        left_out += 2
                    held = None
            left_out += held is not None
            if count != self.sizes[shard]:
                message = f"shard {shard}: expected {self.sizes[shard]} rows, found {count}. Were pairs dropped?"
                raise ValueError(message)
        log_dropped_rows(left_out)

    def _shuffle(self, shards: list[int]) -> Iterator[Row]:
        """Yield rows in random order, from a buffer that is filled with the shards in random order."""
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
    """A loader of a stream that knows its number of batches and passes the epoch on."""

    dataset: StreamRows

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the stream."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        workers = max(1, self.num_workers)
        size = self.batch_size or 1
        rows = [self.dataset.rows_of(worker, workers) for worker in range(workers)]
        return sum(count // size if self.drop_last else -(-count // size) for count in rows)
