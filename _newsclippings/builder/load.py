"""Load rows by the name that `datasets` knows, and build only the splits that are asked for."""

import inspect
import re
from dataclasses import fields as fields_of
from typing import Any, Literal, overload

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, NamedSplit, ReadInstruction

from _newsclippings.builder.register import is_shadowed, make_name_known
from _newsclippings.config import NO_EFFECT, Request, bad_value, check_name, check_option_names
from _newsclippings.errors import ConfigError
from _newsclippings.facts import DEFAULT_CONFIG, NAME, SPLITS
from _newsclippings.text import short_repr

_SIGNATURE = inspect.signature(datasets.load_dataset).parameters
_OF_LOADING = [name for name in _SIGNATURE if name not in ("path", "name", "config_kwargs", *NO_EFFECT)]
_OF_BUILD = [field.name for field in fields_of(Request) if field.name != "name"]


@overload
def load(config: str = ..., split: None = ..., *, streaming: Literal[False] = ..., **fields: Any) -> DatasetDict: ...


@overload
def load(config: str, split: str, *, streaming: Literal[False] = ..., **fields: Any) -> Dataset: ...


@overload
def load(config: str = ..., *, split: str, streaming: Literal[False] = ..., **fields: Any) -> Dataset: ...


@overload
def load(config: str = ..., split: None = ..., *, streaming: Literal[True], **fields: Any) -> IterableDatasetDict: ...


@overload
def load(config: str, split: str, *, streaming: Literal[True], **fields: Any) -> IterableDataset: ...


@overload
def load(config: str = ..., *, split: str, streaming: Literal[True], **fields: Any) -> IterableDataset: ...


@overload
def load(
    config: str = ..., split: str | None = ..., *, streaming: bool = ..., **fields: Any
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict: ...


def load(
    config: str = DEFAULT_CONFIG, split: str | None = None, *, streaming: bool = False, **fields: Any
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """Load NewsCLIPpings: `datasets.load_dataset("newsclippings", config, ...)`, but only the asked-for split is built.

    Args:
        config: name of the config.
        split: what to load: a split (train, validation, test), a part of it (`"test[:10%]"`), or several
            (`"train+test"`). Only the splits that it names are built and fetched. Unset: all, each under its name.
        streaming: make rows when they are asked for, and build nothing.
        **fields: the options of a build, which are the fields of `NewsCLIPpingsConfig` (`data_dir`, `visual_news`,
            `images`, `missing`, `embeddings`, ...), and the arguments of `load_dataset` (`cache_dir`, `num_proc`, ...).

    Returns:
        A `Dataset`, or a `DatasetDict` if `split` is unset; if `streaming`, an `IterableDataset` or an
        `IterableDatasetDict`.

    Raises:
        ConfigError: an option, a config or a split does not exist; a similar one that exists is suggested.
        NewsCLIPpingsError: an input is missing or damaged.
    """
    make_name_known()
    check_option_names(fields, [*dict.fromkeys(("config", *_OF_BUILD, *_OF_LOADING))])
    splits = _named_splits(split, streaming)
    if is_shadowed(fields.get("data_dir")):
        if odd := [name for name in fields if name in _OF_BUILD and name != "data_dir"]:
            message = (
                f"{odd[0]}= has no effect: the built folder ./{NAME} is loaded as it is. To build, pass data_dir= or "
                "work in another folder."
            )
            raise ConfigError(message)
    else:
        check_name(config, fields.get("data_dir"))
        if splits is not None:
            if fields.get("splits") is not None:
                message = f"split={short_repr(split)} names what is built, too. Leave splits= out."
                raise ConfigError(message)
            fields["splits"] = splits
    return datasets.load_dataset(NAME, config, split=split, streaming=streaming, **fields)


def _named_splits(split: Any, streaming: bool) -> list[str] | None:
    """List the splits of which some rows are asked for, in their usual order; None for all.

    Raises:
        ConfigError: there is no such split, or the text cannot be read, or asks for a part of a stream.
    """
    if split is None:
        return None
    if not isinstance(split, str | NamedSplit | ReadInstruction):
        message = (
            f"split={short_repr(split)} is a {type(split).__name__}; expected a text such as 'test', 'test[:10%]' or "
            "'train+test'. For several splits apart, leave split= out and pass splits=."
        )
        raise ConfigError(message)
    text = split.to_spec() if isinstance(split, ReadInstruction) else str(split)
    if text == str(datasets.Split.ALL):
        return None
    named = [re.split(r"[\[(]", part)[0].strip() for part in text.split("+")]
    if unknown := [name for name in named if name not in SPLITS]:
        raise bad_value("split", unknown[0], SPLITS)
    try:
        ReadInstruction.from_spec(text)
    except (AssertionError, ValueError) as error:
        message = f"split={short_repr(text)} cannot be read. Examples: 'test', 'test[:10%]', 'train+test'."
        raise ConfigError(message) from error
    if streaming and "[" in text:
        message = f"split={short_repr(text)}: a stream has no slices. Load the whole split, and call take() or skip()."
        raise ConfigError(message)
    return [name for name in SPLITS if name in named]
