"""The numbers of `stats.py` as tables for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from _newsclippings.facts import LABELS
from _newsclippings.text import printable

Stats = Mapping[str, Any]
POINTS = ("min", "p5", "median", "p95", "max")


def stats_text(stats: Stats) -> str:
    """Some lines of each config."""
    return "\n\n".join("\n".join(_config(config, about)) for config, about in stats["configs"].items())


def _config(config: str, about: Stats) -> Iterator[str]:
    if "rows" in about:
        splits = {split: sum(labels.values()) for split, labels in about["rows"].items()}
        each = ", ".join(f"{printable(split)} {rows:,}" for split, rows in splits.items())
        yield f"{config}: {sum(splits.values()):,} rows ({each})"
        yield _line("similarity_score, falsified", ["rows", *POINTS])
        for measure, one in about["scores"].items():
            yield _line(f"  {measure}", [f"{one['count']:,}", *(f"{one[p]:.3f}" if p in one else "-" for p in POINTS)])
        for what in ("outlets", "topics"):
            yield _line(what.removesuffix("s"), ["captions", "falsified", "pictures", "falsified"])
            owners = about[what]
            for name in dict.fromkeys([*owners["captions"], *owners["pictures"]]):
                yield _line(
                    f"  {printable(name)}", [cell for owner in owners.values() for cell in _balance(owner.get(name))]
                )
    else:
        yield f"{config}:"
    yield _line("each once", ["count", *POINTS])
    if "caption_characters" in about:
        yield _spread("caption, characters", about["caption_characters"])
    if pictures := about["pictures"]:
        for name, unit in (("bytes", "bytes"), ("width", "pixels"), ("height", "pixels")):
            yield _spread(f"picture, {name}" + (f" ({unit})" if name != unit else ""), pictures[name])
        yield f"  pictures missing {pictures['missing']:,}, not pictures {pictures['not_pictures']:,}"
    if "reused" in about:
        most = ", ".join(f"{one['image_id']} in {one['rows']:,} rows" for one in about["reused"]["most"][:3])
        yield f"  shown most often: {most}"


def _spread(name: str, about: Stats) -> str:
    return _line(f"  {name}", [f"{about['count']:,}", *(f"{about[p]:,.0f}" if p in about else "-" for p in POINTS)])


def _balance(labels: Stats | None) -> tuple[str, str]:
    if labels is None:  # not among those most frequent
        return "-", "-"
    rows = sum(labels.values())
    return f"{rows:,}", f"{labels[LABELS[1]] / rows:.1%}"


def _line(name: str, cells: list[str]) -> str:
    return f"  {name:29}" + "".join(f"{cell:>11}" for cell in cells)
