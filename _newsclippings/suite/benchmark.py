"""`newsclippings benchmark`: published baselines and ours, side by side."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from _newsclippings.check import Report, check_rows, check_splits
from _newsclippings.config import Request, bad_value, check_locations, check_name, check_path
from _newsclippings.embed import embed
from _newsclippings.errors import BadFileError, ConfigError
from _newsclippings.evaluate import FORMS, load_truth
from _newsclippings.evidence import find_evidence
from _newsclippings.facts import DEFAULT_CONFIG, NAME, SPLITS
from _newsclippings.inputs import Inputs, find_inputs
from _newsclippings.matches import read_matches
from _newsclippings.storage import Maker, cache_folder, check_not_input, check_output, local_copy, write_text
from _newsclippings.suite.baseline import Baseline, Line
from _newsclippings.suite.ccn_clip import CCN_CLIP
from _newsclippings.suite.clip_cosine import CLIP_COSINE
from _newsclippings.suite.clip_finetune import CLIP_FINETUNE
from _newsclippings.suite.cross_outlet import CROSS_OUTLET
from _newsclippings.suite.evidence_vectors import make_evidence
from _newsclippings.suite.muse import MUSE
from _newsclippings.suite.networks import require_sklearn
from _newsclippings.suite.priors import PRIORS
from _newsclippings.suite.probe import PROBE
from _newsclippings.suite.rows import Evidence, name_columns
from _newsclippings.suite.run import Run
from _newsclippings.tables import unique_ids
from _newsclippings.text import option, without_secrets

BASELINES: Final = {
    each.name: each for each in (PRIORS, CLIP_COSINE, PROBE, CCN_CLIP, MUSE, CROSS_OUTLET, CLIP_FINETUNE)
}
SIDES: Final = {"image": "pictures", "text": "captions"}
RESULTS_FILE: Final = "results.json"
RESULTS: Final = Maker("benchmark", (b'{\n "baseline": "', b'"lines": [', b'"verdict": '))
_COLUMNS: Final = ("method", "measure", "published", "ours", "95 % interval", "sd", "seeds", "verdict")


@dataclass(frozen=True)
class Benchmark:
    """The result of a baseline.

    Attributes:
        name: the baseline.
        lines: the rows of the table: `method`, `measure`, `published` (None if there is no number) and its `source`,
            our `value` with `low`, `high` and `sd` over seeds, `seeds`, `rows`, `verdict`, `signature`, and the files
            of `predictions`.
        notes: what is suspicious or left out, a line each.
    """

    name: str
    lines: Sequence[Line]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as in results.json."""
        return {"baseline": self.name, "lines": [*self.lines], "notes": [*self.notes]}

    def table(self, form: str = "text") -> str:
        """Return the table as text, markdown or latex."""
        if form not in FORMS or form == "csv":
            raise bad_value("form", form, [each for each in FORMS if each != "csv"])
        rows = [
            [
                line["method"],
                line["measure"],
                "-" if line["published"] is None else f"{line['published']:.1%}",
                f"{line['value']:.1%}",
                f"{line['low']:.1%} to {line['high']:.1%}",
                f"{line['sd']:.2%}",
                str(line["seeds"]),
                line["verdict"],
            ]
            for line in self.lines
        ]
        rows = [[cell.replace("%", " %") for cell in row] for row in rows]
        return FORMS[form]([*dict.fromkeys(line["signature"] for line in self.lines)], [(self.name, _COLUMNS, rows)])

    def __str__(self) -> str:
        return self.table()


def benchmark(
    name: str,
    *,
    seeds: int = 5,
    config: str | None = None,
    vectors: Mapping[str, str | os.PathLike[str]] | None = None,
    model: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    visual_news: Any = None,
    out: str | os.PathLike[str] = "benchmark",
    evidence: Evidence | str | os.PathLike[str] | None = None,
    as_if_unlabelled: bool = False,
    train_flags: Sequence[str] = (),
) -> Benchmark:
    """Run a baseline: check the inputs, train, select on validation, test once, and compare with what was published.

    Predictions of each method and seed are written in the format of `evaluate`, which measures them. A verdict is
    `inside` if the published number is in our 95 % interval.

    Args:
        name: a name of `newsclippings benchmark --list`.
        seeds: how many seeds; a method without randomness runs once.
        config: name of the config, which may be one that was generated into data_dir. Unset: merged_balanced; for
            cross-outlet, all five.
        vectors: `image` or `text` -> a folder of `newsclippings embed`, or a file of vectors by id. Unset: the authors'
            vectors of CLIP ViT-B/32.
        model: a model as of `newsclippings embed`: its vectors are made first, below `out`, and kept there.
        data_dir: as in `NewsCLIPpingsConfig`.
        visual_news: as in `NewsCLIPpingsConfig`; for `model` and clip-finetune.
        out: the folder for predictions and results.json.
        evidence: for muse: the folder of CCN (see the option `evidence` of a build), of which `model` makes the
            vectors, too; of a row the nearest picture and text are used. Or a function of the names of a config and a
            split that returns row numbers, int64 (M,), and the vectors of their evidence, float32 (M, width):
            pictures, and texts. Zeros, or no row: no evidence. Both rows of a pair may share evidence, but each has
            its own entry.
        as_if_unlabelled: leave exact matches out of the evidence of all rows, as `newsclippings.as_if_unlabelled`, and
            not as CCN's lists, which depend on the label. For the folder of CCN; all of its pictures are read.
        train_flags: for clip-finetune: more flags of `newsclippings train`.

    Raises:
        ConfigError: an option has a value that cannot be used.
        MissingDependencyError: the extra `suite` is not installed.
        NewsCLIPpingsError: an input is missing or damaged.
    """
    if name not in BASELINES:
        raise bad_value("name", name, BASELINES)
    baseline, given = BASELINES[name], dict(vectors or {})
    _check_options(baseline, seeds, config, data_dir, given, model, evidence, train_flags)
    if as_if_unlabelled and (evidence is None or callable(evidence)):
        raise ConfigError(
            f"{option('as_if_unlabelled', True)} needs {option('evidence')} with CCN's folder. Pass both."
        )
    configs = list(baseline.configs) if config is None else [config]
    place, folder = check_path("data_dir", data_dir), Path(out)
    locations = {side: str(check_path("vectors", location)) for side, location in given.items()}
    sources = check_locations(visual_news)
    inputs = _find_inputs(configs, locations, place, sources)
    check_output(folder / name / RESULTS_FILE, RESULTS)
    web = None if evidence is None or callable(evidence) else str(check_path("evidence", evidence))
    if web is not None:
        find_evidence(web, [*SPLITS])
        check_not_input(folder, [web])
    check_not_input(folder / name, [location for each in inputs for location in each.list_places()])
    _verify(inputs)
    if model is not None:
        locations = _make_vectors(model, configs, folder, place, sources)
        inputs = _find_inputs(configs[:1], locations, place, sources)
    notes: list[str] = []
    if web is not None and model is not None:
        place_of = _vectors_of(model, folder)
        evidence, notes = make_evidence(web, model, locations, place_of, place, sources, as_if_unlabelled)
    run = Run(
        baseline,
        configs,
        seeds,
        place,
        sources,
        locations,
        _name_models(inputs[0], locations),
        folder,
        evidence if callable(evidence) else None,
        as_if_unlabelled,
        list(train_flags),
        notes,
    )
    lines = baseline.run(run)
    found = Benchmark(name, lines, [*dict.fromkeys(run.notes)])
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_text(folder / name / RESULTS_FILE, json.dumps(found.as_dict(), indent=1) + "\n", RESULTS)
    return found


def _check_options(
    baseline: Baseline,
    seeds: int,
    config: str | None,
    data_dir: object,
    vectors: Mapping[str, Any],
    model: str | None,
    evidence: object,
    train_flags: Sequence[str],
) -> None:
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise ConfigError(f"{option('seeds')}: expected a number from 1 on, found {seeds!r}. Correct it.")
    if config is not None:
        check_name(config, data_dir)
    if unknown := [side for side in vectors if side not in SIDES]:
        raise bad_value("vectors", unknown, SIDES)
    if vectors and model is not None:
        raise ConfigError(f"{option('vectors')} and {option('model')} both name the vectors. Pass one of them.")
    if (vectors or model is not None) and baseline is CLIP_FINETUNE:
        raise ConfigError(f"{baseline.name} reads pictures and captions, and no vectors. Leave them out.")
    if evidence is not None and baseline is not MUSE:
        raise ConfigError(f"{option('evidence')} has no effect on {baseline.name}: only muse reads evidence.")
    if evidence is not None and not callable(evidence) and config not in (None, DEFAULT_CONFIG):
        raise ConfigError(f"{option('evidence')} is for {DEFAULT_CONFIG}, and not for {config}. Leave one of them out.")
    if evidence is not None and not callable(evidence) and model is None:
        message = (
            f"{option('evidence')} needs {option('model')}, which makes the vectors of rows and of their evidence."
        )
        raise ConfigError(message)
    if train_flags and baseline is not CLIP_FINETUNE:
        raise ConfigError(f"Flags of `newsclippings train` have no effect on {baseline.name}. Leave them out.")
    if baseline not in (CLIP_COSINE, CLIP_FINETUNE):
        require_sklearn()


def _find_inputs(
    configs: Sequence[str], vectors: Mapping[str, str], data_dir: str | None, visual_news: list[str] | None
) -> list[Inputs]:
    own = dict(name_columns([*vectors], vectors).values()) or None
    return [
        find_inputs(Request(config, data_dir=data_dir, visual_news=visual_news, images="none", embeddings=own))
        for config in configs
    ]


def _verify(inputs: Sequence[Inputs]) -> None:
    """Raise an error if matches are damaged or break a rule. Other inputs are checked by the step that reads them."""
    report, matches = Report(), {}
    for each in inputs:
        for split, location in each.matches.items():
            with report.collecting(without_secrets(location)):
                file = local_copy(location, cache_folder() / NAME / "downloads")
                matches[each.config, split] = read_matches(file, each.config, names=each.source_datasets)
    found = {each.config: each for each in inputs}
    for (config, split), table in matches.items():
        check_rows(report, found[config], split, table)
    check_splits(report, matches, found)
    faults = {**report.missing, **report.invalid}
    if faults:
        where, what = next(iter(faults.items()))
        more = f" {len(faults) - 1} more: see `newsclippings verify`." if len(faults) > 1 else ""
        raise BadFileError(f"{where}: {what.removeprefix(where).lstrip(': ')}{more}")


def _name_models(inputs: Inputs, vectors: Mapping[str, str]) -> dict[str, str]:
    """Return the model of the vectors of each side; empty for files, which do not say it."""
    columns = name_columns([*vectors], vectors)
    plans = {side: inputs.own_vectors[column].plan for side, (column, _) in columns.items()}
    return {side: str(plan.encoder.get("model", "")) if plan else "" for side, plan in plans.items()}


def _make_vectors(
    model: str, configs: Sequence[str], out: Path, data_dir: str | None, visual_news: list[str] | None
) -> dict[str, str]:
    """Make the vectors of a model for both sides, or go on with those that are there."""
    truths = [load_truth(config, split, data_dir, groups=False) for config in configs for split in SPLITS]
    ids = {"image": [truth.image_ids for truth in truths], "text": [truth.ids for truth in truths]}
    made = {}
    for side, of in SIDES.items():
        folder = _vectors_of(model, out) / of
        folder.parent.mkdir(parents=True, exist_ok=True)
        embed(folder, model, of, ids=unique_ids(*ids[side]).tolist(), data_dir=data_dir, visual_news=visual_news)
        made[side] = str(folder)
    return made


def _vectors_of(model: str, out: Path) -> Path:
    """Return the folder for the vectors of a model."""
    return out / "vectors" / "".join(letter if letter.isalnum() else "-" for letter in model).strip("-")


def describe_baselines() -> str:
    """Describe each baseline: what it needs and costs, the published numbers with their sources, and differences."""
    lines = []
    for baseline in BASELINES.values():
        lines += [f"{baseline.name}: {baseline.about}", f"  needs: {baseline.needs}", f"  cost: {baseline.cost}"]
        for method, number in baseline.list_published():
            about = "; ".join(filter(None, [number.vectors, number.source]))
            what = " ".join(filter(None, [method, number.measure]))
            lines.append(f"  published: {what} {number.value:.1%}".replace("%", " %") + f" ({about})")
        lines += [f"  differs: {difference}" for difference in baseline.differences]
        lines.append("")
    return "\n".join(lines).rstrip("\n")
