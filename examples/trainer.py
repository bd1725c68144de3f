"""Train with `transformers.Trainer`, and get all measures at each evaluation. Needs torch, transformers and accelerate.

    python examples/trainer.py [DATA_DIR]

The model is a toy: it counts words that the caption and the picture's own caption share, which no detector could see.
"""

import sys
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

import newsclippings


class WordOverlap(torch.nn.Module):  # type: ignore[misc] # torch has no usable types
    """A linear classifier of the share of words that two texts share."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(1, 2)

    def forward(self, share: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss and the logits."""
        logits = self.head(share[:, None])
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def features(row: dict[str, Any]) -> dict[str, Any]:
    """Make the inputs of the model."""
    words, others = {*row["caption"].split()}, {*row["image_caption"].split()}
    return {"share": len(words & others) / len(words | others), "labels": row["falsified"]}


def main(data_dir: str | None = None) -> dict[str, float]:
    """Train for a few seconds, and return the measures of the validation split."""
    options: dict[str, Any] = {"images": "none", "data_dir": data_dir}
    train, validation = (
        newsclippings.load("merged_balanced", split=split, **options).map(features) for split in ("train", "validation")
    )
    arguments = TrainingArguments("runs/trainer", num_train_epochs=20, learning_rate=0.1, save_strategy="no")
    compute = newsclippings.compute_metrics(validation)  # keeps the index, which the trainer drops
    trainer = Trainer(WordOverlap(), arguments, train_dataset=train, eval_dataset=validation, compute_metrics=compute)
    trainer.train()
    measures: dict[str, float] = trainer.evaluate()
    return measures


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
