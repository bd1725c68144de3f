"""Every test runs in an empty folder, with its own caches, offline and without progress bars."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # so that `support` and `sweeps` are importable in every import mode

_HOME = tempfile.mkdtemp(prefix="newsclippings-tests-")  # read at import by both libraries, before any fixture runs
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
for _name in [name for name in os.environ if name.startswith(("HF_", "NEWSCLIPPINGS_"))]:
    if _name != "NEWSCLIPPINGS_OTHER_PYTHON":  # for hub/test_push.py
        del os.environ[_name]
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for torch: pytest has a worker on each core
os.environ.update(
    HF_HOME=_HOME,
    XDG_CACHE_HOME=os.path.join(_HOME, "xdg"),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
)

import datasets  # noqa: E402
import huggingface_hub  # noqa: E402
import hypothesis  # noqa: E402
from support.constants import change_constant  # noqa: E402
from support.hub import Hub as AuthorsHub  # noqa: E402
from support.hub import serving as serving_hub  # noqa: E402
from support.publishing import Hub, running  # noqa: E402
from support.remote import Origin, Published, publish, serving  # noqa: E402
from support.world import World, make_world  # noqa: E402

import newsclippings  # noqa: E402, F401  (makes the name known to datasets)
from _newsclippings.stats.plots import CHARTS  # noqa: E402

# How long an example takes depends on the machine more than on the code.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_collection_finish() -> None:
    """Leave everything imported and collected out of later garbage collections, which each training asks for twice."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches below tmp_path, an empty current directory, none of the user's settings."""
    home, cwd = tmp_path / "hf", tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    monkeypatch.delenv("NEWSCLIPPINGS_DATA_DIR", raising=False)
    for name, folder in {
        "HF_CACHE_HOME": home,
        "HF_DATASETS_CACHE": home / "datasets",
        "DOWNLOADED_DATASETS_PATH": home / "datasets" / "downloads",
        "EXTRACTED_DATASETS_PATH": home / "datasets" / "downloads" / "extracted",
        "HF_MODULES_CACHE": home / "modules",
    }.items():
        old = getattr(datasets.config, name)
        monkeypatch.setattr(datasets.config, name, type(old)(folder))
    for name, folder in {
        "HF_HOME": home,
        "HF_HUB_CACHE": home / "hub",
        "HF_ASSETS_CACHE": home / "assets",
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, str(folder))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The complete small world, as folder and tar. Shared: never change it."""
    return make_world(tmp_path_factory.mktemp("world") / "data")


@pytest.fixture
def new_world(tmp_path: Path) -> Callable[..., World]:
    """Make a private world below tmp_path, which a test may damage."""

    def make(name: str = "data", **kwargs: Any) -> World:
        return make_world(tmp_path / name, **kwargs)

    return make


@pytest.fixture
def small_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `stats --plot` draw an empty chart for each of its own, for tests of the files: drawing takes a second."""
    figure = pytest.importorskip("matplotlib.figure").Figure
    change_constant(monkeypatch, "CHARTS", dict.fromkeys(CHARTS, lambda _: figure((1, 1))))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """One file server for all tests; use `origin`."""
    with serving(tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def origin(server: Origin, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    """A file server on the loopback that answers byte ranges; its log is empty and no fault is set."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    server.mode()
    server.forget()
    yield server
    server.mode()


@pytest.fixture(scope="session")
def published(server: Origin, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The complete small world with its tar on the server. Shared: never change it. Use it with `origin`."""
    world = make_world(tmp_path_factory.mktemp("published") / "data", folder=False, tar=False)
    return publish(world, server, "published")


@pytest.fixture(scope="session")
def running_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A stand-in for the Hub that takes uploads, for all tests; use it with `used`."""
    with running(tmp_path_factory.mktemp("hub"), xet=False) as hub:
        yield hub


@pytest.fixture(scope="session")
def authors_hub(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthorsHub]:
    """A stand-in for the Hub that has the authors' repository, for all tests; `serve` says which."""
    with serving_hub(world, tmp_path_factory.mktemp("authors")) as hub:
        yield hub


_listeners: list[Callable[[str, tuple[Any, ...]], None]] = []


def _on_audit_event(event: str, args: tuple[Any, ...]) -> None:
    for listener in _listeners:
        listener(event, args)


sys.addaudithook(_on_audit_event)  # cannot be removed again, so there is one for all tests


@pytest.fixture
def touched(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Path], AbstractContextManager[list[tuple[str, str]]]]:
    """`with touched(folder) as seen`: collects (how, path) of everything below it that is opened, listed or stat'ed."""

    @contextmanager
    def watch(folder: Path) -> Iterator[list[tuple[str, str]]]:
        seen: list[tuple[str, str]] = []

        def note(how: str, path: object) -> None:
            if isinstance(path, (str, bytes, os.PathLike)):
                text = os.path.abspath(os.fsdecode(path))
                if text.startswith(str(folder)):
                    seen.append((how, text))

        def on_event(event: str, args: tuple[Any, ...]) -> None:
            if event == "open" and args:
                note("open", args[0])
            elif event in ("os.scandir", "os.listdir", "os.walk", "glob.glob") and args:
                note("list", args[0])

        def noting(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(path: Any, *args: Any, **kwargs: Any) -> Any:
                note("ask", path)
                return original(path, *args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "stat", noting(os.stat))
            patch.setattr(os, "lstat", noting(os.lstat))
            _listeners.append(on_event)
            try:
                yield seen
            finally:
                _listeners.remove(on_event)

    return watch
