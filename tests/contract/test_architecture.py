"""The shape of the code: imports follow a table, slow ones are late, and forbidden calls do not occur."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from support.constants import find_ambiguous
from support.evidence import write_evidence
from support.forking import Done, Ready
from support.other_sets import write_other_set
from support.reading import TESTS, environment
from support.world import World

import newsclippings

ROOT = Path(newsclippings.__file__).parent
PACKAGE = ROOT / "_newsclippings"


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(file): file for file in (ROOT / "newsclippings.py", *sorted(PACKAGE.rglob("*.py")))}
del FILES["_newsclippings"]

# The rooms that each room may import, besides those in `BASE`. A room in `BASE` may import those before it.
BASE = ["text", "facts", "errors", "tables", "storage", "generated", "config"]
MAY_IMPORT = {
    "evidence": [],
    "inputs": ["evidence", "vectors"],
    "matches": [],
    "vectors": [],
    "encoded": [],
    "tar": ["encoded"],  # the end of a picture shows whether a member is complete
    "pictures": ["encoded", "inputs", "tar"],
    "corpus": ["inputs", "tar"],
    "rows": ["inputs", "matches", "corpus", "evidence", "tar", "pictures", "vectors"],
    "embed": ["inputs", "matches", "corpus", "pictures", "vectors"],
    "generate": ["inputs", "matches", "corpus", "vectors", "pictures", "embed", "show", "check", "evaluate"],
    "show": ["pictures"],
    "folder": ["inputs", "rows", "tar", "pictures", "show"],
    "stats": ["folder"],
    "export": ["inputs", "rows", "folder", "pictures"],
    "builder": ["inputs", "rows", "folder", "vectors", "pictures", "export"],
    "check": ["inputs", "matches", "corpus", "tar", "pictures", "vectors", "rows", "folder"],
    "hub": ["inputs", "matches", "folder", "check", "vectors"],
    "evaluate": ["inputs", "matches", "corpus", "folder"],
    "suite": [
        "inputs",
        "matches",
        "corpus",
        "evidence",
        "rows",
        "folder",
        "check",
        "pictures",
        "vectors",
        "embed",
        "evaluate",
        "train",
    ],
    "train": ["builder", "evaluate", "folder", "pictures", "rows", "vectors", "hub"],
    "newsclippings": [
        "builder",
        "inputs",
        "rows",
        "folder",
        "check",
        "vectors",
        "pictures",
        "show",
        "embed",
        "evaluate",
        "generate",
        "suite",
        "train",
    ],
}
MAY_IMPORT["cli"] = [room for room in MAY_IMPORT if room != "newsclippings"]
MOST_LEVELS, MOST_ROOMS = 15, 31


def room_of(module: str) -> str:
    """Return the room of a module: its package, or the module itself if it is in none."""
    return module.removeprefix("_newsclippings.").partition(".")[0]


ROOMS = {room_of(module) for module in FILES}


@functools.cache
def nodes(file: Path) -> list[ast.AST]:
    """All nodes of a file, parsed and listed once for all tests, which leave them as they are."""
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def last_name(node: ast.AST) -> str:
    """Return the name of a node, or the last one of `a.b.c`; empty for other nodes."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def imports(file: Path) -> set[str]:
    found = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def own_imports(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each import of this project in a file: the module, and the name from it (empty for the module itself)."""
    for node in nodes(file):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if room_of(alias.name) in ROOMS)
        elif isinstance(node, ast.ImportFrom) and node.module in ("_newsclippings", "newsclippings"):
            yield from ((f"_newsclippings.{alias.name}", "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("_newsclippings."):
            yield from ((node.module, alias.name) for alias in node.names)


def test_the_table_names_every_room() -> None:
    """Every room is in the table, and every room in the table exists."""
    assert {*BASE, *MAY_IMPORT} == ROOMS
    assert len(ROOMS) <= MOST_ROOMS


def test_rooms_import_along_the_table() -> None:
    """A room imports only rooms that the table allows; newsclippings may also call cli, when run as a program."""
    wrong = {}
    for module, file in FILES.items():
        room = room_of(module)
        allowed = {*BASE, *MAY_IMPORT[room]} if room in MAY_IMPORT else {*BASE[: BASE.index(room)]}
        found = {room_of(name) for name, _ in own_imports(file)} - {room}
        wrong[module] = found - (allowed | {"cli"} if module == "newsclippings" else allowed)
    assert {module: rooms for module, rooms in wrong.items() if rooms} == {}


def test_constants_that_tests_change_have_one_home() -> None:
    """Tests change a private constant by its name, which a new module must not define again."""
    assert find_ambiguous() == []


def test_fronts_have_what_they_name() -> None:
    """Every name in the `__all__` of a package exists, and is there once."""
    for module in ("newsclippings", *(name for name, file in FILES.items() if file.name == "__init__.py")):
        front = importlib.import_module(module)
        assert [name for name in front.__all__ if not hasattr(front, name)] == [], module
        assert len(front.__all__) == len(set(front.__all__)), module


def test_rooms_are_entered_by_their_fronts() -> None:
    """Other rooms import a package by its front (`__init__.py`), and only names that the front exports."""
    for module, file in FILES.items():
        for name, imported in own_imports(file):
            if room_of(name) != room_of(module):
                assert name.count(".") == 1, (module, name)
                front = importlib.import_module(name)
                exported = not imported or not hasattr(front, "__path__") or imported in front.__all__
                assert exported, (module, name, imported)


def test_imports_have_no_cycle_and_few_levels() -> None:
    """There is no cycle between rooms or between the modules of a room, and the longest chain of rooms is short."""
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


def test_only_the_edge_knows_datasets() -> None:
    """Only the outermost rooms import `datasets`, only those that compute torch, and no room a reader of pickles."""
    for module, file in FILES.items():
        outside = {name.partition(".")[0] for name in imports(file)}
        assert "datasets" not in outside or room_of(module) in ("builder", "newsclippings", "train", "suite"), module
        assert not outside & {"torch", "transformers"} or room_of(module) in ("train", "embed", "generate"), module
        assert not outside & {"mlcroissant", "pickle", "dill", "marshal", "shelve"}, module


def test_tarfile_writes_and_reads_nothing() -> None:
    """Only the sample and exports use tarfile, to write: tarfile silently loses members of damaged archives."""
    users = {module for module, file in FILES.items() if "tarfile" in imports(file)}
    assert users == {"_newsclippings.show.sample", "_newsclippings.export.forms"}


def test_errors_are_raised_and_never_asserted() -> None:
    """No `assert`, which -O removes; no eval, exec or archive extraction."""
    for module, file in FILES.items():
        assert not [node.lineno for node in nodes(file) if isinstance(node, ast.Assert)], module
        called = {last_name(node.func) for node in nodes(file) if isinstance(node, ast.Call)}
        forbidden = {"eval", "exec", "extractall", "extract", "iter_archive", "download_and_extract"}
        assert not called & forbidden, module


# Private names of other libraries may be used only here, where a missing name costs one message and nothing else.
GUARDED = {("_newsclippings.builder.register", "_PACKAGED_DATASETS_MODULES")}


def private_names(file: Path) -> set[str]:
    """Find private names of other libraries that a file imports or reaches from an imported module."""
    foreign, found = set[str](), set[str]()
    for node in nodes(file):
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
    for node in nodes(file):
        private = isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__")
        if private and isinstance(node, ast.Attribute):
            root: ast.expr = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in foreign:
                found.add(node.attr)
    return found


def test_private_names_of_others_are_guarded() -> None:
    """Private names of other libraries are used only in the listed places, which work without them."""
    assert {(module, name) for module, file in FILES.items() for name in private_names(file)} <= GUARDED


def test_no_lock_outlives_a_fork() -> None:
    """Only locks of `threads` are used, which are new in a forked child; functools.cached_property hides another."""
    locks = {"Lock", "RLock", "Condition", "Event", "Semaphore", "Barrier"}
    hidden = {f"threading.{name}" for name in locks} | {"functools.cached_property", "cached_property"}
    for module in FILES.keys() - {"_newsclippings.storage.threads"}:
        used = {ast.unparse(node) for node in nodes(FILES[module]) if last_name(node) in {*locks, "cached_property"}}
        assert not used & hidden, module


FILES_OF_TESTS = {str(file.relative_to(TESTS)): file for file in TESTS.rglob("*.py")}


def test_tests_mirror_the_packages() -> None:
    """Every package has a folder of tests; four more folders are for what is not about one package."""
    folders = {Path(name).parts[0] for name in FILES_OF_TESTS if "/" in name}
    packages = {room for room in ROOMS if (PACKAGE / room).is_dir()}
    assert packages <= folders <= ROOMS | {"contract", "hostile", "support", "sweeps"}


def test_no_test_imports_a_test() -> None:
    """Shared code is in tests/support, so each test module can be moved, run and deleted alone."""
    asked = {name: imports(file) for name, file in FILES_OF_TESTS.items()}
    assert len(asked) > 90
    parts = {(name, part) for name, modules in asked.items() for module in modules for part in module.split(".")}
    assert not [(name, part) for name, part in parts if part.startswith("test_")]


def test_constants_are_changed_through_one_helper() -> None:
    """No test sets a module's constant directly: support/constants.py changes it in every module that imports it."""
    wrong = []
    for name, file in FILES_OF_TESTS.items():
        for node in nodes(file):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("setattr", "object") and ast.unparse(node.func).endswith(
                (".setattr", "patch.object")
            ):
                texts = [a.value for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                wrong += [(name, text) for text in texts if re.fullmatch("_?[A-Z][A-Z0-9_]+", text.rpartition(".")[2])]
    assert not wrong


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Done]]:
    """Run code in a process that has imported `datasets` but not this package."""
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
    """If `datasets` lacks what the lookup by name needs, one warning says so, and the builder still works."""
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
    """With local inputs, every command except `push` and `train` imports none of these slow libraries."""
    data, out = str(world.root), str(tmp_path / "out")
    predictions = tmp_path / "predictions.csv"
    predictions.write_text("".join(["index,score\n", *(f"{k},0.{k % 7}\n" for k in range(12))]))
    verite = write_other_set("verite", tmp_path / "verite")
    evidence = write_evidence(world, tmp_path / "evidence").root
    of_verite = tmp_path / "of_verite.csv"
    of_verite.write_text("".join(["index,score\n", *(f"{k},0.{k}\n" for k in range(6))]))
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
        ["evaluate", str(predictions), "--data-dir", data],
        ["evaluate", str(predictions), "--built", out],
        ["export", f"{out}-csv", "--as", "csv", "--data-dir", data],
        ["export", f"{out}-tars", "--as", "webdataset", "--built", out],
        ["benchmark", "--list"],
        ["evaluate", str(of_verite), "--on", "verite", "--data", str(verite)],
        ["evidence", str(evidence), "--data-dir", data],
        ["overlap", str(verite), "--on", "verite", "--data-dir", data, "--pictures", str(verite)],
        ["dataset-infos", str(tmp_path / "infos.json")],
    ]
    command = [sys.executable, "-c", WITHOUT, json.dumps(commands), json.dumps(sorted(HEAVY))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path / "hf"), cwd=tmp_path)
    found = [json.loads(line[1:]) for line in done.stdout.splitlines() if line.startswith("#")]
    assert found == [[arguments[0], []] for arguments in commands], done.stderr


# Calls in which pyarrow imports pandas. Rooms that import `datasets` may use them: it imports pandas anyway.
CONVERSIONS = {"pa.array", "pa.scalar", "pa.repeat", "pq.read_table", "np.asarray"}
METHODS = {"empty_table", "fill_null", "from_pydict", "from_pylist", "to_numpy", "to_pandas"}
NOT_OF_ARROW = {("_newsclippings.encoded.decoding", "np.asarray")}


def test_conversions_go_through_tables() -> None:
    """Arrays are made and read with the functions of tables.py, because pyarrow's own import pandas."""
    named = METHODS | {name.partition(".")[2] for name in CONVERSIONS}
    for module, file in FILES.items():
        attributes = [node for node in nodes(file) if isinstance(node, ast.Attribute) and node.attr in named]
        used = {(ast.unparse(node), node.attr) for node in attributes}
        found = {(module, name) for name, method in used if name in CONVERSIONS or method in METHODS}
        assert found <= NOT_OF_ARROW or room_of(module) in ("builder", "newsclippings", "train")


def test_importing_registers_the_name_and_nothing_else(fresh: Callable[..., Done]) -> None:
    """The import writes no file, configures no logging, and leaves other names of `datasets` alone."""
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
