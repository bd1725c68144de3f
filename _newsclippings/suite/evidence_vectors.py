"""Vectors of CCN's web evidence, made by the model of the baseline: of each row the nearest picture and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.embed import VECTORS, Items, Source, check_folder, embed_source
from _newsclippings.errors import DataNotFoundError
from _newsclippings.evidence import evidence_folder, find_evidence, read_evidence
from _newsclippings.facts import DEFAULT_CONFIG, SPLITS
from _newsclippings.pictures import FolderPictures
from _newsclippings.suite.rows import Evidence, Float32s, load_rows, normalise
from _newsclippings.tables import Int64s, array_of, lookup
from _newsclippings.text import option
from _newsclippings.vectors import read_embeddings

# Side -> the field of the evidence, the field that says which of them CCN keeps, and what `embed` calls them
_FIELDS = {"image": ("images", "image_keep", "pictures"), "text": ("captions", "caption_keep", "captions")}


@dataclass(frozen=True)
class _Folder:
    """Opens pictures below a folder."""

    root: str

    def open(self, paths: pa.Array) -> FolderPictures:
        """Return the pictures at some paths."""
        return FolderPictures(self.root, paths)


def make_evidence(
    folder: str, model: str, vectors: Mapping[str, str], out: Path, data_dir: str | None
) -> tuple[Evidence, list[str]]:
    """Encode the evidence of CCN, each distinct picture and text once, or go on with what is there.

    Of a row the evidence counts that CCN's lists keep: the picture that is nearest to the row's picture, and the text
    that is nearest to its caption, by cosine.

    Args:
        folder: that of the option `evidence`.
        model: as of `newsclippings embed`, which made `vectors`.
        vectors: `image` and `text` -> vectors of the rows.
        out: the folder for the vectors of evidence.
        data_dir: see `Request`.

    Returns:
        What `benchmark` takes, and notes.

    Raises:
        DataNotFoundError: no row has evidence.
        NewsCLIPpingsError: the evidence is damaged, or a picture leads out of the folder.
    """
    items, root = find_evidence(folder, [*SPLITS]), evidence_folder(folder)
    rows = {split: load_rows([DEFAULT_CONFIG], split, [*_FIELDS], vectors, data_dir) for split in SPLITS}
    tables = {split: read_evidence(items[split], len(rows[split].index)) for split in SPLITS}
    nearest: dict[str, dict[str, Float32s]] = {split: {} for split in SPLITS}
    notes = ["Evidence is what CCN's lists keep, which depends on the label: see `newsclippings evidence`."]
    for side, (field, keep, of) in _FIELDS.items():
        kept = {split: _list_kept(table, field, keep) for split, table in tables.items()}
        every = sorted({name for of_rows in kept.values() for names in of_rows.values() for name in names})
        if not every:
            message = f"{option('evidence', root)}: no row has {field}. Are the searches beside the lists of items?"
            raise DataNotFoundError(message)
        place = out / f"evidence-{of}"
        check_folder(place, VECTORS)
        opened = _Folder(root) if side == "image" else None
        numbers = np.arange(len(every))
        wanted = Items(of, numbers, numbers.astype(np.int32), array_of(every, pa.string()))
        made = embed_source(place, model, Source(wanted, opened))
        notes += [f"Evidence: {n:,} of {len(every):,} {field} have no vector: {why}." for why, n in made.unread.items()]
        ids, found = read_embeddings(place)
        order = np.argsort(ids)
        ids, found = ids[order], normalise(found[order])
        number_of = {name: number for number, name in enumerate(every)}
        for split, of_rows in kept.items():
            queries = rows[split].rows.vectors(side)
            chosen = np.zeros((len(queries), found.shape[1]), np.float32)
            for row, names in of_rows.items():
                places = lookup(ids, np.array([number_of[name] for name in names], np.int64))
                candidates = found[places[places >= 0]]
                if len(candidates):
                    chosen[row] = candidates[np.argmax(candidates @ queries[row])]
            nearest[split][side] = chosen

    def evidence(_: str, split: str) -> tuple[Int64s, Float32s, Float32s]:
        return rows[split].index, nearest[split]["image"], nearest[split]["text"]

    return evidence, notes


def _list_kept(table: pa.Table, field: str, keep: str) -> dict[int, Sequence[str]]:
    """Return the number of each row that has evidence -> its texts, or paths of pictures, that CCN keeps."""
    found: dict[int, Sequence[str]] = {}
    for row, evidence in zip(table["index"].to_pylist(), table["evidence"].to_pylist(), strict=True):
        values: list[Any] = evidence[field] or []
        kept = [True] * len(values) if evidence[keep] is None else evidence[keep]
        if names := [value for value, is_kept in zip(values, kept, strict=True) if is_kept]:
            found[row] = names
    return found
