"""Servers that no client should trust, by their habits, and a sweep: `python -m tests.sweeps.hostile_servers`.

Each habit meets each operation that reads a URL, in a process of its own with 2 GB of address space. What must come of
it: right rows, or one error of ours, soon; and no server may send much more than it was asked for.
"""

from __future__ import annotations

import gzip
import itertools
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
if __name__ == "__main__":
    os.environ.update(HF_HOME=tempfile.mkdtemp(prefix="newsclippings-servers-"), HF_HUB_OFFLINE="1")
    os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1", NO_PROXY="127.0.0.1", USE_TORCH="0")

import click
from click.testing import CliRunner
from support.reading import load, raw_splits
from support.world import World, make_world

from _newsclippings.cli import main
from _newsclippings.storage import remote
from _newsclippings.tar.index_file import INDEX_MOST
from newsclippings import NewsCLIPpingsError, verify

SPACE = 2 << 30  # bytes of address space
SLACK = 16 << 20  # bytes on their way that a server may have sent when its client hangs up
ENDLESS = 1 << 40
CHUNK = 64 << 10


@dataclass
class Ask:
    """One request."""

    method: str
    path: str
    first: int | None
    last: int | None
    file: bytes

    @property
    def body(self) -> bytes:
        """What an honest server would send."""
        return self.file if self.first is None else self.file[self.first : (self.last or 0) + 1]

    @property
    def length(self) -> int:
        """The length that an honest server would announce."""
        return len(self.file if self.method == "HEAD" else self.body)

    @property
    def asked(self) -> int:
        """How many bytes are asked for."""
        return 0 if self.method == "HEAD" else len(self.body)

    def head(self, status: str = "", length: object = "", **more: Any) -> bytes:
        """What an honest server would say, with changes; a value of None leaves a header out."""
        ranged = self.first is not None
        length = self.length if length == "" else length
        headers: dict[str, str | None] = {
            "Content-Length": None if length is None else str(length),
            "ETag": '"one"',
            "Accept-Ranges": "bytes",
            "Content-Range": f"bytes {self.first}-{self.last}/{len(self.file)}" if ranged else None,
        }
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        lines = [f"HTTP/1.1 {status or ('206 Partial Content' if ranged else '200 OK')}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


Habit = Callable[["Ask"], Iterator[bytes | float]]  # what it sends, and seconds that it waits


def honest(ask: Ask) -> Iterator[bytes | float]:
    """As it should be: for GETs that are no business of a habit."""
    yield ask.head()
    if ask.method != "HEAD":
        yield ask.body


def _endless(first: bytes, wait: float = 0.0, chunked: bool = False) -> Iterator[bytes | float]:
    sent = 0
    for part in itertools.chain([first], itertools.repeat(bytes(CHUNK) if not wait else b"\0")):
        yield b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
        if wait:
            yield wait
        sent += len(part)
        if sent > ENDLESS:
            return


def _of_gets(habit: Habit) -> Habit:
    return lambda ask: honest(ask) if ask.method == "HEAD" else habit(ask)


def _says(status: str = "", length: object = "", **more: Any) -> Habit:
    def habit(ask: Ask) -> Iterator[bytes | float]:
        yield ask.head(status, length, **more)
        if ask.method != "HEAD":
            yield ask.body

    return habit


def _endless_habit(status: str = "", length: object = "", chunked: bool = False, **more: Any) -> Habit:
    def habit(ask: Ask) -> Iterator[bytes | float]:
        coding = {"Transfer_Encoding": "chunked"} if chunked else {}
        yield ask.head(status, length, **coding, **more)
        yield from _endless(ask.body, chunked=chunked)

    return _of_gets(habit)


def _bomb(coding: str, body: bytes, heads: bool = False) -> Habit:
    def habit(ask: Ask) -> Iterator[bytes | float]:
        yield ask.head("", len(body), Content_Encoding=coding)
        if ask.method != "HEAD":
            yield body

    return habit if heads else _of_gets(habit)


def _drip_body(ask: Ask) -> Iterator[bytes | float]:
    yield ask.head()
    for byte in ask.body:
        yield bytes([byte])
        yield 0.1


def _drip_chunks(ask: Ask) -> Iterator[bytes | float]:
    yield ask.head("", None, Transfer_Encoding="chunked")
    yield from _endless(b"", 0.1, chunked=True)


def _drip_head(ask: Ask) -> Iterator[bytes | float]:
    for byte in ask.head(**{"X_Long": "x" * 4000}):
        yield bytes([byte])
        yield 0.1


def _endless_head(ask: Ask) -> Iterator[bytes | float]:
    yield ask.head().removesuffix(b"\r\n")
    for number in itertools.count():
        yield b"".join(b"X-%d-%d: %s\r\n" % (number, k, b"y" * 60) for k in range(1000))


def _endless_line(ask: Ask) -> Iterator[bytes | float]:
    yield ask.head().removesuffix(b"\r\n") + b"X-Long: "
    yield from _endless(b"")


def _endless_continue(ask: Ask) -> Iterator[bytes | float]:
    while ask.path:
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 100


def _redirects(ask: Ask) -> Iterator[bytes | float]:
    yield f"HTTP/1.1 302 Found\r\nLocation: {ask.path}x\r\nContent-Length: 0\r\n\r\n".encode()


def _redirect_to(place: str) -> Habit:
    def habit(ask: Ask) -> Iterator[bytes | float]:
        yield f"HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()

    return habit


def _raw(text: bytes) -> Habit:
    def habit(ask: Ask) -> Iterator[bytes | float]:
        yield text

    return habit


def _silent(ask: Ask) -> Iterator[bytes | float]:
    yield 30.0


def _silent_heads(ask: Ask) -> Iterator[bytes | float]:
    return _silent(ask) if ask.method == "HEAD" else honest(ask)


def _silent_after(part: float) -> Habit:
    def habit(ask: Ask) -> Iterator[bytes | float]:
        yield ask.head()
        yield ask.body[: int(len(ask.body) * part)]
        yield 30.0

    return _of_gets(habit)


def _listing(ask: Ask) -> Iterator[bytes | float]:
    yield b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n"
    for number in itertools.count():
        part = b"".join(b'<a href="f%d-%d">f</a>\n' % (number, k) for k in range(1000))
        yield b"%x\r\n%s\r\n" % (len(part), part)


_GZIP = gzip.compress(bytes(1 << 20)) * 2000  # 2 GB, of 2 MB
HABITS: dict[str, Habit] = {
    "endless 206": _endless_habit(length=None),
    "endless 206 in chunks": _endless_habit(length=None, chunked=True),
    "206 with an endless length": _endless_habit(length=ENDLESS),
    "206 without a range": _endless_habit(length=None, Content_Range=None),
    "206 of everything": _endless_habit(length=ENDLESS, Content_Range="bytes 0-1099511627775/1099511627776"),
    "206 of the whole file, endless": _endless_habit(length=None, Content_Range="bytes */*"),
    "endless 200": _endless_habit("200 OK", None, Content_Range=None),
    "endless 200 in chunks": _endless_habit("200 OK", None, chunked=True, Content_Range=None),
    "200 with an endless length": _endless_habit("200 OK", ENDLESS, Content_Range=None),
    "endless everything": lambda ask: itertools.chain([b"HTTP/1.1 200 OK\r\n\r\n"], _endless(b"")),
    "endless failure": lambda ask: itertools.chain([b"HTTP/1.1 500 No\r\n\r\n"], _endless(b"")),
    "endless refusal": lambda ask: itertools.chain([b"HTTP/1.1 404 No\r\n\r\n"], _endless(b"")),
    "endless HEAD": lambda ask: itertools.chain([ask.head()], _endless(b"")) if ask.method == "HEAD" else honest(ask),
    "endless redirect": lambda ask: itertools.chain([b"HTTP/1.1 302 X\r\nLocation: /x\r\n\r\n"], _endless(b"")),
    "gzip bomb": _bomb("gzip", _GZIP),
    "gzip bomb, HEAD too": _bomb("gzip", _GZIP, heads=True),
    "deflate": _bomb("deflate", b"x\x9c" + bytes(100)),
    "brotli": _bomb("br", bytes(100)),
    "zstd": _bomb("zstd", bytes(100)),
    "two encodings": _bomb("gzip, gzip", _GZIP),
    "an odd encoding": _bomb("\x1b[2J", _GZIP[:100]),
    "body byte by byte": _of_gets(_drip_body),
    "chunks byte by byte": _of_gets(_drip_chunks),
    "head byte by byte": _drip_head,
    "head byte by byte, of GET": _of_gets(_drip_head),
    "endless head": _endless_head,
    "endless head, of GET": _of_gets(_endless_head),
    "endless line in a head": _endless_line,
    "endless 100 Continue": _endless_continue,
    "redirects for ever": _redirects,
    "redirect to itself": lambda ask: _redirect_to(ask.path)(ask),
    "redirect to a file": _redirect_to("file:///etc/passwd"),
    "redirect to ftp": _redirect_to("ftp://127.0.0.1/x"),
    "redirect to nowhere": _redirect_to("http://127.0.0.1:1/x"),
    "redirect to no address": _redirect_to("http://[/\x7f"),
    "redirect without a place": _raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
    "silent": _silent,
    "silent on HEAD": _silent_heads,
    "silent on GET": _of_gets(_silent),
    "silent after the head": _silent_after(0.0),
    "silent after a half": _silent_after(0.5),
    "a negative length": _says(length=-5),
    "a length that is no number": _says(length="many"),
    "a length beyond all": _says(length=10**30),
    "a length of 2**63": _says(length=1 << 63),
    "a shorter length": lambda ask: _says(length=max(0, ask.length - 700))(ask),
    "a longer length": lambda ask: _says(length=ask.length + 700)(ask),
    "no length": _says(length=None),
    "an odd range": _says(Content_Range="bytes 5-1/0"),
    "a range of words": _says(Content_Range="bytes \x1b[31mall/\x07"),
    "an empty answer": _raw(b""),
    "no HTTP": _raw(b"\x00\xff\x1b[2J" * 100 + b"\r\n\r\n"),
    "a status of its own": _raw(b"HTTP/1.1 999 \x1b[2J\r\nContent-Length: 0\r\n\r\n"),
    "a status of 0": _raw(b"HTTP/1.1 000 x\r\nContent-Length: 0\r\n\r\n"),
    "204": _raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "304": _raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "416": _of_gets(_raw(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n")),
    "429 for ever": _raw(b"HTTP/1.1 429 Slow\r\nRetry-After: 100000\r\nContent-Length: 0\r\n\r\n"),
    "an odd reason": _raw(b"HTTP/1.1 403 \x1b[2J\x07\xe2\x80\xae\r\nContent-Length: 0\r\n\r\n"),
    "endless listing": _listing,
    "endless cookies": _says(Set_Cookie="a=" + "b" * 6000),
    "another protocol": _raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + bytes(CHUNK)),
    "multipart ranges": _says(Content_Type="multipart/byteranges; boundary=x", Content_Range=None),
}  # fmt: skip


@dataclass
class Server:
    """A running server.

    Attributes:
        files: path -> content.
        habit: how it answers.
        only: the path that the habit is for; others are answered honestly. None for all.
        overshoot: the most bytes that it could send beyond what was asked for, in one answer.
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    habit: Habit = honest
    only: str | None = None
    overshoot: int = 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, connection: socket.socket) -> None:
        connection.settimeout(60)
        text = b""
        while True:
            while b"\r\n\r\n" not in text:
                data = connection.recv(CHUNK)
                if not data:
                    return
                text += data
            head, _, text = text.partition(b"\r\n\r\n")
            method, path = head.decode("latin-1").split(" ")[:2]
            asked = re.search(rb"(?i)^range: bytes=(\d+)-(\d+)", head, re.MULTILINE)
            path = path.partition("?")[0].rstrip("x") if self.habit is _redirects else path.partition("?")[0]
            file = self.files.get(path)
            if file is None:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                continue
            first, last = (int(asked[1]), min(int(asked[2]), len(file) - 1)) if asked else (None, None)
            ask = Ask(method, path, first, last, file)
            sent = 0
            for part in (self.habit if self.only in (None, path) else honest)(ask):
                if isinstance(part, float):
                    deadline = time.monotonic() + part
                    while (left := deadline - time.monotonic()) > 0:
                        connection.settimeout(min(left, 0.05))
                        with suppress(TimeoutError):
                            if not connection.recv(1, socket.MSG_PEEK):
                                return
                            time.sleep(0.01)
                    connection.settimeout(60)
                else:
                    connection.sendall(part)
                    sent += len(part)
                    self.overshoot = max(self.overshoot, sent - ask.asked)
            if self.habit not in (honest, _redirects):
                return


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Server]:
    """Run a server while the block runs."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = Server(listening.getsockname()[1], files)

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            server.answer(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def _rows(world: World, url: str, **options: Any) -> str:
    """What a load says; "right" for right rows."""
    if raw_splits(load(world, "merged_balanced", visual_news=url, splits=["test"], **options)) != {
        "test": world.rows(split="test")
    }:
        return "wrong rows"
    return "right"


def _command(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return "right" if done.exit_code == 0 else f"refused {done.output}"


def _verified(world: World, url: str, **options: Any) -> str:
    report = verify(str(world.root), visual_news=url, **options)
    return "right" if report.sound else f"refused {report}"


OPERATIONS: dict[str, Callable[[World, Server], str]] = {
    "build": lambda world, server: _rows(world, server.url("/origin.tar")),
    "stream": lambda world, server: _rows(world, server.url("/origin.tar"), streaming=True),
    "index": lambda world, server: _command("index", server.url("/origin.tar"), "-o", "x.parquet"),
    "verify": lambda world, server: _verified(world, server.url("/origin.tar")),
    "build by an index": lambda world, server: _rows(
        world, str(world.root / "origin.tar"), visual_news_index=server.url("/x.parquet")
    ),
    "stream by an index": lambda world, server: _rows(
        world, str(world.root / "origin.tar"), visual_news_index=server.url("/x.parquet"), streaming=True
    ),
    "verify by an index": lambda world, server: _verified(
        world, str(world.root / "origin.tar"), visual_news_index=server.url("/x.parquet")
    ),
    "build from a zip": lambda world, server: _rows(world, f"zip://origin.tar::{server.url('/origin.zip')}"),
}


def attempt(operation: str, world: World, server: Server) -> str:
    """What comes of an operation: "right", "refused ...", or what is wrong."""
    try:
        return OPERATIONS[operation](world, server)
    except NewsCLIPpingsError as error:
        return f"refused {error}"
    except Exception as error:
        return f"wrong: {type(error).__name__}: {error}"


def make_files(root: Path) -> tuple[World, dict[str, bytes]]:
    """A world whose tar is beside its matches, and what of it is served."""
    import io
    import zipfile

    world = make_world(root, folder=False, tar=False)
    world.write_tar(root / "origin.tar")
    code = "from _newsclippings.cli import main; main()"
    command = [sys.executable, "-c", code, "index", str(root / "origin.tar"), "-o", str(root / "x.parquet")]
    subprocess.run(
        command, check=True, capture_output=True
    )  # whose threads reserve address space that children inherit
    tar = (root / "origin.tar").read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("origin.tar", tar)
    return world, {
        "/origin.tar": tar,
        "/x.parquet": (root / "x.parquet").read_bytes(),
        "/origin.zip": archive.getvalue(),
    }


def sweep(only: str = "") -> int:
    """Every habit and every operation; how many went wrong."""
    from support.children import in_child, wait

    wrong = tried = 0
    longest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        world, files = make_files(Path(folder, "data"))
        with serving(files) as server:
            for name, habit in HABITS.items():
                for operation in OPERATIONS:
                    if only not in f"{name}/{operation}":
                        continue
                    server.habit, server.overshoot = habit, 0

                    def run(operation: str = operation) -> None:
                        resource.setrlimit(resource.RLIMIT_AS, (SPACE, SPACE))
                        remote.PAUSE, remote.TIMEOUT = 0.001, 0.5
                        place = tempfile.mkdtemp(dir=folder)
                        os.chdir(place)
                        import datasets

                        datasets.config.HF_DATASETS_CACHE = Path(place, "cache")
                        found = attempt(operation, world, server)
                        Path(folder, "found").write_text(found)

                    Path(folder, "found").unlink(missing_ok=True)
                    began = time.monotonic()
                    code = wait(in_child(run), 120)  # verify asks anew for each config
                    took = time.monotonic() - began
                    found = f"exit code {code}"
                    if Path(folder, "found").exists():
                        found = Path(folder, "found").read_text()
                    bad = code != 0 or not found.startswith(("right", "refused"))
                    unbounded = (
                        name in ("endless everything", "endless listing") and "index" in operation
                    )  # no length is announced
                    bad = bad or server.overshoot > SLACK + (INDEX_MOST if unbounded else 0)
                    tried, wrong, longest = tried + 1, wrong + bad, max(longest, took)
                    if bad or only:
                        click.echo(
                            f"{name} / {operation}: {found[:400]} ({took:.1f} s, {server.overshoot:,} bytes more)"
                        )
    click.echo(
        f"{tried} tried: {len(HABITS)} habits, {len(OPERATIONS)} operations; {wrong} wrong; {longest:.0f} s at most"
    )
    return wrong


if __name__ == "__main__":
    sys.exit(1 if sweep(*sys.argv[1:]) else 0)
