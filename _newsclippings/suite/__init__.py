"""The benchmark suite: published baselines, run again on the official rows and compared with their numbers."""

from _newsclippings.suite.benchmark import BASELINES, Benchmark, benchmark, describe_baselines
from _newsclippings.suite.leaderboard import write_leaderboard

__all__ = [
    "BASELINES",
    "Benchmark",
    "benchmark",
    "describe_baselines",
    "write_leaderboard",
]
