"""The page of an audit, in Markdown and as one HTML file: a verdict first, then the figures of each question."""

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from _newsclippings.generate.audit_again import FEW
from _newsclippings.generate.audit_measure import FITS
from _newsclippings.generate.audit_pool import INSIDE
from _newsclippings.generate.audit_report import CONFIG, SAME, Audit, SourceAudit
from _newsclippings.generate.audit_rule import SETS
from _newsclippings.generate.audit_splits import BY
from _newsclippings.storage import Maker, check_output, write_text
from _newsclippings.text import format_page, printable

_SHOWN = 4  # measures of a table
_RECIPE: Final = "recipe.toml"
_COMMAND: Final = "generate --audit"
_FILES: Final = {  # of a folder
    "audit.html": Maker(_COMMAND, (b'<meta name="generator" content="newsclippings generate --audit">',)),
    "audit.md": Maker(_COMMAND, (b"# How ", b"## F. How much do the parts tell?")),
    "audit.json": Maker(_COMMAND, (b'{\n "config": ', b'"reproduced": ')),
    _RECIPE: Maker(_COMMAND, (f'config = "{CONFIG}"\n'.encode(), b"[[method]]")),
}
_STYLE: Final = (
    "body{max-width:60rem}h1,h2{overflow-wrap:anywhere}h2{font-size:1.25rem;margin-top:2.5rem}h3{font-size:1rem}"
    "td,th.number{white-space:nowrap}th.number{white-space:normal}"
    "th:not(.number),td:not(.number){text-align:left}h3+p{margin-bottom:.25rem}"
    ".share{background:linear-gradient(90deg,#cfe2f7 var(--share),#0000 0)}"
    "pre{background:#f4f5f7;padding:.75rem;white-space:pre-wrap}code{font-size:.875em;overflow-wrap:anywhere}"
)


class _Title(NamedTuple):
    level: int
    text: str


class _Text(NamedTuple):
    """A paragraph; texts have **strong** parts and `code`, as in Markdown."""

    text: str


class _Points(NamedTuple):
    points: Sequence[str]


class _Code(NamedTuple):
    text: str


class _Table(NamedTuple):
    """A table; the cells of some columns are shares, which the HTML page also draws."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    shares: Sequence[int] = ()


_Block = _Title | _Text | _Points | _Code | _Table


def write_page(report: Audit) -> str:
    """Write the page in Markdown."""
    return "\n".join(line for block in _write(report) for line in (*_to_markdown(block), "")).rstrip() + "\n"


def write_html(report: Audit) -> str:
    """Write the page as one HTML file, which needs no other files and no scripts."""
    body = [line for number, block in enumerate(_write(report)) for line in _to_html(block, number)]
    return format_page(f"How {report.config}/{report.split} was made", f"newsclippings {_COMMAND}", body, _STYLE)


def _to_markdown(block: _Block) -> Iterator[str]:
    match block:
        case _Title():
            yield f"{'#' * block.level} {block.text}"
        case _Text():
            yield block.text
        case _Points():
            yield from (f"- {point}" for point in block.points)
        case _Code():
            yield from ("```toml", block.text.rstrip(), "```")
        case _Table():
            yield from (block.caption, "")
            yield f"| {' | '.join(block.head)} |"
            yield f"|{'---|' * len(block.head)}"
            yield from (f"| {' | '.join(row)} |" for row in block.rows)


def _to_html(block: _Block, number: int) -> Iterator[str]:
    match block:
        case _Title():
            yield f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
        case _Text():
            yield f"<p>{_inline(block.text)}</p>"
        case _Points():
            yield f"<ul>{''.join(f'<li>{_inline(point)}</li>' for point in block.points)}</ul>"
        case _Code():
            yield f"<pre><code>{escape(block.text.rstrip())}</code></pre>"
        case _Table():
            name = f'aria-labelledby="table{number}"'  # not a caption, which would scroll with a wide table
            yield f'<p id="table{number}">{_inline(block.caption)}</p>'
            yield f'<div role="region" {name} tabindex="0"><table {name}>'
            firsts = block.rows[0] if block.rows else block.head
            kinds = [_class(first) for first in firsts]
            head = "".join(
                f'<th scope="col"{kind}>{_inline(text)}</th>' for kind, text in zip(kinds, block.head, strict=True)
            )
            yield f"<thead><tr>{head}</tr></thead><tbody>"
            for first, *cells in block.rows:
                texts = [_cell(cell, column in block.shares) for column, cell in enumerate(cells, 1)]
                yield f'<tr><th scope="row">{_inline(first)}</th>{"".join(texts)}</tr>'
            yield "</tbody></table></div>"


def _cell(text: str, is_share: bool) -> str:
    if is_share and text.endswith("%"):
        return f'<td class="number share" style="--share:{text}">{text}</td>'
    return f"<td{_class(text)}>{_inline(text)}</td>"


def _class(text: str) -> str:
    return ' class="number"' if text[:1].isdigit() or text[:1] in "+-±" else ""


def _inline(text: str) -> str:
    text = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(printable(text)))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", text)


def _write(report: Audit) -> Iterator[_Block]:
    yield _Title(1, f"How {report.config}/{report.split} was made")
    yield from _write_verdict(report)
    yield _Title(2, "What was read")
    rows = sum(each.pairs for each in report.sources)
    yield _Text(f"Read: {report.records:,} records of the metadata, {rows:,} falsified rows.")
    if report.missing:
        yield _Text(f"{report.missing:,} rows have a record that the metadata do not have. They are left out.")
    if report.absent:
        yield _Text(f"Not there: {', '.join(report.absent)}. What needs them was not asked.")
    for source in report.sources:
        yield _Title(2, f"{source.name}: {source.pairs:,} pairs")
        if source.judged > source.pairs:
            yield _Text(f"Rule, pool and use are judged on the {source.judged:,} pairs of the config {source.name}.")
        yield from _write_source(source)
    yield _Title(2, "E. Which picture does CLIP prefer?")
    if report.filters:
        yield _Table(
            "For each pair: is the falsified picture nearer to the caption than the true one?",
            ("source", "pairs", "falsified picture preferred", "95% interval", "mean difference", "spread"),
            [
                (
                    name,
                    f"{each.pairs:,}",
                    _percent(each.fooled),
                    f"± {each.margin:.1%}",
                    _number(each.mean, "+.4f"),
                    _number(each.spread, ".4f"),
                )
                for name, each in report.filters.items()
            ],
            (2,),
        )
    yield _Text(_describe_filter(report))
    yield _Title(2, "F. How much do the parts tell?")
    tells = []
    if "all" in report.filters:
        whole = report.filters["all"]
        tells.append(("CLIP without training, true picture or not", whole.pairs, 1 - whole.fooled, whole.margin))
    tells += [(f"linear probe, {name}", each.rows, each.accuracy, each.margin) for name, each in report.probes.items()]
    if tells:
        yield _Table(
            "How often the label is found. Chance is 50%.",
            ("what", "number", "right", "95% interval"),
            [(name, f"{count:,}", _percent(share), f"± {margin:.1%}") for name, count, share, margin in tells],
            (2,),
        )
    else:
        yield _Text("Without CLIP's vectors this was not asked.")
    yield _Text(f"Captions: {report.captions}.")
    yield from _write_crossings(report)
    yield _Text(f"Found in {report.seconds:.1f} s.")


def _write_verdict(report: Audit) -> Iterator[_Block]:
    if report.reproduced:
        share = f"at least {SAME:.0%} of the official pairs get the same picture, in every source"
        yield _Text(
            f"**Yes, these matches can be made again: {share}.** A recipe that does so may have the paper's name."
            + ("" if _explains_all(report) else " Which captions were kept is not made again.")
        )
    else:
        yield _Text(
            f"**{_say_no(report)}** A recipe may have the paper's name only if at least"
            f" {SAME:.0%} of the official pairs get the same picture, in every source. Call it what it is."
        )
    yield _Points([_summarise(source) for source in report.sources])
    if report.recipe is not None:
        yield _Title(2, "The recipe")
        yield _Code(report.recipe)
    elif any(source.measure for source in report.sources):
        yield _Text(
            "There is no recipe here: a source has no measure, or the grammar of recipes cannot say all of it. See the "
            "notes of each source."
        )


def _say_no(report: Audit) -> str:
    count = sum(source.same is not None and source.same >= SAME for source in report.sources)
    if not count:
        return "No, these matches were not made again."
    return f"Only in part: the matches of {count} of {len(report.sources)} sources were made again."


def _explains_all(report: Audit) -> bool:
    """Whether the captions that were kept are those that the recipe keeps."""
    left = [source.left_out for source in report.sources]
    return len(left) == 1 and left[0] is not None and left[0].unexplained <= FEW * left[0].made


def _summarise(source: SourceAudit) -> str:
    if not source.fits:
        return f"**{source.name}**: its vectors are not there, so no measure was tried and no rule can be judged."
    if source.measure is None:
        best = f"The best one gives {source.fits[0].share:.1%} of them."
        return f"**{source.name}**: no measure gives its scores, so no rule can be judged. {best}"
    uses = "without a limit" if source.limit is None else f"at most {_times(source.limit)}"
    same = "It was not matched again." if source.same is None else f"{source.same:.1%} of the pictures are the same."
    return (
        f"**{source.name}**: its scores are the {source.measure}. The pool of pictures is {source.pool}, each used "
        f"{uses}. The rule is `{source.rule}`. **{same}**"
    )


def _write_source(source: SourceAudit) -> Iterator[_Block]:
    yield _Title(3, "A. Which measure gives the scores?")
    if source.fits:
        yield _Table(
            f"A measure is the right one if it gives {FITS:.0%} of the scores.",
            ("measure", "pairs", "scores within 0.0001", "median difference", "correlation"),
            [
                (str(fit), f"{fit.pairs:,}", f"{fit.share:.1%}", f"{fit.median:.6f}", f"{fit.correlation:.3f}")
                for fit in source.fits[:_SHOWN]
            ],
            (2,),
        )
    if source.measure is None:
        tried = "None." if source.fits else "Without vectors this was not asked."
        yield _Text(f"{tried} **No rule or pool can be judged here**; the shares below are facts of the file.")
    yield _Title(3, "B. How many pairs have an entity in common?")
    yield _Table(
        "A rule holds if 0% of the pairs have such an entity in common, and many of the nearest captions have.",
        ("entities", "compared as", "pairs", "nearest captions"),
        [
            (
                each.entities if each.entities in SETS else f"in the rule: {each.entities}",
                each.form,
                _percent(each.pairs),
                _percent(each.near),
            )
            for each in source.sharing
        ],
        (2, 3),
    )
    if source.pools:
        yield _Title(3, "C. Among which pictures was the one chosen?")
        yield from _write_pools(source)
    uses = source.uses
    yield _Title(3, "D. How are pictures used?")
    twice = f"; {uses.twice:,} are used more than once" if uses.twice else ""
    yield _Text(
        f"A picture is used at most {_times(uses.most)}{twice}. "
        f"{uses.swaps:.1%} of the pairs are swaps. {uses.closed:.1%} of the used pictures have a caption with a pair."
    )
    if source.made_again:
        yield _Title(3, "Matched again")
        yield _Table(
            "Captions are matched again by what was found, and compared with the official file.",
            ("way", "same pictures", "captions with a picture", "same captions", "mean difference of scores"),
            [
                (
                    each.way,
                    f"{each.same:.1%}",
                    f"{each.matched:,}",
                    _percent(each.captions),
                    _number(each.difference, "+.6f"),
                )
                for each in source.made_again
            ],
            (1, 3),
        )
    left = source.left_out
    if left is not None and (left.keys or not left.notes):
        keys = " and ".join(f"`{key}`" for key in left.keys)
        but = f"all but {left.unexplained:,} of them" if left.unexplained else "just these"
        why = f" The recipe has {keys}, which leaves out {but}." if keys else ""
        yield _Text(f"Of {left.made:,} matches, {left.left_out:,} are not in the official file.{why}")
    if source.notes:
        yield _Points([f"Note: {note}." for note in source.notes])


def _write_pools(source: SourceAudit) -> Iterator[_Block]:
    rows = []
    for each in source.pools:
        name = f"**{each.pool}**" if each.pool == source.pool else each.pool
        shares = map(_percent, (each.inside, each.near, each.best, each.free))
        rows.append((name, f"{each.size:,.0f}", *shares, _number(each.rank, ",.0f")))
    head = (
        "pool",
        "pictures",
        "inside",
        "near captions inside",
        "is the best",
        "nothing free was better",
        "median rank",
    )
    yield _Table("The true pool has all pictures inside, and nothing free in it is better.", head, rows, (2, 3, 4, 5))
    found = next(each for each in source.pools if each.pool == source.pool)
    if found.inside >= INSIDE and max(found.free, found.best) < FITS:
        yield _Text(
            "In this pool better pictures were free: matches that are not in these files used them, or the rule has "
            "more parts."
        )


def _write_crossings(report: Audit) -> Iterator[_Block]:
    yield _Title(2, "G. What is in two splits?")
    if not report.crossings:
        yield _Text("Not looked at: of no other split are the matches and the metadata there.")
        return
    yield _Table(
        f"Rows of {report.config}/{report.split} compared with those of another split. The authors keep ids apart.",
        ("other split", "equal captions", "articles in both", "picture files in both", "pictures with a copy"),
        [
            (
                each.split,
                f"{each.captions:,}",
                f"{each.articles:,}",
                f"{each.files:,}",
                "-" if each.copies is None else f"{each.copies:,}",
            )
            for each in report.crossings
        ],
    )
    if any(each.copies is None for each in report.crossings):
        yield _Text(f"Copies were not looked for where the vectors {BY} of a split are not there.")


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
    return _number(share, ".1%")


def _number(value: float, form: str) -> str:
    return "-" if np.isnan(value) else f"{round(value, 6) + 0.0:{form}}"  # no minus before zero


def check_audit_folder(out: Path) -> None:
    """Raise `ConfigError` if a folder for an audit has a file of its names that no audit wrote."""
    for name, maker in _FILES.items():
        check_output(out / name, maker)


def write_audit(report: Audit, out: Path) -> None:
    """Write audit.html, audit.md, audit.json and, if there is a recipe, recipe.toml to a folder.

    Raises:
        ConfigError: it has a file of these names that no audit wrote.
    """
    check_audit_folder(out)
    texts = {"audit.html": write_html(report), "audit.md": write_page(report)}
    texts["audit.json"] = json.dumps(report.as_dict(), indent=1) + "\n"
    if report.recipe is not None:
        texts[_RECIPE] = report.recipe
    else:
        (out / _RECIPE).unlink(missing_ok=True)  # of an earlier audit
    for name, text in texts.items():
        write_text(out / name, text, _FILES[name])
