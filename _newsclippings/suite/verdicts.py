"""The verdict on a number: inside or outside of what was published, at chance, or as a control has to be."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from _newsclippings.facts import DEFAULT_CONFIG, ROWS
from _newsclippings.suite.baseline import LARGE_CLIP, Expected, Line, Method, Published

BAND: Final = 0.012  # around chance: 95 % of tests of 7,264 rows
WIDER: Final = 1.6  # times half of the 95 % interval, which 1 in 600 exceeds
LARGE_NAMES: Final = re.compile(r"openai.*vit-?l(arge)?[-/_]?(patch)?14$|vit-?l-14.*openai$", re.IGNORECASE)
FOUND: Final = 0.99  # least accuracy on a label that is planted
INSIDE, OUTSIDE = "inside", "outside"


class Setting(NamedTuple):
    """What was measured.

    Attributes:
        configs: names of the configs.
        rows: how many rows.
        models: the models of the vectors that were read; empty text for a file that does not say it.
    """

    configs: Sequence[str]
    rows: int
    models: set[str]


def judge(method: Method, group: Mapping[str, float], setting: Setting, others: Mapping[str, Line]) -> str:
    """Judge the number of a method.

    Published numbers are inside if they are in our 95 % interval of the mean over seeds, which the draw of the test
    pairs decides. They are not compared if the rows or the vectors are others.

    Args:
        method: the method.
        group: its `mean`, `low` and `high`.
        setting: what was measured.
        others: name -> line of other methods, among them its positive control.
    """
    if method.expected is not None:
        return _judge_control(method.expected, group, others)
    published = method.published
    if published is None:
        return ""
    if reason := _find_difference(published, setting):
        return f"not compared: {reason}"
    return INSIDE if group["low"] <= published.value <= group["high"] else OUTSIDE


def _judge_control(expected: Expected, group: Mapping[str, float], others: Mapping[str, Line]) -> str:
    if expected.value == 1:
        return (
            "as it has to be"
            if group["mean"] >= FOUND
            else "NOT FOUND: the planted label is lost, so the join is wrong"
        )
    chance = not beats_chance(group["mean"], group["low"], group["high"])
    if not expected.positive:
        return "at chance" if chance else "NOT CHANCE: one side alone gives the label away"
    positive = others[expected.positive]
    if not beats_chance(positive["value"], positive["low"], positive["high"]) or positive["value"] < 0.5:
        return f"proves nothing: {expected.positive} is at chance, too"
    return "as it has to be" if chance else "NOT CHANCE: something leaks, do not trust the other numbers"


def beats_chance(value: float, low: float, high: float) -> bool:
    """Whether an accuracy is further from one half than the draw of rows explains."""
    return abs(value - 0.5) > max(BAND, WIDER * (high - low) / 2)


def _find_difference(published: Published, setting: Setting) -> str:
    if published.differs:
        return published.differs
    rows = ROWS[DEFAULT_CONFIG]["test"]
    if [*setting.configs] != [DEFAULT_CONFIG]:
        return f"it was published on {DEFAULT_CONFIG}"
    if setting.rows != rows:
        return f"it was published on {rows:,} rows, these are {setting.rows:,}"
    if published.vectors == LARGE_CLIP and all(map(LARGE_NAMES.search, setting.models)):
        return ""
    if published.vectors and setting.models != {published.vectors}:
        return f"it was published with vectors of {published.vectors}"
    return ""
