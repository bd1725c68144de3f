"""Rules, methods and recipes: what they mean, and that what cannot be meant is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from _newsclippings.generate import METHODS, Method, Recipe, Rule, parse_recipe
from newsclippings import ConfigError

RECIPE = """\
config = "mine"
merge = "balanced"

[[method]]
name = "clip_text_text"

[[method]]
name = "person"
query = "minilm"
against = "minilm"
cap = 0.8

[[method]]
name = "far_away"
query = "clip_text"
against = "clip_image"
uses = "unlimited"
floor = 0.2
rule = {share = ["EVENT"], differ = ["*"], gap = "30d", other = "article", picture = "has_person"}
"""


def test_a_recipe_is_read() -> None:
    """Named methods have their values unless the table has others; others are made of the table."""
    recipe = parse_recipe(RECIPE)
    assert (recipe.config, recipe.merge) == ("mine", "balanced")
    first, second, third = recipe.methods
    assert first == METHODS["clip_text_text"]
    person = Rule(share=("PERSON",), differ=("*",), picture="has_person", cap=0.8)
    assert second == Method("person", "minilm", "minilm", person)
    rule = Rule(("EVENT",), ("*",), other=("article",), gap="30d", picture="has_person", floor=0.2)
    assert third == Method("far_away", "clip_text", "clip_image", rule, uses=None)


def test_a_rule_replaces_the_rule_and_keeps_the_cap() -> None:
    """`rule` of a named method replaces its rule; the cap beside it stays, unless it is given."""
    (scene,) = parse_recipe('config="mine"\n[[method]]\nname="scene"\nrule={same=["topic"]}').methods
    assert scene.rule == Rule(same=("topic",), cap=0.9)


def test_names_in_any_language() -> None:
    """Labels and columns are as models and tables of others have them, and come back from the written recipe."""
    rule = Rule(share=("人名", "sports team"), same=("섹션", "Section 2", "🗞"), other=('a"b',))
    recipe = Recipe("mine", [Method("words", "text", "text", rule)])
    assert parse_recipe(recipe.to_toml()) == recipe


def test_the_eight_methods() -> None:
    """Those of the paper and four more; limited use is the default of all."""
    assert list(METHODS) == [
        "clip_text_image", "clip_text_text", "person", "scene", "time_swap", "place_swap", "same_story", "look_alike",
    ]  # fmt: skip
    assert {method.uses for method in METHODS.values()} == {1}
    assert all(name == method.name for name, method in METHODS.items())
    assert all(method.rule.differ or method.rule.gap for method in METHODS.values())


def test_all_other_labels() -> None:
    """`*` in differ is every label of the corpus but those that are shared; elsewhere it is every label."""
    known = ("PERSON", "GPE", "MISC")
    assert Rule(share=("PERSON",), differ=("*",)).labels("differ", known) == {"GPE", "MISC"}
    assert Rule(differ=("*",)).labels("differ", known) == {*known}
    assert Rule(share=("*",)).labels("share", known) == {*known}
    assert Rule(differ=("DATE", "MISC")).labels("differ", known) == {"DATE", "MISC"}


def test_a_label_that_nothing_has() -> None:
    """A misspelt label is an error, and not a rule without effect."""
    with pytest.raises(ConfigError, match=r"differ has the label 'PERSN', .* Did you mean 'PERSON'\? Labels: ORG"):
        Rule(differ=("PERSN",)).labels("differ", ["ORG"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": ("PERSON",), "differ": ("PERSON",)}, "'PERSON' is in share and in differ"),
        ({"share": ("PERSON",), "without": ("PERSON",)}, "'PERSON' is in share and in without"),
        ({"same": ("topic",), "other": ("topic",)}, "'topic' is in same and in other"),
        ({"gap": "9d", "within": "1d"}, "gap='9d' is longer than within='1d'"),
        ({"gap": "soon"}, "gap='soon' is no time. Write days or hours"),
        ({"gap": "0d"}, "gap='0d' is no time"),
        ({"within": 7}, "within=7 is no time"),
        ({"floor": 0.9, "cap": 0.9}, "floor=0.9 is not below cap=0.9"),
        ({"cap": 1.5}, "cap=1.5 is no score"),
        ({"cap": float("nan")}, "cap=nan is no score"),
        ({"floor": True}, "floor=True is no score"),
        ({"picture": "has_persn"}, "picture='has_persn' is not known. Allowed: 'has_person'. Did you mean"),
        ({"share": 3}, "share=3; expected labels of entities"),
        ({"same": ("*",)}, "expected columns, such as"),
        ({"differ": ["a\nb"]}, "expected labels of entities"),
        ({"same": [""]}, "expected columns, such as"),
    ],
)
def test_rules_that_cannot_be(values: dict[str, Any], message: str) -> None:
    """A value that cannot be used, or two that exclude all pairs, are refused with what to do."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        Rule(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "Mine!"}, "name='Mine!' is no name"),
        ({"query": ""}, "query='' is no name"),
        ({"uses": 0}, "uses=0; expected 1 to 100, or None for no limit"),
        ({"uses": True}, "uses=True; expected"),
        ({"uses": "1"}, "uses='1'; expected"),
        ({"rule": {}}, "rule={} is not a Rule"),
        ({"closed": 1}, "closed=1 is not known"),
        ({"closed": True, "uses": 2}, "closed needs uses=1"),
        ({"balance": "zero-shot", "uses": None}, "balance needs uses=1"),
        ({"balance": "zeroshot"}, "Did you mean 'zero-shot'?"),
    ],
)
def test_methods_that_cannot_be(values: dict[str, Any], message: str) -> None:
    """The same of methods."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        Method(**{"name": "mine", "query": "a", "against": "b", **values})


NAMED = '[[method]]\nname = "person"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("config = ", "r.toml is not TOML"),
        (NAMED, "r.toml: the recipe has no config. Add it"),
        ('config = "mine"', "recipe mine has no method"),
        ('config = "mine"\nmethod = 3', "method is not a list of tables"),
        ('config = "person_sbert_text_text"\n' + NAMED, "is an official config. Give yours another name"),
        ('config = "Mine"\n' + NAMED, "config='Mine' is no name"),
        ('config = "mine"\nmerg = "balanced"\n' + NAMED, "unknown key 'merg'. Did you mean 'merge'?"),
        ('config = "mine"\nmerge = "all"\n' + NAMED, "merge='all' is not known. Allowed: 'balanced'"),
        ('config = "mine"\n' + NAMED + NAMED, "several methods 'person'"),
        ('config = "mine"\n' + NAMED + "usess = 2", "method person has the unknown key 'usess'. Did you mean 'uses'?"),
        ('config = "mine"\n' + NAMED + "uses = 0", "method person: uses=0; expected 1 to 100"),
        ('config = "mine"\n' + NAMED + "rule = 3", "method person: rule=3; expected a table"),
        ('config = "mine"\n' + NAMED + "rule = {cap = 0.5}", "cap is in the rule. Write it beside the rule"),
        ('config = "mine"\n' + NAMED + "rule = {shar = []}", "the rule of method person has the unknown key 'shar'."),
        ('config = "mine"\n' + NAMED + "cap = 3", "method person: rule: cap=3 is no score"),
        ('config = "mine"\n[[method]]\nquery = "a"', "a method has no name. Add it"),
        ('config = "mine"\n[[method]]\nname = 3\nquery = "a"\nagainst = "b"', "name=3 is no name"),
        ('config = "mine"\n[[method]]\nname = "clip_text_txt"', "Did you mean 'clip_text_text'? Name its vectors"),
    ],
)
def test_recipes_that_cannot_be(text: str, message: str) -> None:
    """A recipe is strict: unknown keys and values are errors, with the file and the method."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_recipe(text, "r.toml")


def test_recipes_by_hand() -> None:
    """A recipe made in Python has the same checks."""
    with pytest.raises(ConfigError, match="has no method"):
        Recipe("mine", ())
    for wrong in ("person", ["person"], METHODS["person"], None):
        with pytest.raises(ConfigError, match=r"recipe mine: methods=.*; expected a list of Method"):
            Recipe("mine", wrong)  # type: ignore[arg-type]
    assert Recipe("mine", (METHODS["person"],)).merge is None
    assert Recipe("mine", [METHODS["person"]]) == Recipe("mine", (METHODS["person"],))
