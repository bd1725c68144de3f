"""Classify pairs with a CLIP that was not trained for the task. Needs torch and transformers.

    python examples/zero_shot.py [MODEL] [DATA_DIR]

A pair counts as pristine if its cosine similarity is above the threshold that is best on the validation split.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset, Image, load_dataset
from torch.nn.functional import cosine_similarity
from transformers import AutoModel, AutoProcessor

import newsclippings

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def similarities(rows: Dataset, model: torch.nn.Module, processor: Any, size: int = 32) -> torch.Tensor:
    """Compute the cosine similarity of caption and picture for each row."""

    def batches() -> Iterator[torch.Tensor]:
        for batch in rows.cast_column("image", Image(decode=False)).iter(batch_size=size):
            pictures = [newsclippings.decode_small(image, 224) for image in batch["image"]]
            inputs = processor(
                text=batch["caption"], images=pictures, return_tensors="pt", padding=True, truncation=True
            )
            outputs = model(**inputs.to(DEVICE))
            yield cosine_similarity(outputs.image_embeds, outputs.text_embeds).cpu()

    with torch.no_grad():
        return torch.cat(list(batches()))


def main(name: str = "openai/clip-vit-base-patch32", data_dir: str | None = None) -> float:
    """Evaluate a model, and return its accuracy on the test split."""
    splits = load_dataset("newsclippings", "merged_balanced", data_dir=data_dir, splits=["validation", "test"])
    model = AutoModel.from_pretrained(name, trust_remote_code=False, use_safetensors=True).eval().to(DEVICE)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=False)
    validation, test = (similarities(splits[split], model, processor) for split in ("validation", "test"))
    labels = torch.tensor(splits["validation"]["falsified"][:])
    threshold = max(validation, key=lambda value: int(((validation < value) == labels).sum()))
    accuracy = float(((test < threshold) == torch.tensor(splits["test"]["falsified"][:])).float().mean())
    pairs = float((test[0::2] > test[1::2]).float().mean())  # share of pairs whose pristine twin has the higher one
    print(f"{accuracy:.1%} of the test rows, {pairs:.1%} of the pairs (chance is 50 %); threshold {threshold:.3f}")
    return accuracy


if __name__ == "__main__":
    main(*sys.argv[1:])
