"""The shape of the code: imports point down, slow ones are late, and nothing forbidden is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.forking import Done, Ready
from support.reading import TESTS, environment
from support.world import World

import newsclippings

PACKAGE = Path(newsclippings.__file__).parent / "_newsclippings"
FILES = {f"_newsclippings.{file.stem}": file for file in PACKAGE.glob("*.py") if file.stem != "__init__"}
FILES["newsclippings"] = Path(newsclippings.__file__)

# From the bottom up: a module imports only from lines above its own.
LAYERS = [
    ["arrow", "foreign_text", "schema", "standard_streams", "strict_json", "threads"],
    ["errors", "paths"],
    ["disk", "http_answers"],
    ["decode", "join_report", "local_file", "network", "tar_headers"],
    ["outputs", "pickled_arrays", "picture_end"],
    ["files", "parquet_footer", "verify_report"],
    [
        "annotations",
        "record_scan",
        "remote",
        "sources",
        "tar_end",
        "tar_segment",
        "verify_digests",
    ],
    ["kept", "manifest_rules", "plain_files"],
    ["proofs"],
    ["downloads"],
    ["config", "join", "records", "record_index", "tar_walk"],
    ["corpus", "tar_index"],
    ["tar_index_file", "tar_members"],
    ["embeddings", "images", "metadata"],
    ["image_check", "split", "tar_source"],
    ["record_source"],
    ["assemble", "register"],
    ["built", "shards"],
    ["join_images", "parquet_folder", "room", "unique_pictures", "verify_rules"],
    ["checksums", "manifests", "shard_file", "verify"],
    ["charts"],
    ["card"],
    ["croissant"],
    ["verify_built"],
    ["newsclippings"],
    ["cli_options", "convert", "preview", "preview_html", "infos", "sample"],
    ["plots", "stats", "stats_text"],
    ["build", "cli_verify", "upload"],
    ["push"],
    ["cli_folder"],
    ["cli"],
]
LEVEL = {(n if n == "newsclippings" else f"_newsclippings.{n}"): k for k, names in enumerate(LAYERS) for n in names}


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module: str) -> None:
    """A module imports only from the layers below it (but newsclippings, run as a program, calls the command line)."""
    own = {name for name in imports(FILES[module]) if name in FILES}
    if module == "newsclippings":
        own.discard("_newsclippings.cli")
    assert all(LEVEL[name] < LEVEL[module] for name in own), own


def test_the_layers_name_every_module() -> None:
    """No module is missing from the picture, and none is drawn that does not exist."""
    assert set(LEVEL) == set(FILES)


@pytest.mark.parametrize("module", sorted(FILES))
def test_only_the_edge_knows_datasets(module: str) -> None:
    """`datasets` stays at the edge; below it there are tables and bytes. torch and mlcroissant are nowhere."""
    outside = {name.partition(".")[0] for name in imports(FILES[module])}
    edge = ("schema", "config", "register", "card", "join_images", "cli", "cli_options", "verify")
    allowed = {"newsclippings", *(f"_newsclippings.{name}" for name in edge)}
    assert "datasets" not in outside or module in allowed
    assert not outside & {"torch", "transformers", "mlcroissant", "pickle", "dill", "marshal", "shelve"}


def test_tarfile_writes_the_sample_and_reads_nothing() -> None:
    """tarfile loses members of damaged archives in silence, so that only the sample may use it, to write."""
    users = {module for module, file in FILES.items() if "tarfile" in imports(file)}
    assert users == {"_newsclippings.sample"}


@pytest.mark.parametrize("module", sorted(FILES))
def test_errors_are_raised_and_never_asserted(module: str) -> None:
    """`assert` is gone under -O; eval, exec and extraction have no place here."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"eval", "exec", "extractall", "extract", "iter_archive", "download_and_extract"}


# Private names of other libraries: only where their absence is met with one line, and nothing else breaks.
GUARDED = {("_newsclippings.register", "_PACKAGED_DATASETS_MODULES")}


def private_names(file: Path) -> set[str]:
    """Names with an underscore of other libraries: imported, or reached from a module that is imported."""
    tree, foreign, found = ast.parse(file.read_text(encoding="utf-8")), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            foreign |= {(a.asname or a.name).partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            foreign |= {a.asname or a.name for a in node.names}
        else:
            continue
        for name in names:
            if name.partition(".")[0] not in ("_newsclippings", "__future__"):
                found |= {part for part in name.split(".") if part.startswith("_") and not part.startswith("__")}
            else:
                foreign -= {name.rpartition(".")[2]}
    for node in ast.walk(tree):
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")
        if private and isinstance(node, ast.Attribute):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in foreign:
                found.add(node.attr)
    return found


@pytest.mark.parametrize("module", sorted(FILES))
def test_private_names_of_others_are_guarded(module: str) -> None:
    """None is imported or reached outside of the places that are listed, which do without it."""
    assert {(module, name) for name in private_names(FILES[module])} <= GUARDED


@pytest.mark.parametrize("module", sorted(FILES))
def test_no_lock_outlives_a_fork(module: str) -> None:
    """Locks are those of `threads`, which are new in a child; functools.cached_property has one of its own."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)}
    locks = {f"threading.{name}" for name in ("Lock", "RLock", "Condition", "Event", "Semaphore", "Barrier")}
    if module != "_newsclippings.threads":
        assert not used & {*locks, "functools.cached_property", "cached_property"}


FILES_OF_TESTS = {str(file.relative_to(TESTS)): file for file in TESTS.rglob("*.py")}


def test_no_test_imports_a_test() -> None:
    """What test modules share is in tests/support, so that each can be moved, run and deleted alone."""
    asked = {name: imports(file) for name, file in FILES_OF_TESTS.items()}
    assert len(asked) > 90
    parts = {(name, part) for name, modules in asked.items() for module in modules for part in module.split(".")}
    assert not [(name, part) for name, part in parts if part.startswith("test_")]


def test_constants_are_changed_through_one_helper() -> None:
    """No test sets a constant of a module by itself: support/constants.py finds the modules that have it."""
    wrong = []
    for name, file in FILES_OF_TESTS.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", "patch.object")):
                texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                wrong += [(name, text) for text in texts if re.fullmatch("_?[A-Z][A-Z0-9_]+", text.rpartition(".")[2])]
    assert not wrong


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Done]]:
    """Run code in a process that has imported `datasets`, and nothing of this package."""
    folder = tmp_path_factory.mktemp("fresh")
    env = environment(folder / "hf")
    ready = Ready("import datasets.load, datasets.packaged_modules", env, folder / "ready")
    yield lambda code, *args: ready.call(code, list(args), env).result()
    ready.stop()


GONE = """
import datasets.load, datasets.packaged_modules, sys
assert "newsclippings" not in sys.modules
{change}
import newsclippings
builder = newsclippings.NewsCLIPpings(config_name="scene_resnet_place", data_dir=sys.argv[1], images="none")
assert builder.config.name == "scene_resnet_place"
assert isinstance(builder, datasets.DatasetBuilder)
"""


@pytest.mark.parametrize(
    "change",
    [
        "del datasets.packaged_modules._PACKAGED_DATASETS_MODULES",
        "datasets.packaged_modules._PACKAGED_DATASETS_MODULES = ()",
        "datasets.packaged_modules._PACKAGED_DATASETS_MODULES = {}",
        "del datasets.load._PACKAGED_DATASETS_MODULES",
        "del datasets.load.PackagedDatasetModuleFactory",
        "del datasets.load.PackagedDatasetModuleFactory.get_module",
        "datasets.load.PackagedDatasetModuleFactory.get_module = None",
        "del datasets.load.DatasetModule",
        "datasets.load.DatasetModule = lambda path: path",
        "vars(datasets.load).pop('LocalDatasetModuleFactory', 0)\n"
        "vars(datasets.load).pop('LocalDatasetModuleFactoryWithoutScript', 0)",
    ],
)
def test_import_does_without_private_names(world: World, fresh: Callable[..., Done], change: str) -> None:
    """Where `datasets` lacks what the lookup by name needs, one line says so, and the builder works."""
    done = fresh(GONE.format(change=change), str(world.root))
    assert done.code == 0, done.err
    lines = [line for line in done.err.splitlines() if "load_dataset('newsclippings')" in line]
    assert len(lines) == 1, done.err
    assert "Use newsclippings.NewsCLIPpings(...) instead" in lines[0]
    assert "Traceback" not in done.err


def test_help_does_not_wait_for_datasets(tmp_path: Path) -> None:
    """The command line answers --help without importing `datasets`."""
    code = "import sys; from _newsclippings.cli import main; print('datasets' in sys.modules)"
    env = environment(tmp_path)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout == "False\n"


def test_importing_makes_the_name_known_and_nothing_else(fresh: Callable[..., Done]) -> None:
    """The import writes no file, sets up no logging, and leaves other names of `datasets` alone."""
    code = """
import logging, os, datasets.packaged_modules as p
assert "newsclippings" not in sys.modules
before, level, handlers = dict(p._PACKAGED_DATASETS_MODULES), logging.root.level, list(logging.root.handlers)
import newsclippings
after = dict(p._PACKAGED_DATASETS_MODULES)
assert after.pop("newsclippings") and after == before
assert (logging.root.level, logging.root.handlers) == (level, handlers)
from datasets import load_dataset
open("x.csv", "w").write("a\\n1\\n")
assert load_dataset("csv", data_files="x.csv")["train"][0] == {"a": 1}
assert os.listdir() == ["x.csv"]
"""
    done = fresh(code)
    assert done.code == 0, done.err
