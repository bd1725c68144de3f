"""How hard a generated config is, and what of its labels one side, or a fact beside the pictures, gives away.

Everything is learned from one split and measured on another. Each caption is there twice, once with its own picture, so
that what follows from captions alone is right in half of the rows, whatever it is. That is not so for pictures.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from _newsclippings.evaluate import Rows, measure
from _newsclippings.generate.records import Records
from _newsclippings.generate.rules import Recipe
from _newsclippings.generate.vector_files import NamedVectors
from _newsclippings.tables import Int64s, lookup, values_of

Bools = npt.NDArray[np.bool_]
Float64s = npt.NDArray[np.float64]
Quality = dict[str, Any]

AT_CHANCE: Final = 0.48, 0.52  # in which the interval of what sees one side has to be
MOST_LEARNED: Final = 50_000  # pairs that something is learned from
MOST_MEASURED: Final = 20_000  # pairs that it is measured on
_LEAST: Final = 10  # pairs
_DRAWS = 500  # of the bootstrap
_RIDGE = 1e-2
_BLOCK = 8192  # rows whose vectors are read at a time
_LETTERS = 10  # of a class of lengths
_DIGITS = 4  # more would differ between processors


@dataclass(frozen=True)
class Twins:
    """Pairs of a split, as positions among the records.

    Attributes:
        captions: int64 (N,).
        pictures: int64 (N,), the falsified pictures.
        methods: int64 (N,).
        scores: float64 (N,).
    """

    captions: Int64s
    pictures: Int64s
    methods: Int64s
    scores: Float64s

    def take(self, rows: Any) -> "Twins":
        """Return some of the pairs."""
        return Twins(self.captions[rows], self.pictures[rows], self.methods[rows], self.scores[rows])

    def spread(self, most: int) -> "Twins":
        """Return at most so many of them, at equal distances."""
        count = min(most, len(self.captions))
        return self.take(np.arange(count) * len(self.captions) // max(1, count))

    @property
    def shown(self) -> Int64s:
        """The pictures of all rows, int64 (2 N,): twins one after the other, the pristine one first."""
        return np.stack([self.captions, self.pictures], axis=1).ravel()

    @property
    def said(self) -> Int64s:
        """The captions of all rows, int64 (2 N,)."""
        return np.repeat(self.captions, 2)


def twins_of(matches: pa.Table, records: Records) -> Twins:
    """Return the pairs of a file of matches that `generate` wrote."""
    names = "id", "image_id", "source_dataset", "similarity_score"
    ids, image_ids, methods, scores = (values_of(matches[name].combine_chunks()) for name in names)
    captions, pictures = (lookup(records.ids, each[1::2]).astype(np.int64) for each in (ids, image_ids))
    return Twins(captions, pictures, methods[1::2].astype(np.int64), scores[1::2])


def measure_quality(
    recipe: Recipe, records: Records, vectors: Mapping[str, NamedVectors], splits: Mapping[str, Twins]
) -> Quality:
    """Measure a config.

    Args:
        recipe: its recipe.
        records: the captions of the corpus.
        vectors: all that are given, by name. Those of captions and of pictures that a method compares, and those with
            names such as `other_text` and `other_image`, are of one model.
        splits: split -> its pairs.

    Returns:
        Plain values: `measured_on` and `learned_from`; `zero_shot`: model -> `pair_accuracy` and `auc`; `probes`: side
        and vectors -> `accuracy`; `priors`: fact -> `accuracy`; each with its interval and number of pairs; and `uses`:
        method -> facts; and `known_pictures`: what the number of a picture gives away to those who know its labels.
    """
    tested = next(split for split in reversed([*splits]) if len(splits[split].captions))
    learned = next((split for split in splits if split != tested), None)
    test = splits[tested].spread(MOST_MEASURED)
    train = None if learned is None else splits[learned].spread(MOST_LEARNED)
    quality: Quality = {"measured_on": tested, "learned_from": learned, "pairs": len(test.captions)}
    quality["zero_shot"] = {
        name: found
        for name, sides in _models(recipe, vectors).items()
        if (found := _zero_shot(recipe, records, vectors, sides, test))
    }
    fair = all(method.closed or method.balance for method in recipe.methods)
    quality["picture_alone_is_fair"] = fair
    probes = quality["probes"] = {}
    for name, each in vectors.items():
        side = each.of.removesuffix("s")
        found = None if train is None or each.facts.several else _probe(records, each, train, test)
        if found:
            probes[f"{side} only, {name}"] = found
    quality["priors"] = {} if train is None else _priors(records, train, test)
    quality["known_pictures"] = _known_pictures(splits[tested])
    quality["uses"] = _uses(recipe, splits)
    return quality


def _models(recipe: Recipe, vectors: Mapping[str, NamedVectors]) -> dict[str, tuple[str, str]]:
    """Return the models with vectors of captions and of pictures: their names, and those of the vectors."""
    found = {}
    for name, each in vectors.items():
        for other, pictures in vectors.items():
            stem = name.removesuffix("_text")
            named = name.endswith("_text") and other == f"{stem}_image"
            compared = any({method.query, method.against} == {name, other} for method in recipe.methods)
            one_each = (each.of, pictures.of) == ("captions", "pictures") and not pictures.facts.several
            if one_each and each.facts.width == pictures.facts.width and (named or compared):
                found[stem if named else f"{name} and {other}"] = name, other
    return found


def _zero_shot(
    recipe: Recipe, records: Records, vectors: Mapping[str, NamedVectors], sides: tuple[str, str], test: Twins
) -> Quality | None:
    """Measure how often a model prefers the true picture."""
    captions, pictures = (vectors[name] for name in sides)
    there = _has(captions, records, test.captions)
    there &= _has(pictures, records, test.captions) & _has(pictures, records, test.pictures)
    test = test.take(there)
    if len(test.captions) < _LEAST:
        return None
    scores = np.empty(2 * len(test.captions))
    for start in range(0, len(scores), _BLOCK):
        some = slice(start, start + _BLOCK)
        one, other = (
            side.take(records.ids[rows[some]]).astype(np.float64)
            for side, rows in ((captions, test.said), (pictures, test.shown))
        )
        scores[some] = (one * other).sum(axis=1)
    used = {name for method in recipe.methods for name in (method.query, method.against)}
    found = _measure(-scores, -scores > -np.median(scores), ("pair_accuracy", "auc"))
    return {"made_it": bool(used & {*sides}), **found}


def _has(vectors: NamedVectors, records: Records, places: Int64s) -> Bools:
    return lookup(vectors.ids, records.ids[places]) >= 0


def _measure(scores: Float64s, predicted: Bools, names: Sequence[str]) -> Quality:
    """Measure answers about rows that are twins, the pristine one first, with intervals over pairs."""
    count = len(scores) // 2
    pair = np.repeat(np.arange(count), 2)
    (measured,) = measure(Rows(np.tile([False, True], count), predicted, scores, pair, pair, False), draws=_DRAWS)
    results = measured.results()
    found: Quality = {"pairs": count}
    for name in names:
        if (result := results[name]) is not None:
            found[name] = {key: round(value, _DIGITS) for key, value in result.items()}
    return found


def _probe(records: Records, vectors: NamedVectors, train: Twins, test: Twins) -> Quality | None:
    """Learn the label from the vectors of one side, linearly, and measure that."""
    train, test = (
        each.take(_has(vectors, records, each.captions) & _has(vectors, records, each.pictures))
        for each in (train, test)
    )
    if min(len(train.captions), len(test.captions)) < _LEAST:
        return None
    learned, asked = (each.shown if vectors.of == "pictures" else each.said for each in (train, test))
    width = vectors.facts.width
    total, square, product = np.zeros(width), np.zeros((width, width)), np.zeros(width)
    for start in range(0, len(learned), _BLOCK):
        block = vectors.take(records.ids[learned[start : start + _BLOCK]]).astype(np.float64)
        signs = np.tile([-1.0, 1.0], len(block) // 2)
        total += block.sum(axis=0)
        square += block.T @ block
        product += signs @ block
    mean = total / len(learned)
    square -= len(learned) * np.outer(mean, mean)  # the signs add up to 0, so their product needs no centre
    ridge = _RIDGE * max(np.trace(square) / width, 1e-12)
    weights = np.linalg.solve(square + ridge * np.eye(width), product)
    scores = np.empty(len(asked))
    for start in range(0, len(asked), _BLOCK):
        some = slice(start, start + _BLOCK)
        scores[some] = (vectors.take(records.ids[asked[some]]) - mean) @ weights
    scores = np.round(scores, 9)
    return _measure(scores, scores > 0, ("accuracy", "auc"))


def _priors(records: Records, train: Twins, test: Twins) -> Quality:
    """Measure what facts of the picture give away, alone and compared with those of the caption."""
    months = None
    if records.times is not None:
        known = np.isfinite(records.times)
        stamps = np.where(known, records.times, 0).astype("datetime64[s]").astype("datetime64[M]").astype(str)
        months = np.where(known, stamps, "").tolist()
    facts: dict[str, list[Any] | None] = {
        "length": [1 + len(text or "") // _LETTERS for text in records.texts("caption").to_pylist()],
        "outlet": records.texts("source").to_pylist(),
        "topic": records.texts("topic").to_pylist(),
        "month": months,
    }
    found = {}
    for name, values in facts.items():
        if values is None or len({values[row] for row in test.shown.tolist()} - {"", None}) < 2:
            continue
        of_picture = [[values[row] for row in each.shown.tolist()] for each in (train, test)]
        same = [
            [values[one] == values[other] for one, other in zip(each.said.tolist(), each.shown.tolist(), strict=True)]
            for each in (train, test)
        ]
        what = f"{name} of the picture's own caption" if name == "length" else f"{name} of the picture"
        found[what] = _prior(*of_picture)
        found[f"same {name} or not"] = _prior(*same)
    return found


def _prior(learned: Sequence[Any], asked: Sequence[Any]) -> Quality:
    """Learn how often rows with a value are falsified, and measure what that says about others."""
    counts: dict[Any, list[int]] = defaultdict(lambda: [0, 0])
    for row, value in enumerate(learned):
        counts[value][row % 2] += 1
    shares = {value: false / (true + false) for value, (true, false) in counts.items()}
    scores = np.array([shares.get(value, 0.5) for value in asked])
    return _measure(scores, scores > 0.5, ("accuracy", "auc"))


def _known_pictures(test: Twins) -> Quality:
    """Count, among rows whose picture is in several, those with the label that most rows of the picture have."""
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for row, picture in enumerate(test.shown.tolist()):
        counts[picture][row % 2] += 1
    several = [each for each in counts.values() if sum(each) > 1]
    rows = sum(map(sum, several))
    return {"rows": rows, "accuracy": round(sum(map(max, several)) / rows, _DIGITS) if rows else None}


def _uses(recipe: Recipe, splits: Mapping[str, Twins]) -> Quality:
    """Count how often pictures are used, and how many pairs are half of a swap."""
    found = {}
    for number, method in enumerate(recipe.methods):
        most = pairs = pictures = swaps = 0
        for each in splits.values():
            mine = each.take(each.methods == number)
            given = dict(zip(mine.captions.tolist(), mine.pictures.tolist(), strict=True))
            counts = Counter(given.values())
            most = max([most, *counts.values()])
            pairs, pictures = pairs + len(given), pictures + len(counts)
            swaps += sum(given.get(picture) == caption for caption, picture in given.items())
        share = round(swaps / pairs, _DIGITS) if pairs else 0.0
        found[method.name] = {"pairs": pairs, "pictures": pictures, "most_uses": most, "swaps": share}
    return found


def judge(result: Mapping[str, float], fair: bool = False) -> str:
    """Say whether an accuracy is that of chance.

    Args:
        result: `value`, `low` and `high`.
        fair: whether the rows are made so that it is.
    """
    low, high = AT_CHANCE
    if fair:
        return "at chance, by construction"
    if low <= result["low"] and result["high"] <= high:
        return "at chance"
    if result["low"] > 0.5 or result["high"] < 0.5:
        return "**not at chance**"
    return "too few pairs to tell"


def describe_quality(quality: Quality) -> str:
    """Write the section of the card."""
    learned = quality["learned_from"]
    lines = [f"Measured on {quality['measured_on']} ({quality['pairs']:,} pairs), with 95 % intervals over pairs."]
    if learned is None:
        lines[0] += " There is no other split to learn from, so no probe was trained."
    else:
        lines[0] += f" Probes and priors were learned from {learned}."
    lines += ["", "| what sees the rows | accuracy, % | 95 % interval | AUC | |", "|---|---:|---:|---:|---|"]
    for name, found in quality["zero_shot"].items():
        who = "a model that made the pairs" if found["made_it"] else "another model"
        result = found["pair_accuracy"]
        lines.append(f"| zero-shot `{name}`, which of two pictures | {_cells(result, found)} | {who} |")
    fair = quality["picture_alone_is_fair"]
    for name, found in quality["probes"].items():
        what, _, vectors = name.partition(", ")
        verdict = judge(found["accuracy"], what.startswith("caption") or fair)
        lines.append(f"| linear probe, {what}, `{vectors}` | {_cells(found['accuracy'], found)} | {verdict} |")
    for name, found in quality["priors"].items():
        verdict = judge(found["accuracy"], fair and not name.startswith("same"))
        lines.append(f"| {name} | {_cells(found['accuracy'], found)} | {verdict} |")
    low, high = (100 * bound for bound in AT_CHANCE)
    lines += [
        "",
        f"At chance: the interval is within {low:.0f} to {high:.0f} %. Captions alone are at 50 % by construction.",
    ]
    if all(found["made_it"] for found in quality["zero_shot"].values()):
        lines[-1] += " No other model was given: pass its vectors as `NAME_text` and `NAME_image`."
    lines[-1] += (
        " What is the same or not is seen by those who read the columns of both sides, not by those who see the "
    )
    lines[-1] += "picture: a rule with that column in `same` takes it away."
    known = quality["known_pictures"]
    if known["rows"]:
        lines += [
            "",
            f"Of {known['rows']:,} rows whose picture is in several, {100 * known['accuracy']:.1f} % have the label ",
        ]
        lines[-1] += "that most rows of the picture have."
    lines += ["", "| method | pairs | different pictures | most uses of one in a split | half of a swap, % |"]
    lines += ["|---|---:|---:|---:|---:|"]
    for name, uses in quality["uses"].items():
        numbers = f"{uses['pairs']:,} | {uses['pictures']:,} | {uses['most_uses']:,} | {100 * uses['swaps']:.1f}"
        lines.append(f"| `{name}` | {numbers} |")
    return "\n".join(lines)


def _cells(result: Mapping[str, float], found: Quality) -> str:
    value, low, high = (f"{100 * result[key]:.1f}" for key in ("value", "low", "high"))
    area = f"{found['auc']['value']:.3f}" if "auc" in found else "-"
    return f"{value} | {low} to {high} | {area}"
