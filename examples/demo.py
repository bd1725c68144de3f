"""Write the sample dataset, load it, print rows, and draw pairs: `make demo`."""

import sys
from pathlib import Path

from datasets import Image, load_dataset, load_dataset_builder

import newsclippings  # makes the name known to `datasets`
from _newsclippings.show import draw_sheet, write_sample


def main(folder: Path) -> None:
    data_dir = str(write_sample(folder / "data"))
    dataset = load_dataset("newsclippings", "merged_balanced", data_dir=data_dir)
    print(dataset, "\n\nColumns")
    for name, feature in dataset["train"].features.items():
        print(f"  {name:17} {feature}")
    print("\nThree rows of the test split")
    for row in dataset["test"].select(range(3)):
        print(" ", row)
    print("\nJoin report")
    builder = load_dataset_builder("newsclippings", "merged_balanced", data_dir=data_dir)
    for split, report in builder.join_reports.items():
        print(f"  {split:11} {report}")
    sheet = folder / "pairs.png"
    draw_sheet(dataset["test"].cast_column("image", Image(decode=False)), sheet)
    print(f"\nnewsclippings {newsclippings.__version__}: pairs of the test split are drawn in {sheet}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
