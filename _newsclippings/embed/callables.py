"""Encoders and augmentations that are a user's own functions, named MODULE:FUNCTION."""

import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from _newsclippings.embed.encoder import Encoder, Float32s
from _newsclippings.embed.libraries import describe, make_blank, measure_width, report_library_errors
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.storage import compute_sha256
from _newsclippings.text import did_you_mean, short_repr

RETURNS: Final = "an array (N, width), or for several vectors of an item a list of N arrays (any number, width)"


def load_callable(name: str) -> tuple[Any, str | None]:
    """Import what a user names; modules in the current folder are found, too.

    Args:
        name: MODULE:FUNCTION.

    Returns:
        It, and the SHA-256 of its file.

    Raises:
        ConfigError: there is no such thing, or its module fails.
    """
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in module_name.split(".")) or not attribute.isidentifier():
        message = f"{short_repr(name)}: expected MODULE:FUNCTION, for example my_encoders:faces."
        raise ConfigError(message)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's code raises
        do = "Check the name, and that it is in the current folder or installed."
        why = "" if isinstance(error, ModuleNotFoundError) and error.name == module_name else f" {describe(error)}"
        message = f"The module {module_name} of {name} cannot be imported.{why} {do}"
        raise ConfigError(message) from error
    if not hasattr(module, attribute):
        message = f"{module_name} has no {attribute}.{did_you_mean(attribute, vars(module))}"
        raise ConfigError(message)
    file = getattr(module, "__file__", None)
    return getattr(module, attribute), compute_sha256(Path(file)) if file else None


def open_callable(name: str, of: str, device: str | None) -> Encoder:
    """Open an encoder that is a user's own.

    Args:
        name: MODULE:FUNCTION, one of three: an `Encoder`; a function with a parameter `of` (and, if it likes, `device`)
            that returns an `Encoder`; or a function that gets a list of pictures (PIL, RGB) or captions and returns
            their vectors.
        of: `"pictures"` or `"captions"`.
        device: for the function; None if the user chose none.

    Raises:
        ConfigError: it does not exist, or is none of these, or is of the other side.
        BadFileError: it fails, or returns no vectors.
    """
    found, digest = load_callable(name)
    wanted = f"py:{name}"
    if callable(found) and "of" in (parameters := _parameters(found)):
        with report_library_errors(wanted, "failed"):
            found = found(of=of, **({"device": device} if "device" in parameters else {}))
        if not isinstance(found, Encoder):
            message = f"{wanted}: a function with a parameter `of` returns an Encoder, and not {short_repr(found)}."
            raise ConfigError(message)
    if isinstance(found, Encoder):
        check_encoder(found, wanted, of)
        encoder = found
    elif callable(found):
        encoder = _wrap(found, wanted, of)
    else:
        message = f"{wanted} is {short_repr(found)}, and neither a function nor an Encoder."
        raise ConfigError(message)

    def encode(items: list[Any]) -> Float32s | list[Float32s]:
        arrays = _to_arrays(wanted, encoder.encode(items), len(items))
        if any(array.ndim != 1 + encoder.several or array.shape[-1] != encoder.width for array in arrays):
            shapes = ", ".join(sorted({str(array.shape) for array in arrays})[:3])
            message = (
                f"{wanted}: expected vectors of {encoder.width} numbers, {'any number' if encoder.several else 'one'} "
                f"for each item, found arrays of shape {shapes}."
            )
            raise BadFileError(message)
        return arrays if encoder.several else np.stack(arrays)

    measure_width(wanted, of, encoder.prepare, encode, encoder.several)
    return replace(encoder, facts={**encoder.facts, "model": wanted, "source_sha256": digest}, encode=encode)


def _parameters(function: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # a few built-in functions have none
        return {}


def check_encoder(encoder: Encoder, name: str, of: str) -> None:
    """Raise `ConfigError` if a user's encoder has attributes of wrong values."""
    if encoder.of != of:
        message = f"{name} encodes {short_repr(encoder.of)}, and not {of}. Choose the other side, or another encoder."
        raise ConfigError(message)
    try:
        json.dumps(encoder.facts, allow_nan=False)
        plain = isinstance(encoder.facts, dict)
    except (TypeError, ValueError):
        plain = False
    wrong = {
        "width": not _is_count(encoder.width, 1 << 20),
        "facts (a dict of JSON)": not plain,
        "prepare": not callable(encoder.prepare),
        "encode": not callable(encoder.encode),
        "several": not isinstance(encoder.several, bool),
        "normalised": not isinstance(encoder.normalised, bool),
        "side": encoder.side is not None and not _is_count(encoder.side, 1 << 16),
        "batch": not _is_count(encoder.batch, 1 << 24),
    }
    if bad := [attribute for attribute, is_wrong in wrong.items() if is_wrong]:
        value = short_repr(getattr(encoder, bad[0].split()[0]))
        message = f"{name}: an Encoder with a wrong {bad[0]}: {value}."
        raise ConfigError(message)


def _is_count(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _wrap(function: Callable[[list[Any]], Any], name: str, of: str) -> Encoder:
    """Make an encoder of a function from a list of items to their vectors; a trial shows how many and how wide."""
    with report_library_errors(name, f"failed on a list of {of}"):
        (trial,) = _to_arrays(name, function([make_blank(of)]), 1)
    return Encoder(
        of=of,
        width=trial.shape[-1],
        facts={},
        prepare=_prepare,
        encode=function,
        several=trial.ndim == 2,
    )


def _prepare(item: Any) -> Any:
    return item


def _to_arrays(name: str, values: Any, count: int) -> list[Float32s]:
    """Return what a user's function returned as arrays, one for each item; tensors of torch are accepted.

    Raises:
        BadFileError: it is something else.
    """
    values = _to_array(values)
    try:
        arrays = [np.array(_to_array(value), copy=None) for value in values]
        sound = len(arrays) == count and all(a.ndim in (1, 2) and a.dtype.kind in "fiu" and a.shape[-1] for a in arrays)
    except (TypeError, ValueError):
        sound = False
    if not sound:
        shape = f" of shape {values.shape}" if isinstance(values, np.ndarray) else f": {short_repr(values)}"
        message = f"{name}: expected {RETURNS}, for {count} items, found a {type(values).__name__}{shape}."
        raise BadFileError(message)
    return [array.astype(np.float32, copy=False) for array in arrays]


def _to_array(value: Any) -> Any:
    return value.detach().cpu().float().numpy() if hasattr(value, "detach") else value
