"""What users call: public names, their parameters, the help of the command line. None changes unnoticed."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from support.help import KEPT, help_of_commands
from support.stubs import STUBS, stubs_of

import newsclippings

PARAMETERS = {
    "BadFileError": ["message"],
    "BadPickleError": ["message"],
    "BadTarError": ["message"],
    "ConfigError": ["message"],
    "DataNotFoundError": ["message"],
    "HubError": ["message"],
    "MissingDataError": ["message"],
    "MissingDependencyError": ["message"],
    "NewsCLIPpings": ["cache_dir", "arguments"],
    "NewsCLIPpingsConfig": [
        "name",
        "version",
        "data_dir",
        "data_files",
        "description",
        "visual_news",
        "images",
        "missing",
        "splits",
        "embeddings",
        "metadata",
        "articles",
        "visual_news_index",
        "check_images",
    ],
    "NewsCLIPpingsError": ["message"],
    "NoSpaceError": ["message", "number"],
    "RemoteReadError": ["message"],
    "Report": ["missing", "invalid", "counts", "files", "pictures", "looked_at", "notes", "next"],
    "UnsafePathError": ["message"],
    "decode_small": ["image", "side"],
    "join_images": ["thin", "images"],
    "read_embeddings": ["path"],
    "read_faces": ["path"],
    "verify": [
        "data_dir",
        "visual_news",
        "configs",
        "images",
        "embeddings",
        "checksums",
        "visual_news_index",
        "cache_dir",
    ],
    "verify_built": ["folder"],
}
OPTIONS = PARAMETERS["NewsCLIPpingsConfig"][5:]  # but the five that every builder of `datasets` has


def test_public_names() -> None:
    """A name that is added, lost or renamed is a decision: this list is changed with it."""
    assert sorted(newsclippings.__all__) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    """Those of each public function and class, in their order."""
    assert list(inspect.signature(getattr(newsclippings, name)).parameters) == PARAMETERS[name]


def test_options_of_a_build() -> None:
    """The fields of the config, beside those of `datasets`, in their order."""
    own = [field.name for field in dataclasses.fields(newsclippings.NewsCLIPpingsConfig)]
    of_datasets = {field.name for field in dataclasses.fields(datasets.BuilderConfig)}
    assert [name for name in own if name not in of_datasets] == OPTIONS


def test_help_of_every_command() -> None:
    """Word for word; `python -m tests.support.help` writes what is kept again."""
    assert help_of_commands() == KEPT.read_text(encoding="utf-8")


def test_types_are_those_of_the_module() -> None:
    """What users' type checkers read is what `python -m tests.support.stubs` writes now."""
    kept, made = STUBS.read_text(encoding="utf-8"), stubs_of(Path(newsclippings.__file__).read_text(encoding="utf-8"))
    assert ast.dump(ast.parse(kept)) == ast.dump(ast.parse(made)), "run `python -m tests.support.stubs`"


@pytest.mark.parametrize("folder", ["clone", "built"])
def test_a_folder_of_the_same_name_does_not_hide_it(tmp_path: Path, folder: str) -> None:
    """An installed package is imported beside a folder ./newsclippings: a clone of this project, or a built folder."""
    if folder == "clone":
        (tmp_path / "newsclippings").symlink_to(Path(newsclippings.__file__).parent)
    else:
        (tmp_path / "newsclippings" / "merged_balanced").mkdir(parents=True)
    code = "import newsclippings; print(newsclippings.verify, newsclippings.__file__)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(newsclippings.__file__)
