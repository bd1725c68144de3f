"""Matches and metadata that are not on this machine are fetched from the Hub, at one pinned revision."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.constants import change_constant
from support.hub import Hub
from support.reading import answer, expected_splits, jsonable, start
from support.vectors import make_plan
from support.vectors import write as write_embeddings
from support.world import World, make_world

import newsclippings
from _newsclippings.storage.kept import local_copy


@pytest.fixture
def hub(authors_hub: Hub, world: World) -> Hub:
    """A Hub with an empty log."""
    authors_hub.serve(world)
    return authors_hub


BUILD = """
options = json.loads(sys.argv[1])
say(raw_splits(load_dataset('newsclippings', **options)))
"""
ERROR = """
options = json.loads(sys.argv[1])
try:
    rows = raw_splits(load_dataset('newsclippings', **options))
except newsclippings.NewsCLIPpingsError as error:
    say([type(error).__name__, str(error)])
else:
    say(["no error", str(rows)[:200]])
"""


def _build(hub: Hub, *, offline: bool = False, **options: Any) -> Any:
    """Load the rows in a child process."""
    return hub.run(BUILD, json.dumps(options), offline=offline)


def _refusal(hub: Hub, *, offline: bool = False, **options: Any) -> Any:
    """Return class and message of the error that a load in a child raises."""
    return hub.run(ERROR, json.dumps(options), offline=offline)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_no_pictures_needs_nothing_on_this_machine(hub: Hub, streaming: bool) -> None:
    """images="none" needs no local file: matches and captions come from the Hub."""
    rows = _build(hub, name="merged_balanced", images="none", streaming=streaming)
    assert rows == jsonable(expected_splits(hub.world, images="none", captions="metadata"))
    names = ("train", "val", "test")
    assert hub.fetched() == {f"data/merged_balanced/{n}.json" for n in names} | {f"metadata/{n}.json" for n in names}
    revisions = {m[1] for _, path, _, _ in hub.log() if (m := re.search("/resolve/([^/]+)/", path))}
    assert len(revisions) == 1
    assert re.fullmatch("[0-9a-f]{7,40}", revisions.pop())


def test_only_what_the_splits_need_is_fetched(hub: Hub) -> None:
    """splits=["test"] of a sub-config fetches two files."""
    config = "scene_resnet_place"
    rows = _build(hub, name=config, images="none", splits=["test"])
    expected = {"test": hub.world.rows(config, "test", images="none", captions="metadata")}
    assert rows == jsonable(expected)
    assert hub.fetched() == {f"data/{config}/test.json", "metadata/test.json"}


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("layout", [{"tar": False}, {"folder": False}], ids=["folder", "tar"])
def test_visual_news_here_and_matches_from_the_hub(
    hub: Hub, tmp_path: Path, layout: dict[str, Any], streaming: bool
) -> None:
    """With VisualNews under data_dir, only the matches are fetched."""
    local = make_world(tmp_path / "data", metadata=False, **layout)
    (local.root / "news_clippings").rename(tmp_path / "away")
    options: dict[str, Any] = {"data_dir": str(local.root), "streaming": streaming}
    rows = _build(hub, **options)
    assert rows == jsonable(expected_splits(hub.world))
    assert hub.fetched() == {f"data/merged_balanced/{n}.json" for n in ("train", "val", "test")}


def test_visual_news_alone_is_enough(hub: Hub) -> None:
    """visual_news= without data_dir: the matches come from the Hub, the rest from the tar."""
    rows = _build(hub, visual_news=str(hub.world.tar))
    assert rows == jsonable(expected_splits(hub.world))


def test_metadata_from_the_hub_beside_local_matches(hub: Hub, tmp_path: Path) -> None:
    """If the matches are local but not the metadata, as after download.sh, only the metadata are fetched."""
    local = make_world(tmp_path / "data", folder=False, tar=False, metadata=False)
    rows = _build(hub, data_dir=str(local.root), images="none")
    assert rows == jsonable(expected_splits(hub.world, images="none", captions="metadata"))
    assert hub.fetched() == {f"metadata/{n}.json" for n in ("train", "val", "test")}


def test_fetched_files_are_used_offline(hub: Hub) -> None:
    """What one build fetched and built is available offline."""
    options: dict[str, Any] = {"images": "none", "splits": ["test"]}
    online = _build(hub, **options)
    offline = _build(hub, offline=True, **options)
    assert online == offline == jsonable({"test": hub.world.rows(split="test", images="none", captions="metadata")})


def _damage_copies(home: Path) -> int:
    """Change a byte of every copy, and of every table made of one, that is kept; how many there are."""
    copies = [path for path in home.rglob("newsclippings/*/*") if path.suffix in (".json", ".arrow")]
    for path in copies:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    return len(copies)


def test_what_was_fetched_and_got_damaged_is_fetched_again(hub: Hub) -> None:
    """A byte of each kept file is another: offline it is gone, online it is fetched again, and the rows are right."""
    expected = jsonable({"test": hub.world.rows(split="test", images="none", captions="metadata")})
    options: dict[str, Any] = {"images": "none", "splits": ["test"]}
    assert _build(hub, **options) == expected
    again: dict[str, Any] = {**options, "download_mode": "reuse_cache_if_exists"}
    assert _damage_copies(hub.home) == 3  # matches and records as tables, and the metadata as they came
    name, message = _refusal(hub, offline=True, **again)
    assert name == "DataNotFoundError"
    assert "could not be fetched" in message
    assert _build(hub, **again) == expected
    assert _damage_copies(hub.home) == 3  # matches and records as tables, and the metadata as they came
    assert _build(hub, **again) == expected


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_offline_with_nothing_here(hub: Hub, streaming: bool) -> None:
    """In offline mode no request is made, and the error says that it is on and what to do."""
    kind, message = _refusal(hub, offline=True, images="none", streaming=streaming)
    assert kind == "DataNotFoundError"
    assert re.search("(?i)offline", message)
    assert "data_dir" in message
    assert hub.log() == []


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_pictures_cannot_be_fetched(hub: Hub, streaming: bool) -> None:
    """Without VisualNews, the error shows the expected tree and two alternatives."""
    kind, message = _refusal(hub, streaming=streaming)
    assert kind == "DataNotFoundError"
    for part in ("visual_news/", "origin.tar", "data.json", "visual_news=", "http"):
        assert part in message, part
    assert re.search("images=[\"']none[\"']", message)


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
@pytest.mark.parametrize("token", ["hf_right", "hf_wrong"])
def test_the_token_is_sent(hub: Hub, world: World, token: str, streaming: bool) -> None:
    """HF_TOKEN is sent, so that a private mirror works; a wrong token is a clear error."""
    hub.serve(world, "hf_right")
    options = json.dumps({"images": "none", "splits": ["test"], "streaming": streaming})
    if token == "hf_right":
        rows = hub.run(BUILD, options, HF_TOKEN=token)
        assert rows == jsonable({"test": world.rows(split="test", images="none", captions="metadata")})
        assert all(authorised for *_, authorised in hub.log())
    else:
        kind, message = hub.run(ERROR, options, HF_TOKEN=token)
        assert kind == "DataNotFoundError"
        assert "test.json" in message


@pytest.fixture
def poor_hub(hub: Hub, new_world: Callable[..., World]) -> Hub:
    world = new_world("remote", folder=False, tar=False)
    world.metadata("test").unlink()
    hub.serve(world)
    return hub


@pytest.mark.parametrize("streaming", [False, True], ids=["map", "stream"])
def test_a_file_the_hub_does_not_have(poor_hub: Hub, streaming: bool) -> None:
    """A file that is neither local nor on the Hub is an error that names it."""
    kind, message = _refusal(poor_hub, images="none", splits=["test"], streaming=streaming)
    assert kind == "DataNotFoundError"
    assert "metadata/test.json" in message


@pytest.mark.parametrize("streaming", [False, True])
def test_embeddings_and_metadata_come_from_the_hub(hub: Hub, new_world: Callable[..., World], streaming: bool) -> None:
    """Without local files, only the requested vectors and metadata are fetched, and each once."""
    world = new_world(tar=False)
    plan = make_plan(world)
    write_embeddings(world, plan)
    options = {"images": "none", "embeddings": ["clip_text"], "metadata": True, "splits": ["test"]}
    options["streaming"] = streaming
    code = """
rows = list(load_dataset('newsclippings', **json.loads(sys.argv[1]))['test'])
say([[row['id'], row['clip_text'], row['metadata']['title']] for row in rows])
"""
    hub.serve(world)
    for _ in range(2):
        found = hub.run(code, json.dumps(options))
    counts = [path.rpartition("/")[2] for method, path, _, _ in hub.log() if method == "GET" and "/resolve/" in path]
    rows = world.rows("merged_balanced", "test")
    assert [entry[0] for entry in found] == [row["id"] for row in rows]
    for number, vector, title in found:
        expected = plan["clip_text"]["test"].get(number)
        assert vector == (None if expected is None else expected.tolist())
        assert title == world.records[number].title
    assert set(counts) == {"test.json", "clip_text_embeddings_test.pkl"}
    assert counts.count("clip_text_embeddings_test.pkl") == 1


class Endless(fsspec.AbstractFileSystem):  # type: ignore[misc]
    """An fsspec file system whose answer comes byte by byte."""

    protocol = "endless"
    cachable = False

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        if path.endswith("info"):
            time.sleep(20)
        return {"name": path, "size": 5, "type": "file"}

    def _open(self, path: str, *_: Any, **__: Any) -> Any:
        time.sleep(20)


@pytest.mark.parametrize("name", ["info", "content"])
def test_an_answer_that_never_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """If an fsspec client still waits after its timeout, that is an error that names the file."""
    fsspec.register_implementation("endless", Endless, clobber=True)
    change_constant(monkeypatch, "TIMEOUT", 0.1)
    with pytest.raises(newsclippings.RemoteReadError, match=rf"endless://{name}.*no whole answer"):
        local_copy(f"endless://{name}", tmp_path)


# Digests of the authors' files

VERIFY = """
say(newsclippings.verify(sys.argv[1], configs=["merged_balanced"], embeddings=True, checksums=True).as_dict())
"""


@pytest.mark.parametrize("short", [False, True], ids=["their names", "names of their README"])
def test_digests_of_the_hub(hub: Hub, new_world: Callable[..., World], tmp_path: Path, short: bool) -> None:
    """verify --checksums compares with the Hub's digests, and reports a file that differs from the authors'."""
    published = new_world("published")
    write_embeddings(published, make_plan(published))
    hub.serve(published)
    local = make_world(tmp_path / "data")
    write_embeddings(local, make_plan(local), short=short)
    report = hub.run(VERIFY, str(local.root))
    assert (report["missing"], report["invalid"]) == ({}, {})
    same = {place for place, about in report["files"].items() if about.get("as_published")}
    folder = local.root / "news_clippings"
    scattered = [*folder.glob("metadata/*.json"), *folder.glob("embeddings/*/*.pkl")]
    assert same == set(map(str, [*folder.glob("data/merged_balanced/*.json"), *scattered]))
    assert not {place for place, about in report["files"].items() if not about.get("as_published", True)}
    note = f"{len(same)} of {len(same)} files have the digest of the authors' file, of {len(same) + 2} in all."
    assert f"{note} Those of VisualNews are not published." in report["notes"]
    changed = [scattered[0], folder / "data" / "merged_balanced" / "test.json", scattered[-1]]
    for file in changed[:2]:
        file.write_bytes(file.read_bytes() + b"\n")
    flipped = bytearray(scattered[-1].read_bytes())
    flipped[-20] ^= 1  # in the numbers of a vector
    scattered[-1].write_bytes(flipped)
    report = hub.run(VERIFY, str(local.root))
    assert set(report["invalid"]) == set(map(str, changed))
    for file in changed:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert report["invalid"][str(file)].endswith(f"found another, SHA-256 {digest}. Download it again.")
        assert f"{file}: expected the digest of hf://g-luo/news-clippings@" in report["invalid"][str(file)]
    asked = [path for method, path, _, _ in hub.log() if method == "POST"]
    assert len(asked) == 2
    assert all(re.search("/paths-info/[0-9a-f]{40}$", path) for path in asked)
    assert hub.fetched() == set()


def test_digests_of_files_of_your_own(hub: Hub, tmp_path: Path) -> None:
    """If no file is the authors', they are other data, and no fault is reported."""
    local = make_world(tmp_path / "data", seed=5)
    report = hub.run(VERIFY, str(local.root))
    assert any(
        "None of 6 files has the digest of the authors' file: these are your own" in note for note in report["notes"]
    )
    assert not [message for message in report["invalid"].values() if "digest" in message]


@pytest.mark.parametrize("how", ["offline", "no server"])
def test_digests_without_the_hub(hub: Hub, tmp_path: Path, how: str) -> None:
    """Without the Hub the report has the SHA-256, and says why nothing was compared."""
    if how == "offline":
        report = hub.run(VERIFY, str(hub.world.root), offline=True)
    else:
        env = hub.environment(HF_ENDPOINT="http://127.0.0.1:9")
        report = answer(start(VERIFY, tmp_path / "empty", env, str(hub.world.root)))
    local = {place: about for place, about in report["files"].items() if about["bytes"] is not None}
    assert all(
        about["sha256"] == hashlib.sha256(Path(place).read_bytes()).hexdigest() for place, about in local.items()
    )
    assert not any("as_published" in about for about in local.values())
    assert any(note.startswith("No digest was compared: the Hub could not be asked") for note in report["notes"])
    assert report["invalid"] == {}
