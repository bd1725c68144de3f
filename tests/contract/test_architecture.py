"""The shape of the code: imports point down, slow ones are late, and nothing forbidden is used."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.forking import Done, Ready
from support.reading import TESTS, environment
from support.world import World

import newsclippings

ROOT = Path(newsclippings.__file__).parent
PACKAGE = ROOT / "_newsclippings"


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in (ROOT / "newsclippings.py", *sorted(PACKAGE.rglob("*.py")))}
del FILES["_newsclippings"]

# What each room may import, beyond the rooms that all may: those that `BASE` names, each from those before it.
BASE = ["text", "facts", "errors", "tables", "config", "storage"]
MAY_IMPORT = {
    "inputs": [],
    "matches": [],
    "vectors": [],
    "pictures": [],
    "tar": ["pictures"],  # the end of a picture shows whether a member is whole
    "corpus": ["inputs", "tar"],
    "rows": ["inputs", "matches", "corpus", "tar", "pictures", "vectors"],
    "show": ["pictures"],
    "folder": ["inputs", "rows", "tar", "pictures", "show"],
    "stats": ["folder"],
    "builder": ["inputs", "rows", "folder", "vectors", "pictures"],
    "check": ["inputs", "matches", "corpus", "tar", "pictures", "vectors", "rows", "folder"],
    "hub": ["inputs", "matches", "folder", "check", "vectors"],
    "train": ["builder", "inputs", "pictures", "rows"],
    "newsclippings": ["builder", "inputs", "rows", "folder", "check", "vectors", "pictures", "show"],
}
MAY_IMPORT["cli"] = [room for room in MAY_IMPORT if room != "newsclippings"]
MOST_LEVELS, MOST_ROOMS = 14, 28


def room_of(module: str) -> str:
    """The package, or the single module, that a module is in."""
    return module.removeprefix("_newsclippings.").partition(".")[0]


ROOMS = {room_of(module) for module in FILES}


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


def own_imports(file: Path) -> Iterator[tuple[str, str]]:
    """Each name of this project that a file imports: the module that it names, and the name, empty for the module."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if room_of(alias.name) in ROOMS)
        elif isinstance(node, ast.ImportFrom) and node.module in ("_newsclippings", "newsclippings"):
            yield from ((f"_newsclippings.{alias.name}", "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("_newsclippings."):
            yield from ((node.module, alias.name) for alias in node.names)


def test_the_table_names_every_room() -> None:
    """No room is missing from the table, and none is in it that does not exist."""
    assert {*BASE, *MAY_IMPORT} == ROOMS
    assert len(ROOMS) <= MOST_ROOMS


@pytest.mark.parametrize("module", sorted(FILES))
def test_rooms_import_along_the_table(module: str) -> None:
    """A room imports the rooms that the table names; newsclippings, run as a program, calls the command line."""
    room = room_of(module)
    allowed = {*BASE, *MAY_IMPORT[room]} if room in MAY_IMPORT else {*BASE[: BASE.index(room)]}
    found = {room_of(name) for name, _ in own_imports(FILES[module])} - {room}
    assert found <= (allowed | {"cli"} if module == "newsclippings" else allowed)


@pytest.mark.parametrize("module", sorted(FILES))
def test_rooms_are_entered_by_their_fronts(module: str) -> None:
    """From elsewhere a package is imported by its front, and for names that the front hands out."""
    for name, imported in own_imports(FILES[module]):
        if room_of(name) != room_of(module):
            assert name.count(".") == 1, name
            front = importlib.import_module(name)
            assert not imported or not hasattr(front, "__path__") or imported in front.__all__, (name, imported)


def test_there_is_no_circle_and_few_levels() -> None:
    """Neither between rooms nor between the modules of one; the longest way down is short."""
    rooms: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, file in FILES.items():
        rooms[room_of(module)] |= {room_of(name) for name, _ in own_imports(file)} - {room_of(module)}
    rooms["newsclippings"].discard("cli")
    level: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        level[room] = 1 + max((level[below] for below in rooms[room]), default=0)
    assert max(level.values()) <= MOST_LEVELS
    for room in ROOMS:
        inside = {m: set[str]() for m in FILES if room_of(m) == room and m.count(".") == 2}
        for module, below in inside.items():
            for name, imported in own_imports(FILES[module]):
                below |= {one for one in (name, f"{name}.{imported}") if one in inside}
        TopologicalSorter(inside).prepare()


@pytest.mark.parametrize("module", sorted(FILES))
def test_only_the_edge_knows_datasets(module: str) -> None:
    """`datasets` stays at the edge; below it there are tables and bytes. torch is in the training, nothing else."""
    outside = {name.partition(".")[0] for name in imports(FILES[module])}
    assert "datasets" not in outside or room_of(module) in ("builder", "newsclippings", "train")
    assert not outside & {"torch", "transformers"} or room_of(module) == "train"
    assert not outside & {"mlcroissant", "pickle", "dill", "marshal", "shelve"}


def test_tarfile_writes_the_sample_and_reads_nothing() -> None:
    """tarfile loses members of damaged archives in silence, so that only the sample may use it, to write."""
    users = {module for module, file in FILES.items() if "tarfile" in imports(file)}
    assert users == {"_newsclippings.show.sample"}


@pytest.mark.parametrize("module", sorted(FILES))
def test_errors_are_raised_and_never_asserted(module: str) -> None:
    """`assert` is gone under -O; eval, exec and extraction have no place here."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    called = {ast.unparse(node.func).rpartition(".")[2] for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"eval", "exec", "extractall", "extract", "iter_archive", "download_and_extract"}


# Private names of other libraries: only where their absence is met with one line, and nothing else breaks.
GUARDED = {("_newsclippings.builder.register", "_PACKAGED_DATASETS_MODULES")}


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
    if module != "_newsclippings.storage.threads":
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
        "del datasets.load.LocalDatasetModuleFactory",
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


HEAVY = {"datasets", "torch", "pandas", "huggingface_hub", "fsspec", "aiohttp"}
WITHOUT = """
import json, sys
import _newsclippings.train
from _newsclippings.cli import main
for arguments in json.loads(sys.argv[1]):
    main(arguments, standalone_mode=False)
    print("#" + json.dumps([arguments[0], sorted(set(json.loads(sys.argv[2])) & set(sys.modules))]))
"""


def test_commands_do_without_what_they_do_not_need(world: World, tmp_path: Path) -> None:
    """Of local inputs, only `push` and `train` import `datasets`, pandas, the Hub's client, torch or fsspec."""
    data, out = str(world.root), str(tmp_path / "out")
    commands = [
        ["info", "--data-dir", data],
        ["sample", str(tmp_path / "sample")],
        ["index", str(world.tar), "-o", str(tmp_path / "index.parquet")],
        ["build", out, "--data-dir", data, "--metadata", "--articles", "--check-images"],
        ["build", f"{out}-tar", "--data-dir", data, "--visual-news", str(world.tar)],
        ["build", f"{out}-texts", "--data-dir", data, "--images", "none", "--missing", "drop_pair"],
        ["verify", "--data-dir", data, "--images=decode"],
        ["verify", "--built", out],
        ["stats", out],
        ["card", out],
        ["croissant", out],
        ["preview", "--data-dir", data, "-o", str(tmp_path / "pairs.png")],
        ["infos", str(tmp_path / "infos.json")],
    ]
    command = [sys.executable, "-c", WITHOUT, json.dumps(commands), json.dumps(sorted(HEAVY))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "hf"), cwd=tmp_path)
    found = [json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("#")]
    assert found == [[arguments[0], []] for arguments in commands], done.stderr


# Calls at which pyarrow imports pandas. Rooms that import `datasets`, which imports it anyway, are free to use them.
CONVERSIONS = {"pa.array", "pa.scalar", "pa.repeat", "pq.read_table", "np.asarray"}
METHODS = {"empty_table", "fill_null", "from_pydict", "from_pylist", "to_numpy", "to_pandas"}
NOT_OF_ARROW = {("_newsclippings.pictures.decoding", "np.asarray")}


@pytest.mark.parametrize("module", sorted(FILES))
def test_conversions_go_through_tables(module: str) -> None:
    """Arrays are made and read by the functions of tables.py, with which pyarrow does not import pandas."""
    tree = ast.parse(FILES[module].read_text(encoding="utf-8"))
    used = {(ast.unparse(node), node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = {(module, name) for name, method in used if name in CONVERSIONS or method in METHODS}
    assert found <= NOT_OF_ARROW or room_of(module) in ("builder", "newsclippings", "train")


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
