"""Strict JSON: unlike Python's decoder, it refuses NaN, repeated keys in an object, and integers beyond 64 bits."""

import json
from collections import Counter
from typing import Any

TRUNCATED = "the end of the file (truncated)"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        ((repeated, _),) = Counter(key for key, _ in pairs).most_common(1)
        message = f"the key {repeated[:40]!r} more than once in an object"
        raise ValueError(message)
    return record


def _refuse_constant(name: str) -> None:
    message = f"{name}, which is not JSON"
    raise ValueError(message)


def _parse_int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:  # 19 digits and a sign
        message = f"an integer of {len(digits)} digits, too large for 64 bits"
        raise ValueError(message)
    return int(digits)


def has_surrogates(text: str) -> bool:
    """Check whether a text has a lone surrogate, which UTF-8 cannot encode."""
    return not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text)


def describe_json_error(error: Exception, start: int = 0) -> str:
    """Describe what was found instead of JSON; positions are counted from `start`."""
    if isinstance(error, RecursionError):
        return "lists or objects nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        rest = error.doc[error.pos : error.pos + 20].strip()  # at the end of the file empty, or a part of a word
        if error.msg.startswith("Unterminated string") or any(
            word.startswith(rest) for word in ("true", "false", "null")
        ):
            return TRUNCATED
        return f"{error.doc[error.pos : error.pos + 20]!r} at character {error.pos - start} ({error.msg})"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8 at byte {error.start} ({error.reason})"
    return str(error)


DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_int=_parse_int64)
NAN_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_int=_parse_int64)  # reads NaN, as Python writes it
