"""Vectors of CCN's web evidence, made by the model of the baseline: of each row the nearest picture and text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from _newsclippings.config import Request
from _newsclippings.embed import VECTORS, Items, Source, check_folder, embed_source
from _newsclippings.errors import DataNotFoundError
from _newsclippings.evidence import evidence_folder, find_evidence, read_evidence
from _newsclippings.facts import DEFAULT_CONFIG, NAME, SPLITS
from _newsclippings.inputs import find_inputs
from _newsclippings.pictures import FolderPictures
from _newsclippings.rows import stream_rows
from _newsclippings.storage import cache_folder
from _newsclippings.suite.leak import as_if_unlabelled
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
    folder: str,
    model: str,
    vectors: Mapping[str, str],
    out: Path,
    data_dir: str | None,
    visual_news: list[str] | None = None,
    unlabelled: bool = False,
) -> tuple[Evidence, list[str]]:
    """Encode the evidence of CCN, each distinct picture and text once, or go on with what is there.

    Of a row the evidence counts that CCN's lists keep, or `as_if_unlabelled` leaves: the picture that is nearest to the
    row's picture, and the text that is nearest to its caption, by cosine.

    Args:
        folder: that of the option `evidence`.
        model: as of `newsclippings embed`, which made `vectors`.
        vectors: `image` and `text` -> vectors of the rows.
        out: the folder for the vectors of evidence.
        data_dir: see `Request`.
        visual_news: see `Request`; the filter compares pictures of rows.
        unlabelled: whether to use `as_if_unlabelled` in place of CCN's lists.

    Returns:
        What `benchmark` takes, and notes.

    Raises:
        DataNotFoundError: no row has evidence.
        NewsCLIPpingsError: the evidence is damaged, or a picture leads out of the folder.
    """
    items, root = find_evidence(folder, [*SPLITS]), evidence_folder(folder)
    rows = {split: load_rows([DEFAULT_CONFIG], split, [*_FIELDS], vectors, data_dir) for split in SPLITS}
    if unlabelled:
        of_rows = {split: _filter_rows(root, split, data_dir, visual_news) for split in SPLITS}
    else:
        of_rows = {split: _read_rows(items[split], len(rows[split].index)) for split in SPLITS}
    nearest: dict[str, dict[str, Float32s]] = {split: {} for split in SPLITS}
    notes = [
        "Evidence is without exact matches in all rows, whatever their label."
        if unlabelled
        else "Evidence is what CCN's lists keep, which depends on the label: see `newsclippings evidence`."
    ]
    for side, (field, keep, of) in _FIELDS.items():
        kept = {split: _list_kept(found, field, keep) for split, found in of_rows.items()}
        every = sorted({name for listed in kept.values() for names in listed.values() for name in names})
        if not every:
            message = f"{option('evidence', root)}: no row has {field}. Are the searches beside the lists of items?"
            raise DataNotFoundError(message)
        place = out / f"evidence-{'unlabelled-' * unlabelled}{of}"
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
        for split, listed in kept.items():
            queries = rows[split].rows.vectors(side)
            chosen = np.zeros((len(queries), found.shape[1]), np.float32)
            for row, names in listed.items():
                places = lookup(ids, np.array([number_of[name] for name in names], np.int64))
                candidates = found[places[places >= 0]]
                if len(candidates):
                    chosen[row] = candidates[np.argmax(candidates @ queries[row])]
            nearest[split][side] = chosen

    def evidence(_: str, split: str) -> tuple[Int64s, Float32s, Float32s]:
        return rows[split].index, nearest[split]["image"], nearest[split]["text"]

    return evidence, notes


_OfRows = Sequence[tuple[int, Mapping[str, Any]]]  # number of a row that has evidence, and its evidence


def _read_rows(items: str, count: int) -> _OfRows:
    table = read_evidence(items, count)
    return [*zip(table["index"].to_pylist(), table["evidence"].to_pylist(), strict=True)]


def _filter_rows(folder: str, split: str, data_dir: str | None, visual_news: list[str] | None) -> _OfRows:
    """Read the evidence of a split without exact matches, which are found by the captions and pictures of the rows."""
    options: dict[str, Any] = {"splits": [split], "missing": "null", "evidence": folder, "visual_news": visual_news}
    request = Request(DEFAULT_CONFIG, data_dir=data_dir, **options)
    rows = stream_rows(request, find_inputs(request), split, cache_folder() / NAME)
    return [(row["index"], as_if_unlabelled(row, folder)["evidence"]) for row in rows if row["evidence"] is not None]


def _list_kept(rows: _OfRows, field: str, keep: str) -> dict[int, Sequence[str]]:
    """Return the number of each row that has evidence -> its texts, or paths of pictures, that are kept."""
    found: dict[int, Sequence[str]] = {}
    for row, evidence in rows:
        values: list[Any] = evidence[field] or []
        kept = [True] * len(values) if evidence[keep] is None else evidence[keep]
        if names := [value for value, is_kept in zip(values, kept, strict=True) if is_kept]:
            found[row] = names
    return found
