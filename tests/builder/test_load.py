"""Loading as users do it: every form of load_dataset and of the builder, in any current folder."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from datasets import get_dataset_config_names, get_dataset_split_names, load_dataset, load_dataset_builder
from support.reading import answer, environment, expected_splits, jsonable, load, raw, raw_length, raw_splits, start
from support.sampling import WAYS, crossed
from support.world import CONFIGS, SPLITS, World

from newsclippings import DataNotFoundError, NewsCLIPpings


@pytest.mark.parametrize(("config", "streaming"), crossed(CONFIGS, WAYS))
def test_each_config_gives_all_rows_of_all_splits(world: World, config: str, streaming: bool) -> None:
    """Every config, map-style or streamed, gives every row of every split in the official order."""
    data = load(world, config, streaming=streaming)
    assert list(data) == list(SPLITS)
    assert raw_splits(data) == expected_splits(world, config)


def test_two_processes_build_the_same_rows(world: World) -> None:
    """num_proc=2 gives the rows of one process, in the same order."""
    assert raw_splits(load(world, num_proc=2)) == expected_splits(world)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_default_config_is_merged_balanced(world: World, streaming: bool) -> None:
    """Without a config name, merged_balanced is loaded."""
    data = load(world, None, streaming=streaming, split="test")
    assert data.info.config_name == "merged_balanced"
    assert raw(data) == world.rows(split="test")


@pytest.mark.parametrize(
    ("split", "pick"),
    [
        ("test[:10]", slice(None, 10)),
        ("train[5:7]", slice(5, 7)),
        ("validation[-3:]", slice(-3, None)),
        ("test", slice(None)),
        ("train[50%:]", slice(12, None)),
    ],
)
def test_a_slice_of_a_split(world: World, split: str, pick: slice) -> None:
    """A split expression such as "test[:10]" gives exactly these rows."""
    assert raw(load(world, split=split)) == world.rows(split=split.split("[")[0])[pick]


def test_several_splits_at_once(world: World) -> None:
    """A list of splits gives a list of datasets in the same order."""
    test, train = load(world, split=["test", "train"])
    assert (raw(test), raw(train)) == (world.rows(split="test"), world.rows())


def test_config_names_need_no_data() -> None:
    """The five configs are known in an empty folder, with no data and no network."""
    assert sorted(get_dataset_config_names("newsclippings")) == sorted(CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_split_names(world: World, config: str) -> None:
    """Each config has train, validation and test."""
    assert get_dataset_split_names("newsclippings", config, data_dir=str(world.root)) == list(SPLITS)


def test_chosen_splits_only(world: World) -> None:
    """splits=["test"] builds test and nothing else, map-style and streamed."""
    data = load(world, splits=["test"])
    assert raw_splits(data) == {"test": world.rows(split="test")}
    assert raw_splits(load(world, splits=["test"], streaming=True)) == {"test": world.rows(split="test")}
    two = load(world, splits=["test", "train"])
    assert raw_splits(two) == {"train": world.rows(), "test": world.rows(split="test")}


def test_chosen_splits_need_no_other_file(new_world: Callable[..., World]) -> None:
    """splits=["test"] works where only test.json was downloaded."""
    world = new_world()
    for split in ("train", "validation"):
        world.annotations("merged_balanced", split).unlink()
        world.metadata(split).unlink()
    assert raw_splits(load(world, splits=["test"])) == {"test": world.rows(split="test")}


def test_an_unknown_config_lists_the_five(world: World) -> None:
    """The error for an unknown config lists the five configs."""
    with pytest.raises(ValueError, match="nonsense") as error:
        load(world, "nonsense")
    assert all(config in str(error.value) for config in CONFIGS)


@pytest.mark.parametrize("make_empty", [False, True], ids=["absent", "empty"])
def test_data_dir_without_data(tmp_path: Path, make_empty: bool) -> None:
    """A data_dir that does not exist, or has none of the files, is an error with its path."""
    data_dir = tmp_path / "typo"
    if make_empty:
        (data_dir / "other").mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match="typo"):
        load_dataset("newsclippings", data_dir=str(data_dir))


@pytest.mark.parametrize(
    ("official", "found"),
    [("visual_news", "visualnews"), ("news_clippings", "news_clippings/news_clippings")],
    ids=["visualnews", "doubled"],
)
def test_common_other_trees_are_found(new_world: Callable[..., World], official: str, found: str) -> None:
    """visualnews/ as in the official README, and a doubled news_clippings/, are found, too."""
    world = new_world()
    (world.root / official).rename(world.root / "moved")
    (world.root / found).parent.mkdir(exist_ok=True)
    (world.root / "moved").rename(world.root / found)
    assert raw_splits(load(world)) == expected_splits(world)


def test_environment_variable_replaces_data_dir(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """NEWSCLIPPINGS_DATA_DIR is used where no data_dir is given."""
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(world.root))
    assert raw(load_dataset("newsclippings", split="test")) == world.rows(split="test")


def test_data_dir_wins_over_the_environment(
    world: World, new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """data_dir= wins over NEWSCLIPPINGS_DATA_DIR."""
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(new_world(seed=1).root))
    assert raw(load(world, split="test")) == world.rows(split="test")


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_relative_data_dir_survives_chdir(
    world: World, streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative data_dir is resolved when it is given, also for files that are read later."""
    monkeypatch.chdir(world.root.parent)
    data = load_dataset("newsclippings", data_dir=world.root.name, images="path", streaming=streaming, split="test")
    monkeypatch.chdir(tmp_path)
    assert raw(data) == world.rows(split="test", images="path")


def test_datasets_streams_and_builders_can_be_pickled(world: World) -> None:
    """Pickled and unpickled, datasets, streams and builders give the same rows."""
    data, stream = load(world, split="test"), load(world, split="test", streaming=True)
    assert raw(pickle.loads(pickle.dumps(data))) == world.rows(split="test")
    assert raw(pickle.loads(pickle.dumps(stream))) == world.rows(split="test")
    builder = pickle.loads(pickle.dumps(load_dataset_builder("newsclippings", data_dir=str(world.root))))
    assert raw(builder.as_streaming_dataset(split="test")) == world.rows(split="test")


def test_a_spawned_worker_reads_a_stream(world: World) -> None:
    """A spawned worker, as on macOS and Windows, reads a stream that was sent to it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(raw_length, (load(world, split="train", streaming=True),)) == 24


def test_a_fresh_process_needs_two_lines(world: World, tmp_path: Path) -> None:
    """`import newsclippings` and load_dataset are enough in an empty folder, also with num_proc=2."""
    code = "say(raw_splits(load_dataset('newsclippings', 'merged_balanced', data_dir=sys.argv[1], num_proc=2)))"
    child = start(code, tmp_path / "nowhere", environment(tmp_path / "hf"), str(world.root))
    assert answer(child) == jsonable(expected_splits(world))


# Other things named newsclippings in the current folder


def _parquet_folder(folder: Path, *, readme: bool, where: str = "train.parquet") -> None:
    (folder / where).parent.mkdir(parents=True)
    datasets.Dataset.from_dict({"mine": [1, 2, 3]}).to_parquet(str(folder / where))
    if readme:
        card = f"---\nconfigs:\n- config_name: merged_balanced\n  data_files: {where}\n---\n"
        (folder / "README.md").write_text(card)


@pytest.mark.parametrize("where", ["train.parquet", "data/merged_balanced/train.parquet"])
@pytest.mark.parametrize("readme", [True, False], ids=["with README.md", "Parquet only"])
def test_beside_a_parquet_folder_of_that_name(world: World, readme: bool, where: str) -> None:
    """Without data_dir, a folder ./newsclippings of Parquet is loaded; with data_dir, the builder runs."""
    _parquet_folder(Path("newsclippings"), readme=readme, where=where)
    assert list(load_dataset("newsclippings", split="train")["mine"]) == [1, 2, 3]
    assert raw_splits(load(world)) == expected_splits(world)
    assert raw(load(world, split="test", streaming=True)) == world.rows(split="test")


def test_parquet_folder_keeps_its_config_name() -> None:
    """A folder ./newsclippings with a card has the configs that its card names."""
    _parquet_folder(Path("newsclippings"), readme=True)
    assert list(load_dataset("newsclippings", "merged_balanced", split="train")["mine"]) == [1, 2, 3]
    assert get_dataset_config_names("newsclippings") == ["merged_balanced"]


@pytest.mark.parametrize("use", ["data_dir", "environment"])
def test_beside_a_source_checkout(world: World, use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout of this project named newsclippings, which has a card, does not hide the builder."""
    _parquet_folder(Path("newsclippings"), readme=True)
    Path("newsclippings/newsclippings.py").write_text("raise SystemExit('never run')\n")
    Path("newsclippings/dataset_infos.json").write_text("{}")
    if use == "data_dir":
        data = load(world, split="test")
    else:
        monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", str(world.root))
        data = load_dataset("newsclippings", split="test")
    assert raw(data) == world.rows(split="test")
    assert sorted(get_dataset_config_names("newsclippings")) == sorted(CONFIGS)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_files_that_are_not_needed_are_never_touched(
    new_world: Callable[..., World],
    touched: Callable[[Path], AbstractContextManager[list[tuple[str, str]]]],
    streaming: bool,
) -> None:
    """Of all files below data_dir only those that the rows need are opened or stat'ed; no folder is listed."""
    world = new_world()
    strangers = [
        world.origin / "guardian" / "images" / "9999",
        world.root / "pictures" / "deep",
        world.origin / "new",
    ]
    for folder in strangers:
        folder.mkdir(parents=True)
        for n in range(200):
            (folder / f"{n:03d}.jpg").write_bytes(b"")
    with touched(world.root) as seen:
        assert raw_splits(load(world, streaming=streaming)) == expected_splits(world)
    assert [path for _, path in seen if any(str(folder) in path for folder in strangers)] == []
    assert [path for how, path in seen if how == "list" and "images" in path] == []


# The builder itself


@pytest.mark.parametrize("config", CONFIGS)
def test_builder_prepares_and_reads(world: World, tmp_path: Path, config: str) -> None:
    """NewsCLIPpings(...).download_and_prepare() and as_dataset() give the rows."""
    builder = NewsCLIPpings(config_name=config, data_dir=str(world.root), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    assert raw_splits(builder.as_dataset()) == expected_splits(world, config)
    assert raw(builder.as_dataset(split="test[:4]")) == world.rows(config, "test")[:4]
    assert {name: info.num_examples for name, info in builder.info.splits.items()} == {
        split: len(world.rows(config, split)) for split in SPLITS
    }


def test_builder_streams_without_preparing(world: World, tmp_path: Path) -> None:
    """as_streaming_dataset() gives the rows with nothing prepared."""
    builder = NewsCLIPpings(data_dir=str(world.root), cache_dir=str(tmp_path / "cache"))
    assert raw_splits(builder.as_streaming_dataset()) == expected_splits(world)
    assert raw(builder.as_streaming_dataset(split="validation")) == world.rows(split="validation")


@pytest.mark.parametrize("num_proc", [None, 2])
def test_builder_writes_parquet(world: World, tmp_path: Path, num_proc: int | None) -> None:
    """file_format="parquet" writes the same rows, with the pictures in the files, for any reader of Parquet."""
    out = tmp_path / "out"
    builder = NewsCLIPpings(config_name="merged_balanced", data_dir=str(world.root))
    builder.download_and_prepare(str(out), file_format="parquet", num_proc=num_proc)
    for split in SPLITS:
        files = sorted(out.glob(f"newsclippings-{split}*.parquet"))
        assert [row for file in files for row in pq.read_table(file).to_pylist()] == world.rows(split=split)
