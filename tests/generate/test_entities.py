"""Entities are compared by name, without case and spaces, and by alias where one is given."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.matching import entity_column

from _newsclippings.generate import make_entities
from _newsclippings.generate.entities import lists_of
from newsclippings import ConfigError


def names(
    captions: list[list[tuple[str, str]]], labels: list[str], aliases: dict[str, str] | None = None
) -> list[set[int]]:
    lists = make_entities(entity_column(captions), aliases).only(labels)
    return [set(lists.values[a:b].tolist()) for a, b in zip(lists.starts[:-1], lists.starts[1:], strict=True)]


def test_case_and_spaces_do_not_matter() -> None:
    """STRASSE and straße are one name; so are names with other spaces, or full-width letters."""
    a, b, c, d = names([[("STRASSE", "X")], [(" straße ", "X")], [("New  York", "X")], [("ｎew york", "X")]], ["X"])
    assert a == b
    assert c == d
    assert a != c


def test_an_alias_is_the_name() -> None:
    """Names of the table are one entity, in any case; others are not changed."""
    captions = [[("U.S.", "GPE")], [("the united states", "GPE")], [("US", "GPE")], [("UK", "GPE")]]
    a, b, c, d = names(captions, ["GPE"], {"u.s.": "US", "The United States": "us"})
    assert a == b == c != d


def test_a_chain_of_aliases_is_refused() -> None:
    """An alias of an alias is an error that says what to write; one of itself is none."""
    with pytest.raises(ConfigError, match=r"'u\.s\.' leads to 'us', which is an alias itself. Name 'usa' for both"):
        names([], [], {"U.S.": "US", "us": "USA"})
    names([], [], {"us": "US"})


def test_labels_choose() -> None:
    """A name counts under each label that it has in the caption, and once only."""
    captions = [[("Washington", "PERSON"), ("Washington", "GPE"), ("washington", "GPE")], [], [("Paris", "GPE")]]
    persons, places, both = (names(captions, labels) for labels in (["PERSON"], ["GPE"], ["PERSON", "GPE"]))
    assert [len(found) for found in persons] == [1, 0, 0]
    assert [len(found) for found in places] == [1, 0, 1]
    assert both[0] == persons[0] == places[0] != places[2]


def test_unknown_entities_are_refused() -> None:
    """Null is not the same as no entities: nothing could be checked."""
    kind = pa.list_(pa.struct([("text", pa.string()), ("label", pa.string())]))
    with pytest.raises(ConfigError, match="1 captions have no list of entities"):
        make_entities(pa.chunked_array([pa.array([[]], kind), pa.array([None], kind)]))
    with pytest.raises(ConfigError, match="1 entities have no text or no label"):
        make_entities(pa.array([[{"text": None, "label": "X"}]], kind))


def test_a_part_of_a_larger_column() -> None:
    """A slice of a column has its own entities and no others."""
    column = entity_column([[("a", "X")], [("b", "X"), ("c", "Y")], [], [("b", "Y")]])
    entities = make_entities(column[1:])
    assert entities.count == 3
    assert entities.owners.tolist() == [0, 0, 2]
    assert entities.names.tolist() == [0, 1, 0]


@given(st.lists(st.lists(st.integers(0, 6), max_size=5), max_size=8), st.data())
def test_lists_and_their_inverse(captions: list[list[int]], data: st.DataObject) -> None:
    """Taking and inverting lists gives what Python's sets give, for any captions in any order."""
    pairs = [(owner, value) for owner, caption in enumerate(captions) for value in caption]
    owners = np.array([owner for owner, _ in pairs], np.int64)
    values = np.array([value for _, value in pairs], np.int32)
    lists = lists_of(owners, values, len(captions))
    rows = np.array(data.draw(st.lists(st.integers(0, len(captions) - 1), max_size=6)) if captions else [], np.int64)
    at, taken = lists.take(rows)
    expected = [(place, value) for place, row in enumerate(rows.tolist()) for value in sorted({*captions[row]})]
    assert list(zip(at.tolist(), taken.tolist(), strict=True)) == expected
    inverse = lists.invert(rows)
    begins, ends = inverse.find(np.arange(-1, 9, dtype=np.int32))
    for value, begin, end in zip(range(-1, 9), begins, ends, strict=True):
        assert inverse.owners[begin:end].tolist() == [
            i for i, row in enumerate(rows.tolist()) if value in captions[row]
        ]
