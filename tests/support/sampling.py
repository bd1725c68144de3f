"""Some of many cases are tried by default; the rest has the marker `sweep`, and `make sweep` tries it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

WAYS = {"map": False, "stream": True}  # ids and values of a parameter `streaming`


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """Cases for `parametrize`: of these values (or tuples of them), the first and every n-th after it by default."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.sweep if k % every else ())
        for k, value in enumerate(values)
    ]


def crossed(*axes: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Cases for `parametrize`: all combinations, of which the fewest are tried by default that have every value.

    Args:
        axes: the values of each parameter; a mapping has their ids, too.
    """
    named = [axis if isinstance(axis, Mapping) else {str(value): value for value in axis} for axis in axes]
    # Axis by axis the values come in turn; each axis but the first falls behind by as many at the end of each turn.
    default = {
        tuple((k + k // len(axis) * number) % len(axis) for number, axis in enumerate(named))
        for k in range(max(map(len, named)))
    }
    return [
        pytest.param(
            *(value for _, (_, value) in case),
            id="-".join(name for _, (name, _) in case),
            marks=() if tuple(k for k, _ in case) in default else pytest.mark.sweep,
        )
        for case in itertools.product(*(enumerate(axis.items()) for axis in named))
    ]
