"""What a build is made of: the fields that `load_dataset` passes on."""

import inspect
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any

import datasets
import pyarrow as pa
from datasets.data_files import DataFilesDict
from datasets.table import table_cast

from _newsclippings.errors import ConfigError, as_path, bad_value, did_you_mean, shown
from _newsclippings.foreign_text import as_repr
from _newsclippings.schema import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, IMAGES, MISSING, SPLITS, VERSION, features
from _newsclippings.sources import Sources, find_sources

_FEATURES_DO = "Take some columns with select_columns(), or change their types with cast(), afterwards."
LARGEST_ID = 2_000_000  # about as large as ids of VisualNews become
FLAGS = ("metadata", "articles", "check_images")
PATHS = ("data_dir", "visual_news", "visual_news_index")
# What `datasets` passes on to every builder, or its users may expect there, and what to do instead here.
NO_EFFECT = {
    "data_files": "The files are found below data_dir=; VisualNews may be named by visual_news=.",
    "revision": "The authors' files have one pinned revision; of files of your own, pass another data_dir=.",
    "storage_options": "fsspec finds its settings in its own configuration files and in variables of the environment.",
    "token": "Set the variable HF_TOKEN, or log in with `hf auth login`: all requests to the Hub carry it.",
    "base_path": "Pass data_dir=, the folder with the files.",
    "repo_id": "Pass data_dir=, the folder with the files.",
    "hash": "The cache follows the content of the files by itself.",
    "config_id": "The cache follows the content of the files by itself; the name of a config goes into config_name=.",
    "info": "It is made of the options.",
}
OF_SCRIPTS = ("base_path", "repo_id", "hash", "info")


@dataclass
class NewsCLIPpingsConfig(datasets.BuilderConfig):
    """What a build of NewsCLIPpings is made of.

    Attributes:
        data_dir: folder with the official tree (`news_clippings/data/...`, `visual_news/...`). Unset: the environment
            variable NEWSCLIPPINGS_DATA_DIR, then the Hub for everything but pictures.
        visual_news: VisualNews: its folder `origin`, or its `origin.tar`, local or at a URL (`https://`, `hf://`,
            whatever fsspec reads by ranges), of which only what is needed is fetched. Unset: looked for below data_dir.
        visual_news_index: an index of that tar, made by `newsclippings index`; a file or a URL. Unset: its headers are
            walked once.
        images: `"bytes"`: encoded pictures inside the rows. `"path"`: the image column refers to the files of the
            folder, nothing is copied. `"none"`: no image column; image_path stays.
        missing: what becomes of a row whose picture or record is not there. `"error"`: nothing is built, the error
            says what is missing. `"null"`: the row stays, with nulls. `"drop_pair"`: both twins are left out.
        splits: the splits to build, of train, validation, test. Unset: all.
        embeddings: columns of the authors' vectors, any of clip_image, clip_text, sbert, places, facenet, or `"all"`.
            Unset: none. A row without a vector has null.
        metadata: columns of what the authors know of the caption's and the picture's article: title, time, entities.
        articles: a column with the text of the caption's article, from VisualNews.
        check_images: decode every picture while joining, so that one that does not decode is found then and not when
            its row is read; `missing` says what becomes of it, as if it were not there. So do pictures of more than 64
            million pixels. Costs a decoding of each, in threads.

    To `load_dataset` and the builder a None means that an option is not given.
    """

    name: str = DEFAULT_CONFIG
    version: Any = VERSION
    visual_news: str | None = None
    images: str = "bytes"
    missing: str = "error"
    splits: list[str] | None = None
    embeddings: list[str] | str | None = None
    metadata: bool = False
    articles: bool = False
    visual_news_index: str | None = None
    check_images: bool = False

    def __new__(cls, *_: Any, **given: Any) -> Any:
        """Refuse a field that does not exist in our own words."""
        refuse_unknown(given, [field.name for field in fields_of(cls)])
        return super().__new__(cls)

    def __repr__(self) -> str:
        return as_repr(self)

    def __post_init__(self) -> None:
        self.check()
        super().__post_init__()

    def check(self) -> None:
        """Raise `ConfigError` if a field has a value that means nothing, or that changes nothing."""
        check_name(self.name)
        if str(self.version) != VERSION:
            raise without_effect(f"version={shown(self.version)}", f"This package makes {VERSION} and no other.")
        if self.description not in (None, CONFIGS[self.name]):
            raise without_effect(f"description={shown(self.description)}", "That of the config is built in.")
        if not (self.data_files is None or _is_no_files(self.data_files)):
            raise without_effect("data_files=")
        for field, value, allowed in (("images", self.images, IMAGES), ("missing", self.missing, MISSING)):
            if not isinstance(value, str) or value not in allowed:
                raise bad_value(field, value, allowed)
        for field in FLAGS:
            if not isinstance(getattr(self, field), bool):
                raise bad_value(field, getattr(self, field), (True, False))
        self.paths()
        self.wanted_splits()
        self.wanted_embeddings()

    def wanted_splits(self) -> list[str]:
        """The splits to build, in their usual order."""
        if self.splits is None:
            return list(SPLITS)
        given = set(map(str, _names("splits", self.splits, SPLITS)))
        if not given or not given <= set(SPLITS):
            raise bad_value("splits", self.splits, SPLITS)
        return [split for split in SPLITS if split in given]

    def wanted_embeddings(self) -> list[str]:
        """The kinds of embeddings to join, in the order of their columns."""
        allowed = [*EMBEDDINGS, "all"]
        given = set() if self.embeddings is None else set(_names("embeddings", self.embeddings, allowed))
        if given == {"all"}:
            return list(EMBEDDINGS)
        if not given <= set(EMBEDDINGS):
            raise bad_value("embeddings", self.embeddings, allowed)
        return [kind for kind in EMBEDDINGS if kind in given]

    def own_features(self) -> datasets.Features:
        """The columns that follow from the fields, with their types."""
        return features(self.images, self.wanted_embeddings(), bool(self.metadata), bool(self.articles))

    def paths(self) -> dict[str, Any]:
        """The fields that are places, as text."""
        return {field: as_path(field, getattr(self, field)) or None for field in PATHS}

    def sources(self) -> Sources:
        """Where the inputs are."""
        return find_sources(self.name, self.wanted_splits(), embeddings=self.wanted_embeddings(), **self.paths())

    def inputs(self) -> str:
        """A digest of the content of all inputs that a build reads, and of the code."""
        return self.sources().key(pictures=self.images != "none" or self.articles, metadata=self.metadata)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Name of the folder in the cache: covers the fields, the content of every input, and the code."""
        self.check()
        columns = other_features(custom_features, self.own_features())
        base: str = super().create_config_id({}, custom_features=columns)
        fields = {"images": self.images, "missing": self.missing, "splits": ",".join(self.wanted_splits())}
        fields["embeddings"] = ",".join(self.wanted_embeddings())
        fields["check_images"] = str(bool(self.check_images))
        fields["texts"] = f"{bool(self.metadata)} {bool(self.articles)}"
        digest = datasets.fingerprint.Hasher.hash([fields, self.inputs()])
        return f"{base}-{digest}"


def check_arguments(positional: tuple[Any, ...], given: dict[str, Any], as_script: bool = False) -> dict[str, Any]:
    """What the builder may pass on to `datasets` of its arguments; those that would change nothing are refused.

    Args:
        positional: arguments without a name: one at most, the folder of the cache, often taken for the config.
        given: arguments by name.
        as_script: whether `datasets` 3 runs the builder as a dataset script, and hands in what it knows of that.

    Raises:
        ConfigError: an argument is not known, has no effect, or stands where another belongs.
    """
    if len(positional) > 1:
        raise _name_elsewhere("all arguments but the cache folder are given by name", positional[1])
    if positional and "cache_dir" in given:
        raise _name_elsewhere("all arguments but the cache folder are given by name", positional[0])
    given = {**dict(zip(("cache_dir",), positional, strict=False)), **given}
    folder = given.get("cache_dir")
    exists = isinstance(folder, str) and os.path.isdir(folder)
    if isinstance(folder, str) and (
        folder in CONFIGS if exists and positional else not exists and _is_like_config(folder)
    ):
        raise _name_elsewhere("the first argument, cache_dir=, is the folder of the cache", folder)
    if isinstance(given.get("dataset_name"), str) and given["dataset_name"] in CONFIGS:
        raise _name_elsewhere("dataset_name= is that of the dataset", given["dataset_name"])
    of_datasets = [name for name in inspect.signature(datasets.DatasetBuilder.__init__).parameters if name != "self"]
    refuse_unknown(given, [field.name for field in fields_of(NewsCLIPpingsConfig)], of_datasets)
    if "name" in given:  # as `load_dataset` calls it
        name = given.pop("name")
        if given.get("config_name") not in (None, name):
            message = f"name={shown(name)} and config_name={shown(given['config_name'])}: expected one of them."
            raise ConfigError(message)
        given["config_name"] = name
    if given.get("config_name") is not None:
        check_name(given["config_name"])
    if given.get("features") is not None:
        given["features"] = _as_features(given["features"])
    if given.get("cache_dir") is not None:
        given["cache_dir"] = as_path("cache_dir", given["cache_dir"])
    # An empty value asks for nothing; True for the token of the login, which all requests to the Hub carry.
    empty = {"storage_options": {}, "hash": "", "token": True}
    for name in NO_EFFECT:
        value = None if as_script and name in OF_SCRIPTS else given.get(name)
        if value is not None and value != empty.get(name) and not (name == "data_files" and _is_no_files(value)):
            raise without_effect(f"{name}=")
    return given


def other_features(asked: datasets.Features | None, own: datasets.Features) -> datasets.Features | None:
    """Other types, or another order, of the columns of a build; None if those are asked for that it has anyway.

    Args:
        asked: what `features=` is.
        own: the columns and types that follow from the options.

    Raises:
        ConfigError: other columns are asked for, or a type that a column cannot have.
    """
    if asked is None or list(asked.items()) == list(own.items()):
        return None
    odd = sorted(asked.keys() ^ own.keys(), key=[*own, *asked].index)
    if odd:
        problem = f"{', '.join(map(shown, odd))} " + ("is not there" if odd[0] in own else "is no column of this build")
        message = f"features= has to name the columns that follow from the options, and {problem}. {_FEATURES_DO}"
        raise ConfigError(message)
    for name in own:
        example = pa.table({name: pa.array([_example(own[name], asked[name])], own.arrow_schema.field(name).type)})
        try:
            table_cast(example, datasets.Features({name: asked[name]}).arrow_schema)
        except Exception as error:  # whatever pyarrow and `datasets` raise where types do not fit
            message = (
                f"features=: the column {name} is {own[name]!r}, and cannot be {shown(asked[name])}. {_FEATURES_DO}"
            )
            raise ConfigError(message) from error
    return asked


def _example(own: Any, asked: Any) -> Any:
    """A value as a column of some type has them, at its largest."""
    if isinstance(own, Mapping):
        return {name: _example(kind, None) for name, kind in own.items()}
    if isinstance(own, list):
        return [_example(own[0], None)]
    if isinstance(own, datasets.Image):
        return {"bytes": b"", "path": None}
    if isinstance(own, datasets.ClassLabel):
        return own.num_classes - 1
    if not isinstance(own, datasets.Value):  # a list, whose class has another name before `datasets` 4
        return [_example(own.feature, None)] * max(1, own.length)
    if own.dtype == "string":
        return asked.names[0] if isinstance(asked, datasets.ClassLabel) and asked.names else "guardian"
    return True if own.dtype == "bool" else 0.5 if own.dtype.startswith("float") else LARGEST_ID


def check_name(name: object) -> None:
    """Raise `ConfigError` if there is no config of a name."""
    if not isinstance(name, str):
        do = "Pass its name, and its fields by name: NewsCLIPpings(config_name='merged_balanced', images='none')."
        message = f"A config is named by text, not by a {type(name).__name__}. {do}"
        raise ConfigError(message)
    if name not in CONFIGS:
        raise bad_value("config_name", name, CONFIGS)


def refuse_unknown(given: Mapping[str, Any], known: Collection[str], more: Collection[str] = ()) -> None:
    """Raise `ConfigError` if an option has a name that none has; `more` are known and not worth a mention."""
    for name in given:
        if name in NO_EFFECT and name not in (*known, *more):
            raise without_effect(f"{name}=")
        if name not in known and name not in more:
            options = [option for option in known if option not in (*NO_EFFECT, "version", "description")]
            message = f"There is no option {name}=.{did_you_mean(name, options)} Options: {', '.join(options)}."
            raise ConfigError(message)


def _names(field: str, value: Any, allowed: Collection[str]) -> list[Any]:
    """One name, or several in a collection, as a list."""
    if isinstance(value, str | datasets.NamedSplit):
        return [value]
    odd = isinstance(value, Mapping | bytes | bytearray) or not isinstance(value, Collection)
    if odd or not all(isinstance(one, str | datasets.NamedSplit) for one in value):
        raise bad_value(field, value, allowed)
    return list(value)


def without_effect(what: str, do: str = "") -> ConfigError:
    """An option was given that has no effect here; of those in `NO_EFFECT` it is known what to do instead."""
    do = do or NO_EFFECT[what.rstrip("=")]
    return ConfigError(f"{what} would change nothing here, and is refused. {do}")


def _name_elsewhere(what: str, name: object) -> ConfigError:
    meant = name if isinstance(name, str) and name in CONFIGS else DEFAULT_CONFIG
    call = f"NewsCLIPpings(config_name={meant!r}, ...), or load_dataset('newsclippings', {meant!r}, ...)"
    return ConfigError(f"{shown(name)}: {what}. Call {call}; a cache folder of that name is './{meant}'.")


def _as_features(asked: Any) -> datasets.Features:
    """What `features=` is, as `datasets` has it."""
    try:
        return datasets.Features(asked)
    except Exception as error:  # whatever `datasets` raises at types that it does not know
        message = f"features={shown(asked)}: expected datasets.Features, a type for each column. {_FEATURES_DO}"
        raise ConfigError(message) from error


def _is_no_files(data_files: object) -> bool:
    """Whether it is what the lookup by name hands in, since `load_dataset` wants something there."""
    return isinstance(data_files, DataFilesDict) and not data_files


def _is_like_config(folder: str) -> bool:
    """Whether somebody who writes this means a config, most likely, and no folder."""
    return os.sep not in folder and bool(did_you_mean(folder, CONFIGS, 0.85))
