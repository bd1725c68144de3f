"""Shards, ranks and resumed runs of a stream give every row exactly once."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import DownloadManager
from datasets.distributed import split_dataset_by_node
from support.reading import load, raw
from support.sampling import crossed
from support.world import CONFIGS, SPLITS, Row, World

from _newsclippings.rows import split_parts
from newsclippings import DataNotFoundError, NewsCLIPpings


@pytest.fixture
def stream(world: World) -> Any:
    return load(world, streaming=True, split="train")


@pytest.mark.parametrize(("config", "split"), crossed(CONFIGS, list(SPLITS)))
def test_number_of_shards(world: World, config: str, split: str) -> None:
    """Every split with at least eight rows has a multiple of eight shards."""
    shards = load(world, config, streaming=True, split=split).num_shards
    assert len(world.rows(config, split)) >= 8
    assert shards >= 8
    assert shards % 8 == 0


def test_lists_of_gen_kwargs_have_one_length(world: World) -> None:
    """The lists in the gen_kwargs of a split, which `datasets` divides, have one length, a multiple of eight."""
    builder = NewsCLIPpings(data_dir=str(world.root))
    for generator in builder._split_generators(DownloadManager(dataset_name="newsclippings")):
        lengths = {len(value) for value in generator.gen_kwargs.values() if isinstance(value, list)}
        assert len(lengths) == 1
        assert lengths.pop() % 8 == 0


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_a_split_smaller_than_its_shards(new_world: Callable[..., World], pairs: int) -> None:
    """A split of a few rows can be loaded, streamed, and streamed shard by shard."""
    world = new_world(tar=False, pairs={"train": pairs + 3, "validation": 4, "test": pairs + 3})
    for split in SPLITS:
        world.matches["merged_balanced", split] = world.matches["merged_balanced", split][: 2 * pairs]
    world.write_annotations()
    assert raw(load(world, split="train")) == world.rows()
    assert raw(load(world, split="test", streaming=True)) == world.rows(split="test")
    shards = load(world, split="train", streaming=True)
    rows = [raw(shards.shard(shards.num_shards, n, contiguous=True)) for n in range(shards.num_shards)]
    assert list(itertools.chain(*rows)) == world.rows()


@pytest.mark.parametrize(("count", "contiguous"), crossed([2, 3, 4, 8], [True, False]))
def test_shards_are_disjoint_and_complete(world: World, stream: Any, count: int, contiguous: bool) -> None:
    """The shards of a stream, as DataLoader workers get them, hold every row exactly once."""
    parts = [raw(stream.shard(num_shards=count, index=n, contiguous=contiguous)) for n in range(count)]
    assert _in_order(parts) == world.rows()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_shards_of_a_map_style_dataset(world: World, count: int) -> None:
    """The shards of a map-style dataset hold every row exactly once."""
    data = load(world, split="train")
    assert _in_order([raw(data.shard(count, n)) for n in range(count)]) == world.rows()


@pytest.mark.parametrize(("world_size", "map_style"), crossed([2, 3, 4, 8], {"map": True, "stream": False}))
def test_ranks_are_disjoint_and_complete(world: World, world_size: int, map_style: bool) -> None:
    """Distributed ranks give every row exactly once, whether shards divide evenly or not."""
    data = load(world, split="train", streaming=not map_style)
    parts = [raw(split_dataset_by_node(data, rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert _in_order(parts) == world.rows()


@pytest.mark.parametrize(("count", "contiguous"), crossed([2, 4, 8], [True, False]))
def test_every_worker_has_something_to_do(stream: Any, count: int, contiguous: bool) -> None:
    """With up to eight workers or ranks and 24 rows, each gets rows."""
    parts = [raw_indices(stream.shard(count, n, contiguous=contiguous)) for n in range(count)]
    assert all(parts)


def test_workers_within_ranks(world: World, stream: Any) -> None:
    """Two ranks with four workers each give every row exactly once."""
    ranks = [split_dataset_by_node(stream, rank=rank, world_size=2) for rank in range(2)]
    parts = [raw(rank.shard(num_shards=4, index=n)) for rank in ranks for n in range(4)]
    assert _in_order(parts) == world.rows()


def _in_order(parts: list[list[Row]]) -> list[Row]:
    return sorted(itertools.chain(*parts), key=lambda row: row["index"])


@pytest.mark.parametrize("seen", [0, 1, 2, 3, 7, 12, 23, 24])
def test_a_stream_resumes_exactly(world: World, seen: int) -> None:
    """A stream that is loaded again continues with the row after the last one read."""
    first = load(world, streaming=True, split="train")
    rows = iter(first)
    for _ in range(seen):
        next(rows)
    state = pickle.loads(pickle.dumps(first.state_dict()))
    again = load(world, streaming=True, split="train")
    again.load_state_dict(state)
    assert raw_indices(again) == list(range(seen, 24))


@pytest.mark.parametrize("seen", [1, 5, 9])
def test_a_shard_resumes_exactly(world: World, seen: int) -> None:
    """One rank's part of a stream continues in the same way, with pictures."""
    part = split_dataset_by_node(load(world, streaming=True, split="train"), rank=1, world_size=2)
    whole = raw(part)
    rows = iter(part)
    for _ in range(seen):
        next(rows)
    again = split_dataset_by_node(load(world, streaming=True, split="train"), rank=1, world_size=2)
    again.load_state_dict(copy.deepcopy(part.state_dict()))
    assert raw_indices(again) == [row["index"] for row in whole][seen:]


def raw_indices(data: Any) -> list[int]:
    return [row["index"] for row in data]


def test_a_stream_can_be_read_again(world: World, stream: Any) -> None:
    """Two epochs, and two iterators at the same time, give the same rows."""
    assert raw(stream) == raw(stream) == world.rows()
    one, two = iter(stream), iter(stream)
    assert [row["index"] for pair in zip(one, two, strict=True) for row in pair] == [i // 2 for i in range(48)]


def test_shuffled_streams_keep_their_shards(world: World, stream: Any) -> None:
    """Shuffling a stream loses and repeats no row, and keeps its number of shards."""
    shuffled = stream.shuffle(seed=7, buffer_size=10)
    assert shuffled.num_shards == stream.num_shards
    assert _in_order([raw(shuffled)]) == world.rows()


def test_batches_and_columns(world: World) -> None:
    """Batches of a stream, and a selection of columns, have the same values."""
    stream = load(world, streaming=True, split="test").select_columns(["index", "caption", "falsified"])
    batches = list(stream.batch(5))
    expected = world.rows(split="test")
    assert [i for batch in batches for i in batch["index"]] == [row["index"] for row in expected]
    assert [c for batch in batches for c in batch["caption"]] == [row["caption"] for row in expected]


def test_matches_that_vanish(tmp_path: Path) -> None:
    """A file of matches that vanishes before a stream is divided is an error that names it."""
    with pytest.raises(DataNotFoundError, match=r"test\.json: there is no such file"):
        split_parts(None, str(tmp_path / "test.json"))
