"""What makes a caption and the picture of another one a match: rules, methods that use them, and recipes of methods."""

import json
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeVar

from _newsclippings.config import bad_value
from _newsclippings.errors import ConfigError
from _newsclippings.facts import CONFIGS, SPLITS
from _newsclippings.generated import MOST_METHODS, RESERVED
from _newsclippings.text import did_you_mean, short_repr

ALL: Final = "*"  # every label; in `differ`, every label that is not in `share`
PICTURES: Final = ("has_person",)
BALANCES: Final = ("zero-shot",)
MERGES: Final = ("balanced",)
MOST_USES: Final = 100
UNLIMITED: Final = "unlimited"  # how a recipe writes uses=None
LABELS: Final = (  # of spaCy's English models
    "CARDINAL", "DATE", "EVENT", "FAC", "GPE", "LANGUAGE", "LAW", "LOC", "MONEY", "NORP", "ORDINAL", "ORG", "PERCENT",
    "PERSON", "PRODUCT", "QUANTITY", "TIME", "WORK_OF_ART",
)  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_MOST_LETTERS = 200  # of a label or a column
_DURATION = re.compile(r"([1-9][0-9]{0,4})([dh])")
_SECONDS = {"d": 86_400, "h": 3_600}
SCORES: Final = ("floor", "cap")  # of a rule, which a recipe has beside it
DEFAULT_SPLITS: Final = {"train": 0.8, "validation": 0.1, "test": 0.1}  # of a corpus without official splits
_RULE_LISTS = ("share", "differ", "without", "same", "other")
_Table = TypeVar("_Table")


def _check_name(field: str, value: object) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        message = f"{field}={short_repr(value)} is no name. Use lower-case letters, digits and _, at most 63."
        raise ConfigError(message)


def _check_names(field: str, value: object) -> tuple[str, ...]:
    """Return one label or column, or several, as a tuple without repetitions."""
    names = [value] if isinstance(value, str) else value
    labels = field in ("share", "differ", "without")
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) and name.isprintable() and 0 < len(name) <= _MOST_LETTERS and (labels or name != ALL)
        for name in names
    ):
        expected = "labels of entities, such as ['PERSON'], or ['*']" if labels else "columns, such as ['topic']"
        message = f"rule: {field}={short_repr(value)}; expected {expected}."
        raise ConfigError(message)
    return tuple(dict.fromkeys(names))


def parse_duration(field: str, value: object) -> int | None:
    """Return the seconds of a text such as `180d` or `12h`; None if it is None."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        message = f"rule: {field}={short_repr(value)} is no time. Write days or hours, such as '180d' or '12h'."
        raise ConfigError(message)
    return int(match[1]) * _SECONDS[match[2]]


def _check_score(field: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or abs(value) > 1:
        message = f"rule: {field}={short_repr(value)} is no score. Scores are cosines, from -1 to 1."
        raise ConfigError(message)
    return float(value)


@dataclass(frozen=True)
class Rule:
    """What has to be true of a caption and another caption, whose picture it gets.

    Attributes:
        share: labels of entities. The captions have at least one entity of these labels in common.
        differ: labels of entities. The captions have no entity of these labels in common. `"*"`: all labels but those
            in `share`.
        without: labels of entities. Neither caption has an entity of these labels.
        same: columns, such as `topic`, in which both have one value. An unknown value is the same as none.
        other: columns in which they have different values. An unknown value differs from none.
        gap: the least time between them, such as `"180d"` or `"12h"`. An unknown time is never allowed.
        within: the most time between them.
        picture: `"has_person"`: there is a person in the picture.
        floor: the score is at least this.
        cap: the score is below this.

    Raises:
        ConfigError: a value cannot be used, or two contradict each other.
    """

    share: tuple[str, ...] = ()
    differ: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    gap: str | None = None
    within: str | None = None
    picture: str | None = None
    floor: float | None = None
    cap: float | None = None

    def __post_init__(self) -> None:
        for name in _RULE_LISTS:
            object.__setattr__(self, name, _check_names(name, getattr(self, name)))
        if self.picture is not None and self.picture not in PICTURES:
            raise bad_value("picture", self.picture, PICTURES)
        for first, second in (("share", "differ"), ("share", "without"), ("same", "other")):
            both = sorted({*getattr(self, first)} & {*getattr(self, second)})
            if both:
                message = f"rule: {both[0]!r} is in {first} and in {second}, so no pair obeys. Leave it out of one."
                raise ConfigError(message)
        gap, within = parse_duration("gap", self.gap), parse_duration("within", self.within)
        if gap is not None and within is not None and gap > within:
            message = f"rule: gap={self.gap!r} is longer than within={self.within!r}, so no pair obeys. Change one."
            raise ConfigError(message)
        floor, cap = (_check_score(name, getattr(self, name)) for name in ("floor", "cap"))
        if floor is not None and cap is not None and floor >= cap:
            message = f"rule: floor={floor} is not below cap={cap}, so no pair obeys. Change one."
            raise ConfigError(message)

    def labels(self, field: str, known: Collection[str]) -> frozenset[str]:
        """Return the labels that a field names, among those of the corpus.

        Args:
            field: `"share"`, `"differ"` or `"without"`.
            known: the labels that occur in the corpus.

        Raises:
            ConfigError: a label is neither in the corpus nor one of spaCy's English models.
        """
        given: tuple[str, ...] = getattr(self, field)
        for label in given:
            if label not in (ALL, *known, *LABELS):
                hint = did_you_mean(label, [*known, *LABELS])
                message = f"rule: {field} has the label {label!r}, which no entity of the corpus has.{hint}"
                raise ConfigError(f"{message} Labels: {', '.join(sorted(known)) or 'none'}.")
        if ALL not in given:
            return frozenset(given)
        return frozenset(known) - frozenset(self.share if field == "differ" else ())


@dataclass(frozen=True)
class Method:
    """One way to make matches.

    Attributes:
        name: letters, digits and `_`; it becomes the source of its rows.
        query: the vectors of the captions (or of their own pictures) that look for a picture.
        against: the vectors of the pictures (or of their own captions) that are looked at.
        rule: what a pair has to obey.
        uses: how often a picture may be used; None: without limit, which lets a few pictures serve many captions and
            gives the label away to those who see only the picture.
        closed: keep only captions whose own picture is used by another caption that is kept, so that every picture
            occurs as often true as false. Needs uses=1.
        balance: `"zero-shot"`: keep only swaps (two captions with each other's picture), so many that a model of
            pictures and texts prefers the true picture in exactly half of the pairs. Needs uses=1.

    Raises:
        ConfigError: a value cannot be used, or two contradict each other.
    """

    name: str
    query: str
    against: str
    rule: Rule = Rule()
    uses: int | None = 1
    closed: bool = False
    balance: str | None = None

    def __post_init__(self) -> None:
        for field in ("name", "query", "against"):
            _check_name(field, getattr(self, field))
        if not isinstance(self.rule, Rule):
            message = f"method {self.name}: rule={short_repr(self.rule)} is not a Rule."
            raise ConfigError(message)
        if self.uses is not None and (type(self.uses) is not int or not 1 <= self.uses <= MOST_USES):
            message = (
                f"method {self.name}: uses={short_repr(self.uses)}; expected 1 to {MOST_USES}, or None for no limit "
                f"({UNLIMITED!r} in a recipe)."
            )
            raise ConfigError(message)
        if not isinstance(self.closed, bool):
            raise bad_value("closed", self.closed, (True, False))
        if self.balance is not None and self.balance not in BALANCES:
            raise bad_value("balance", self.balance, BALANCES)
        for field in ("closed", "balance"):
            if getattr(self, field) and self.uses != 1:
                message = f"method {self.name}: {field} needs uses=1, so that a picture is used by one caption."
                raise ConfigError(message)


_DIFFER = Rule(differ=(ALL,))
METHODS: Final = {
    method.name: method
    for method in (
        # After the paper
        Method("clip_text_image", "clip_text", "clip_image", _DIFFER),
        Method("clip_text_text", "clip_text", "clip_text", _DIFFER),
        Method("person", "sbert", "sbert", Rule(share=("PERSON",), differ=(ALL,), picture="has_person", cap=0.9)),
        Method("scene", "places", "places", Rule(differ=(ALL,), without=("PERSON",), cap=0.9)),
        # Further ones
        Method(
            "time_swap",
            "clip_text",
            "clip_text",
            Rule(share=("PERSON", "ORG", "EVENT"), other=("article",), gap="180d"),
        ),
        Method("place_swap", "clip_image", "clip_image", Rule(differ=("GPE", "LOC"), same=("topic",))),
        Method(
            "same_story",
            "clip_text",
            "clip_text",
            Rule(differ=(ALL,), same=("topic",), other=("article",), within="7d"),
        ),
        Method("look_alike", "facenet", "facenet", Rule(differ=("PERSON",), picture="has_person", floor=0.6)),
    )
}


@dataclass(frozen=True)
class Recipe:
    """A config to generate.

    Attributes:
        config: its name, which is none of the five official ones.
        methods: at least one, with different names.
        merge: `"balanced"`: as many matches of each method, each caption in one method only. None: all matches.
        splits: split -> its share of the captions. Captions that share a caption, an article or a picture, or whose
            pictures are nearly the same, are in one split. None: the official splits of VisualNews; for another corpus
            `DEFAULT_SPLITS`.

    Raises:
        ConfigError: a value cannot be used.
    """

    config: str
    methods: Sequence[Method]
    merge: str | None = None
    splits: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        _check_name("config", self.config)
        if self.config in CONFIGS:
            message = f"config={self.config!r} is an official config. Give yours another name, such as my_matches."
            raise ConfigError(message)
        if self.config in RESERVED:
            message = f"config={self.config!r} has another meaning. Choose another name, such as my_matches."
            raise ConfigError(message)
        if self.merge is not None and self.merge not in MERGES:
            raise bad_value("merge", self.merge, MERGES)
        if not isinstance(self.methods, list | tuple) or not all(isinstance(each, Method) for each in self.methods):
            message = f"recipe {self.config}: methods={short_repr(self.methods)}; expected a list of Method."
            raise ConfigError(message)
        object.__setattr__(self, "methods", (*self.methods,))
        names = [method.name for method in self.methods]
        if not names:
            message = f"recipe {self.config} has no method. Add a table [[method]] with a name, such as "
            raise ConfigError(f"{message}{next(iter(METHODS))}.")
        double = [name for name in names if names.count(name) > 1]
        if double:
            message = f"recipe {self.config} has several methods {double[0]!r}. Give each a name of its own."
            raise ConfigError(message)
        if len(names) > MOST_METHODS:
            message = (
                f"recipe {self.config} has {len(names)} methods, more than {MOST_METHODS}. Make two recipes of it."
            )
            raise ConfigError(message)
        if self.splits is not None:
            object.__setattr__(self, "splits", _check_shares(self.splits))

    def to_toml(self) -> str:
        """Return the recipe as TOML, with all values of its methods."""
        lines = [f"config = {_toml(self.config)}"]
        lines += [f"merge = {_toml(self.merge)}"] if self.merge is not None else []
        lines += [f"splits = {_toml(self.splits)}"] if self.splits is not None else []
        for method in self.methods:
            rule = {field.name: getattr(method.rule, field.name) for field in fields(Rule)}
            beside = {name: rule.pop(name) for name in SCORES}
            uses = UNLIMITED if method.uses is None else method.uses
            values = {field.name: getattr(method, field.name) for field in fields(Method)}
            values |= {"uses": uses, **beside, "rule": {name: value for name, value in rule.items() if value}}
            lines += ["", "[[method]]"]
            lines += [
                f"{name} = {_toml(value)}" for name, value in values.items() if value is not None and value is not False
            ]
        return "\n".join(lines) + "\n"


def _check_shares(shares: Any) -> dict[str, float]:
    """Check the shares of splits, and return them in the usual order."""
    if not isinstance(shares, Mapping) or not shares:
        message = (
            f"splits={short_repr(shares)}; expected shares, such as {{train = 0.8, validation = 0.1, test = 0.1}}."
        )
        raise ConfigError(message)
    for name, share in shares.items():
        if name not in SPLITS:
            raise bad_value("splits", name, SPLITS)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            message = f"splits: {name}={short_repr(share)}; expected a share above 0 and at most 1."
            raise ConfigError(message)
    if abs(sum(shares.values()) - 1) > 1e-6:
        message = f"splits: the shares add up to {sum(shares.values()):g}, and not to 1. Correct them."
        raise ConfigError(message)
    return {name: float(shares[name]) for name in SPLITS if name in shares}


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)  # names, numbers and booleans are written alike


def parse_recipe(text: str, place: str = "recipe") -> Recipe:
    """Read a recipe from TOML.

    Args:
        text: `config`, perhaps `merge` and `splits`, and tables `[[method]]`. A method with the name of one in
            `METHODS` has its values, unless the table has others; `rule` replaces the whole rule, except for `floor`
            and `cap`, which stand beside it.
        place: where the text is from, for messages.

    Raises:
        ConfigError: it is no TOML, a key is unknown or missing, or a value cannot be used.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = f"{place} is not TOML: {error}. Correct the file."
        raise ConfigError(message) from error
    try:
        _check_keys("the recipe", table, ("config", "merge", "splits", "method"), ("config",))
        methods = table.get("method", [])
        if not isinstance(methods, list) or not all(isinstance(method, dict) for method in methods):
            message = "method is not a list of tables. Write [[method]] above each."
            raise ConfigError(message)
        return Recipe(table["config"], tuple(map(_parse_method, methods)), table.get("merge"), table.get("splits"))
    except ConfigError as error:
        message = f"{place}: {error}"
        raise ConfigError(message) from error


def _parse_method(table: dict[str, Any]) -> Method:
    if "name" in table:
        _check_name("name", table["name"])
    scores = {*SCORES}
    keys = [field.name for field in fields(Method)]
    known = METHODS.get(table.get("name", ""))
    what = f"method {table['name']}" if known else "a method"
    if known is None and "name" in table and not {"query", "against"} <= {*table}:
        hint = did_you_mean(table["name"], METHODS)
        message = f"method {short_repr(table['name'])} is none of those with vectors and a rule of their own.{hint}"
        raise ConfigError(f"{message} Name its vectors, query and against, or take one of: {', '.join(METHODS)}.")
    _check_keys(what, table, [*keys, *scores], ("name",) if known else ("name", "query", "against"))
    rule = known.rule if known else Rule()
    if "rule" in table:
        names = [field.name for field in fields(Rule) if field.name not in scores]
        if not isinstance(table["rule"], dict):
            message = f"{what}: rule={short_repr(table['rule'])}; expected a table, such as {{differ = ['*']}}."
            raise ConfigError(message)
        for name in scores & {*table["rule"]}:
            message = f"{what}: {name} is in the rule. Write it beside the rule, as a key of the method."
            raise ConfigError(message)
        _check_keys(f"the rule of {what}", table["rule"], names)
        rule = _make(what, lambda: Rule(**table["rule"], floor=rule.floor, cap=rule.cap))
    if scores & {*table}:
        rule = _make(what, lambda: replace(rule, **{name: table[name] for name in scores & {*table}}))
    values = {name: value for name, value in table.items() if name in keys} | {"rule": rule}
    if values.get("uses") == UNLIMITED:
        values["uses"] = None
    return _make(what, lambda: replace(known, **values) if known else Method(**values))


def _make(what: str, make: Callable[[], _Table]) -> _Table:
    """Call, and name in the error of a value what has it."""
    try:
        return make()
    except ConfigError as error:
        message = str(error) if str(error).startswith(what) else f"{what}: {error}"
        raise ConfigError(message) from error


def _check_keys(what: str, table: Mapping[str, Any], known: Collection[str], needed: Iterable[str] = ()) -> None:
    for key in table:
        if key not in known:
            message = f"{what} has the unknown key {short_repr(key)}.{did_you_mean(key, known)}"
            raise ConfigError(f"{message} Keys: {', '.join(known)}.")
    for key in needed:
        if key not in table:
            message = f"{what} has no {key}. Add it."
            raise ConfigError(message)
