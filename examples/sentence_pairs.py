"""Bring captions and their own pictures together with sentence-transformers, and others apart.

    python examples/sentence_pairs.py MODEL [DATA_DIR]

MODEL is a CLIP of sentence-transformers or transformers, by its name on the Hub or its folder. Needs
sentence-transformers.
"""

import sys

import newsclippings


def main(model: str, data_dir: str | None = None, *, steps: int = 500) -> float:
    """Train, and return the loss."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import ContrastiveLoss

    train = newsclippings.load("merged_balanced", split="train", data_dir=data_dir)
    labels = [1 - falsified for falsified in train["falsified"]]  # 1: they belong together
    pairs = train.select_columns(["caption", "image"]).add_column("label", labels)
    clip = SentenceTransformer(model)
    arguments = SentenceTransformerTrainingArguments(
        "runs/sentence_pairs",
        max_steps=steps,
        per_device_train_batch_size=16,
        save_strategy="no",
        report_to="none",
    )
    trainer = SentenceTransformerTrainer(clip, arguments, train_dataset=pairs, loss=ContrastiveLoss(clip))
    return float(trainer.train().training_loss)


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
