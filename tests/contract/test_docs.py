"""The documentation is true: commands and snippets run, tables match the code, generated files are up to date."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from click.testing import CliRunner
from datasets.info import DatasetInfosDict
from support.reading import TESTS, environment

import newsclippings
from _newsclippings import facts as schema
from _newsclippings.cli.commands import main
from _newsclippings.facts import columns_of
from _newsclippings.folder.infos import dataset_infos, dataset_infos_text
from _newsclippings.show.sample import write_sample

ROOT = TESTS.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARD: dict[str, Any] = yaml.safe_load(README.split("---")[1])
BLOCKS = re.findall(r"(?:<!-- (.*?) -->\n)?```(\w+)\n(.*?)```", README, re.DOTALL)


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading, as lists of cells."""
    section = README.split(f"# {heading}\n")[1].split("\n#")[0]
    lines = next(part for part in section.split("\n\n") if part.lstrip().startswith("|")).strip().splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def python_snippets(note: str) -> str:
    return "\n".join(code for found, language, code in BLOCKS if language == "python" and found == note)


def run_python(code: str, cwd: Path, tmp_path: Path, *flags: str) -> str:
    env = environment(tmp_path / "hf")
    command = [sys.executable, *flags, "-W", "error::FutureWarning:newsclippings", "-c", code]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_snippets_run_one_after_the_other(tmp_path: Path) -> None:
    """The README's Python snippets run in order, in a folder with the sample at demo/data."""
    write_sample(tmp_path / "cwd" / "demo" / "data")
    lines = [line for _, language, code in BLOCKS if language == "bash" for line in code.splitlines()]
    for folder in ("once", "thin"):
        (command,) = [line for line in lines if line.startswith(f"newsclippings build demo/{folder} ")]
        assert CliRunner().invoke(main, shlex.split(command)[1:]).exit_code == 0
    out = run_python(python_snippets(""), tmp_path / "cwd", tmp_path)
    assert "Distant galaxies crowd the Hubble eXtreme Deep Field" in out
    assert "16 of 16 rows" in out


def test_the_commands_run_and_the_built_folder_loads(tmp_path: Path) -> None:
    """Each `newsclippings` command of the README runs, in order; then the snippet that needs no import."""
    blocks = [code for note, language, code in BLOCKS if language == "bash" and not note.startswith("not run")]
    commands = [line for code in blocks for line in code.splitlines()]
    mine = [shlex.split(line, comments=True) for line in commands if re.match(r"(\.venv/bin/)?newsclippings ", line)]
    used = {
        "sample",
        "preview",
        "build",
        "index",
        "croissant",
        "stats",
        "push",
        "verify",
        "evaluate",
        "benchmark",
        "export",
    }
    assert {words[1] for words in mine} == used
    (toys,) = [code for _, language, code in BLOCKS if language == "python" and "coin.jsonl" in code]
    write_sample(Path("demo/data"))
    run_python(f"import newsclippings\n{toys}", Path.cwd(), tmp_path)
    for words in mine:
        result = CliRunner().invoke(main, words[1:])
        assert result.exit_code == 0, result.output
    assert Path("demo/pairs.png").stat().st_size > 50_000
    assert Path("demo/pairs.html").stat().st_size > 200_000
    snippet = python_snippets("in a folder with ./newsclippings, without importing newsclippings")
    out = run_python(f"{snippet}\nimport sys\nprint(dataset, 'newsclippings' in sys.modules)", Path.cwd(), tmp_path)
    assert "num_rows: 24" in out
    assert out.rstrip().endswith("False")


def test_make_targets_exist() -> None:
    """Every `make` line of the README names a target of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for _, language, code in BLOCKS if language == "bash" for name in re.findall(r"make ([\w-]+)", code)}
    assert named == {
        "demo",
        "demo-embed",
        "ray",
        "test",
        "sweep",
        "train",
        "browser",
        "test-oldest",
        "test-reader",
        "lint",
        "wheel",
    }
    assert named <= targets


def test_the_tree_is_the_same_everywhere() -> None:
    """The README and the error message show the same directory tree, word for word."""
    (tree,) = [code for _, language, code in BLOCKS if language == "text"]
    assert tree.strip().splitlines() == [line.strip() for line in schema.VISUAL_NEWS_TREE.splitlines()]


def test_readme_tables_match_the_code() -> None:
    """The README's tables of columns, counts and options match the code."""
    assert table("Fields") == [[name, kind, meaning] for name, (kind, meaning) in schema.COLUMNS.items()]
    counts = {row[0].removesuffix("` (default)"): row[1:] for row in table("Splits")}
    assert counts == {
        config: ["-" if n is None else f"{n:,}" for n in rows.values()] for config, rows in schema.ROWS.items()
    }
    assert schema.CITATION.strip() in README
    fields = {field.name for field in dataclasses.fields(newsclippings.NewsCLIPpingsConfig)}
    inherited = {"name", "version", "data_files", "description"}
    assert {row[0] for row in table("Options")} == fields - inherited


def test_card_and_infos_match_the_code() -> None:
    """The README's YAML, dataset_infos.json and the code agree."""
    assert (ROOT / "dataset_infos.json").read_text(encoding="utf-8") == dataset_infos_text()
    infos = DatasetInfosDict({k: datasets.DatasetInfo.from_dict(v) for k, v in dataset_infos().items()})
    known = {config: {s: n for s, n in rows.items() if n is not None} for config, rows in schema.ROWS.items()}
    assert {config: {s: i.num_examples for s, i in info.splits.items()} for config, info in infos.items()} == known
    assert all(info.features == datasets.Features.from_dict(columns_of()) for info in infos.values())
    card = {c["config_name"]: {s["name"]: s["num_examples"] for s in c["splits"]} for c in CARD["dataset_info"]}
    assert card == known
    assert [c["config_name"] for c in CARD["configs"]] == list(schema.CONFIGS)
    assert [c["config_name"] for c in CARD["configs"] if c.get("default")] == [schema.DEFAULT_CONFIG]
    for config in CARD["configs"]:
        name = config["config_name"]
        expected = [{"split": split, "path": f"{name}/{split}-*.parquet"} for split in schema.SPLITS]
        assert config["data_files"] == expected


def test_versions_agree() -> None:
    """Package, builder, changelog and citation have the same version, and the release notes mention it."""
    version = schema.VERSION
    assert newsclippings.__version__ == version == str(newsclippings.NewsCLIPpings.VERSION)
    assert version in newsclippings.NewsCLIPpings.RELEASE_NOTES
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert json.loads((ROOT / "dataset_infos.json").read_text())["merged_balanced"]["version"] == version


def test_public_names_have_docstrings() -> None:
    """Every exported name and public method has a docstring."""
    for name in newsclippings.__all__:
        thing = getattr(newsclippings, name)
        assert thing.__doc__, name
        own = [m for m in vars(thing) if not m.startswith("_") and callable(getattr(thing, m))]
        assert all(getattr(thing, method).__doc__ for method in own), name


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_demo_runs(tmp_path: Path) -> None:
    """The demo prints splits, columns, rows, the join report and the path of its picture."""
    env = environment(tmp_path / "hf")
    command = [sys.executable, str(ROOT / "examples" / "demo.py"), "demo"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    for part in (
        "DatasetDict",
        "num_rows: 24",
        "image_caption",
        "'falsified': 1",
        "'dropped_pairs': 0",
        "demo/pairs.png",
    ):
        assert part in done.stdout
    assert Path("demo/pairs.png").is_file()
