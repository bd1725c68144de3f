"""One JSON value in the many layouts that a file may have."""

from __future__ import annotations

import json
from typing import Any

DIALECTS = ("official", "compact", "indented", "tabs", "reversed", "sorted", "utf8", "nested", "one_per_line")

Row = dict[str, Any]


def dump(value: Any, dialect: str) -> str:
    """Write `value` as JSON in one of DIALECTS; the parsed value is the same in each."""
    if dialect == "compact":
        return json.dumps(value, separators=(",", ":"))
    if dialect == "indented":
        return json.dumps(value, indent=4)
    if dialect == "tabs":
        return "\r\n\t" + json.dumps(value, indent="\t", separators=(" ,", " :\r\n")) + "\n\n"
    if dialect == "sorted":
        return json.dumps(value, sort_keys=True)
    if dialect == "utf8":
        return json.dumps(value, ensure_ascii=False)
    if dialect == "one_per_line" and isinstance(value, list):
        return "[\n" + ",\n".join(json.dumps(entry) for entry in value) + "\n]\n"
    if dialect == "reversed":
        return json.dumps(_each(value, lambda entry: dict(reversed(list(entry.items())))))
    if dialect == "nested":
        return json.dumps(_each(value, _with_extra_keys))
    return json.dumps(value)


def _with_extra_keys(entry: Row) -> Row:
    nested = {"id": 1, "caption": "nested }, {", "image_path": "/etc/passwd", "more": [{"id": entry["id"]}]}
    return {
        "extra": nested,
        "empty": {},
        "none": None,
        **entry,
        "list": [[], {}, 1.5e3, True],
        'weird \\" key': {},
    }


def _each(value: Any, change: Any) -> Any:
    """Apply `change` to every record of a list, of a dict by id, or of a file of matches."""
    if isinstance(value, list):
        return [change(entry) for entry in value]
    if "annotations" in value:
        return {**value, "annotations": [change(entry) for entry in value["annotations"]]}
    return {key: change(entry) for key, entry in value.items()}
