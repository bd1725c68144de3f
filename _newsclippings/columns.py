"""The columns of a build: as the plain values that stand in the metadata of files and cards, and as an Arrow schema."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from _newsclippings.schema import COLUMNS, EMBEDDINGS, LABELS, SOURCE_DATASETS

Columns = dict[str, Any]  # column -> its type, in the form that every version of `datasets` reads

_LABELS = {"falsified": LABELS, "source_dataset": SOURCE_DATASETS}


def _value(kind: str) -> Columns:
    return {"dtype": kind, "_type": "Value"}


_TEXT = _value("string")
_METADATA = {
    "title": _TEXT,
    "timestamp": _value("timestamp[s, tz=UTC]"),
    "timestamp_text": _TEXT,
    "image_has_person": _value("bool"),
    "entities": [{"text": _TEXT, "label": _TEXT}],
    "linked_entities": [{"title": _TEXT, "type": _TEXT, "mention": _TEXT, "confidence": _value("float64")}],
}
_IMAGE = {"_type": "Image"}
IMAGE_COLUMNS: Columns = {"image_id": _value("int64"), "image": _IMAGE, "image_path": _TEXT}  # of the config `UNIQUE`

_ARROW = {
    "bool": pa.bool_(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "timestamp[s, tz=UTC]": pa.timestamp("s", "UTC"),
}


def columns_of(
    images: str = "bytes", embeddings: Iterable[str] = (), metadata: bool = False, articles: bool = False
) -> Columns:
    """The columns that follow from the options of a build, in order.

    Args:
        images: `"bytes"` or `"path"` for a table with an `image` column, `"none"` for one without.
        embeddings: kinds of embeddings, in the order of their columns.
        metadata: whether there are the columns `metadata` and `image_metadata`.
        articles: whether there is the column `article`.
    """
    columns: Columns = {}
    for name, (kind, _) in COLUMNS.items():
        if name in _LABELS:
            columns[name] = {"names": list(_LABELS[name]), "_type": "ClassLabel"}
        elif name != "image" or images != "none":
            columns[name] = _IMAGE if name == "image" else _value(kind)
    for kind in embeddings:
        vector = {"feature": _value("float32"), "length": EMBEDDINGS[kind].width, "_type": "Sequence"}
        columns[kind] = {"feature": vector, "_type": "Sequence"} if EMBEDDINGS[kind].faces else vector
    if metadata:
        columns |= {"metadata": _METADATA, "image_metadata": _METADATA}
    if articles:
        columns["article"] = _TEXT
    return columns


def arrow_schema(columns: Mapping[str, Any]) -> pa.Schema:
    """The schema of tables with these columns: that which `datasets` has for them."""
    return pa.schema([(name, _arrow_type(column)) for name, column in columns.items()])


def _arrow_type(column: Any) -> pa.DataType:
    if isinstance(column, list):
        return pa.list_(_arrow_type(column[0]))
    kind = column.get("_type")
    if kind == "Value":
        return _ARROW[column["dtype"]]
    if kind == "ClassLabel":
        return pa.int64()
    if kind == "Image":
        return pa.struct({"bytes": pa.binary(), "path": pa.string()})
    if kind == "Sequence":
        return pa.list_(_arrow_type(column["feature"]), column.get("length", -1))
    return pa.struct({name: _arrow_type(field) for name, field in column.items()})
