"""Train with a plain PyTorch loop over rows with pictures, without transformers. Needs torch.

    python examples/torch_loop.py [DATA_DIR]

The network sees only the picture. It should learn nothing, since every picture is right for some caption.
"""

import sys
from typing import Any

import numpy as np
import torch
from datasets import Image, load_dataset
from torch.utils.data import DataLoader

import newsclippings

SIDE = 64
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def collate(rows: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Make a batch: float32 (B, 3, SIDE, SIDE), 0 to 1, and labels (B,)."""
    small = [np.asarray(newsclippings.decode_small(row["image"], SIDE).resize((SIDE, SIDE))) for row in rows]
    pixels = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255
    return pixels, torch.tensor([row["falsified"] for row in rows])


def main(data_dir: str | None = None, epochs: int = 2, workers: int = 0) -> float:
    """Train, and return the accuracy on the test split."""
    torch.manual_seed(0)
    splits = load_dataset("newsclippings", "merged_balanced", data_dir=data_dir).cast_column(
        "image", Image(decode=False)
    )
    loaders = {
        split: DataLoader(splits[split], 16, shuffle=split == "train", collate_fn=collate, num_workers=workers)
        for split in ("train", "test")
    }
    layers = [torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(128, 2)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(epochs):
        for pixels, labels in loaders["train"]:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(pixels.to(DEVICE)), labels.to(DEVICE))
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
    with torch.no_grad():
        right = sum(
            int((model(pixels.to(DEVICE)).argmax(1).cpu() == labels).sum()) for pixels, labels in loaders["test"]
        )
    print(f"{right / len(splits['test']):.1%} on the test split")
    return right / len(splits["test"])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
