"""Small worlds of captions and pictures, and the matches that follow from looking at every pair."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from _newsclippings.generate import Pool, Rule, make_entities
from _newsclippings.tables import array_of

Floats = npt.NDArray[np.float32]
Caption = list[tuple[str, str]]

# In the order in which they are applied: the reason of a caption without a match is the first that leaves it none.
STEPS = ("pool", "share", "same", "other", "gap", "within", "picture", "without", "differ", "cap", "floor")
LABELS = ("PERSON", "ORG", "GPE", "DATE")
DAY = 86_400


@dataclass
class World:
    """Captions by position, with everything a rule looks at."""

    query: Floats
    against: Floats
    captions: list[Caption]
    topic: list[int]
    article: list[int]
    times: list[float]
    person: list[bool]
    rule: Rule
    uses: int | None

    def __len__(self) -> int:
        return len(self.captions)

    def pool(self) -> Pool:
        """The same as the package takes it."""
        return make_pool(self.captions, self.topic, self.article, self.times, self.person)


def make_pool(
    captions: list[Caption], topic: list[int], article: list[int], times: list[float], person: list[bool]
) -> Pool:
    return Pool(
        len(captions),
        make_entities(entity_column(captions)),
        {"topic": np.array(topic, np.int32), "article": np.array(article, np.int32)},
        np.array(times, np.float64),
        {"has_person": np.array(person, bool)},
    )


def entity_column(captions: list[Caption]) -> Any:
    """Entities as the corpus has them."""
    import pyarrow as pa

    kind = pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
    return array_of([[{"text": text, "label": label} for text, label in caption] for caption in captions], kind)


def dot(query: Floats, other: Floats) -> float:
    """The sum of products in double precision, halves added until one number is left."""
    values = [float(a) * float(b) for a, b in zip(query, other, strict=True)]
    while len(values) > 1:
        half = (len(values) + 1) // 2
        values = [value + rest for value, rest in zip(values[:half], [*values[half:], 0.0], strict=False)]
    return values[0]


def unit(vectors: npt.NDArray[Any]) -> Floats:
    norms: npt.NDArray[Any] = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


def random_world(seed: int, ties: bool) -> World:
    """Draw a world; with ties, many scores are equal, or so near that float32 cannot tell them apart."""
    r = np.random.default_rng(seed)
    n, d = int(r.integers(1, 40)), int(r.integers(3, 9))
    few = int(r.integers(1, 6))

    def vectors() -> Floats:
        drawn = unit(r.standard_normal((n, d)))
        if not ties:
            return drawn
        kind, noise = r.integers(3), unit(r.standard_normal((few, d)))[r.integers(0, few, n)]
        if kind == 0:
            return np.eye(d, dtype=np.float32)[r.integers(0, d, n)]
        return noise if kind == 1 else unit(noise + 1e-7 * r.standard_normal((n, d)))

    query = vectors()
    against = query if r.random() < 0.5 else vectors()
    names = [f"name{number}" for number in range(int(r.integers(2, 25)))]
    captions = [
        [(names[r.integers(len(names))], LABELS[r.integers(len(LABELS))]) for _ in range(r.integers(0, 4))]
        for _ in range(n)
    ]
    times = np.where(r.random(n) < 0.1, np.nan, r.integers(0, 300, n) * DAY)
    topic, article = r.integers(-1, 3, n), r.integers(-1, 9, n)
    person = r.random(n) < 0.7
    uses = (1, 1, 2, 3, None)[r.integers(5)]
    return World(
        query, against, captions, topic.tolist(), article.tolist(), times.tolist(), person.tolist(),
        random_rule(r, near=max(-1.0, min(1.0, dot(query[0], against[-1])))), uses,
    )  # fmt: skip


def random_rule(r: np.random.Generator, near: float) -> Rule:
    """Draw a rule; its cap or floor may be the score of a pair, to the last bit."""

    def maybe(share: float) -> bool:
        return bool(r.random() < share)

    rule = Rule(
        differ=[("*",), (), ("PERSON", "ORG")][r.choice(3, p=[0.6, 0.2, 0.2])],
        without=("DATE",) if maybe(0.1) else (),
        same=("topic",) if maybe(0.2) else (),
        other=("article",) if maybe(0.2) else (),
        gap="40d" if maybe(0.2) else None,
        within="200d" if maybe(0.2) else None,
        picture="has_person" if maybe(0.2) else None,
    )
    if maybe(0.3):
        rule = replace(rule, share=[("PERSON",), ("ORG", "GPE")][r.integers(2)], differ=("*",) if maybe(0.7) else ())
    if maybe(0.3):
        rule = replace(rule, cap=near if maybe(0.5) else 0.6)
    if maybe(0.2):
        floor = near if maybe(0.5) else -0.2
        rule = replace(rule, floor=floor if rule.cap is None or floor < rule.cap else None)
    return rule


def steps_passed(world: World) -> list[list[int]]:
    """How many of the steps each pair of a caption and a picture passes, one after the other, by Python's sets."""
    rule, n = world.rule, len(world)
    every = {label for caption in world.captions for _, label in caption}

    def names(labels: tuple[str, ...], but: tuple[str, ...] = ()) -> list[set[str]]:
        chosen = every - {*but} if "*" in labels else {*labels}
        return [{text.casefold() for text, label in caption if label in chosen} for caption in world.captions]

    def days(text: str | None) -> int:
        return int((text or "0d")[:-1]) * DAY

    share, differ, without = names(rule.share), names(rule.differ, rule.share), names(rule.without)
    columns: dict[str, list[int]] = {"topic": world.topic, "article": world.article}
    same, other = [columns[name] for name in rule.same], [columns[name] for name in rule.other]
    times, gap, within = world.times, days(rule.gap), days(rule.within)
    checks: list[Callable[[int, int], bool]] = [
        lambda i, j: i != j,
        lambda i, j: not rule.share or bool(share[i] & share[j]),
        lambda i, j: all(codes[i] == codes[j] and codes[i] >= 0 for codes in same),
        lambda i, j: all(codes[i] != codes[j] and min(codes[i], codes[j]) >= 0 for codes in other),
        lambda i, j: rule.gap is None or abs(times[i] - times[j]) >= gap,
        lambda i, j: rule.within is None or abs(times[i] - times[j]) <= within,
        lambda i, j: rule.picture is None or world.person[j],
        lambda i, j: not without[i] and not without[j],
        lambda i, j: not differ[i] & differ[j],
        lambda i, j: rule.cap is None or dot(world.query[i], world.against[j]) < rule.cap,
        lambda i, j: rule.floor is None or dot(world.query[i], world.against[j]) >= rule.floor,
    ]
    assert len(checks) == len(STEPS)

    def passed(i: int, j: int) -> int:
        return next((number for number, check in enumerate(checks) if not check(i, j)), len(checks))

    return [[passed(i, j) for j in range(n)] for i in range(n)]


def match_by_hand(world: World) -> tuple[list[int], list[float], list[str]]:
    """The picture (-1: none), score (nan) and reason ("" if there is a match) of each caption.

    All allowed pairs, from the best score down, then by caption, then by picture: each is a match if the caption has
    none yet and the picture is not used up.
    """
    n, passed = len(world), steps_passed(world)
    allowed = [(i, j) for i in range(n) for j in range(n) if passed[i][j] == len(STEPS)]
    pairs = sorted((-dot(world.query[i], world.against[j]), i, j) for i, j in allowed)
    picture, score, uses = [-1] * n, [math.nan] * n, [0] * n
    for value, i, j in pairs:
        if picture[i] < 0 and (world.uses is None or uses[j] < world.uses):
            picture[i], score[i] = j, -value
            uses[j] += 1
    reasons = [""] * n
    for i in (i for i in range(n) if picture[i] < 0):
        has_it = any(label in world.rule.without for _, label in world.captions[i])
        reasons[i] = "without" if has_it else [*STEPS, "used_up"][max(passed[i])]
    return picture, score, reasons


def medium_world(kind: str, count: int = 3000, width: int = 48) -> tuple[Floats, Floats, Pool]:
    """Vectors of clusters with exact copies and copies that only float64 tells apart, and a pool."""
    r = np.random.default_rng([count, len(kind)])
    centres = r.standard_normal((count // 20, width))
    text = unit(centres[r.integers(len(centres), size=count)] + 0.7 * r.standard_normal((count, width)))
    copies = r.integers(0, count, 400)
    text[copies] = text[r.integers(0, count, 400)]
    text[copies[:200]] = unit(text[copies[:200]] + 2e-8 * r.standard_normal((200, width)))
    image = unit(text + 0.6 * r.standard_normal((count, width)) - 0.4) if kind == "text-image" else text
    names = [
        [(f"n{name}", LABELS[name % 4]) for name in np.minimum(r.zipf(1.3, r.integers(1, 5)), 400)]
        for _ in range(count)
    ]
    topic, article = r.integers(0, 6, count).tolist(), r.integers(0, count // 2, count).tolist()
    times = (r.integers(0, 900, count) * DAY).astype(float).tolist()
    return text, image, make_pool(names, topic, article, times, (r.random(count) < 0.8).tolist())
