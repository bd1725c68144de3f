"""Which rule the pairs of a source obey: the second question of an audit."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from _newsclippings.generate.audit_inputs import Official
from _newsclippings.generate.rules import ALL, Rule
from _newsclippings.tables import Int64s
from _newsclippings.text import fold_name

NAMES: Final = (  # labels of names; the others are numbers, times and amounts
    "EVENT", "FAC", "GPE", "LANGUAGE", "LAW", "LOC", "NORP", "ORG", "PERSON", "PRODUCT", "WORK_OF_ART",
)  # fmt: skip
FORMS: Final = ("exact", "casefold", "substring")
SETS: Final = ("all labels", "names only", "PERSON", "linked titles")
OBEYED: Final = 0.005  # share of pairs that may break a rule
CERTAIN: Final = 5  # pairs that would break a rule by chance, if it were not one
CAPS: Final = (0.8, 0.85, 0.9, 0.95)
_CAP_WIDTH = 0.01  # how near the highest score must be to a cap


class Sharing(NamedTuple):
    """How many pairs have an entity in common.

    Attributes:
        entities: one of `SETS`, or labels.
        form: one of `FORMS`.
        pairs: share of the official pairs.
        near: share of the nearest captions, whatever the rule; NaN if no measure is known.
    """

    entities: str
    form: str
    pairs: float
    near: float


@dataclass(frozen=True)
class FoundRule:
    """The rule that the pairs of a source obey.

    Attributes:
        rule: as the grammar has it.
        form: how names are compared.
        sharing: the figures.
        notes: what the grammar cannot say, or what the pairs cannot tell.
    """

    rule: Rule
    form: str
    sharing: list[Sharing]
    notes: list[str]


class _Names:
    """The entities of captions, by labels and in several forms."""

    def __init__(self, official: Official) -> None:
        self._official = official
        self._folded: dict[int, list[tuple[str, str]]] = {}

    def texts(self, caption: int, labels: frozenset[str] | None, form: str) -> set[str]:
        """Return the texts of the entities with some labels (None: all) of a caption."""
        if form == "exact":
            return {text for text, label in self._official.entities[caption] if labels is None or label in labels}
        if caption not in self._folded:
            self._folded[caption] = [(fold_name(text), label) for text, label in self._official.entities[caption]]
        return {text for text, label in self._folded[caption] if labels is None or label in labels}

    def linked(self, caption: int, form: str) -> set[str]:
        """Return the ids of the linked entities of a caption."""
        ids = self._official.linked[caption]
        return {*ids} if form == "exact" else {fold_name(each) for each in ids}


def _share(rows: Int64s, columns: Int64s, texts: Callable[[int], set[str]], form: str) -> float:
    """Return the share of pairs with a text in common."""
    if not len(rows):
        return float("nan")
    return float(
        np.mean([_meet(texts(i), texts(j), form) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)])
    )


def _meet(one: set[str], other: set[str], form: str) -> bool:
    if form == "substring":
        return any(a in b or b in a for a in one for b in other)
    return not one.isdisjoint(other)


def find_rule(
    official: Official, pairs: tuple[Int64s, Int64s], near: tuple[Int64s, Int64s], scores: Sequence[float]
) -> FoundRule:
    """Find the rule that pairs obey.

    Args:
        official: the files.
        pairs: positions of the captions, and of the pictures' own captions.
        near: the same of captions with those that the measure finds nearest, whatever the rule.
        scores: of the pairs.
    """
    names, notes = _Names(official), list[str]()
    labels = sorted({label for each in official.entities for _, label in each})

    def share(of: tuple[Int64s, Int64s], chosen: Iterable[str] | None, form: str) -> float:
        wanted = None if chosen is None else frozenset(chosen)
        return _share(*of, lambda caption: names.texts(caption, wanted, form), form)

    sharing = []
    for entities, chosen in zip(SETS, (None, NAMES, ("PERSON",)), strict=False):
        sharing += [Sharing(entities, form, share(pairs, chosen, form), share(near, chosen, form)) for form in FORMS]
    for form in FORMS:
        linked = [_share(*of, lambda caption: names.linked(caption, form), form) for of in (pairs, near)]  # noqa: B023
        sharing.append(Sharing("linked titles", form, *linked))

    count = len(pairs[0])
    common = [label for label in labels if share(pairs, [label], "casefold") >= 1 - OBEYED]
    common = [label for label in common if share(near, [label], "casefold") < 0.9 or not len(near[0])][:1]
    rest = [label for label in labels if label not in common]
    by_chance = {label: share(near, [label], "casefold") * count for label in rest} if len(near[0]) else {}
    kept: list[str] = []
    for label in sorted(rest, key=lambda label: -by_chance.get(label, 0)):
        if share(pairs, [*kept, label], "exact") <= OBEYED:
            kept.append(label)
    untold = sorted(label for label in kept if by_chance.get(label, 0) < CERTAIN)
    differ: tuple[str, ...] = ()
    if kept and share(near, kept, "casefold") * count >= CERTAIN:
        differ = (ALL,) if len(kept) == len(rest) else tuple(sorted(kept))
    if untold:
        notes.append(f"too few pairs would share {', '.join(untold)} by chance to tell whether they may")
    form = "casefold"
    if differ:
        wanted = rest if differ == (ALL,) else [*differ]
        broken = {form: share(pairs, wanted, form) for form in FORMS}
        by_form = {form: share(near, wanted, form) for form in FORMS}
        sharing += [Sharing(", ".join(differ), each, broken[each], by_form[each]) for each in FORMS]
        more = (by_form["substring"] - by_form["casefold"]) * count >= CERTAIN  # else the pairs cannot tell
        form = "exact" if broken["casefold"] > OBEYED else "casefold"
        form = "substring" if more and broken["substring"] <= OBEYED else form
        if form != "casefold":
            notes.append(f"names are compared as {form}, and the grammar has casefold only")
    without = tuple(label for label in labels if _is_without(official, pairs, label))
    if without:
        differ = tuple(label for label in differ if label not in without) or differ
    person = bool(official.has_person[pairs[1]].mean() >= 1 - OBEYED and official.has_person.mean() < 0.9)
    highest = max(scores, default=0.0)
    cap = next((cap for cap in CAPS if cap - _CAP_WIDTH <= highest < cap), None)
    rule = Rule(tuple(common), differ, without, picture="has_person" if person else None, cap=cap)
    return FoundRule(rule, form, sharing, notes)


def _is_without(official: Official, pairs: tuple[Int64s, Int64s], label: str) -> bool:
    """Check whether no caption of a pair has a label that many captions have."""
    has = np.array([any(each == label for _, each in entities) for entities in official.entities])
    return bool(has.mean() * len(pairs[0]) >= 2 * CERTAIN and has[np.concatenate(pairs)].mean() <= OBEYED)
