"""The config and the arguments of the builder, and the columns as features of `datasets`."""

import contextlib
import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any

import datasets
import pyarrow as pa
from datasets.data_files import DataFilesDict
from datasets.table import table_cast

from _newsclippings.config import NO_EFFECT, Request, check_name, check_option_names, check_path, unused_option
from _newsclippings.errors import ConfigError
from _newsclippings.facts import CITATION, CONFIGS, DEFAULT_CONFIG, DESCRIPTION, EMBEDDINGS, HOMEPAGE, LICENSE, VERSION
from _newsclippings.inputs import Inputs, build_id, find_inputs
from _newsclippings.storage import NO_ACCESS, Access
from _newsclippings.text import did_you_mean, short_repr

_FEATURES_DO = "Take some columns with select_columns(), or change their types with cast(), afterwards."
LARGEST_ID = 2_000_000  # a little more than the largest id of VisualNews


def describe_config(config: Request) -> str:
    """Return the description of an official config, or of one that was generated."""
    generated = config.generated()
    return CONFIGS[config.name] if generated is None else generated.description


class ConfigsByName:
    """The attribute `builder_configs` of a builder: of the class the official ones, of an instance also its own.

    `datasets` looks the config of an instance up there, and has it for the class only.
    """

    def __get__(self, instance: Any, owner: Any) -> dict[str, datasets.BuilderConfig]:
        """Return name -> config."""
        return {config.name: config for config in (owner if instance is None else instance).BUILDER_CONFIGS}


@dataclass(repr=False)
class NewsCLIPpingsConfig(Request, datasets.BuilderConfig):
    """Options of a build of NewsCLIPpings, for `datasets`; the fields are those of `Request`.

    `load_dataset` and the builder take None for an option that is not given.
    """

    version: Any = VERSION

    def __post_init__(self) -> None:
        self.splits = _as_text(self.splits)
        super().__post_init__()
        datasets.BuilderConfig.__post_init__(self)

    def check(self) -> None:
        """Raise `ConfigError` if a field has a value that cannot be used or has no effect."""
        check_name(self.name, self.data_dir)
        if str(self.version) != VERSION:
            raise unused_option(f"version={short_repr(self.version)}", f"This package builds version {VERSION} only.")
        if self.description not in (None, describe_config(self)):
            raise unused_option(f"description={short_repr(self.description)}", "Each config has its own description.")
        if not (self.data_files is None or _is_no_files(self.data_files)):
            raise unused_option("data_files=")
        super().check()

    def features(self) -> datasets.Features:
        """The columns that follow from the fields, with their types."""
        own = bool(self.own_vectors())  # else nothing needs to be found
        vectors = (
            self.inputs(_access.get()).vectors if own else {kind: EMBEDDINGS[kind] for kind in self.wanted_embeddings()}
        )
        return datasets.Features.from_dict(self.columns(vectors))

    def inputs(self, access: Access = NO_ACCESS) -> Inputs:
        """Find the inputs, or return those that were found before for the same options.

        Args:
            access: what the user passed to reach remote inputs.
        """
        asked = (
            self.name,
            self.wanted_splits(),
            self.wanted_embeddings(),
            self.own_vectors(),
            self.vector_dtype,
            self.paths(),
            access,
        )
        known: tuple[Any, Inputs] | None = vars(self).get("_inputs")
        if known is None or known[0] != asked:
            known = self._inputs = asked, find_inputs(self, access=access)
        return known[1]

    def forget_inputs(self) -> None:
        """Find the inputs again next time, because something was wrong with them and may be corrected."""
        self.__dict__.pop("_inputs", None)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """Name the cache folder; the name covers the options, the content of every input, and `VERSION`."""
        self.check()
        columns = other_features(custom_features, self.features())
        base: str = super().create_config_id({}, custom_features=columns)
        return f"{base}-{build_id(self, self.inputs(_access.get()))[:16]}"


_access: ContextVar[Access] = ContextVar("_access", default=NO_ACCESS)


@contextlib.contextmanager
def naming_with(access: Access) -> Iterator[None]:
    """Let the configs that `datasets` makes in the block identify remote inputs with what the user passed."""
    before = _access.set(access)
    try:
        yield
    finally:
        _access.reset(before)


def dataset_info(features: datasets.Features) -> datasets.DatasetInfo:
    """Describe the dataset for `datasets`, before a row is read."""
    return datasets.DatasetInfo(
        description=DESCRIPTION, citation=CITATION, homepage=HOMEPAGE, license=LICENSE, features=features
    )


def check_arguments(positional: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    """Check the arguments of the builder, and return those to pass on to `datasets`.

    Args:
        positional: positional arguments: at most one, the cache folder. Users often pass the config there by mistake.
        given: arguments by name.

    Raises:
        ConfigError: an argument is unknown, has no effect, or is in the place of another.
    """
    if len(positional) > 1:
        raise _misplaced_name("all arguments except the cache folder are given by name", positional[1])
    if positional and "cache_dir" in given:
        raise _misplaced_name("all arguments except the cache folder are given by name", positional[0])
    given = {**dict(zip(("cache_dir",), positional, strict=False)), **given}
    folder = given.get("cache_dir")
    exists = isinstance(folder, str) and os.path.isdir(folder)
    if isinstance(folder, str) and (
        folder in CONFIGS if exists and positional else not exists and _is_like_config(folder)
    ):
        raise _misplaced_name("the first argument, cache_dir=, is the cache folder", folder)
    if isinstance(given.get("dataset_name"), str) and given["dataset_name"] in CONFIGS:
        raise _misplaced_name("dataset_name= is the name of the dataset, not of a config", given["dataset_name"])
    of_datasets = [name for name in inspect.signature(datasets.DatasetBuilder.__init__).parameters if name != "self"]
    check_option_names(given, [field.name for field in fields_of(NewsCLIPpingsConfig)], of_datasets)
    if "name" in given:  # `load_dataset` uses this name
        name = given.pop("name")
        if given.get("config_name") not in (None, name):
            both = f"name={short_repr(name)} and config_name={short_repr(given['config_name'])}"
            message = f"{both} differ. Pass only one of them."
            raise ConfigError(message)
        given["config_name"] = name
    if given.get("config_name") is not None:
        check_name(given["config_name"], given.get("data_dir"))
    if given.get("features") is not None:
        given["features"] = _as_features(given["features"])
    if given.get("cache_dir") is not None:
        given["cache_dir"] = check_path("cache_dir", given["cache_dir"])
    empty = {"hash": ""}  # values that change nothing
    for name in NO_EFFECT:
        value = given.get(name)
        if value is not None and value != empty.get(name) and not (name == "data_files" and _is_no_files(value)):
            raise unused_option(f"{name}=")
    return given


def other_features(asked: datasets.Features | None, own: datasets.Features) -> datasets.Features | None:
    """Check the argument `features=`, which may change the types and the order of the columns.

    Args:
        asked: the value of `features=`.
        own: the columns and types that follow from the options.

    Returns:
        `asked`; None if it changes nothing.

    Raises:
        ConfigError: it has other columns, or a type to which a column cannot be cast.
    """
    if asked is None or list(asked.items()) == list(own.items()):
        return None
    odd = sorted(asked.keys() ^ own.keys(), key=[*own, *asked].index)
    if odd:
        problem = f"{', '.join(map(short_repr, odd))} " + (
            "is missing" if odd[0] in own else "is not a column of this build"
        )
        message = f"features= must have exactly the columns that follow from the options, but {problem}. {_FEATURES_DO}"
        raise ConfigError(message)
    for name in own:
        example = pa.table({name: pa.array([_example(own[name], asked[name])], own.arrow_schema.field(name).type)})
        try:
            table_cast(example, datasets.Features({name: asked[name]}).arrow_schema)
        except Exception as error:  # pyarrow and `datasets` raise errors of many types
            problem = f"the column {name} is {own[name]!r}, which cannot be cast to {short_repr(asked[name])}"
            message = f"features=: {problem}. {_FEATURES_DO}"
            raise ConfigError(message) from error
    return asked


def _example(own: Any, asked: Any) -> Any:
    """Make the largest or most typical value of a column, to try a cast on."""
    if isinstance(own, Mapping):
        return {name: _example(kind, None) for name, kind in own.items()}
    if isinstance(own, list):
        return [_example(own[0], None)]
    if isinstance(own, datasets.Image):
        return {"bytes": b"", "path": None}
    if isinstance(own, datasets.ClassLabel):
        return own.num_classes - 1
    if not isinstance(own, datasets.Value):  # a list
        return [_example(own.feature, None)] * max(1, own.length)
    if own.dtype == "string":
        return asked.names[0] if isinstance(asked, datasets.ClassLabel) and asked.names else "guardian"
    return True if own.dtype == "bool" else 0.5 if own.dtype.startswith("float") else LARGEST_ID


def _as_features(asked: Any) -> datasets.Features:
    """Convert the argument `features=` to `datasets.Features`."""
    try:
        return datasets.Features(asked)
    except Exception as error:  # `datasets` raises errors of many types
        message = f"features={short_repr(asked)}: expected datasets.Features, a type for each column. {_FEATURES_DO}"
        raise ConfigError(message) from error


def _is_no_files(data_files: object) -> bool:
    """Check for the empty value that the lookup by name passes, because `load_dataset` requires one."""
    return isinstance(data_files, DataFilesDict) and not data_files


def _as_text(splits: Any) -> Any:
    """Convert splits of `datasets` to their names; return anything else unchanged."""
    if isinstance(splits, datasets.NamedSplit):
        return str(splits)
    if isinstance(splits, Collection) and any(isinstance(split, datasets.NamedSplit) for split in splits):
        return [str(split) if isinstance(split, datasets.NamedSplit) else split for split in splits]
    return splits


def _is_like_config(folder: str) -> bool:
    """Check whether a text is probably the name of a config, perhaps misspelt, and not a folder."""
    return os.sep not in folder and bool(did_you_mean(folder, CONFIGS, 0.85))


def _misplaced_name(what: str, name: object) -> ConfigError:
    meant = name if isinstance(name, str) and name in CONFIGS else DEFAULT_CONFIG
    call = f"NewsCLIPpings(config_name={meant!r}, ...), or load_dataset('newsclippings', {meant!r}, ...)"
    return ConfigError(f"{short_repr(name)}: {what}. Call {call}; a cache folder of that name is './{meant}'.")
