"""What is in two splits: captions, articles, and pictures or their copies. The authors keep only ids apart."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from _newsclippings.errors import DataNotFoundError
from _newsclippings.facts import SPLITS
from _newsclippings.generate.audit_inputs import Official, find_files, one_struct, open_corpus
from _newsclippings.generate.audit_measure import to_unit
from _newsclippings.generate.splits import COPY
from _newsclippings.matches import read_matches
from _newsclippings.storage import is_url
from _newsclippings.tables import Int64s, as_array, int64s, lookup, one_chunk
from _newsclippings.text import fold_name
from _newsclippings.vectors import read_embeddings

BY: Final = "clip_image"  # vectors that show copies
_ROWS = 1024  # pictures that are compared at a time


class Crossing(NamedTuple):
    """What the rows of a config have in common with those of another split.

    Attributes:
        split: the other split.
        captions: how many captions of the rows are also those of rows of the other split, case aside.
        articles: how many articles of captions or pictures.
        files: how many files of pictures, by their path.
        copies: how many pictures have a copy there, by CLIP's vectors; None without these.
    """

    split: str
    captions: int
    articles: int
    files: int
    copies: int | None


class _Side(NamedTuple):
    """Captions, articles and picture files of rows, and the ids of their pictures."""

    captions: set[str]
    articles: set[str]
    files: set[str]
    pictures: Int64s


def find_crossings(official: Official, config: str, data_dir: Any) -> list[Crossing]:
    """Compare the rows of a split with those of the others whose matches and metadata are on this machine."""
    rows_of_captions, rows_of_pictures, _ = official.rows
    ours = _gather(official.records, official.ids[rows_of_captions], official.ids[rows_of_pictures])
    crossings = []
    for other in SPLITS:
        if other == official.split:
            continue
        try:
            inputs = find_files(config, other, data_dir)
        except DataNotFoundError:
            continue
        if is_url(inputs.matches[other]) or is_url(inputs.metadata[other]):
            continue
        rows = read_matches(inputs.matches[other], config)
        ids, image_ids = (int64s(rows[name]) for name in ("id", "image_id"))
        records = open_corpus(inputs).read_metadata(other, np.unique(np.concatenate([ids, image_ids])))
        theirs = _gather(records, ids, image_ids)
        copies, vectors = None, inputs.embeddings[BY][other]
        if BY in official.files and not is_url(vectors):
            copies = _count_copies(official, ours.pictures, vectors, theirs.pictures)
        captions, articles = len(ours.captions & theirs.captions), len(ours.articles & theirs.articles)
        crossings.append(Crossing(other, captions, articles, len(ours.files & theirs.files), copies))
    return crossings


def _gather(records: pa.Table, ids: Int64s, image_ids: Int64s) -> _Side:
    known = int64s(records["id"])
    order = np.argsort(known, kind="stable")

    def take(column: pa.Array, wanted: Int64s) -> Iterator[str]:
        places = lookup(known[order], np.unique(wanted))
        return (text for text in column.take(as_array(order[places[places >= 0]])).to_pylist() if text)

    articles = one_struct(records["metadata"]).field("full_article_path")
    return _Side(
        set(map(fold_name, take(one_chunk(records["caption"]), ids))),
        {*take(articles, np.concatenate([ids, image_ids]))},
        {*take(one_chunk(records["image_path"]), image_ids)},
        np.unique(image_ids),
    )


def _count_copies(official: Official, ours: Int64s, place: str, theirs: Int64s) -> int:
    """Count our pictures of which the other split has a copy."""
    vectors = official.vectors(BY)
    if vectors is None:
        return 0
    places = np.flatnonzero(np.isin(official.ids, ours) & vectors[1])
    ids, values = read_embeddings(place)
    left, right = to_unit(vectors[0][places]), to_unit(values[np.isin(ids, theirs)])
    copied = 0
    for at in range(0, len(left), _ROWS):
        block = left[at : at + _ROWS]
        copied += int(((block @ right.T).max(axis=1, initial=-1) >= COPY).sum())
    return copied
