"""The command: `python -m benchmarks --scale 0.1`."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from benchmarks import report
from benchmarks.measure import ROOT, Result, measure
from benchmarks.works import WORKS

RECORDS = 1_259_732  # of VisualNews; as in benchmarks.corpus, which is too large to be imported here


def _scale(context: click.Context, parameter: click.Parameter, value: str) -> float:
    try:
        scale = 1.0 if value == "full" else float(value)
    except ValueError:
        scale = 0.0
    if not 0 < scale <= 1:
        raise click.BadParameter(f"{value!r}: expected 'full' or a fraction, such as 0.1.")
    return scale


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--scale", default="0.1", show_default=True, callback=_scale, help="'full', or a fraction of it.")
@click.option(
    "--only", multiple=True, type=click.Choice(list(WORKS)), help="Which work; repeat for more.  [default: all]"
)
@click.option("--runs", type=click.IntRange(min=1), help="Rounds that count.  [default: 3 at full size, else 5]")
@click.option("--timeout", default=1800.0, show_default=True, help="Seconds after which a run is killed.")
@click.option(
    "--work",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default="build/benchmarks",
    show_default=True,
    help="Folder for the corpus and everything built from it (full: 15 GB). The corpus is kept for the next time.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="build/benchmarks",
    show_default=True,
    help="Folder for benchmarks.md, benchmarks.png and benchmarks.json.",
)
def main(scale: float, only: tuple[str, ...], runs: int | None, timeout: float, folder: Path, out: Path) -> None:
    """Compare time and memory of this package with other ways to do the same work.

    \b
    Example:
      python -m benchmarks --scale 0.1 --only captions --only pictures_tar
    """
    names = [name for name in WORKS if not only or name in only]
    runs = runs or (3 if scale == 1 else 5)
    folder = folder.absolute()
    out.mkdir(parents=True, exist_ok=True)
    corpora = _make_corpora(folder, scale, names)
    facts = report.describe_setup(scale, runs, max(400, round(RECORDS * scale)))
    results: dict[str, list[Result]] = {}
    steps = (runs + 1) * sum(len(WORKS[name].contenders) for name in names)
    own = folder / f"run-{os.getpid()}"
    try:
        with tqdm(total=steps, unit="run", disable=None) as bar:
            for name in names:

                def step(label: str, name: str = name) -> None:
                    bar.set_description(f"{name}: {label}")
                    bar.update()

                results[name] = measure(WORKS[name], corpora, own / name, step, scale=scale, runs=runs, timeout=timeout)
                _write(out, facts, results)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    click.echo(report.table({name: report.lines(work) for name, work in results.items()}))
    try:
        from benchmarks.plot import draw  # imported last, since large imports would change the measured peaks
    except ImportError:
        click.echo("No plot: matplotlib is not installed.", err=True)
        return
    title = f"scale {scale:g}, median of {runs} runs; {facts['system']}; {facts['date']}"
    draw({name: report.lines(work) for name, work in results.items()}, title, out / "benchmarks.png")


def _write(out: Path, facts: dict[str, Any], results: dict[str, list[Result]]) -> None:
    """Write the report and the raw results so far."""
    raw = {**facts, "works": {name: [result.plain() for result in work] for name, work in results.items()}}
    (out / "benchmarks.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    summed = {name: report.lines(work) for name, work in results.items()}
    (out / "benchmarks.md").write_text(report.markdown(facts, summed), encoding="utf-8")


def _make_corpora(folder: Path, scale: float, names: list[str]) -> dict[int, Path]:
    """Return the corpus for each growth; make those that the same code has not made before."""
    digest = hashlib.sha256()
    for file in sorted((ROOT / "benchmarks").glob("corpus*.py")):
        digest.update(file.read_bytes())
    parts: dict[int, set[str]] = {}
    for work in (WORKS[name] for name in names):
        for growth in {1, *(contender.growth for contender in work.contenders)}:
            parts.setdefault(growth, set()).update(work.parts)
    corpora = {}
    for growth, wanted in parts.items():
        corpora[growth] = folder / f"corpus-{scale * growth:g}-{digest.hexdigest()[:8]}"
        for other in set(folder.glob(f"corpus-{scale * growth:g}-*")) - {corpora[growth]}:
            shutil.rmtree(other)  # made by earlier code
        if not all((corpora[growth] / f"{part}.done").exists() for part in wanted):
            click.echo(f"Making a corpus in {corpora[growth]}", err=True)
        command = [sys.executable, "-m", "benchmarks.corpus", str(corpora[growth]), str(scale * growth), *wanted]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return corpora


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
