"""A running hub_server.py, its log of requests, and child processes that use it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.forking import Child, Ready
from support.reading import PRELUDE, TESTS, environment
from support.world import World


class Hub:
    """A running hub_server.py over the news_clippings folder of a world."""

    def __init__(self, endpoint: str, world: World, folder: Path) -> None:
        self.endpoint, self.world, self.folder, self.home = endpoint, world, folder, folder / "hf"
        self._ready: dict[bool, Ready] = {}

    def serve(self, world: World, token: str | None = None) -> None:
        """Serve another world, with a token if one is given; the children's caches and the log are cleared."""
        self.world = world
        shutil.rmtree(self.home, ignore_errors=True)
        self._ask("_serve", json.dumps({"root": str(world.root / "news_clippings"), "token": token}).encode())

    def log(self) -> list[tuple[str, str, str | None, bool]]:
        return [tuple(entry) for entry in self._ask("_log")]

    def faults(self, **faults: list[str]) -> None:
        """Set what goes wrong with the content of files; see hub_server.py."""
        self._ask("_faults", json.dumps(faults).encode())

    def fetched(self) -> set[str]:
        """Return the files whose bytes were requested."""
        return {
            m[1]
            for method, path, _, _ in self.log()
            if method == "GET" and (m := re.search("/resolve/[^/]+/(.+)", path))
        }

    def environment(self, **extra: str) -> dict[str, str]:
        online = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return environment(self.home, **{**online, **extra})

    def run(self, code: str, *args: str, offline: bool = False, **extra: str) -> Any:
        """Run code in a child with an empty current folder; return what it `say`s. `extra` is set after its imports."""
        return self.start(code, *args, offline=offline, **extra).result().rows()

    def start(self, code: str, *args: str, offline: bool = False, **extra: str) -> Child:
        """Start a child as `run` does."""
        env = self.environment(HF_HUB_OFFLINE=str(int(offline)))
        if offline not in self._ready:
            self._ready[offline] = Ready(PRELUDE, env, self.folder / ("offline" if offline else "online"))
        return self._ready[offline].call(PRELUDE + code, list(args), {**env, **extra})

    def stop(self) -> None:
        """End the processes that were started by `run`."""
        for ready in self._ready.values():
            ready.stop()

    def _ask(self, what: str, data: bytes | None = None) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.endpoint}/{what}", data) as reply:
            return json.load(reply)


@contextmanager
def serving(world: World, folder: Path) -> Iterator[Hub]:
    """Run a server for a world while the block runs; its children keep their files below `folder`."""
    command = [sys.executable, str(TESTS / "support/hub_server.py"), str(world.root / "news_clippings")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        hub = Hub(process.stdout.readline().strip(), world, folder)
        try:
            yield hub
        finally:
            hub.stop()
            process.terminate()
