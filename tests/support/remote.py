"""A tar on a server in a child process, the server's log, and the requests that a build should make."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from datasets.exceptions import DatasetGenerationError

from _newsclippings.cli.commands import main
from newsclippings import NewsCLIPpingsError
from support.reading import TESTS, load
from support.world import Row, World

BLOCK = 512
ENDS = 64 * 1024  # bytes at either end of a tar that identify it; read whenever it is identified


class Request(NamedTuple):
    """One line of the log of range_server.py."""

    method: str
    path: str
    range: str | None
    sent: int
    status: int
    start: int

    @property
    def stop(self) -> int:
        """The byte of the file after the last one sent."""
        return self.start + self.sent


class Origin:
    """A running range_server.py and the folder that it serves."""

    def __init__(self, address: str, root: Path) -> None:
        self.address, self.root = address, root
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def url(self, path: Path) -> str:
        """The URL of a file of the folder."""
        return f"{self.address}/{path.relative_to(self.root).as_posix()}"

    def mode(self, **faults: Any) -> None:
        """Set the faults, and clear all others."""
        self._ask("_mode", json.dumps(faults).encode(), "POST")

    def forget(self) -> None:
        """Clear the log."""
        self._ask("_log", None, "DELETE")

    def log(self, path: Path | None = None) -> list[Request]:
        """The requests so far, of one file or all."""
        only = "/" + path.relative_to(self.root).as_posix() if path else ""
        entries = [Request(*entry) for entry in self._ask("_log")]
        return [entry for entry in entries if not path or entry.path.removeprefix("/elsewhere") == only]

    def gets(self, path: Path | None = None) -> list[Request]:
        """The GETs among them."""
        return [request for request in self.log(path) if request.method == "GET"]

    def sent(self, path: Path | None = None) -> int:
        """Bytes of response bodies so far."""
        return sum(request.sent for request in self.log(path))

    def _ask(self, what: str, data: bytes | None = None, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.address}/{what}", data, method=method)
        with self._opener.open(request, timeout=30) as reply:
            return json.load(reply)


@contextmanager
def serving(root: Path) -> Iterator[Origin]:
    """Run a server over a folder while the block runs."""
    command = [sys.executable, str(TESTS / "support/range_server.py"), str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Origin(process.stdout.readline().strip(), root)
        finally:
            process.terminate()


@dataclass(frozen=True)
class Published:
    """A world whose tar is on a server; matches and metadata are below `world.root`."""

    world: World
    origin: Origin
    tar: Path

    @property
    def url(self) -> str:
        return self.origin.url(self.tar)

    def load(self, config: str = "merged_balanced", **options: Any) -> Any:
        return load(self.world, config, visual_news=self.url, **options)

    def asked(self) -> list[Request]:
        """The requests for the tar."""
        return self.origin.gets(self.tar)

    def times(self, requests: Iterable[Request] | None = None) -> npt.NDArray[np.int32]:
        """How often each byte of the tar was sent, but for the first one, which is requested to learn the size."""
        counts = np.zeros(self.tar.stat().st_size + 1, np.int32)
        for request in self.asked() if requests is None else requests:
            if request.range == "bytes=0-0":
                continue
            counts[request.start] += 1
            counts[request.stop] -= 1
        return np.cumsum(counts, dtype=np.int32)[:-1]

    def places(self) -> dict[str, slice]:
        """Where each file is in the tar: its header and its bytes."""
        with tarfile.open(self.tar) as tar:
            files = [member for member in tar.getmembers() if member.isfile()]
        return {m.name.removeprefix("origin/"): slice(m.offset, m.offset_data + m.size) for m in files}

    def mask(self, names: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Mark the bytes of some files and their headers in the tar."""
        places, mask = self.places(), np.zeros(self.tar.stat().st_size, np.bool_)
        for name in names:
            mask[places[name]] = True
        return mask

    def inner(self) -> npt.NDArray[np.bool_]:
        """Mark the bytes of the tar outside its first and last 64 KiB."""
        mask = np.ones(self.tar.stat().st_size, np.bool_)
        mask[:ENDS] = mask[-ENDS:] = False
        return mask


def publish(world: World, origin: Origin, folder: str, name: str = "origin.tar", **how: Any) -> Published:
    """Write the tar of a world to a folder that a server serves."""
    tar = origin.root / folder / name
    world.write_tar(tar, **how)
    return Published(world, origin, tar)


@contextmanager
def refusal(kind: type[NewsCLIPpingsError] = NewsCLIPpingsError) -> Iterator[list[str]]:
    """Expect one of this package's errors, also one that `datasets` wrapped; yields its message when raised."""
    said: list[str] = []
    with pytest.raises((kind, DatasetGenerationError)) as caught:
        yield said
    error = caught.value if isinstance(caught.value, kind) else caught.value.__cause__
    assert isinstance(error, kind), repr(error)
    said.append(str(error))


def shown(rows: Iterable[Row]) -> set[str]:
    """The pictures of some rows."""
    return {row["image_path"] for row in rows}


def articles(rows: Iterable[Row]) -> set[str]:
    """The articles of the captions of some rows."""
    return {f"{row['source']}/articles/{row['id']}.txt" for row in rows}


def make_index(tar: Path | str, out: Path, code: int = 0) -> str:
    """`newsclippings index`; its exit code is 1 where the tar is damaged."""
    done = CliRunner().invoke(main, ["index", str(tar), "-o", str(out)])
    assert done.exit_code == code, done.output
    return str(out)
