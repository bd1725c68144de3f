"""Numbers and charts of a built folder."""

from _newsclippings.stats.measures import folder_stats, write_stats
from _newsclippings.stats.plots import check_charts, draw_stats, require_matplotlib
from _newsclippings.stats.text import stats_text

__all__ = [
    "check_charts",
    "draw_stats",
    "folder_stats",
    "require_matplotlib",
    "stats_text",
    "write_stats",
]
