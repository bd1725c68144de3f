"""Values with 95 % intervals: a bootstrap over pairs, or over clusters of pairs, by multinomial weights."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from _newsclippings.evaluate.measures import MEASURES, Floats, Measurer, Rows
from _newsclippings.storage import lazy_property

DRAWS: Final = 2_000
GROUP_DRAWS: Final = 500  # of a breakdown of many rows: all breakdowns together take about as long as the whole
SEED: Final = 0
CHUNK: Final = 1 << 19  # weights that are in memory at a time
Z: Final = 1.959963984540054  # the 97.5 % point of the normal distribution

Result = dict[str, float]  # value, low, high


@dataclass(frozen=True)
class Measured:
    """The measures of some rows.

    Attributes:
        rows: number of rows.
        units: number of units that are resampled.
        values: measure -> its value; NaN if it is not defined for these rows.
        draws: measure -> float64 (draws,), its values in the draws of the bootstrap; equal draws of equal units.
    """

    rows: int
    units: int
    values: dict[str, float]
    draws: dict[str, Floats]

    def results(self) -> dict[str, Result | None]:
        """Return measure -> value, low, high; None if it is not defined."""
        return {name: result and {**result} for name, result in self._results.items()}

    @lazy_property
    def _results(self) -> dict[str, Result | None]:
        return {name: self._result(name) for name in MEASURES}

    def _result(self, name: str) -> Result | None:
        value = self.values.get(name, math.nan)
        if math.isnan(value):
            return None
        low, high = percentiles(self.draws[name])
        if value in (0, 1) and low == high:  # no draw differs
            low, high = wilson(value * self.units, self.units)
        return {"value": value, "low": low, "high": high}


def measure(whole: Rows, groups: Sequence[Rows] = (), draws: int = DRAWS, seed: int = SEED) -> list[Measured]:
    """Measure rows, and groups of them, each with the same draws of units.

    Args:
        whole: all rows; their units are 0 to the largest, without gaps.
        groups: some of these rows each; if all draws do not fit in memory at a time, the first `GROUP_DRAWS` are used.
        draws: draws of the bootstrap.
        seed: of the draws.

    Returns:
        The measures of all rows, then of each group.
    """
    units = int(whole.unit.max()) + 1
    own = [group for group in groups if len(group.pair) < len(whole.pair)]
    measurers = [Measurer(rows) for rows in (whole, *own)]
    values = [measurer(np.ones((1, len(measurer.units)))) for measurer in measurers]
    collected: list[dict[str, list[Floats]]] = [{name: [] for name in value} for value in values]
    random, step = np.random.default_rng(seed), max(1, CHUNK // units)
    for start in range(0, draws, step):
        counts = [
            np.bincount(random.integers(0, units, units), minlength=units) for _ in range(min(step, draws - start))
        ]
        weights = np.array(counts, np.float32)
        for k, measurer in enumerate(measurers if start < GROUP_DRAWS else measurers[:1]):
            chosen = weights if len(measurer.units) == units else np.take(weights, measurer.units, axis=1)
            for name, drawn in measurer(chosen).items():
                collected[k][name].append(drawn)
    found = [
        Measured(
            len(rows.pair),
            len(measurer.units),
            {name: float(value[0]) for name, value in one.items()},
            {name: np.concatenate(parts) for name, parts in drawn.items()},
        )
        for rows, measurer, one, drawn in zip((whole, *own), measurers, values, collected, strict=True)
    ]
    rest = iter(found[1:])
    return [found[0], *(next(rest) if len(group.pair) < len(whole.pair) else found[0] for group in groups)]


def percentiles(draws: Floats) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of the draws in which a measure is defined."""
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (math.nan, math.nan)
    return float(low), float(high)


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Return Wilson's interval of a proportion, which has a width even if all or no trials succeed."""
    share, extra = successes / trials, Z**2 / trials
    middle = (share + extra / 2) / (1 + extra)
    width = Z / (1 + extra) * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return max(0.0, middle - width), min(1.0, middle + width)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p of the exact test of McNemar.

    Args:
        only_first: cases that only the first system gets right.
        only_second: cases that only the second system gets right.
    """
    trials = only_first + only_second
    whole = math.lgamma(trials + 1) - trials * math.log(2)
    tail = sum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1))
        for k in range(min(only_first, only_second) + 1)
    )
    return min(1.0, 2 * tail)


def holm(p_values: Iterable[float]) -> list[float]:
    """Adjust p values for the number of tests, by Holm's method; in their order."""
    values = np.array([*p_values], np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(1, values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(steps)
    found: list[Any] = adjusted.tolist()
    return found
