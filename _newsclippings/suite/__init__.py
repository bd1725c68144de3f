"""What benchmarks share: test sets of others under the same columns."""

from _newsclippings.suite.adapters import TEST_SETS, OtherSet, evaluate_on, load_test_set, open_test_set

__all__ = ["TEST_SETS", "OtherSet", "evaluate_on", "load_test_set", "open_test_set"]
