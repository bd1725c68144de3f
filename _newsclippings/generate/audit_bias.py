"""How pictures are used, and what can be told from one side alone: the last questions of an audit."""

from typing import NamedTuple

import numpy as np

from _newsclippings.generate.audit_inputs import Bools, Float64s, Official, Pairs
from _newsclippings.generate.audit_measure import COSINE, change_vectors, score_pairs
from _newsclippings.tables import Int64s

_RIDGE = 1e-2  # times the number of rows
_LEAST = 40  # rows of a probe


class Uses(NamedTuple):
    """How the pictures of a source are used.

    Attributes:
        most: most often that a picture is used by captions of others.
        twice: how many are used more than once.
        swaps: share of pairs that are one half of a swap: A has B's picture, and B has A's.
        closed: share of used pictures whose own caption has a pair, too.
    """

    most: int
    twice: int
    swaps: float
    closed: float


def count_uses(pairs: Pairs, count: int) -> Uses:
    """Count how pictures are used; `count` is the number of records."""
    times = np.bincount(pairs.pictures, minlength=count)
    swapped = is_swap(pairs, count)
    closed = np.isin(np.unique(pairs.pictures), pairs.captions)
    return Uses(int(times.max()), int((times > 1).sum()), float(swapped.mean()), float(closed.mean()))


def is_swap(pairs: Pairs, count: int) -> Bools:
    """Return which pairs are one half of a swap; `count` is the number of records."""
    swapped: Bools = np.isin(pairs.pictures * count + pairs.captions, pairs.captions * count + pairs.pictures)
    return swapped


class Filter(NamedTuple):
    """Which picture CLIP prefers, the true one or the other.

    Attributes:
        pairs: how many have vectors.
        fooled: share of pairs whose falsified picture has the higher score.
        mean: mean of the falsified picture's score minus that of the true one.
        spread: standard deviation of that.
    """

    pairs: int
    fooled: float
    mean: float
    spread: float

    @property
    def margin(self) -> float:
        """Half of the 95 % interval of `fooled`."""
        return half_interval(self.pairs)


def half_interval(count: int) -> float:
    """Return half of the 95 % interval of a share near one half."""
    return float(0.98 / np.sqrt(max(1, count)))


def find_filters(official: Official) -> dict[str, Filter]:
    """Ask CLIP for each source, and for all together; nothing without its vectors."""
    vectors = change_vectors(official, "clip_text", "clip_image", COSINE)
    if vectors is None:
        return {}
    left, right, known = vectors
    filters: dict[str, Filter] = {}
    every: list[Float64s] = []
    for source, pairs in official.pairs.items():
        there = known[0][pairs.captions] & known[1][pairs.captions] & known[1][pairs.pictures]
        rows, columns = pairs.captions[there], pairs.pictures[there]
        every.append(score_pairs(left, right, rows, columns) - score_pairs(left, right, rows, rows))
        filters[source] = _summarise(every[-1])
    return {**filters, "all": _summarise(np.concatenate(every))} if every else {}


def _summarise(margins: Float64s) -> Filter:
    if not len(margins):
        return Filter(0, float("nan"), float("nan"), float("nan"))
    fooled = float((margins > 0).mean() + (margins == 0).mean() / 2)
    return Filter(len(margins), fooled, float(margins.mean()), float(margins.std()))


class Probe(NamedTuple):
    """How well a linear probe finds the label in one side alone, and half of its 95 % interval."""

    rows: int
    accuracy: float
    margin: float


def probe_sides(official: Official) -> dict[str, Probe]:
    """Train and test linear probes on CLIP's vectors of pictures alone and of captions alone.

    No caption and no picture of a row that is tested is in a row that the probe was trained on.
    """
    captions, pictures, falsified = official.rows
    folds = _split_rows(captions, pictures, len(official.ids))
    probes = {}
    for name, kind, rows in (("picture only", "clip_image", pictures), ("caption only", "clip_text", captions)):
        vectors = official.vectors(kind)
        if vectors is None:
            continue
        known = vectors[1][rows]
        if known.sum() < _LEAST or len(np.unique(folds[known])) < 2:
            continue
        accuracy = _probe(vectors[0][rows[known]].astype(np.float64), falsified[known], folds[known])
        probes[name] = Probe(int(known.sum()), accuracy, half_interval(int(known.sum())))
    return probes


def _probe(vectors: Float64s, falsified: Bools, folds: Int64s) -> float:
    right = 0.0
    for fold in (0, 1):
        train, test = folds != fold, folds == fold
        mean = vectors[train].mean(axis=0)
        x, y = vectors[train] - mean, np.where(falsified[train], 1.0, -1.0)
        scale = np.sqrt((x * x).sum(axis=1).mean())
        weights = np.linalg.solve(x.T @ x + _RIDGE * scale**2 * len(x) / x.shape[1] * np.eye(x.shape[1]), x.T @ y)
        scores = (vectors[test] - mean) @ weights
        right += float(((scores > 0) == falsified[test]).sum())
    return right / len(folds)


def _split_rows(captions: Int64s, pictures: Int64s, count: int) -> Int64s:
    """Divide rows into two halves that share no caption and no picture, where these do not hang together."""
    roots = np.arange(count)

    def find(place: int) -> int:
        while roots[place] != place:
            roots[place] = roots[roots[place]]
            place = int(roots[place])
        return place

    for caption, picture in zip(captions.tolist(), pictures.tolist(), strict=True):
        roots[find(caption)] = find(picture)
    groups = np.array([find(caption) for caption in captions.tolist()], np.int64)
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fold_of, filled = np.zeros(len(sizes), np.int64), [0, 0]
    for group in np.argsort(-sizes, kind="stable").tolist():
        fold = int(filled[1] < filled[0])
        fold_of[group], filled[fold] = fold, filled[fold] + int(sizes[group])
    folds: Int64s = fold_of[numbers]
    return folds
