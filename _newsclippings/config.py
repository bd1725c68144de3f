"""The options of a build, and their checks."""

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any, NamedTuple

from _newsclippings.errors import ConfigError
from _newsclippings.facts import (
    ARTICLES,
    COLUMNS,
    CONFIGS,
    DEFAULT_CONFIG,
    EMBEDDINGS,
    FULL,
    IMAGES,
    MISSING,
    SIDES,
    SOURCE_DATASETS,
    SPLITS,
    TEXTS,
    VECTOR_DTYPES,
    Columns,
    Vectors,
    columns_of,
)
from _newsclippings.generated import Generated, find_generated, is_name
from _newsclippings.text import did_you_mean, option, redacted_repr, short_repr

FLAGS = ("metadata", "check_images", "image_file")
PATHS = ("data_dir", "visual_news_index", "links_root", "evidence")
LINKS = ("refuse", "follow")
# Options that `datasets` or its users may pass to any builder -> what to do instead for this one.
NO_EFFECT = {
    "data_files": "The files are found below data_dir=; pass the place of VisualNews as visual_news=.",
    "revision": "The authors' files have one pinned revision; for other files, pass another data_dir=.",
    "base_path": "Pass data_dir=, the folder with the files.",
    "repo_id": "Pass data_dir=, the folder with the files.",
    "hash": "The cache follows the content of the files by itself.",
    "config_id": "The cache follows the content of the files by itself; pass the name of a config as config_name=.",
    "info": "It follows from the options.",
}

COLUMN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")  # of a user's vectors


class OwnVectors(NamedTuple):
    """Where vectors of the user are.

    Attributes:
        location: a file, or a folder that `newsclippings embed` wrote; a path or a URL.
        of: `"pictures"` or `"captions"`; None if the folder says it.
    """

    location: str
    of: str | None


@dataclass
class Request:
    """The options of a build of NewsCLIPpings.

    Attributes:
        name: name of the config.
        data_dir: folder with the official tree (`news_clippings/data/...`, `visual_news/...`). Unset: the environment
            variable NEWSCLIPPINGS_DATA_DIR, then the Hub for everything but pictures.
        visual_news: VisualNews: its folder `origin`, its `origin.tar`, a zip, or the first part of either, local or at
            a URL of which fsspec reads ranges (`https://`, `hf://`, ...); only the needed parts are fetched. A list:
            of each picture the first location that has it. Or a corpus of your own: a folder with data.json in the
            same form, or a CSV or Parquet file, see `newsclippings generate`. Unset: searched below data_dir.
        visual_news_index: an index of the (first) tar, made by `newsclippings index`; a file or a URL. Unset: the
            headers of the tar are read once.
        images: `"bytes"`: the rows hold the encoded pictures. `"path"`: the image column refers to the files of the
            folder, and nothing is copied. `"none"`: no image column; image_path stays.
        missing: what to do with a row whose picture or record is missing. `"error"`: build nothing and report what is
            missing. `"null"`: keep the row, with nulls. `"drop_pair"`: leave out both twins.
        splits: the splits to build: any of train, validation, test. Unset: all.
        embeddings: vectors to add as columns. The authors': any of clip_image, clip_text, sbert, places, facenet, or
            `"all"`. Your own: a dict of the column's name -> the folder that `newsclippings embed` wrote, or `(file,
            "pictures")` or `(file, "captions")`, the side that its ids are of; True for a kind of the authors. A file
            is .parquet, .arrow, .npy with .ids.npy beside it, .safetensors or a pickle like the authors'. Both may be
            URLs. Unset: none. A row without a vector has null.
        vector_dtype: `"float16"` keeps your own vectors that are stored so as they are. `"float32"`: all columns of
            vectors are float32.
        metadata: add columns with the authors' metadata of the caption's and the picture's article: title, time,
            entities.
        articles: True: add a column with the text of the caption's article, from VisualNews. `"full"`: instead, one
            with the article as it was collected: its JSON file in the folder `articles`, or in `articles.tar`, beside
            the folder origin. The metadata name that file.
        check_images: decode every picture while joining, in threads; those that do not decode, or have more than 64
            million pixels, count as missing. If False, such a picture is an error when its row is read.
        image_file: with `images="path"`: add a column with the absolute path of each picture, for scripts that open
            files.
        links: what to do with symbolic links that leave the folder of pictures. `"refuse"`: an error. `"follow"`: they
            are read if they lead below `links_root`.
        links_root: the folder below which such links may lead, such as the cache of DVC.
        evidence: the folder of web evidence that the authors of CCN give out, for merged_balanced: adds a column with
            what was found for the caption and the picture. A row without evidence has null.

    Raises:
        ConfigError: an option does not exist, or has a value that cannot be used.
    """

    name: str = DEFAULT_CONFIG
    data_dir: str | None = None
    visual_news: str | list[str] | None = None
    images: str = "bytes"
    missing: str = "error"
    splits: list[str] | None = None
    embeddings: Any = None  # list[str] | str | dict[str, str | tuple[str, str] | bool] | None
    metadata: bool = False
    articles: bool | str = False
    visual_news_index: str | None = None
    check_images: bool = False
    links: str = "refuse"
    links_root: str | None = None
    vector_dtype: str = "float32"
    image_file: bool = False
    evidence: str | None = None

    def __new__(cls, *_: Any, **given: Any) -> Any:
        """Raise `ConfigError`, and not TypeError, for a field that does not exist."""
        check_option_names(given, [field.name for field in fields_of(cls)])
        return super().__new__(cls)

    def __repr__(self) -> str:
        return redacted_repr(self)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise `ConfigError` if a field has a value that cannot be used."""
        check_name(self.name, self.data_dir)
        chosen: dict[str, Collection[str]] = {
            "images": IMAGES, "missing": MISSING, "links": LINKS, "vector_dtype": VECTOR_DTYPES,
        }  # fmt: skip
        for field, allowed in chosen.items():
            value = getattr(self, field)
            if not isinstance(value, str) or value not in allowed:
                raise bad_value(field, value, allowed)
        for field in FLAGS:
            if not isinstance(getattr(self, field), bool):
                raise bad_value(field, getattr(self, field), (True, False))
        if not isinstance(self.articles, bool) and self.articles != FULL:
            raise bad_value("articles", self.articles, ARTICLES)
        if self.image_file and self.images != "path":
            message = (
                f"{option('image_file', True)} needs {option('images', 'path')}: other rows refer to no files. Pass "
                "both, and the extracted folder."
            )
            raise ConfigError(message)
        paths = self.paths()
        if (self.links == "follow") != (paths["links_root"] is not None):
            both = f"{option('links', 'follow')} and {option('links_root', '/folder')}"
            message = f"{both} belong together: links are followed only below a folder that you name. Pass both."
            raise ConfigError(message)
        if paths["evidence"] is not None and self.name != DEFAULT_CONFIG:
            message = f"{option('evidence')} is of the rows of {DEFAULT_CONFIG} only. For {self.name}, leave it out."
            raise ConfigError(message)
        self.wanted_splits()
        self.wanted_embeddings()
        if self.vector_dtype != "float32" and not self.own_vectors():
            what = option("vector_dtype", self.vector_dtype)
            raise unused_option(what, "It is for your own vectors, in embeddings={name: location}.")

    def wanted_splits(self) -> list[str]:
        """Return the splits to build, in their usual order."""
        generated = self.generated()
        known = SPLITS if generated is None else generated.splits
        if self.splits is None:
            return list(known)
        given = set(map(str, _list_names("splits", self.splits, known)))
        if not given or not given <= set(known):
            raise bad_value("splits", self.splits, known)
        return [split for split in SPLITS if split in given]

    def generated(self) -> Generated | None:
        """Return the manifest of the config if `newsclippings generate` made it; None for an official one."""
        return None if self.name in CONFIGS else find_named(self.name, self.paths()["data_dir"])

    def wanted_embeddings(self) -> list[str]:
        """Return the names of the columns of vectors, in order."""
        if isinstance(self.embeddings, Mapping):
            for name, value in self.embeddings.items():
                _check_column(name, value)
            return list(self.embeddings)
        allowed = [*EMBEDDINGS, "all"]
        given = set() if self.embeddings is None else set(_list_names("embeddings", self.embeddings, allowed))
        if given == {"all"}:
            return list(EMBEDDINGS)
        if not given <= set(EMBEDDINGS):
            raise bad_value("embeddings", self.embeddings, allowed)
        return [kind for kind in EMBEDDINGS if kind in given]

    def own_vectors(self) -> dict[str, OwnVectors]:
        """Return column -> where its vectors are, for the columns that are not the authors'."""
        own = self.embeddings if isinstance(self.embeddings, Mapping) else {}
        return {name: parse_vectors(name, value) for name, value in own.items() if value is not True}

    @property
    def needs_origin(self) -> bool:
        """Whether rows need pictures or articles of the folder `origin` of VisualNews, or of its tar."""
        return self.images != "none" or self.articles is True

    @property
    def needs_metadata(self) -> bool:
        """Whether rows need the authors' metadata, even if captions come from data.json."""
        return self.metadata or self.articles == FULL

    def columns(self, vectors: Mapping[str, Vectors]) -> Columns:
        """Return the columns that follow from the fields, with their types; `vectors` as in `Inputs`."""
        generated, evidence = self.generated(), self.paths()["evidence"] is not None
        names = SOURCE_DATASETS if generated is None else generated.source_datasets
        return columns_of(self.images, vectors, self.metadata, self.articles, self.image_file, evidence, names)

    def paths(self) -> dict[str, Any]:
        """Return the fields that are paths or URLs, as text (visual_news: a list); None if unset or empty."""
        paths: dict[str, Any] = {field: check_path(field, getattr(self, field)) or None for field in PATHS}
        return {**paths, "visual_news": check_locations(self.visual_news)}


def bad_value(field: str, value: object, allowed: Iterable[object]) -> ConfigError:
    """Make the error of an option whose value is not among the allowed ones."""
    allowed = list(allowed)
    given = value if isinstance(value, list | tuple | set | frozenset) else [value]
    unknown = [name for name in given if isinstance(name, str) and name not in allowed]
    hint = did_you_mean(unknown[0], [name for name in allowed if isinstance(name, str)]) if unknown else ""
    return ConfigError(f"{field}={short_repr(value)} is not known. Allowed: {', '.join(map(repr, allowed))}.{hint}")


def check_path(field: str, value: object) -> str | None:
    """Return a path or a URL that a caller passed as text; None if it is None.

    Raises:
        ConfigError: it has another type.
    """
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if path is not None and not isinstance(path, str):
        message = f"{field}={short_repr(value)} is a {type(value).__name__}; expected a path or a URL."
        raise ConfigError(message)
    return path


def check_locations(value: object) -> list[str] | None:
    """Return visual_news, one location or several, as a list of texts; None if it is unset or empty.

    Raises:
        ConfigError: it has another type.
    """
    several = value if isinstance(value, list | tuple) else [value]
    paths = [path for each in several if (path := check_path("visual_news", each))]
    return list(dict.fromkeys(paths)) or None


def parse_vectors(name: str, value: object) -> OwnVectors:
    """Read the place of a user's vectors: a location, or a location and what its vectors are of.

    Raises:
        ConfigError: it is something else.
    """
    place, of = value if isinstance(value, tuple | list) and len(value) == 2 else (value, None)
    path = os.fspath(place) if isinstance(place, os.PathLike) else place
    if not isinstance(path, str) or not path or of not in (None, *SIDES):
        message = (
            f"embeddings: {short_repr(name)} is {short_repr(value)}; expected the folder that `newsclippings embed` "
            "wrote, (file, 'pictures') or (file, 'captions'). For a kind of the authors "
            f"({', '.join(EMBEDDINGS)}), pass True."
        )
        raise ConfigError(message)
    return OwnVectors(path, of)


def parse_columns(given: Iterable[str]) -> dict[str, Any]:
    """Read kinds of the authors, and NAME=LOCATION of the user's own vectors, from a command line.

    Args:
        given: each a kind, `all`, NAME=FOLDER, NAME=pictures:FILE or NAME=captions:FILE.

    Returns:
        column -> True, a location, or a location and a side, as `Request.embeddings` takes them.

    Raises:
        ConfigError: one is none of them, or is there twice.
    """
    columns: dict[str, Any] = {}
    for text in given:
        name, equals, place = text.partition("=")
        of, colon, rest = place.partition(":")
        value: Any = (rest, of) if colon and of in SIDES else place
        for column in EMBEDDINGS if text == "all" else [name]:
            if column in columns:
                message = f"{column} is there twice. Give each column its own name."
                raise ConfigError(message)
            if not equals and column not in EMBEDDINGS:
                hint = did_you_mean(column, [*EMBEDDINGS, "all"])
                message = f"{column!r}: expected {', '.join(EMBEDDINGS)}, all, or NAME=LOCATION.{hint}"
                raise ConfigError(message)
            columns[column] = value if equals else True
    return columns


def _check_column(name: object, value: object) -> None:
    """Check the name of a column of vectors, and what it is to have."""
    taken = {*COLUMNS, *TEXTS}
    if value is True:
        if name not in EMBEDDINGS:
            hint = did_you_mean(str(name), EMBEDDINGS)
            message = f"embeddings: {short_repr(name)} is True, but is not a kind of the authors.{hint}"
            raise ConfigError(f"{message} Kinds: {', '.join(EMBEDDINGS)}. Of your own vectors, pass the location.")
        return
    if not isinstance(name, str) or not COLUMN_NAME.fullmatch(name):
        message = f"embeddings: {short_repr(name)} cannot name a column. Use letters, digits and _, at most 63."
        raise ConfigError(message)
    parse_vectors(name, value)
    if name in taken or name in EMBEDDINGS:
        what = "one of the authors' kinds: pass True for those vectors" if name in EMBEDDINGS else "a column already"
        message = f"embeddings: {name} is {what}. Give your own vectors another name, such as my_{name}."
        raise ConfigError(message)


def check_name(name: object, data_dir: object = None) -> None:
    """Raise `ConfigError` if there is no config with this name.

    Args:
        name: the name.
        data_dir: the folder that may have a generated config; see `find_generated`.
    """
    if not isinstance(name, str):
        do = "Pass its name, and its fields by name: NewsCLIPpings(config_name='merged_balanced', images='none')."
        message = f"config_name is a {type(name).__name__}; expected the name of a config. {do}"
        raise ConfigError(message)
    if name not in CONFIGS:
        find_named(name, check_path("data_dir", data_dir))


def list_configs(data_dir: str | None) -> list[str]:
    """List the official configs, and the one that was generated into a folder, if any; see `find_generated`."""
    generated = find_generated(data_dir)
    return [*CONFIGS] if generated is None else [*CONFIGS, generated.config]


def find_named(name: str, data_dir: str | None) -> Generated:
    """Return the config with this name that was generated into a folder.

    Raises:
        ConfigError: the folder has none, or one with another name.
    """
    generated = find_generated(data_dir)
    if generated is None or generated.config != name:
        known = [*CONFIGS] if generated is None else [*CONFIGS, generated.config]
        do = " One that you generated is in its own folder: pass that as data_dir=." if is_name(name) else ""
        if name in SPLITS:
            do = f" That is a split: pass split={name!r}."
        elif os.path.isdir(os.path.expanduser(name)):
            do = f" That is a folder: pass data_dir={name!r}."
        raise ConfigError(f"{bad_value('config_name', name, known)}{do if generated is None else ''}")
    return generated


def check_option_names(given: Mapping[str, Any], known: Collection[str], unlisted: Collection[str] = ()) -> None:
    """Raise `ConfigError` if an option does not exist; `unlisted` ones exist too, but the error does not list them."""
    for name in given:
        if name in NO_EFFECT and name not in (*known, *unlisted):
            raise unused_option(f"{name}=")
        if name not in known and name not in unlisted:
            options = [option for option in known if option not in (*NO_EFFECT, "version", "description")]
            message = f"There is no option {name}=.{did_you_mean(name, options)} Options: {', '.join(options)}."
            raise ConfigError(message)


def _list_names(field: str, value: Any, allowed: Collection[str]) -> list[Any]:
    """Return one name, or a collection of names, as a list."""
    if isinstance(value, str):
        return [value]
    wrong = isinstance(value, Mapping | bytes | bytearray) or not isinstance(value, Collection)
    if wrong or not all(isinstance(name, str) for name in value):
        raise bad_value(field, value, allowed)
    return list(value)


def unused_option(what: str, do: str = "") -> ConfigError:
    """Make the error of an option without effect; `do` may be left out for the options in `NO_EFFECT`."""
    do = do or NO_EFFECT[what.rstrip("=")]
    return ConfigError(f"{what} would change nothing here. {do}")
