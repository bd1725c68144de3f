"""Measure the predictions of any model on the official labels, with intervals, and compare models."""

from _newsclippings.evaluate.evaluation import (
    Evaluation,
    Source,
    Threshold,
    choose_pairs,
    compare,
    compute_metrics,
    evaluate,
    evaluate_truth,
    read_answers,
    summarise,
)
from _newsclippings.evaluate.hub_result import HUB_RESULT, HUB_RESULT_MARKS, format_hub_result, official_revision
from _newsclippings.evaluate.intervals import Measured, measure, wilson
from _newsclippings.evaluate.measures import MEASURES, Rows
from _newsclippings.evaluate.plots import draw_evaluation, list_plots, require_matplotlib
from _newsclippings.evaluate.report import FORMS, System
from _newsclippings.evaluate.truth import Truth, load_truth, make_truth

__all__ = [
    "FORMS",
    "HUB_RESULT",
    "HUB_RESULT_MARKS",
    "MEASURES",
    "Evaluation",
    "Measured",
    "Rows",
    "Source",
    "System",
    "Threshold",
    "Truth",
    "choose_pairs",
    "compare",
    "compute_metrics",
    "draw_evaluation",
    "evaluate",
    "evaluate_truth",
    "format_hub_result",
    "list_plots",
    "load_truth",
    "make_truth",
    "measure",
    "official_revision",
    "read_answers",
    "require_matplotlib",
    "summarise",
    "wilson",
]
