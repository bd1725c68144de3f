"""The public interface: names, parameters and help texts. None changes unnoticed."""

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
    "Benchmark": ["name", "lines", "notes"],
    "ConfigError": ["message"],
    "DataNotFoundError": ["message"],
    "EmbedReport": ["folder", "of", "model", "width", "ids", "parts", "made", "absent", "unread"],
    "Encoder": ["of", "width", "facts", "prepare", "encode", "several", "normalised", "side", "batch"],
    "EntitiesCheck": ["folder", "problems", "notes", "ids", "unread", "compared"],
    "EntitiesReport": ["folder", "model", "linked", "ids", "parts", "made", "absent", "unread"],
    "EntityModel": ["find", "facts", "linked"],
    "Evaluation": ["systems", "comparisons", "only", "group", "notes"],
    "GenerateReport": ["folder", "config", "made", "splits"],
    "GeneratedReport": ["folder", "config", "properties"],
    "HubError": ["message"],
    "Method": ["name", "query", "against", "rule", "uses", "closed", "balance"],
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
        "links",
        "links_root",
        "vector_dtype",
        "image_file",
        "evidence",
    ],
    "NewsCLIPpingsError": ["message"],
    "NoSpaceError": ["message", "number"],
    "Recipe": ["config", "methods", "merge", "splits"],
    "RemoteReadError": ["message"],
    "RemoteWriteError": ["message"],
    "Report": ["missing", "invalid", "counts", "files", "pictures", "looked_at", "notes", "next"],
    "Rule": ["share", "differ", "without", "same", "other", "gap", "within", "picture", "floor", "cap"],
    "UnsafePathError": ["message"],
    "VectorsReport": ["folder", "problems", "notes", "ids", "unread", "compared", "least_cosine"],
    "as_messages": ["dataset", "prompt"],
    "benchmark": [
        "name",
        "seeds",
        "config",
        "vectors",
        "model",
        "data_dir",
        "visual_news",
        "out",
        "evidence",
        "as_if_unlabelled",
        "train_flags",
    ],
    "as_if_unlabelled": ["row", "folder"],
    "compute_metrics": ["eval_dataset"],
    "decode_small": ["image", "side"],
    "embed": [
        "out",
        "model",
        "of",
        "ids",
        "data_dir",
        "visual_news",
        "dtype",
        "part_size",
        "augment",
        "device",
        "missing",
        "engine",
        "rank",
        "world",
        "visual_news_index",
        "links",
        "links_root",
        "cache_dir",
        "storage_options",
        "token",
    ],
    "entities": [
        "out",
        "model",
        "ids",
        "aliases",
        "data_dir",
        "visual_news",
        "part_size",
        "rank",
        "world",
        "visual_news_index",
        "links",
        "links_root",
        "cache_dir",
        "storage_options",
        "token",
    ],
    "evaluate": [
        "predictions",
        "config",
        "split",
        "data_dir",
        "built",
        "partial",
        "threshold",
        "cluster",
        "group",
    ],
    "evaluate_on": ["name", "location", "predictions", "data_dir", "partial", "threshold", "cluster", "group"],
    "find_overlap": ["table", "on", "pictures", "config", "split", "data_dir", "storage_options", "fields"],
    "generate": [
        "out",
        "recipe",
        "config",
        "vectors",
        "entities",
        "corpus",
        "data_dir",
        "visual_news",
        "visual_news_index",
        "links",
        "links_root",
        "device",
        "engine",
        "approximate",
        "rank",
        "world",
        "cache_dir",
        "storage_options",
        "token",
    ],
    "join_images": [
        "thin",
        "images",
        "visual_news",
        "data_dir",
        "visual_news_index",
        "missing",
        "num_proc",
        "links",
        "links_root",
        "storage_options",
        "token",
    ],
    "join_vectors": ["dataset", "embeddings", "vector_dtype", "storage_options", "token"],
    "load": ["config", "split", "streaming", "fields"],
    "measure_leak": ["folder", "split", "data_dir", "storage_options", "fields"],
    "open_test_set": ["name", "location"],
    "predict": ["model", "caption", "picture"],
    "read_embeddings": ["path", "storage_options", "token"],
    "read_faces": ["path", "storage_options", "token"],
    "show": ["dataset", "n"],
    "verify": [
        "data_dir",
        "visual_news",
        "configs",
        "images",
        "embeddings",
        "checksums",
        "visual_news_index",
        "links",
        "links_root",
        "cache_dir",
        "storage_options",
        "token",
    ],
    "verify_built": ["folder"],
    "verify_generated": [
        "out",
        "vectors",
        "entities",
        "corpus",
        "data_dir",
        "visual_news",
        "visual_news_index",
        "links",
        "links_root",
        "cache_dir",
        "storage_options",
        "token",
    ],
    "verify_entities": [
        "out",
        "model",
        "aliases",
        "data_dir",
        "visual_news",
        "visual_news_index",
        "links",
        "links_root",
        "cache_dir",
        "storage_options",
        "token",
    ],
    "verify_vectors": [
        "out",
        "model",
        "data_dir",
        "visual_news",
        "augment",
        "device",
        "visual_news_index",
        "links",
        "links_root",
        "cache_dir",
        "storage_options",
        "token",
    ],
}
OPTIONS = PARAMETERS["NewsCLIPpingsConfig"][5:]  # without the five that every builder of `datasets` has


def test_public_names() -> None:
    """The public names are exactly those of the list above."""
    assert sorted(newsclippings.__all__) == sorted(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    """Every public function and class has these parameters, in this order."""
    assert list(inspect.signature(getattr(newsclippings, name)).parameters) == PARAMETERS[name]


def test_options_of_a_build() -> None:
    """The config has these fields besides those of `datasets`, in this order."""
    own = [field.name for field in dataclasses.fields(newsclippings.NewsCLIPpingsConfig)]
    of_datasets = {field.name for field in dataclasses.fields(datasets.BuilderConfig)}
    assert [name for name in own if name not in of_datasets] == OPTIONS


def test_help_of_every_command() -> None:
    """The help texts equal the stored ones word for word; `python -m tests.support.help` updates those."""
    assert help_of_commands() == KEPT.read_text(encoding="utf-8")


def test_the_stubs_match_the_module() -> None:
    """The types that users' type checkers see are up to date: `python -m tests.support.stubs` writes them."""
    kept, made = STUBS.read_text(encoding="utf-8"), stubs_of(Path(newsclippings.__file__).read_text(encoding="utf-8"))
    assert ast.dump(ast.parse(kept)) == ast.dump(ast.parse(made)), "run `python -m tests.support.stubs`"


@pytest.mark.parametrize("folder", ["clone", "built"])
def test_a_folder_of_the_same_name_does_not_hide_it(tmp_path: Path, folder: str) -> None:
    """The installed package is imported although a folder ./newsclippings exists: a clone, or a built folder."""
    if folder == "clone":
        (tmp_path / "newsclippings").symlink_to(Path(newsclippings.__file__).parent)
    else:
        (tmp_path / "newsclippings" / "merged_balanced").mkdir(parents=True)
    code = "import newsclippings; print(newsclippings.verify, newsclippings.__file__)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(newsclippings.__file__)
