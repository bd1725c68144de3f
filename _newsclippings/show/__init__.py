"""Pictures and pages of rows, and the sample world."""

from _newsclippings.show.page import Rows, write_page
from _newsclippings.show.sample import write_sample
from _newsclippings.show.sheet import contact_sheet

__all__ = [
    "Rows",
    "contact_sheet",
    "write_page",
    "write_sample",
]
