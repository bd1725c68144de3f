"""The three readers of JSON, valid files for each, and how each refuses an invalid one."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from _newsclippings.corpus.metadata import read_metadata
from _newsclippings.corpus.records import read_corpus
from _newsclippings.matches import read_matches
from newsclippings import BadFileError

Rows = list[dict[str, Any]]
MATCH = {"id": 1, "image_id": 9, "similarity_score": 0.5, "source_dataset": 0, "falsified": True}
RECORD = {
    "id": 1,
    "caption": "c",
    "image_path": "./bbc/images/0000/001.jpg",
    "caption_entities_spacy": [["Celtic", "NORP"]],
    "caption_entities_rel": [["Anthony_Stokes", "PER", "Anthony Stokes", 0.9918]],
    "image_has_person": True,
    "topic": "t",
    "source": "bbc",
    "timestamp": "2015-12-02T11:33:37Z",
    "title": None,
}
MATCHES = json.dumps({"annotations": [{**MATCH, "id": n} for n in (1, 2, 3)]})
RECORDS = json.dumps([{**RECORD, "id": n} for n in (1, 2, 3)])
BY_ID = json.dumps({str(n): {**RECORD, "id": n} for n in (1, 2, 3)})
WANTED = np.array([1, 2, 3], np.int64)


def read(reader: str, text: str | bytes, folder: Path) -> Rows:
    """Return what one of the three readers reads from a file."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if reader == "annotations":
        file = folder / "annotations"
        file.write_bytes(data)
        table = read_matches(str(file), "merged_balanced")
    else:
        read_records = read_corpus if reader == "data.json" else read_metadata
        table = read_records(lambda: io.BytesIO(data), reader, WANTED)
    rows: Rows = table.to_pylist()
    return rows


def refuse(reader: str, text: str | bytes, folder: Path, says: str) -> None:
    """Assert that a reader refuses a file, and names the file, what it found, and what to do."""
    with pytest.raises(BadFileError) as error:
        read(reader, text, folder)
    message = str(error.value)
    assert re.search(rf"{reader}.*: expected .*{says}", message), message
    assert message.endswith(("again.", "Hub repository.", "(git lfs pull).", "(gunzip).", "(unzip).")), message
    assert len(message) < 500
