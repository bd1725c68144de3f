"""Show pairs in a notebook, as a PNG or as an HTML page, and write the sample dataset."""

from _newsclippings.show.notebook import Pairs, show
from _newsclippings.show.page import Rows, write_page
from _newsclippings.show.sample import write_sample
from _newsclippings.show.sheet import draw_sheet

__all__ = [
    "Pairs",
    "Rows",
    "draw_sheet",
    "show",
    "write_page",
    "write_sample",
]
