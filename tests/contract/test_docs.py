"""The documentation is true: commands and snippets run, tables match the code, generated files are up to date."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from datasets.info import DatasetInfosDict
from support.forking import run_module
from support.pages import blocks, is_run
from support.reading import TESTS, environment

import newsclippings
from _newsclippings import facts as schema
from _newsclippings.cli.commands import main
from _newsclippings.facts import columns_of
from _newsclippings.folder.infos import dataset_infos, dataset_infos_text
from _newsclippings.show.sample import write_sample

ROOT = TESTS.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
CARD: dict[str, Any] = yaml.safe_load(README.split("---")[1])


def table(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the table below a heading of a page, as lists of cells."""
    section = (ROOT / page).read_text(encoding="utf-8").split(f"# {heading}\n")[1].split("\n#")[0]
    lines = next(part for part in section.split("\n\n") if part.lstrip().startswith("|")).strip().splitlines()
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


# tests/suite/test_baselines_page.py runs that page, which adds a module
RUN = [page for page in PAGES if page.stem != "baselines" and any(map(is_run, blocks(page)))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_snippets_of_each_page_run(page: Path, tmp_path: Path) -> None:
    """The snippets of a page run one after the other, in a folder with the sample at demo/data."""
    write_sample(tmp_path / "demo" / "data")

    def before() -> None:
        os.environ.update(environment(tmp_path / "hf"))
        warnings.filterwarnings("error", category=FutureWarning, module=r"newsclippings\Z")

    done = run_module("support.pages", [str(page)], tmp_path, before=before)
    assert done.code == 0, done.err


def test_every_command_is_shown() -> None:
    """Each command of `newsclippings` is in a snippet of a page, and no snippet has another."""
    code = "\n".join(block.code for page in PAGES for block in blocks(page) if block.language == "bash")
    shown = set(re.findall(r"(?<!/)newsclippings ([a-z][a-z-]+)(?= |$)", code, re.MULTILINE))
    assert shown == {name for name, command in main.commands.items() if not command.hidden}


def test_make_targets_exist() -> None:
    """Every `make` line of the documentation names a target of the Makefile, and each target is explained."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(block.code for page in PAGES for block in blocks(page) if block.language == "bash")
    assert set(re.findall(r"make ([\w-]+)", code)) == targets - {"clean"}


def test_links_lead_somewhere() -> None:
    """Each relative link of the README and of the other texts at the top names a file, and a heading in it."""
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = ROOT / name if name else page
            assert target.exists(), (page.name, link)
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
            assert not anchor or anchor in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}


def test_the_readme_is_short() -> None:
    """A newcomer reads the README in some minutes: 1,500 words at most, without the YAML."""
    assert len(README.split("---\n", 2)[2].split()) <= 1500


def test_the_tree_is_the_same_everywhere() -> None:
    """The README and the error message show the same directory tree, word for word."""
    (tree,) = [block.code for block in blocks(PAGES[0]) if block.language == "text"]
    assert tree.strip().splitlines() == [line.strip() for line in schema.VISUAL_NEWS_TREE.splitlines()]


def test_readme_tables_match_the_code() -> None:
    """The README's tables of columns, counts and options match the code."""
    assert table("README.md", "Fields") == [[name, kind, meaning] for name, (kind, meaning) in schema.COLUMNS.items()]
    counts = {row[0].removesuffix("` (default)"): row[1:] for row in table("README.md", "Splits")}
    assert counts == {
        config: ["-" if n is None else f"{n:,}" for n in rows.values()] for config, rows in schema.ROWS.items()
    }
    assert schema.CITATION.strip() in README
    fields = {field.name for field in dataclasses.fields(newsclippings.NewsCLIPpingsConfig)}
    inherited = {"name", "version", "data_files", "description"}
    assert {row[0] for row in table("docs/reference/options.md", "Options")} == fields - inherited


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


def test_the_demo_runs(tmp_path: Path) -> None:
    """The demo prints splits, columns, rows, the join report and the path of its picture."""
    done = run_module("examples.demo", ["demo"], tmp_path, before=lambda: sys.path.insert(0, str(ROOT)))
    assert done.code == 0, done.err
    for part in (
        "DatasetDict",
        "num_rows: 24",
        "image_caption",
        "'falsified': 1",
        "'dropped_pairs': 0",
        "demo/pairs.png",
    ):
        assert part in done.out
    assert (tmp_path / "demo/pairs.png").is_file()
