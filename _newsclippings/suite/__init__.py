"""Published baselines and ours side by side, web evidence, test sets of others, and what overlaps with train."""

from _newsclippings.suite.adapters import LAYOUTS, OtherSet, evaluate_on, load_test_set, open_test_set
from _newsclippings.suite.benchmark import BASELINES, Benchmark, benchmark, describe_baselines
from _newsclippings.suite.leaderboard import write_leaderboard
from _newsclippings.suite.leak import Leak, as_if_unlabelled, measure_leak
from _newsclippings.suite.overlap import Overlap, find_overlap

__all__ = [
    "BASELINES",
    "LAYOUTS",
    "Benchmark",
    "Leak",
    "OtherSet",
    "Overlap",
    "as_if_unlabelled",
    "benchmark",
    "describe_baselines",
    "evaluate_on",
    "find_overlap",
    "load_test_set",
    "measure_leak",
    "open_test_set",
    "write_leaderboard",
]
