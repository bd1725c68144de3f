"""Train with PyTorch Lightning, which reads rows as any DataLoader does. Needs lightning.

    python examples/lightning_module.py [DATA_DIR]

The model is a toy: it sees 8 x 8 pixels and how often the caption has each letter.
"""

import sys
from typing import Any

import lightning
import torch
from datasets import Image

import newsclippings

SIDE, LETTERS = 8, "abcdefghijklmnopqrstuvwxyz"


class Toy(lightning.LightningModule):  # type: ignore[misc] # has no usable types
    """A linear classifier of pixels, letters and their products."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.letters = torch.nn.Linear(3 * SIDE * SIDE, 16), torch.nn.Linear(len(LETTERS), 16)
        self.head = torch.nn.Linear(16, 2)

    def training_step(self, batch: tuple[Any, Any, Any], _: int) -> Any:
        """Return the loss of a batch."""
        pixels, letters, labels = batch
        loss = torch.nn.functional.cross_entropy(self.head(self.pixels(pixels) * self.letters(letters)), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters(), 1e-3)


def collate(rows: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
    """Make the tensors of a batch."""
    pictures = [newsclippings.decode_small(row["image"], SIDE).resize((SIDE, SIDE)) for row in rows]
    pixels = [torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8) for picture in pictures]
    letters = [[row["caption"].lower().count(letter) for letter in LETTERS] for row in rows]
    return torch.stack(pixels) / 255, torch.tensor(letters) / 100, torch.tensor([row["falsified"] for row in rows])


def main(data_dir: str | None = None, *, epochs: int = 3) -> float:
    """Train, and return the last loss."""
    train = newsclippings.load("merged_balanced", split="train", data_dir=data_dir)
    train = train.cast_column("image", Image(decode=False))
    loader = torch.utils.data.DataLoader(train, 8, shuffle=True, collate_fn=collate)
    trainer = lightning.Trainer(max_epochs=epochs, logger=False, enable_checkpointing=False, log_every_n_steps=1)
    trainer.fit(Toy(), loader)
    return float(trainer.callback_metrics["loss"])


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
