"""The measures as tables: text, markdown, LaTeX, HTML and CSV."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from _newsclippings.evaluate.answers import Answers
from _newsclippings.evaluate.intervals import Measured
from _newsclippings.evaluate.measures import MEASURES, Rows
from _newsclippings.text import format_html, printable

P_VALUES: Final = ("mcnemar_p", "mcnemar_pairs_p", "holm_p")
OF_GROUPS: Final = ("accuracy", "f1_macro", "auc", "pair_accuracy")  # the columns of breakdowns of one system
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, names of columns, rows
_LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


@dataclass(frozen=True)
class System:
    """The measures of one model.

    Attributes:
        name: its file.
        signature: all that the numbers depend on, in one line.
        answers: what it says of each row.
        rows: as they were measured.
        whole: measures of all rows.
        groups: breakdown -> key -> measures of its rows.
        classes: measures of all rows, in which a row is right if its kind is; None if the model names no kinds.
    """

    name: str
    signature: str
    answers: Answers
    rows: Rows
    whole: Measured
    groups: dict[str, dict[str, Measured]]
    classes: Measured | None = None

    @property
    def group_accuracy(self) -> Mapping[str, float] | None:
        """Share of the rows whose kind the model names, with its interval; None if it names none."""
        return None if self.classes is None else self.classes.results()["accuracy"]

    def as_dict(self) -> dict[str, Any]:
        """Return signature, counts of rows, measures and breakdowns as plain values."""
        by = {
            name: {key: {"rows": one.rows, "measures": one.results()} for key, one in keys.items()}
            for name, keys in self.groups.items()
        }
        found = {
            "signature": self.signature,
            "rows": self.answers.counts,
            "measures": self.whole.results(),
            "by": by,
        }
        return found if self.classes is None else {**found, "group_accuracy": self.group_accuracy}


Comparisons = Sequence[Mapping[str, Any]]
Group = Mapping[str, Any] | None
Only = Mapping[tuple[str, str], tuple[int, int]]


def format_systems(systems: Sequence[System], comparisons: Comparisons, only: Only, group: Group, form: str) -> str:
    """Format the parts of an `Evaluation` in one of the `FORMS`."""
    if form == "csv":
        return _format_csv(systems, comparisons, group)
    signatures = [printable(system.signature) for system in systems]
    names = [printable(system.name) for system in systems]
    lines = signatures if len(names) == 1 else [f"{n}: {s}" for n, s in zip(names, signatures, strict=True)]
    tables = [_table_of_measures(systems, names)]
    if group is not None:
        tables.append(_table_of_seeds(group, len(systems)))
    tables += [_table_of_differences(comparisons, pair, counts) for pair, counts in only.items()]
    return FORMS[form](lines, [*tables, *(_table_of_groups(systems, names, name) for name in systems[0].groups)])


def _table_of_measures(systems: Sequence[System], names: Sequence[str]) -> Table:
    counts = [system.answers.counts for system in systems]
    results = [system.whole.results() for system in systems]
    rows = [["rows", *(f"{count['found']:,} of {count['expected']:,}" for count in counts)]]
    rows += [[name, *(_interval(result[name]) for result in results)] for name in MEASURES]
    if any(system.classes is not None for system in systems):
        rows.append(["group_accuracy", *(_interval(system.group_accuracy) for system in systems)])
    return "", ["measure", *(names if len(systems) > 1 else ["value and 95 % interval"])], rows


def _table_of_seeds(group: Mapping[str, Any], count: int) -> Table:
    rows = [
        [name, *((f"{one['mean']:.4f}", f"{one['sd']:.4f}", _bounds(one)) if one else ("-",) * 3)]
        for name, one in group.items()
    ]
    return f"{count} seeds", ["measure", "mean", "sd", "95 % interval of the mean"], rows


def _table_of_differences(comparisons: Comparisons, pair: tuple[str, str], counts: tuple[int, int]) -> Table:
    rows = [
        [one["measure"], f"{one['difference']:+.4f} {_bounds(one)}", *(_p(one[name]) for name in P_VALUES)]
        for one in comparisons
        if (one["a"], one["b"]) == pair
    ]
    title = f"{' - '.join(map(printable, pair))}; rows that only one gets right: {counts[0]:,} and {counts[1]:,}"
    return title, ["measure", "difference", "McNemar p", "McNemar p of pairs", "Holm p"], rows


def _table_of_groups(systems: Sequence[System], names: Sequence[str], group: str) -> Table:
    rows = []
    for key, one in systems[0].groups[group].items():
        of_all = [system.groups[group][key].results()["accuracy"] for system in systems]
        cells = of_all if len(systems) > 1 else [one.results()[measure] for measure in OF_GROUPS]
        rows.append([printable(key), f"{one.rows:,}", *map(_interval, cells)])
    title = f"accuracy by {group}" if len(systems) > 1 else f"by {group}"
    return title, [group, "rows", *(names if len(systems) > 1 else OF_GROUPS)], rows


def _interval(result: Mapping[str, float] | None) -> str:
    return "-" if result is None else f"{result['value']:.4f} {_bounds(result)}"


def _bounds(result: Mapping[str, float]) -> str:
    return f"[{result['low']:.4f}, {result['high']:.4f}]"


def _p(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _format_text(lines: Sequence[str], tables: Sequence[Table]) -> str:
    parts = [*lines]
    for title, header, rows in tables:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        parts += ["", *([title] if title else [])]
        for cells in (header, *rows):
            padded = [cell.ljust(width) if not k else cell.rjust(width) for k, (cell, width) in enumerate(
                zip(cells, widths, strict=True)
            )]  # fmt: skip
            parts.append("  ".join(padded).rstrip())
    return "\n".join(parts)


def _format_markdown(lines: Sequence[str], tables: Sequence[Table]) -> str:
    parts = [line for signature in lines for line in (_quote_markdown(signature), "")]
    for title, header, rows in tables:
        parts += [*([_escape_markdown(title), ""] if title else [])]
        ruler = ["---", *["---:"] * (len(header) - 1)]
        cells = [[*map(_escape_markdown, row)] for row in (header, ruler, *rows)]
        parts += [*(f"| {' | '.join(row)} |" for row in cells), ""]
    return "\n".join(parts).rstrip("\n")


def _escape_markdown(text: str) -> str:
    return re.sub(r"[|<*`$]|\\(?=[!-/:-@[-`{-~])", r"\\\g<0>", text)


def _quote_markdown(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _format_html(lines: Sequence[str], tables: Sequence[Table]) -> str:
    parts = [f"<p><code>{escape(line)}</code></p>" for line in lines]
    return "\n".join([*parts, *(format_html(header, rows, title) for title, header, rows in tables)])


def _format_latex(lines: Sequence[str], tables: Sequence[Table]) -> str:
    parts = [f"% {line}" for line in lines]
    for title, header, rows in tables:
        parts += [f"% {title}", rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\hline"]
        for k, cells in enumerate((header, *rows)):
            parts.append(" & ".join(map(_escape_latex, cells)) + r" \\" + (r" \hline" if k == 0 else ""))
        parts += [r"\hline", r"\end{tabular}"]
    return "\n".join(parts)


def _escape_latex(text: str) -> str:
    return re.sub(r"[&%$#_{}~^\\<>|]", lambda match: _LATEX[match[0]], text)


def _format_csv(systems: Sequence[System], comparisons: Comparisons, group: Group) -> str:
    """Format all measures and comparisons as one table with a row for each number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["system", "by", "key", "rows", "measure", "value", "low", "high", *P_VALUES])

    def write(head: Sequence[Any], measure: str, result: Mapping[str, float] | None, value: str = "value") -> None:
        numbers = ["", "", ""] if result is None else [repr(result[name]) for name in (value, "low", "high")]
        ps = [result.get(name) for name in P_VALUES] if result else []
        writer.writerow(
            [*head, measure, *numbers, *("" if p is None else repr(p) for p in [*ps, None, None, None][:3])]
        )

    for system in systems:
        name = printable(system.name)
        parts = [("", "", system.whole)]
        parts += [(by, printable(key), one) for by, keys in system.groups.items() for key, one in keys.items()]
        for by, key, one in parts:
            for measure, result in one.results().items():
                write([name, by, key, one.rows], measure, result)
        if system.classes is not None:
            write([name, "", "", system.classes.rows], "group_accuracy", system.group_accuracy)
    for measure, one in (group or {}).items():
        write(["mean", "", "", ""], measure, one, "mean")
    for comparison in comparisons:
        head = [f"{printable(comparison['a'])} - {printable(comparison['b'])}", "difference", "", ""]
        write(head, comparison["measure"], comparison, "difference")
    return out.getvalue().rstrip("\n")


FORMS: Final[dict[str, Callable[[Sequence[str], Sequence[Table]], str]]] = {
    "text": _format_text,
    "markdown": _format_markdown,
    "latex": _format_latex,
    "html": _format_html,
    "csv": lambda *_: "",  # has another form; see `_format_csv`
}
