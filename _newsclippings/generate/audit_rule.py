"""Which rule the pairs of a source obey: the second question of an audit."""

from collections.abc import Collection, Iterable, Sequence
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


class _Meetings:
    """Which entities some pairs of captions have in common: found once, for any set of labels to be asked later.

    Two entities meet if the folded name of one is a part of that of the other. Equal names have equal folded names, and
    these are parts of each other, so that one number says by which of `FORMS` they are the same.
    """

    def __init__(
        self, entities: Sequence[Iterable[tuple[str, str]]], labels: Sequence[str], rows: Int64s, columns: Int64s
    ) -> None:
        numbers = {label: number for number, label in enumerate(labels)}
        folded = {
            caption: [(text, fold_name(text), numbers[label]) for text, label in {*entities[caption]}]
            for caption in np.unique(np.concatenate([rows, columns])).tolist()
        }
        met = []
        for pair, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            for text, name, label in folded[row]:
                for other_text, other, other_label in folded[column]:
                    if name in other or other in name:
                        form = 0 if text == other_text else 1 if name == other else 2
                        met.append((pair, label, other_label, form))
        self._count, self._labels = len(rows), labels
        self._pairs, self._first, self._second, self._forms = np.array(met, np.int64).reshape(-1, 4).T

    def share(self, labels: Collection[str] | None, form: str) -> float:
        """Return the share of pairs with an entity of some labels (None: all) in common; NaN if there are no pairs."""
        if not self._count:
            return float("nan")
        wanted = np.array([labels is None or label in labels for label in self._labels], bool)
        same = wanted[self._first] & wanted[self._second] & (self._forms <= FORMS.index(form))
        return len(np.unique(self._pairs[same])) / self._count


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
    labels, notes = sorted({label for each in official.entities for _, label in each}), list[str]()
    ours, theirs = (_Meetings(official.entities, labels, *of) for of in (pairs, near))
    titles = [[(title, "") for title in each] for each in official.linked]
    linked = [_Meetings(titles, [""], *of) for of in (pairs, near)]

    sharing = []
    for entities, chosen in zip(SETS, (None, NAMES, ("PERSON",)), strict=False):
        sharing += [Sharing(entities, form, ours.share(chosen, form), theirs.share(chosen, form)) for form in FORMS]
    sharing += [Sharing(SETS[-1], form, *(each.share(None, form) for each in linked)) for form in FORMS]

    count = len(pairs[0])
    common = [label for label in labels if ours.share([label], "casefold") >= 1 - OBEYED]
    common = [label for label in common if theirs.share([label], "casefold") < 0.9 or not len(near[0])][:1]
    rest = [label for label in labels if label not in common]
    by_chance = {label: theirs.share([label], "casefold") * count for label in rest} if len(near[0]) else {}
    kept: list[str] = []
    for label in sorted(rest, key=lambda label: -by_chance.get(label, 0)):
        if ours.share([*kept, label], "exact") <= OBEYED:
            kept.append(label)
    untold = sorted(label for label in kept if by_chance.get(label, 0) < CERTAIN)
    differ: tuple[str, ...] = ()
    if kept and theirs.share(kept, "casefold") * count >= CERTAIN:
        differ = (ALL,) if len(kept) == len(rest) else tuple(sorted(kept))
    if untold:
        notes.append(f"too few pairs would share {', '.join(untold)} by chance to tell whether they may")
    form = "casefold"
    if differ:
        wanted = rest if differ == (ALL,) else [*differ]
        broken = {form: ours.share(wanted, form) for form in FORMS}
        by_form = {form: theirs.share(wanted, form) for form in FORMS}
        sharing += [Sharing(", ".join(differ), each, broken[each], by_form[each]) for each in FORMS]
        more = (by_form["substring"] - by_form["casefold"]) * count >= CERTAIN  # else the pairs cannot tell
        form = "exact" if broken["casefold"] > OBEYED else "casefold"
        form = "substring" if more and broken["substring"] <= OBEYED else form
        if form != "casefold":
            notes.append(f"names are compared as {form}, and the grammar has casefold only")
    has = np.zeros((len(official.ids), len(labels)), bool)
    for caption, each in enumerate(official.entities):
        has[caption, [labels.index(label) for _, label in each]] = True
    frequent = has.mean(axis=0) * count >= 2 * CERTAIN
    absent = has[np.concatenate(pairs)].mean(axis=0) <= OBEYED
    without = tuple(label for label, both in zip(labels, frequent & absent, strict=True) if both)
    if without:
        differ = tuple(label for label in differ if label not in without) or differ
    person = bool(official.has_person[pairs[1]].mean() >= 1 - OBEYED and official.has_person.mean() < 0.9)
    highest = max(scores, default=0.0)
    cap = next((cap for cap in CAPS if cap - _CAP_WIDTH <= highest < cap), None)
    rule = Rule(tuple(common), differ, without, picture="has_person" if person else None, cap=cap)
    return FoundRule(rule, form, sharing, notes)
