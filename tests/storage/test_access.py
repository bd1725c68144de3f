"""What a user passes to reach remote files, and the habits of servers that a client has to expect."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec.config
import pytest
from click.testing import CliRunner
from support.constants import change_constant
from support.manners import Manners, serving_with
from support.reading import environment, load, raw
from support.sampling import crossed
from support.world import World

from _newsclippings.cli.commands import main
from _newsclippings.facts import HUB_FILES
from _newsclippings.inputs import find_inputs
from _newsclippings.storage import Access, RemoteFile
from _newsclippings.storage.files import fetch_into
from _newsclippings.storage.remote import retry
from newsclippings import ConfigError, DataNotFoundError, NewsCLIPpings, NewsCLIPpingsConfig, RemoteReadError, verify

SECRET = "s3cr3t-of-ann-0123456789"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    change_constant(monkeypatch, "PAUSE", 0.001)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,::1")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 300,000 known bytes."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "a.bin").write_bytes(bytes(k * k % 251 for k in range(300_000)))
    return folder


def read(url: str, access: Access | None = None) -> bytes:
    file = RemoteFile(url, access or Access())
    return file.read_at(0, file.size)


class HeadRefused(Manners):
    """Refuses HEAD, as addresses that are signed for GET do."""

    def answer(self) -> None:
        self.reply(403) if self.command == "HEAD" else super().answer()


class NoLength(Manners):
    """Reports a length only in Content-Range."""

    def answer(self) -> None:
        self.reply(200, Content_Length="0") if not self.headers.get("Range") else super().answer()


class OpenRanges(Manners):
    """Leaves the size open in Content-Range."""

    def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
        place = str(headers.pop("Content_Range", "")).partition("/")[0]
        super().reply(status, body, **headers, **({"Content_Range": f"{place}/*"} if place else {}))


class Choosy(Manners):
    """Refuses the clients of Python by their User-Agent."""

    def answer(self) -> None:
        agent = self.headers.get("User-Agent", "")
        self.reply(403) if "python" in agent.lower() or "aiohttp" in agent else super().answer()


class Short(Manners):
    """Answers with at most 70,000 bytes of a range."""

    def send_file(self, data: bytes, etag: str | None = '"one"') -> None:
        first, last = map(int, (self.headers.get("Range") or "bytes=0-0")[6:].split("-"))
        last = min(last, first + 69_999, len(data) - 1)
        self.reply(206, data[first : last + 1], ETag=etag, Content_Range=f"bytes {first}-{last}/{len(data)}")


class Breaking(Manners):
    """Ends each connection after 100,000 bytes of a body."""

    def reply(self, status: int, body: bytes = b"", **headers: object) -> None:
        if len(body) <= 100_000:
            return super().reply(status, body, **headers)
        super().reply(status, body[:100_000], Content_Length=len(body), **headers)
        time.sleep(0.1)  # until the client has read them
        self.close_connection = True
        return None


class Compressing(Manners):
    """Compresses ranges for clients that accept it."""

    def send_file(self, data: bytes, etag: str | None = '"one"') -> None:
        wrong = self.headers.get("Accept-Encoding") != "identity"
        super().send_file(bytes(len(data)) if wrong else data, etag)


@pytest.mark.parametrize("kind", [HeadRefused, NoLength, OpenRanges, Choosy, Short, Breaking, Compressing])
def test_servers_with_habits(files: Path, kind: type[Manners]) -> None:
    """The bytes of the file, whatever the habit of the server."""
    with serving_with(files, kind) as (address, _):
        assert read(f"{address}/a.bin") == (files / "a.bin").read_bytes()


@pytest.mark.parametrize("kind", [Short, Breaking])
def test_short_answers_are_continued(files: Path, kind: type[Manners]) -> None:
    """After a short or a broken answer only the rest is requested."""
    with serving_with(files, kind) as (address, log):
        read(f"{address}/a.bin")
    asked = [headers["Range"] for _, _, headers in log]
    step = 70_000 if kind is Short else 100_000
    assert asked == ["bytes=0-0", *(f"bytes={at}-299999" for at in range(0, 300_000, step))]


def test_a_whole_file_is_continued(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that breaks off goes on where it stopped, unless the file has changed."""
    change_constant(monkeypatch, "_BLOCK", 50_000, of="files")

    class Failing(Manners):
        left = [120_000]  # noqa: RUF012
        etag = ['"one"']  # noqa: RUF012

        def send_file(self, data: bytes, etag: str | None = None) -> None:
            first = int((self.headers.get("Range") or "bytes=0-")[6:].partition("-")[0])
            if first > self.left[0]:
                self.left[0] = 1 << 40
                return self.reply(500)
            return super().send_file(data, self.etag[0])

    import fsspec.implementations.http

    monkeypatch.setattr(fsspec.implementations.http.HTTPFileSystem, "block_size", 50_000, raising=False)
    with serving_with(files, Failing) as (address, _), open(tmp_path / "copy", "w+b") as sink:
        fetch_into(f"{address}/a.bin", sink)
        assert (tmp_path / "copy").read_bytes() == (files / "a.bin").read_bytes()


@pytest.mark.parametrize(("form", "status"), crossed(["seconds", "date"], [429, 503]))
def test_retry_after_is_obeyed(files: Path, form: str, status: int) -> None:
    """A server that asks to wait is asked again then, as often as it asks for it."""
    moments: list[float] = []

    class Busy(Manners):
        def answer(self) -> None:
            moments.append(time.time())
            if len(moments) in (2, 4):
                wait = "1" if form == "seconds" else formatdate(time.time() + 1.5, usegmt=True)
                return self.reply(status, Retry_After=wait)
            return super().answer()

    with serving_with(files, Busy) as (address, _):
        assert read(f"{address}/a.bin") == (files / "a.bin").read_bytes()
    assert len(moments) == 3
    assert moments[2] - moments[1] > 0.3


def test_a_server_that_asks_for_no_wait(files: Path) -> None:
    """`Retry-After: 0` is no wait: such answers end after the usual number of tries."""

    class Busy(Manners):
        def answer(self) -> None:
            self.reply(503, Retry_After="0")

    with serving_with(files, Busy) as (address, log):
        with pytest.raises(RemoteReadError, match="tried 6 times"):
            read(f"{address}/a.bin")
        assert len(log) == 6


def test_a_hub_that_cannot_be_reached_has_a_local_way() -> None:
    """Without a network, the error says where a copy of the authors' file belongs, and what fetches it elsewhere."""

    def fail() -> None:
        raise ConnectionError("no network")

    file = "data/merged_balanced/test.json"
    with pytest.raises(RemoteReadError, match=f"put a copy at news_clippings/{file} below data_dir") as error:
        retry(fail, f"{HUB_FILES}/{file}", "its size")
    assert "`newsclippings download` makes that tree" in str(error.value)


def test_a_server_that_asks_for_too_long(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait beyond the limit is an error that names the server's wish and the variable; it is not waited for."""

    class Closed(Manners):
        def answer(self) -> None:
            self.reply(429, Retry_After="3600")

    with serving_with(files, Closed) as (address, log):
        with pytest.raises(RemoteReadError, match=r"asks to wait 3,600 seconds.*NEWSCLIPPINGS_MAX_WAIT"):
            read(f"{address}/a.bin")
        assert len(log) == 1
        monkeypatch.setenv("NEWSCLIPPINGS_MAX_WAIT", "soon")
        with pytest.raises(ConfigError, match="NEWSCLIPPINGS_MAX_WAIT='soon': expected a number of seconds"):
            read(f"{address}/a.bin")


def test_a_proxy_that_alone_knows_the_host(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go through the proxy of the environment."""

    class Proxy(Manners):
        def answer(self) -> None:
            parts = urlsplit(self.path)
            self.path = parts.path
            super().answer() if parts.hostname == "origin.test" else self.reply(502)

    with serving_with(files, Proxy) as (address, log):
        monkeypatch.setenv("http_proxy", address)
        assert read("http://origin.test/a.bin") == (files / "a.bin").read_bytes()
    assert log


def test_netrc(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The login of .netrc is sent."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ann password secret-word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with serving_with(files) as (address, log):
        read(f"{address}/a.bin")
    assert {headers.get("Authorization") for _, _, headers in log} == {"Basic YW5uOnNlY3JldC13b3Jk"}


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6")
def test_colons_are_no_chain(files: Path) -> None:
    """An IPv6 address and a query with `::` are read as they are."""
    with serving_with(files, host="::1") as (address, log):
        assert read(f"{address}/a.bin?x=file::tar") == (files / "a.bin").read_bytes()
    assert {path for _, path, _ in log} == {"/a.bin?x=file::tar"}


def test_settings_of_fsspec_are_kept(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of fsspec's configuration and of storage_options are sent beside our own; the latter win."""
    conf = {"client_kwargs": {"headers": {"X-Site": "library", "X-Both": "conf"}}}
    monkeypatch.setitem(fsspec.config.conf, "http", conf)
    access = Access({"client_kwargs": {"headers": {"X-Both": "option"}}, "headers": {"X-Request": "each"}})
    with serving_with(files) as (address, log):
        read(f"{address}/a.bin", access)
    for _, _, headers in log:
        assert (headers["X-Site"], headers["X-Both"], headers["X-Request"]) == ("library", "option", "each")
        assert headers["Accept-Encoding"] == "identity"
        assert headers["User-Agent"].startswith("newsclippings/")


def test_an_option_that_no_client_has(files: Path) -> None:
    """A misspelt option is an error at once, which names it and does not blame the server."""
    with serving_with(files) as (address, log), pytest.raises(DataNotFoundError, match="argument 'tokenn'") as caught:
        read(f"{address}/a.bin", Access({"tokenn": SECRET}))
    assert "Check the names of your storage options" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not log


def test_options_of_a_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain options are for the protocol of the user's URL; those under a protocol's name for that one alone."""
    access = Access({"anon": True, "https": {"ssl": False}, "hf": {"endpoint": "http://mirror.test"}}, "hf_token_abc")
    assert access.options_of("s3", "s3://bucket/x.tar") == {"anon": True}
    assert access.options_of("https", "zip://x::https://y.test/z.zip") == {"ssl": False}
    ours = "hf://g-luo/news-clippings@815fc4cd74b35788ba8a1524d65c42fb69b03fd4/data/merged_balanced/test.json"
    assert access.options_of("hf", ours) == {"endpoint": "http://mirror.test", "token": "hf_token_abc"}
    assert Access(token=False).options_of("hf", ours) == {"token": False}
    assert Access(token=True).options_of("hf", ours) == {}


class Guarded(Manners):
    """Serves only requests with the secret header."""

    def answer(self) -> None:
        super().answer() if self.headers.get("X-Key") == SECRET else self.reply(401)


def options() -> dict[str, Any]:
    return {"client_kwargs": {"headers": {"X-Key": SECRET}}}


@pytest.fixture
def guarded(new_world: Callable[..., World]) -> World:
    return new_world(folder=False)


def hide_tar(world: World) -> Path:
    """Move the tar away from data_dir; returns its folder."""
    away = world.root.parent / "away"
    away.mkdir()
    next(world.root.rglob("origin.tar")).rename(away / "origin.tar")
    return away


@pytest.mark.parametrize("streaming", [False, True])
def test_storage_options_reach_the_tar(guarded: World, caplog: pytest.LogCaptureFixture, streaming: bool) -> None:
    """`load_dataset(storage_options=)` reads a guarded tar, also in forked workers; the options are nowhere else."""
    caplog.set_level(logging.DEBUG)
    with serving_with(hide_tar(guarded), Guarded) as (address, log):
        url = f"{address}/origin.tar"
        more: dict[str, Any] = {"streaming": True} if streaming else {"num_proc": 2}
        data = load(guarded, visual_news=url, storage_options=options(), split="test", **more)
        assert raw(data) == guarded.rows(split="test")
        assert {headers.get("X-Key") for _, _, headers in log} == {SECRET}
        builder = NewsCLIPpings(data_dir=str(guarded.root), visual_news=url, storage_options=options())
        same = NewsCLIPpings(
            data_dir=str(guarded.root), visual_news=url, storage_options={**options(), "headers": {"X-Key": SECRET}}
        )
        assert builder.config_id == same.config_id
        for thing in (builder, builder.config, data):
            assert SECRET.encode() not in pickle.dumps(thing)
        assert SECRET not in repr(builder.config) + repr(vars(builder)) + caplog.text
    names = [path for path in Path(builder.cache_dir).parents[2].rglob("*") if path.is_file()]
    assert names
    for path in names:
        assert SECRET not in path.name
        assert SECRET.encode() not in path.read_bytes()


def test_a_process_that_never_got_the_options(tmp_path: Path) -> None:
    """A pickle has no options; where they are needed in a new process, an error says what to do."""
    kept = pickle.dumps(Access({"key": SECRET}))
    assert pickle.loads(kept).options_of("s3", "s3://b/x") == {"key": SECRET}
    code = f"import pickle; pickle.loads({kept!r}).options_of('s3', 's3://b/x')"
    done = subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True)
    assert "kept out of pickles, and this process was not forked from the one that has them" in done.stderr
    assert pickle.loads(pickle.dumps(Access())).options_of("s3", "s3://b/x") == {}


def test_the_command_line(guarded: World, tmp_path: Path) -> None:
    """`--storage-option KEY=VALUE` is JSON or text, reaches index, info, verify and build, and is never printed."""
    with serving_with(hide_tar(guarded), Guarded) as (address, _):
        url, given = (
            f"{address}/origin.tar",
            ["--storage-option", f"client_kwargs={json.dumps(options()['client_kwargs'])}"],
        )
        data = ["--data-dir", str(guarded.root), "--visual-news", url, *given]
        run = CliRunner()
        for command in (
            ["index", url, "-o", str(tmp_path / "x.parquet"), *given],
            ["verify", *data],
            ["info", *data],
            ["build", str(tmp_path / "out"), *data],
        ):
            done = run.invoke(main, command)
            assert done.exit_code == 0, done.output
            assert SECRET not in done.output
        refused = run.invoke(main, ["index", url, "-o", str(tmp_path / "y.parquet")])
        assert (refused.exit_code, "401" in refused.output) == (1, True)
        assert verify(guarded.root, url, storage_options=options()).sound
    wrong = CliRunner().invoke(main, ["info", "--storage-option", "secret"])
    assert (wrong.exit_code, "expected KEY=VALUE" in wrong.output) == (2, True)


def test_two_servers_behind_one_name(guarded: World) -> None:
    """Two ETags of one tar are no change: it is indexed and built once."""

    class Two(Manners):
        def send_file(self, data: bytes, etag: str | None = None) -> None:
            super().send_file(data, f'"{len(self.requests) % 2}"')

    with serving_with(hide_tar(guarded), Two) as (address, log):
        url = f"{address}/origin.tar"
        assert raw(load(guarded, visual_news=url, split="test")) == guarded.rows(split="test")
        before = len(log)
        assert raw(load(guarded, visual_news=url, split="test")) == guarded.rows(split="test")
        assert len(log) - before <= 12  # its identity, no header and no picture
        config = NewsCLIPpingsConfig(data_dir=str(guarded.root), visual_news=url)
        inputs = find_inputs(config)
        inputs.identity(url)
        inputs.check_unchanged([url, url])
