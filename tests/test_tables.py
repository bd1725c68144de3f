"""Arrays built and read by buffers equal those of pyarrow's conversions, which import pandas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from _newsclippings.corpus.metadata import STRUCT
from _newsclippings.tables import array_of, as_array, empty_table, table_of, values_of

TIME = datetime(1969, 7, 20, 20, 17, 40, tzinfo=UTC)
ENTITIES = [{"text": "Berlin", "label": "GPE"}, {"text": "", "label": None}]
LINKED = [{"title": "Berlin", "type": "city", "mention": "B", "confidence": 0.1}]
METADATA = [
    {
        "title": title,
        "timestamp": time,
        "timestamp_text": title,
        "image_has_person": person,
        "entities": entities,
        "linked_entities": linked,
        "article_path": title,
        "full_article_path": title,
        "title_entities": of_title,
    }
    for title, time, person, entities, linked, of_title in [
        ("Ein Foto \u2013 \U0001f4f7", TIME, True, ENTITIES, LINKED, ENTITIES),
        (None, None, None, [], LINKED * 3, None),
        ("", TIME, False, ENTITIES * 2, [], []),
    ]
]
VALUES: list[tuple[list[Any], pa.DataType]] = [
    ([1, None, -(2**63), 2**63 - 1], pa.int64()),
    ([0.1, None, 5], pa.float64()),
    ([True, None, False] * 9, pa.bool_()),
    (["a", None, "", "\u00e9\0"], pa.string()),
    ([b"a", None, b"", b"\xff\0"], pa.binary()),
    ([TIME, None], pa.timestamp("s", "UTC")),
    ([["a"], [], [None, "b"]], pa.list_(pa.string())),
    ([None, ["a"], None, [], [None, "b"]], pa.list_(pa.string())),
    (METADATA, STRUCT),
]


@pytest.mark.parametrize(("values", "kind"), VALUES, ids=[str(kind)[:20] for _, kind in VALUES])
def test_arrays_of_python_values_equal_those_of_pyarrow(values: list[Any], kind: pa.DataType) -> None:
    """Arrays with nulls, without nulls and without values equal pyarrow's."""
    for some in (values, values[:1], []):
        made = array_of(some, kind)
        made.validate(full=True)
        assert made.type == kind
        assert made.equals(pa.array(some, kind))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64", "float32", "float64", "bool"])
def test_numbers_are_read_back(dtype: str) -> None:
    """Numbers are read back from slices, chunked arrays, arrays with nulls, masks and strides."""
    values = (np.arange(40) % 3).astype(dtype)[::2]
    mask = np.arange(20) % 5 == 0
    for array in (as_array(values), as_array(values, np.zeros(20, bool))):
        array.validate(full=True)
        assert array.equals(pa.array(values))
        for some in (array, array[3:17], array[9:9], pa.chunked_array([array[1:9], array[9:9], array[12:]])):
            found = values_of(some)
            assert found.dtype == values.dtype
            assert found.tolist() == some.to_pylist()
    masked = as_array(values, mask)
    masked.validate(full=True)
    assert masked.equals(pa.array(values, mask=mask))
    assert values_of(masked[3:], 7).tolist() == [7 if v is None else v for v in masked[3:].to_pylist()]


def test_tables_are_made_of_rows() -> None:
    """A column that a row lacks is null; without rows each column is one empty array."""
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("vector", pa.list_(pa.float32(), 2))])
    assert empty_table(schema).equals(schema.empty_table())
    rows: list[dict[str, Any]] = [{"id": 1, "text": "a", "more": 0}, {"id": 2}]
    assert table_of(rows, pa.schema(list(schema)[:2])).equals(pa.Table.from_pylist(rows, pa.schema(list(schema)[:2])))


@pytest.mark.parametrize(
    ("value", "kind", "error"),
    [
        (1, pa.string(), TypeError),
        ([], pa.string(), TypeError),
        (None, STRUCT, TypeError),
        ("\ud800", pa.string(), UnicodeEncodeError),
        (2**63, pa.int64(), OverflowError),
    ],
)
def test_other_values_are_refused(value: Any, kind: pa.DataType, error: type[Exception]) -> None:
    """A value that the type cannot hold is refused."""
    with pytest.raises(error):
        array_of([value], kind)
