"""Measure the predictions of any model on the official labels, with intervals, and compare models."""

from _newsclippings.evaluate.answers import Answers, match_answers
from _newsclippings.evaluate.evaluation import (
    CLUSTERS,
    Evaluation,
    choose_pairs,
    compute_metrics,
    evaluate,
    read_answers,
)
from _newsclippings.evaluate.intervals import Measured, measure
from _newsclippings.evaluate.measures import MEASURES, Rows
from _newsclippings.evaluate.plots import draw_evaluation, list_plots, require_matplotlib
from _newsclippings.evaluate.predictions import STDIN, read_predictions
from _newsclippings.evaluate.report import FORMS
from _newsclippings.evaluate.truth import Truth, load_truth

__all__ = [
    "CLUSTERS",
    "FORMS",
    "MEASURES",
    "STDIN",
    "Answers",
    "Evaluation",
    "Measured",
    "Rows",
    "Truth",
    "choose_pairs",
    "compute_metrics",
    "draw_evaluation",
    "evaluate",
    "list_plots",
    "load_truth",
    "match_answers",
    "measure",
    "read_answers",
    "read_predictions",
    "require_matplotlib",
]
