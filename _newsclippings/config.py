"""What a build is made of: the options and their checks."""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any

from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, DEFAULT_CONFIG, EMBEDDINGS, IMAGES, MISSING, SPLITS, Columns, columns_of
from _newsclippings.text import did_you_mean, redacted_repr, short_repr

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


@dataclass
class Request:
    """What a build of NewsCLIPpings is made of.

    Attributes:
        name: name of the config.
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

    Raises:
        ConfigError: an option is not known, or has a value that means nothing.
    """

    name: str = DEFAULT_CONFIG
    data_dir: str | None = None
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
        check_option_names(given, [field.name for field in fields_of(cls)])
        return super().__new__(cls)

    def __repr__(self) -> str:
        return redacted_repr(self)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise `ConfigError` if a field has a value that means nothing."""
        check_name(self.name)
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
        given = set(map(str, _list_names("splits", self.splits, SPLITS)))
        if not given or not given <= set(SPLITS):
            raise bad_value("splits", self.splits, SPLITS)
        return [split for split in SPLITS if split in given]

    def wanted_embeddings(self) -> list[str]:
        """The kinds of embeddings to join, in the order of their columns."""
        allowed = [*EMBEDDINGS, "all"]
        given = set() if self.embeddings is None else set(_list_names("embeddings", self.embeddings, allowed))
        if given == {"all"}:
            return list(EMBEDDINGS)
        if not given <= set(EMBEDDINGS):
            raise bad_value("embeddings", self.embeddings, allowed)
        return [kind for kind in EMBEDDINGS if kind in given]

    def columns(self) -> Columns:
        """The columns that follow from the fields, with their types."""
        return columns_of(self.images, self.wanted_embeddings(), self.metadata, self.articles)

    def paths(self) -> dict[str, Any]:
        """The fields that are places, as text."""
        return {field: check_path(field, getattr(self, field)) or None for field in PATHS}


def bad_value(field: str, value: object, allowed: Iterable[object]) -> ConfigError:
    """The error of an option with a value outside its list."""
    allowed = list(allowed)
    given = value if isinstance(value, list | tuple | set | frozenset) else [value]
    unknown = [one for one in given if isinstance(one, str) and one not in allowed]
    hint = did_you_mean(unknown[0], [name for name in allowed if isinstance(name, str)]) if unknown else ""
    return ConfigError(f"{field}={short_repr(value)} is not known. Allowed: {', '.join(map(repr, allowed))}.{hint}")


def check_path(field: str, value: object) -> str | None:
    """The text of a path or a URL that somebody passed; None if none was.

    Raises:
        ConfigError: it is something else.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path is not None and not isinstance(path, str):
        message = f"{field}={short_repr(value)} is a {type(value).__name__}; expected a path or a URL."
        raise ConfigError(message)
    return path


def check_name(name: object) -> None:
    """Raise `ConfigError` if there is no config of a name."""
    if not isinstance(name, str):
        do = "Pass its name, and its fields by name: NewsCLIPpings(config_name='merged_balanced', images='none')."
        message = f"A config is named by text, not by a {type(name).__name__}. {do}"
        raise ConfigError(message)
    if name not in CONFIGS:
        raise bad_value("config_name", name, CONFIGS)


def check_option_names(given: Mapping[str, Any], known: Collection[str], more: Collection[str] = ()) -> None:
    """Raise `ConfigError` if an option has a name that none has; `more` are known and not worth a mention."""
    for name in given:
        if name in NO_EFFECT and name not in (*known, *more):
            raise unused_option(f"{name}=")
        if name not in known and name not in more:
            options = [option for option in known if option not in (*NO_EFFECT, "version", "description")]
            message = f"There is no option {name}=.{did_you_mean(name, options)} Options: {', '.join(options)}."
            raise ConfigError(message)


def _list_names(field: str, value: Any, allowed: Collection[str]) -> list[Any]:
    """One name, or several in a collection, as a list."""
    if isinstance(value, str):
        return [value]
    odd = isinstance(value, Mapping | bytes | bytearray) or not isinstance(value, Collection)
    if odd or not all(isinstance(one, str) for one in value):
        raise bad_value(field, value, allowed)
    return list(value)


def unused_option(what: str, do: str = "") -> ConfigError:
    """An option was given that has no effect here; of those in `NO_EFFECT` it is known what to do instead."""
    do = do or NO_EFFECT[what.rstrip("=")]
    return ConfigError(f"{what} would change nothing here, and is refused. {do}")
