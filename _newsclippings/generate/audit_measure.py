"""Which measure gives the scores of matches: the first question of an audit."""

from typing import Final, NamedTuple

import numpy as np

from _newsclippings.generate.audit_inputs import Bools, Float32s, Float64s, Official
from _newsclippings.tables import Int64s

CLOSE: Final = 1e-4  # a score is recomputed if it differs by less
FITS: Final = 0.95  # share of scores that a measure has to recompute
PAIRS: Final = (  # vectors of the caption, or of its picture, and of the candidates
    ("clip_text", "clip_image"),
    ("clip_image", "clip_text"),
    ("clip_text", "clip_text"),
    ("clip_image", "clip_image"),
    ("sbert", "sbert"),
    ("places", "places"),
)
COSINE, CENTRED, BOTH, DOT = "cosine", "centred cosine", "cosine of unit vectors, centred", "dot product"
WAYS: Final = (COSINE, CENTRED, BOTH, DOT)
_ROWS = 4096  # vectors that are changed at a time


class Fit(NamedTuple):
    """How well a measure recomputes the scores of a source.

    Attributes:
        query: kind of the vectors of captions.
        against: kind of the vectors of candidates.
        way: one of `WAYS`.
        pairs: how many have both vectors.
        share: of these, how many scores differ by less than `CLOSE`.
        median: median difference.
        correlation: of the scores with those of the file.
    """

    query: str
    against: str
    way: str
    pairs: int
    share: float
    median: float
    correlation: float

    @property
    def fits(self) -> bool:
        """Whether this is the measure."""
        return self.share >= FITS

    def __str__(self) -> str:
        both = self.query if self.query == self.against else f"{self.query} and {self.against}"
        return f"{self.way} of {both}"


def find_fits(official: Official) -> dict[str, list[Fit]]:
    """Recompute the scores of each source with every measure: source -> its fits, the best first."""
    fits: dict[str, list[Fit]] = {source: [] for source in official.pairs}
    for query, against in PAIRS:
        sides = _take_sides(official, query, against)
        if sides is None:
            continue
        for way in WAYS:
            means = [_find_mean(*side, way) for side in (sides if query != against else sides[:1])]
            for source, pairs in official.pairs.items():
                chosen = sides[0][1][pairs.captions] & sides[1][1][pairs.pictures]
                if chosen.any():
                    rows = (pairs.captions[chosen], pairs.pictures[chosen])
                    both = [_change(side[0][k], way, m) for side, k, m in zip(sides, rows, means * 2, strict=False)]
                    fits[source].append(_fit(query, against, way, both, pairs.scores[chosen]))
    return {source: sorted(found, key=lambda fit: (-fit.share, fit.median)) for source, found in fits.items()}


def _fit(query: str, against: str, way: str, vectors: list[Float32s], truth: Float64s) -> Fit:
    each = np.arange(len(truth))
    scores = score_pairs(vectors[0], vectors[1], each, each)
    off = np.abs(scores - truth)
    varied = len(truth) > 1 and bool(scores.std() and truth.std())
    correlation = float(np.corrcoef(scores, truth)[0, 1]) if varied else 0.0
    return Fit(query, against, way, len(truth), float((off < CLOSE).mean()), float(np.median(off)), correlation)


_Side = tuple[Float32s, Bools]


def _take_sides(official: Official, query: str, against: str) -> tuple[_Side, _Side] | None:
    left, right = official.vectors(query), official.vectors(against)
    return (left, right) if left and right and left[0].shape[1] == right[0].shape[1] else None


def change_vectors(
    official: Official, query: str, against: str, way: str
) -> tuple[Float32s, Float32s, tuple[Bools, Bools]] | None:
    """Return the vectors of both sides as a measure has them, and which are known; None without their files."""
    sides = _take_sides(official, query, against)
    if sides is None:
        return None
    left = _change(sides[0][0], way, _find_mean(*sides[0], way))
    right = left if query == against else _change(sides[1][0], way, _find_mean(*sides[1], way))
    left[~sides[0][1]] = right[~sides[1][1]] = 0  # unknown ones are not the mean's opposite
    return left, right, (sides[0][1], sides[1][1])


def _find_mean(vectors: Float32s, known: Bools, way: str) -> Float64s | None:
    """Return the mean of the vectors that are known, the others being zero; None for a way that needs none."""
    if way not in (CENTRED, BOTH):
        return None
    total = np.zeros(vectors.shape[1])
    for at in range(0, len(vectors), _ROWS):
        block = vectors[at : at + _ROWS]
        total += (to_unit(block) if way == BOTH else block).sum(axis=0, dtype=np.float64)
    return total / max(1, int(known.sum()))


def _change(vectors: Float32s, way: str, mean: Float64s | None) -> Float32s:
    """Return a copy of vectors as a measure has them."""
    changed = np.empty_like(vectors)
    for at in range(0, len(vectors), _ROWS):
        block = vectors[at : at + _ROWS]
        if way in (COSINE, BOTH):
            block = to_unit(block)
        changed[at : at + _ROWS] = block if mean is None else to_unit(block - mean.astype(np.float32))
    return changed


def to_unit(vectors: Float32s) -> Float32s:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    unit: Float32s = vectors / np.maximum(lengths, np.float32(1e-30))[:, None]
    return unit


def score_pairs(left: Float32s, right: Float32s, rows: Int64s, columns: Int64s) -> Float64s:
    """Return the products of pairs, in float64."""
    scores = np.empty(len(rows))
    for at in range(0, len(rows), _ROWS):
        part = slice(at, at + _ROWS)
        scores[part] = np.einsum("ij,ij->i", left[rows[part]].astype(np.float64), right[columns[part]])
    return scores
