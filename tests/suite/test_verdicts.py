"""Verdicts: what is compared with a published number, and what a control has to prove first."""

from __future__ import annotations

from typing import Any

import pytest

from _newsclippings.suite.baseline import LARGE_CLIP, SHIPPED_VECTORS, Expected, Method, Published
from _newsclippings.suite.verdicts import Setting, judge

PAPER = Setting(["merged_balanced"], 7264, {SHIPPED_VECTORS})
LARGE, OTHER = "openai/clip-vit-large-patch14", "scene_resnet_place"
GROUP = {"mean": 0.640, "low": 0.630, "high": 0.650}


def method(**fields: Any) -> Method:
    return Method("it", lambda *_: lambda rows: rows.ids, **fields)


@pytest.mark.parametrize(
    ("published", "setting", "says"),
    [
        (Published(0.637, "", SHIPPED_VECTORS), PAPER, "inside"),
        (Published(0.630, "", SHIPPED_VECTORS), PAPER, "inside"),
        (Published(0.629, "", SHIPPED_VECTORS), PAPER, "outside"),
        (Published(0.653, ""), PAPER, "outside"),
        (Published(0.637, "", LARGE_CLIP), PAPER, "not compared: it was published with vectors of CLIP ViT-L/14"),
        (Published(0.637, "", LARGE_CLIP), PAPER._replace(models={LARGE}), "inside"),
        (Published(0.637, "", LARGE_CLIP), PAPER._replace(models={f"{LARGE}-336"}), "not compared"),
        (Published(0.637, "", LARGE_CLIP), PAPER._replace(models={""}), "not compared"),
        (Published(0.637, "", SHIPPED_VECTORS), PAPER._replace(models={SHIPPED_VECTORS, ""}), "not compared"),
        (Published(0.637, ""), PAPER._replace(rows=70), "not compared: it was published on 7,264 rows, these are 70"),
        (Published(0.637, ""), PAPER._replace(configs=[OTHER]), "not compared: it was published on merged_balanced"),
        (Published(0.637, "", differs="another backbone"), PAPER, "not compared: another backbone"),
        (None, PAPER, ""),
    ],
)  # fmt: skip
def test_published_numbers(published: Published | None, setting: Setting, says: str) -> None:
    """A number is inside or outside of the interval, if rows and vectors are those that it was published on."""
    verdict = judge(method(published=published), GROUP, setting, {})
    assert verdict == says or (says.startswith("not compared") and verdict.startswith(says))


@pytest.mark.parametrize(
    ("value", "positive", "says"),
    [
        (0.51, 0.90, "as it has to be"),
        (0.70, 0.90, "NOT CHANCE: something leaks"),
        (0.30, 0.90, "NOT CHANCE: something leaks"),  # below chance is a leak, too
        (0.51, 0.51, "proves nothing: both is at chance, too"),
        (0.51, 0.10, "proves nothing: both is at chance, too"),  # a positive that is wrong
        (0.70, 0.51, "proves nothing: both is at chance, too"),
    ],
)
def test_negative_controls(value: float, positive: float, says: str) -> None:
    """A control is as it has to be only if its positive beats chance."""
    line = {"value": positive, "low": positive - 0.01, "high": positive + 0.01}
    group = {"mean": value, "low": value - 0.01, "high": value + 0.01}
    verdict = judge(method(expected=Expected(positive="both")), group, PAPER, {"both": line})
    assert verdict.startswith(says)


def test_priors_and_planted_labels() -> None:
    """A prior has to be at chance, within its interval; a planted label has to be found."""
    prior, planted = method(expected=Expected()), method(expected=Expected(1.0))
    assert judge(prior, {"mean": 0.5, "low": 0.5, "high": 0.5}, PAPER, {}) == "at chance"
    assert judge(prior, {"mean": 0.54, "low": 0.51, "high": 0.57}, PAPER, {}) == "at chance"  # few rows
    assert judge(prior, {"mean": 0.52, "low": 0.51, "high": 0.53}, PAPER, {}).startswith("NOT CHANCE: one side alone")
    assert judge(planted, {"mean": 1, "low": 0.99, "high": 1}, PAPER, {}) == "as it has to be"
    assert judge(planted, {"mean": 0.5, "low": 0.5, "high": 0.5}, PAPER, {}).startswith("NOT FOUND")
