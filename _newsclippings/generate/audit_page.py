"""The page of an audit, in Markdown."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from _newsclippings.generate.audit_measure import FITS
from _newsclippings.generate.audit_pool import INSIDE
from _newsclippings.generate.audit_report import CONFIG, SAME, Audit, SourceAudit
from _newsclippings.storage import Maker, check_output, write_text

_SHOWN = 4  # measures of a table
_RECIPE: Final = "recipe.toml"
_FILES: Final = {  # of a folder
    "audit.md": Maker("generate --audit", (b"# How ", b"## F. How much do the parts tell?")),
    "audit.json": Maker("generate --audit", (b'{\n "config": ', b'"reproduced": ')),
    _RECIPE: Maker("generate --audit", (f'config = "{CONFIG}"\n'.encode(), b"[[method]]")),
}


def write_page(report: Audit) -> str:
    """Write the page."""
    return "\n".join(_write(report)) + "\n"


def _write(report: Audit) -> Iterator[str]:
    yield f"# How {report.config}/{report.split} was made"
    yield ""
    yield from _write_verdict(report)
    yield ""
    rows = sum(each.pairs for each in report.sources)
    yield f"Read: {report.records:,} records of the metadata, {rows:,} falsified rows."
    if report.missing:
        yield f"{report.missing:,} rows have a record that the metadata do not have, and are left out."
    if report.absent:
        yield f"Not there: {', '.join(report.absent)}. What needs them was not asked."
    for source in report.sources:
        yield from ("", f"## {source.name}: {source.pairs:,} pairs", "")
        if source.judged > source.pairs:
            yield f"Rule, pool and use are judged on the {source.judged:,} pairs of the config {source.name}."
            yield ""
        yield from _write_source(source)
    yield from ("", "## E. Which picture does CLIP prefer?", "")
    filters = [
        (
            name,
            f"{each.pairs:,}",
            f"{each.fooled:.1%}",
            f"± {each.margin:.1%}",
            f"{each.mean:+.4f}",
            f"{each.spread:.4f}",
        )
        for name, each in report.filters.items()
    ]
    head = ("source", "pairs", "falsified picture preferred", "95 % interval", "mean difference", "spread")
    yield from _table(head, filters)
    yield ""
    yield _describe_filter(report)
    yield from ("", "## F. How much do the parts tell?", "")
    tells = []
    if "all" in report.filters:
        whole = report.filters["all"]
        tells.append(("zero-shot CLIP, pairs", whole.pairs, 1 - whole.fooled, whole.margin))
    tells += [(name, each.rows, each.accuracy, each.margin) for name, each in report.probes.items()]
    texts = [(name, f"{count:,}", f"{share:.1%}", f"± {margin:.1%}") for name, count, share, margin in tells]
    yield from _table(("what", "number", "accuracy", "95 % interval"), texts)
    yield from ("", f"Captions: {report.captions}.", "")
    yield f"Found in {report.seconds:.1f} s."


def _write_verdict(report: Audit) -> Iterator[str]:
    for source in report.sources:
        if source.measure is None:
            best = f" The best one gives {source.fits[0].share:.1%} of the scores." if source.fits else ""
            yield f"- **{source.name}**: no measure gives its scores, so no rule can be judged.{best}"
            continue
        uses = "without a limit of uses" if source.limit is None else f"each picture at most {_times(source.limit)}"
        same = "not matched again" if source.same is None else f"{source.same:.1%} of the pictures are the same"
        yield f"- **{source.name}**: {source.measure}; {source.pool}; rule {source.rule}; {uses}: {same}."
    yield ""
    if report.reproduced:
        share = f"At least {SAME:.0%} of the pictures are the same in every source"
        yield f"**{share}: the recipe may have the paper's name.** Which captions were kept is not made again."
    else:
        yield (
            f"**The matches were not made again: a recipe may have the paper's name only with {SAME:.0%} of the same "
            "pictures in every source. Call it what it is.**"
        )
    if report.recipe is not None:
        yield from ("", "```toml", report.recipe.rstrip(), "```")
    elif any(source.measure for source in report.sources):
        yield from ("", "The grammar of recipes cannot say all of it; see the notes of each source.")


def _write_source(source: SourceAudit) -> Iterator[str]:
    yield from ("A. Which measure gives the scores?", "")
    yield from _table(
        ("measure", "pairs", f"scores within 0.0001 ({FITS:.0%} needed)", "median difference", "correlation"),
        [
            (str(fit), f"{fit.pairs:,}", f"{fit.share:.1%}", f"{fit.median:.6f}", f"{fit.correlation:.3f}")
            for fit in source.fits[:_SHOWN]
        ],
    )
    if source.measure is None:
        yield from ("", "None. **No rule or pool can be judged here**; the shares below are facts of the file.")
    yield from ("", "B. How many pairs have an entity in common? The true rule shows 0 %.", "")
    yield from _table(
        ("entities", "compared as", "pairs", "nearest captions"),
        [(each.entities, each.form, _percent(each.pairs), _percent(each.near)) for each in source.sharing],
    )
    if source.pools:
        yield from ("", "C. Among which pictures was the one chosen?", "")
        yield "The true pool has all pictures inside, and nothing free in it is better."
        yield ""
        yield from _write_pools(source)
    uses = source.uses
    yield ""
    yield (
        f"D. A picture is used at most {_times(uses.most)}, {uses.twice:,} of them more than once. {uses.swaps:.1%} of "
        f"the pairs are swaps. {uses.closed:.1%} of the used pictures have a caption with a pair."
    )
    for again in source.made_again:
        what = f"{again.same:.1%} of the pictures are the same; {again.matched:,} captions get one"
        yield from ("", f"Matched again, {again.way}: {what}.")
    for note in source.notes:
        yield from ("", f"Note: {note}.")


def _write_pools(source: SourceAudit) -> Iterator[str]:
    rows = []
    for each in source.pools:
        name = f"**{each.pool}**" if each.pool == source.pool else each.pool
        shares = map(_percent, (each.inside, each.near, each.best, each.free))
        rows.append((name, f"{each.size:,.0f}", *shares, f"{each.rank:,.0f}"))
    head = (
        "pool",
        "pictures",
        "inside",
        "near captions inside",
        "is the best",
        "nothing free was better",
        "median rank",
    )
    yield from _table(head, rows)
    found = next(each for each in source.pools if each.pool == source.pool)
    if found.inside >= INSIDE and max(found.free, found.best) < FITS:
        yield ""
        yield (
            "In this pool better pictures were free: matches that are not in these files used them, or the rule has "
            "more parts."
        )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _describe_filter(report: Audit) -> str:
    whole = report.filters.get("all")
    if whole is None:
        return "Without CLIP's vectors of both sides this was not asked."
    if abs(whole.fooled - 0.5) <= whole.margin:
        return "Half of the pairs: balanced so that zero-shot CLIP is at chance, or made so."
    return "Not half of the pairs: no balance by CLIP."


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def check_audit_folder(out: Path) -> None:
    """Raise `ConfigError` if a folder for an audit has a file of its names that no audit wrote."""
    for name, maker in _FILES.items():
        check_output(out / name, maker)


def write_audit(report: Audit, out: Path) -> None:
    """Write audit.md, audit.json and, if there is a recipe, recipe.toml to a folder.

    Raises:
        ConfigError: it has a file of these names that no audit wrote.
    """
    check_audit_folder(out)
    texts = {"audit.md": write_page(report), "audit.json": json.dumps(report.as_dict(), indent=1) + "\n"}
    if report.recipe is not None:
        texts[_RECIPE] = report.recipe
    else:
        (out / _RECIPE).unlink(missing_ok=True)  # of an earlier audit
    for name, text in texts.items():
        write_text(out / name, text, _FILES[name])
