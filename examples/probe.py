"""Train a small classifier on the product and difference of the authors' CLIP vectors, without pictures. Needs torch.

    python examples/probe.py [DATA_DIR]

Without DATA_DIR the files (1.3 GB of vectors) are downloaded from the Hub.
"""

import sys

import torch
from datasets import Dataset, load_dataset
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

import newsclippings  # noqa: F401  makes the name known to `datasets`

KINDS, DEVICE = ["clip_image", "clip_text"], "cuda" if torch.cuda.is_available() else "cpu"


def features(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Join the product and the absolute difference of both vectors: (B, 1024)."""
    image, text = (normalize(batch[kind].to(DEVICE)) for kind in KINDS)
    return torch.cat([image * text, (image - text).abs()], dim=1)


def batches(rows: Dataset, size: int, shuffle: bool) -> DataLoader:
    """Load whole batches at once, each as one tensor (B, 512) per kind of vector."""
    order = RandomSampler(rows) if shuffle else SequentialSampler(rows)
    return DataLoader(rows, sampler=BatchSampler(order, size, drop_last=False), batch_size=None)


def main(data_dir: str | None = None, epochs: int = 10) -> float:
    """Train, and return the accuracy on the test split."""
    torch.manual_seed(0)
    splits = load_dataset("newsclippings", "merged_balanced", data_dir=data_dir, images="none", embeddings=KINDS)
    splits = splits.select_columns([*KINDS, "falsified"]).with_format("torch")  # no vector of this config is missing
    layers = [torch.nn.Linear(1024, 256), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(256, 2)]
    model = torch.nn.Sequential(*layers).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    for epoch in range(epochs):
        model.train()
        for batch in batches(splits["train"], 256, shuffle=True):
            optimizer.zero_grad()
            cross_entropy(model(features(batch)), batch["falsified"].to(DEVICE)).backward()
            optimizer.step()
        print(f"epoch {epoch + 1}: {accuracy(model, splits['validation']):.1%} on the validation split")
    print(f"{(result := accuracy(model, splits['test'])):.1%} on the test split (chance is 50 %)")
    return result


def accuracy(model: torch.nn.Module, rows: Dataset) -> float:
    """Return the share of rows whose label is predicted."""
    model.eval()
    right = sum(int((model(features(b)).argmax(1).cpu() == b["falsified"]).sum()) for b in batches(rows, 1024, False))
    return right / len(rows)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
