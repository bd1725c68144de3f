"""The date of an article, from its metadata."""

from datetime import datetime
from typing import Any


def date_of(metadata: Any) -> str | None:
    """Return the day of the column `metadata` or `image_metadata`, as 2014-03-01; None if it is unknown."""
    time = metadata.get("timestamp") if isinstance(metadata, dict) else None
    return time.date().isoformat() if isinstance(time, datetime) else None
