"""Run one contender in this process: `python -m benchmarks.run ours.captions --corpus DIR --out DIR --state DIR`.

The outcome is written as JSON to --result. Nothing is imported that the contender does not import itself.
"""

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.job import Job


def main() -> None:
    """Call the function of the contender, and write its outcome."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("contender", help="module.function below benchmarks.contenders")
    for name in ("corpus", "out", "state", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--url", default="")
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--check", action="store_true", help="add a digest of the written rows to the outcome")
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
