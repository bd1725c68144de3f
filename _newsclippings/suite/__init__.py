"""What benchmarks share: web evidence and what it tells of labels, test sets of others, and what overlaps with them."""

from _newsclippings.suite.adapters import LAYOUTS, OtherSet, evaluate_on, load_test_set, open_test_set
from _newsclippings.suite.leak import Leak, as_if_unlabelled, measure_leak
from _newsclippings.suite.overlap import Overlap, find_overlap

__all__ = [
    "LAYOUTS",
    "Leak",
    "OtherSet",
    "Overlap",
    "as_if_unlabelled",
    "evaluate_on",
    "find_overlap",
    "load_test_set",
    "measure_leak",
    "open_test_set",
]
