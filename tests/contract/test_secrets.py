"""No secret of a URL appears in a message, traceback, log or file, whatever fails."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.constants import change_constant
from support.reading import load
from support.world import World
from sweeps.hostile_servers import HABITS, Habit, Server, _raw, _redirect_to, honest, make_files, serving

from _newsclippings import text as foreign_text
from _newsclippings.cli.commands import main
from _newsclippings.storage import remote
from newsclippings import NewsCLIPpings, NewsCLIPpingsError

pytestmark = pytest.mark.sweep

SECRET = "SeCrEt"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten pauses between tries and the timeout for silent servers; forget secrets of other tests."""
    change_constant(monkeypatch, "PAUSE", 0.001)
    change_constant(monkeypatch, "TIMEOUT", 0.2)
    monkeypatch.setattr(foreign_text, "_known", {})
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Server]]:
    """A world, and a server with its tar, the tar's index and a zip of it."""
    world, files = make_files(tmp_path_factory.mktemp("secrets") / "data")
    with serving(files) as server:
        yield world, server


def _status(code: int) -> Habit:
    return _raw(f"HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n".encode())


FAILURES: dict[str, Habit] = {
    **{str(code): _status(code) for code in (301, 401, 403, 404, 410, 500, 503)},
    "redirect to a signature": _redirect_to(f"http://127.0.0.1:1/x?X-Amz-Signature={SECRET}"),
    "redirect to a login": _redirect_to(f"ftp://me:{SECRET}@127.0.0.1/x"),
    "no ranges": HABITS["endless 200"],
    "an encoding": HABITS["gzip bomb"],
    "no tar": lambda ask: iter([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>%.3s" % SECRET.encode()[:3]]),
    "silence": HABITS["silent"],
    "no HTTP": HABITS["no HTTP"],
    "hangs up": HABITS["an empty answer"],
}


def urls(port: int, path: str) -> list[str]:
    """URLs with secrets in every place where a URL may have one."""
    return [
        f"http://127.0.0.1:{port}{path}?X-Amz-Signature={SECRET}&x={SECRET}",
        f"http://user:{SECRET}@127.0.0.1:{port}{path}#{SECRET}",
        f"http://user:{SECRET}%2F{SECRET}@127.0.0.1:{port}{path}",
        f"http://user:{SECRET}/{SECRET}@127.0.0.1:{port}{path}",
        f"zip://origin.tar::http://user:{SECRET}@127.0.0.1:{port}/origin.zip?sig={SECRET}",
        f"https://user:{SECRET}@127.0.0.1:{port}{path}?sig={SECRET}",
        f"http://user:{SECRET}@nowhere.invalid{path}?sig={SECRET}",
        f"http://user:{SECRET}@127.0.0.1:1{path}?sig={SECRET}",
        f"odd://user:{SECRET}@127.0.0.1{path}?sig={SECRET}",
        f"s3://KEY:{SECRET}@bucket{path}?versionId={SECRET}",
    ]


def everything_of(error: BaseException) -> str:
    """Collect every text of an error, its causes and its traceback that may be printed."""
    seen: set[int] = set()
    texts, todo = ["".join(traceback.format_exception(error))], [error]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        texts += [str(one), repr(one), repr(one.args)]
        todo += [e for e in (one.__cause__, None if one.__suppress_context__ else one.__context__) if e is not None]
    return "\n".join(texts)


@pytest.mark.parametrize("streaming", [False, True], ids=["build", "stream"])
@pytest.mark.parametrize("failure", FAILURES)
def test_failing_calls_show_no_secret(
    served: tuple[World, Server],
    tmp_path: Path,
    failure: str,
    streaming: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever fails for a URL, as tar or as index, neither the error nor a log of any level has its secret."""
    world, server = served
    server.habit = FAILURES[failure]
    caplog.set_level(logging.DEBUG)
    k = list(FAILURES).index(failure)
    index = f"http://user:{SECRET}@127.0.0.1:{server.port}/x.parquet?sig={SECRET}"
    some: list[dict[str, str]] = [{"visual_news": str(world.root / "origin.tar"), "visual_news_index": index}]
    some += [{"visual_news": url} for url in urls(server.port, "/origin.tar") if failure == "404"]
    some += [{"visual_news": urls(server.port, "/origin.tar")[k % 5]}]

    def first(options: dict[str, str]) -> object:
        return next(iter(load(world, "merged_balanced", splits=["test"], streaming=streaming, **options)["test"]))

    failed = []
    for options in some:
        try:
            first(options)
        except NewsCLIPpingsError as error:  # an index is read from start to end, which needs no ranges
            failed.append(error)
    assert len(failed) >= len(some) - (failure == "no ranges")
    for one in failed:
        assert SECRET not in everything_of(one)
        assert SECRET.encode() not in pickle.dumps(one)
    assert SECRET not in caplog.text
    assert [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()] == []
    assert [file for file in tmp_path.rglob("*") if SECRET in file.name] == []


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", ["index", "verify", "info", "build", "preview"])
def test_commands_show_no_secret(served: tuple[World, Server], tmp_path: Path, command: str, form: str) -> None:
    """A command prints no secret, whether it fails or only shows the URL."""
    world, server = served
    server.habit = FAILURES["403"]
    for url in urls(server.port, "/origin.tar"):
        where = (
            [url, "-o", "x.parquet"] if command == "index" else ["--data-dir", str(world.root), "--visual-news", url]
        )
        where += ["built"] if command == "build" else []
        where += ["--format", form] if command != "preview" else []
        done = CliRunner().invoke(main, [command, *where])
        assert SECRET not in done.output
        assert done.exception is None or SECRET not in everything_of(done.exception)
        assert done.exit_code in ((0,) if command == "info" else (1,))
    assert [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()] == []


def test_a_build_writes_no_secret(
    served: tuple[World, Server], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a successful build with num_proc, no folder name, file or log has a secret of the URL."""
    world, server = served
    server.habit = honest
    caplog.set_level(logging.DEBUG)
    url = f"http://user:{SECRET}@127.0.0.1:{server.port}/origin.tar?sig={SECRET}"
    rows = load(world, "merged_balanced", visual_news=url, splits=["test"], num_proc=2)["test"]
    assert len(rows) == len(world.rows(split="test"))
    assert SECRET not in caplog.text
    assert [file for file in tmp_path.rglob("*") if SECRET in str(file)] == []
    assert [file for file in tmp_path.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()] == []


def test_a_builder_shows_no_secret(served: tuple[World, Server], tmp_path: Path) -> None:
    """A builder's cache folder, config and info show no secret of the URL."""
    world, server = served
    server.habit = honest
    url = f"http://user:{SECRET}@127.0.0.1:{server.port}/origin.tar?sig={SECRET}"
    builder = NewsCLIPpings(config_name="merged_balanced", data_dir=str(world.root), visual_news=url)
    assert SECRET not in f"{builder.cache_dir} {builder.config_id} {builder.info}"
    assert SECRET not in f"{builder.config} {builder.config!r} {builder.config.inputs()}"
    assert f"visual_news='http://127.0.0.1:{server.port}/origin.tar'" in repr(builder.config)


def test_a_token_that_the_server_repeats_is_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A token of any form, from the environment or a login, is in no message or log, even if the server repeats it."""
    monkeypatch.setenv("HF_TOKEN", f"of-the-environment.{SECRET}")
    remote.remember_secrets_of("hf://datasets/me/it")
    assert SECRET not in str(NewsCLIPpingsError(f"401: bad token of-the-environment.{SECRET}"))
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: f"of-a-login.{SECRET}")
    remote.remember_secrets_of("hf://datasets/me/it")
    assert SECRET not in str(NewsCLIPpingsError(f"401: bad token of-a-login.{SECRET}"))
