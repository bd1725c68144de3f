"""Run one contender in this process: `python -m benchmarks.run ours.captions --corpus DIR --out DIR --state DIR`.

What it says of its run is written as JSON to --result. Nothing is imported that the contender does not import itself.
"""

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.job import Job


def main() -> None:
    """Find the function and call it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("contender", help="module.function below benchmarks.contenders")
    for name in ("corpus", "out", "state", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--url", default="")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="also tell a digest of the rows that were written")
    given = parser.parse_args()
    module, _, function = given.contender.partition(".")
    contender = getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function)
    outcome = contender(Job(given.corpus, given.out, given.state, given.url, given.limit, given.workers))
    if given.check:
        from benchmarks.check import digest

        outcome["digest"] = digest(given.out)
    given.result.write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
