"""Checks of inputs and of built folders."""

from _newsclippings.check.built import verify_built
from _newsclippings.check.inputs import verify
from _newsclippings.check.report import Report
from _newsclippings.check.rules import check_rows, check_splits

__all__ = [
    "Report",
    "check_rows",
    "check_splits",
    "verify",
    "verify_built",
]
