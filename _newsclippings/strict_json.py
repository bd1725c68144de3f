"""JSON without the leniences of Python's decoder: no NaN, no key twice in an object, no integer beyond 64 bits."""

import json
from typing import Any


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        message = "a key that stands twice in one object"
        raise ValueError(message)
    return record


def _no_constant(name: str) -> None:
    message = f"{name}, which is not JSON"
    raise ValueError(message)


def _int64(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**63:  # 20: the sign, too
        message = f"an integer of {len(digits)} digits, too large for 64 bits"
        raise ValueError(message)
    return int(digits)


DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_no_constant, parse_int=_int64)
