"""`newsclippings.compute_metrics`: what `transformers.Trainer` calls after each evaluation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.world import World

import newsclippings


@pytest.fixture
def test_split(world: World) -> Any:
    return newsclippings.load("merged_balanced", split="test", data_dir=str(world.root), images="none")


@pytest.mark.parametrize("shape", ["two logits", "one logit", "with more outputs"])
def test_logits_become_measures(world: World, test_split: Any, shape: str) -> None:
    """The measures are those of the same probabilities in a file, by the rows' index, not their place."""
    pytest.importorskip("torch")
    rows = test_split.shuffle(seed=1).with_format("torch")
    logits = np.random.default_rng(0).normal(0, 1, len(rows)).astype(np.float32)
    two = np.stack([np.ones_like(logits), logits + 1], 1)
    outputs = {"two logits": two, "one logit": logits[:, None], "with more outputs": (two, two)}[shape]
    found = newsclippings.compute_metrics(rows)(SimpleNamespace(predictions=outputs, label_ids=None))
    scores = 1 / (1 + np.exp(-(two[:, 1].astype(float) - two[:, 0])))
    expected = [{"index": int(k), "score": s} for k, s in zip(rows["index"], scores, strict=True)]
    assert found == pytest.approx(newsclippings.evaluate(expected, data_dir=world.root).values, abs=1e-6)


def test_a_diverged_model_gets_nothing_right(test_split: Any) -> None:
    """NaN logits are wrong answers, and not an error in the middle of a training."""
    logits = np.full((len(test_split), 2), np.nan)
    found = newsclippings.compute_metrics(test_split)(SimpleNamespace(predictions=logits))
    assert (found["accuracy"], found["auc"], found["pair_accuracy"]) == (0, 0, 0)


def test_wrong_datasets_are_refused(test_split: Any) -> None:
    """A stream, a dataset without its index, and logits of other rows."""
    for wrong in (test_split.remove_columns("index"), test_split.to_iterable_dataset()):
        with pytest.raises(newsclippings.ConfigError, match="the columns index and falsified, and no stream"):
            newsclippings.compute_metrics(wrong)
    for logits in (np.zeros((len(test_split) - 1, 2)), np.zeros((len(test_split), 3))):
        with pytest.raises(newsclippings.ConfigError, match=r"each of 12 rows, .* trainer\.compute_metrics ="):
            newsclippings.compute_metrics(test_split)(SimpleNamespace(predictions=logits))
