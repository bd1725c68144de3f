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
        for way in WAYS:
            vectors = change_vectors(official, query, against, way)
            if vectors is None:
                continue
            left, right, known = vectors
            for source, pairs in official.pairs.items():
                chosen = known[0][pairs.captions] & known[1][pairs.pictures]
                if not chosen.any():
                    continue
                rows, columns = pairs.captions[chosen], pairs.pictures[chosen]
                scores = score_pairs(left, right, rows, columns)
                off, truth = np.abs(scores - pairs.scores[chosen]), pairs.scores[chosen]
                varied = len(truth) > 1 and bool(scores.std() and truth.std())
                correlation = float(np.corrcoef(scores, truth)[0, 1]) if varied else 0.0
                share, median = float((off < CLOSE).mean()), float(np.median(off))
                fits[source].append(Fit(query, against, way, len(rows), share, median, correlation))
    return {source: sorted(found, key=lambda fit: (-fit.share, fit.median)) for source, found in fits.items()}


def change_vectors(
    official: Official, query: str, against: str, way: str
) -> tuple[Float32s, Float32s, tuple[Bools, Bools]] | None:
    """Return the vectors of both sides as a measure has them, and which are known; None without their files."""
    both = official.vectors(query), official.vectors(against)
    if both[0] is None or both[1] is None or both[0][0].shape[1] != both[1][0].shape[1]:
        return None
    left = _change(*both[0], way)
    right = left if query == against else _change(*both[1], way)
    return left, right, (both[0][1], both[1][1])


def _change(vectors: Float32s, known: Bools, way: str) -> Float32s:
    if way == DOT:
        return vectors
    changed = _to_unit(vectors, known) if way in (COSINE, BOTH) else vectors
    if way in (CENTRED, BOTH):
        mean = changed.sum(axis=0, dtype=np.float64) / max(1, int(known.sum()))  # unknown ones are zero
        changed = _to_unit(changed - mean.astype(np.float32), known)
    return changed


def _to_unit(vectors: Float32s, known: Bools) -> Float32s:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    scale = np.where(known & (lengths > 0), 1 / np.maximum(lengths, 1e-30), 0).astype(np.float32)
    changed: Float32s = vectors * scale[:, None]
    return changed


def score_pairs(left: Float32s, right: Float32s, rows: Int64s, columns: Int64s) -> Float64s:
    """Return the products of pairs, in float64."""
    scores = np.empty(len(rows))
    for at in range(0, len(rows), 4096):
        part = slice(at, at + 4096)
        scores[part] = np.einsum("ij,ij->i", left[rows[part]].astype(np.float64), right[columns[part]])
    return scores
