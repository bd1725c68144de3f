"""A running hub_double.py, and child processes that push to it and load from it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.forking import Child, Done, Ready
from support.reading import TESTS, environment

REPO = "tester/news-clippings"
WRITE, READ, OTHER = "hf_write_of_tester", "hf_read_of_tester", "hf_write_of_other"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")

PUSH = "from _newsclippings.cli import main; main(sys.argv[1:])"
LOAD = """
import json
from datasets import Image, load_dataset
def raw(data):
    if "image" in data.features:
        data = data.cast_column("image", Image(decode=False))
    return list(data)
loaded = load_dataset(**json.loads(sys.argv[1]))
rows = {split: raw(loaded[split]) for split in loaded}
assert "newsclippings" not in sys.modules
def plain(data): return data.hex() if isinstance(data, bytes) else data.item() if hasattr(data, "item") else str(data)
print("#" + json.dumps(rows, default=plain))
"""
WITHOUT = """
import contextlib, datasets, datasets.packaged_modules.parquet.parquet, fsspec.implementations.http
with contextlib.suppress(ImportError):
    import scipy.io  # by `datasets` for each load
"""
IMPORTS = "import datasets, huggingface_hub.hf_api, newsclippings, _newsclippings.cli, _newsclippings.hub"
SHORT_WAITS = """
import time
wait = time.sleep
time.sleep = lambda seconds: wait(min(seconds, 0.05))
"""


@dataclass(frozen=True)
class Hub:
    """A stand-in for the Hub; the child processes it starts know its address."""

    endpoint: str
    folder: Path
    xet: bool
    ready: dict[str, Ready]  # started when they are first needed

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.endpoint + path, data)) as reply:
            return json.load(reply)

    def log(self, method: str = "", path: str = "") -> list[dict[str, Any]]:
        """Return the requests with this method, if one is given, and with a path that matches this pattern."""
        return [e for e in self.ask("/_log") if method in ("", e["method"]) and re.search(path, e["path"])]

    def uploaded(self) -> list[str]:
        """SHA-256 of each file uploaded by LFS, repeated for each upload."""
        return [entry["path"].split("/")[2] for entry in self.log("PUT", "^/_lfs/") if entry["received"]]

    def stored(self) -> int:
        """Bytes in the Xet store."""
        chunks = self.folder / "kept" / "xet" / "xet" / "xorbs" / "xorbs"
        return sum(file.stat().st_size for file in chunks.iterdir())

    def faults(self, *faults: dict[str, Any]) -> None:
        self.ask("/_faults", list(faults))

    def make(
        self, name: str = REPO, *, private: bool = True, branch: str = "main", files: dict[str, str] | None = None
    ) -> Any:
        """Create a repository, or a branch of one, filled by somebody else. Returns its state."""
        self.ask(f"/_repo/{name}", {"private": private, "files": files or {}, "branch": branch})
        return self.repo(name)

    def repo(self, name: str = REPO) -> Any:
        return self.ask(f"/_repo/{name}")

    def files(self, revision: str = "main", name: str = REPO) -> dict[str, str]:
        """Path -> SHA-256 of the files of a branch or tag, except .gitattributes."""
        repo = self.repo(name)
        oid = {**repo["branches"], **repo["tags"]}[revision]
        found: dict[str, str] = next(commit["files"] for commit in repo["commits"] if commit["oid"] == oid)
        return {path: digest for path, digest in found.items() if path != ".gitattributes"}

    def environment(self, token: str | None = WRITE, **extra: str) -> dict[str, str]:
        online = {"HF_ENDPOINT": self.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "0" if self.xet else "1"}
        online |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        known = {"HF_TOKEN": token} if token else {}
        env = environment(self.folder / "hf", **{**online, **known, **extra})
        return {name: value for name, value in env.items() if name not in PROXIES or name in extra}

    def start_push(
        self, folder: Path, *options: str, repo: str = REPO, token: str | None = WRITE, before: str = ""
    ) -> Child:
        """Start `newsclippings push` in a child process, with short pauses between tries."""
        form = [] if "--format" in options else ["--format", "json"]
        args = ["push", repo, str(folder), *form, *options]
        return self._package().call(before + PUSH, args, self.environment(token))

    def push(self, folder: Path, *options: str, code: int = 0, **how: Any) -> Done:
        form = ["--format", "text"] if code and "--format" not in options else []  # errors as people read them
        return checked(self.start_push(folder, *options, *form, **how).result(), code)

    def run(self, code: str, *args: str) -> Done:
        """Run code in a child process that has imported this package, in an empty folder."""
        return self._package().call(code, list(args), self.environment()).result()

    def load(self, path: str = REPO, **options: Any) -> Any:
        """Load the rows of all splits in a child process that cannot import this package."""
        env = self.environment()
        alone = {name: value for name, value in env.items() if name != "PYTHONPATH"}
        ready = self._start("load", WITHOUT, alone)
        return ready.call(LOAD, [json.dumps({"path": path, **options})], env).result().rows()

    def _package(self) -> Ready:
        return self._start("push", IMPORTS, self.environment())

    def _start(self, name: str, imports: str, env: dict[str, str]) -> Ready:
        if name not in self.ready:
            self.ready[name] = Ready(SHORT_WAITS + imports, env, self.folder / name)
        return self.ready[name]


def checked(done: Done, code: int) -> Done:
    """Assert that a push ended with this code, without a traceback, and printed the token nowhere."""
    assert done.code == code, f"{done.out}\n{done.err}"
    assert "Traceback" not in done.err
    for token in (WRITE, READ, OTHER):
        assert token not in done.out + done.err
    return done


def python(code: str, args: list[str], env: dict[str, str], cwd: Path, executable: str = sys.executable) -> Done:
    """Run code in a new Python process."""
    cwd.mkdir(exist_ok=True)
    command = [executable, "-c", "import sys\n" + code, *args]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, encoding="utf-8", timeout=600)
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def running(folder: Path, *, xet: bool) -> Iterator[Hub]:
    command = [sys.executable, "-m", "support.hub_double", str(folder / "kept"), *(["--xet"] if xet else [])]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        hub = Hub(process.stdout.readline().strip(), folder, xet, {})
        try:
            yield hub
        finally:
            for one in hub.ready.values():
                one.stop()
            process.terminate()


def used(hub: Hub) -> Iterator[Hub]:
    """Empty the hub for a test; afterwards, fail if it got a request that it does not know."""
    hub.ask("/_reset", {"page": 3})
    shutil.rmtree(hub.folder / "hf", ignore_errors=True)
    yield hub
    unknown = [entry for entry in hub.log() if not entry["handled"]]
    assert not unknown, unknown
