"""A process that has imported what takes a second to import, and forks a child for each call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY = """
import json, os, signal, sys, traceback
exec(sys.argv[1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    told = json.loads(line)
    if child := os.fork():
        print(child, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(told["env"])
    os.chdir(told["cwd"])
    for stream, name in enumerate((os.devnull, told["out"], told["err"])):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv[1:] = told["args"]
    try:
        exec(told["code"], {"sys": sys, "__name__": "__main__"})
        code = 0
    except SystemExit as done:
        code = done.code
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    with open(told["done"] + ".new", "w") as file:
        file.write(str(code))
    os.rename(told["done"] + ".new", told["done"])
    os._exit(0)
"""


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def __getitem__(self, name: str) -> Any:
        """A value of the JSON object that the command wrote."""
        return json.loads(self.out.splitlines()[-1])[name]

    def rows(self) -> Any:
        """What the code printed as JSON after a #, last."""
        assert self.code == 0, f"{self.out}\n{self.err}"
        return json.loads([line for line in self.out.splitlines() if line.startswith("#")][-1][1:])


@dataclass(frozen=True)
class Child:
    """A forked process, and where it writes what."""

    pid: int
    folder: Path

    def result(self) -> Done:
        self.until(lambda: False)
        out, err = ((self.folder / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return Done(int((self.folder / "done").read_text()), out, err)

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for something, or the end of the process."""
        deadline = time.monotonic() + 60
        while not (self.folder / "done").exists() and not reached():
            assert time.monotonic() < deadline, (self.folder / "err").read_text()
            time.sleep(0.01)

    def kill_when(self, reached: Callable[[], bool]) -> None:
        self.until(reached)
        assert not (self.folder / "done").exists(), self.result()
        os.kill(self.pid, signal.SIGKILL)


class Ready:
    """A process that has imported what is needed, and forks."""

    def __init__(self, imports: str, env: dict[str, str], folder: Path) -> None:
        folder.mkdir()
        self.folder, self.calls = folder, 0
        command = [sys.executable, "-c", READY, imports]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=folder)

    def call(self, code: str, args: list[str], env: dict[str, str]) -> Child:
        self.calls += 1
        place = self.folder / str(self.calls)
        (place / "cwd").mkdir(parents=True)
        files = {name: str(place / name) for name in ("out", "err", "done", "cwd")}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"code": code, "args": args, "env": env, **files}) + "\n")
        self.process.stdin.flush()
        return Child(int(self.process.stdout.readline()), place)

    def stop(self) -> None:
        self.process.communicate()
