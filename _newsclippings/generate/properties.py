"""The properties of a generated config, each by a second and simpler way than the one that made it.

Nothing here is shared with the search, the assignment or the merging: rules are Python's sets and comparisons of one
pair, scores are cosines in float64, and a better picture is looked for among all of the corpus.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from _newsclippings.generate.agreement import describe_share, measure_share
from _newsclippings.generate.entity_files import EntityTable
from _newsclippings.generate.records import Records
from _newsclippings.generate.rules import ALL, Method, Recipe, Rule, parse_duration
from _newsclippings.generate.vector_files import NamedVectors
from _newsclippings.storage import lazy_property
from _newsclippings.tables import Int32s, Int64s, lookup
from _newsclippings.text import fold_name, printable

Float64s = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SHOWN: Final = 3  # faults of a property that are named
DRAWN: Final = 200  # captions of a method and a split whose pictures are compared with all others
TOLERANCE: Final = 1e-6  # of scores, where one has to be higher than another
_ERROR = 1e-8  # of a score in a file, which is computed in float64 from vectors in float32
_COPY = 0.95  # cosine of two pictures from which on one counts as a copy of the other
_BLOCK = 4096  # vectors in float64 at a time
_NEAR = 64  # pictures whose copies are looked for at a time

PROMISES: Final = {
    "P1": "form of the files, ids and digests",
    "P2": "each pair obeys its rule",
    "P3": "scores are cosines of the vectors",
    "P4": "uses of pictures; closed and balanced sets",
    "P5": "splits have nothing in common",
    "P6": "no picture is a copy of the caption's own",
    "P7": "no allowed picture scores higher",
    "P9": "merged in equal parts",
}


@dataclass
class Property:
    """Whether a config has a property.

    Attributes:
        promise: the property, in words.
        checked: how many of `of` were checked.
        of: what was checked, such as `"pairs"`.
        failed: how many faults there are.
        faults: the first of them.
        unchecked: what could not be checked, and why.
        notes: facts that are no faults.
        approximate: what holds of most of what was checked only, and of how much of it, where no more is promised.
    """

    promise: str
    of: str = "pairs"
    checked: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    approximate: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        """`"failed"`, `"passed"`, `"approximate"`, `"passed in part"`, `"not checked"` or `"not promised"`."""
        if self.failed:
            return "failed"
        if self.checked:
            return "passed in part" if self.unchecked else "approximate" if self.approximate else "passed"
        return "not checked" if self.unchecked else "not promised"

    def fail(self, fault: str) -> None:
        """Count a fault, and keep it if it is among the first."""
        self.failed += 1
        if self.failed <= SHOWN:
            self.faults.append(printable(fault))

    def skip(self, why: str) -> None:
        """Note that something cannot be checked."""
        if why not in self.unchecked:
            self.unchecked.append(why)


class Pair(NamedTuple):
    """A falsified row: ids of a caption and of a picture, the score, and the position of the method."""

    caption: int
    picture: int
    score: float
    method: int


@dataclass
class Facts:
    """What is known of the captions of a corpus, as far as it is given.

    Attributes:
        records: the captions.
        entities: of captions.
        vectors: by name, those that are given.
        present: bool (N,), whether the picture of each caption is there.
        contents: int32 (N,), equal for equal pictures, -1 for pictures that no other one is equal to.
        copies_by: name of the vectors by which copies are recognised; None for none.
        shares: split -> its share; None for the official splits.
        absent: input -> why it is not there, of those that are not.
    """

    records: Records | None
    entities: EntityTable | None
    vectors: Mapping[str, NamedVectors]
    present: Bools | None
    contents: Int32s | None
    copies_by: str | None
    shares: Mapping[str, float] | None
    absent: Mapping[str, str]

    @lazy_property
    def place(self) -> dict[int, int]:
        """Id -> position of the caption."""
        return {} if self.records is None else {number: k for k, number in enumerate(self.records.ids.tolist())}

    @lazy_property
    def _entity_place(self) -> dict[int, int]:
        return {} if self.entities is None else {number: k for k, number in enumerate(self.entities.ids.tolist())}

    @lazy_property
    def _texts(self) -> dict[str, list[str | None]]:
        return {}

    @lazy_property
    def _named(self) -> dict[int, list[tuple[str, str]]]:
        return {}

    def texts(self, name: str) -> list[str | None]:
        """Return a column of all captions."""
        if self.records is None:
            return []
        if name not in self._texts:
            self._texts[name] = self.records.column(name).to_pylist()
        return self._texts[name]

    def value(self, number: int, name: str) -> str:
        """Return a value of a caption by its id; "" if it is unknown."""
        return self.texts(name)[self.place[number]] or ""

    def named(self, number: int) -> list[tuple[str, str]] | None:
        """Return the entities of a caption by its id, as names in one form and labels; None if none are known."""
        if number not in self._entity_place or self.entities is None:
            return None
        if number not in self._named:
            given = self.entities.entities[self._entity_place[number]].as_py()
            self._named[number] = [(fold_name(each["text"]), each["label"]) for each in given]
        return self._named[number]

    def names(self, number: int, labels: Sequence[str], but: Sequence[str] = ()) -> set[str]:
        """Return the names of some labels, `*` for all except `but`, that a caption has."""
        return {
            name for name, label in self.named(number) or () if label in labels or (ALL in labels and label not in but)
        }

    def unit(self, name: str, ids: Int64s) -> Float64s:
        """Return vectors of length 1 as they are compared, rounded to float32, in float64; they are there."""
        vectors = self.vectors[name].read(ids).astype(np.float64)
        vectors /= np.sqrt((vectors * vectors).sum(axis=1))[:, None]
        return vectors.astype(np.float32).astype(np.float64)

    @property
    def lacks_copies(self) -> str | None:
        """Why copies of pictures, and so the splits of a corpus, cannot be known as they were; None if they can."""
        return next(
            (self.absent[name] for name in ("pictures", f"vectors {self.copies_by}") if name in self.absent), None
        )

    def cosines(self, query: str, against: str, ids: Int64s, others: Int64s) -> Float64s:
        """Return the cosine of each pair of vectors; NaN where one is not there."""
        scores = np.full(len(ids), np.nan)
        known = (lookup(self.vectors[query].ids, ids) >= 0) & (lookup(self.vectors[against].ids, others) >= 0)
        rows = np.flatnonzero(known)
        for start in range(0, len(rows), _BLOCK):
            some = rows[start : start + _BLOCK]
            scores[some] = (self.unit(query, ids[some]) * self.unit(against, others[some])).sum(axis=1)
        return scores

    def lack(self, names: Iterable[str]) -> str | None:
        """Return why vectors are not there; None if all are."""
        return next((self.absent[f"vectors {name}"] for name in names if name not in self.vectors), None)


def break_rule(facts: Facts, rule: Rule, caption: int, picture: int, score: float, margin: float = 0.0) -> str | None:
    """Return what of a rule a pair breaks; None if nothing that can be checked.

    Args:
        facts: what is known.
        rule: the rule.
        caption: its id.
        picture: the id of its own caption.
        score: of the pair.
        margin: how far the score has to be inside of floor and cap.
    """
    if rule.cap is not None and not score < rule.cap - margin:
        return f"the score {score:.6f} is not below cap {rule.cap}"
    if rule.floor is not None and not score >= rule.floor + margin:
        return f"the score {score:.6f} is below floor {rule.floor}"
    if facts.records is not None:
        for name in (*rule.same, *rule.other):
            mine, other = facts.value(caption, name), facts.value(picture, name)
            if name in rule.same and not (mine and mine == other):
                return f"not the same {name}: {mine!r} and {other!r}"
            if name in rule.other and not (mine and other and mine != other):
                return f"no other {name}: {mine!r} and {other!r}"
        times = facts.records.times
        if rule.gap or rule.within:
            apart = math.nan if times is None else abs(times[facts.place[caption]] - times[facts.place[picture]])
            if rule.gap and not apart >= (parse_duration("gap", rule.gap) or 0):
                return f"{apart / 86_400:.2f} days apart, gap {rule.gap}"
            if rule.within and not apart <= (parse_duration("within", rule.within) or 0):
                return f"{apart / 86_400:.2f} days apart, within {rule.within}"
        persons = facts.records.has_person
        if rule.picture and (persons is None or not persons[facts.place[picture]]):
            return "no person is known to be in the picture"
    if facts.entities is not None and (rule.share or rule.differ or rule.without):
        for number in (caption, picture):
            if facts.named(number) is None:
                return f"caption {number} has no entities in the file"
            if has := facts.names(number, rule.without):
                return f"caption {number} has {_some(has)}, without {', '.join(rule.without)}"
        if rule.share and not facts.names(caption, rule.share) & facts.names(picture, rule.share):
            return f"nothing in common, share {', '.join(rule.share)}"
        but = rule.share
        if both := facts.names(caption, rule.differ, but) & facts.names(picture, rule.differ, but):
            return f"{_some(both)} in common, differ {', '.join(rule.differ)}"
    return None


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3])


def _where(split: str, pair: Pair) -> str:
    return f"{split}: caption {pair.caption} with picture {pair.picture}"


Pairs = Mapping[str, Sequence[Pair]]  # split -> its pairs


def check_rules(found: Property, facts: Facts, recipe: Recipe, pairs: Pairs) -> None:
    """P2: each pair obeys its rule, as far as what the rule is about is given."""
    judged = []
    for method in recipe.methods:
        rule = method.rule
        parts = {
            "scores": rule.cap is not None or rule.floor is not None,
            "entities": bool(rule.share or rule.differ or rule.without),
            "corpus": bool(rule.same or rule.other or rule.gap or rule.within or rule.picture),
        }
        asked = [name for name, there in parts.items() if there]
        lacking = [name for name in asked if name in facts.absent]
        for name in lacking:
            found.skip(f"{method.name}: {facts.absent[name]}")
        judged.append(not asked or len(lacking) < len(asked))
    for split, pair in _each(facts, pairs):
        found.checked += judged[pair.method]
        if broken := break_rule(facts, recipe.methods[pair.method].rule, pair.caption, pair.picture, pair.score):
            found.fail(f"{_where(split, pair)} ({recipe.methods[pair.method].name}): {broken}")


def _each(facts: Facts, pairs: Pairs) -> Iterator[tuple[str, Pair]]:
    """Yield the pairs whose ids are known, as far as the corpus is given."""
    for split, several in pairs.items():
        for pair in several:
            if facts.records is None or (pair.caption in facts.place and pair.picture in facts.place):
                yield split, pair


def check_scores(found: Property, facts: Facts, recipe: Recipe, pairs: Pairs) -> None:
    """P3: the score of each pair is the cosine of the two vectors."""
    for number, method in enumerate(recipe.methods):
        if why := facts.lack((method.query, method.against)):
            found.skip(f"{method.name}: {why}")
            continue
        for split, several in pairs.items():
            mine = [pair for pair in several if pair.method == number]
            ids = np.array([pair.caption for pair in mine], np.int64)
            scores = facts.cosines(method.query, method.against, ids, np.array([p.picture for p in mine], np.int64))
            found.checked += len(mine)
            for pair, score in zip(mine, scores.tolist(), strict=True):
                if math.isnan(score):
                    found.fail(f"{_where(split, pair)} ({method.name}): one has no vector")
                elif not abs(score - pair.score) <= _ERROR:
                    found.fail(f"{_where(split, pair)} ({method.name}): {pair.score:.9f}, the cosine is {score:.9f}")


def check_uses(found: Property, facts: Facts, recipe: Recipe, pairs: Pairs) -> None:
    """P4: how often pictures are used; closed sets are closed, and balanced ones balanced."""
    for split, several in pairs.items():
        for number, method in enumerate(recipe.methods):
            mine = [pair for pair in several if pair.method == number]
            found.checked += len(mine)
            for pair in mine:
                if pair.caption == pair.picture:
                    found.fail(f"{_where(split, pair)} ({method.name}): its own")
            uses = Counter(pair.picture for pair in mine)
            for picture, count in uses.items():
                if method.uses is not None and count > method.uses:
                    found.fail(f"{split}: picture {picture} ({method.name}): {count} uses, at most {method.uses}")
            given = {pair.caption: pair.picture for pair in mine}
            for pair in mine:
                if method.closed and not (pair.caption in uses and pair.picture in given):
                    found.fail(f"{_where(split, pair)} ({method.name}): not in a closed set")
                if method.balance and given.get(pair.picture) != pair.caption:
                    found.fail(f"{_where(split, pair)} ({method.name}): not half of a swap")
            if method.balance:
                _check_balance(found, facts, method, split, mine)


def _check_balance(found: Property, facts: Facts, method: Method, split: str, mine: Sequence[Pair]) -> None:
    """Check that a model of captions and pictures prefers the true picture in half of the pairs."""
    if why := facts.lack({method.query, method.against}):
        found.skip(f"{method.name}: balance: {why}")
        return
    names = margin_names(facts, method)
    if why := facts.lack(names):
        found.skip(f"{method.name}: balance: {why}")
        return
    captions, pictures = (np.array([pair[side] for pair in mine], np.int64) for side in (0, 1))
    gains = facts.cosines(*names, captions, pictures) - facts.cosines(*names, captions, captions)
    better, worse = int((gains > TOLERANCE).sum()), int((gains < -TOLERANCE).sum())
    if max(better, worse) * 2 > len(mine):
        found.fail(f"{split} ({method.name}): the falsified picture scores higher {better} times, lower {worse} times")


def margin_names(facts: Facts, method: Method) -> tuple[str, str]:
    """Return the vectors of captions and of pictures by which a method is balanced."""
    if [facts.vectors[name].of for name in (method.query, method.against)] == ["captions", "pictures"]:
        return method.query, method.against
    return "clip_text", "clip_image"


class Groups:
    """Which captions are connected: found by going from one to its neighbours."""

    def __init__(self, facts: Facts) -> None:
        """Index what connects captions.

        Args:
            facts: what is known; the corpus is.
        """
        self._facts = facts
        paths = facts.texts("image_path")
        codes = [-1] * len(paths) if facts.contents is None else facts.contents.tolist()
        captions = [fold_name(text or "") for text in facts.texts("caption")]
        self._copies = [_Index(paths), _Index([code if code >= 0 else None for code in codes])]
        self._all = [*self._copies, _Index(captions), _Index(facts.texts("article"))]
        self._near: dict[int, list[int]] = {}
        self._known: dict[tuple[int, bool], frozenset[int]] = {}
        self._rows: Int64s = np.empty(0, np.int64)
        if facts.copies_by is not None and facts.copies_by in facts.vectors and facts.records is not None:
            ids = facts.records.ids
            self._rows = np.flatnonzero(lookup(facts.vectors[facts.copies_by].ids, ids) >= 0)
            width = facts.vectors[facts.copies_by].facts.width
            self._vectors = np.empty((len(self._rows), width), np.float32)
            for start in range(0, len(self._rows), _BLOCK):
                some = slice(start, start + _BLOCK)
                self._vectors[some] = facts.unit(facts.copies_by, ids[self._rows[some]])

    def prepare(self, places: Iterable[int]) -> None:
        """Find the copies of some pictures, and of those of equal captions and articles, many at a time."""
        several = [*places]
        self._find_near({*several, *(other for k in several for index in self._all for other in index.equal(k))})

    def _find_near(self, places: set[int]) -> None:
        """Find the pictures that vectors take for copies of some pictures."""
        todo = np.array(sorted(places - self._near.keys()), np.int64)
        self._near.update((place, []) for place in todo.tolist())
        at = lookup(self._rows, todo)
        todo, at = todo[at >= 0], at[at >= 0]
        for start in range(0, len(todo), _NEAR):
            some = at[start : start + _NEAR]
            rows, columns = np.nonzero(self._vectors @ self._vectors[some].T >= _COPY - 1e-4)
            exact = (self._vectors[rows].astype(np.float64) * self._vectors[some[columns]]).sum(axis=1)
            for row, column in zip(rows[exact >= _COPY].tolist(), columns[exact >= _COPY].tolist(), strict=True):
                self._near[int(todo[start + column])].append(int(self._rows[row]))

    def group(self, place: int, *, copies: bool) -> frozenset[int]:
        """Return the captions that a caption is connected with: by copies of pictures only, or by all that is equal."""
        if (place, copies) not in self._known:
            found, border = {place}, {place}
            while border:
                self._find_near(border)
                border = {
                    other
                    for each in border
                    for several in (self._near[each], *(i.equal(each) for i in (self._copies if copies else self._all)))
                    for other in several
                } - found
                found |= border
            for each in found:
                self._known[each, copies] = frozenset(found)
        return self._known[place, copies]

    @lazy_property
    def _official(self) -> dict[int, str]:
        splits = None if self._facts.records is None else self._facts.records.splits
        return {place: split for split, places in (splits or {}).items() for place in places.tolist()}

    def split(self, place: int) -> str:
        """Return the split that a caption belongs to."""
        if self._facts.shares is None or self._facts.records is None:
            return self._official[place]
        first = min(self._facts.records.ids[[*self.group(place, copies=False)]].tolist())
        drawn = int(hashlib.sha256(str(first).encode()).hexdigest()[:16], 16) / 2**64
        below, last = 0.0, ""
        for split, share in self._facts.shares.items():
            below, last = below + share, split
            if drawn < below:
                break
        return last


class _Index:
    """Which captions have a value."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._places: dict[Any, list[int]] = defaultdict(list)
        for place, value in enumerate(values):
            if value not in ("", None):
                self._places[value].append(place)

    def equal(self, place: int) -> list[int]:
        return self._places.get(self._values[place], [])


def sample(items: Sequence[Any], count: int = DRAWN) -> list[Any]:
    """Draw some items, always the same ones."""
    if len(items) <= count:
        return [*items]
    return [items[k] for k in sorted(np.random.default_rng(0).choice(len(items), count, replace=False).tolist())]


def check_splits(found: Property, facts: Facts, groups: Groups | None, pairs: Pairs) -> None:
    """P5: splits have no caption, article, picture or copy of a picture in common, and their captions are their own.

    The official splits share no ids. What else they have in common is a note, because nothing else is promised.
    """
    ids = {split: {number for p in several for number in (p.caption, p.picture)} for split, several in pairs.items()}
    found.checked = sum(map(len, pairs.values()))
    for fault in _find_common("id", ids, lambda number: number):
        found.fail(fault)
    if groups is None or facts.records is None:
        found.skip(f"captions, articles and copies of pictures: {facts.absent['corpus']}")
        return
    for name in ("pictures", f"vectors {facts.copies_by}"):
        if name in facts.absent:
            found.skip(f"copies of pictures, and whose split an id is: {facts.absent[name]}")
    known = {split: {number for number in own if number in facts.place} for split, own in ids.items()}
    captions = {split: {p.caption for p in several} & known[split] for split, several in pairs.items()}
    codes = None if facts.contents is None else facts.contents.tolist()
    common = {
        "captions": _find_common("caption", captions, lambda number: fold_name(facts.value(number, "caption"))),
        "articles": _find_common("article", known, lambda number: facts.value(number, "article")),
        "paths": _find_common("path", known, lambda number: facts.value(number, "image_path")),
        "pictures": _find_common("picture", known, lambda n: codes[facts.place[n]] + 1 if codes else None),
    }
    drawn = {split: sample(sorted(own)) for split, own in known.items()}
    groups.prepare(facts.place[number] for own in drawn.values() for number in own)
    split_of = {number: split for split, own in known.items() for number in own}
    copies = common["near copies"] = []
    for split, own in drawn.items():
        for number in own:
            known_splits = facts.shares is None or facts.lacks_copies is None
            if known_splits and (right := groups.split(facts.place[number])) != split:
                found.fail(f"{split}: id {number} belongs to {right}")
            others = facts.records.ids[sorted(groups.group(facts.place[number], copies=True))].tolist()
            crossing = [other for other in others if split_of.get(other, split) != split]
            copies += [f"{split}: picture {number} is a copy of {n}, which is in {split_of[n]}" for n in crossing[:1]]
    for what, faults in common.items():
        if facts.shares is None and faults:
            found.notes.append(f"the official splits have {len(faults):,} {what} in common; only ids are promised")
        elif facts.shares is not None:
            for fault in faults:
                found.fail(fault)
    if sum(map(len, drawn.values())) < sum(map(len, known.values())):
        found.notes.append(f"near copies, and whose split an id is: of {DRAWN} ids of each split, drawn at random")


def _find_common(what: str, ids: Mapping[str, set[int]], value: Callable[[int], Any]) -> list[str]:
    """Return a fault for each value of an id that another split has, too; 0 and "" are no values."""
    first: dict[Any, tuple[str, int]] = {}
    faults: dict[tuple[str, Any], str] = {}
    for split, own in ids.items():
        for number in sorted(own):
            if found := value(number):
                there, other = first.setdefault(found, (split, number))
                if there != split:
                    faults.setdefault((split, found), f"{split}: {what} of id {number} is that of {other} in {there}")
    return [*faults.values()]


def check_copies(found: Property, facts: Facts, groups: Groups | None, pairs: Pairs) -> None:
    """P6: the falsified picture is not a copy of the caption's own."""
    if groups is None:
        found.skip(facts.absent["corpus"])
    if facts.copies_by is not None and facts.copies_by not in facts.vectors:
        found.skip(facts.absent[f"vectors {facts.copies_by}"])
    if "pictures" in facts.absent:
        found.skip(facts.absent["pictures"])
    for split, several in pairs.items():
        known = [pair for _, pair in _each(facts, {split: several})]
        near = np.full(len(known), np.nan)
        if facts.copies_by is not None and facts.copies_by in facts.vectors:
            ids, others = (np.array([pair[side] for pair in known], np.int64) for side in (0, 1))
            near = facts.cosines(facts.copies_by, facts.copies_by, ids, others)
        elif groups is None:
            continue
        found.checked += len(known)
        for pair, score in zip(known, near.tolist(), strict=True):
            same = None
            if score >= _COPY + TOLERANCE:
                same = f"their vectors {facts.copies_by} have the cosine {score:.4f}"
            elif groups is not None:
                one, other = facts.place[pair.caption], facts.place[pair.picture]
                if facts.value(pair.caption, "image_path") == facts.value(pair.picture, "image_path"):
                    same = "both have the same path"
                elif facts.contents is not None and facts.contents[one] == facts.contents[other] >= 0:
                    same = "both files have the same content"
            if same:
                found.fail(f"{_where(split, pair)}: a copy of the own one, {same}")


def check_best(
    found: Property,
    facts: Facts,
    groups: Groups | None,
    recipe: Recipe,
    pairs: Pairs,
    approximate: Mapping[tuple[str, str], str],
) -> None:
    """P7: for captions that are drawn at random, no allowed picture scores higher and is free, or would rather be used.

    Of merged, closed and balanced methods only some matches are in the file. There a picture counts as taken, unless
    all of its uses are in the file; and captions that have no match are not judged.

    Of approximate matches it is only counted how many captions have a better picture. Captions without a match have
    none, as in exact ones, unless there is a floor, below which an approximate search looks no further.

    Args:
        found: what is found is added to it.
        facts: what is known.
        groups: which captions are connected; None if the corpus is not given.
        recipe: the recipe.
        pairs: the matches.
        approximate: split and method -> what was measured when its matches were made, of those that are approximate.
    """
    found.of = "captions"
    for number, method in enumerate(recipe.methods):
        rule = method.rule
        needs_entities = rule.share or rule.differ or rule.without
        names = [method.query, method.against]
        why = facts.lack(names)
        if not why and method.balance:
            names += margin_names(facts, method)
            why = facts.lack(names)
        if groups is None:
            why = facts.absent["corpus"]
        elif needs_entities and facts.entities is None:
            why = facts.absent["entities"]
        why = why or facts.lacks_copies
        if why or groups is None or facts.records is None:
            found.skip(f"{method.name}: {why}")
            continue
        eligible = np.ones(len(facts.records), bool)
        for name in names:
            eligible &= lookup(facts.vectors[name].ids, facts.records.ids) >= 0
        if needs_entities and facts.entities is not None:
            eligible &= lookup(facts.entities.ids, facts.records.ids) >= 0
        eligible &= np.array([bool((text or "").strip()) for text in facts.texts("caption")])
        if facts.present is not None:
            eligible &= facts.present
        partial = method.closed or method.balance is not None or (recipe.merge is not None and len(recipe.methods) > 1)
        mine = [(split, pair) for split, pair in _each(facts, pairs) if pair.method == number]
        if partial and method.uses is not None:
            found.notes.append(
                f"{method.name}: only a part of its matches is in the file, so a picture that the file does not use up "
                "counts as taken, and captions without a match are not judged"
            )
        said = {split: text for (split, name), text in approximate.items() if name == method.name}
        _Scan(facts, groups, method, eligible, mine, partial, said).check(found)


@dataclass
class _Scan:
    """Looks for better pictures for the captions of a method.

    Attributes:
        facts: what is known.
        groups: which captions are connected.
        method: the method.
        eligible: bool (N,), captions that take part.
        pairs: split and pair, of all matches of the method.
        partial: whether other matches were made, and left out of the file.
        approximate: split -> what was measured when its matches were made, of those that are approximate.
    """

    facts: Facts
    groups: Groups
    method: Method
    eligible: Bools
    pairs: list[tuple[str, Pair]]
    partial: bool
    approximate: Mapping[str, str]

    def check(self, found: Property) -> None:
        """Check some captions that have a match, and some that have none."""
        facts, place = self.facts, self.facts.place
        by_split: dict[str, list[Pair]] = defaultdict(list)
        for split, pair in self.pairs:
            by_split[split].append(pair)
        ids = [] if facts.records is None else facts.records.ids.tolist()
        asked: list[tuple[str, int, Pair | None]] = [
            (split, pair.caption, pair) for split, some in by_split.items() for pair in sample(some)
        ]
        self.groups.prepare(place[caption] for _, caption, _ in asked)
        matched = {place[pair.caption] for _, pair in self.pairs}
        if not self.partial:
            without = sample([k for k in np.flatnonzero(self.eligible).tolist() if k not in matched], DRAWN // 2)
            self.groups.prepare(without)
            asked += [(self.groups.split(k), ids[k], None) for k in without]
        found.checked += len(asked)
        split_of = {place[pair.caption]: split for split, pair in self.pairs}
        missed: Counter[str] = Counter()
        for split, caption, match, better in self._find(asked):
            copies = self.groups.group(place[caption], copies=True)
            for other, score in better:
                if other in copies or break_rule(facts, self.method.rule, caption, ids[other], score, TOLERANCE):
                    continue
                if (split_of.get(other) or self.groups.split(other)) == split:
                    if split in self.approximate and (match is not None or self.method.rule.floor is not None):
                        missed[split] += match is not None
                        break
                    has = "no match" if match is None else f"picture {match.picture} with {match.score:.6f}"
                    taken = "is free for it" if self.method.uses is not None else "is allowed"
                    found.fail(
                        f"{split}: caption {caption} ({self.method.name}) has {has}, but picture {ids[other]} scores "
                        f"{score:.6f} and {taken}"
                    )
                    break
        for split, said in self.approximate.items():
            if drawn := min(DRAWN, len(by_split[split])):
                share = describe_share(measure_share(drawn - missed[split], drawn))
                found.approximate.append(
                    f"{split} ({self.method.name}): approximate, agreement measured again: {share} of {drawn} captions "
                    f"have the best picture that is free for them. When it was made, {said}"
                )

    def _find(
        self, asked: Sequence[tuple[str, int, Pair | None]]
    ) -> Iterator[tuple[str, int, Pair | None, Iterable[tuple[int, float]]]]:
        """Yield for each caption the pictures that score higher and would rather be used by it, the best first."""
        facts, method = self.facts, self.method
        worst = np.full(len(self.eligible), np.inf if self.partial and method.uses is not None else -np.inf)
        if method.uses is not None:
            scores: dict[int, list[float]] = defaultdict(list)
            for _, pair in self.pairs:
                scores[facts.place[pair.picture]].append(pair.score)
            for at, held in scores.items():
                if len(held) >= method.uses:
                    worst[at] = min(held)
        if facts.records is None or not asked:
            return
        ids, places = facts.records.ids, np.flatnonzero(self.eligible)
        own = np.array([-np.inf if pair is None else pair.score for _, _, pair in asked])
        rows = [k for k, (_, caption, _) in enumerate(asked) if self.eligible[facts.place[caption]]]
        query = facts.unit(method.query, np.array([asked[k][1] for k in rows], np.int64))
        found: list[list[tuple[Int64s, Float64s]]] = [[] for _ in asked]
        for start in range(0, len(places), _BLOCK):
            some = places[start : start + _BLOCK]
            products = query @ facts.unit(method.against, ids[some]).T
            better = products > np.maximum(own[rows][:, None], worst[some][None, :]) + TOLERANCE
            for row, those, of_row in zip(rows, better, products, strict=True):
                if those.any():
                    found[row].append((some[those], of_row[those]))
        allowed = self._allow_by_names()
        for (split, caption, match), several in zip(asked, found, strict=True):
            others, of_them = (np.concatenate([np.empty(0), *(part[k] for part in several)]) for k in (0, 1))
            others = others.astype(np.int64)
            kept = allowed(caption)[others] & (others != facts.place[caption])
            order = np.argsort(-of_them[kept], kind="stable")
            yield split, caption, match, zip(others[kept][order].tolist(), of_them[kept][order].tolist(), strict=True)

    def _allow_by_names(self) -> Callable[[int], Bools]:
        """Return what finds the captions that the entities of one do not exclude, so that few pairs are looked at."""
        facts, rule = self.facts, self.method.rule
        sides = ((rule.share, ()), (rule.differ, rule.share))
        owners: list[dict[str, list[int]]] = [defaultdict(list), defaultdict(list)]
        if facts.entities is not None and facts.records is not None and (rule.share or rule.differ):
            ids = facts.records.ids.tolist()
            for place in np.flatnonzero(self.eligible).tolist():
                for of_side, (labels, but) in zip(owners, sides, strict=True):
                    for name in facts.names(ids[place], labels, but):
                        of_side[name].append(place)

        def allow(caption: int) -> Bools:
            allowed = np.full(len(self.eligible), not rule.share)
            for of_side, (labels, but), value in zip(owners, sides, (True, False), strict=True):
                for name in facts.names(caption, labels, but):
                    allowed[of_side[name]] = value
            return allowed

        return allow


def check_merge(found: Property, recipe: Recipe, pairs: Pairs) -> None:
    """P9: of a merged config each method has as many pairs, and a caption is in one."""
    if recipe.merge is None or len(recipe.methods) < 2:
        return
    for split, several in pairs.items():
        found.checked += len(several)
        counts = Counter(pair.method for pair in several)
        numbers = {method.name: counts[k] for k, method in enumerate(recipe.methods)}
        if len({*numbers.values()}) > 1:
            found.fail(f"{split}: {', '.join(f'{name} has {count:,}' for name, count in numbers.items())} pairs")
        first: dict[int, int] = {}
        for pair in several:
            if first.setdefault(pair.caption, pair.method) != pair.method:
                names = [recipe.methods[k].name for k in (first[pair.caption], pair.method)]
                found.fail(f"{split}: caption {pair.caption} is in {names[0]} and in {names[1]}")
