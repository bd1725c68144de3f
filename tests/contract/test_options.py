"""Every option has an effect or is refused with advice; for a misspelt one the error suggests the right one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from click.testing import CliRunner
from support.reading import load, raw_splits
from support.world import World

from _newsclippings.cli.commands import main
from newsclippings import ConfigError, DataNotFoundError, NewsCLIPpings, NewsCLIPpingsConfig, verify

FEATURES = datasets.Features({"id": datasets.Value("int32")})

# name -> (options, text of the error)
OF_ANY: dict[str, tuple[dict[str, Any], str]] = {
    "data_files": ({"data_files": {"train": __file__}}, "data_files= would change nothing"),
    "token": ({"token": 7}, r"token= is int; expected the text of a token"),
    "storage_options": ({"storage_options": {7: 1}}, "storage_options= has a name that is no text; expected a dict"),
    "columns": (
        {"features": FEATURES},
        r"features= must have exactly.*'index', 'image_id'.* is missing.*select_columns",
    ),
    "columns by name": ({"features": {"id": "int65"}}, r"features=.*select_columns"),
    "misspelt": ({"image": "none"}, r"no option image=\. Did you mean 'images'\? Options: .*visual_news"),
    "run together": ({"visualnews": "x"}, r"no option visualnews=\. Did you mean 'visual_news'\?"),
    "misspelt and None": ({"imagez": None}, r"no option imagez=\. Did you mean 'images'\?"),
    "far from all": ({"qqq": 1}, r"no option qqq=\. Options: .*data_dir"),
    "a method": ({"sources": "x"}, "no option sources="),
    "a method that checks": ({"check": None}, "no option check="),
    "version": ({"version": "9.9.9"}, "version='9.9.9' would change nothing"),
    "description": ({"description": "mine"}, "description='mine' would change nothing"),
    "metadata=no": ({"metadata": "no"}, r"metadata='no' is not known\. Allowed: True, False"),
    "check_images=false": ({"check_images": "false"}, r"check_images='false' is not known\. Allowed: True, False"),
    "image_file of rows with bytes": ({"image_file": True}, r"image_file=True needs images='path': .* Pass both"),
    "image_file=yes": ({"image_file": "yes"}, r"image_file='yes' is not known\. Allowed: True, False"),
    "articles=1": ({"articles": 1}, r"articles=1 is not known\. Allowed: True, False"),
    "images=True": ({"images": True}, "images=True is not known"),
    "images=[]": ({"images": ["none"]}, r"images=\['none'\] is not known"),
    "images=None in text": ({"images": "None"}, "Did you mean 'none'"),
    "images=byte": (
        {"images": "byte"},
        r"images='byte' is not known\. Allowed: 'bytes', 'path', 'none'\. Did you mean 'bytes'\?",
    ),
    "missing=drop_pairs": ({"missing": "drop_pairs"}, r"Did you mean 'drop_pair'\?"),
    "splits=val": ({"splits": ["val"]}, r"Did you mean 'validation'\?"),
    "splits=tset": ({"splits": ["train", "tset"]}, r"Did you mean 'test'\?"),
    "splits that are counted": ({"splits": {"test": 5}}, r"splits=\{'test': 5\} is not known"),
    "splits that end": ({"splits": iter(["test"])}, "splits=<list_iterator"),
    "splits of bytes": ({"splits": b"test"}, "splits=b'test' is not known"),
    "clip_imag": ({"embeddings": ["clip_imag"]}, r"Did you mean 'clip_image'\?"),
    "lists in a list": ({"embeddings": [["sbert"]]}, r"embeddings=\[\['sbert'\]\] is not known"),
    "switches": ({"embeddings": {"sbert": False}}, "embeddings: 'sbert' is False; expected"),
    "data_dir in a list": ({"data_dir": ["data"]}, r"data_dir=\['data'\] is a list; expected a path"),
    "data_dir in bytes": ({"data_dir": b"data"}, r"data_dir=b'data' is a bytes; expected a path"),
    "no data_dir in a list": ({"data_dir": []}, r"data_dir=\[\] is a list; expected a path"),
    "a password in a list": (
        {"visual_news": [["https://me:secret@host/t"]]},
        r"visual_news=\['https://host/t'\] is a list",
    ),
    "at length": ({"images": "x" * 10_000}, r"images='x{199}\.\.\. is not known"),
}
NAMES: dict[str, tuple[Any, str]] = {
    "case": ("Merged_Balanced", r"'Merged_Balanced' is not known\. Allowed: .* Did you mean 'merged_balanced'\?"),
    "plural": ("scene_resnet_places", r"Did you mean 'scene_resnet_place'\?"),
    "path": ("../../../etc", "is not known. Allowed: 'merged_balanced'"),
    "split": ("test", "That is a split: pass split='test'"),
    "folder": (".", "That is a folder: pass data_dir='.'"),
    "list": (["merged_balanced"], "config_name is a list; expected the name"),
    "config": (NewsCLIPpingsConfig(), "config_name is a NewsCLIPpingsConfig; expected the name"),
}


def make(world: World, streaming: bool | None, **given: Any) -> Any:
    """Make a build, a stream, or (None) only the builder."""
    given = {"data_dir": str(world.root), **given}
    if streaming is None:
        return NewsCLIPpings(**given)
    return datasets.load_dataset("newsclippings", streaming=streaming, **given)


@pytest.mark.parametrize("streaming", [False, True, None], ids=["map", "stream", "builder"])
@pytest.mark.parametrize("case", OF_ANY)
def test_an_option_without_effect_is_refused(world: World, case: str, streaming: bool | None) -> None:
    """An option without effect, or with a wrong type or name, is a ConfigError, in builds and in streams."""
    given, says = OF_ANY[case]
    with pytest.raises(ConfigError, match=says) as error:
        make(world, streaming, **given)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("streaming", [False, True, None], ids=["map", "stream", "builder"])
@pytest.mark.parametrize("case", NAMES)
def test_an_unknown_config_is_refused(world: World, case: str, streaming: bool | None) -> None:
    """An unknown config is refused, and the error suggests a similar name."""
    name, says = NAMES[case]
    with pytest.raises(ConfigError, match=says):
        make(world, streaming, **{"config_name" if streaming is None else "name": name})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"revision": "abc"}, r"revision= would change nothing here.*pinned revision"),
        ({"data_files": []}, "data_files= would change nothing"),
        ({"hash": "abc"}, "hash= would change nothing"),
        ({"base_path": "/data"}, "base_path= would change nothing"),
        ({"repo_id": "me/mine"}, "repo_id= would change nothing"),
        ({"config_id": "mine"}, "config_id= would change nothing"),
        ({"info": datasets.DatasetInfo()}, "info= would change nothing"),
        ({"split": "test"}, r"no option split=\. Did you mean 'splits'\?"),
        ({"name": "scene_resnet_place", "config_name": "merged_balanced"}, "Pass only one of them"),
        ({"config_name": ""}, "config_name='' is not known"),
        ({"dataset_name": "scene_resnet_place"}, r"config_name='scene_resnet_place'"),
    ],
    ids=str,
)
def test_the_builder_refuses_options_of_load_dataset(given: dict[str, Any], says: str) -> None:
    """The builder refuses options of `load_dataset` and of other builders."""
    with pytest.raises(ConfigError, match=says):
        NewsCLIPpings(**given)


@pytest.mark.parametrize(
    "given", [case for case in OF_ANY if not {"token", "storage_options", "features"} & {*OF_ANY[case][0]}]
)
def test_the_config_class_refuses_the_same(given: str) -> None:
    """NewsCLIPpingsConfig(...) refuses the same values with the same messages."""
    fields, says = OF_ANY[given]
    with pytest.raises(ConfigError, match=says):
        NewsCLIPpingsConfig(**fields)


@pytest.mark.parametrize("first", ["scene_resnet_place", "merged_balanced", "Scene_ResNet_Place", "scene-resnet-place"])
@pytest.mark.parametrize("by_name", [False, True], ids=["first", "cache_dir="])
def test_a_config_name_as_cache_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, by_name: bool
) -> None:
    """NewsCLIPpings("scene_resnet_place") is an error: its first argument is the cache folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"is the cache folder.*NewsCLIPpings\(config_name='") as error:
        NewsCLIPpings(cache_dir=first) if by_name else NewsCLIPpings(first)
    if first in ("scene_resnet_place", "merged_balanced"):
        assert f"config_name='{first}'" in str(error.value)
    assert not list(Path().iterdir())


def test_arguments_after_the_cache_folder_are_given_by_name(tmp_path: Path) -> None:
    """A second positional argument is refused."""
    with pytest.raises(ConfigError, match="all arguments except the cache folder are given by name"):
        NewsCLIPpings(str(tmp_path), "scene_resnet_place")


def test_a_cache_folder_may_have_the_name_of_a_config(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is accepted when written as a path, or as cache_dir= if it exists."""
    monkeypatch.chdir(tmp_path)
    builder = NewsCLIPpings("./scene_resnet_place", data_dir=str(world.root))
    assert builder.config.name == "merged_balanced"
    assert (tmp_path / "scene_resnet_place").is_dir()
    assert NewsCLIPpings(cache_dir="scene_resnet_place", data_dir=str(world.root)).config.name == "merged_balanced"
    with pytest.raises(ConfigError, match="is the cache folder"):
        NewsCLIPpings("scene_resnet_place", data_dir=str(world.root))


def test_the_builder_accepts_name_for_a_config(world: World) -> None:
    """`name=` selects a config, as it does in `load_dataset`."""
    assert NewsCLIPpings(name="scene_resnet_place", data_dir=str(world.root)).config_id.startswith(
        "scene_resnet_place-"
    )


def test_options_with_their_default_value_are_accepted(world: World) -> None:
    """None, the current version, empty settings and the columns that are built anyway change nothing."""
    plain = load(world)
    given = {"token": None, "storage_options": {}, "version": "1.1.0", "features": plain["test"].features}
    again = load(world, data_files=None, images=None, metadata=None, splits=None, **given)
    assert raw_splits(again) == raw_splits(plain)
    assert again["test"].cache_files == plain["test"].cache_files  # it was not built again


def test_columns_may_have_other_types(world: World) -> None:
    """`features=` sets types and order of columns, built and streamed; token=True uses the saved login."""
    plain = load(world)["test"]
    asked = {
        **plain.features,
        "image": datasets.Image(decode=False),
        "id": datasets.Value("int32"),
        "image_id": datasets.Value("string"),
        "falsified": datasets.ClassLabel(names=["real", "fake"]),
        "source": datasets.ClassLabel(names=["guardian", "bbc", "usa_today", "washington_post"]),
    }
    features = datasets.Features({name: asked[name] for name in reversed(list(asked))})
    rows = [
        {**row, "image_id": str(row["image_id"]), "source": features["source"].str2int(row["source"])}
        for row in plain.cast_column("image", datasets.Image(decode=False))
    ]
    for given in (features, dict(features)):
        built = load(world, features=given, token=True)["test"]
        assert built.features == features
        assert built.column_names == list(features)
        assert built.to_list() == rows
    assert list(load(world, features=features, streaming=True)["test"]) == rows
    assert load(world)["test"].features == plain.features  # it has its own cache folder


@pytest.mark.parametrize(
    ("name", "kind"), [("caption", "int64"), ("id", "int16"), ("similarity_score", "int64"), ("image", "string")]
)
@pytest.mark.parametrize("streaming", [False, True], ids=["built", "streamed"])
def test_types_that_a_column_cannot_have_are_refused(world: World, name: str, kind: str, streaming: bool) -> None:
    """The error comes before anything is read, and names the column."""
    features = datasets.Features({**load(world)["test"].features, name: datasets.Value(kind)})
    with pytest.raises(ConfigError, match=rf"features=: the column {name} is .*cannot be .*{kind}.*cast\(\)"):
        load(world, features=features, streaming=streaming)


@pytest.mark.parametrize("value", ["nowhere", "http://me:secret@host/", "  ", "a\nb"], ids=str)
def test_an_error_of_the_environment_variable_names_it(
    world: World, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """If NEWSCLIPPINGS_DATA_DIR is no data folder, the error names the variable."""
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", value)
    with pytest.raises((ConfigError, DataNotFoundError), match=r"^NEWSCLIPPINGS_DATA_DIR=") as error:
        datasets.load_dataset("newsclippings", images="none")
    assert "secret" not in str(error.value)
    monkeypatch.setenv("NEWSCLIPPINGS_DATA_DIR", "")
    assert raw_splits(load(world)) == {split: world.rows(split=split) for split in ("train", "validation", "test")}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"configs": ["merged_balancd"]}, "Did you mean 'merged_balanced'"),
        ({"configs": 5}, "configs=5 is not known"),
        ({"images": True}, "images=True is not known"),
        ({"embeddings": "no"}, "embeddings='no' is not known. Allowed: True, False"),
        ({"checksums": "false"}, "checksums='false' is not known. Allowed: True, False"),
        ({"data_dir": 5}, "data_dir=5 is a int; expected a path"),
        ({"visual_news": [["x"]]}, r"visual_news=\['x'\] is a list; expected a path"),
    ],
    ids=str,
)
def test_verify_is_as_strict(given: dict[str, Any], says: str) -> None:
    """`newsclippings.verify` refuses wrong values, too."""
    call: Callable[..., Any] = verify
    with pytest.raises(ConfigError, match=says):
        call(**given)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("build out --embeddings clip_imag", "Did you mean 'clip_image'?"),
        ("build out --config scene_resnet_places", "Did you mean 'scene_resnet_place'?"),
        ("build out --missing drop", "Did you mean 'drop_pair'?"),
        ("build out --split valdation", "Did you mean 'validation'?"),
        ("build out --visual-new x", "--visual-news"),
        ("preview --config Merged_balanced", "Did you mean 'merged_balanced'?"),
    ],
    ids=str,
)
def test_the_command_line_suggests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, says: str) -> None:
    """For a misspelt option or value the command line suggests the right one."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code
    assert says in result.output
