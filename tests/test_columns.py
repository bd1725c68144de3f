"""The columns of a build: plain values and Arrow schema equal those of `datasets`."""

from __future__ import annotations

import hashlib
import json
from itertools import chain, combinations, product

import datasets
import pytest

from _newsclippings.facts import EMBEDDINGS, IMAGE_COLUMNS, METADATA_OF_FIRST, columns_of
from _newsclippings.tables import arrow_schema

KINDS = list(chain.from_iterable(combinations(EMBEDDINGS, k) for k in range(len(EMBEDDINGS) + 1)))


@pytest.mark.parametrize("images", ["bytes", "path", "none"])
def test_datasets_reads_the_same(images: str) -> None:
    """For every combination of options, features made of the columns have our Arrow schema and names."""
    kinds_of_articles: tuple[bool | str, ...] = (False, True, "full")
    for kinds, metadata, articles in product(KINDS, (False, True), kinds_of_articles):
        columns = columns_of(images, {kind: EMBEDDINGS[kind] for kind in kinds}, metadata, articles)
        features = datasets.Features.from_dict(columns)
        assert list(features) == list(columns)
        assert features.arrow_schema == arrow_schema(columns)
    assert datasets.Features.from_dict(IMAGE_COLUMNS).arrow_schema == arrow_schema(IMAGE_COLUMNS)


def test_the_plain_values_are_those_of_version_1() -> None:
    """But for the fields of 1.1.0, they are those of version 1's files, in which list types are called sequences."""
    first = dict.fromkeys(("metadata", "image_metadata"), METADATA_OF_FIRST)
    every = [json.dumps(columns_of(images, EMBEDDINGS, True, True) | first) for images in ("bytes", "none")]
    text = "\n".join([*every, json.dumps(IMAGE_COLUMNS)])
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "4a9a7e6f50b19fddab82ca75f637f158dd0a93e30981abd00c4f622c529510fe"
    )
