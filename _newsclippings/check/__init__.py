"""Checks of inputs and of built folders."""

from _newsclippings.check.built import verify_built
from _newsclippings.check.inputs import verify
from _newsclippings.check.report import Report

__all__ = [
    "Report",
    "verify",
    "verify_built",
]
