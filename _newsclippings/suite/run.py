"""Run a baseline: load rows, train on each seed, write predictions, and let `evaluate` measure them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from _newsclippings.evaluate import (
    HUB_RESULT,
    HUB_RESULT_MARKS,
    Evaluation,
    evaluate,
    format_hub_result,
    official_revision,
)
from _newsclippings.facts import HUB_REPO, SPLITS
from _newsclippings.storage import Maker, check_output, foreign_output, write_text
from _newsclippings.suite.baseline import BY_VALIDATION, SHIPPED_VECTORS, Baseline, Line, Method
from _newsclippings.suite.rows import Evidence, Floats, Labelled, load_rows
from _newsclippings.suite.verdicts import Setting, judge
from _newsclippings.tables import Int64s

PREDICTIONS: Final = Maker("benchmark", (b'{"index": ', b'"score": ', b'"baseline": "'))
FACTS: Final = Maker("benchmark", (b'{"baseline": "', b'"threshold": '))
RESULT_OF_HUB: Final = Maker("benchmark", HUB_RESULT_MARKS)
FACTS_FILE: Final = "facts.json"
FILES: Final = {"test": "predictions.jsonl", "validation": "validation.jsonl"}


@dataclass
class Run:
    """One call of `benchmark`.

    Attributes:
        baseline: the baseline.
        configs: names of the configs.
        seeds: how many seeds.
        data_dir: see `Request`.
        visual_news: see `Request`; for baselines that need pictures.
        vectors: `image` and `text` -> location, of the user's vectors.
        models: `image` and `text` -> the model of the vectors; empty if the files do not say it.
        out: the folder to write.
        evidence: see `benchmark`.
        unlabelled: whether exact matches were left out of the evidence of all rows.
        flags: flags of `newsclippings train`.
        notes: what is suspicious or left out, a line each.
    """

    baseline: Baseline
    configs: Sequence[str]
    seeds: int
    data_dir: str | None
    visual_news: list[str] | None
    vectors: Mapping[str, str]
    models: Mapping[str, str]
    out: Path
    evidence: Evidence | None = None
    unlabelled: bool = False
    flags: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)

    def load(self, names: Iterable[str]) -> dict[str, Labelled]:
        """Load the rows of all splits with some columns of vectors."""
        columns = [*names]
        place = self.vectors, self.data_dir, self.evidence, self.visual_news
        found = {split: load_rows(self.configs, split, columns, *place) for split in SPLITS}
        for split, part in found.items():
            for name, count in part.lacking.items():
                self.notes.append(f"{split}: {count:,} of {len(part.rows):,} rows have no vector of {name}: zeros.")
        return found

    def measure_methods(self, methods: Sequence[Method] | None = None) -> list[Line]:
        """Train and measure methods; return the lines of the table."""
        chosen = self.baseline.methods if methods is None else methods
        own = [method for method in chosen if self.vectors and {*method.columns} - {"image", "text"}]
        for method in own:
            self.notes.append(f"Left out: {method.name}, which is for the authors' vectors. Pass none of your own.")
        chosen = [method for method in chosen if method not in own]
        parts = self.load(dict.fromkeys(name for method in chosen for name in method.columns))
        lines: dict[str, Line] = {}
        for method in chosen:
            lines[method.name] = self._measure(method, parts, lines)
        return [*lines.values()]

    def _measure(self, method: Method, parts: Mapping[str, Labelled], others: Mapping[str, Line]) -> Line:
        train, validation, test = (parts[split] for split in SPLITS)
        files, thresholds = [], []
        for seed in range(self.seeds if method.seeded else 1):
            scorer = method.fit(train.rows, train.falsified, validation.rows, validation.falsified, seed)
            folder, threshold = self.folder(method.name, seed), method.threshold
            if threshold == BY_VALIDATION:
                file = self.write(folder, "validation", validation.index, scorer(validation.rows))
                threshold = f"{BY_VALIDATION}:{file}"
            files.append(self.write(folder, "test", test.index, scorer(test.rows)))
            self._write_facts(folder, method)
            thresholds.append(threshold)
        self._remove_others(method.name, len(files))
        line = self.describe(method, files, thresholds, others)
        if method.expected is None and line["measure"] == "accuracy":
            self._write_hub_result(files[0].parent.parent, line)
        return line

    def _write_hub_result(self, folder: Path, line: Line) -> None:
        """Write the result as the Hub reads it, for the repository of a model; not of controls."""
        (folder / HUB_RESULT).parent.mkdir(exist_ok=True)
        notes = f"{self.baseline.name}, mean of {line['seeds']} seeds, {line['signature']}"
        revision = official_revision(self.data_dir)
        text = format_hub_result(self.configs[0], line["value"], notes, HUB_REPO, revision)
        write_text(folder / HUB_RESULT, text, RESULT_OF_HUB)

    def folder(self, name: str, seed: int) -> Path:
        """Return the folder for the predictions of a method."""
        words = "".join(letter if letter.isalnum() else " " for letter in name).split()
        return self.out / self.baseline.name / "-".join(words) / f"seed-{seed}"

    def write(self, folder: Path, split: str, index: Int64s, scores: Floats, suffix: str = "") -> Path:
        """Write the predictions of a split."""
        folder.mkdir(parents=True, exist_ok=True)
        name = FILES[split].replace(".", f"{suffix}.")
        rows = zip(index.tolist(), scores.tolist(), strict=True)
        lines = (json.dumps({"index": k, "score": score, "baseline": self.baseline.name}) + "\n" for k, score in rows)
        write_text(folder / name, "".join(lines), PREDICTIONS)
        return folder / name

    def _remove_others(self, name: str, seeds: int) -> None:
        """Remove what an earlier run with more seeds wrote."""
        while (folder := self.folder(name, seeds)).is_dir():
            for file, maker in {**dict.fromkeys(FILES.values(), PREDICTIONS), FACTS_FILE: FACTS}.items():
                check_output(folder / file, maker)
                (folder / file).unlink(missing_ok=True)
            if any(folder.iterdir()):
                raise foreign_output(folder, PREDICTIONS.command)
            folder.rmdir()
            seeds += 1

    def _write_facts(self, folder: Path, method: Method) -> None:
        """Write what `newsclippings leaderboard` shows beside the predictions."""
        threshold = f"{BY_VALIDATION}:{FILES['validation']}" if method.threshold == BY_VALIDATION else method.threshold
        facts = {"baseline": self.baseline.name, "name": f"{self.baseline.name}: {method.name}", "threshold": threshold}
        reads = {"pixels": False, "evidence": self.evidence is not None, "web": False}
        write_text(folder / FACTS_FILE, json.dumps({**facts, **reads}) + "\n", FACTS)

    def describe(
        self, method: Method, files: Sequence[Path], thresholds: Sequence[Any], others: Mapping[str, Line]
    ) -> Line:
        """Let `evaluate` measure predictions of several seeds, and compare them with what was published."""
        found = evaluate(*files, config=self.configs[0], data_dir=self.data_dir, threshold=[*thresholds], group=True)
        self._note(method, found)
        measure = method.published.measure if method.published else "accuracy"
        group = (found.group or {})[measure]
        rows = found.systems[0].answers.counts["expected"]
        return self.line(method, measure, group, rows, found.signature, files, others)

    def line(
        self,
        method: Method,
        measure: str,
        group: Mapping[str, float],
        rows: int,
        signature: str,
        files: Sequence[Path],
        others: Mapping[str, Line],
    ) -> Line:
        """Return a line of the table.

        Args:
            method: the method.
            measure: name of the measure.
            group: its `mean`, `sd`, `low` and `high` over seeds.
            rows: how many rows were measured.
            signature: of the first seed.
            files: predictions of each seed.
            others: name -> line of the methods before it, among which may be its positive control.
        """
        setting = Setting([*self.configs], rows, self._models(method))
        published = method.published
        return {
            "baseline": self.baseline.name,
            "method": method.name,
            "measure": measure,
            "published": published.value if published else None,
            "source": published.source if published else None,
            "value": group["mean"],
            "low": group["low"],
            "high": group["high"],
            "sd": group["sd"],
            "seeds": len(files),
            "rows": rows,
            "verdict": judge(method, group, setting, others),
            "signature": signature,
            "predictions": [str(file) for file in files],
        }

    def _models(self, method: Method) -> set[str]:
        return {self.models.get(name, SHIPPED_VECTORS) for name in method.columns}

    def _note(self, method: Method, evaluation: Evaluation) -> None:
        """Keep what `evaluate` notes on predictions, except those of a planted label."""
        if method.expected is None or method.expected.value != 1:
            answers = [system.answers for system in evaluation.systems]
            self.notes += [f"{method.name}: {note}" for each in answers for note in each.notes]
