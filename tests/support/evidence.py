"""Fabricated web evidence in the layout of CCN: every file that this package reads, and none of its content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.world import SPLITS, World


@dataclass
class Evidence:
    """The folder, and the rows that a correct loader gives: split -> index -> value, or nothing."""

    root: Path
    rows: dict[str, dict[int, dict[str, Any]]]

    def items(self, split: str) -> Path:
        return self.root / f"dataset_items_{SPLITS[split]}.json"

    def change(self, split: str, index: int, **paths: Any) -> None:
        """Change the entry of a row in the list of items."""
        listed = json.loads(self.items(split).read_text())
        listed[str(index)] |= paths
        self.items(split).write_text(json.dumps(listed))

    def inverse(self, split: str, index: int) -> Path:
        return self.root / "inverse_search" / SPLITS[split] / str(index)

    def direct(self, split: str, index: int) -> Path:
        return self.root / "direct_search" / SPLITS[split] / str(index - index % 2)


def write_evidence(world: World, root: Path, *, inner: str = "", splits: tuple[str, ...] = (*SPLITS,)) -> Evidence:
    """Write evidence of merged_balanced.

    Of every fourth pair (from the first on), the inverse search of the pristine row found the row's own caption, and
    the direct search the pair's own picture: both are masked for the pristine row, as CCN does. The third pair of a
    split has no evidence; the falsified row of the second pair has a page without any caption.

    Args:
        world: with the rows.
        root: the folder to write.
        inner: a folder below it that the searches are in, but not the lists.
        splits: of which it is written.
    """
    rows: dict[str, dict[int, dict[str, Any]]] = {}
    for split in splits:
        listed: dict[str, dict[str, str]] = {}
        rows[split] = {}
        for row in world.rows("merged_balanced", split):
            index, pair, even = row["index"], row["index"] // 2, row["index"] % 2 == 0
            exact = pair % 4 == 0
            if pair == 2:
                continue
            inverse, direct = f"inverse_search/{SPLITS[split]}/{index}", f"direct_search/{SPLITS[split]}/{2 * pair}"
            listed[str(index)] = {"direct_path": f"{direct}/", "inv_path": inverse}
            captions = ["A title", row["caption"] if exact and even else "Another caption", f"Text {index}"]
            value: dict[str, Any] = {
                "entities": [f"Entity {index}", "Caf\u00e9"],
                "labels": ["best guess"],
                "captions": [] if pair == 1 and not even else captions,
                "caption_domains": [] if pair == 1 and not even else ["a.example", "", "c.example"],
                "caption_keep": [] if pair == 1 and not even else [True, not (exact and even), True],
                "images": [f"{inner}{direct}/0.jpg", f"{inner}{direct}/2.jpg"],
                "image_domains": ["x.example", "y.example"],
                "image_keep": [True, not (exact and even)],
            }
            rows[split][index] = value
            place = root / inner / inverse
            _write(place / "inverse_annotation.json", {
                "entities": value["entities"],
                "entities_scores": [0.5, 0.25],
                "best_guess_lbl": value["labels"],
                "all_fully_matched_captions": [{"page_link": "https://a.example/1", "title": "A title"}],
            })  # fmt: skip
            if value["captions"]:
                domains = {str(k): name for k, name in enumerate(value["caption_domains"]) if name}
                _write(place / "captions_info", {"captions": captions, "domains": domains})
                kept = [k for k, keep in enumerate(value["caption_keep"]) if keep]
                _write(place / "captions_to_keep_idx", {"index_of_captions_tokeep": kept})
            place = root / inner / direct
            if even:
                about = {"0": {"domain": "x.example", "name": "0.jpg"}, "1": {"domain": "y.example", "name": "2.jpg"}}
                _write(place / "metadata_of_features", about)
                kept_texts = [str(k) for k, keep in enumerate(value["image_keep"]) if keep]
                _write(place / "imgs_to_keep_idx", {"index_of_images_tokeep": kept_texts})
                other = world.rows("merged_balanced", split)[(index + 6) % len(world.rows("merged_balanced", split))]
                (place / "0.jpg").write_bytes(other["image"]["bytes"])
                (place / "2.jpg").write_bytes(row["image"]["bytes"] if exact else other["image"]["bytes"])
        _write(root / f"dataset_items_{SPLITS[split]}.json", listed)
    return Evidence(root, rows)


def _write(place: Path, value: Any) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(value), encoding="utf-8")
