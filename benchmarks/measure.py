"""Run contenders in turn, each in a fresh process, and measure wall time and peak memory."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.range_server import reset
from benchmarks.works import ROWS_READ, Contender, Work

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """A run that counts.

    Attributes:
        seconds: of the work: of the whole process, or of the part that the contender timed.
        wall: seconds from the start of the process to its end.
        peak: peak resident memory of the process or of its largest child, in bytes.
        written: size of the files that it left, in bytes.
    """

    seconds: float
    wall: float
    peak: int
    written: int


@dataclass
class Result:
    """All runs of one contender.

    Attributes:
        runs: the runs that count.
        problem: why there is no result; empty if there is one.
        outcome: of its last run, and the digest of its first.
    """

    contender: Contender
    runs: list[Run] = field(default_factory=list)
    problem: str = ""
    outcome: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        return {**asdict(self.contender), "problem": self.problem, "outcome": self.outcome} | {
            "runs": [asdict(run) for run in self.runs]
        }


class FailedError(Exception):
    """A contender failed; the message is its last line of output."""


def measure(
    work: Work,
    corpora: dict[int, Path],
    folder: Path,
    step: Callable[[str], None],
    *,
    scale: float,
    runs: int,
    timeout: float,
) -> list[Result]:
    """Run all contenders of a work in turn: a first round that does not count, then `runs` rounds.

    Args:
        work: the work.
        corpora: folder of the corpus, by growth.
        folder: for outputs; removed at the end.
        step: called before each run with the label of the contender.
        scale: of the corpus.
        runs: number of rounds that count.
        timeout: seconds after which a run is killed.
    """
    results = [Result(contender, problem=_find_obstacle(contender, scale)) for contender in work.contenders]
    with _serve(corpora[1], work.remote) as url:
        for k in range(runs + 1):
            if k == 1:
                os.sync()  # writes files kept from the first round, before anything is timed
            for number, result in enumerate(results):
                step(result.contender.label)
                if result.problem:
                    continue
                home, corpus = folder / str(number), corpora[result.contender.growth]
                try:
                    check = k == 0 and work.same_rows
                    run, outcome = _run(result.contender, corpus, home, url, timeout, check)
                    result.outcome |= outcome
                    if k == 0:  # this round fills the page cache and the kept folders
                        result.problem = _find_difference(result, results[0]) if work.same_rows else ""
                    else:
                        result.runs.append(run)
                except (FailedError, OSError) as error:
                    result.problem = f"failed: {error}"
    shutil.rmtree(folder, ignore_errors=True)
    return results


def _find_obstacle(contender: Contender, scale: float) -> str:
    """Describe why a contender cannot run; "" if it can."""
    if scale > contender.until:
        return f"not run above scale {contender.until:g}"
    if not contender.needs or importlib.util.find_spec(contender.needs) or shutil.which(contender.needs):
        return ""
    return f"not installed: {contender.needs}"


def _find_difference(result: Result, ours: Result) -> str:
    """Describe how the rows of a contender differ from ours; "" if they are the same."""
    for name in ("rows", "digest"):
        actual, expected = result.outcome.get(name), ours.outcome.get(name)
        if actual is not None and expected is not None and actual != expected:
            return f"failed: {actual} rows, not {expected}" if name == "rows" else "failed: other rows than ours"
    return ""


def _run(
    contender: Contender, corpus: Path, home: Path, url: str, timeout: float, check: bool
) -> tuple[Run, dict[str, Any]]:
    """Run a contender in a fresh process with empty caches, and remove its files."""
    out, state, answer, log = home / "out", home / "state", home / "result.json", home / "log"
    for path in (out / "tmp", state):
        path.mkdir(parents=True, exist_ok=True)
    answer.unlink(missing_ok=True)
    if url:
        reset(url)
    places = {"corpus": corpus, "out": out, "state": state, "result": answer}
    command = [sys.executable, "-m", "benchmarks.run", contender.run, f"--url={url}", f"--limit={ROWS_READ}"]
    command.append(f"--workers={contender.workers}")
    command += [f"--{name}={path}" for name, path in places.items()] + ["--check"] * check
    try:
        with open(log, "wb") as output:
            wall, peak, status = _wait(command, home, _environment(out), output, timeout)
        if status != 0 or not answer.exists():
            raise FailedError(_read_failure(log, status, timeout))
        outcome: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        written = sum(_size(file) for file in out.rglob("*") if file.is_file() and not file.is_symlink())
        return Run(outcome.get("seconds", wall), wall, peak, written), outcome
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _size(file: Path) -> int:
    """Return the size of a file without its holes, in bytes."""
    status = file.stat()
    return min(status.st_size, status.st_blocks * 512)


def _wait(command: list[str], cwd: Path, env: dict[str, str], log: Any, timeout: float) -> tuple[float, int, int]:
    """Run a command; return its wall time in seconds, its peak memory in bytes, and its exit status.

    The peak of a child cannot be lower than that of the process that starts it, so nothing large is imported here.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=log, stderr=log, start_new_session=True)

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(timeout, end)
    timer.start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    except BaseException:
        end()
        raise
    finally:
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return wall, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), process.returncode


def _environment(out: Path) -> dict[str, str]:
    """Make an environment without the user's settings of these libraries, with new caches and no network."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "NEWSCLIPPINGS_"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    own = {"HF_HOME": str(out / "hf"), "HF_DATASETS_CACHE": str(out / "hf" / "datasets")}
    return {**kept, **quiet, **own, "XDG_CACHE_HOME": str(out / "xdg"), "TMPDIR": str(out / "tmp"), "PYTHONPATH": path}


def _read_failure(log: Path, status: int, timeout: float) -> str:
    if status == -signal.SIGKILL:
        return f"killed (after {timeout:g} s, or for lack of memory)"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit status {status}")[:160]


@contextlib.contextmanager
def _serve(corpus: Path, needed: bool) -> Iterator[str]:
    """Serve origin.tar of the corpus from another process, if it is needed; yield its URL."""
    if not needed:
        yield ""
        return
    tar = corpus / "tar" / "visual_news" / "origin.tar"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.range_server", str(tar)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            port = process.stdout.readline().strip() if process.stdout else ""
            yield f"http://127.0.0.1:{port}/{tar.name}"
        finally:
            process.kill()
