"""Run some of many cases by default; the others have the marker `sweep`, and run with `make sweep`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

WAYS = {"map": False, "stream": True}  # ids and values of a parameter `streaming`


def sampled(values: Iterable[Any], every: int) -> list[Any]:
    """Cases for `parametrize`, from values or tuples; by default the first runs, and every n-th after it."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.sweep if k % every else ())
        for k, value in enumerate(values)
    ]


def crossed(*axes: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Cases for `parametrize`: all combinations. By default the fewest run in which every value occurs.

    Args:
        axes: the values of each parameter, or a mapping of ids to values.
    """
    named = [axis if isinstance(axis, Mapping) else {str(value): value for value in axis} for axis in axes]
    # Values take turns on each axis; at the end of each turn, axis number n shifts by n, so that combinations vary.
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


def some_of(values: Sequence[int], most: int, seed: int = 0) -> list[int]:
    """All values if they are at most `most`, else the first, the last, and others between them that a seed chooses."""
    first, *others, last = values
    chosen = random.Random(seed).sample(range(len(others)), min(most - 2, len(others)))
    return [first, *(others[k] for k in sorted(chosen)), last]
