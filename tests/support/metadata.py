"""The expected `metadata` column."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any


def in_our_words(record: dict[str, Any]) -> dict[str, Any]:
    """The expected value of a row for a complete record of the file."""
    text = record["timestamp"]
    time = None if text.startswith("1900") else datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    names = ("title", "type", "mention", "confidence")
    of_title = record.get("title_entities_spacy")
    return {
        "title": record["title"],
        "timestamp": time and time.replace(tzinfo=UTC),
        "timestamp_text": text,
        "image_has_person": record["image_has_person"],
        "entities": [{"text": e[0], "label": e[1]} for e in record["caption_entities_spacy"]],
        "linked_entities": [dict(zip(names, e, strict=True)) for e in record["caption_entities_rel"]],
        "article_path": record["article_path"],
        "full_article_path": record["full_article_path"],
        "title_entities": of_title and [{"text": e[0], "label": e[1]} for e in of_title],
    }


def in_words(record: dict[str, Any]) -> dict[str, Any]:
    """The expected value of a row for a record that may lack fields."""
    unknown: dict[str, Any] = {"title": None, "timestamp": "1900", "image_has_person": None}
    unknown |= {"caption_entities_spacy": [], "caption_entities_rel": []}
    unknown |= {"article_path": None, "full_article_path": None}
    known = {name: value for name, value in record.items() if value is not None}
    if not re.fullmatch(r"\d{4}-.*Z", known.get("timestamp", "")):
        known.pop("timestamp", None)
    return {**in_our_words({**unknown, **known}), "timestamp_text": record.get("timestamp")}
