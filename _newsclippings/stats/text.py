"""The numbers as text tables."""

from collections.abc import Iterator, Mapping
from typing import Any

from _newsclippings.facts import LABELS
from _newsclippings.text import printable

Stats = Mapping[str, Any]
POINTS = ("min", "p5", "median", "p95", "max")


def stats_text(stats: Stats) -> str:
    """A table for each config."""
    return "\n\n".join("\n".join(_config(config, numbers)) for config, numbers in stats["configs"].items())


def _config(config: str, numbers: Stats) -> Iterator[str]:
    if "rows" in numbers:
        splits = {split: sum(labels.values()) for split, labels in numbers["rows"].items()}
        each = ", ".join(f"{printable(split)} {rows:,}" for split, rows in splits.items())
        yield f"{config}: {sum(splits.values()):,} rows ({each})"
        yield _line("similarity_score, falsified", ["rows", *POINTS])
        for measure, spread in numbers["scores"].items():
            points = [f"{spread[point]:.3f}" if point in spread else "-" for point in POINTS]
            yield _line(f"  {measure}", [f"{spread['count']:,}", *points])
        for what in ("outlets", "topics"):
            yield _line(what.removesuffix("s"), ["captions", "falsified", "pictures", "falsified"])
            owners = numbers[what]
            for name in dict.fromkeys([*owners["captions"], *owners["pictures"]]):
                yield _line(
                    f"  {printable(name)}", [cell for owner in owners.values() for cell in _balance(owner.get(name))]
                )
    else:
        yield f"{config}:"
    yield _line("each once", ["count", *POINTS])
    if "caption_characters" in numbers:
        yield _spread("caption, characters", numbers["caption_characters"])
    if pictures := numbers["pictures"]:
        for name, unit in (("bytes", "bytes"), ("width", "pixels"), ("height", "pixels")):
            yield _spread(f"picture, {name}" + (f" ({unit})" if name != unit else ""), pictures[name])
        yield f"  pictures missing {pictures['missing']:,}, not pictures {pictures['not_pictures']:,}"
    if "reused" in numbers:
        most = ", ".join(
            f"{picture['image_id']} in {picture['rows']:,} rows" for picture in numbers["reused"]["most"][:3]
        )
        yield f"  shown most often: {most}"


def _spread(name: str, spread: Stats) -> str:
    return _line(f"  {name}", [f"{spread['count']:,}", *(f"{spread[p]:,.0f}" if p in spread else "-" for p in POINTS)])


def _balance(labels: Stats | None) -> tuple[str, str]:
    if labels is None:  # not among the most frequent
        return "-", "-"
    rows = sum(labels.values())
    return f"{rows:,}", f"{labels[LABELS[1]] / rows:.1%}"


def _line(name: str, cells: list[str]) -> str:
    return f"  {name:29}" + "".join(f"{cell:>11}" for cell in cells)
