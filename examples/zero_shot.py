"""A CLIP that was never trained for this: do caption and picture fit? Needs torch and transformers.

    python examples/zero_shot.py [MODEL] [DATA_DIR]

A pair fits if its cosine similarity is above the threshold that is best on validation.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset, Image, load_dataset
from torch.nn.functional import cosine_similarity
from transformers import AutoModel, AutoProcessor

import newsclippings


def similarities(rows: Dataset, model: torch.nn.Module, processor: Any, size: int = 32) -> torch.Tensor:
    """Cosine similarity of caption and picture of each row."""

    def batches() -> Iterator[torch.Tensor]:
        for batch in rows.cast_column("image", Image(decode=False)).iter(batch_size=size):
            pictures = [newsclippings.decode_small(image, 224) for image in batch["image"]]
            inputs = processor(
                text=batch["caption"], images=pictures, return_tensors="pt", padding=True, truncation=True
            )
            outputs = model(**inputs)
            yield cosine_similarity(outputs.image_embeds, outputs.text_embeds)

    with torch.no_grad():
        return torch.cat(list(batches()))


def main(name: str = "openai/clip-vit-base-patch32", data_dir: str | None = None) -> float:
    """Evaluate a model, and return its accuracy on test."""
    splits = load_dataset("newsclippings", "merged_balanced", data_dir=data_dir, splits=["validation", "test"])
    model = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True).eval()
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
    known, unknown = (similarities(splits[split], model, processor) for split in ("validation", "test"))
    labels = torch.tensor(splits["validation"]["falsified"][:])
    threshold = max(known, key=lambda value: int(((known < value) == labels).sum()))
    accuracy = float(((unknown < threshold) == torch.tensor(splits["test"]["falsified"][:])).float().mean())
    pairs = float((unknown[0::2] > unknown[1::2]).float().mean())  # the pristine twin fits better
    print(f"{accuracy:.1%} of test rows, {pairs:.1%} of its pairs (chance is 50 %); threshold {threshold:.3f}")
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:])
