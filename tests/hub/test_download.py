"""`newsclippings download` against a stand-in for the Hub: the complete, checked tree, or a clear error."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset
from support.hub import Hub
from support.obstacles import may_mount, small_disk
from support.reading import expected_splits, raw_splits
from support.vectors import make_plan, write
from support.world import SPLITS, World, make_world

from _newsclippings.facts import HUB_REVISION

COMMAND = """
import time
from click.testing import CliRunner
from _newsclippings.cli import main
wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.01))
done = CliRunner().invoke(main, ["download", *sys.argv[1:]])
say([done.exit_code, done.stdout, done.stderr, repr(done.exception)])
"""
VECTORS = "embeddings/clip_text_embeddings/clip_text_embeddings_train.pkl"
EVERYTHING = ("--config", "merged_balanced", "--embeddings", "clip_text", "--metadata")
NAMES = [
    *(f"data/merged_balanced/{name}.json" for name in SPLITS.values()),
    *(f"embeddings/clip_text_embeddings/clip_text_embeddings_{name}.pkl" for name in SPLITS.values()),
    *(f"metadata/{name}.json" for name in SPLITS.values()),
]


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def authors_files(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Matches, metadata and vectors, with a file that is of no split. Shared: never change it."""
    world = make_world(tmp_path_factory.mktemp("published") / "data", folder=False, tar=False)
    write(world, make_plan(world))
    odd = world.root / "news_clippings" / "data" / "full" / "train.json"
    odd.parent.mkdir()
    odd.write_text("{}")
    return world


@pytest.fixture
def hub(authors_hub: Hub, authors_files: World) -> Hub:
    """A Hub with an empty log and no faults, and empty caches."""
    authors_hub.serve(authors_files)
    return authors_hub


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data"


def download(hub: Hub, out: Path, *options: str, before: str = "", **how: Any) -> Done:
    """Run the command in a child; it never shows a traceback, and leaves no link."""
    code, text, errors, error = hub.run(before + COMMAND, str(out), *options, **how)
    assert "Traceback" not in errors
    assert code in (0, 1), error
    assert code == 0 or "SystemExit" in error
    assert not [path for path in out.rglob("*") if path.is_symlink()]
    return Done(code, text, errors)


def published(hub: Hub, *names: str) -> dict[str, bytes]:
    """Name -> content of files on the Hub."""
    return {name: (hub.world.root / "news_clippings" / name).read_bytes() for name in names}


def landed(out: Path) -> dict[str, bytes]:
    """Name -> content of the files of the tree, without those that are not complete."""
    tree = out / "news_clippings"
    files = [path for path in below(tree) if ".download" not in path.parts]
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in files}


def below(folder: Path) -> list[Path]:
    """The files below a folder, in which a command may be running."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def asked(hub: Hub) -> list[tuple[str, str | None]]:
    """The files whose content was requested, and the range."""
    requests = [(path, part) for method, path, part, _ in hub.log() if method == "GET" and "/resolve/" in path]
    return [(path.partition(f"{HUB_REVISION}/")[2], part) for path, part in requests]


def test_the_official_tree(hub: Hub, out: Path) -> None:
    """Matches, vectors and metadata are plain files of the authors' tree, and load; nothing else is left there."""
    done = download(hub, out, *EVERYTHING)
    assert done.code == 0, done.err
    assert landed(out) == published(hub, *NAMES)
    assert [path.name for path in out.iterdir()] == ["news_clippings"]
    assert sorted(path.name for path in (out / "news_clippings").iterdir()) == ["data", "embeddings", "metadata"]
    assert [name for name, _ in asked(hub)] == NAMES
    rows = raw_splits(load_dataset("newsclippings", "merged_balanced", data_dir=str(out), images="none"))
    assert rows == expected_splits(hub.world, captions="metadata", images="none")
    again = download(hub, out, *EVERYTHING)
    assert (again.code, again.out) == (0, done.out.replace("(fetched", "(was there"))
    assert len(asked(hub)) == len(NAMES)


def test_what_is_missing_and_what_is_next(hub: Hub, out: Path) -> None:
    """The last lines say where to ask for VisualNews, and a command that works."""
    done = download(hub, out)
    *_, digests, rows, visual_news, captions, command = done.out.splitlines()
    assert digests == "3 of 3 files have the Hub's digest."
    assert rows == "None of 3 files has the published number of rows: these are other data."
    assert "Ask its authors for it: https://" in visual_news
    assert str(out / "visual_news") in visual_news
    assert "--metadata" in captions
    assert command == (
        f"Next: `newsclippings build newsclippings --data-dir {out} --config merged_balanced --images none`."
    )
    (out / "visual_news").mkdir()
    make_world(out.parent / "other", folder=False).tar.rename(out / "visual_news" / "origin.tar")
    done = download(hub, out, "--metadata")
    assert "VisualNews" not in done.out
    assert done.out.splitlines()[-1].endswith("--config merged_balanced --metadata`.")


def test_json_output(hub: Hub, out: Path) -> None:
    """With --format json, each file has its place, size, digest and rows."""
    done = download(hub, out, "--format", "json", "--config", "scene_resnet_place", "--embeddings", "all")
    told = json.loads(done.out)
    assert (told["repository"], told["revision"]) == ("g-luo/news-clippings", HUB_REVISION)
    files = {Path(file["path"]).relative_to(out / "news_clippings").as_posix(): file for file in told["files"]}
    assert len(files) == 3 + 5 * 3
    for name, data in published(hub, *files).items():
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        digest = hashlib.sha256(data).hexdigest() if name.endswith(".pkl") else git
        assert (files[name]["bytes"], files[name]["digest"], files[name]["fetched"]) == (len(data), digest, True)
    test = files["data/scene_resnet_place/test.json"]
    assert (test["rows"], test["published_rows"]) == (len(hub.world.rows("scene_resnet_place", "test")), 13_636)
    assert files["data/scene_resnet_place/val.json"]["published_rows"] is None
    assert files[VECTORS]["rows"] is None
    assert len(told["missing"]) == 2


ONE_BY_ONE = "import _newsclippings.storage.remote as r\nr.PIECE, r.THREADS = 4096, 1\n"


@pytest.mark.parametrize("damage", [False, True], ids=["as it was", "damaged since"])
def test_killed_and_resumed(hub: Hub, out: Path, damage: bool) -> None:
    """A killed command leaves whole files under their names only; the next goes on within the file it was at."""
    size = len(published(hub, VECTORS)[VECTORS])
    hub.faults(**{VECTORS: ["", "", "hold"]})
    child = hub.start(ONE_BY_ONE + COMMAND, str(out), *EVERYTHING)
    part, held = out / "news_clippings" / ".download" / VECTORS, 2 * 4096
    child.kill_when(lambda: part.exists() and part.stat().st_size == held)
    assert landed(out) == published(hub, *NAMES[:3])
    if damage:
        part.write_bytes(bytes(held))
    before = len(asked(hub))
    done = download(hub, out, *EVERYTHING)
    assert done.code == 0, done.err
    assert landed(out) == published(hub, *NAMES)
    assert not (out / "news_clippings" / ".download").exists()
    again = [f"bytes=0-{size - 1}"] * damage
    # The last request of the killed process may be logged late, or not have been made: then the next one is held.
    parts = [part for name, part in asked(hub)[before:] if name == VECTORS and f"{part}".endswith(f"-{size - 1}")]
    assert [*dict.fromkeys(parts)] == [f"bytes={held}-{size - 1}", *again]
    assert {name for name, _ in asked(hub)[before:]} == {*NAMES[3:]}


def test_a_begun_file_that_is_not_asked_for_is_kept(hub: Hub, out: Path) -> None:
    """A download of other files keeps what an interrupted one has of a large file, which goes on there later."""
    begun = out / "news_clippings" / ".download" / VECTORS
    begun.parent.mkdir(parents=True)
    begun.write_bytes(published(hub, VECTORS)[VECTORS][:1000])
    assert download(hub, out).code == 0
    assert (begun.stat().st_size, below(out / "news_clippings" / ".download")) == (1000, [begun])
    hub.serve(hub.world)
    assert download(hub, out, *EVERYTHING).code == 0
    assert landed(out).items() >= published(hub, *NAMES).items()
    assert not (out / "news_clippings" / ".download").exists()
    assert "bytes=0-999" not in {part for name, part in asked(hub) if name == VECTORS}


@pytest.mark.parametrize("fault", ["flip", "cut", "503"])
def test_a_fault_that_passes(hub: Hub, out: Path, fault: str) -> None:
    """Bytes that changed on their way, an answer that ends early, or a busy server cost another request."""
    hub.faults(**{VECTORS: [fault], "data/merged_balanced/test.json": [fault]})
    done = download(hub, out, *EVERYTHING)
    assert done.code == 0, done.err
    assert landed(out) == published(hub, *NAMES)
    assert len(asked(hub)) == len(NAMES) + 2


def test_bytes_that_are_always_wrong(hub: Hub, out: Path) -> None:
    """A file that arrives changed twice is an error; it has no name in the tree, and others stay."""
    hub.faults(**{VECTORS: ["flip", "flip"]})
    done = download(hub, out, *EVERYTHING)
    assert done.code == 1
    assert f"{VECTORS}: expected " in done.err
    assert "with another arrived, twice" in done.err
    assert VECTORS not in landed(out)
    assert landed(out).items() <= published(hub, *NAMES).items()
    assert download(hub, out, *EVERYTHING).code == 0
    assert landed(out) == published(hub, *NAMES)


def test_a_server_that_does_not_recover(hub: Hub, out: Path) -> None:
    """After several tries the error says so; what was fetched is kept."""
    hub.faults(**{VECTORS: ["503"] * 100})
    done = download(hub, out, *EVERYTHING)
    assert done.code == 1
    assert f"{VECTORS} could not be fetched (" in done.err
    assert "503" in done.err
    hub.faults(**{VECTORS: []})
    assert download(hub, out, *EVERYTHING).code == 0


def test_no_server(hub: Hub, out: Path) -> None:
    """A mirror that does not answer is named, and no folder is made."""
    code = "import huggingface_hub.constants as c, huggingface_hub.hf_api as a\nc.ENDPOINT = 'http://127.0.0.1:9'\n"
    done = download(hub, out, before=code + "a.ENDPOINT = c.ENDPOINT\n")
    assert done.code == 1
    assert "http://127.0.0.1:9" in done.err
    assert not out.exists()


@pytest.mark.parametrize("how", ["cut off", "own", "a folder", "a broken link"])
def test_what_is_there_is_never_overwritten(hub: Hub, out: Path, how: str) -> None:
    """Another file in the place of one of the authors' is an error before anything is fetched."""
    file = out / "news_clippings" / VECTORS
    file.parent.mkdir(parents=True)
    right = published(hub, VECTORS)[VECTORS]
    if how == "a folder":
        file.mkdir()
    elif how == "a broken link":
        file.symlink_to("nowhere")
        code, _, errors, _ = hub.run(COMMAND, str(out), *EVERYTHING)
        assert (code, file.is_symlink(), f"{file} is a folder, a broken link" in errors) == (1, True, True)
        return
    else:
        file.write_bytes(right[:-5] if how == "cut off" else right[:-5] + b"other")
    before = None if file.is_dir() else file.read_bytes()
    done = download(hub, out, *EVERYTHING)
    assert done.code == 1
    assert f"{file} is " in done.err
    assert "Nothing was changed: " in done.err
    assert before is None or file.read_bytes() == before
    assert asked(hub) == []
    assert [path for path in out.rglob("*") if path.is_file()] == ([file] if before else [])


def test_right_files_are_kept(hub: Hub, out: Path) -> None:
    """A right file, by whatever means it came, is neither fetched nor touched."""
    file = out / "news_clippings" / VECTORS
    file.parent.mkdir(parents=True)
    file.write_bytes(published(hub, VECTORS)[VECTORS])
    os.utime(file, ns=(1, 1))
    assert download(hub, out, *EVERYTHING).code == 0
    assert file.stat().st_mtime_ns == 1
    assert VECTORS not in dict(asked(hub))


def test_two_at_once(hub: Hub, out: Path) -> None:
    """Of two commands that need the same files, one waits; each file is fetched once."""
    hub.faults(**{VECTORS: ["cut"]})
    children = [hub.start(COMMAND, str(out), *EVERYTHING) for _ in range(2)]
    for child in children:
        code, _, errors, _ = child.result().rows()
        assert code == 0, errors
    assert landed(out) == published(hub, *NAMES)
    assert sorted(name for name, _ in asked(hub)) == sorted([*NAMES, VECTORS])


LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"


def test_a_disk_that_becomes_full(hub: Hub, out: Path) -> None:
    """A file that cannot be written to its end is an error; the same command goes on when there is space."""
    done = download(hub, out, *EVERYTHING, before=LIMIT)
    assert done.code == 1
    assert f"{VECTORS}: it does not fit on the disk (File too large)" in done.err
    assert VECTORS not in landed(out)
    assert download(hub, out, *EVERYTHING).code == 0
    assert landed(out) == published(hub, *NAMES)


@pytest.mark.skipif(not may_mount(), reason="a small disk has to be mounted, by root")
def test_space_is_asked_for_first(hub: Hub, out: Path) -> None:
    """A disk that is too small is an error before anything is fetched."""
    needed = sum(map(len, published(hub, *NAMES).values()))
    with small_disk(out, 40_000):
        done = download(hub, out, *EVERYTHING)
        assert done.code == 1
        assert f"{out}/news_clippings: not enough disk space: {needed:,} bytes are to be fetched" in done.err
        assert not list(out.iterdir())
    assert asked(hub) == []


def test_offline(hub: Hub, out: Path) -> None:
    """Offline, nothing is fetched: an empty folder is an error, and files that are there are not compared."""
    done = download(hub, out, *EVERYTHING, offline=True)
    assert done.code == 1
    assert "HF_HUB_OFFLINE is set, and 9 of 9 files are not on this machine" in done.err
    assert not out.exists()
    assert download(hub, out, *EVERYTHING).code == 0
    requests = len(hub.log())
    done = download(hub, out, *EVERYTHING, offline=True)
    assert done.code == 0
    assert "0 of 9 files have the Hub's digest.\n" in done.out
    assert "HF_HUB_OFFLINE is set: 9 files are there, but no digest was compared." in done.out
    assert len(hub.log()) == requests


CACHE = """
from huggingface_hub import hf_hub_download
for name in json.loads(sys.argv[1]):
    hf_hub_download("g-luo/news-clippings", name, revision=sys.argv[2])
say(0)
"""


def test_offline_from_the_cache(hub: Hub, out: Path) -> None:
    """Offline, files in the cache of the Hub's client are copied, and compared with their names, which are digests."""
    names = [name for name in NAMES if name.startswith("data/")]
    hub.run(CACHE, json.dumps(names), HUB_REVISION)
    done = download(hub, out, offline=True)
    assert done.code == 0, done.err
    assert landed(out) == published(hub, *names)
    assert "3 of 3 files have the Hub's digest.\n" in done.out
    shutil.rmtree(out)
    (blob, *_) = (hub.home / "hub").glob("models--*/blobs/*")
    blob.write_bytes(bytes(blob.stat().st_size))
    done = download(hub, out, offline=True)
    assert done.code == 1
    assert "with another arrived, twice" in done.err


@pytest.mark.parametrize("token", ["hf_right", "hf_wrong_one"], ids=["right", "wrong"])
def test_a_private_mirror(hub: Hub, out: Path, token: str) -> None:
    """The token is sent, and in no message."""
    hub.serve(hub.world, "hf_right")
    done = download(hub, out, HF_TOKEN=token)
    assert (done.code, landed(out) == published(hub, *NAMES[:3])) == ((0, True) if token == "hf_right" else (1, False))
    assert token not in done.out + done.err
    if done.code:
        assert "(401). Set HF_TOKEN or log in" in done.err


def test_a_file_that_the_mirror_lacks(hub: Hub, out: Path, new_world: Callable[..., World]) -> None:
    """A file that is not on the Hub is named before anything is fetched."""
    poor = new_world("poor", folder=False, tar=False)
    poor.metadata("test").unlink()
    hub.serve(poor)
    try:
        done = download(hub, out, "--metadata")
    finally:
        write(poor, make_plan(poor))
    assert done.code == 1
    assert "does not have metadata/test.json" in done.err
    assert not out.exists()


ROWS = "from _newsclippings.facts import ROWS\nROWS['merged_balanced'].update(%s)\n"


def test_rows_are_compared_with_the_published_counts(hub: Hub, out: Path) -> None:
    """The published numbers are no note; if only some files have them, that is an error."""
    counts = {split: len(hub.world.rows(split=split)) for split in SPLITS}
    done = download(hub, out, before=ROWS % counts)
    assert (done.code, "published" in done.out) == (0, False)
    done = download(hub, out, before=ROWS % {**counts, "test": 7})
    assert done.code == 1
    assert f"test.json: expected 7 rows, as published, found {counts['test']}" in done.err
