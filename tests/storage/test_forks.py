"""Processes forked while threads hold locks, import or read: no child waits for a thread that it does not have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fsspec.asyn
import pytest
import tqdm.auto
from support.children import in_child, wait
from support.forks import Kind, forked, kinds
from support.reading import environment, expected_splits, load, raw, raw_splits
from support.remote import Origin, Published
from support.sampling import crossed
from support.world import World, make_world

from _newsclippings.config import Request
from _newsclippings.inputs import find_inputs
from _newsclippings.rows.joiner import Joiner
from _newsclippings.storage import identify, stamp
from _newsclippings.storage.kept import cache_folder
from _newsclippings.storage.local import LocalFile
from _newsclippings.storage.remote import open_file_system
from _newsclippings.storage.threads import Lock, delay_forks, lazy_property, map_ahead
from _newsclippings.tar import archive as tar_source
from newsclippings import BadFileError

pytestmark = pytest.mark.sweep

SOON = 20.0  # seconds until a child must end


def ends_well(action: Callable[[], object]) -> bool:
    """Whether an action ends soon and without an error in a child that is forked now."""
    return wait(in_child(action), SOON) == 0


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """Let another thread hold a lock while the block runs."""
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Kind]]:
    folder = tmp_path_factory.mktemp("forks")
    with kinds(folder, make_world(folder / "data")) as found:
        yield found


@pytest.mark.parametrize(
    "way", ["stream, tar", "stream, remote tar", "stream, checked", "stream, vectors", "table, folder"]
)
def test_children_read_what_threads_read(ways: dict[str, Kind], way: str) -> None:
    """Forked at random moments of a read, each child gives the right rows (more: `tests.sweeps.soak --only forks`)."""
    assert forked(ways[way], 5) == (0, 0)


def test_a_lock_is_free_in_a_child() -> None:
    """A Lock excludes threads of one process, and is free in a forked child."""
    lock = Lock()
    with held(lock), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lock.__enter__)
        time.sleep(0.05)
        assert not waiting.done()
        assert ends_well(lambda: lock.__enter__())
        lock.__exit__()
        waiting.result(10)


def test_a_thread_that_forks_under_a_lock_can_release_it() -> None:
    """Parent and child can both release the lock, and take it again."""
    lock = Lock()

    def again() -> None:
        with lock:
            pass

    with lock:
        child = os.fork()
        if not child:
            signal.alarm(int(SOON))
    again()
    if not child:
        os._exit(0)
    assert wait(child, SOON) == 0


def test_a_split_is_joined_in_a_child(world: World) -> None:
    """The lock under which splits are joined, held by a thread of the parent."""
    stream = load(world, streaming=True, visual_news=str(world.tar))["test"]
    request = Request(data_dir=str(world.root), visual_news=str(world.tar))
    joiner = Joiner(find_inputs(request), request, cache_folder())
    expected = world.rows(split="test")

    def read() -> None:
        assert raw(stream) == expected
        assert joiner.count_rows("test") == len(expected)

    with held(vars(joiner)["_lock"]):
        assert ends_well(read)


@pytest.mark.parametrize("same", [True, False], ids=["the same tar", "another"])
def test_a_tar_is_indexed_in_a_child(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """While a thread of the parent indexes a tar, a child can index that tar or another."""
    began, go_on, parent = threading.Event(), threading.Event(), os.getpid()
    load_index = vars(tar_source)["load_index"]

    def slow(*args: Any) -> Any:
        if os.getpid() == parent:
            began.set()
            go_on.wait(60)
        return load_index(*args)

    monkeypatch.setattr(tar_source, "load_index", slow)
    one, other = (
        tar_source.TarArchive(str(world.tar), None, tmp_path / name, False, True, identify, stamp) for name in "ab"
    )
    with ThreadPoolExecutor(1) as pool:
        index = pool.submit(lambda: one.index)
        assert began.wait(10)
        tar = one if same else other
        assert ends_well(lambda: tar.index.members["name"].to_pylist())
        go_on.set()
        assert one.index is index.result(10)


def test_a_value_is_computed_once() -> None:
    """Like functools.cached_property, except that concurrent threads do not wait: the first value counts for all."""
    calls = []

    class Thing:
        @lazy_property
        def value(self) -> object:
            """What it is."""
            calls.append(self)
            return object()

    thing, other = Thing(), Thing()
    assert thing.value is thing.value is not other.value
    assert calls == [thing, other]
    assert vars(thing) == {"value": thing.value}
    assert Thing.value.__doc__ == "What it is."


def test_progress_bars_work_in_a_child(world: World) -> None:
    """tqdm's lock, which every bar takes, is free in a child, and a child that took it does not block the parent."""
    for bar in (tqdm.tqdm, tqdm.auto.tqdm):
        with held(bar.get_lock()):
            assert ends_well(lambda: list(tqdm.auto.tqdm(range(3), disable=True)))
            assert ends_well(lambda: raw_splits(load(world, check_images=True, streaming=True)))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: list(tqdm.auto.tqdm(range(3), disable=True))).result(SOON) == [0, 1, 2]


def test_the_network_works_in_a_child(published: Published) -> None:
    """fsspec works in a child, although its lock may be held and its thread is not in the child."""
    expected = expected_splits(published.world)
    assert raw_splits(published.load(streaming=True)) == expected  # its thread runs
    assert open_file_system(published.url)

    def read() -> None:
        assert raw_splits(published.load(streaming=True)) == expected

    with held(fsspec.asyn.get_lock()):
        assert ends_well(read)


def test_a_fork_waits_for_imports(tmp_path: Path) -> None:
    """A fork waits for an import in another thread, because the child could never complete it."""
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(1)\nready = True\n")
    code = """
import os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from _newsclippings.storage.threads import delay_forks
def start():
    with delay_forks():
        import slow_module
threading.Thread(target=start).start()
time.sleep(0.3)
child = os.fork()
if not child:
    signal.alarm(10)
    import slow_module
    os._exit(0 if slow_module.ready else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment(tmp_path), timeout=60)
    assert done.returncode == 0
    with delay_forks():  # a thread that forks in the block does not wait for itself
        assert ends_well(lambda: delay_forks().__enter__())


def test_map_ahead_continues_in_a_child() -> None:
    """Results that are still due are computed by the child itself, in order; the parent gets those of its threads."""
    with ThreadPoolExecutor(2) as pool:
        results = map_ahead(pool, lambda k: (k, threading.current_thread() is threading.main_thread()), range(9), 3)
        assert next(results) == (0, (0, False))

        def go_on() -> None:
            rest = [result for _, result in results]
            assert rest == [(k, True) for k in range(1, 9)]

        assert ends_well(go_on)
        assert [result for _, result in results] == [(k, False) for k in range(1, 9)]


def test_a_file_is_opened_once_by_each_process(tmp_path: Path) -> None:
    """Concurrent threads of a child read the right bytes, and no descriptor of the parent is closed."""
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)))
    file = LocalFile(str(path))
    read_before = file.skipping_reader()

    def read() -> None:
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda k: file.read_at(k, 1), range(256))) == [bytes([k]) for k in range(256)]
        assert len(os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []) < 64
        assert read_before(7, 1) == b"\x07"
        file.close()

    assert ends_well(read)
    assert file.read_at(5, 1) == b"\x05"
    (tmp_path / "y").write_bytes(b"other")
    (tmp_path / "y").rename(path)

    def other() -> None:
        for _ in range(2):
            with pytest.raises(BadFileError, match="the file was replaced while it was read"):
                file.read_at(0, 1)

    assert ends_well(other)


def test_a_build_in_a_thread_with_workers(world: World) -> None:
    """A build with num_proc=2 works in a thread while another thread reads a stream."""
    stopped = threading.Event()
    stream = load(world, streaming=True, visual_news=str(world.tar))["train"]

    def read() -> None:
        while not stopped.is_set():
            assert raw(stream) == world.rows()

    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        stack.callback(stopped.set)
        reading = pool.submit(read)
        built = pool.submit(load, world, num_proc=2, check_images=True).result(120)
        stopped.set()
        reading.result(30)
    assert raw_splits(built) == expected_splits(world)


LOADER = """
import sys, threading
import newsclippings, torch
from datasets import Image, load_dataset
from support.reading import raw
from torch.utils.data import DataLoader
def first(rows): return [(row["index"], row["image"]["bytes"].hex()) for row in rows]
def main(way, streaming, data, visual_news):
    options = {"streaming": streaming, "visual_news": visual_news, "data_dir": data, "split": "train"}
    rows = load_dataset("newsclippings", **options).cast_column("image", Image(decode=False))
    other = load_dataset("newsclippings", **options).cast_column("image", Image(decode=False))
    stopped = threading.Event()
    def read():
        while not stopped.is_set(): list(other)
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    want = first(list(rows))
    loader = DataLoader(rows, batch_size=4, num_workers=2, collate_fn=first, multiprocessing_context=way,
                        persistent_workers=True, timeout=60)
    for epoch in range(2):
        assert sorted(pair for batch in loader for pair in batch) == sorted(want), epoch
    stopped.set()
    thread.join()
if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] == "stream", *sys.argv[3:])
"""


@pytest.mark.parametrize(
    ("way", "form"),
    [("fork", "stream"), ("forkserver", "stream"), pytest.param("fork", "table", marks=pytest.mark.sweep)],
)
def test_workers_of_a_data_loader(published: Published, tmp_path: Path, way: str, form: str) -> None:
    """torch's workers, forked or spawned, give all rows in every epoch while a thread reads the same files."""
    pytest.importorskip("torch")
    script = tmp_path / "loader.py"
    script.write_text(LOADER)
    visual_news = published.url if way == "fork" else str(published.tar)
    command = [sys.executable, str(script), way, form, str(published.world.root), visual_news]
    env = environment(tmp_path / "hf", USE_TORCH="1")  # so that a stream is an IterableDataset of torch
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]


INTERRUPTED = """
import os, signal, sys, threading, time
import newsclippings
from datasets import load_dataset
options = {"visual_news": sys.argv[2]} if len(sys.argv) > 2 else {"check_images": True}
def read():
    while True: list(load_dataset("newsclippings", data_dir=sys.argv[1], streaming=True, split="test", **options))
for _ in range(2): threading.Thread(target=read, daemon=True).start()
print("ready", flush=True)
while True:
    load_dataset("newsclippings", data_dir=sys.argv[1], download_mode="force_redownload", **options)
"""


@pytest.mark.parametrize(("what", "after"), crossed(["folder", "remote tar", "a server that is silent"], [0.05, 0.9]))
def test_an_interrupted_process_ends(
    world: World, published: Published, origin: Origin, tmp_path: Path, what: str, after: float
) -> None:
    """After Ctrl-C while threads work, the process ends soon by itself."""
    arguments = [str(world.root)] if what == "folder" else [str(published.world.root), published.url]
    command = [sys.executable, "-c", INTERRUPTED, *arguments]
    env = environment(tmp_path / "hf")
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if what == "a server that is silent":
            origin.mode(delay=40)
        time.sleep(after)
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=SOON)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail("it did not end")
    assert process.returncode in (1, -signal.SIGINT, 130), err[-2000:]
    assert "KeyboardInterrupt" in err
