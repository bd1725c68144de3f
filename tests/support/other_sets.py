"""Small test sets in the public layouts of VERITE, 5Pils-OOC, DGM4 and MMFakeBench, with invented content."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from support.invent import invent_picture

Rows = list[dict[str, Any]]

EXPECTED: dict[str, list[tuple[int, int, int, str, str, int, str]]] = {  # in the order of COLUMNS
    "verite": [
        (0, 0, 0, "A boat in 2005", "images/true_0.jpg", 0, "true"),
        (1, 1, 0, "A boat, today", "images/true_0.jpg", 1, "miscaptioned"),
        (2, 2, 1, "A boat in 2005", "images/false_0.jpg", 1, "out-of-context"),
        (3, 3, 2, 'A "quoted", bear', "images/true_1.jpg", 0, "true"),
        (4, 4, 2, "A new animal", "images/true_1.jpg", 1, "miscaptioned"),
        (5, 5, 3, 'A "quoted", bear', "images/false_1.jpg", 1, "out-of-context"),
    ],
    "5pils-ooc": [
        (0, 0, 0, "A crash in 2016", "processed_img/a.png", 0, "accurate"),
        (1, 624, 0, "Shot down today", "processed_img/a.png", 1, "out-of-context"),
        (2, 1, 1, "A drought in 2011", "processed_img/b.png", 0, "accurate"),
        (3, 625, 1, "A drought now", "processed_img/b.png", 1, "out-of-context"),
    ],
    "dgm4": [
        (0, 768092, 768092, "Two men celebrate", "manipulation/HFGI/768092-HFGI.jpg", 1, "face_attribute&text_swap"),
        (1, 12, 12, "A butcher for 28 years", "origin/bbc/0498/511.jpg", 0, "orig"),
        (2, 13, 13, "Another text", "origin/guardian/0001/012.jpg", 1, "text_swap"),
    ],
    "mmfakebench": [
        (0, 0, 0, "Wi-Fi is a trademark", "fake/fever_AI_val_100/x_1.jpg", 1, "textual_veracity_distortion"),
        (1, 1, 1, "A true text", "real/bbc_val_50/BBC_val_0000_002.jpg", 0, "original"),
        (2, 2, 2, "A mismatch", "fake/Newsclipings_person_val_50/Newsclipings_person_val_0.jpeg", 1, "mismatch"),
        (3, 3, 1, "The same picture", "real/bbc_val_50/BBC_val_0000_002.jpg", 0, "original"),
    ],
}
COLUMNS = ("index", "id", "image_id", "caption", "image_path", "label", "group")
FILES = {
    "verite": "VERITE.csv",
    "5pils-ooc": "test.json",
    "dgm4": "metadata/test.json",
    "mmfakebench": "source/MMFakeBench_test.json",
}


def list_rows(name: str) -> Rows:
    """The rows as the authors of a test set write them."""
    rows: Rows = []
    for index, number, image, caption, path, label, group in EXPECTED[name]:
        if name == "verite":
            rows.append({"": index, "caption": caption, "image_path": path, "label": group})
        elif name == "5pils-ooc":
            true = next(row[3] for row in EXPECTED[name] if row[2] == image and not row[5])
            rows.append({"image_id": image, "id": number, "caption": caption, "true_caption": true, "URL": "x"})
            rows[-1] |= {"image_path": path, "type_of_image": "out-of-context"}
        elif name == "dgm4":
            rows.append({"id": number, "image": f"DGM4/{path}", "text": caption, "fake_cls": group, "mtcnn_boxes": []})
        else:
            answers = ["Fake" if label else "True"]
            rows.append({"image_path": f"/{path}", "text": caption, "fake_cls": group, "gt_answers": answers})
    return rows


def write_other_set(name: str, root: Path, rows: Rows | None = None, *, pictures: bool = True) -> Path:
    """Write a test set; return the folder that is passed on."""
    rows, file = list_rows(name) if rows is None else rows, root / FILES[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        with open(file, "w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text(json.dumps(rows), encoding="utf-8")
    for n, path in enumerate(sorted({row[4] for row in EXPECTED[name]}) if pictures else []):
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(invent_picture(7, n))
    return root
