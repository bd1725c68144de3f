"""Random mutants of a file: some by default, more with `make sweep`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy


def mutants(count: int) -> pytest.MarkDecorator:
    """Mark a test with a parameter `examples`: a fifth of this number by default, all of them with `make sweep`."""
    return pytest.mark.parametrize("examples", [count // 5, pytest.param(count, marks=pytest.mark.sweep)])


def for_all(check: Callable[..., None], examples: int, *values: SearchStrategy[Any]) -> None:
    """Call a function with this number of examples of its arguments."""
    settings(max_examples=examples, deadline=None)(given(*values)(check))()
