"""A running hub_server.py, and what it was asked for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.reading import TESTS, environment
from support.world import World


class Hub:
    """A running hub_server.py over the news_clippings folder of a world."""

    def __init__(self, endpoint: str, world: World) -> None:
        self.endpoint, self.world = endpoint, world

    def log(self) -> list[tuple[str, str, str | None, bool]]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.endpoint}/_log") as reply:
            return [tuple(entry) for entry in json.load(reply)]

    def fetched(self) -> set[str]:
        """Files whose bytes were asked for."""
        return {
            m[1]
            for method, path, _, _ in self.log()
            if method == "GET" and (m := re.search("/resolve/[^/]+/(.+)", path))
        }

    def environment(self, home: Path, **extra: str) -> dict[str, str]:
        online = {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return environment(home, **{**online, **extra})


@contextmanager
def serving(world: World, *token: str) -> Iterator[Hub]:
    command = [sys.executable, str(TESTS / "support/hub_server.py"), str(world.root / "news_clippings"), *token]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Hub(process.stdout.readline().strip(), world)
        finally:
            process.terminate()
