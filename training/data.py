"""Rows for training: map-style or streamed, the same rows either way, and batches of tensors made of them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
import torch
from datasets import load_dataset
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import newsclippings
from _newsclippings.assemble import part_ranges
from _newsclippings.schema import EMBEDDINGS
from training.options import FEATURES, Options

Row = dict[str, Any]
Batch = dict[str, Any]
FACTS = ["index", "id", "image_id", "falsified", "source_dataset", "source"]  # of a row, for predictions and measures


def load_split(options: Options, split: str) -> Any:
    """A split with the columns that training needs, pictures encoded; a `datasets.Dataset`, or a stream."""
    kinds = FEATURES[options.features] if options.features else []
    fields: dict[str, Any] = {}
    if options.data == "newsclippings":
        fields = {name: getattr(options, name) for name in ("data_dir", "visual_news", "visual_news_index")}
        fields |= {"images": "none" if kinds else "bytes", "embeddings": kinds or None, "splits": [split]}
    rows = load_dataset(options.data, options.config, split=split, streaming=options.streaming, **fields)
    wanted = [*FACTS, *(kinds or ["caption", "image"])]
    lacking = set(wanted) - set(rows.column_names or wanted)
    if lacking:
        raise ValueError(
            f"{options.data}, {options.config}: expected the columns {', '.join(wanted)}, found none called "
            f"{', '.join(sorted(lacking))}. Was it built without? (Pictures stored once: newsclippings.join_images.)"
        )
    rows = rows.select_columns(wanted)
    return rows if kinds else rows.cast_column("image", datasets.Image(decode=False))


def count_rows(options: Options, rows: Any, split: str) -> int:
    """How many rows a stream has, without reading them."""
    known = (rows.info.splits or {}).get(split)
    if known is not None and known.num_examples:
        return int(known.num_examples)
    fields = {name: getattr(options, name) for name in ("data_dir", "visual_news", "visual_news_index")}
    return newsclippings.NewsCLIPpings(config_name=options.config, splits=[split], images="none", **fields).count_rows(
        split
    )


class Control:
    """Takes from rows what could be learned, by one of `options.CONTROLS`, or leaves them as they are (None)."""

    def __init__(self, name: str | None, salt: str = "") -> None:
        self.name, self.salt = name, salt

    def needs_twin(self, index: int) -> bool:
        """Whether the row before that one is needed."""
        return self.name == "own_pictures" and index % 2 == 1

    def __call__(self, row: Row, twin: Row | None) -> Row:
        """The row as it is to be learned from.

        Raises:
            ValueError: the row before is not its twin, and would have to be.
        """
        if self.name == "shuffled_labels":
            coin = hashlib.sha256(f"{self.salt} {row['id']}".encode()).digest()[0] & 1  # the same for twins
            return {**row, "falsified": row["falsified"] ^ coin}
        if self.name == "own_pictures" and self.needs_twin(row["index"]):
            if twin is None or twin["id"] != row["id"]:
                raise ValueError(f"row {row['index']}: expected its twin before it, found id {twin and twin['id']}.")
            return {**row, "image": twin["image"], "image_id": twin["image_id"]}
        return row


class MapRows(Dataset[Row]):
    """Rows by number."""

    def __init__(self, rows: Any, outlets: set[str] | None, control: Control) -> None:
        self.rows, self.control = rows, control
        self.places = np.arange(len(rows))
        if outlets is not None:
            self.places = np.flatnonzero(np.isin(np.asarray(rows.with_format("arrow")[:]["source"]), sorted(outlets)))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, k: int) -> Row:
        place = int(self.places[k])
        row = self.rows[place]
        twin = self.control.name == "own_pictures" and place and self.control.needs_twin(row["index"])
        return self.control(row, self.rows[place - 1] if twin else None)


class StreamRows(IterableDataset[Row]):
    """Rows of a stream of known length, divided between ranks and their workers: each row once an epoch.

    Every worker of every rank reads shards of its own, and only these. Where they do not have the same number of rows,
    those with less begin anew, so that all ranks make the same number of batches; that is one pair per worker at most,
    and none if ranks x workers divides the number of pairs and of shards.

    Args:
        stream: a stream of `load_dataset`.
        rows: how many it has.
        seed: of the order.
        buffer: rows that are drawn from; 0: the order of the file.
    """

    def __init__(
        self,
        stream: Any,
        rows: int,
        *,
        seed: int = 0,
        buffer: int = 0,
        rank: int = 0,
        ranks: int = 1,
        control: Control | None = None,
    ) -> None:
        self.stream, self.control = stream, control or Control(None)
        self.seed, self.buffer, self.rank, self.ranks, self.epoch = seed, buffer, rank, ranks, 0
        self.shards = int(stream.num_shards if hasattr(stream, "num_shards") else stream.n_shards)
        if self.shards % ranks:
            fit = [str(k) for k in range(1, self.shards + 1) if self.shards % k == 0]
            raise ValueError(
                f"{self.shards} shards: expected as many for each of the {ranks} ranks. Use {', '.join(fit)} of them, "
                "or leave out --streaming."
            )
        ranges = (part_ranges(rows, [(k, self.shards)])[0] for k in range(self.shards))
        self.sizes = [stop - start for start, stop in ranges]

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
            for row in self._shuffled(shards):
                if not left:
                    return
                yield row
                left -= 1

    def _rows(self, shards: list[int]) -> Iterator[Row]:
        for shard in shards:
            before, count = None, 0
            for some in self.stream.shard(num_shards=self.shards, index=shard).iter(batch_size=50):
                for values in zip(*some.values(), strict=True):
                    row = dict(zip(some, values, strict=True))
                    yield self.control(row, before)
                    before, count = row, count + 1
            if count != self.sizes[shard]:
                message = f"shard {shard}: expected {self.sizes[shard]} rows, found {count}. Were pairs dropped?"
                raise ValueError(message)

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
        return sum(-(-self.dataset.rows_of(worker, workers) // size) for worker in range(workers))


class Collator:
    """Makes a batch of rows: tensors, and the facts of each row."""

    def __init__(self, options: Options, tokenizer: Any, side: int, tokens: int) -> None:
        """Of captions and pictures, or of vectors.

        Args:
            options: which vectors.
            tokenizer: of the model; None for features.
            side: of a picture that the model takes, in pixels.
            tokens: of a caption.
        """
        self.options, self.tokenizer, self.side, self.tokens = options, tokenizer, side, tokens

    def __call__(self, rows: list[Row]) -> Batch:
        """`labels` (B,), `facts`, and `input_ids`, `attention_mask`, `pixel_values` or `vectors`."""
        batch: Batch = {"labels": torch.tensor([row["falsified"] for row in rows])}
        batch["facts"] = [{name: row[name] for name in FACTS} for row in rows]
        if self.options.features:
            batch["vectors"] = torch.stack([vectors_of(row, self.options) for row in rows])
            return batch
        for row in rows:
            if row["caption"] is None or row["image"] is None:
                raise ValueError(
                    f"row {row['index']}: expected caption and picture, found null. Build with missing='drop_pair'."
                )
        captions = [row["caption"] for row in rows]
        tokens = self.tokenizer(
            captions, padding="max_length", truncation=True, max_length=self.tokens, return_tensors="pt"
        )
        batch["input_ids"] = tokens["input_ids"]
        if "attention_mask" in tokens:
            batch["attention_mask"] = tokens["attention_mask"]
        batch["pixel_values"] = torch.stack([pixels(row["image"], self.side) for row in rows])
        return batch


def pixels(image: dict[str, Any], side: int) -> torch.Tensor:
    """float32 (3, side, side), 0 to 1: resized to 256 / 224 of the side, whatever its shape, then cropped."""
    whole = side * 256 // 224
    cut = (whole - side) // 2
    small = newsclippings.decode_small(image, whole).resize((whole, whole)).crop((cut, cut, cut + side, cut + side))
    return torch.from_numpy(np.asarray(small, np.float32).transpose(2, 0, 1) / 255)


def vectors_of(row: Row, options: Options) -> torch.Tensor:
    """float32 (width,): the row's vectors, each L2-normalised, zero where there is none; the mean of several faces."""
    found = {}
    for kind in FEATURES[options.features or "all"]:
        width = EMBEDDINGS[kind].width
        value = torch.tensor(row[kind] if row[kind] is not None else [], dtype=torch.float32).reshape(-1, width)
        mean = value.mean(0) if len(value) else torch.zeros(width)
        found[kind] = torch.nn.functional.normalize(mean, dim=-1)
    parts = list(found.values())
    if options.products:
        image, text = found["clip_image"], found["clip_text"]
        parts += [image * text, (image - text).abs()]
    return torch.cat(parts)
